//! Finds the reason in the output of a guest that failed. Each language reports the error and its place in its own
//! form. The texts in the tests are what the runtimes print.

/// The start of a panic's text in Rust's standard library.
const PANICKED: &str = "panicked at ";
/// The start of a panic's text, and of an unrecoverable error's, in Go's runtime.
const OF_GO: [&str; 2] = ["panic: ", "fatal error: "];
/// The start of an exception's stack in Python.
const TRACEBACK: &str = "Traceback (most recent call last):";

/// How many bytes are kept of the newest lines, and from the last line that starts a failure report. The stack below
/// that line may be longer than both.
const MAX_NEWEST: usize = 8 * 1024;
const MAX_REPORT: usize = 4 * 1024;
/// The most bytes of a text with a place after it. A reason has room for both.
const MAX_TEXT: usize = 700;

/// The output of a guest in a call that produced no result.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    /// The panic text that a core module passed to the host, because it has no standard error.
    pub panic: Option<String>,
    pub stderr: String,
    pub memory_denied: bool,
}

impl LastWords {
    /// Returns the error and its place, if the guest's language has a form for it.
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

    /// Returns the last line that carries information.
    pub fn last_line(&self) -> Option<&str> {
        let says = |line: &&str| !line.trim().is_empty() && !line.starts_with("note: ");
        self.stderr.lines().rev().find(says)
    }
}

/// The lines of one call's standard error, limited in size.
#[derive(Debug, Default)]
pub(super) struct Lines {
    newest: String,
    /// How many bytes came before `newest`.
    gone: usize,
    report: Option<Report>,
}

#[derive(Debug)]
struct Report {
    /// How many bytes came before it.
    at: usize,
    text: String,
}

impl Lines {
    pub fn push(&mut self, line: &str) {
        if begins_report(line, self.report.is_some()) {
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

    /// Returns the text and leaves nothing for the next call.
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

    /// Forgets only whole lines.
    fn forget(&mut self) {
        if self.newest.len() > MAX_NEWEST {
            let cut = self.newest.floor_char_boundary(self.newest.len() - MAX_NEWEST);
            let cut = self.newest[cut..].find('\n').map_or(cut, |end| cut + end + 1);
            self.newest.drain(..cut);
            self.gone += cut;
        }
    }
}

/// Rust's runtime prints its text once, or below an exception of Python's.
fn begins_report(line: &str, has_begun: bool) -> bool {
    let begins = OF_GO.iter().any(|begin| line.starts_with(begin)) || line.ends_with(TRACEBACK);
    begins || line.contains(PANICKED) && !has_begun
}

/// Returns where the report of a failure begins among lines, which have their places.
pub(super) fn report_begins<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Option<usize> {
    let mut begun = None;
    for (at, line) in lines {
        if begins_report(line, begun.is_some()) {
            begun = Some(at);
        }
    }
    begun
}

fn append(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Returns a panic of Rust's standard library, without the advice below it.
fn of_rust(stderr: &str) -> Option<&str> {
    let begin = stderr.find(PANICKED)?;
    let text = &stderr[begin..];
    let end = ["\nnote: ", "\nstack backtrace:"]
        .iter()
        .filter_map(|end| text.find(end))
        .min();
    Some(end.map_or(text, |end| &text[..end]))
}

/// The engines of Python and JavaScript are written in Rust and panic when a module fails. The panic seldom explains
/// the failure: an exception of Python's is above it. Any other panic is about the value that the module returned.
fn of_engine(panic: &str) -> Option<String> {
    let (place, text) = panic.strip_prefix(PANICKED)?.split_once('\n')?;
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    let of_python = place.starts_with("runtime/src/") && says(&["Python function", "<class ", "PyErr {"]);
    let of_quickjs = place.starts_with("crates/runtime/src/") && says(&["expected ", "FromJs {"]);
    let text = text
        .strip_prefix("called `Result::unwrap()` on an `Err` value: ")
        .unwrap_or(text);
    (of_python || of_quickjs).then(|| format!("the returned value does not fit the interface: {text}"))
}

/// Returns the last panic or unrecoverable error. The stack of the goroutine is below it.
fn of_go(stderr: &str) -> Option<String> {
    let lines: Vec<&str> = stderr.lines().collect();
    let stack = lines
        .iter()
        .rposition(|line| line.starts_with("goroutine ") && line.ends_with("]:"));
    let above = &lines[..stack.unwrap_or(lines.len())];
    let begin = above
        .iter()
        .rposition(|line| OF_GO.iter().any(|begin| line.starts_with(begin)))?;
    // In a text of several lines, all lines after the first are indented.
    let text = above[begin..]
        .iter()
        .take_while(|line| !line.is_empty() && !line.starts_with("[signal "));
    let text: Vec<&str> = text.copied().collect();
    let first = lines.iter().skip(begin).position(|line| line.starts_with("goroutine "));
    let place = first.and_then(|first| place_of_go(&lines[begin + first + 1..]));
    Some(with_place(&text.join("\n"), place))
}

/// Returns the innermost function of the module's own packages, whose folder is that of `main`, or else the innermost
/// one outside the runtime. Each function is on a line of its own, and its place is on the next line after a tab.
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

/// Returns the exception that ended the call. Of several chained exceptions, Python prints it last.
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
        // The exceptions of the group follow.
        _ => lines[stack..].iter().copied().take(1).collect(),
    };
    let text = text.join("\n");
    // There was no memory left to print the exception with.
    let nameless = text.lines().find_map(|line| line.strip_prefix("object type name: "));
    let text = nameless.unwrap_or(&text).trim();
    (!text.is_empty()).then(|| with_place(text, place))
}

/// Parses a line of the stack: `  File "/0/app.py", line 24, in order`. The folders that were built into the module
/// have numbers; Python's own folder has a name.
fn place_of_python(line: &str) -> Option<String> {
    let (file, rest) = line.trim_start().strip_prefix("File \"/")?.split_once("\", line ")?;
    let (folder, file) = file.split_once('/')?;
    let number: &str = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    folder.parse::<u32>().ok().map(|_| format!("{file}:{number}"))
}

/// `slipring.h` prints where a C program gave up. The reason is above it.
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

/// A reason that is too long is cut at its end, where the place is. So the text is cut before that.
fn with_place(text: &str, place: Option<String>) -> String {
    let Some(place) = place else { return text.to_owned() };
    match text.floor_char_boundary(MAX_TEXT) {
        end if end < text.len() => format!("{}… ({place})", &text[..end]),
        _ => format!("{} ({place})", text.trim_end()),
    }
}

#[cfg(test)]
mod tests;
