//! `GET /api/v1/dead-letters`: the groups and the newest letters.

use axum::Json;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::super::Served;
use super::backend::within;
use super::groups::{Group, Groups};
use super::letter::Entry;
use super::page::Page;
use super::refused::Refused;
use crate::dead_letter::{Filter, ReadError, Reason};

/// How many letters a page may have, and how many it has.
const MOST: u64 = 200;
const USUAL: u64 = 50;

/// Which letters to show. All that is set must hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::admin::routes) struct Asked {
    module: Option<String>,
    stage: Option<String>,
    code: Option<String>,
    /// The whole reason.
    reason: Option<String>,
    /// Only letters with a smaller number: `next` of the page before.
    #[serde(deserialize_with = "number")]
    #[schemars(with = "Option<u64>")]
    after: Option<u64>,
    /// The most letters of the page, from 1 to 200, usually 50.
    #[serde(deserialize_with = "number")]
    #[schemars(with = "Option<u64>")]
    limit: Option<u64>,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
pub(in crate::admin::routes) struct DeadLetters {
    /// How many letters match.
    total: u64,
    /// The largest groups of them, at most 100, the largest first.
    groups: Vec<Group>,
    /// How many letters are in none of these groups.
    ungrouped: u64,
    /// One page of them, the newest first.
    letters: Vec<Entry>,
    /// Where the next page begins: `after` of its request. `null` if this is the last page.
    next: Option<u64>,
}

/// A form with an empty field sends it.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.parse().map(Some);
    number.map_err(|_| D::Error::custom(format!("{text:?} is not a whole number")))
}

impl Asked {
    fn limit(&self) -> Result<usize, Refused> {
        let limit = self.limit.unwrap_or(USUAL);
        match usize::try_from(limit) {
            Ok(small) if (1..=MOST).contains(&limit) => Ok(small),
            _ => Err(Refused::new(
                StatusCode::BAD_REQUEST,
                format!("`limit` is {limit}; it must be from 1 to {MOST}."),
            )),
        }
    }

    fn filter(self) -> Filter {
        Filter {
            module: self.module,
            stage: self.stage,
            code: self.code,
            reason: self.reason.map(Reason::Is),
            ..Filter::default()
        }
    }
}

pub(in crate::admin::routes) async fn list(
    Shared(served): Shared<Served>,
    Query(asked): Query<Asked>,
) -> Result<Json<DeadLetters>, Refused> {
    let (after, limit) = (asked.after, asked.limit()?);
    let filter = asked.filter();
    let session = served.dead_letters.open().await?;
    let Some(reader) = &session.reader else {
        return Ok(Json(DeadLetters::default()));
    };
    let _turn = served.dead_letters.scan().await?;
    let (mut total, mut groups, mut page) = (0, Groups::default(), Page::new(after, limit));
    let scan = filter.scan(reader, |letter| {
        total += 1;
        groups.add(&letter);
        page.add(letter);
        Ok::<_, ReadError>(())
    });
    within(&session, scan).await?;
    let groups = groups.largest();
    let grouped: u64 = groups.iter().map(|group| group.count).sum();
    let (letters, next) = page.finish();
    Ok(Json(DeadLetters {
        total,
        groups,
        ungrouped: total - grouped,
        letters: letters.into_iter().map(Entry::of).collect(),
        next,
    }))
}

#[cfg(test)]
mod tests {
    use axum::http::Uri;

    use super::*;

    fn asked(query: &str) -> Result<Asked, String> {
        let uri: Uri = format!("/?{query}").parse().unwrap();
        let query = Query::try_from_uri(&uri);
        query.map(|Query(asked)| asked).map_err(|refused| refused.body_text())
    }

    #[test]
    fn an_empty_number_is_none_and_an_empty_text_is_a_text() {
        let nothing = asked("after=&limit=").unwrap();
        assert_eq!((nothing.after, nothing.limit().unwrap()), (None, 50));
        assert_eq!(nothing.filter(), Filter::default());
        // A letter that no relay has stored has no reason.
        let unknown = asked("reason=").unwrap().filter();
        assert_eq!(unknown.reason, Some(Reason::Is(String::new())));
        let all = asked("module=orders&stage=publish&code=102&reason=no%20such&after=17&limit=200").unwrap();
        assert_eq!((all.after, all.limit().unwrap()), (Some(17), 200));
        let filter = Filter {
            module: Some("orders".to_owned()),
            stage: Some("publish".to_owned()),
            code: Some("102".to_owned()),
            reason: Some(Reason::Is("no such".to_owned())),
            ..Filter::default()
        };
        assert_eq!(all.filter(), filter);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (query, words) in [
            ("name=orders", "unknown field `name`"),
            ("after=x", "\"x\" is not a whole number"),
            ("limit=-1", "\"-1\" is not a whole number"),
            ("module=a&module=b", "duplicate field `module`"),
        ] {
            let text = asked(query).unwrap_err();
            assert!(text.contains(words), "{query}: {text}");
        }
        for limit in ["0", "201"] {
            let refused = asked(&format!("limit={limit}")).unwrap().limit().unwrap_err();
            assert_eq!(refused.text, format!("`limit` is {limit}; it must be from 1 to 200."));
        }
    }
}
