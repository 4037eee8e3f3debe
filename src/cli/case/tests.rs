mod parts;

use insta::assert_snapshot;
use serde_json::json;

use super::*;
use crate::message::{Outcome, Rejection, Stage};

fn parse(text: &str) -> anyhow::Result<Case> {
    Case::parse(Path::new("cases/paid.json"), text, "ORDERS")
}

fn expectation(value: &Value) -> Expectation {
    expected(&json!({ "expect": value })).expect.unwrap()
}

/// Adds a message to `expect` and `expect_not`.
fn expected(value: &Value) -> Expected {
    let mut case = value.clone();
    case["message"] = json!({ "subject": "s", "data": 1 });
    parse(&case.to_string()).unwrap().expect.unwrap()
}

fn whole(expect: Expectation) -> Expected {
    Expected {
        expect: Some(expect),
        expect_not: None,
    }
}

fn allows(expected: &Expectation, made: &Expectation) -> bool {
    whole(expected.clone()).difference(made).is_none()
}

fn rejected(reason: &str) -> Expectation {
    Expectation::of(&Outcome::Reject(Rejection {
        stage: Stage::Transform,
        code: "rejected".into(),
        channel: None,
        reason: reason.to_owned(),
    }))
}

#[test]
fn a_case_has_a_message_and_may_have_settings_and_what_is_expected() {
    let text = r#"{
        "message": { "subject": "orders.7", "data": { "id": 7 }, "timestamp": "1970-01-01T00:00:01Z" },
        "settings": { "currency": "EUR" },
        "expect": { "outcome": "drop" }
    }"#;
    let case = parse(text).unwrap();
    assert_eq!(&*case.message.stream, "ORDERS");
    assert_eq!((case.message.sequence(), case.message.timestamp), (1, 1_000_000_000));
    assert_eq!(case.message.payload, r#"{"id":7}"#);
    assert_eq!(case.settings.as_deref(), Some(r#"{"currency":"EUR"}"#));
    assert_eq!(case.expect, Some(whole(Expectation::of(&Outcome::Drop))));
    let sample = parse(r#"{"message":{"subject":"s","payload":""}}"#).unwrap();
    assert_eq!((sample.settings, sample.expect), (None, None));
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_is_right() {
    let message = r#""message": { "subject": "s", "data": 1 }"#;
    let texts = [
        "{\n  \"message\": {\n    \"subject\": \"s\",\n    \"dat\": 1\n  }\n}".to_owned(),
        r#"{ "message": { "subject": 7, "data": 1 } }"#.to_owned(),
        r#"{ "message": { "data": 1 } }"#.to_owned(),
        r#"{ "message": { "subject": "s" } }"#.to_owned(),
        r#"{ "expect": { "outcome": "drop" } }"#.to_owned(),
        format!("{{ {message}, \"expects\": {{ \"outcome\": \"drop\" }} }}"),
        format!("{{ {message}, \"expect\": {{ \"outcome\": \"published\" }} }}"),
        format!("{{ {message}, \"expect\": {{ \"outcome\": \"publish\" }} }}"),
        format!("{{ {message}, \"expect\": {{ \"outcome\": \"drop\", \"reason\": \"no\" }} }}"),
        format!(
            "{{ {message}, \"expect\": {{ \"outcome\": \"publish\", \"publications\": [ {{ \"chanels\": [\"a\"], \"data\": 1 }} ] }} }}"
        ),
        format!(
            "{{ {message}, \"expect\": {{ \"outcome\": \"publish\", \"publications\": [ {{ \"channels\": [\"a\"] }} ] }} }}"
        ),
        format!("{{ {message}, \"settings\": 7 }}"),
        format!("{{ {message}, }}"),
        format!("{{ {message} }} }}"),
        format!("{{ {message}"),
        String::new(),
    ];
    let errors = texts.map(|text| format!("{:#}", parse(&text).unwrap_err()));
    assert_snapshot!(errors.join("\n"), @r#"
    cases/paid.json:4:9: `message.dat`: unknown field `dat`, expected one of `subject`, `subject_base64`, `payload`, `data`, `payload_base64`, `headers`, `headers_base64`, `sequence`, `id`, `timestamp`, `stream`, `deliveries`
    cases/paid.json:1:27: `message.subject`: invalid type: integer `7`, expected a string
    cases/paid.json:1:26: `message`: missing field `subject`
    cases/paid.json: in `message`: a message must have exactly one of `data`, `payload` and `payload_base64`
    cases/paid.json:1:35: missing field `message`
    cases/paid.json:1:53: `expects`: unknown field `expects`, expected one of `message`, `settings`, `expect`, `expect_not`
    cases/paid.json:1:78: `expect.outcome`: unknown variant `published`, expected one of `publish`, `drop`, `reject`
    cases/paid.json: in `expect`: the `outcome` publish needs at least one entry in `publications`
    cases/paid.json: in `expect`: `reason` does not belong to this `outcome`: publish takes `publications`; reject takes `code`, `channel` and `reason`
    cases/paid.json:1:107: `expect.publications[0].chanels`: unknown field `chanels`, expected one of `channels`, `data`, `binary_base64`, `version`, `version_epoch`, `tags`, `idempotency_key`, `delta`, `skip_history`
    cases/paid.json: in `expect`: `publications[0]` must have either `data` or `binary_base64`; to compare only what is written, add `"partial": true` to `expect`
    cases/paid.json:1:57: `settings`: invalid type: integer `7`, expected a map
    cases/paid.json:1:45: this is not JSON: trailing comma
    cases/paid.json:1:46: this is not JSON: trailing characters
    cases/paid.json:1:42: this is not JSON: it ends too early
    cases/paid.json:1:0: this is not JSON: it ends too early
    "#);
}

#[test]
fn json_is_compared_by_value() {
    let made =
        json!({ "outcome": "publish", "publications": [{ "channels": ["a"], "data": { "x": 1, "y": [2.50, null] } }] });
    let same = r#"{ "publications": [ { "delta": false, "tags": {}, "data": { "y": [2.5, null], "x": 1 }, "channels": ["a"] } ],
        "outcome": "publish" }"#;
    let same = expectation(&serde_json::from_str(same).unwrap());
    assert!(allows(&same, &expectation(&made)));
    for (pointer, other) in [
        ("/publications/0/data/x", json!("1")),
        ("/publications/0/data/y", json!([null, 2.5])),
        ("/publications/0/channels", json!(["b"])),
        ("/publications/0/data", json!(null)),
    ] {
        let mut different = made.clone();
        *different.pointer_mut(pointer).unwrap() = other;
        assert!(!allows(&same, &expectation(&different)), "{pointer}");
    }
    let mut more = made;
    more["publications"][0]["version"] = json!(1);
    assert!(!allows(&same, &expectation(&more)), "a version that nobody expects");
}

/// The host accepts all of these from a module.
#[test]
fn json_that_no_value_holds_is_compared_as_text() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    let case = |data: &str| {
        format!(
            r#"{{"message":{{"subject":"s","data":1}},"expect":{{"outcome":"publish","publications":[{{"channels":["a"],"data":{data}}}]}}}}"#
        )
    };
    let made = |data: &str| parse(&case(data)).unwrap().expect.unwrap().expect.unwrap();
    for (data, other) in [
        ("1e999", "1e998"),
        (&deep, "null"),
        ("{\"wei\": 1000000000000000000001}", "{\"wei\": 1000000000000000000000}"),
        ("null", "1e999"),
    ] {
        assert!(
            allows(&made(data), &made(data)) && !allows(&made(data), &made(other)),
            "{data}"
        );
        let updated = with_expect(&case(other), &made(data)).unwrap();
        assert!(updated.contains(data), "{updated}");
        assert_eq!(parse(&updated).unwrap().expect, Some(whole(made(data))));
        assert!(made(data).pretty().contains(data), "{data}");
    }
}

#[test]
fn of_a_rejection_only_what_is_written_down_counts() {
    let any = expectation(&json!({ "outcome": "reject" }));
    let coded = expectation(&json!({ "outcome": "reject", "code": "rejected" }));
    let full = expectation(&json!({ "outcome": "reject", "code": "rejected", "reason": "no" }));
    assert!(
        [&any, &coded, &full]
            .iter()
            .all(|expected| allows(expected, &rejected("no")))
    );
    assert!(!allows(&full, &rejected("never")));
    assert!(!allows(
        &expectation(&json!({ "outcome": "reject", "code": "trap" })),
        &rejected("no")
    ));
    assert!(!allows(&any, &Expectation::of(&Outcome::Drop)));
    let drop = expectation(&json!({ "outcome": "drop" }));
    let difference = whole(drop).difference(&rejected("no")).unwrap();
    assert_eq!(difference.actual, full.pretty());
}

#[test]
fn a_failure_may_move_by_some_lines() {
    let expected = rejected("NameError: name 'ordr' is not defined (app.py:24)");
    assert!(allows(
        &expected,
        &rejected("NameError: name 'ordr' is not defined (app.py:7)")
    ));
    for other in [
        "NameError: name 'ordr' is not defined (other.py:24)",
        "NameError: name 'order' is not defined (app.py:24)",
        "NameError: name 'ordr' is not defined",
    ] {
        assert!(!allows(&expected, &rejected(other)), "{other}");
    }
    assert!(!allows(
        &rejected("at 7:30 (see 12:15)"),
        &rejected("at 7:30 (see 12:16)")
    ));
}

#[test]
fn what_is_accepted_leaves_the_rest_as_it_stands() {
    let text = "{ \"expect\": { \"outcome\": \"drop\" },\n  \"message\": { \"subject\" : \"s\",\n     \"data\": [1,\n 2.50] },\n\
                \"settings\": {\"b\": 1, \"a\": 2}}";
    let updated = with_expect(text, &rejected("no")).unwrap();
    assert_snapshot!(updated, @r#"
    {
      "message": { "subject" : "s",
         "data": [1,
     2.50] },
      "settings": {"b": 1, "a": 2},
      "expect": {
        "outcome": "reject",
        "code": "rejected",
        "reason": "no"
      }
    }
    "#);
    assert_eq!(with_expect(&updated, &rejected("no")).unwrap(), updated);
    assert_eq!(parse(&updated).unwrap().expect, Some(whole(rejected("no"))));
}

#[test]
fn a_file_is_replaced_whole_and_hidden_ones_are_no_cases() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("b.json"), r#"{"message":{"subject":"s","data":1}}"#).unwrap();
    for other in [".b.json", "notes.txt", "a.json"] {
        fs::write(path(other), "").unwrap();
    }
    accept(&path("b.json"), &Expectation::of(&Outcome::Drop)).unwrap();
    assert_eq!(list(dir.path()).unwrap(), [path("a.json"), path("b.json")]);
    let case = Case::read(&path("b.json"), "S").unwrap();
    assert_eq!(case.expect, Some(whole(Expectation::of(&Outcome::Drop))));
    assert_eq!(list(&path("none")).unwrap(), Vec::<PathBuf>::new());
}
