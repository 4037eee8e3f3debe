//! Expectations of a part of an outcome, and of what must not be in it.

use super::*;

/// An order to a customer and to the staff.
fn made() -> Expectation {
    let customer = json!({ "id": 7, "status": "paid", "lines": [{ "sku": "A", "quantity": 2 }], "at": 1500 });
    expectation(&json!({ "outcome": "publish", "publications": [
        { "channels": ["orders:7#42", "orders:7#43"], "data": customer, "version": 3, "tags": { "kind": "order", "by": "ada" } },
        { "channels": ["staff:orders"], "data": { "id": 7, "email": "…@example.com" } },
    ] }))
}

fn partial(publications: &Value) -> Expected {
    expected(&json!({ "expect": { "publications": publications, "partial": true } }))
}

/// Returns the lines that differ.
fn changed(expected: &Expected, made: &Expectation) -> String {
    let Some(difference) = expected.difference(made) else {
        return String::new();
    };
    let diff = similar::TextDiff::from_lines(&difference.expected, &difference.actual);
    let changes = diff
        .iter_all_changes()
        .filter(|change| change.tag() != similar::ChangeTag::Equal);
    let line = |change: similar::Change<&str>| format!("{}{}\n", change.tag(), change.value().trim_end());
    changes.map(line).collect()
}

#[test]
fn only_the_written_part_counts() {
    for publications in [
        json!([{ "channels": ["staff:orders"] }]),
        json!([{ "channels": ["orders:7#43"], "version": 3 }, { "data": { "email": "…@example.com" } }]),
        json!([{ "data": { "lines": [{ "sku": "A" }] }, "delta": false }]),
        json!([{ "tags": { "kind": "order" }, "skip_history": false }, { "tags": {} }]),
    ] {
        assert_eq!(changed(&partial(&publications), &made()), "", "{publications}");
    }
    for publications in [
        json!([{ "channels": ["staff:invoices"] }]),
        json!([{ "channels": ["orders:7#42", "staff:orders"] }]),
        json!([{ "version": 4 }]),
        json!([{ "version": 3 }, { "version": 3 }]),
        json!([{ "data": { "status": "paid", "total": 1 } }]),
        json!([{ "data": { "lines": [] } }]),
        json!([{ "delta": true }]),
        json!([{ "tags": { "kind": "note" } }]),
        // Not in this order.
        json!([{ "channels": ["staff:orders"] }, { "channels": ["orders:7#42"] }]),
    ] {
        assert_ne!(changed(&partial(&publications), &made()), "", "{publications}");
    }
    let anything = expected(&json!({ "expect": { "outcome": "publish", "partial": true } }));
    assert_eq!(anything.difference(&made()), None);
    assert!(anything.difference(&Expectation::of(&Outcome::Drop)).is_some());
}

#[test]
fn a_difference_shows_the_fields_that_were_asked_for() {
    let expected =
        partial(&json!([{ "channels": ["orders:7#42"], "data": { "status": "shipped", "lines": [{ "sku": "A" }] } }]));
    assert_snapshot!(changed(&expected, &made()), @r#"
    -        "status": "shipped"
    +        "status": "paid"
    "#);
    let expected = partial(&json!([{ "channels": ["orders:7#42"], "version": 3 }, { "channels": ["admin:7"] }]));
    assert_snapshot!(changed(&expected, &made()), @r#"
    -        "admin:7"
    -      ]
    +        "staff:orders"
    +      ],
    +      "data": {
    +        "email": "…@example.com",
    +        "id": 7
    +      }
    "#);
}

#[test]
fn what_is_ruled_out_is_marked() {
    let not = |value: Value| expected(&json!({ "expect_not": value }));
    for value in [
        json!({ "outcome": "drop" }),
        json!({ "publications": [{ "channels": ["staff:invoices"] }, { "channels": ["staff:orders"], "version": 1 }] }),
        json!({ "contains": ["grace@", "Example"] }),
    ] {
        assert_eq!(not(value).difference(&made()), None);
    }
    for (value, lines) in [
        (json!({ "outcome": "publish" }), 36),
        (json!({ "publications": [{ "channels": ["staff:orders"] }] }), 9),
        (json!({ "publications": [{ "data": { "status": "paid" } }] }), 22),
        // In a key, a text, a number, a tag, a channel.
        (json!({ "contains": ["ema"] }), 1),
        (json!({ "contains": ["…@ex"] }), 1),
        (json!({ "contains": ["1500"] }), 1),
        (json!({ "contains": ["ada"] }), 1),
        (json!({ "contains": ["#43"] }), 1),
        (json!({ "contains": ["…@ex", "#43"] }), 2),
    ] {
        let expected = not(value.clone());
        assert!(expected.rules_out(&made()), "{value}");
        let changed = changed(&expected, &made());
        let added = changed.lines().filter(|line| line.starts_with('+')).count();
        assert_eq!(added, lines, "{value}:\n{changed}");
    }
    let secret = not(json!({ "contains": ["4111"] }));
    assert!(secret.rules_out(&rejected("the card 4111 is declined")));
    let binary = json!({ "outcome": "publish", "publications": [{ "channels": ["a"], "binary_base64": "eDQxMTF4" }] });
    assert!(secret.rules_out(&expectation(&binary)));
    assert!(!secret.rules_out(&rejected("no")));
}

