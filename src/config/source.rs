//! Parses what a module reads: the table `[source]`, or the keys of a JetStream stream without it.

use toml::Spanned;
use toml::de::DeValue;

use super::hints::nearest;
use super::pipeline::{Deliver, End, RedisSource, Source};
use super::problem::Place;
use super::section::{Section, Taken};
use super::subject::{self, covers};
use super::value::{Parsed, Wrong, as_usize, integer, number, one_of, quote, text};

/// What a module reads, and by which reader.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) source: Source,
    pub(super) stream: String,
    pub(super) subjects: Vec<String>,
    pub(super) deliver: Deliver,
    pub(super) consumer: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    JetStream,
    RedisList,
    RedisStream,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::JetStream => "jetstream",
            Self::RedisList => "redis-list",
            Self::RedisStream => "redis-stream",
        }
    }

    /// Returns true if this key of JetStream is one of Redis, too.
    fn has(self, key: &str) -> bool {
        key == "deliver" && self != Self::RedisList
    }
}

const KINDS: [(&str, Kind); 3] = [
    ("jetstream", Kind::JetStream),
    ("redis-list", Kind::RedisList),
    ("redis-stream", Kind::RedisStream),
];

const ENDS: [(&str, End); 2] = [("left", End::Left), ("right", End::Right)];

/// How many settled messages of a list are kept.
const KEEP: usize = 1_000;

/// The field of a stream's entry that is the payload.
pub(super) const FIELD: &str = "payload";

const KEYS: [&str; 4] = ["stream", "subjects", "deliver", "consumer"];
const KEYS_OF_REDIS: [&str; 5] = ["key", "group", "take", "keep", "field"];

/// What the table has beside what was read.
pub(super) struct Rest<'d> {
    section: Section<'d>,
    kind: Kind,
}

impl Rest<'_> {
    /// Reports it. `root` knows all of its own keys by now.
    pub(super) fn finish(self, root: &Section<'_>) {
        self.section.finish_of(self.kind.word(), root);
    }
}

pub(super) fn read<'d>(root: &mut Section<'d>) -> (Read, Rest<'d>) {
    let is_table = root.is_set("source");
    let mut section = root.section("source");
    let is_named = section.is_set("kind");
    let kind = section.take_placed("kind", one_of(&KINDS));
    if is_table && !is_named {
        let words: Vec<String> = KINDS.iter().map(|(word, _)| format!("{word:?}")).collect();
        let message = format!("`source.kind` is missing; it must be {}", words.join(" or "));
        section.remark(section.file(), "kind", message);
    }
    if let Some(Taken { value, place }) = &kind
        && *value != Kind::JetStream
        && !cfg!(feature = "redis")
    {
        let message = "this slipring was built without Redis; build it with the cargo feature `redis`".to_owned();
        section.remark(place.clone(), "kind", message);
    }
    let is_known = kind.is_some();
    let kind = kind.map_or(Kind::JetStream, |kind| kind.value);
    let read = match is_table {
        false => of_jetstream(root),
        true if !is_known => {
            // Which keys it may have is unknown.
            for key in KEYS.into_iter().chain(KEYS_OF_REDIS) {
                section.take_table(key);
            }
            Read {
                source: Source::JetStream,
                stream: String::new(),
                subjects: Vec::new(),
                deliver: Deliver::New,
                consumer: None,
            }
        }
        true => {
            for key in KEYS.into_iter().chain(KEYS_OF_REDIS) {
                let message = match kind {
                    Kind::RedisList | Kind::RedisStream if KEYS.contains(&key) && !kind.has(key) => {
                        format!("`{key}` is for JetStream; remove it, or set `source.kind = \"jetstream\"`")
                    }
                    _ => format!("`{key}` is above the table `[source]`; move it below `[source]`, into the table"),
                };
                root.refuse(key, message);
            }
            of_table(&mut section, kind)
        }
    };
    // So that the keys of all kinds are known.
    for key in KEYS {
        root.knows(key);
        section.knows(key);
    }
    for key in KEYS_OF_REDIS {
        section.knows(key);
    }
    (read, Rest { section, kind })
}

fn of_jetstream(section: &mut Section<'_>) -> Read {
    let stream = section.take_required("stream", subject::name, "the name of a JetStream stream");
    Read {
        source: Source::JetStream,
        stream: stream.unwrap_or_default(),
        subjects: subjects(section),
        deliver: section.take("deliver", deliver).unwrap_or(Deliver::New),
        consumer: section.take("consumer", subject::name),
    }
}

fn of_table(section: &mut Section<'_>, kind: Kind) -> Read {
    if kind == Kind::JetStream {
        return of_jetstream(section);
    }
    let right = match kind {
        Kind::RedisStream => "the key of a stream in Redis",
        _ => "the key of a list in Redis",
    };
    let key = section.take_required("key", name, right).unwrap_or_default();
    let (source, deliver, consumer) = match kind {
        Kind::RedisStream => {
            let field = section.take("field", text).unwrap_or_else(|| FIELD.to_owned());
            let deliver = section.take("deliver", deliver_of_ids).unwrap_or(Deliver::New);
            let group = section.take("group", name);
            (RedisSource::Stream { field }, deliver, group)
        }
        _ => {
            let take = section.take("take", one_of(&ENDS)).unwrap_or(End::Left);
            let keep = section.take("keep", number(0..=100_000)).map_or(KEEP, as_usize);
            (RedisSource::List { take, keep }, Deliver::All, None)
        }
    };
    Read {
        source: Source::Redis(source),
        stream: key,
        subjects: Vec::new(),
        deliver,
        consumer,
    }
}

