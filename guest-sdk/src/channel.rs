//! The channels that a publication goes to.

use std::fmt::{self, Display};

use crate::{Result, ensure};

/// A channel whose name has a form that Centrifugo knows. Use it wherever a name goes. Other channels are plain
/// strings: `format!("orders:{id}")`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel(String);

impl Channel {
    /// Returns a channel that only one user may subscribe to: `feed:#42` for the namespace `feed` and the user `42`. A
    /// namespace with a name, `feed:orders`, gives `feed:orders#42`. With `allow_user_limited_channels` in the
    /// namespace, Centrifugo lets in the user whose ID follows the `#`, without a token for the subscription.
    ///
    /// ```
    /// use slipring_sdk::{Channel, Channels, Publication, Result};
    ///
    /// assert_eq!(Publication::json_text(Channel::user("feed", 42)?, "{}").channels, ["feed:#42"]);
    /// assert_eq!(Channel::user("feed:orders", "ada")?.to_string(), "feed:orders#ada");
    ///
    /// let followers = [17, 23];
    /// let channels: Channels = followers.iter().map(|user| Channel::user("feed", user)).collect::<Result<_>>()?;
    /// assert_eq!(Publication::json_text(channels, "{}").channels, ["feed:#17", "feed:#23"]);
    /// # Ok::<(), slipring_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the user's ID is empty or contains `#` or `,`, since `feed:#42,17` also lets in the user 17. If the first
    /// part is empty or contains a `#`.
    ///
    /// ```
    /// use slipring_sdk::Channel;
    ///
    /// let error = Channel::user("feed", "42,17").unwrap_err().to_string();
    /// assert_eq!(error, "\"42,17\" cannot be the user of a channel: `,` and `#` separate users in its name");
    /// ```
    pub fn user(namespace: &str, user: impl Display) -> Result<Self> {
        ensure!(
            !namespace.is_empty() && !namespace.contains('#'),
            "{namespace:?} cannot be the namespace of a user's channel: it is empty or contains `#`"
        );
        let user = user.to_string();
        ensure!(!user.is_empty(), "the user of a channel in {namespace:?} is empty");
        ensure!(
            !user.contains(['#', ',']),
            "{user:?} cannot be the user of a channel: `,` and `#` separate users in its name"
        );
        let separator = if namespace.contains(':') { "" } else { ":" };
        Ok(Self(format!("{namespace}{separator}#{user}")))
    }
}

impl Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Channel> for String {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

/// The channels of a [`Publication`](crate::Publication). Convert a string, or an array or `Vec` of strings, or collect
/// them from an iterator:
///
/// ```
/// use slipring_sdk::{Channels, Publication};
///
/// let users = [17, 23];
/// let channels: Channels = users.iter().map(|user| format!("notifications:user-{user}")).collect();
/// let publication = Publication::json_text(channels, "{}");
/// assert_eq!(publication.channels, ["notifications:user-17", "notifications:user-23"]);
/// assert_eq!(Publication::json_text(["a", "b"], "{}").channels, ["a", "b"]);
/// assert_eq!(Publication::json_text("a", "{}").channels, ["a"]);
/// ```
///
/// They may be empty. Then nobody gets the publication, and an [`Output`](crate::Output) leaves it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channels(Vec<String>);

impl Channels {
    pub(crate) fn into_names(self) -> Vec<String> {
        self.0
    }
}

impl From<Channel> for Channels {
    fn from(channel: Channel) -> Self {
        Self(vec![channel.0])
    }
}

impl From<&str> for Channels {
    fn from(channel: &str) -> Self {
        Self(vec![channel.to_owned()])
    }
}

impl From<String> for Channels {
    fn from(channel: String) -> Self {
        Self(vec![channel])
    }
}

impl From<&String> for Channels {
    fn from(channel: &String) -> Self {
        Self(vec![channel.clone()])
    }
}

impl<T: Into<String>> From<Vec<T>> for Channels {
    fn from(channels: Vec<T>) -> Self {
        channels.into_iter().collect()
    }
}

impl<T: Into<String>, const N: usize> From<[T; N]> for Channels {
    fn from(channels: [T; N]) -> Self {
        channels.into_iter().collect()
    }
}

impl<T: Into<String>> FromIterator<T> for Channels {
    fn from_iter<I: IntoIterator<Item = T>>(channels: I) -> Self {
        Self(channels.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_is_let_into_a_user_s_channel() {
        for (namespace, user) in [
            ("", "42"),
            ("feed#7", "42"),
            ("feed", ""),
            ("feed", "42,17"),
            ("feed", "42#17"),
        ] {
            assert!(Channel::user(namespace, user).is_err(), "{namespace:?} {user:?}");
        }
    }
}
