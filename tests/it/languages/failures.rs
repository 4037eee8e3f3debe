//! A dead letter's reason names the failure and its place, in every language. The modules are in
//! `tests/guests/failing`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slipring_support::workspace;

use super::{outcomes, shell};

/// A subject, and the expected reason. `@` is the number of the line with the last text.
type Row = (&'static str, &'static str, &'static str);

struct Failing {
    file: &'static str,
    rows: &'static [Row],
    /// What `init` says when it fails.
    init: (&'static str, &'static str),
}

const GO: Failing = Failing {
    file: "transform.go",
    init: (
        "panic: bad settings: {\"fail\":true} (transform.go:@)",
        "panic(\"bad settings",
    ),
    rows: &[
        ("panic", "panic: boom: the payload (transform.go:@)", "panic(\"boom"),
        (
            "nil",
            "panic: runtime error: invalid memory address or nil pointer dereference (transform.go:@)",
            "order.Customer.Name",
        ),
        (
            "index",
            "panic: runtime error: index out of range [11] with length 11 (transform.go:@)",
            "message.Payload[len(payload)]",
        ),
        (
            "error",
            "panic: reading: the payload (transform.go:@)",
            "fmt.Errorf(\"reading",
        ),
        ("custom", "panic: trouble 7 (transform.go:@)", "panic(trouble{7})"),
        ("value", "panic: (main.order) 0x0 (transform.go:@)", "panic(order{})"),
        (
            "map",
            "panic: assignment to entry in nil map (transform.go:@)",
            "counts[payload]++",
        ),
        (
            "divide",
            "panic: runtime error: integer divide by zero (transform.go:@)",
            "1 / len(",
        ),
        ("lines", "panic: one two the payload (transform.go:@)", "panic(\"one"),
        (
            "again",
            "panic: first [recovered] panic: again: first (transform.go:@)",
            "fmt.Sprint(\"again",
        ),
        (
            "logged",
            "panic: the new one (transform.go:@)",
            "panic(\"the new one\")",
        ),
        ("deep", "panic: deep down (transform.go:@)", "panic(\"deep down\")"),
        (
            "library",
            "panic: strings: negative Repeat count (transform.go:@)",
            "strings.Repeat(\"x\", -len",
        ),
        (
            "unmarshal",
            "panic: runtime error: invalid memory address or nil pointer dereference (transform.go:@)",
            "json.NewEncoder(nil)",
        ),
        (
            "goroutine",
            "panic: in a goroutine (transform.go:@)",
            "panic(\"in a goroutine\")",
        ),
        ("exit", "exited with an error instead of returning", ""),
    ],
};

const PYTHON: Failing = Failing {
    file: "app.py",
    init: (
        "ValueError: bad settings: {\"fail\":true} (app.py:@)",
        "raise ValueError(f\"bad settings",
    ),
    rows: &[
        (
            "name",
            "NameError: name 'ordr' is not defined (app.py:@)",
            "return ordr[\"status\"]",
        ),
        (
            "key",
            "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0) (app.py:@)",
            "json.loads(payload)[\"status\"]",
        ),
        (
            "none",
            "AttributeError: 'NoneType' object has no attribute 'status' (app.py:@)",
            "None.status",
        ),
        (
            "check",
            "AssertionError: the payload is not x (app.py:@)",
            "assert payload == \"x\"",
        ),
        ("bare", "AssertionError (app.py:@)", "assert not payload"),
        ("nested", "KeyError: 'price' (app.py:@)", "line[\"price\"]"),
        (
            "lines",
            "ValueError: one two the payload (app.py:@)",
            "ValueError(\"one",
        ),
        (
            "chained",
            "RuntimeError: cannot read the order (app.py:@)",
            "raise RuntimeError",
        ),
        (
            "during",
            "NameError: name 'ordr' is not defined (app.py:@)",
            "            return ordr",
        ),
        (
            "group",
            "ExceptionGroup: two things (2 sub-exceptions) (app.py:@)",
            "raise ExceptionGroup",
        ),
        (
            "bad_import",
            "ModuleNotFoundError: No module named 'nowhere' (app.py:@)",
            "import nowhere",
        ),
        (
            "compiled",
            "SyntaxError: invalid syntax (rules.py, line 1) (app.py:@)",
            "exec(compile(",
        ),
        (
            "custom",
            "app.Failures.custom.<locals>.Trouble: the payload (app.py:@)",
            "raise Trouble(payload)",
        ),
        ("silent", "ValueError (app.py:@)", "        raise ValueError\n"),
        (
            "recursion",
            "RecursionError: maximum recursion depth exceeded (app.py:@)",
            "return Failures.recursion",
        ),
        (
            "printed",
            "NameError: name 'ordr' is not defined (app.py:@)",
            "        return ordr\n\n    def rejected",
        ),
        (
            "exits",
            "exited with an error instead of returning; its last output: no more orders",
            "",
        ),
        (
            "result",
            "the returned value does not fit the interface: CastError { from: 7, classinfo: <class 'list'> }",
            "",
        ),
        ("rejected", "no such order", ""),
    ],
};

const JS: Failing = Failing {
    file: "transform.js",
    init: (
        "bad settings: {\"fail\":true} (transform.js:@)",
        "throw new Error(`bad settings",
    ),
    rows: &[
        (
            "reference",
            "ReferenceError: idd is not defined (transform.js:@)",
            "=> idd,",
        ),
        (
            "type",
            "TypeError: cannot read property 'name' of undefined (transform.js:@)",
            "customer.name",
        ),
        (
            "error",
            "no such order (transform.js:@)",
            "throw new Error(\"no such order\")",
        ),
        ("lines", "one two (transform.js:@)", "throw new Error(\"one"),
        ("custom", "Trouble: no such order (transform.js:@)", "throw new Trouble"),
        ("silent", "Error (transform.js:@)", "throw new Error()"),
        ("string", "no such order", ""),
        ("object", "threw {\"code\":7}", ""),
        ("message", "no such order", ""),
        ("nothing", "threw undefined", ""),
        (
            "json",
            "SyntaxError: unexpected token: 'the' (transform.js:@)",
            "json: (message)",
        ),
        ("promise", "transform returned a promise, and nothing waits for it", ""),
        (
            "syntax",
            "SyntaxError: unexpected token in expression: '=' (transform.js:@)",
            "new Function(",
        ),
        ("result", "transform returned 7, and not a list of publications", ""),
        (
            "results",
            "the returned value does not fit the interface: expected object",
            "",
        ),
        (
            "nested",
            "TypeError: cannot read property 'z' of undefined (transform.js:@)",
            "x.y.z",
        ),
    ],
};

const C: Failing = Failing {
    file: "app.c",
    init: (
        "Assertion failed: settings->len < 5 (app.c: exports_transform_init: @)",
        "settings->len < 5",
    ),
    rows: &[
        ("abort", "aborted (app.c:@)", "\"abort\""),
        (
            "assert",
            "Assertion failed: message->payload.len == 0 (app.c: exports_transform_transform: @)",
            "assert(message->payload.len",
        ),
        (
            "said",
            "the order has no lines (app.c:@)",
            "the order has no lines\\n\");\n    abort();",
        ),
        (
            "perror",
            "exited with an error instead of returning; its last output: reading the order: Out of memory",
            "",
        ),
        ("trap", "trapped: wasm `unreachable` instruction executed", ""),
        ("bounds", "trapped: out of bounds memory access", ""),
        (
            "recursion",
            "overflowed its stack, most likely by endless recursion",
            "",
        ),
        ("reject", "no such order", ""),
    ],
};

pub fn are_told(language: &str) -> Result<()> {
    let failing = match language {
        "go" => GO,
        "python" => PYTHON,
        "js" => JS,
        "c" => C,
        other => anyhow::bail!("no module in {other} fails"),
    };
    let desk = tempfile::TempDir::with_prefix("slipring-failing-")?;
    shell(desk.path(), &format!("slipring new failing --lang {language}"))?;
    let folder = desk.path().join("failing");
    let source = std::fs::read_to_string(workspace().join("tests/guests/failing").join(failing.file))?;
    std::fs::write(folder.join(failing.file), &source)?;
    shell(&folder, "./build")?;

    let message = |(subject, ..): &Row| json!({ "subject": subject, "payload": "the payload" });
    let messages: Vec<Value> = failing.rows.iter().map(message).collect();
    let outcomes = outcomes(&folder.join("failing.wasm"), &messages)?;
    for ((subject, reason, snippet), outcome) in failing.rows.iter().zip(&outcomes) {
        let expected = placed(reason, &source, snippet)?;
        ensure!(
            outcome["outcome"] == "reject" && outcome["reason"] == expected,
            "{language}, {subject}: {outcome} instead of {expected:?}"
        );
    }

    if language == "js" {
        what_does_not_build_is_told(&folder, &source)?;
    }

    std::fs::write(
        folder.join("failing.toml"),
        "stream = \"ORDERS\"\n[settings]\nfail = true\n",
    )?;
    let refused = shell(
        &folder,
        "echo '{\"subject\":\"x\",\"payload\":\"\"}' | slipring try failing.wasm 2>&1 || true",
    )?;
    let (reason, snippet) = failing.init;
    let expected = placed(reason, &source, snippet)?;
    ensure!(
        refused.contains(&expected),
        "{language}: {refused:?} has no {expected:?}"
    );
    Ok(())
}

/// A module in JavaScript that lacks a function, or has an error, fails when it is built, not with its first message.
fn what_does_not_build_is_told(folder: &Path, source: &str) -> Result<()> {
    let file = folder.join("transform.js");
    let lines = source.lines().count();
    for (wrong, told) in [
        (
            source.replace("export function transform(", "export function transfrom("),
            "transform.js needs `export function transform`: Could not find export 'transform'".to_owned(),
        ),
        (
            format!("{source}\nconst = 5;\n"),
            format!(
                "transform.js does not build: variable name expected (transform.js:{})",
                lines + 2
            ),
        ),
    ] {
        std::fs::write(&file, wrong)?;
        let said = shell(folder, "./build 2>&1 && echo it was built || true")?;
        ensure!(
            said.contains(&told) && !said.contains("it was built"),
            "{said:?} has no {told:?}"
        );
    }
    std::fs::write(&file, source).context("restoring the source")
}

/// Fills in the number of the line on which `snippet` ends, before a line break at its end.
fn placed(reason: &str, source: &str, snippet: &str) -> Result<String> {
    let begin = source
        .find(snippet)
        .with_context(|| format!("{snippet:?} is not in the source"))?;
    let first = snippet.split("\n\n").next().unwrap_or_default().trim_end();
    let line = source[..begin + first.len()].matches('\n').count() + 1;
    Ok(reason.replace('@', &line.to_string()))
}
