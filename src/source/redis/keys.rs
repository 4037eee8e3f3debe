//! The names of our keys in Redis. They have the hash tag of what they belong to, so that a cluster keeps all of them on
//! one node.

use crate::config::{ModuleConfig, RedisSource};

/// The keys that belong to one list, or to one group of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    /// The list or stream.
    pub(super) source: String,
    pub(super) lease: String,
    /// A hash: the incarnation, and how far everything is settled.
    pub(super) state: String,
    /// What was taken from a list.
    pub(super) taken: String,
}

impl Keys {
    pub(super) fn of(source: &RedisSource, key: &str, group: &str) -> Self {
        let base = ModuleConfig::own_keys(source, key, group);
        Self {
            source: key.to_owned(),
            lease: format!("{base}:lease"),
            state: format!("{base}:state"),
            taken: format!("{base}:taken"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::End;

    #[test]
    fn our_keys_have_the_hash_tag_of_theirs() {
        for (key, expected) in [
            ("orders", "{orders}:slipring:state"),
            ("{shop}:orders", "{shop}:orders::slipring:state"),
            ("{orders}", "{orders}::slipring:state"),
            ("a{shop}b{other}", "a{shop}b{other}::slipring:state"),
            ("{}orders", "{{}orders}:slipring:state"),
            ("orders}", "{orders}}:slipring:state"),
        ] {
            let list = RedisSource::List {
                take: End::Left,
                keep: 0,
            };
            assert_eq!(Keys::of(&list, key, "group").state, expected);
        }
    }

    #[test]
    fn a_list_has_one_reader_and_a_stream_one_for_each_group() {
        let list = RedisSource::List {
            take: End::Left,
            keep: 0,
        };
        let stream = RedisSource::Stream {
            field: "payload".to_owned(),
        };
        assert_eq!(Keys::of(&list, "a", "one"), Keys::of(&list, "a", "two"));
        let one = Keys::of(&stream, "a", "one");
        assert_ne!(one, Keys::of(&stream, "a", "two"));
        assert_eq!(one.lease, "{a}:slipring:one:lease");
    }
}
