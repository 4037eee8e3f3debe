//! Finds the boundaries of JSON values in text, and decodes strings.

pub(super) fn skip_spaces(json: &str, at: &mut usize) {
    let bytes = json.as_bytes();
    while bytes.get(*at).is_some_and(u8::is_ascii_whitespace) {
        *at += 1;
    }
}

/// Returns the first byte of the next element of a list or object, in text that is known to be JSON. Returns `None` at
/// the end of it, with `at` behind it.
pub(super) fn next_element(json: &str, at: &mut usize, end: u8) -> Option<u8> {
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

/// Expects text that is known to be JSON.
pub(super) fn skip_value(json: &str, at: &mut usize) {
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
        // A text, an object or a list ends with this byte.
        if depth == 0 && !quoted && matches!(byte, b'"' | b'}' | b']') {
            return;
        }
    }
}

pub(super) fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

pub(super) fn decode(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// Decodes a string, with a replacement character for each half of a surrogate pair.
pub(super) fn decode_lossily(json: &str) -> String {
    decode(json).unwrap_or_else(|| {
        let bytes: Result<Bytes, _> = serde_json::from_str(json);
        bytes.map_or_else(
            |_| json.to_owned(),
            |bytes| String::from_utf8_lossy(&bytes.0).into_owned(),
        )
    })
}

/// The bytes of a string that serde_json returns if it is no text.
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
