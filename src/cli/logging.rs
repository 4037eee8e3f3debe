//! Log lines on standard error: for people or as JSON, filtered by `SLIPRING_LOG`.

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::{Failure, LogFormat};
use crate::config::{Place, Problems};

/// What async-nats says about connections, the relay says itself.
pub const DEFAULT_FILTER: &str = "info,async_nats=warn";

/// For commands whose connections are nobody's concern while they hold.
pub const QUIET_FILTER: &str = "info,async_nats=warn,slipring::nats=warn";

/// What `SLIPRING_LOG` is set to. An empty one is none, as it is where a variable is passed on that nobody has set.
pub fn filter(variable: Option<OsString>) -> Result<Option<String>, Problems> {
    let text = variable.map(OsString::into_string).transpose();
    let text = text.map_err(|_| wrong("its value is not UTF-8, as every value here must be"))?;
    Ok(text.filter(|text| !text.trim().is_empty()))
}

/// To be called once in a process; `filter` is what `SLIPRING_LOG` is set to, or the command's default.
pub fn start(format: LogFormat, filter: &str) -> Result<(), Failure> {
    let filter = parse(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(filter);
    let started = match format {
        LogFormat::Text => builder
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    started.map_err(|error| Failure::Failed(anyhow::anyhow!("logging can't be started: {error}")))
}

fn parse(filter: &str) -> Result<EnvFilter, Problems> {
    EnvFilter::builder().parse(filter).map_err(|error| {
        let right = "it must be a level such as \"debug\", or a list such as \"warn,slipring=debug\"";
        wrong(format!("{filter:?} is not a filter of log lines ({error}); {right}"))
    })
}

fn wrong(message: impl Into<String>) -> Problems {
    let place = Place::Variable {
        name: "SLIPRING_LOG".to_owned(),
    };
    Problems::one(place, message)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::{DEFAULT_FILTER, QUIET_FILTER, filter, parse};

    #[test]
    fn a_filter_that_says_nothing_is_none() {
        for nothing in [None, Some("".into()), Some(" ".into())] {
            assert_eq!(filter(nothing).unwrap(), None);
        }
        assert_eq!(filter(Some("debug".into())).unwrap().as_deref(), Some("debug"));
    }

    #[test]
    fn a_wrong_filter_is_refused() {
        assert!(parse("warn,slipring=debug").is_ok());
        assert!(parse(DEFAULT_FILTER).is_ok() && parse(QUIET_FILTER).is_ok());
        assert_snapshot!(parse("slipring=loud").unwrap_err(), @r#"
        SLIPRING_LOG: "slipring=loud" is not a filter of log lines (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5); it must be a level such as "debug", or a list such as "warn,slipring=debug"
        "#);
    }
}
