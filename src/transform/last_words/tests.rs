use super::*;

fn words(stderr: &str) -> LastWords {
    LastWords {
        stderr: stderr.to_owned(),
        ..LastWords::default()
    }
}

fn check(stderr: &str, report: &str) {
    assert_eq!(words(stderr).report().as_deref(), Some(report), "{stderr}");
}

#[test]
fn rust_says_where_it_panicked() {
    check(
        "first\n\nthread '<unnamed>' (1) panicked at src/lib.rs:10:5:\nassertion `left == right` failed\n  left: 1\n right: 2\n\
         note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
        "panicked at src/lib.rs:10:5:\nassertion `left == right` failed\n  left: 1\n right: 2",
    );
    let of_core_module = LastWords {
        panic: Some("panicked at src/lib.rs:1:2: no".into()),
        ..LastWords::default()
    };
    assert_eq!(
        of_core_module.report().as_deref(),
        Some("panicked at src/lib.rs:1:2: no")
    );
}

/// A stack of Go 1.26.8.
fn stack(innermost: &str) -> String {
    format!(
        "\ngoroutine 19 [running]:\n{innermost}\
         main.transform({{{{0x28e008, 0x5}}, {{0x28e050, 0xb, 0xb}}, {{0x0, 0x0, 0x0}}, {{0x0, 0x0}}, ...}})\n\
         \texample.com/failing/transform.go:34 +0xb1\n\
         example.com/failing/slipring.exportTransform(...)\n\texample.com/failing/slipring/exports.go:43\n"
    )
}

#[test]
fn go_says_it_above_its_stack() {
    for (text, report) in [
        ("panic: boom: a draft\n", "panic: boom: a draft"),
        (
            "panic: runtime error: invalid memory address or nil pointer dereference\n[signal 0xb code=0x0 addr=0x0 pc=0x0]\n",
            "panic: runtime error: invalid memory address or nil pointer dereference",
        ),
        (
            "panic: runtime error: index out of range [11] with length 11\n",
            "panic: runtime error: index out of range [11] with length 11",
        ),
        ("panic: trouble 7\n", "panic: trouble 7"),
        ("panic: (main.order) 0x0\n", "panic: (main.order) 0x0"),
        (
            "panic: assignment to entry in nil map\n",
            "panic: assignment to entry in nil map",
        ),
        ("panic: one\n\t\n\ttwo\n", "panic: one\n\t\n\ttwo"),
        (
            "panic: first [recovered]\n\tpanic: again: first\n",
            "panic: first [recovered]\n\tpanic: again: first",
        ),
        (
            "fatal error: concurrent map writes\n",
            "fatal error: concurrent map writes",
        ),
        (
            "panic: logged by the module itself\n\nmore\npanic: the one\n",
            "panic: the one",
        ),
    ] {
        check(
            &format!("hm\n{text}{}", stack("")),
            &format!("{report} (transform.go:34)"),
        );
    }
}

#[test]
fn in_go_the_place_is_the_module_s_own() {
    let panic = |innermost: &str| format!("panic: no\n{}", stack(innermost));
    for (innermost, place) in [
        (
            "strings.Repeat({0x337d0, 0x1}, 0xfffffffffffffff9)\n\tstrings/strings.go:628 +0xbc\n",
            "transform.go:34",
        ),
        (
            "github.com/x/y.Do(...)\n\tgithub.com/x/y@v1.0.0/y.go:7\n",
            "transform.go:34",
        ),
        (
            "panic({0x144a0, 0x3e118})\n\truntime/panic.go:860 +0x1c\n",
            "transform.go:34",
        ),
        (
            "main.transform.func1()\n\texample.com/failing/transform.go:31 +0x5\n",
            "transform.go:31",
        ),
        (
            "example.com/failing/rules.Check(...)\n\texample.com/failing/rules/check.go:12\n",
            "rules/check.go:12",
        ),
    ] {
        check(&panic(innermost), &format!("panic: no ({place})"));
    }
    check(
        "panic: in a goroutine\n\ngoroutine 7 [running]:\ngithub.com/x/y.Do()\n\tgithub.com/x/y@v1.0.0/y.go:7 +0x2\n\
         created by main.transform in goroutine 1\n\texample.com/failing/transform.go:75 +0x3d\n",
        "panic: in a goroutine (transform.go:75)",
    );
    // Built without -trimpath.
    check(
        "panic: no\n\ngoroutine 1 [running]:\nmain.transform(...)\n\t/home/ann/shop/transform.go:5 +0x2\n",
        "panic: no (transform.go:5)",
    );
    check(
        "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [chan receive]:\n\
         main.transform({{0x28e008, 0x8}, ...})\n\texample.com/failing/transform.go:72 +0x37\n\n\
         goroutine 6 [select]:\nmain.other()\n\texample.com/failing/transform.go:9 +0x1\n",
        "fatal error: all goroutines are asleep - deadlock! (transform.go:72)",
    );
    check("panic: no\n", "panic: no");
}

