//! Finds fields in a text and replaces their values: in JSON, in strings in it that contain JSON, plain or as base64,
//! and so on. Everything else stays byte for byte: the order of keys, each digit of a number, a duplicate key.

mod encoded;
mod json;

use base64::Engine;
use serde::de::IgnoredAny;

use self::encoded::{base64_decoded, percent_decoded, unescaped};
use self::json::{decode, decode_lossily, literal, next_element, skip_spaces, skip_value};

/// Replaces a text.
pub const PLACEHOLDER: &str = "redacted";

/// The depth limit for JSON, and for JSON within JSON. serde_json reads 128 levels.
const MAX_DEPTH: usize = 300;
/// How often the end of incomplete JSON is searched for in one text. Each attempt reads to the text's end.
const MAX_TORN: usize = 32;
/// A shorter value may occur anywhere by chance.
const MIN_SECRET: usize = 6;

/// A field that the user named.
#[derive(Debug)]
pub struct Field {
    /// The name that the user gave: the keys that lead to a value, separated by dots.
    pub path: String,
    keys: Vec<String>,
}

impl Field {
    pub fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            keys: path.split('.').map(fold).collect(),
        }
    }
}

/// Why a text cannot be searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsearchable {
    #[error("it is not JSON, or is incomplete")]
    NotJson,
    #[error("it is a single value, not an object or a list")]
    NoFields,
    #[error("it is nested too deeply")]
    TooDeep,
    #[error("it is not UTF-8")]
    Binary,
    #[error("its headers or its subject cannot be read")]
    Unreadable,
}

/// How often one field was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    pub values: usize,
    /// Counts the values that were not redacted already.
    pub told: usize,
}

/// A search through all texts of one message.
#[derive(Debug)]
pub struct Search<'f> {
    fields: &'f [Field],
    /// One entry for each field.
    pub found: Vec<Found>,
    /// The replaced values, each with the index of its field.
    pub secrets: Vec<(usize, String)>,
    /// The keys that were seen.
    pub keys: Vec<String>,
}

/// A partly matched field, whose keys from this one on must follow directly: the index of the field and of the key.
type Open = (usize, usize);

