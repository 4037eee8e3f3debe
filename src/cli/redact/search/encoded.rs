//! Decodes texts within texts.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Unescapes incomplete JSON. `\u0065mail` is also a way to write a key.
pub(super) fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\u");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match digits.and_then(char::from_u32) {
            Some(c) => {
                // JSON within JSON has several levels of escapes.
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

/// Returns `None` if nothing is encoded.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
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

/// Returns the text that base64 encodes, and an engine that encodes it in the same form. An ordinary word can also be
/// base64, but its decoded form contains no field.
pub(super) fn base64_decoded(text: &str) -> Option<(GeneralPurpose, String)> {
    // Base64 in mail has line breaks.
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
    // The base64 may also be incomplete.
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
