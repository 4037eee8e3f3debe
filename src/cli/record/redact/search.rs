//! Finds fields in a text, and replaces what they hold: in JSON, in the texts in it that are JSON again, plain or as base64, and so
//! on. What is not replaced stays letter by letter: the order of keys, each digit of a number, a key that is there twice.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::IgnoredAny;

/// What stands where a text was.
pub const PLACEHOLDER: &str = "redacted";

/// Of JSON, and of JSON within JSON. serde_json reads 128.
const MAX_DEPTH: usize = 300;
/// Attempts to find the end of JSON that has none, in one text: each reads to the text's end.
const MAX_TORN: usize = 32;
/// A shorter value may stand anywhere by chance.
const MIN_SECRET: usize = 6;

/// A field that somebody named.
#[derive(Debug)]
pub struct Field {
    /// As it was named: the keys that lead to a value, with dots between them.
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
    #[error("it is not JSON, or not whole")]
    NotJson,
    #[error("it is a single value, no object or list")]
    NoFields,
    #[error("it is nested too deep")]
    TooDeep,
    #[error("it is not UTF-8")]
    Binary,
    #[error("its headers or its subject cannot be read")]
    Unreadable,
}

/// What was found of one field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    pub values: usize,
    /// Those that were not redacted already.
    pub told: usize,
}

/// One search, through all that belongs to one message.
#[derive(Debug)]
pub struct Search<'f> {
    fields: &'f [Field],
    /// One for each field.
    pub found: Vec<Found>,
    /// What was replaced, each with the index of its field.
    pub secrets: Vec<(usize, String)>,
    /// The keys that were seen.
    pub keys: Vec<String>,
}

/// The keys of a field from this one on must follow at once: the index of the field, and of the key.
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

    /// A payload, which must be objects and lists: one, or several with spaces between them, or a text that holds such. Anything
    /// else could hold any of the fields.
    pub fn payload(&mut self, text: &str) -> Result<String, Unsearchable> {
        self.whole(text, 0)
    }

    /// The value of a header. Its name counts as a key.
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

    /// Any text.
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

    /// A value at `at` of what is known to be JSON. Leaves `at` behind it.
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

    /// What a string becomes, if it changes.
    fn string(&mut self, json: &str, open: &[Open], depth: usize) -> Result<Option<String>, Unsearchable> {
        match decode(json) {
            Some(text) => self.text(&text, open, depth + 1),
            // Half a surrogate pair is no text: it can't be put together again.
            None => {
                let new = self.text(&decode_lossily(json), open, depth + 1)?;
                Ok(new.map(|_| PLACEHOLDER.to_owned()))
            }
        }
    }

    /// What any text becomes, if it changes: JSON that is in it, or what it encodes. Where it names a field in a form that can't be
    /// taken apart, it is replaced as a whole.
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

    /// The same for what a text encodes as a whole.
    fn encoded(&mut self, text: &str, open: &[Open], depth: usize) -> Result<Option<String>, Unsearchable> {
        if let Some(decoded) = percent_decoded(text)
            && self.text(&decoded, open, depth + 1)?.is_some()
        {
            return Ok(Some(PLACEHOLDER.to_owned()));
        }
        // What stands before the data of a data URL.
        let at = text.find(";base64,").map_or(0, |at| at + ";base64,".len());
        if let Some((engine, decoded)) = base64_decoded(&text[at..]) {
            let new = self.text(&decoded, open, depth + 1)?;
            return Ok(new.map(|new| format!("{}{}", &text[..at], engine.encode(new))));
        }
        // A token: what it claims, and a signature that would no longer be one.
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

    /// Whether a text that is not JSON names a field and gives it a value: `email=…`, `email: …`, `<email>…`, `"email":…` of JSON
    /// that is not whole. Counts the text as what was found.
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

    /// The fields that end with this key, and those that go on below it. A key may hold dots itself.
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

    /// What stands where `json` stood. A list becomes one of as many values, so that its length stays; an object is emptied, because
    /// its keys may be what nobody may read: `{"alice@example.org": {}}`.
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

/// What is to change of a text, from its begin to its end.
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

/// Texts that differ in case only become the same: `ſ` and `S`, `ß` and `SS` among them.
fn fold(text: &str) -> String {
    text.to_uppercase().to_lowercase()
}

/// Of texts that are folded.
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

/// `json` at `at` becomes fixed values of its own types.
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

/// Each text and number in `json`, and each key.
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

fn skip_spaces(json: &str, at: &mut usize) {
    let bytes = json.as_bytes();
    while bytes.get(*at).is_some_and(u8::is_ascii_whitespace) {
        *at += 1;
    }
}

/// The first byte of a list's or object's next element, of what is known to be JSON. `None`: it ends here, and `at` is behind it.
fn next_element(json: &str, at: &mut usize, end: u8) -> Option<u8> {
    loop {
        skip_spaces(json, at);
        let byte = json.as_bytes()[*at];
        if byte != b',' && byte != end {
            return Some(byte);
        }
        *at += 1;
        if byte == end {
            return None;
        }
    }
}

/// Of what is known to be JSON.
fn skip_value(json: &str, at: &mut usize) {
    let bytes = json.as_bytes();
    let (mut depth, mut quoted) = (0usize, false);
    while let Some(&byte) = bytes.get(*at) {
        match byte {
            b'\\' if quoted => *at += 1,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 0 => depth -= 1,
            b'}' | b']' | b',' | b':' if depth == 0 => return,
            byte if depth == 0 && byte.is_ascii_whitespace() => return,
            _ => {}
        }
        *at += 1;
        // What ends by itself: a text, an object, a list.
        if depth == 0 && !quoted && matches!(byte, b'"' | b'}' | b']') {
            return;
        }
    }
}

fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn decode(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// With another character for each half of a surrogate pair.
fn decode_lossily(json: &str) -> String {
    decode(json).unwrap_or_else(|| {
        let bytes: Result<Bytes, _> = serde_json::from_str(json);
        bytes.map_or_else(
            |_| json.to_owned(),
            |bytes| String::from_utf8_lossy(&bytes.0).into_owned(),
        )
    })
}

/// Of a string, as serde_json hands it over where it is no text.
struct Bytes(Vec<u8>);

impl<'de> serde::Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

/// Of JSON that is not whole: `\u0065mail` is a way to write a key.
fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\u");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match digits.and_then(char::from_u32) {
            Some(c) => {
                // Where it is JSON within JSON there are more of them.
                whole.truncate(whole.trim_end_matches('\\').len());
                whole.push(c);
                whole.push_str(&part[4..]);
            }
            None => {
                whole.push_str("\\u");
                whole.push_str(part);
            }
        }
    }
    whole
}

