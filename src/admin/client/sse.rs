//! Server-sent events, as they arrive: in pieces that end anywhere, even within a character.
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>

use std::collections::VecDeque;
use std::mem;

use memchr::memchr2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
}

/// The most memory for one event. The largest that a relay sends has a status with many modules, or the payload of a message.
const LIMIT: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
#[error("an event is larger than {} MiB", LIMIT >> 20)]
pub struct TooLarge;

#[derive(Debug, Default)]
pub struct Parser {
    /// The beginning of a line.
    line: Vec<u8>,
    /// The last line ended with a carriage return. A line feed that follows belongs to it.
    is_after_return: bool,
    /// What is known of the event that has not ended. Each line of the data ends with a line feed.
    name: String,
    data: String,
}

impl Parser {
    /// Reads the next bytes of the stream. Adds the events that end in them to `ready`.
    pub fn read(&mut self, mut bytes: &[u8], ready: &mut VecDeque<Event>) -> Result<(), TooLarge> {
        while let Some(first) = bytes.first() {
            if mem::take(&mut self.is_after_return) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = memchr2(b'\r', b'\n', bytes);
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + self.data.len() + piece.len() > LIMIT {
                return Err(TooLarge);
            }
            self.line.extend_from_slice(piece);
            bytes = rest;
            if let Some((end, rest)) = rest.split_first() {
                self.is_after_return = *end == b'\r';
                ready.extend(self.end_of_line());
                bytes = rest;
            }
        }
        Ok(())
    }

    /// Returns the event that an empty line ends.
    fn end_of_line(&mut self) -> Option<Event> {
        let line = mem::take(&mut self.line);
        if line.is_empty() {
            return self.end_of_event();
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            // A comment has no name. The relay sends them so that a connection is not taken for a dead one.
            _ => {}
        }
        None
    }

    fn end_of_event(&mut self) -> Option<Event> {
        let mut event = Event {
            name: mem::take(&mut self.name),
            data: mem::take(&mut self.data),
        };
        // Without data, there is no event.
        event.data.pop()?;
        if event.name.is_empty() {
            "message".clone_into(&mut event.name);
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(String, String)> {
        let (mut parser, mut ready) = (Parser::default(), VecDeque::new());
        for piece in pieces {
            parser.read(piece, &mut ready).unwrap();
        }
        ready.into_iter().map(|event| (event.name, event.data)).collect()
    }

    fn event(name: &str, data: &str) -> (String, String) {
        (name.to_owned(), data.to_owned())
    }

    #[test]
    fn an_event_has_a_name_and_lines_of_data() {
        let stream = b": hello\n\nevent: sample\ndata: {\"a\":\ndata:1}\nid: 7\nretry\n\ndata\n\ndata: x\n\n";
        let expected = [
            event("sample", "{\"a\":\n1}"),
            event("message", ""),
            event("message", "x"),
        ];
        assert_eq!(parse([&stream[..]]), expected);
    }

    #[test]
    fn what_has_no_data_or_no_end_is_no_event() {
        assert_eq!(parse([&b"event: a\n\n\n:\n\nnonsense\n\ndata: half"[..]]), []);
        assert_eq!(parse([&b"event: a\n\ndata: 1\n\n"[..]]), [event("message", "1")]);
    }

    #[test]
    fn lines_end_in_three_ways_and_pieces_anywhere() {
        let text = "event: s\ndata: ä字🦀\ndata:  two\n\n: still here\n\ndata: 2\n\n";
        let expected = [event("s", "ä字🦀\n two"), event("message", "2")];
        for end in ["\n", "\r", "\r\n"] {
            let stream = text.replace('\n', end).into_bytes();
            assert_eq!(parse([&stream[..]]), expected, "{end:?}");
            assert_eq!(parse(stream.chunks(1)), expected, "{end:?}");
            for at in 0..=stream.len() {
                let (one, other) = stream.split_at(at);
                assert_eq!(parse([one, &[], other]), expected, "{end:?} {at}");
            }
        }
    }

    #[test]
    fn what_is_not_utf_8_is_replaced() {
        assert_eq!(parse([&b"data: a\xffb\n\n"[..]]), [event("message", "a\u{fffd}b")]);
    }

    #[test]
    fn an_event_without_end_does_not_fill_the_memory() {
        let refuses = |piece: &[u8]| {
            let (mut parser, mut ready) = (Parser::default(), VecDeque::new());
            let pieces = 2 * LIMIT / piece.len();
            let refused = (0..pieces).any(|_| parser.read(piece, &mut ready).is_err());
            assert!(parser.line.len() + parser.data.len() <= LIMIT);
            refused
        };
        assert!(refuses(&[b'x'; 1 << 20]));
        let line = format!("data: {}\n", "x".repeat(1 << 20));
        assert!(refuses(line.as_bytes()));
        assert!(!refuses(format!("{line}\n").as_bytes()));
    }
}
