//! Asks a person at a terminal.

use std::io::{self, IsTerminal, Write};

/// Returns true if there is somebody to ask.
pub fn can() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Returns true if the answer is yes. Without a terminal, the answer is no.
pub fn ask(question: &str, notes: &mut dyn Write) -> io::Result<bool> {
    if !can() {
        return Ok(false);
    }
    write!(notes, "{question} [y/N] ")?;
    notes.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes("y\n") && is_yes("Yes\n"));
        assert!(!is_yes("\n") && !is_yes("") && !is_yes("n\n") && !is_yes("yeah\n"));
    }
}
