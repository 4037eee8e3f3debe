//! What a guest printed before it failed, and what of it says why: each language has its own way to tell what was wrong and where.
//! The texts in the tests are what their runtimes print.

/// How Rust's standard library begins a panic's text.
const PANICKED: &str = "panicked at ";
/// How Go's runtime begins that of a panic, and of what nothing can recover from.
const OF_GO: [&str; 2] = ["panic: ", "fatal error: "];
/// How Python begins the stack of an exception.
const TRACEBACK: &str = "Traceback (most recent call last):";

/// What is kept of the newest lines, and what from the last one that begins the report of a failure, in bytes. The stack below
/// that line may be longer than both.
const MAX_NEWEST: usize = 8 * 1024;
const MAX_REPORT: usize = 4 * 1024;
/// Of a text that has a place behind it, in bytes. A reason has room for both.
const MAX_TEXT: usize = 700;

/// What a guest left behind in a call that came to no result.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    /// What a core module handed over, since it has no standard error.
    pub panic: Option<String>,
    pub stderr: String,
    pub memory_denied: bool,
}

impl LastWords {
    /// What was wrong and where, if the guest's language has a form for it.
    pub fn report(&self) -> Option<String> {
        let stderr = self.stderr.as_str();
        match self.panic.as_deref().or_else(|| of_rust(stderr)) {
            Some(panic) => match of_engine(panic) {
                Some(text) => of_python(stderr).or(Some(text)),
                None => Some(panic.to_owned()),
            },
            None => of_go(stderr).or_else(|| of_c(stderr)),
        }
    }

    /// The last line that says something.
    pub fn last_line(&self) -> Option<&str> {
        let says = |line: &&str| !line.trim().is_empty() && !line.starts_with("note: ");
        self.stderr.lines().rev().find(says)
    }
}

/// The lines of one call's standard error, bounded.
#[derive(Debug, Default)]
pub(super) struct Lines {
    newest: String,
    /// How much came before `newest`, in bytes.
    gone: usize,
    report: Option<Report>,
}

#[derive(Debug)]
struct Report {
    /// How much came before it, in bytes.
    at: usize,
    text: String,
}

impl Lines {
    pub fn push(&mut self, line: &str) {
        let of_rust = line.contains(PANICKED);
        let begins = OF_GO.iter().any(|begin| line.starts_with(begin)) || line.ends_with(TRACEBACK);
        // What Rust's runtime says comes once, or below an exception of Python's.
        if begins || of_rust && self.report.is_none() {
            self.report = Some(Report {
                at: self.gone + self.newest.len(),
                text: String::new(),
            });
        }
        if let Some(report) = &mut self.report
            && report.text.len() < MAX_REPORT
        {
            append(&mut report.text, line);
        }
        append(&mut self.newest, line);
        if self.newest.len() > 2 * MAX_NEWEST {
            self.forget();
        }
    }

    /// What there is; nothing is left for the next call.
    pub fn take(&mut self) -> String {
        self.forget();
        let Self { newest, gone, report } = std::mem::take(self);
        match report {
            Some(Report { at, text }) if at < gone => {
                let both = (at + text.len()).saturating_sub(gone);
                text + &newest[both..]
            }
            _ => newest,
        }
    }

    /// Whole lines.
    fn forget(&mut self) {
        if self.newest.len() > MAX_NEWEST {
            let cut = self.newest.floor_char_boundary(self.newest.len() - MAX_NEWEST);
            let cut = self.newest[cut..].find('\n').map_or(cut, |end| cut + end + 1);
            self.newest.drain(..cut);
            self.gone += cut;
        }
    }
}

