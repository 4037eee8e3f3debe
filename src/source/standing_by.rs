//! What a relay that stands by knows about the active one.

use std::fmt;

use tokio::sync::watch;

/// The most characters of a name. It comes from another process.
const LONGEST_NAME: usize = 200;

/// Who is active while this relay stands by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Active {
    /// No relay, until a message comes.
    Nobody,
    /// A relay that has not told its name, or could not.
    Unnamed,
    Named(String),
}

impl Active {
    pub(super) fn named(name: &str) -> Self {
        let printable = name.chars().map(|c| if c.is_control() { ' ' } else { c });
        let name: String = printable.take(LONGEST_NAME).collect();
        match name.trim() {
            "" => Self::Unnamed,
            name => Self::Named(name.to_owned()),
        }
    }
}

impl fmt::Display for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("no relay is active; the next message decides which one takes over"),
            Self::Unnamed => f.write_str("another relay is active"),
            Self::Named(name) => write!(f, "the active relay is {name}"),
        }
    }
}

/// Tells who is active while an epoch is being opened.
#[derive(Debug)]
pub(super) struct Teller(watch::Sender<Option<Active>>);

/// Hears of it. Once the teller is gone, there is nothing more to hear.
#[derive(Debug)]
pub(super) struct Hearer(watch::Receiver<Option<Active>>);

pub(super) fn channel() -> (Teller, Hearer) {
    let (teller, hearer) = watch::channel(None);
    (Teller(teller), Hearer(hearer))
}

impl Teller {
    /// Another relay is active, or none. Says nothing if that is known.
    pub fn stands_by(&self, active: Active) {
        self.0.send_if_modified(|known| {
            let is_new = known.as_ref() != Some(&active);
            if is_new {
                *known = Some(active);
            }
            is_new
        });
    }

    /// This relay is active. What was told and not heard is not true any more.
    pub fn is_active(&self) {
        self.0.send_replace(None);
    }
}

impl Hearer {
    /// Returns who is active when that is news. Cancel-safe.
    pub async fn next(&mut self) -> Active {
        while self.0.changed().await.is_ok() {
            let active = self.0.borrow_and_update().clone();
            if let Some(active) = active {
                return active;
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn a_name_from_another_process_is_one_short_line() {
        let named = |name: &str| Active::named(name).to_string();
        assert_eq!(named("web-1 (process 7)"), "the active relay is web-1 (process 7)");
        assert_eq!(named("a\n\u{1b}[2Jb"), "the active relay is a  [2Jb");
        assert_eq!(named(" \n"), "another relay is active");
        assert_eq!(
            named(&"字".repeat(1_000)),
            format!("the active relay is {}", "字".repeat(LONGEST_NAME))
        );
    }

    #[tokio::test]
    async fn only_what_is_new_and_still_true_is_heard() {
        let (teller, mut hearer) = channel();
        let mut hears = async || timeout(Duration::from_millis(20), hearer.next()).await.ok();
        assert_eq!(hears().await, None);
        teller.stands_by(Active::Unnamed);
        assert_eq!(hears().await, Some(Active::Unnamed));
        teller.stands_by(Active::Unnamed);
        assert_eq!(hears().await, None);
        teller.stands_by(Active::named("a"));
        teller.stands_by(Active::named("b"));
        assert_eq!(hears().await, Some(Active::named("b")));
        teller.stands_by(Active::Nobody);
        teller.is_active();
        assert_eq!(hears().await, None);
        teller.stands_by(Active::Nobody);
        drop(teller);
        assert_eq!(hears().await, Some(Active::Nobody));
        assert_eq!(hears().await, None);
    }
}
