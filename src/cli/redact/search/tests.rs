use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const SECRET: &str = "s3cret@example.org";

fn redacted(payload: &str, paths: &[&str]) -> Result<String, Unsearchable> {
    let fields: Vec<Field> = paths.iter().map(|path| Field::new(path)).collect();
    Search::new(&fields).payload(payload)
}

fn check(payload: &str, paths: &[&str], expected: &str) {
    assert_eq!(redacted(payload, paths).as_deref(), Ok(expected), "{payload}");
}

#[test]
fn a_path_is_found_at_any_depth_and_through_lists_and_texts() {
    check(
        r#"{"email":"a","customer":{"email":"b","name":"B"},"lines":[[{"customer":{"email":"c"}}],{"price":5}]}"#,
        &["customer.email"],
        r#"{"email":"a","customer":{"email":"redacted","name":"B"},"lines":[[{"customer":{"email":"redacted"}}],{"price":5}]}"#,
    );
    check(
        r#"{"customer":"{\"email\":\"b\",\"more\":{\"email\":\"c\"}}","email":"a"}"#,
        &["customer.email"],
        r#"{"customer":"{\"email\":\"redacted\",\"more\":{\"email\":\"c\"}}","email":"a"}"#,
    );
    check(
        r#"{"a":{"b":{"a":{"c":1}}}}"#,
        &["a.b.c", "b.a.c"],
        r#"{"a":{"b":{"a":{"c":0}}}}"#,
    );
    check(
        r#"{"customer.email":"b","a":{"b.c":{"d":1}}}"#,
        &["customer.email", "a.b.c.d"],
        r#"{"customer.email":"redacted","a":{"b.c":{"d":0}}}"#,
    );
}

#[test]
fn each_type_keeps_its_own_and_nothing_else_changes() {
    check(
        " {\"x\" : \"a\",\n\t\"wei\":1000000000000000000001, \"x\": -1.50e3 ,\"y\":1e999, \"x\":[ 1,[\"a\",{\"b\":1}],[], null ],\
         \"x\":true,\"x\":{\"ann@example.org\":1},\"\\u00e4\\ud800\":\"\\u00e4\",\"a\":0.10}\r\n",
        &["x"],
        " {\"x\" : \"redacted\",\n\t\"wei\":1000000000000000000001, \"x\": 0 ,\"y\":1e999, \"x\":[0,[\"redacted\",{}],[],null],\
         \"x\":false,\"x\":{},\"\\u00e4\\ud800\":\"\\u00e4\",\"a\":0.10}\r\n",
    );
}

