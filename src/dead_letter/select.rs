//! Selects dead letters: by number, or by what they have in common.

use std::collections::HashSet;

use jiff::Timestamp;
use tokio::task::coop::consume_budget;

use super::letter::Letter;
use super::read::{ReadError, Reader};

/// What dead letters have in common. All that is set must hold, so the default matches every letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub module: Option<String>,
    pub stage: Option<String>,
    pub code: Option<String>,
    pub reason: Option<Reason>,
    /// The letter was stored at this time or later.
    pub since: Option<Timestamp>,
    /// The letter was stored before this time.
    pub until: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    Is(String),
    Contains(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    Numbers(Vec<u64>),
    Matching(Filter),
}

/// Further results of a scan for the chosen letters.
#[derive(Debug)]
pub struct Found {
    /// Numbers that the user named and that do not exist.
    pub absent: Vec<u64>,
    /// Numbers of letters that were replaced by others.
    pub replaced: HashSet<u64>,
}

impl Filter {
    pub fn matches(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        is(&self.module, &letter.module)
            && is(&self.stage, &letter.stage)
            && is(&self.code, &letter.code)
            && self.reason.as_ref().is_none_or(|reason| reason.matches(&letter.reason))
            && self.since.is_none_or(|since| letter.stored >= since)
            && self.until.is_none_or(|until| letter.stored < until)
    }

    /// Passes the matching letters to `each` in the order in which they were stored. Returns the numbers of the letters
    /// that were replaced by others.
    pub async fn scan<E: From<ReadError>>(
        &self,
        reader: &Reader,
        mut each: impl FnMut(Letter) -> Result<(), E>,
    ) -> Result<HashSet<u64>, E> {
        let mut scan = reader
            .scan(self.module.as_deref().filter(|module| is_token(module)))
            .await?;
        let mut replaced = HashSet::new();
        while let Some(letter) = scan.next().await? {
            replaced.extend(&letter.replaces);
            if self.matches(&letter) {
                each(letter)?;
            }
            // Many letters may have arrived already, and other tasks share the thread.
            consume_budget().await;
        }
        Ok(replaced)
    }
}

impl Reason {
    fn matches(&self, reason: &str) -> bool {
        match self {
            Self::Is(wanted) => wanted == reason,
            Self::Contains(text) => reason.contains(text),
        }
    }
}

impl Selection {
    /// Passes the chosen letters to `each`.
    pub async fn scan<E: From<ReadError>>(
        &self,
        reader: &Reader,
        mut each: impl FnMut(Letter) -> Result<(), E>,
    ) -> Result<Found, E> {
        let numbers = match self {
            Self::Numbers(numbers) => numbers,
            Self::Matching(filter) => {
                let replaced = filter.scan(reader, each).await?;
                let absent = Vec::new();
                return Ok(Found { absent, replaced });
            }
        };
        let (mut absent, mut replaced) = (Vec::new(), HashSet::new());
        let mut numbers = numbers.clone();
        numbers.sort_unstable();
        numbers.dedup();
        let mut last = None;
        for number in numbers {
            match reader.find(number).await? {
                // The user named two parts of one letter.
                Some(letter) if last == Some(letter.number()) => {}
                Some(letter) => {
                    last = Some(letter.number());
                    replaced.extend(&letter.replaces);
                    each(letter)?;
                }
                None => absent.push(number),
            }
        }
        Ok(Found { absent, replaced })
    }
}

/// Returns true if the server can look for letters of this module alone. Anybody may store a letter under another name,
/// which would be a wildcard in a request, or none of NATS' subjects.
fn is_token(module: &str) -> bool {
    let is_plain =
        |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '*' | '>' | char::REPLACEMENT_CHARACTER);
    module.chars().all(is_plain) && module.split('.').all(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_text_or_contains_it() {
        let mut letter = Letter::sample(17, "orders");
        letter.reason = "no such customer".to_owned();
        let matches = |reason| {
            let filter = Filter {
                reason: Some(reason),
                ..Filter::default()
            };
            filter.matches(&letter)
        };
        assert!(matches(Reason::Is("no such customer".to_owned())));
        assert!(!matches(Reason::Is("no such".to_owned())));
        assert!(matches(Reason::Contains("no such".to_owned())));
        assert!(!matches(Reason::Contains("such no".to_owned())));
    }

    #[test]
    fn a_name_that_means_something_else_in_a_subject_is_not_sent_to_the_server() {
        for name in ["orders", "a.b", "bestellungen-ä"] {
            assert!(is_token(name), "{name}");
        }
        for name in ["", "*", "a.*", ">", "a b", "a..b", ".a", "a\r\nPUB", "\u{fffd}"] {
            assert!(!is_token(name), "{name:?}");
        }
    }
}
