//! Records the result of each publication of a message on each of its channels, so that a replay publishes only what
//! failed.
//!
//! A publication is identified by its channel and its position among the message's publications on that channel. The
//! result also applies to another version of the module if that version makes the same number of publications on the
//! channel.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Publication;

/// For each channel, whether each of the message's publications was confirmed, in order.
///
/// As JSON: `{"orders:7":"+","nowhere:7":"-+"}`. `+` is a confirmed publication, `-` a refused one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Results(BTreeMap<Arc<str>, Vec<bool>>);

/// A publication of a message that is done on all of its channels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// Increases with each publication on a channel.
    pub number: u64,
    pub channels: Vec<Arc<str>>,
    /// The channels that refused the publication.
    pub refused: Vec<Arc<str>>,
}

/// The module now makes a different number of publications on a channel, so the confirmed ones can no longer be
/// identified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub channel: Arc<str>,
    pub before: usize,
    pub confirmed: usize,
    pub now: usize,
}

impl Results {
    /// Expects all publications of a message, in the order in which they were concluded.
    pub fn of(shares: &[Share]) -> Self {
        let mut shares: Vec<&Share> = shares.iter().collect();
        shares.sort_by_key(|share| share.number);
        let mut channels: BTreeMap<Arc<str>, Vec<bool>> = BTreeMap::new();
        for share in shares {
            let refused: HashSet<&Arc<str>> = share.refused.iter().collect();
            for channel in &share.channels {
                let confirmed = !refused.contains(channel);
                channels.entry(Arc::clone(channel)).or_default().push(confirmed);
            }
        }
        Self(channels)
    }

    /// Returns true if at least one publication was confirmed on a channel.
    pub fn any_confirmed(&self) -> bool {
        self.0.values().flatten().any(|confirmed| *confirmed)
    }

    /// Returns the number of channels.
    pub fn channels(&self) -> usize {
        self.0.len()
    }

    /// Returns the channels on which at least one publication was refused.
    pub fn refused(&self) -> impl Iterator<Item = &str> {
        let refused = self.0.iter().filter(|(_, known)| known.contains(&false));
        refused.map(|(channel, _)| &**channel)
    }

    /// Returns the publications that were not confirmed yet. A channel on which all were confirmed gets none, however
    /// many the module makes now. A channel that is new, or on which none was confirmed, gets all of them.
    pub fn left<K>(&self, publications: Vec<(Publication, K)>) -> Result<Vec<(Publication, K)>, Changed> {
        self.check(&publications)?;
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        let mut left = Vec::with_capacity(publications.len());
        for (mut publication, key) in publications {
            publication.channels.retain(|channel| {
                let place = places.entry(Arc::clone(channel)).or_default();
                let confirmed = self.is_confirmed(channel, *place);
                *place += 1;
                !confirmed
            });
            if !publication.channels.is_empty() {
                left.push((publication, key));
            }
        }
        Ok(left)
    }

    /// Adds the results of a later attempt, which published what these results left open.
    #[must_use]
    pub fn and_then(mut self, later: Self) -> Self {
        for (channel, later) in later.0 {
            let known = self.0.entry(channel).or_default();
            if !known.contains(&true) {
                *known = later;
                continue;
            }
            let refused = known.iter_mut().filter(|confirmed| !**confirmed);
            for (known, later) in refused.zip(later) {
                *known = later;
            }
        }
        self
    }

    fn is_confirmed(&self, channel: &str, place: usize) -> bool {
        let Some(known) = self.0.get(channel) else {
            return false;
        };
        known.get(place).copied().unwrap_or(!known.contains(&false))
    }

    fn check<K>(&self, publications: &[(Publication, K)]) -> Result<(), Changed> {
        let in_part = |known: &Vec<bool>| known.contains(&true) && known.contains(&false);
        let mut now: HashMap<&str, usize> = HashMap::new();
        for (channel, known) in &self.0 {
            if in_part(known) {
                now.insert(channel, 0);
            }
        }
        if now.is_empty() {
            return Ok(());
        }
        for channel in publications.iter().flat_map(|(publication, _)| &publication.channels) {
            if let Some(count) = now.get_mut(&**channel) {
                *count += 1;
            }
        }
        for (channel, known) in &self.0 {
            if let Some(&now) = now.get(&**channel)
                && now > 0
                && now != known.len()
            {
                return Err(Changed {
                    channel: Arc::clone(channel),
                    before: known.len(),
                    confirmed: known.iter().filter(|confirmed| **confirmed).count(),
                    now,
                });
            }
        }
        Ok(())
    }
}

impl Serialize for Results {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let signs = |known: &Vec<bool>| -> String {
            known
                .iter()
                .map(|confirmed| if *confirmed { '+' } else { '-' })
                .collect()
        };
        serializer.collect_map(self.0.iter().map(|(channel, known)| (&**channel, signs(known))))
    }
}

impl<'de> Deserialize<'de> for Results {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let channels = BTreeMap::<String, String>::deserialize(deserializer)?;
        let known = |(channel, signs): (String, String)| {
            let known = signs.chars().map(|sign| match sign {
                '+' => Ok(true),
                '-' => Ok(false),
                other => Err(D::Error::custom(format!("{other:?} is neither `+` nor `-`"))),
            });
            Ok((channel.into(), known.collect::<Result<_, _>>()?))
        };
        channels.into_iter().map(known).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Body;

    fn results(json: &str) -> Results {
        serde_json::from_str(json).unwrap()
    }

    fn text(results: &Results) -> String {
        serde_json::to_string(results).unwrap()
    }