/// Where anything is encoded.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let mut any = false;
    while let [first, more @ ..] = rest {
        let digit = |byte: &u8| (*byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let encoded = match (first, more) {
            (b'%', [high, low, ..]) => digit(high).zip(digit(low)),
            _ => None,
        };
        match encoded {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &more[2..];
                any = true;
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    any.then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// The text that base64 holds, and what writes it in the same form. A word can be base64, too; no field is in what comes of that.
fn base64_decoded(text: &str) -> Option<(GeneralPurpose, String)> {
    // Mail has line breaks in it.
    let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if compact.len() < 8 || !compact.is_ascii() {
        return None;
    }
    let alphabet = if compact.contains(['-', '_']) {
        alphabet::URL_SAFE
    } else {
        alphabet::STANDARD
    };
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(compact.ends_with('=') || compact.len().is_multiple_of(4) && !text.contains(['-', '_']))
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let engine = GeneralPurpose::new(&alphabet, config);
    // It may be torn, too.
    let whole = if compact.len() % 4 == 1 {
        compact.len() - 1
    } else {
        compact.len()
    };
    let bytes = engine.decode(&compact[..whole]).ok()?;
    let decoded = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.utf8_error().error_len().is_none() => {
            let end = error.utf8_error().valid_up_to();
            String::from_utf8_lossy(&error.as_bytes()[..end]).into_owned()
        }
        Err(_) => return None,
    };
    Some((engine, decoded))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const SECRET: &str = "s3cret@example.org";

    fn redacted(payload: &str, paths: &[&str]) -> Result<String, Unsearchable> {
        let fields: Vec<Field> = paths.iter().map(|path| Field::new(path)).collect();
        Search::new(&fields).payload(payload)
    }

    fn check(payload: &str, paths: &[&str], expected: &str) {
        assert_eq!(redacted(payload, paths).as_deref(), Ok(expected), "{payload}");
    }

    #[test]
    fn a_path_is_found_at_any_depth_and_through_lists_and_texts() {
        check(
            r#"{"email":"a","customer":{"email":"b","name":"B"},"lines":[[{"customer":{"email":"c"}}],{"price":5}]}"#,
            &["customer.email"],
            r#"{"email":"a","customer":{"email":"redacted","name":"B"},"lines":[[{"customer":{"email":"redacted"}}],{"price":5}]}"#,
        );
        check(
            r#"{"customer":"{\"email\":\"b\",\"more\":{\"email\":\"c\"}}","email":"a"}"#,
            &["customer.email"],
            r#"{"customer":"{\"email\":\"redacted\",\"more\":{\"email\":\"c\"}}","email":"a"}"#,
        );
        check(
            r#"{"a":{"b":{"a":{"c":1}}}}"#,
            &["a.b.c", "b.a.c"],
            r#"{"a":{"b":{"a":{"c":0}}}}"#,
        );
        check(
            r#"{"customer.email":"b","a":{"b.c":{"d":1}}}"#,
            &["customer.email", "a.b.c.d"],
            r#"{"customer.email":"redacted","a":{"b.c":{"d":0}}}"#,
        );
    }

    #[test]
    fn each_type_keeps_its_own_and_nothing_else_changes() {
        check(
            " {\"x\" : \"a\",\n\t\"wei\":1000000000000000000001, \"x\": -1.50e3 ,\"y\":1e999, \"x\":[ 1,[\"a\",{\"b\":1}],[], null ],\
             \"x\":true,\"x\":{\"ann@example.org\":1},\"\\u00e4\\ud800\":\"\\u00e4\",\"a\":0.10}\r\n",
            &["x"],
            " {\"x\" : \"redacted\",\n\t\"wei\":1000000000000000000001, \"x\": 0 ,\"y\":1e999, \"x\":[0,[\"redacted\",{}],[],null],\
             \"x\":false,\"x\":{},\"\\u00e4\\ud800\":\"\\u00e4\",\"a\":0.10}\r\n",
        );
    }

    #[test]
    fn keys_are_the_same_in_any_case_and_any_spelling() {
        for key in ["email", "Email", "EMAIL", r"\u0065mail", r"\u0045MAIL"] {
            check(
                &format!(r#"{{"{key}":"a"}}"#),
                &["eMail"],
                &format!(r#"{{"{key}":"redacted"}}"#),
            );
        }
        check(
            r#"{"STRASSE":1,"ſtraße":2,"ÄÖ":3,"Kelvin":4}"#,
            &["straße", "äö", "\u{212a}elvin"],
            r#"{"STRASSE":0,"ſtraße":0,"ÄÖ":0,"Kelvin":0}"#,
        );
        let others = r#"{"e-mail":"a","emails":["b"],"my_email":"c","mail":{"e":"d"}}"#;
        check(others, &["email"], others);
    }

    #[test]
    fn a_payload_may_be_several_values_and_begin_with_a_mark() {
        check("\u{feff}{\"x\":1}", &["x"], "\u{feff}{\"x\":0}");
        check(
            "{\"x\":1}\n[{\"x\":2}]\n\n{\"y\":3}\n",
            &["x"],
            "{\"x\":0}\n[{\"x\":0}]\n\n{\"y\":3}\n",
        );
        check(r#""{\"x\":1}""#, &["x"], r#""{\"x\":0}""#);
        check("", &["x"], "");
    }

    #[test]
    fn what_cannot_be_searched_is_refused() {
        for (payload, why) in [
            ("hello a@example.org", Unsearchable::NotJson),
            (r#"{"email":"a@exam"#, Unsearchable::NotJson),
            (r#"{"email":"a"} and more"#, Unsearchable::NotJson),
            ("{'email':'a'}", Unsearchable::NotJson),
            ("eyJlbWFpbCI6ImEifQ==", Unsearchable::NotJson),
            (r#""a@example.org""#, Unsearchable::NoFields),
            (r#""{\"email\":""#, Unsearchable::NoFields),
            ("491701234567", Unsearchable::NoFields),
            ("null", Unsearchable::NoFields),
            ("{\"a\":1}\n7", Unsearchable::NoFields),
        ] {
            assert_eq!(redacted(payload, &["email"]), Err(why), "{payload}");
        }
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert_eq!(redacted(&deep, &["email"]), Err(Unsearchable::TooDeep));
        let in_text = json!({ "text": deep, "email": "a" }).to_string();
        assert_eq!(redacted(&in_text, &["email"]), Err(Unsearchable::TooDeep));
        let torn = json!({ "text": "[".repeat(100_000) }).to_string();
        assert_eq!(redacted(&torn, &["email"]), Err(Unsearchable::NotJson));
    }

    #[test]
    fn a_text_that_cannot_be_taken_apart_and_names_the_field_goes_as_a_whole() {
        for text in [
            "order: {\"id\":7,\"email\":\"s3cret",
            "order: {\\\"email\\\":\\\"s3cret\\\"}",
            "id=7&email=s3cret%40example.org",
            "id=7&customer[email]=s3cret",
            "%7B%22email%22%3A%22s3cret%22%7D",
            "<order><email>s3cret</email></order>",
            "<order><Email kind=\"work\">s3cret</Email></order>",
            "<order id=\"7\" email=\"s3cret\"/>",
            "&lt;order email=&quot;s3cret",
            "{&quot;email&quot;:&quot;s3cret&quot;}",
            "id: 7\nemail: s3cret\n",
            "{email: 's3cret'}",
            "E-Mail is not it, but EMAIL = s3cret is",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3IiwiZW1haWwiOiJzM2NyZXQifQ.c2lnbmF0dXJl",
        ] {
            let payload = |text: &str| json!({ "text": text, "id": 7 }).to_string();
            check(&payload(text), &["email"], &payload("redacted"));
        }
        // It does not say whose it is.
        check(r#"{"a":"email=x"}"#, &["customer.email"], r#"{"a":"redacted"}"#);
        for text in [
            "mail me",
            "e-mail: a",
            "emails: 7",
            "my_email=a",
            "[email] {email}",
            "1 < email",
            "",
        ] {
            let payload = json!({ "text": text }).to_string();
            check(&payload, &["email"], &payload);
        }
        // Half of a surrogate pair can't be written again.
        check(r#"{"a":"\ud800{\"x\":1}"}"#, &["x"], r#"{"a":"redacted"}"#);
    }

    #[test]
    fn headers_are_searched_like_payloads() {
        let fields = ["x-key", "email"].map(Field::new);
        let mut search = Search::new(&fields);
        let mut header = |name: &str, value: &str| search.header(name, value).unwrap();
        assert_eq!(header("X-Key", "abc"), "redacted");
        assert_eq!(
            header("Event", r#"{"email":"a","id":7}"#),
            r#"{"email":"redacted","id":7}"#
        );
        assert_eq!(header("Baggage", "id=7,email=a"), "redacted");
        assert_eq!(header("Trace", "00-7"), "00-7");
        let found = |values| Found { values, told: values };
        assert_eq!(search.found, [found(1), found(2)]);
    }

    #[test]
    fn what_is_redacted_already_tells_nothing() {
        let fields = [Field::new("x")];
        let mut search = Search::new(&fields);
        search
            .payload(r#"{"x":"redacted"} {"x":[0,{},false,null,[ ],{ }]} {"y":{"x":[]}}"#)
            .unwrap();
        assert_eq!((search.found[0].told, search.found[0].values > 5), (0, true));
        search.payload(r#"{"x":["redacted",1]}"#).unwrap();
        assert_eq!(search.found[0].told, 1);
    }

    #[test]
    fn base64_is_written_as_it_was() {
        let (before, after) = (r#"{"a":1,"email":"ä?~"}"#, r#"{"a":1,"email":"redacted"}"#);
        for (engine, spaces) in [
            (&STANDARD, ""),
            (&STANDARD_NO_PAD, ""),
            (&STANDARD_NO_PAD, " "),
            (&URL_SAFE_NO_PAD, ""),
        ] {
            let payload = |text: &str| json!({ "data": engine.encode(format!("{text}{spaces}")) }).to_string();
            check(&payload(before), &["email"], &payload(after));
        }
        let url = |text: &str| {
            json!({ "data": format!("data:application/json;base64,{}", STANDARD.encode(text)) }).to_string()
        };
        check(&url(before), &["email"], &url(after));
        let torn = STANDARD.encode(before);
        for end in 16..torn.len() {
            let payload = json!({ "data": torn[..end] }).to_string();
            let redacted = redacted(&payload, &["email"]).unwrap();
            assert!(
                !redacted.contains(&STANDARD.encode(before)[20..24]),
                "{end}: {redacted}"
            );
        }
    }

    /// JSON, with a secret in it or none.
    #[derive(Debug, Clone)]
    enum Tree {
        Scalar(String),
        List(Vec<Tree>),
        Object(Vec<(String, Tree)>),
        Secret(String),
        Encoded(Form, Box<Tree>),
    }

    #[derive(Debug, Clone, Copy)]
    enum Form {
        Text,
        Spaced,
        InWords,
        Base64,
        UrlSafe,
    }

    impl Tree {
        /// With `secret`, which is JSON, where one is.
        fn text(&self, secret: &str) -> String {
            match self {
                Self::Scalar(json) => json.clone(),
                Self::List(trees) => {
                    let texts: Vec<String> = trees.iter().map(|tree| tree.text(secret)).collect();
                    format!("[{}]", texts.join(", "))
                }
                Self::Object(members) => {
                    let texts: Vec<String> = members
                        .iter()
                        .map(|(key, tree)| format!("{key}:{}", tree.text(secret)))
                        .collect();
                    format!("{{{}}}", texts.join(","))
                }
                Self::Secret(key) => format!("{{\"a\":1.0,\"{key}\" : {secret}}}"),
                Self::Encoded(form, tree) => {
                    let text = format!("{{\"in\":{}}}", tree.text(secret));
                    literal(&match form {
                        Form::Text => text,
                        Form::Spaced => format!(" {text}\n"),
                        Form::InWords => format!("seen: {text}, and {{so}} [on"),
                        Form::Base64 => STANDARD.encode(text),
                        // With a `-` in it, wherever that begins.
                        Form::UrlSafe => URL_SAFE_NO_PAD.encode(format!("{text}~~~~~~")),
                    })
                }
            }
        }

        fn has_secret(&self) -> bool {
            match self {
                Self::Scalar(_) => false,
                Self::List(trees) => trees.iter().any(Self::has_secret),
                Self::Object(members) => members.iter().any(|(_, tree)| tree.has_secret()),
                Self::Secret(_) => true,
                Self::Encoded(_, tree) => tree.has_secret(),
            }
        }
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let scalars = [
            "1000000000000000000001",
            "-0.10",
            "1e999",
            "true",
            "null",
            r#""""#,
            r#""a word""#,
            r#""\u00e4 \" {[ %41 e-mail""#,
            r#""bm90aGluZyBoZXJl""#,
        ];
        let key = prop::sample::select(vec!["email", "Email", "EMAIL", r"\u0065mail", r"E\u004dail"]);
        let leaf = prop_oneof![
            3 => prop::sample::select(scalars.to_vec()).prop_map(|json| Tree::Scalar(json.to_owned())),
            2 => key.prop_map(|key| Tree::Secret(key.to_owned())),
        ];
        leaf.prop_recursive(8, 60, 4, |inner| {
            let form = prop::sample::select(vec![
                Form::Text,
                Form::Spaced,
                Form::InWords,
                Form::Base64,
                Form::UrlSafe,
            ]);
            let keys = prop::sample::select(vec![r#""b""#, r#""a""#, r#""mail""#, r#""\ud800""#, r#""""#]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::List),
                prop::collection::vec((keys.prop_map(str::to_owned), inner.clone()), 0..4).prop_map(Tree::Object),
                (form, inner).prop_map(|(form, tree)| Tree::Encoded(form, Box::new(tree))),
            ]
        })
    }

    proptest! {
        /// Wherever a field is and however it is encoded: what it held is gone, and nothing else has changed.
        #[test]
        fn only_what_a_field_holds_changes(trees in prop::collection::vec(tree(), 1..4)) {
            let payload = |secret: &str| trees.iter().map(|tree| format!("[{}]\n", tree.text(secret))).collect::<String>();
            for (secret, instead) in [(literal(SECRET), "\"redacted\""), ("[[4711,\"x\"],{\"x\":4}]".to_owned(), "[[0,\"redacted\"],{}]")] {
                let fields = [Field::new("email")];
                let mut search = Search::new(&fields);
                prop_assert_eq!(search.payload(&payload(&secret)), Ok(payload(instead)));
                prop_assert_eq!(search.found[0].told > 0, trees.iter().any(Tree::has_secret));
            }
        }

        /// JSON that somebody has cut off in the middle.
        #[test]
        fn what_is_torn_tells_nothing(tree in tree(), cut in 0.0..1.0, again in any::<bool>()) {
            let text = tree.text(&literal(SECRET));
            let cut = text.floor_char_boundary((text.len() as f64 * cut) as usize);
            let payload = json!({ "text": &text[..cut] }).to_string();
            let payload = if again { json!([payload]).to_string() } else { payload };
            if let Ok(redacted) = redacted(&payload, &["email"]) {
                prop_assert!(!redacted.contains("s3cret"), "{}", redacted);
            }
        }
    }
}
