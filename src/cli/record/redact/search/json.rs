//! JSON as text: where its parts begin and end, and what a string in it says.

pub(super) fn skip_spaces(json: &str, at: &mut usize) {
    let bytes = json.as_bytes();
    while bytes.get(*at).is_some_and(u8::is_ascii_whitespace) {
        *at += 1;
    }
}

/// The first byte of a list's or object's next element, of what is known to be JSON. `None`: it ends here, and `at` is behind it.
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

/// Of what is known to be JSON.
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
        // What ends by itself: a text, an object, a list.
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

/// With another character for each half of a surrogate pair.
pub(super) fn decode_lossily(json: &str) -> String {
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