fn append(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// A panic of Rust's standard library, without the advice below it.
fn of_rust(stderr: &str) -> Option<&str> {
    let begin = stderr.find(PANICKED)?;
    let text = &stderr[begin..];
    let end = ["\nnote: ", "\nstack backtrace:"]
        .iter()
        .filter_map(|end| text.find(end))
        .min();
    Some(end.map_or(text, |end| &text[..end]))
}

/// The engines of Python and JavaScript are written in Rust, and panic where a module fails. That says seldom why: an exception of
/// Python's is above it. Anything else is about what the module returned.
fn of_engine(panic: &str) -> Option<String> {
    let (place, text) = panic.strip_prefix(PANICKED)?.split_once('\n')?;
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    let of_python = place.starts_with("runtime/src/") && says(&["Python function", "<class ", "PyErr {"]);
    let of_quickjs = place.starts_with("crates/runtime/src/") && says(&["expected ", "FromJs {"]);
    let text = text
        .strip_prefix("called `Result::unwrap()` on an `Err` value: ")
        .unwrap_or(text);
    (of_python || of_quickjs).then(|| format!("what it returned does not fit the interface: {text}"))
}

/// The last panic, or what nothing recovers from; below it is the stack of the goroutine.
fn of_go(stderr: &str) -> Option<String> {
    let lines: Vec<&str> = stderr.lines().collect();
    let stack = lines
        .iter()
        .rposition(|line| line.starts_with("goroutine ") && line.ends_with("]:"));
    let above = &lines[..stack.unwrap_or(lines.len())];
    let begin = above
        .iter()
        .rposition(|line| OF_GO.iter().any(|begin| line.starts_with(begin)))?;
    // Of a text with several lines each other one is indented.
    let text = above[begin..]
        .iter()
        .take_while(|line| !line.is_empty() && !line.starts_with("[signal "));
    let text: Vec<&str> = text.copied().collect();
    let first = lines.iter().skip(begin).position(|line| line.starts_with("goroutine "));
    let place = first.and_then(|first| place_of_go(&lines[begin + first + 1..]));
    Some(with_place(&text.join("\n"), place))
}

/// The innermost function of the module's own packages, whose folder is that of `main`; or the innermost that is not the
/// runtime's. A function is a line, and where it is the next one, with a tab.
fn place_of_go(stack: &[&str]) -> Option<String> {
    let frames = stack.windows(2).filter_map(|pair| {
        let place = pair[1].strip_prefix('\t')?;
        let place = place.split(" +0x").next().unwrap_or(place);
        Some((pair[0].trim_start_matches("created by "), place.trim()))
    });
    let frames: Vec<(&str, &str)> = frames.collect();
    let of_main = frames.iter().find(|(function, _)| function.starts_with("main."));
    let folder = of_main
        .and_then(|(_, place)| place.rsplit_once('/'))
        .map(|(folder, _)| format!("{folder}/"));
    let own = frames.iter().find(|(function, place)| {
        function.starts_with("main.") || folder.as_ref().is_some_and(|folder| place.starts_with(folder.as_str()))
    });
    let of_runtime = |function: &str| {
        ["panic(", "runtime.", "internal/"]
            .iter()
            .any(|begin| function.starts_with(begin))
    };
    let other = || frames.iter().find(|(function, _)| !of_runtime(function));
    let (_, place) = own.or_else(other)?;
    Some(
        folder
            .and_then(|folder| place.strip_prefix(folder.as_str()))
            .unwrap_or(place)
            .to_owned(),
    )
}

/// The exception that ended the call: of several that follow from each other Python prints it last.
fn of_python(stderr: &str) -> Option<String> {
    let begin = stderr.rfind(TRACEBACK)?;
    let above = stderr[..begin].rsplit('\n').next().unwrap_or_default();
    // Each line of a group of exceptions is indented and has a bar.
    let bar = if above.contains("Exception Group") { "  | " } else { "" };
    let lines = stderr[begin..].lines().skip(1);
    let lines: Vec<&str> = lines
        .take_while(|line| !line.contains(PANICKED))
        .map(|line| line.strip_prefix(bar).unwrap_or(line))
        .collect();
    let stack = lines.iter().take_while(|line| line.starts_with("  ")).count();
    let place = lines[..stack].iter().rev().find_map(|line| place_of_python(line));
    let text: Vec<&str> = match bar {
        "" => lines[stack..].to_vec(),
        // Those in the group follow.
        _ => lines[stack..].iter().copied().take(1).collect(),
    };
    let text = text.join("\n");
    // Where there was no memory left to print it with.
    let nameless = text.lines().find_map(|line| line.strip_prefix("object type name: "));
    let text = nameless.unwrap_or(&text).trim();
    (!text.is_empty()).then(|| with_place(text, place))
}

/// Of a line of the stack: `  File "/0/app.py", line 24, in order`. The folders that were made a module are numbered; Python's own
/// is called otherwise.
fn place_of_python(line: &str) -> Option<String> {
    let (file, rest) = line.trim_start().strip_prefix("File \"/")?.split_once("\", line ")?;
    let (folder, file) = file.split_once('/')?;
    let number: &str = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    folder.parse::<u32>().ok().map(|_| format!("{file}:{number}"))
}

/// `slipring.h` says where a program in C gave up; the reason is above it.
fn of_c(stderr: &str) -> Option<String> {
    let mut lines = stderr.lines().rev().filter(|line| !line.trim().is_empty());
    let last = lines.next()?;
    if last.starts_with("Assertion failed: ") {
        return Some(last.to_owned());
    }
    let place = last.strip_prefix("aborted (")?.strip_suffix(')')?;
    lines
        .next()
        .map(|text| with_place(text, Some(place.to_owned())))
        .or_else(|| Some(last.to_owned()))
}

/// What is too long for a reason is cut at its end, where the place is: so the text is cut before.
fn with_place(text: &str, place: Option<String>) -> String {
    let Some(place) = place else { return text.to_owned() };
    match text.floor_char_boundary(MAX_TEXT) {
        end if end < text.len() => format!("{}… ({place})", &text[..end]),
        _ => format!("{} ({place})", text.trim_end()),
    }
}

#[cfg(test)]
mod tests {
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

    /// Of Go 1.26.8.
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

    /// What componentize-py 0.25.1 says below each exception.
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
            "what it returned does not fit the interface: CastError { from: 7, classinfo: <class 'list'> }",
        );
        check(
            "thread '<unnamed>' (1) panicked at crates/runtime/src/call.rs:374:39:\nexpected object\nnote: run\n",
            "what it returned does not fit the interface: expected object",
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
        // Python's is at its end, above what its engine says.
        let frames = (1..=1_000).map(|number| format!("  File \"/0/app.py\", line {number}, in other"));
        let lines = [TRACEBACK.to_owned()]
            .into_iter()
            .chain(frames)
            .chain(["RecursionError: no".to_owned()]);
        let (kept, _) = taken(lines.chain(PANIC.lines().map(str::to_owned)));
        check(&kept, "RecursionError: no (app.py:1000)");
    }
}
