//! What to type next, in lines that work as they are.

use std::path::Path;

use super::super::config_file::UP_FOLDER;
use super::found::{Example, Found};

/// The longest line that is easy to read and to change.
const LONGEST: usize = 160;

/// Returns lines to type in another terminal, in the same folder.
pub fn lines(modules: &[Found]) -> Vec<String> {
    let mut lines = Vec::new();
    let with_example = modules.iter().filter(|module| module.reads_nats());
    lines.extend(
        with_example
            .filter_map(|module| module.example.as_ref())
            .next()
            .map(publish),
    );
    // Of several, one is an example for all.
    let example = match modules {
        [only] => Some(only),
        several => several.iter().find(|module| module.is_built_here),
    };
    if let Some(module) = example {
        let place = place(module);
        lines.push(format!("slipring dev --live{place}"));
        lines.push(format!("slipring deploy{place}"));
    }
    lines
}

/// Returns what to do about a dead letter of the module with this name.
pub fn fix(modules: &[Found], name: &str, number: u64) -> String {
    let built_here = modules
        .iter()
        .find(|module| module.name == name && module.is_built_here);
    match built_here {
        Some(module) => format!("slipring fix {number}{}", place(module)),
        None => format!("slipring dead-letters show {number}"),
    }
}

/// Returns the argument that names the module, unless the working directory does.
fn place(module: &Found) -> String {
    match module.place == Path::new(".") {
        true => String::new(),
        false => format!(" {}", quoted(&module.place.display().to_string())),
    }
}

fn publish(example: &Example) -> String {
    let text = str::from_utf8(&example.payload).ok();
    let shown = text.filter(|text| !text.contains(char::is_control));
    let line = shown.map(|text| format!("slipring publish {} {}", quoted(&example.subject), quoted(text)));
    let whole = line.filter(|line| !example.has_headers && line.len() <= LONGEST);
    match (whole, &example.case) {
        (Some(line), _) => line,
        (None, Some(case)) => {
            let stem = case.file_stem().unwrap_or_default().to_string_lossy();
            let is_here = case.parent() == Some(Path::new("cases"));
            let name = if is_here {
                stem.into_owned()
            } else {
                case.display().to_string()
            };
            format!("slipring publish --case {}", quoted(&name))
        }
        (None, None) => format!("slipring publish {} DATA", quoted(&example.subject)),
    }
}

/// Returns where the data is, and how to go on.
pub fn farewell() -> String {
    format!("The data is in {UP_FOLDER}: `slipring up` continues with it, and `rm -r {UP_FOLDER}` deletes it.")
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(payload: &str, case: Option<&str>) -> Example {
        Example {
            subject: "shop.7".to_owned(),
            payload: payload.into(),
            has_headers: false,
            case: case.map(Into::into),
        }
    }

    #[test]
    fn a_short_message_is_written_out_and_a_long_one_is_named() {
        assert_eq!(
            publish(&example(r#"{"id":7,"note":"it's"}"#, Some("cases/paid.json"))),
            r#"slipring publish shop.7 '{"id":7,"note":"it'\''s"}'"#
        );
        let long = "x".repeat(200);
        assert_eq!(
            publish(&example(&long, Some("cases/paid.json"))),
            "slipring publish --case paid"
        );
        assert_eq!(
            publish(&example("two\nlines", Some("shop/cases/not paid.json"))),
            "slipring publish --case 'shop/cases/not paid.json'"
        );
        assert_eq!(publish(&example(&long, None)), "slipring publish shop.7 DATA");
        let with_headers = Example {
            has_headers: true,
            ..example("{}", Some("cases/paid.json"))
        };
        assert_eq!(publish(&with_headers), "slipring publish --case paid");
    }
}