#[test]
fn an_update_keeps_a_part_a_part() {
    let update = |expected: Expected| expected.updated(&made()).pretty();
    let old = json!([{ "channels": ["orders:7#42"], "data": { "status": "draft", "total": 1 }, "version": 2 }]);
    assert_snapshot!(update(partial(&old)), @r#"
    {
      "outcome": "publish",
      "partial": true,
      "publications": [
        {
          "channels": [
            "orders:7#42"
          ],
          "data": {
            "status": "paid"
          },
          "version": 3
        }
      ]
    }
    "#);
    // Nothing of it is there any more.
    let gone = partial(&json!([{ "channels": ["gone:7"] }]));
    assert_eq!(gone.updated(&made()), made());
    let dropped = Expectation::of(&Outcome::Drop);
    assert_eq!(partial(&old).updated(&dropped), dropped);
}

#[test]
fn an_update_changes_nothing_that_is_ruled_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    let text =
        r#"{"expect_not": {"contains":  ["ada"]}, "message":{"subject":"s","data":1},"expect":{"outcome":"drop"}}"#;
    fs::write(&path, text).unwrap();
    let error = format!("{:#}", accept(&path, &made()).unwrap_err());
    assert!(
        error.ends_with("its `expect_not` rules the outcome out: change the module or `expect_not`"),
        "{error}"
    );
    accept(&path, &rejected("no")).unwrap();
    let updated = fs::read_to_string(&path).unwrap();
    assert!(updated.contains(r#""expect_not": {"contains":  ["ada"]}"#), "{updated}");
    assert!(updated.contains(r#""reason": "no""#), "{updated}");
}

#[test]
fn what_is_wrong_with_a_part_is_told() {
    let with = |rest: Value| {
        let mut case = rest;
        case["message"] = json!({ "subject": "s", "data": 1 });
        format!("{:#}", parse(&case.to_string()).unwrap_err())
    };
    let errors = [
        with(json!({ "expect": { "partial": true } })),
        with(json!({ "expect": { "outcome": "drop", "partial": true } })),
        with(json!({ "expect": { "partial": true, "publications": [] } })),
        with(json!({ "expect": { "partial": true, "publications": [{}] } })),
        with(json!({ "expect": { "partial": true, "publications": [{ "channels": [] }] } })),
        with(json!({ "expect": { "outcome": "publish", "publications": [{ "data": 1 }] } })),
        with(json!({ "expect_not": {} })),
        with(json!({ "expect_not": { "contains": [""] } })),
        with(json!({ "expect_not": { "publications": [{}] } })),
        with(json!({ "expect_not": { "channel": "a" } })),
    ];
    let errors = errors.map(|error| error.replace("cases/paid.json", "CASE"));
    assert_snapshot!(errors.join("\n"), @r#"
    CASE: in `expect`: `outcome` is missing: publish, drop or reject
    CASE: in `expect`: `partial` is only for the `outcome` publish: of a rejection, only the fields given here are compared anyway
    CASE: in `expect`: the `outcome` publish needs at least one entry in `publications`
    CASE: in `expect`: `publications[0]` is empty: give it `channels`, `data` or another field
    CASE: in `expect`: `publications[0].channels` must name a channel
    CASE: in `expect`: `publications[0].channels` must name a channel; to compare only what is written, add `"partial": true` to `expect`
    CASE: in `expect_not`: it rules nothing out; it takes `outcome`, `publications` and `contains`
    CASE: in `expect_not`: a text in `contains` is empty, and every text contains that
    CASE: in `expect_not`: `publications[0]` is empty: give it `channels`, `data` or another field
    CASE:1:24: `expect_not.channel`: unknown field `channel`, expected one of `outcome`, `publications`, `contains`
    "#);
}
