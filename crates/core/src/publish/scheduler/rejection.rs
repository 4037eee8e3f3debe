//! Builds the rejections of publications that Centrifugo will never take.

use std::borrow::Cow;
use std::sync::Arc;

use crate::message::{Rejection, Stage};

/// Centrifugo answered the command with a permanent error.
pub(super) fn by_code(code: u32, message: &str, channel: &Arc<str>) -> Rejection {
    let hint = match code {
        102 => ": does the namespace before `:` exist in Centrifugo's configuration?",
        107 => {
            ": does the data fit `publication_data_format` of the channel's namespace? `json_object` requires an \
             object, `json` requires JSON, and without this setting only an empty body is refused"
        }
        108 => ": the publication needs an option that the channel's namespace does not enable",
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
        _ => ": Centrifugo could not read it",
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
        assert!(hint(108).contains("does not enable"), "{}", hint(108));
        assert_eq!(
            hint(101),
            "Centrifugo refused the publication on `ns:channel` with error 101 (message)"
        );
        let hint = |status| by_status(status, "reason", &"ns:channel".into()).reason;
        assert!(hint(413).contains("larger than"), "{}", hint(413));
        assert!(hint(400).contains("could not read it"), "{}", hint(400));
    }
}
