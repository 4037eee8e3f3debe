//! Formats a comparison for people and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::compare::Change;
use super::speed::{Pace, Took};
use super::tally::{Example, Tally};
use crate::cli::difference;
use crate::cli::palette::Palette;
use crate::cli::printable::printable;
use crate::cli::report::Source;
use crate::cli::table::align;
use crate::cli::timing::microseconds;

/// Shows the counts first, then the examples.
pub fn text(tally: &Tally, palette: &Palette) -> String {
    let mut text = match (tally.messages, tally.changed()) {
        (0, _) => "nothing was compared: there was no message\n".to_owned(),
        (all, 0) => format!("{} compared: none changed\n", messages(all)),
        (all, changed) => format!(
            "{} compared: {} the same, {changed} changed\n",
            messages(all),
            tally.same
        ),
    };
    let rows: Vec<Vec<String>> = tally
        .changed
        .iter()
        .map(|(change, count)| vec![format!("  {}", change.words()), count.to_string()])
        .collect();
    text.push_str(&align(&rows));
    if let Some(line) = speed(tally) {
        text.push_str(&format!("{line}\n"));
    }
    for (change, count) in &tally.changed {
        let examples: Vec<&Example> = tally.examples_of(*change).collect();
        if examples.is_empty() {
            continue;
        }
        text.push_str(&format!("\n{}, {} of {count}:\n", change.words(), examples.len()));
        for example in examples {
            let place = match example.source {
                Source::Line(number) => format!("line {number}"),
                Source::Sequence(number) | Source::DeadLetter(number) => format!("message {number}"),
                Source::Id(id) => format!("message {id}"),
            };
            text.push_str(&format!("  {place}, {}\n", printable(&example.subject)));
            let (old, new) = texts(example);
            text.push_str(&difference::render(&old, &new, palette));
        }
    }
    text
}

/// Returns a sentence only if one module is clearly slower than the other.
fn speed(tally: &Tally) -> Option<String> {
    let word = match tally.speed.pace() {
        Pace::Same => return None,
        Pace::Slower => "slower",
        Pace::Faster => "faster",
    };
    let (old, new) = tally.speed.took()?;
    Some(format!(
        "  {word}: {:.1?} per call instead of {:.1?} (medians), {:.1?} in total instead of {:.1?}",
        new.median, old.median, new.total, old.total
    ))
}

fn messages(count: u64) -> String {
    match count {
        1 => "1 message".to_owned(),
        _ => format!("{count} messages"),
    }
}

/// Returns both outcomes. Two of one kind are compared line by line. Of others it matters what one became, and what it was
/// takes a line.
fn texts(example: &Example) -> (String, String) {
    let Example { old, new, .. } = example;
    if old["outcome"] == new["outcome"] {
        return (pretty(old), pretty(new));
    }
    let new = match new["outcome"].as_str() {
        Some("publish") => pretty(&new["publications"]),
        _ => summary(new),
    };
    (summary(old), new)
}

/// The most channels that a summary names.
const MOST_CHANNELS: usize = 5;

/// Returns a line about an outcome.
fn summary(outcome: &Value) -> String {
    let text = |field: &str| outcome[field].as_str().unwrap_or_default();
    let line = match text("outcome") {
        "publish" => {
            let publications = outcome["publications"].as_array().into_iter().flatten();
            let channels =
                publications.flat_map(|publication| publication["channels"].as_array().into_iter().flatten());
            let channels: Vec<&str> = channels.filter_map(Value::as_str).collect();
            let mut named = channels
                .iter()
                .take(MOST_CHANNELS)
                .copied()
                .collect::<Vec<_>>()
                .join(", ");
            if channels.len() > MOST_CHANNELS {
                named.push_str(", …");
            }
            match channels.len() {
                1 => format!("published on {named}"),
                count => format!("published on {count} channels: {named}"),
            }
        }
        "reject" => format!("rejected ({}): {}", text("code"), text("reason")),
        _ => "dropped".to_owned(),
    };
    printable(&format!("{line}\n"))
}

fn pretty(outcome: &Value) -> String {
    // JSON escapes ASCII control characters but not later ones, which can also affect a terminal.
    printable(&format!("{outcome:#}\n"))
}

#[derive(Serialize)]
struct Whole<'a> {
    messages: u64,
    same: u64,
    changed: BTreeMap<Change, u64>,
    slower: bool,
    old: Side,
    new: Side,
    examples: &'a [Example],
}

/// One of the modules.
#[derive(Serialize)]
struct Side {
    #[serde(skip_serializing_if = "Option::is_none")]
    median_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_us: Option<f64>,
    memory_bytes: usize,
}