impl<'f> Search<'f> {
    pub fn new(fields: &'f [Field]) -> Self {
        Self {
            fields,
            found: vec![Found::default(); fields.len()],
            secrets: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// Searches a payload. It must consist of objects and lists, one or several with spaces between them, or of a text
    /// that contains them. Anything else could hold any of the fields.
    pub fn payload(&mut self, text: &str) -> Result<String, Unsearchable> {
        self.whole(text, 0)
    }

    /// Searches the value of a header. Its name counts as a key.
    pub fn header(&mut self, name: &str, value: &str) -> Result<String, Unsearchable> {
        let (hits, below) = self.step(name, &[]);
        if hits.is_empty() {
            Ok(self.text(value, &below, 0)?.unwrap_or_else(|| value.to_owned()))
        } else {
            let literal = literal(value);
            self.replace(&literal, &hits);
            Ok(PLACEHOLDER.to_owned())
        }
    }

    /// Searches any text.
    pub fn any(&mut self, text: &str) -> Result<(), Unsearchable> {
        self.text(text, &[], 0).map(drop)
    }

    fn whole(&mut self, text: &str, depth: usize) -> Result<String, Unsearchable> {
        let begin = text.len() - text.trim_start_matches('\u{feff}').len();
        let values = serde_json::Deserializer::from_str(&text[begin..]).into_iter::<IgnoredAny>();
        let mut edits = Edits::default();
        let mut at = begin;
        for value in values {
            value.map_err(|_| Unsearchable::NotJson)?;
            skip_spaces(text, &mut at);
            match text.as_bytes()[at] {
                b'{' | b'[' => self.walk(text, &mut at, &[], depth + 1, &mut edits)?,
                b'"' => {
                    let start = at;
                    skip_value(text, &mut at);
                    let inner = decode(&text[start..at]).ok_or(Unsearchable::NoFields)?;
                    let new = self.whole(&inner, depth + 1).map_err(|_| Unsearchable::NoFields)?;
                    if new != inner {
                        edits.push(start, at, literal(&new));
                    }
                }
                _ => return Err(Unsearchable::NoFields),
            }
        }
        Ok(edits.apply(text))
    }

    /// Searches a value at `at`, in text that is known to be JSON. Afterwards `at` is behind the value.
    fn walk(
        &mut self,
        text: &str,
        at: &mut usize,
        open: &[Open],
        depth: usize,
        edits: &mut Edits,
    ) -> Result<(), Unsearchable> {
        if depth > MAX_DEPTH {
            return Err(Unsearchable::TooDeep);
        }
        skip_spaces(text, at);
        let start = *at;
        match text.as_bytes()[start] {
            b'{' => {
                *at += 1;
                while let Some(key) = next_element(text, at, b'}') {
                    debug_assert_eq!(key, b'"');
                    let literal_at = *at;
                    skip_value(text, at);
                    let key = decode_lossily(&text[literal_at..*at]);
                    skip_spaces(text, at);
                    *at += 1;
                    skip_spaces(text, at);
                    let (hits, below) = self.step(&key, open);
                    self.keys.push(key);
                    if hits.is_empty() {
                        self.walk(text, at, &below, depth + 1, edits)?;
                    } else {
                        let value = *at;
                        skip_value(text, at);
                        edits.push(value, *at, self.replace(&text[value..*at], &hits));
                    }
                }
            }
            b'[' => {
                *at += 1;
                while next_element(text, at, b']').is_some() {
                    self.walk(text, at, open, depth + 1, edits)?;
                }
            }
            b'"' => {
                skip_value(text, at);
                if let Some(new) = self.string(&text[start..*at], open, depth)? {
                    edits.push(start, *at, literal(&new));
                }
            }
            _ => skip_value(text, at),
        }
        Ok(())
    }

    /// Returns the new form of a string if it changes.
    fn string(&mut self, json: &str, open: &[Open], depth: usize) -> Result<Option<String>, Unsearchable> {
        match decode(json) {
            Some(text) => self.text(&text, open, depth + 1),
            // Half a surrogate pair is no text, and cannot be encoded again.
            None => {
                let new = self.text(&decode_lossily(json), open, depth + 1)?;
                Ok(new.map(|_| PLACEHOLDER.to_owned()))
            }
        }
    }

    /// Returns the new form of any text if it changes: of JSON in it, or of what it encodes. If it names a field in a
    /// form that cannot be parsed, the whole text is replaced.
    fn text(&mut self, text: &str, open: &[Open], depth: usize) -> Result<Option<String>, Unsearchable> {
        if depth > MAX_DEPTH {
            return Err(Unsearchable::TooDeep);
        }
        if let Some(inner) = text.trim().strip_prefix('"').and_then(|_| decode(text.trim())) {
            let new = self.text(&inner, open, depth + 1)?;
            return Ok(new.map(|new| text.replace(text.trim(), &literal(&new))));
        }
        let (mut edits, mut rest) = (Edits::default(), String::new());
        let (mut at, mut torn) = (0, 0);
        while let Some(found) = text[at..].find(['{', '[']) {
            rest.push_str(&text[at..at + found]);
            at += found;
            let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<IgnoredAny>();
            match values.next() {
                Some(Ok(_)) => {
                    rest.push(' ');
                    self.walk(text, &mut at, open, depth + 1, &mut edits)?;
                }
                Some(Err(error)) if error.is_eof() && torn >= MAX_TORN => return Err(Unsearchable::NotJson),
                error => {
                    torn += usize::from(matches!(error, Some(Err(error)) if error.is_eof()));
                    rest.push_str(&text[at..=at]);
                    at += 1;
                }
            }
        }
        rest.push_str(&text[at..]);
        if self.is_named_in(&rest) {
            return Ok(Some(PLACEHOLDER.to_owned()));
        }
        if !edits.is_empty() {
            return Ok(Some(edits.apply(text)));
        }
        self.encoded(text, open, depth)
    }

    /// Does the same for what a text encodes as a whole.
    fn encoded(&mut self, text: &str, open: &[Open], depth: usize) -> Result<Option<String>, Unsearchable> {
        if let Some(decoded) = percent_decoded(text)
            && self.text(&decoded, open, depth + 1)?.is_some()
        {
            return Ok(Some(PLACEHOLDER.to_owned()));
        }
        // A data URL has a prefix before its data.
        let at = text.find(";base64,").map_or(0, |at| at + ";base64,".len());
        if let Some((engine, decoded)) = base64_decoded(&text[at..]) {
            let new = self.text(&decoded, open, depth + 1)?;
            return Ok(new.map(|new| format!("{}{}", &text[..at], engine.encode(new))));
        }
        // A token consists of claims and a signature, which would no longer be valid.
        if text.contains('.') {
            for part in text.split('.') {
                let Some((_, decoded)) = base64_decoded(part) else {
                    continue;
                };
                if self.text(&decoded, open, depth + 1)?.is_some() {
                    return Ok(Some(PLACEHOLDER.to_owned()));
                }
            }
        }
        Ok(None)
    }

    /// Returns true if a text that is not JSON names a field and gives it a value: `email=…`, `email: …`, `<email>…`,
    /// or `"email":…` of incomplete JSON. Counts the text as found.
    fn is_named_in(&mut self, text: &str) -> bool {
        let text = fold(&unescaped(text));
        let is_named = |field: &Field| field.keys.last().is_some_and(|key| gives_value(&text, key));
        let named: Vec<usize> = (0..self.fields.len())
            .filter(|&field| is_named(&self.fields[field]))
            .collect();
        for &field in &named {
            self.found[field].values += 1;
            self.found[field].told += 1;
        }
        !named.is_empty()
    }

    /// Returns the fields that end with this key, and those that continue below it. A key may itself contain dots.
    fn step(&self, key: &str, open: &[Open]) -> (Vec<usize>, Vec<Open>) {
        let key = fold(key);
        let (mut hits, mut below) = (Vec::new(), Vec::new());
        let fresh = (0..self.fields.len()).map(|field| (field, 0));
        for (field, from) in open.iter().copied().chain(fresh) {
            let keys = &self.fields[field].keys;
            for to in from + 1..=keys.len() {
                if keys[from..to].join(".") != key {
                    continue;
                }
                if to == keys.len() {
                    hits.push(field);
                } else {
                    below.push((field, to));
                }
            }
        }
        hits.dedup();
        (hits, below)
    }

    /// Returns the replacement for `json`. A list becomes a list of as many placeholders, so its length stays. An
    /// object becomes empty, because its keys may also be secret: `{"alice@example.org": {}}`.
    fn replace(&mut self, json: &str, fields: &[usize]) -> String {
        let (mut new, mut found) = (String::new(), Found::default());
        blank(json, &mut 0, 0, &mut new, &mut found);
        for &field in fields {
            self.found[field].values += found.values;
            self.found[field].told += found.told;
            let mut keep = |text: String| {
                if text.chars().count() >= MIN_SECRET && text != PLACEHOLDER {
                    self.secrets.push((field, text));
                }
            };
            leaves(json, &mut keep);
        }
        new
    }
}

/// The changes of a text in order.
#[derive(Debug, Default)]
struct Edits(Vec<(usize, usize, String)>);

impl Edits {
    fn push(&mut self, start: usize, end: usize, new: String) {
        self.0.push((start, end, new));
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn apply(self, text: &str) -> String {
        let (mut new, mut at) = (String::with_capacity(text.len()), 0);
        for (start, end, instead) in self.0 {
            new.push_str(&text[at..start]);
            new.push_str(&instead);
            at = end;
        }
        new + &text[at..]
    }
}

/// Maps texts that differ only in case to the same text, including `ſ` and `S`, `ß` and `SS`.
fn fold(text: &str) -> String {
    text.to_uppercase().to_lowercase()
}

/// Expects folded texts.
fn gives_value(text: &str, key: &str) -> bool {
    text.match_indices(key).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let is_whole = before.is_none_or(|c| !(c.is_alphanumeric() || "_-".contains(c)));
        let mut rest = &text[at + key.len()..];
        loop {
            let shorter = rest.trim_start_matches(|c: char| c.is_whitespace() || "\"'`\\])".contains(c));
            let shorter = shorter
                .strip_prefix("&quot;")
                .or(shorter.strip_prefix("&#34;"))
                .unwrap_or(shorter);
            if shorter.len() == rest.len() {
                break;
            }
            rest = shorter;
        }
        is_whole && (before == Some('<') || rest.starts_with([':', '=', '>']))
    })
}

/// Replaces the value in `json` at `at` with fixed values of the same types.
fn blank(json: &str, at: &mut usize, depth: usize, new: &mut String, found: &mut Found) {
    skip_spaces(json, at);
    let start = *at;
    if json.as_bytes()[start] == b'[' && depth < MAX_DEPTH {
        *at += 1;
        new.push('[');
        let mut is_empty = true;
        while next_element(json, at, b']').is_some() {
            if !std::mem::replace(&mut is_empty, false) {
                new.push(',');
            }
            blank(json, at, depth + 1, new, found);
        }
        new.push(']');
        found.values += usize::from(is_empty);
        return;
    }
    skip_value(json, at);
    let old = &json[start..*at];
    let instead = match old.as_bytes()[0] {
        b'{' => "{}".to_owned(),
        b'[' => "[]".to_owned(),
        b'"' => literal(PLACEHOLDER),
        b't' | b'f' => "false".to_owned(),
        b'n' => "null".to_owned(),
        _ => "0".to_owned(),
    };
    found.values += 1;
    let is_blank = instead == old || old.starts_with(['{', '[']) && old[1..old.len() - 1].trim().is_empty();
    found.told += usize::from(!is_blank);
    new.push_str(&instead);
}

/// Passes each text, number and key in `json` to `keep`.
fn leaves(json: &str, keep: &mut impl FnMut(String)) {
    let mut at = 0;
    while at < json.len() {
        let start = at;
        match json.as_bytes()[at] {
            b'"' => {
                skip_value(json, &mut at);
                keep(decode_lossily(&json[start..at]));
            }
            b'-' | b'0'..=b'9' => {
                skip_value(json, &mut at);
                keep(json[start..at].to_owned());
            }
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests;
