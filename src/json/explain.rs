//! Says why a text is not the JSON that it should be. The parser's own words name what its code expected next.

use serde_json::Error;
use serde_json::error::Category;

/// Returns a sentence without the place, for those who name it themselves.
pub fn explain(error: &Error) -> String {
    match error.classify() {
        Category::Syntax => match words(error).as_str() {
            // These two say what might have begun with the letter that is there.
            "expected ident" | "expected value" => "this is not JSON".to_owned(),
            words => format!("this is not JSON: {words}"),
        },
        Category::Eof => "this is not JSON: it ends too early".to_owned(),
        Category::Data | Category::Io => words(error),
    }
}

/// Returns the same with the place in a text of one line.
pub fn explain_line(error: &Error) -> String {
    match error.classify() {
        Category::Syntax => format!("{} (column {})", explain(error), error.column().max(1)),
        _ => explain(error),
    }
}

/// Returns the parser's words without the place.
fn words(error: &Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_and_where_is_told() {
        let told = |text: &str| explain_line(&serde_json::from_str::<Vec<u8>>(text).unwrap_err());
        assert_eq!(told("nonsense"), "this is not JSON (column 2)");
        assert_eq!(told("hello"), "this is not JSON (column 1)");
        assert_eq!(told("[1,]"), "this is not JSON: trailing comma (column 4)");
        assert_eq!(told("[1, 2"), "this is not JSON: it ends too early");
        assert_eq!(told("[300]"), "invalid value: integer `300`, expected u8");
    }
}