#[test]
fn keys_are_the_same_in_any_case_and_any_spelling() {
    for key in ["email", "Email", "EMAIL", r"\u0065mail", r"\u0045MAIL"] {
        check(
            &format!(r#"{{"{key}":"a"}}"#),
            &["eMail"],
            &format!(r#"{{"{key}":"redacted"}}"#),
        );
    }
    check(
        r#"{"STRASSE":1,"ſtraße":2,"ÄÖ":3,"Kelvin":4}"#,
        &["straße", "äö", "\u{212a}elvin"],
        r#"{"STRASSE":0,"ſtraße":0,"ÄÖ":0,"Kelvin":0}"#,
    );
    let others = r#"{"e-mail":"a","emails":["b"],"my_email":"c","mail":{"e":"d"}}"#;
    check(others, &["email"], others);
}

#[test]
fn a_payload_may_be_several_values_and_begin_with_a_mark() {
    check("\u{feff}{\"x\":1}", &["x"], "\u{feff}{\"x\":0}");
    check(
        "{\"x\":1}\n[{\"x\":2}]\n\n{\"y\":3}\n",
        &["x"],
        "{\"x\":0}\n[{\"x\":0}]\n\n{\"y\":3}\n",
    );
    check(r#""{\"x\":1}""#, &["x"], r#""{\"x\":0}""#);
    check("", &["x"], "");
}

#[test]
fn what_cannot_be_searched_is_refused() {
    for (payload, why) in [
        ("hello a@example.org", Unsearchable::NotJson),
        (r#"{"email":"a@exam"#, Unsearchable::NotJson),
        (r#"{"email":"a"} and more"#, Unsearchable::NotJson),
        ("{'email':'a'}", Unsearchable::NotJson),
        ("eyJlbWFpbCI6ImEifQ==", Unsearchable::NotJson),
        (r#""a@example.org""#, Unsearchable::NoFields),
        (r#""{\"email\":""#, Unsearchable::NoFields),
        ("491701234567", Unsearchable::NoFields),
        ("null", Unsearchable::NoFields),
        ("{\"a\":1}\n7", Unsearchable::NoFields),
    ] {
        assert_eq!(redacted(payload, &["email"]), Err(why), "{payload}");
    }
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    assert_eq!(redacted(&deep, &["email"]), Err(Unsearchable::TooDeep));
    let in_text = json!({ "text": deep, "email": "a" }).to_string();
    assert_eq!(redacted(&in_text, &["email"]), Err(Unsearchable::TooDeep));
    let torn = json!({ "text": "[".repeat(100_000) }).to_string();
    assert_eq!(redacted(&torn, &["email"]), Err(Unsearchable::NotJson));
}

#[test]
fn a_text_that_cannot_be_taken_apart_and_names_the_field_goes_as_a_whole() {
    for text in [
        "order: {\"id\":7,\"email\":\"s3cret",
        "order: {\\\"email\\\":\\\"s3cret\\\"}",
        "id=7&email=s3cret%40example.org",
        "id=7&customer[email]=s3cret",
        "%7B%22email%22%3A%22s3cret%22%7D",
        "<order><email>s3cret</email></order>",
        "<order><Email kind=\"work\">s3cret</Email></order>",
        "<order id=\"7\" email=\"s3cret\"/>",
        "&lt;order email=&quot;s3cret",
        "{&quot;email&quot;:&quot;s3cret&quot;}",
        "id: 7\nemail: s3cret\n",
        "{email: 's3cret'}",
        "E-Mail is not it, but EMAIL = s3cret is",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3IiwiZW1haWwiOiJzM2NyZXQifQ.c2lnbmF0dXJl",
    ] {
        let payload = |text: &str| json!({ "text": text, "id": 7 }).to_string();
        check(&payload(text), &["email"], &payload("redacted"));
    }
    // The text does not tell whose email it is.
    check(r#"{"a":"email=x"}"#, &["customer.email"], r#"{"a":"redacted"}"#);
    for text in [
        "mail me",
        "e-mail: a",
        "emails: 7",
        "my_email=a",
        "[email] {email}",
        "1 < email",
        "",
    ] {
        let payload = json!({ "text": text }).to_string();
        check(&payload, &["email"], &payload);
    }
    // Half of a surrogate pair cannot be encoded again.
    check(r#"{"a":"\ud800{\"x\":1}"}"#, &["x"], r#"{"a":"redacted"}"#);
}

#[test]
fn headers_are_searched_like_payloads() {
    let fields = ["x-key", "email"].map(Field::new);
    let mut search = Search::new(&fields);
    let mut header = |name: &str, value: &str| search.header(name, value).unwrap();
    assert_eq!(header("X-Key", "abc"), "redacted");
    assert_eq!(
        header("Event", r#"{"email":"a","id":7}"#),
        r#"{"email":"redacted","id":7}"#
    );
    assert_eq!(header("Baggage", "id=7,email=a"), "redacted");
    assert_eq!(header("Trace", "00-7"), "00-7");
    let found = |values| Found { values, told: values };
    assert_eq!(search.found, [found(1), found(2)]);
}

#[test]
fn what_is_redacted_already_tells_nothing() {
    let fields = [Field::new("x")];
    let mut search = Search::new(&fields);
    search
        .payload(r#"{"x":"redacted"} {"x":[0,{},false,null,[ ],{ }]} {"y":{"x":[]}}"#)
        .unwrap();
    assert_eq!((search.found[0].told, search.found[0].values > 5), (0, true));
    search.payload(r#"{"x":["redacted",1]}"#).unwrap();
    assert_eq!(search.found[0].told, 1);
}

#[test]
fn base64_is_written_as_it_was() {
    let (before, after) = (r#"{"a":1,"email":"ä?~"}"#, r#"{"a":1,"email":"redacted"}"#);
    for (engine, spaces) in [
        (&STANDARD, ""),
        (&STANDARD_NO_PAD, ""),
        (&STANDARD_NO_PAD, " "),
        (&URL_SAFE_NO_PAD, ""),
    ] {
        let payload = |text: &str| json!({ "data": engine.encode(format!("{text}{spaces}")) }).to_string();
        check(&payload(before), &["email"], &payload(after));
    }
    let url =
        |text: &str| json!({ "data": format!("data:application/json;base64,{}", STANDARD.encode(text)) }).to_string();
    check(&url(before), &["email"], &url(after));
    let torn = STANDARD.encode(before);
    for end in 16..torn.len() {
        let payload = json!({ "data": torn[..end] }).to_string();
        let redacted = redacted(&payload, &["email"]).unwrap();
        assert!(
            !redacted.contains(&STANDARD.encode(before)[20..24]),
            "{end}: {redacted}"
        );
    }
}

/// JSON with or without a secret in it.
#[derive(Debug, Clone)]
enum Tree {
    Scalar(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
    Secret(String),
    Encoded(Form, Box<Tree>),
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Text,
    Spaced,
    InWords,
    Base64,
    UrlSafe,
}

impl Tree {
    /// Returns the text with `secret`, which is JSON, in its place.
    fn text(&self, secret: &str) -> String {
        match self {
            Self::Scalar(json) => json.clone(),
            Self::List(trees) => {
                let texts: Vec<String> = trees.iter().map(|tree| tree.text(secret)).collect();
                format!("[{}]", texts.join(", "))
            }
            Self::Object(members) => {
                let texts: Vec<String> = members
                    .iter()
                    .map(|(key, tree)| format!("{key}:{}", tree.text(secret)))
                    .collect();
                format!("{{{}}}", texts.join(","))
            }
            Self::Secret(key) => format!("{{\"a\":1.0,\"{key}\" : {secret}}}"),
            Self::Encoded(form, tree) => {
                let text = format!("{{\"in\":{}}}", tree.text(secret));
                literal(&match form {
                    Form::Text => text,
                    Form::Spaced => format!(" {text}\n"),
                    Form::InWords => format!("seen: {text}, and {{so}} [on"),
                    Form::Base64 => STANDARD.encode(text),
                    // The encoded form contains a `-`, at whichever offset the text starts.
                    Form::UrlSafe => URL_SAFE_NO_PAD.encode(format!("{text}~~~~~~")),
                })
            }
        }
    }

    fn has_secret(&self) -> bool {
        match self {
            Self::Scalar(_) => false,
            Self::List(trees) => trees.iter().any(Self::has_secret),
            Self::Object(members) => members.iter().any(|(_, tree)| tree.has_secret()),
            Self::Secret(_) => true,
            Self::Encoded(_, tree) => tree.has_secret(),
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let scalars = [
        "1000000000000000000001",
        "-0.10",
        "1e999",
        "true",
        "null",
        r#""""#,
        r#""a word""#,
        r#""\u00e4 \" {[ %41 e-mail""#,
        r#""bm90aGluZyBoZXJl""#,
    ];
    let key = prop::sample::select(vec!["email", "Email", "EMAIL", r"\u0065mail", r"E\u004dail"]);
    let leaf = prop_oneof![
        3 => prop::sample::select(scalars.to_vec()).prop_map(|json| Tree::Scalar(json.to_owned())),
        2 => key.prop_map(|key| Tree::Secret(key.to_owned())),
    ];
    leaf.prop_recursive(8, 60, 4, |inner| {
        let form = prop::sample::select(vec![
            Form::Text,
            Form::Spaced,
            Form::InWords,
            Form::Base64,
            Form::UrlSafe,
        ]);
        let keys = prop::sample::select(vec![r#""b""#, r#""a""#, r#""mail""#, r#""\ud800""#, r#""""#]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::List),
            prop::collection::vec((keys.prop_map(str::to_owned), inner.clone()), 0..4).prop_map(Tree::Object),
            (form, inner).prop_map(|(form, tree)| Tree::Encoded(form, Box::new(tree))),
        ]
    })
}

proptest! {
    /// Wherever a field is and however it is encoded, its value is gone, and nothing else has changed.
    #[test]
    fn only_what_a_field_holds_changes(trees in prop::collection::vec(tree(), 1..4)) {
        let payload = |secret: &str| trees.iter().map(|tree| format!("[{}]\n", tree.text(secret))).collect::<String>();
        for (secret, instead) in [(literal(SECRET), "\"redacted\""), ("[[4711,\"x\"],{\"x\":4}]".to_owned(), "[[0,\"redacted\"],{}]")] {
            let fields = [Field::new("email")];
            let mut search = Search::new(&fields);
            prop_assert_eq!(search.payload(&payload(&secret)), Ok(payload(instead)));
            prop_assert_eq!(search.found[0].told > 0, trees.iter().any(Tree::has_secret));
        }
    }

    /// JSON that is cut off in the middle.
    #[test]
    fn what_is_torn_tells_nothing(tree in tree(), cut in 0.0..1.0, again in any::<bool>()) {
        let text = tree.text(&literal(SECRET));
        let cut = text.floor_char_boundary((text.len() as f64 * cut) as usize);
        let payload = json!({ "text": &text[..cut] }).to_string();
        let payload = if again { json!([payload]).to_string() } else { payload };
        if let Ok(redacted) = redacted(&payload, &["email"]) {
            prop_assert!(!redacted.contains("s3cret"), "{}", redacted);
        }
    }
}