/// Includes all counts, even those that are 0.
pub fn json(tally: &Tally) -> serde_json::Result<String> {
    let took = tally.speed.took();
    let side = |took: Option<Took>, memory_bytes| Side {
        median_us: took.map(|took| microseconds(took.median)),
        total_us: took.map(|took| microseconds(took.total)),
        memory_bytes,
    };
    let count = |change: Change| (change, tally.changed.get(&change).copied().unwrap_or(0));
    serde_json::to_string_pretty(&Whole {
        messages: tally.messages,
        same: tally.same,
        changed: Change::ALL.into_iter().map(count).collect(),
        slower: tally.speed.pace() == Pace::Slower,
        old: side(took.map(|(old, _)| old), tally.old_memory),
        new: side(took.map(|(_, new)| new), tally.new_memory),
        examples: &tally.examples,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use insta::assert_snapshot;

    use super::super::tally::tests::{message, published};
    use super::*;
    use crate::message::Outcome;

    fn tally() -> Tally {
        let mut tally = Tally::new(2);
        let old = published("orders:7", r#"{"id":7,"total":900,"status":"paid"}"#);
        for (sequence, new) in (41..).zip([
            old.clone(),
            published("orders:7", r#"{"id":7,"total":950,"status":"paid"}"#),
            published("order:7", r#"{"id":7,"total":900,"status":"paid"}"#),
            Outcome::Drop,
            Outcome::Drop,
            Outcome::Drop,
        ]) {
            tally.add(Source::Sequence(sequence), &message(sequence), &old, &new);
        }
        tally
    }

    #[test]
    fn people_see_counts_and_then_what_changed() {
        assert_snapshot!(text(&tally(), &Palette::default()), @r#"
        6 messages compared: 1 the same, 5 changed
          newly dropped    3
          changed channel  1
          changed data     1

        newly dropped, 2 of 3:
          message 44, orders.44
            - published on orders:7
            + dropped
          message 45, orders.45
            - published on orders:7
            + dropped

        changed channel, 1 of 1:
          message 43, orders.43
                "publications": [
                  {
                    "channels": [
            -         "orders:7"
            +         "order:7"
                    ],
                    "data": {
                      "id": 7,

        changed data, 1 of 1:
          message 42, orders.42
                    "data": {
                      "id": 7,
                      "status": "paid",
            -         "total": 900
            +         "total": 950
                    }
                  }
                ]
        "#);
    }

    #[test]
    fn nothing_is_not_the_same() {
        assert_snapshot!(text(&Tally::new(2), &Palette::default()), @"nothing was compared: there was no message");
    }

    #[test]
    fn who_is_clearly_slower_is_told() {
        let mut tally = Tally::new(0);
        for time in 0..100 {
            tally
                .speed
                .add(Duration::from_micros(5), Duration::from_micros(12 + time % 3));
        }
        tally.messages = 100;
        tally.same = 100;
        assert_snapshot!(text(&tally, &Palette::default()), @r#"
        100 messages compared: none changed
          slower: 13.0µs per call instead of 5.0µs (medians), 1.3ms in total instead of 500.0µs
        "#);
    }

    #[test]
    fn programs_get_every_count_and_the_examples() {
        let mut tally = tally();
        tally.examples.truncate(1);
        assert_snapshot!(json(&tally).unwrap(), @r#"
        {
          "messages": 6,
          "same": 1,
          "changed": {
            "newly_trapped": 0,
            "newly_timed_out": 0,
            "newly_rejected": 0,
            "newly_dropped": 3,
            "newly_published": 0,
            "no_longer_rejected": 0,
            "rejected_otherwise": 0,
            "publications": 0,
            "channels": 1,
            "data": 1,
            "version": 0,
            "tags": 0,
            "options": 0,
            "order": 0
          },
          "slower": false,
          "old": {
            "memory_bytes": 0
          },
          "new": {
            "memory_bytes": 0
          },
          "examples": [
            {
              "change": "data",
              "sequence": 42,
              "subject": "orders.42",
              "old": {
                "outcome": "publish",
                "publications": [
                  {
                    "channels": [
                      "orders:7"
                    ],
                    "data": {
                      "id": 7,
                      "status": "paid",
                      "total": 900
                    }
                  }
                ]
              },
              "new": {
                "outcome": "publish",
                "publications": [
                  {
                    "channels": [
                      "orders:7"
                    ],
                    "data": {
                      "id": 7,
                      "status": "paid",
                      "total": 950
                    }
                  }
                ]
              }
            }
          ]
        }
        "#);
    }

    #[test]
    fn what_an_outcome_became_takes_a_line_or_its_publications() {
        use crate::message::{Publication, Rejection, Stage};
        let rejected = Outcome::Reject(Rejection {
            stage: Stage::Transform,
            code: "rejected".into(),
            channel: None,
            reason: "no such order".to_owned(),
        });
        let Outcome::Publish(mut publications) = published("a:1", "1") else {
            unreachable!()
        };
        publications[0].channels = ["a:1", "a:2", "a:3", "a:4", "a:5", "a:6"].map(Into::into).to_vec();
        publications.push(Publication::new(vec!["b:1".into()], publications[0].body.clone()));
        let many = Outcome::Publish(publications);
        let mut tally = Tally::new(5);
        tally.add(Source::Sequence(1), &message(1), &many, &rejected);
        tally.add(Source::Sequence(2), &message(2), &rejected, &published("a:1", "1"));
        assert_snapshot!(text(&tally, &Palette::default()), @r#"
        2 messages compared: 0 the same, 2 changed
          newly rejected      1
          no longer rejected  1

        newly rejected, 1 of 1:
          message 1, orders.1
            - published on 7 channels: a:1, a:2, a:3, a:4, a:5, …
            + rejected (rejected): no such order

        no longer rejected, 1 of 1:
          message 2, orders.2
            - rejected (rejected): no such order
            + [
            +   {
            +     "channels": [
            +       "a:1"
            +     ],
            +     "data": 1
            +   }
            + ]
        "#);
    }
}