/// The text that componentize-py 0.25.1 prints below each exception.
const PANIC: &str = "thread '<unnamed>' (1) panicked at runtime/src/lib.rs:1293:29:\n\
                     Python function threw an unexpected exception\nnote: run with `RUST_BACKTRACE=1`\n";

#[test]
fn python_says_it_below_its_stack() {
    const CALL: &str = "Traceback (most recent call last):\n  File \"/0/app.py\", line 19, in transform\n";
    for (rest, report) in [
        (
            "  File \"/0/app.py\", line 29, in name\nNameError: name 'ordr' is not defined\n",
            "NameError: name 'ordr' is not defined (app.py:29)",
        ),
        (
            "  File \"/0/app.py\", line 47, in library\n  File \"/python/json/__init__.py\", line 346, in loads\n  \
             File \"/python/json/decoder.py\", line 345, in decode\n\
             json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)\n",
            "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0) (app.py:47)",
        ),
        (
            "  File \"/1/shop/rules.py\", line 44, in bare\nAssertionError\n",
            "AssertionError (shop/rules.py:44)",
        ),
        (
            "  File \"/0/app.py\", line 53, in lines\nValueError: one\n\n  two\nthe payload\n",
            "ValueError: one\n\n  two\nthe payload (app.py:53)",
        ),
        (
            "  File \"/0/app.py\", line 82, in compiled\n  File \"rules.py\", line 0\n    \n\
             SyntaxError: invalid syntax (rules.py, line 1)\n",
            "SyntaxError: invalid syntax (rules.py, line 1) (app.py:82)",
        ),
        (
            "  File \"/0/app.py\", line 109, in recursion\n  File \"/0/app.py\", line 109, in recursion\n  \
             [Previous line repeated 996 more times]\nRecursionError: maximum recursion depth exceeded\n",
            "RecursionError: maximum recursion depth exceeded (app.py:109)",
        ),
        (
            "  File \"/0/app.py\", line 118, in memory\nobject address  : 0x481068\nobject refcount : 2\nobject type     : 0x373230\n\
             object type name: MemoryError\nobject repr     : MemoryError()\nlost sys.stderr\n",
            "MemoryError (app.py:118)",
        ),
    ] {
        check(&format!("hm\n{CALL}{rest}{PANIC}"), report);
    }
    let chained = format!(
        "Traceback (most recent call last):\n  File \"/0/app.py\", line 57, in chained\nKeyError: 'a'\n\n\
         The above exception was the direct cause of the following exception:\n\n\
         {CALL}  File \"/0/app.py\", line 59, in chained\nRuntimeError: cannot read the order\n{PANIC}"
    );
    check(&chained, "RuntimeError: cannot read the order (app.py:59)");
    let group = format!(
        "  + Exception Group Traceback (most recent call last):\n  |   File \"/0/app.py\", line 73, in group\n  | \
         ExceptionGroup: two things (2 sub-exceptions)\n  +-+---------------- 1 ----------------\n    | ValueError: one\n    \
         +---------------- 2 ----------------\n    | TypeError: two\n    +------------------------------------\n{PANIC}"
    );
    check(&group, "ExceptionGroup: two things (2 sub-exceptions) (app.py:73)");
    let printed = format!("Traceback (most recent call last):\n  none\nKeyError: an old one\n{chained}");
    check(&printed, "RuntimeError: cannot read the order (app.py:59)");
}

#[test]
fn a_crate_may_be_called_as_an_engine_is() {
    let panic = "panicked at runtime/src/lib.rs:7:1:\nno such order";
    check(
        &format!("Traceback (most recent call last):\nthread 'x' {panic}\nnote: run\n"),
        panic,
    );
}