/// A key becomes the subject and the stream of its messages. It and the name of a group are part of log lines.
fn name(value: &DeValue<'_>) -> Parsed<String> {
    let key = text(value)?;
    if key.len() > 1_024 || key.contains(char::is_control) {
        return Err(Wrong::new("at most 1,024 bytes without control characters").found_value(value));
    }
    Ok(key)
}

/// Reads the subjects to filter by. NATS refuses a consumer if one filter covers another.
fn subjects(section: &mut Section<'_>) -> Vec<String> {
    let subjects = section
        .take_list("subjects", subject::filter)
        .map(|taken| taken.value)
        .unwrap_or_default();
    for (index, Taken { value: inner, place }) in subjects.iter().enumerate() {
        let mut others = subjects.iter().enumerate().filter(|(other, _)| *other != index);
        // If two are equal, the second one is redundant.
        let outer =
            others.find(|(other, outer)| covers(&outer.value, inner) && (outer.value != *inner || *other < index));
        if let Some((_, outer)) = outer {
            let message = format!(
                "the subject {inner:?} is covered by {:?}; remove one of them",
                outer.value
            );
            let place: Place = place.clone();
            section.remark(place, "subjects", message);
        }
    }
    subjects.into_iter().map(|taken| taken.value).collect()
}

fn deliver(value: &DeValue<'_>) -> Parsed<Deliver> {
    let sequence = |table: &Spanned<DeValue<'_>>| {
        let number = integer(table.get_ref()).and_then(|number| u64::try_from(number).ok())?;
        (number > 0).then_some(Deliver::Sequence(number))
    };
    begin(value, "sequence", sequence).ok_or_else(|| {
        let right = "\"new\", \"all\", { sequence = 42 } or { since = \"2026-11-01T00:00:00Z\" }";
        wrong_begin(value, &["sequence", "since"]).unwrap_or_else(|| Wrong::new(right).found_value(value))
    })
}

fn deliver_of_ids(value: &DeValue<'_>) -> Parsed<Deliver> {
    begin(value, "since", |_| None).ok_or_else(|| {
        let wrong = Wrong::new("\"new\", \"all\" or { since = \"2026-11-01T00:00:00Z\" }");
        match value {
            DeValue::Table(table) if table.contains_key("sequence") => {
                wrong.found("{ sequence = … }, which only JetStream has".to_owned())
            }
            _ => wrong_begin(value, &["since"]).unwrap_or_else(|| wrong.found_value(value)),
        }
    })
}

/// Says what is wrong in a table that may have one of these keys. `None` for anything but a table with one key.
fn wrong_begin(value: &DeValue<'_>, keys: &[&'static str]) -> Option<Wrong> {
    let DeValue::Table(table) = value else { return None };
    let mut entries = table.iter();
    let (Some((key, value)), None) = (entries.next(), entries.next()) else {
        return None;
    };
    let (key, value) = (key.get_ref().as_ref(), value.get_ref());
    Some(match (key, value) {
        ("sequence", _) => {
            let wrong = Wrong::new("a whole number from 1").found_value(value);
            Wrong::told(wrong.sentence("{key}.sequence"))
        }
        ("since", DeValue::Datetime(_) | DeValue::String(_)) => {
            let written = match value {
                DeValue::String(text) => text.to_string(),
                DeValue::Datetime(time) => time.to_string(),
                _ => return None,
            };
            let meant = [format!("{written}T00:00:00Z"), format!("{written}Z")];
            let meant = meant.into_iter().find(|meant| meant.parse::<jiff::Timestamp>().is_ok());
            let wrong = Wrong::new("a time with its zone, such as \"2026-11-01T00:00:00Z\"").found_value(value);
            Wrong::told(wrong.meant(meant.map(quote)).sentence("{key}.since"))
        }
        ("since", _) => {
            let wrong = Wrong::new("a time such as \"2026-11-01T00:00:00Z\"").found_value(value);
            Wrong::told(wrong.sentence("{key}.since"))
        }
        (other, _) => {
            let hint = match nearest(other, keys) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("`{{key}}` can have only `{}`", keys.join("` or `")),
            };
            Wrong::told(format!("there is no key `{{key}}.{other}`; {hint}"))
        }
    })
}

fn begin(value: &DeValue<'_>, own: &str, parse: impl Fn(&Spanned<DeValue<'_>>) -> Option<Deliver>) -> Option<Deliver> {
    match value {
        DeValue::String(word) if word == "new" => Some(Deliver::New),
        DeValue::String(word) if word == "all" => Some(Deliver::All),
        DeValue::Table(table) if table.len() == 1 => {
            let since = table.get("since").map(Spanned::get_ref);
            let since = since.and_then(|since| match since {
                DeValue::Datetime(time) => time.to_string().parse().ok(),
                other => other.as_str()?.parse().ok(),
            });
            table.get(own).and_then(parse).or(since.map(Deliver::Since))
        }
        _ => None,
    }
}
