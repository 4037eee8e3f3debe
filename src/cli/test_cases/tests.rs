use std::fs;

use insta::assert_snapshot;

use super::*;
use crate::transform::tests::wat::Guest;

/// A folder with a prebuilt module, `orders.wasm`. It publishes, but drops the second message of the stream and rejects
/// the third. It refuses settings of more than ten bytes.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(cases: &[(&str, &str)]) -> Self {
        let guest = Guest {
            init: "(if (i32.gt_u (local.get 1) (i32.const 10))
                    (then (return (call $result (i32.const 1) (i32.const 16) (i32.const 1)))))
                (call $result (i32.const 0) (i32.const 0) (i32.const 0))",
            transform: "(if (i64.eq (local.get $sequence) (i64.const 2))
                    (then (return (call $result (i32.const 0) (i32.const 0) (i32.const 0)))))
                (if (i64.eq (local.get $sequence) (i64.const 3))
                    (then (return (call $result (i32.const 1) (i32.const 16) (i32.const 1)))))
                (call $result (i32.const 0) (call $publication) (i32.const 1))",
            ..Guest::default()
        };
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folder.path("cases")).unwrap();
        fs::write(folder.path("orders.wasm"), guest.wasm()).unwrap();
        for (name, text) in cases {
            fs::write(folder.path(&format!("cases/{name}.json")), text).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Returns standard output, standard error, and how the command ended.
    fn test(&self, adjust: impl FnOnce(&mut Args)) -> String {
        let mut args = Args {
            module: self.path("orders.wasm"),
            cases: None,
            filter: None,
            update: false,
            no_build: false,
            json: false,
        };
        adjust(&mut args);
        let (mut output, mut notes) = (Vec::new(), Vec::new());
        let end = match execute(&args, &mut output, &mut notes) {
            Ok(()) => "exit code 0".to_owned(),
            Err(failure) => format!("{failure}\nexit code {}", failure.exit_code()),
        };
        let text = [output, notes]
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .join("---\n")
            + &end;
        // The hash changes with the tool that translates the guest.
        let text = match text.split_once("sha256 ") {
            Some((before, after)) => format!("{before}sha256 …{}", &after[12..]),
            None => text,
        };
        anstream::adapter::strip_str(&text)
            .to_string()
            .replace(&self.0.path().display().to_string(), "DIR")
    }
}

const PUBLISHED: &str = r#"{"message":{"subject":"a","data":1},"expect":{"outcome":"publish","publications":[{"channels":["a"],"data":1}]}}"#;
const DROPPED: &str = r#"{"message":{"subject":"a","data":1,"sequence":2},"expect":{"outcome":"drop"}}"#;
const REJECTED: &str =
    r#"{"message":{"subject":"a","data":1,"sequence":3},"expect":{"outcome":"reject","code":"rejected"}}"#;
const OTHER_DATA: &str = r#"{"message":{"subject":"a","data":1},"expect":{"outcome":"publish","publications":[{"channels":["a"],"data":{"id":7},"version":3}]}}"#;
const SAMPLE: &str = r#"{"message": {"subject": "a",  "data": 1}}"#;
const TYPO: &str = "{\"message\":{\"subject\":\"a\",\n\"dat\":1}}";

#[test]
fn cases_that_pass_are_a_line_each() {
    let folder = Folder::new(&[("published", PUBLISHED), ("dropped", DROPPED), ("rejected", REJECTED)]);
    assert_snapshot!(folder.test(|_| {}), @r"
    ok       dropped
    ok       published
    ok       rejected
    ---
    testing DIR/orders.wasm, sha256 …
    3 cases: 3 passed
    exit code 0
    ");
}

#[test]
fn what_differs_is_shown_line_by_line() {
    let folder = Folder::new(&[
        ("a", PUBLISHED),
        ("b", OTHER_DATA),
        ("c", SAMPLE),
        ("d", TYPO),
        ("e", &DROPPED.replace("drop", "reject")),
    ]);
    assert_snapshot!(folder.test(|_| {}), @r#"
    ok       a
    FAILED   b: - expected, + actual
                "channels": [
                  "a"
                ],
        -       "data": {
        -         "id": 7
        -       },
        -       "version": 3
        +       "data": 1
              }
            ]
          }
    FAILED   c: it has no `expect`; the module's outcome:
        + {
        +   "outcome": "publish",
        +   "publications": [
        +     {
        +       "channels": [
        +         "a"
        +       ],
        +       "data": 1
        +     }
        +   ]
        + }
    FAILED   d: DIR/cases/d.json:2:5: `message.dat`: unknown field `dat`, expected one of `subject`, `subject_base64`, `payload`, `data`, `payload_base64`, `headers`, `headers_base64`, `sequence`, `id`, `timestamp`, `stream`, `deliveries`
    FAILED   e: - expected, + actual
          {
        -   "outcome": "reject"
        +   "outcome": "drop"
          }
    ---
    testing DIR/orders.wasm, sha256 …
    4 of 5 cases failed; if the new outcome is right, save it with `slipring test --update`
    exit code 1
    "#);
    assert_snapshot!(folder.test(|args| args.json = true), @r#"
    {"case":"a","result":"passed"}
    {"case":"b","result":"failed","made":{"outcome":"publish","publications":[{"channels":["a"],"data":1}]},"expected":{"outcome":"publish","publications":[{"channels":["a"],"data":{"id":7},"version":3}]}}
    {"case":"c","result":"failed","made":{"outcome":"publish","publications":[{"channels":["a"],"data":1}]}}
    {"case":"d","result":"broken","error":"DIR/cases/d.json:2:5: `message.dat`: unknown field `dat`, expected one of `subject`, `subject_base64`, `payload`, `data`, `payload_base64`, `headers`, `headers_base64`, `sequence`, `id`, `timestamp`, `stream`, `deliveries`"}
    {"case":"e","result":"failed","made":{"outcome":"drop"},"expected":{"outcome":"reject"}}
    ---
    testing DIR/orders.wasm, sha256 …
    4 of 5 cases failed; if the new outcome is right, save it with `slipring test --update`
    exit code 1
    "#);
}