#[test]
fn an_engine_that_panics_says_what_it_was_given() {
    check(
        "thread '<unnamed>' (1) panicked at runtime/src/lib.rs:1704:44:\n\
         called `Result::unwrap()` on an `Err` value: CastError { from: 7, classinfo: <class 'list'> }\nnote: run\n",
        "the returned value does not fit the interface: CastError { from: 7, classinfo: <class 'list'> }",
    );
    check(
        "thread '<unnamed>' (1) panicked at crates/runtime/src/call.rs:374:39:\nexpected object\nnote: run\n",
        "the returned value does not fit the interface: expected object",
    );
}

#[test]
fn c_says_where_it_gave_up() {
    check(
        "hm\nAssertion failed: payload.len == 0 (app.c: order: 24)\n",
        "Assertion failed: payload.len == 0 (app.c: order: 24)",
    );
    check(
        "the order has no lines\n\naborted (app.c:27)\n",
        "the order has no lines (app.c:27)",
    );
    check("\naborted (app.c:23)\n", "aborted (app.c:23)");
}

#[test]
fn what_says_nothing_has_its_last_line() {
    let words = words("hm\nlast\nnote: run with `RUST_BACKTRACE=1`\n\n");
    assert_eq!((words.report(), words.last_line()), (None, Some("last")));
    assert_eq!(LastWords::default().last_line(), None);
}

#[test]
fn a_place_is_kept_behind_a_long_text() {
    let report = words(&format!("panic: {}\n{}", "ä".repeat(500), stack("")))
        .report()
        .unwrap();
    assert!(
        report.len() < 750 && report.ends_with("ä… (transform.go:34)"),
        "{report}"
    );
}

fn taken(lines: impl IntoIterator<Item = String>) -> (String, usize) {
    let mut kept = Lines::default();
    let mut most = 0;
    for line in lines {
        kept.push(&line);
        most = most.max(kept.newest.len() + kept.report.as_ref().map_or(0, |report| report.text.len()));
    }
    (kept.take(), most)
}

#[test]
fn the_newest_lines_are_kept() {
    let line = |number: usize| format!("line {number} {}", "x".repeat(90));
    let (kept, most) = taken((0..1_000).map(line));
    assert!(
        kept.len() <= MAX_NEWEST && most < 3 * MAX_NEWEST,
        "{} {most}",
        kept.len()
    );
    assert!(
        kept.starts_with("line ") && kept.ends_with(&format!("{}\n", line(999))),
        "{kept}"
    );
    assert_eq!(taken([]).0, "");
}

#[test]
fn the_beginning_of_a_report_is_kept_above_any_stack() {
    let frames = |count: usize| (0..count).map(|number| format!("\tdeep.go:{number} {}", "x".repeat(90)));
    let begins = [
        "panic: the one",
        "fatal error: the one",
        "thread '<unnamed>' (1) panicked at src/lib.rs:1:2:",
    ];
    for begin in begins {
        for count in [0, 10, 80, 100, 2_000] {
            let before = ["panic: an older one".to_owned()].into_iter().chain(frames(200));
            let before: Vec<String> = if begin.contains("thread") {
                frames(200).collect()
            } else {
                before.collect()
            };
            let (kept, most) = taken(before.into_iter().chain([begin.to_owned()]).chain(frames(count)));
            let at = kept.rfind(begin).unwrap_or_else(|| panic!("{begin} {count}: {kept}"));
            let below = frames(count)
                .take(30)
                .fold(format!("{begin}\n"), |text, line| text + &line + "\n");
            assert!(kept[at..].starts_with(&below), "{begin} {count}: {kept}");
            let last = frames(count).next_back().unwrap_or_else(|| begin.to_owned());
            assert!(kept.ends_with(&format!("{last}\n")), "{begin} {count}: {kept}");
            assert!(most <= 2 * MAX_NEWEST + 2 * MAX_REPORT, "{most}");
        }
    }
    // Python's report is at its end, above the text of its engine.
    let frames = (1..=1_000).map(|number| format!("  File \"/0/app.py\", line {number}, in other"));
    let lines = [TRACEBACK.to_owned()]
        .into_iter()
        .chain(frames)
        .chain(["RecursionError: no".to_owned()]);
    let (kept, _) = taken(lines.chain(PANIC.lines().map(str::to_owned)));
    check(&kept, "RecursionError: no (app.py:1000)");
}
