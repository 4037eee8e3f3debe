//! The result of a transform: publications, or none.

use std::vec;

use crate::Publication;

/// The publications that a transform makes of a message. No publications drop the message. (To reject it, return an
/// [`Error`](crate::Error).)
///
/// Publications to the same channel keep this order. There is no order between channels. A publication without
/// channels is left out: nobody would get it.
///
/// ```
/// use slipring_sdk::{Output, Publication};
///
/// let one: Output = Publication::json_text("news:all", "1").into();
/// let two: Output = ["news:eu", "news:us"].map(|channel| Publication::json_text(channel, "1")).into();
/// let some: Output = (1..=3).map(|n| Publication::json_text(format!("row:{n}"), "1")).collect();
/// assert_eq!([one, two, some, Output::drop()].map(|output| output.publications().len()), [1, 2, 3, 0]);
///
/// let followers: Vec<String> = Vec::new();
/// assert_eq!(Output::from(Publication::json_text(followers, "1")), Output::drop());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    publications: Vec<Publication>,
}

impl Output {
    /// Returns an output without publications. The message is dropped, and acknowledged like any other.
    ///
    /// ```
    /// use slipring_sdk::Output;
    ///
    /// assert!(Output::drop().publications().is_empty());
    /// ```
    pub fn drop() -> Self {
        Self::default()
    }

    /// Returns the publications, in order. The slice is empty for a drop.
    ///
    /// ```
    /// use slipring_sdk::{Output, Publication};
    ///
    /// let output = Output::from(Publication::json_text("news:all", "1"));
    /// assert_eq!(output.publications()[0].channels, ["news:all"]);
    /// ```
    pub fn publications(&self) -> &[Publication] {
        &self.publications
    }
}

impl From<Publication> for Output {
    fn from(publication: Publication) -> Self {
        [publication].into()
    }
}

impl From<Vec<Publication>> for Output {
    fn from(mut publications: Vec<Publication>) -> Self {
        publications.retain(|publication| !publication.channels.is_empty());
        Self { publications }
    }
}

impl<const N: usize> From<[Publication; N]> for Output {
    fn from(publications: [Publication; N]) -> Self {
        Vec::from(publications).into()
    }
}

/// `None` drops the message.
impl From<Option<Publication>> for Output {
    fn from(publication: Option<Publication>) -> Self {
        publication.into_iter().collect()
    }
}

impl FromIterator<Publication> for Output {
    fn from_iter<I: IntoIterator<Item = Publication>>(publications: I) -> Self {
        publications.into_iter().collect::<Vec<_>>().into()
    }
}

impl IntoIterator for Output {
    type Item = Publication;
    type IntoIter = vec::IntoIter<Publication>;

    fn into_iter(self) -> Self::IntoIter {
        self.publications.into_iter()
    }
}