    fn publication(channels: &[&str]) -> Publication {
        Publication::new(
            channels.iter().map(|&channel| channel.into()).collect(),
            Body::Binary(Vec::new()),
        )
    }

    /// Returns the remaining publications, each with its index and its remaining channels.
    fn left(known: &str, channels: &[&[&str]]) -> Result<Vec<(usize, Vec<String>)>, Changed> {
        let publications = channels.iter().enumerate();
        let publications = publications.map(|(index, channels)| (publication(channels), index));
        let left = results(known).left(publications.collect())?;
        let names = |channels: &[Arc<str>]| channels.iter().map(ToString::to_string).collect();
        Ok(left
            .into_iter()
            .map(|(one, index)| (index, names(&one.channels)))
            .collect())
    }

    fn share(number: u64, channels: &[&str], refused: &[&str]) -> Share {
        let names = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
        Share {
            number,
            channels: names(channels),
            refused: names(refused),
        }
    }

    #[test]
    fn each_channel_has_its_publications_in_their_order() {
        // A broadcast may be done after a later publication on one of its channels.
        let shares = [
            share(7, &["a"], &[]),
            share(5, &["a", "b"], &["a"]),
            share(9, &["c"], &["c"]),
        ];
        assert_eq!(text(&Results::of(&shares)), r#"{"a":"-+","b":"+","c":"-"}"#);
    }

    #[test]
    fn they_say_what_was_confirmed_and_what_was_refused() {
        for (known, any_confirmed, refused) in [
            (r#"{"a":"+","b":"-","c":"-+-","d":"++"}"#, true, &["b", "c"][..]),
            (r#"{"a":"-","b":"--"}"#, false, &["a", "b"]),
            (r#"{"a":"+"}"#, true, &[]),
            ("{}", false, &[]),
        ] {
            let results = results(known);
            assert_eq!(results.any_confirmed(), any_confirmed, "{known}");
            assert_eq!(results.refused().collect::<Vec<_>>(), refused, "{known}");
            assert_eq!(results.channels(), known.matches(':').count(), "{known}");
        }
    }

    #[test]
    fn what_was_confirmed_is_left_out() {
        let known = r#"{"a":"+","b":"-","c":"-+-"}"#;
        let now: &[&[&str]] = &[&["a", "b", "c"], &["c"], &["c", "new"]];
        let expected = vec![
            (0, vec!["b".to_owned(), "c".to_owned()]),
            (2, vec!["c".to_owned(), "new".to_owned()]),
        ];
        assert_eq!(left(known, now), Ok(expected));
        assert_eq!(
            left(r#"{"a":"+"}"#, &[&["a"], &["a"]]),
            Ok(vec![]),
            "however many there are"
        );
        assert_eq!(left(known, &[&["a"]]), Ok(vec![]), "what failed is not made any more");
    }

    #[test]
    fn another_number_of_publications_cannot_be_told_apart() {
        let changed = left(r#"{"a":"+-"}"#, &[&["a"]]).unwrap_err();
        assert_eq!(
            (&*changed.channel, changed.before, changed.confirmed, changed.now),
            ("a", 2, 1, 1)
        );
        assert!(left(r#"{"a":"--"}"#, &[&["a"]]).is_ok(), "all of them failed");
    }

    #[test]
    fn later_results_fill_in_what_was_left() {
        let both = results(r#"{"a":"+","b":"-+-","c":"-"}"#).and_then(results(r#"{"b":"+-","c":"++","d":"-"}"#));
        assert_eq!(text(&both), r#"{"a":"+","b":"++-","c":"++","d":"-"}"#);
    }

    #[test]
    fn what_is_no_sign_is_refused() {
        assert!(serde_json::from_str::<Results>(r#"{"a":"?"}"#).is_err());
    }

    proptest! {
        /// However often the publications are retried and whichever are refused, each is confirmed exactly once on each
        /// channel.
        #[test]
        fn nothing_is_confirmed_twice(
            made in prop::collection::vec(prop::collection::btree_set(0_u8..4, 1..4), 1..6),
            refusals in prop::collection::vec(any::<u32>(), 1..5),
        ) {
            let names = ["a", "b", "c", "d"];
            let made: Vec<(Publication, usize)> = made
                .iter()
                .map(|channels| channels.iter().map(|&channel| names[usize::from(channel)]).collect::<Vec<_>>())
                .map(|channels| publication(&channels))
                .enumerate()
                .map(|(index, publication)| (publication, index))
                .collect();
            let mut confirmed = HashSet::new();
            let mut known = Results::default();
            // No channel refuses the last attempt.
            for refusals in refusals.into_iter().chain([0]) {
                let left = known.left(made.clone()).unwrap();
                let mut shares = Vec::new();
                for (publication, index) in left {
                    let is_refused = |place: usize| refusals >> ((index * 5 + place) % 32) & 1 == 1;
                    let channels = publication.channels.iter().enumerate();
                    let refused: Vec<_> = channels.filter(|(place, _)| is_refused(*place)).map(|(_, one)| one.clone()).collect();
                    for channel in publication.channels.iter().filter(|channel| !refused.contains(channel)) {
                        prop_assert!(confirmed.insert((index, channel.clone())), "{} twice on {}", index, channel);
                    }
                    shares.push(Share { number: index as u64, channels: publication.channels, refused });
                }
                // The order of the conclusions must not matter.
                shares.reverse();
                known = known.and_then(Results::of(&shares));
                prop_assert_eq!(&results(&text(&known)), &known);
            }
            let all = made.iter().map(|(publication, _)| publication.channels.len()).sum::<usize>();
            prop_assert_eq!(confirmed.len(), all);
        }
    }
}