#[test]
fn update_writes_what_was_made_where_it_differs() {
    let folder = Folder::new(&[("a", PUBLISHED), ("b", OTHER_DATA), ("c", SAMPLE)]);
    assert_snapshot!(folder.test(|args| args.update = true), @r"
    ok       a
    updated  b
    updated  c
    ---
    testing DIR/orders.wasm, sha256 …
    3 cases: 1 passed, 2 updated: review them before you commit
    exit code 0
    ");
    assert_eq!(folder.read("cases/a.json"), PUBLISHED);
    assert_snapshot!(folder.read("cases/c.json"), @r#"
    {
      "message": {"subject": "a",  "data": 1},
      "expect": {
        "outcome": "publish",
        "publications": [
          {
            "channels": [
              "a"
            ],
            "data": 1
          }
        ]
      }
    }
    "#);
    assert!(folder.test(|_| {}).ends_with("3 cases: 3 passed\nexit code 0"));
}

const IN_PART: &str = r#"{"message":{"subject":"a","data":1},"expect":{"partial":true,"publications":[{"data":2}]}}"#;
const RULED_OUT: &str = r#"{"message":{"subject":"a","data":1},"expect_not":{"publications":[{"channels":["a"]}]}}"#;

#[test]
fn a_part_is_updated_as_a_part_and_what_is_ruled_out_fails_still() {
    let folder = Folder::new(&[("a", IN_PART), ("b", RULED_OUT)]);
    assert_snapshot!(folder.test(|_| {}), @r#"
    FAILED   a: - expected, + actual
            "partial": true,
            "publications": [
              {
        -       "data": 2
        +       "data": 1
              }
            ]
          }
    FAILED   b: + what `expect_not` rules out
          {
            "outcome": "publish",
            "publications": [
        +     {
        +       "channels": [
        +         "a"
        +       ],
        +       "data": 1
        +     }
            ]
          }
    ---
    testing DIR/orders.wasm, sha256 …
    2 of 2 cases failed; if the new outcome is right, save it with `slipring test --update`
    exit code 1
    "#);
    let updated = folder.test(|args| args.update = true);
    assert!(updated.contains("updated  a\nFAILED   b: + what"), "{updated}");
    assert!(updated.ends_with("1 of 2 cases failed\nexit code 1"), "{updated}");
    assert_eq!(folder.read("cases/b.json"), RULED_OUT);
    let case: serde_json::Value = serde_json::from_str(&folder.read("cases/a.json")).unwrap();
    assert_eq!(
        case["expect"],
        serde_json::json!({ "outcome": "publish", "partial": true, "publications": [{ "data": 1 }] })
    );
}

#[test]
fn a_case_may_have_settings_of_its_own() {
    let with = |settings: &str| PUBLISHED.replacen('{', &format!("{{\"settings\":{settings},"), 1);
    let folder = Folder::new(&[
        ("long", &with(r#"{"currency":"EUR"}"#)),
        ("short", &with(r#"{"x":1}"#)),
        ("none", PUBLISHED),
    ]);
    assert_snapshot!(folder.test(|_| {}), @r"
    FAILED   long: cannot load the module DIR/orders.wasm: the module failed in a test call: `init` refused its settings: a
    ok       none
    ok       short
    ---
    testing DIR/orders.wasm, sha256 …
    1 of 3 cases failed
    exit code 1
    ");
    fs::write(folder.path("orders.toml"), "stream = 'ORDERS'\nversion = 'sequence'").unwrap();
    let shown = folder.test(|args| args.filter = Some("short".to_owned()));
    assert!(
        shown.contains("+       \"version\": 1"),
        "the rest of the .toml applies all the same: {shown}"
    );
}

#[test]
fn a_filter_chooses_cases_by_name() {
    let folder = Folder::new(&[("paid", PUBLISHED), ("draft", DROPPED)]);
    let with = |text: &str| folder.test(|args| args.filter = Some(text.to_owned()));
    assert!(with("raf").ends_with("1 case: 1 passed\nexit code 0"));
    assert_snapshot!(with("shipped"), @r#"
    ---
    no case in DIR/cases has "shipped" in its name; the folder has draft, paid
    exit code 1
    "#);
}

#[test]
fn without_cases_or_with_a_module_that_does_not_load_nothing_is_tested() {
    let folder = Folder::new(&[]);
    assert_snapshot!(folder.test(|_| {}), @r#"
    ---
    there are no cases yet. Write one: DIR/cases/first.json with {"message": {"subject": "orders.7", "data": {"id": 7}}}, then `slipring test --update` adds the module's outcome. Or record real messages: `slipring record --last 10`
    exit code 1
    "#);
    fs::write(folder.path("cases/a.json"), PUBLISHED).unwrap();
    fs::write(folder.path("orders.wasm"), "no module").unwrap();
    assert_snapshot!(folder.test(|_| {}), @r#"
    ---
    cannot load the module DIR/orders.wasm: the file is not a WebAssembly binary but text that begins with "no module"
    exit code 1
    "#);
    fs::write(folder.path("orders.toml"), "stream = 5").unwrap();
    assert_snapshot!(folder.test(|_| {}), @r"
    ---
    DIR/orders.toml:1:10: `stream` is 5; it must be a string that is not empty
    exit code 78
    ");
}
