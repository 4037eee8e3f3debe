//! Builds the rejections of publications that Centrifugo will never take.

use std::borrow::Cow;
use std::sync::Arc;

use crate::message::{Rejection, Stage};

/// Centrifugo answered the command with a permanent error.
pub(super) fn by_code(code: u32, message: &str, channel: &Arc<str>) -> Rejection {
    let hint = match code {
        102 => ": does the namespace before `:` exist in Centrifugo's configuration?",
        107 => {
            ": does the data fit `publication_data_format` of the channel's namespace? `json_object` wants an object, `json` wants JSON, and \
             without it only an empty body is refused"
        }
        108 => ": the channel's namespace does not have the option that this needs",
        _ => "",
    };
    Rejection {
        stage: Stage::Publish,
        code: Cow::Owned(code.to_string()),
        channel: Some(Arc::clone(channel)),
        reason: format!("Centrifugo refused the publication on `{channel}` with error {code} ({message}){hint}"),
    }
}

/// Centrifugo, or a proxy in front of it, refused a request that carried this one publication.
pub(super) fn by_status(status: u16, reason: &str, channel: &Arc<str>) -> Rejection {
    let hint = match status {
        413 => ": the publication is larger than what Centrifugo or a proxy in front of it accepts",
        _ => ": it could not be read; JSON nested deeper than 10,000 levels is one reason",
    };
    Rejection {
        stage: Stage::Publish,
        code: Cow::Owned(status.to_string()),
        channel: Some(Arc::clone(channel)),
        reason: format!("Centrifugo refused the publication on `{channel}`: {reason}{hint}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_done_about_it_depends_on_the_code() {
        let hint = |code| by_code(code, "message", &"ns:channel".into()).reason;
        assert!(hint(102).contains("namespace before `:`"), "{}", hint(102));
        assert!(hint(107).contains("publication_data_format"), "{}", hint(107));
        assert!(hint(108).contains("does not have the option"), "{}", hint(108));
        assert_eq!(
            hint(101),
            "Centrifugo refused the publication on `ns:channel` with error 101 (message)"
        );
        let hint = |status| by_status(status, "reason", &"ns:channel".into()).reason;
        assert!(hint(413).contains("larger than"), "{}", hint(413));
        assert!(hint(400).contains("could not be read"), "{}", hint(400));
    }
}
