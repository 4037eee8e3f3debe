//! Checks the variables whose names begin with `SLIPRING_`. If no key reads a variable but it looks like one that some
//! key reads, the relay refuses it: otherwise the relay would silently use its defaults. Any other variable may belong
//! to someone else and only gets a warning.

use std::collections::BTreeSet;
use std::ffi::OsString;

use super::problem::{Place, Problem};

const PREFIX: &str = "SLIPRING";
/// These are read before there is a configuration.
const NOT_KEYS: [&str; 4] = [
    "SLIPRING_BUILD_CACHE",
    "SLIPRING_CONFIG",
    "SLIPRING_LOG",
    "SLIPRING_LOG_FORMAT",
];

/// Farther than any name with similar letters.
const FAR: usize = usize::MAX - 1;

/// A variable that no key reads.
#[derive(Debug, PartialEq, Eq)]
pub enum Stray {
    /// It must be a mistake. The text is empty, or a semicolon and a suggestion.
    Mistake(String),
    /// It may belong to someone else.
    Unknown,
    /// Not a mistake.
    Fine,
}

/// Returns the variables that are text. The others are a problem only if they are the relay's.
pub fn readable<N, V>(env: impl IntoIterator<Item = (N, V)>) -> (Vec<(String, String)>, Vec<Problem>)
where
    N: Into<OsString>,
    V: Into<OsString>,
{
    let (mut texts, mut problems) = (Vec::new(), Vec::new());
    for (name, value) in env {
        // No key has a name that is not text.
        let Ok(name) = name.into().into_string() else { continue };
        match value.into().into_string() {
            Ok(value) => texts.push((name, value)),
            Err(_) if is_ours(&name) => problems.push(Problem {
                place: Place::Variable { name },
                key: String::new(),
                message: "its value is not UTF-8".to_owned(),
            }),
            Err(_) => {}
        }
    }
    (texts, problems)
}

/// Returns true if the name begins with the relay's prefix, in any spelling, and Kubernetes did not set it.
pub fn is_ours(name: &str) -> bool {
    let (prefix, rest) = name.split_at_checked(PREFIX.len()).unwrap_or_default();
    prefix.eq_ignore_ascii_case(PREFIX) && rest.starts_with(['_', '-', '.']) && !is_of_a_service(name)
}

/// Judges a variable that no key reads. `known` are the variables of all keys.
pub fn judge(name: &str, known: &BTreeSet<String>) -> Stray {
    if NOT_KEYS.contains(&name) {
        return Stray::Fine;
    }
    let meant = meant(name, known);
    if !meant.is_empty() {
        return Stray::Mistake(format!("; did you mean {}?", meant.join(" or ")));
    }
    if let Some(section) = section(name, known) {
        return Stray::Mistake(match likeliest(name, &section, known) {
            Some(key) => format!("; did you mean `{key}`?"),
            None => format!("; the keys of `{}` begin with `{section}`", dotted(&section)),
        });
    }
    match name.strip_prefix(PREFIX) {
        // Only keys have two underscores.
        Some(rest) if rest.contains("__") => Stray::Mistake(String::new()),
        Some(rest) if rest.starts_with('_') => Stray::Unknown,
        _ => Stray::Fine,
    }
}

/// Returns the nearest names, in backticks.
fn meant(name: &str, known: &BTreeSet<String>) -> Vec<String> {
    let mut nearest: (usize, Vec<&str>) = (usize::MAX, Vec::new());
    let written = words(name);
    for candidate in known.iter().map(String::as_str).chain(NOT_KEYS) {
        let Some(distance) = distance(&written, candidate) else {
            continue;
        };
        if distance < nearest.0 {
            nearest = (distance, Vec::new());
        }
        if distance == nearest.0 {
            nearest.1.push(candidate);
        }
    }
    nearest.1.into_iter().map(|name| format!("`{name}`")).collect()
}

/// Returns the distance between the words and those of `candidate`, if they are near.
fn distance(written: &str, candidate: &str) -> Option<usize> {
    let right = words(candidate);
    let letters = |words: &str| words.replace('_', "");
    let (one, other) = (letters(written), letters(&right));
    let distance = strsim::osa_distance(&one, &other);
    if distance <= (one.len().max(other.len()) / 5).max(1) {
        return Some(distance);
    }
    // Finds API_KEY without its section, and LOG_LEVEL.
    let last = candidate.rsplit("__").next().filter(|_| candidate.contains("__"));
    let is_last = last.is_some_and(|last| letters(last) == one);
    let is_longer =
        NOT_KEYS.contains(&candidate) && written.strip_prefix(&right).is_some_and(|rest| rest.starts_with('_'));
    (is_last || is_longer).then_some(FAR)
}

/// Returns the section that the name begins with, in the form of variables: `SLIPRING_NATS__`.
fn section(name: &str, known: &BTreeSet<String>) -> Option<String> {
    let written = words(name);
    let sections: BTreeSet<&str> = known
        .iter()
        .filter_map(|key| key.rsplit_once("__"))
        .map(|(section, _)| section)
        .collect();
    let begins = |section: &&&str| {
        written
            .strip_prefix(&words(section))
            .is_some_and(|rest| rest.starts_with('_'))
    };
    let longest = sections.iter().filter(begins).max_by_key(|section| section.len())?;
    Some(format!("{longest}__"))
}

/// Returns the key of the section that is most like the variable's own name, if one is similar.
fn likeliest<'k>(name: &str, section: &str, known: &'k BTreeSet<String>) -> Option<&'k String> {
    let own = |name: &str| {
        words(name)
            .get(words(section).len() + 1..)
            .unwrap_or_default()
            .to_owned()
    };
    let keys = known.iter().filter(|key| {
        key.rsplit_once("__")
            .is_some_and(|(begin, _)| format!("{begin}__") == section)
    });
    let keys = keys.map(|key| (strsim::jaro_winkler(&own(name), &own(key)), key));
    let (likeness, key) = keys.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness > 0.8).then_some(key)
}

/// Returns the name in capitals, without the common prefix, and with one underscore between words.
fn words(name: &str) -> String {
    let name = name.to_uppercase();
    let mut words = name
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    if words.clone().next() == Some(PREFIX) {
        words.next();
    }
    words.collect::<Vec<_>>().join("_")
}

/// Converts `SLIPRING_NATS__TLS__` to the form in the file.
fn dotted(section: &str) -> String {
    let section = section.strip_prefix("SLIPRING_").unwrap_or(section);
    section.trim_end_matches('_').replace("__", ".").to_lowercase()
}

/// Returns true if Kubernetes sets the variable in containers because there is a service named `slipring` or
/// `slipring-...` (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).
fn is_of_a_service(name: &str) -> bool {
    if name.contains("__") {
        return false;
    }
    let Some(rest) = name.strip_prefix("SLIPRING_") else {
        return false;
    };
    let is_port = |port: &str| {
        let mut parts = port.split('_');
        let number = parts.next().is_some_and(|number| number.parse::<u16>().is_ok());
        let protocol = parts
            .next()
            .is_some_and(|protocol| ["TCP", "UDP", "SCTP"].contains(&protocol));
        let what = parts
            .next()
            .is_none_or(|what| ["PROTO", "PORT", "ADDR"].contains(&what));
        number && protocol && what && parts.next().is_none()
    };
    rest.starts_with("SERVICE_")
        || rest.starts_with("PORT")
        || rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_SERVICE_PORT")
        || rest.contains("_SERVICE_PORT_")
        || rest
            .match_indices("_PORT_")
            .any(|(at, between)| is_port(&rest[at + between.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(name: &str) -> Stray {
        let known = [
            "SLIPRING_ADMIN__LISTEN",
            "SLIPRING_ADMIN__TOKEN",
            "SLIPRING_CENTRIFUGO__API_KEY",
            "SLIPRING_CENTRIFUGO__ENDPOINTS",
            "SLIPRING_DEAD_LETTERS__STREAM",
            "SLIPRING_NATS__SERVERS",
            "SLIPRING_NATS__TLS__CA_FILE",
            "SLIPRING_NATS__TOKEN",
            "SLIPRING_PUBLISH__MAX_BATCH",
        ];
        judge(name, &known.map(str::to_owned).into())
    }

    #[test]
    fn what_looks_like_a_key_s_variable_is_a_mistake() {
        for (name, meant) in [
            ("SLIPRING_NATS_SERVERS", "`SLIPRING_NATS__SERVERS`"),
            ("SLIPRING_NATS_SERVER", "`SLIPRING_NATS__SERVERS`"),
            ("SLIPRING_NATS___SERVERS", "`SLIPRING_NATS__SERVERS`"),
            ("SLIPRING__NATS__SERVERS", "`SLIPRING_NATS__SERVERS`"),
            ("SLIPRING_NATSSERVERS", "`SLIPRING_NATS__SERVERS`"),
            ("SLIPRING_NATS__SERVRES", "`SLIPRING_NATS__SERVERS`"),
            ("SLIPRING-NATS-SERVERS", "`SLIPRING_NATS__SERVERS`"),
            ("SLIPRING_NATS.SERVERS", "`SLIPRING_NATS__SERVERS`"),
            ("slipring.nats.servers", "`SLIPRING_NATS__SERVERS`"),
            ("slipring_nats__servers", "`SLIPRING_NATS__SERVERS`"),
            ("Slipring_Nats__Servers", "`SLIPRING_NATS__SERVERS`"),
            ("SLIPRING_SERVERS", "`SLIPRING_NATS__SERVERS`"),
            ("SLIPRING_API_KEY", "`SLIPRING_CENTRIFUGO__API_KEY`"),
            ("SLIPRING_CENTRIFUGE_API_KEY", "`SLIPRING_CENTRIFUGO__API_KEY`"),
            ("SLIPRING_CENTRIFUGO_APIKEY", "`SLIPRING_CENTRIFUGO__API_KEY`"),
            ("SLIPRING_TOKEN", "`SLIPRING_ADMIN__TOKEN` or `SLIPRING_NATS__TOKEN`"),
            ("SLIPRING_NATS_TLS_CA_FILE", "`SLIPRING_NATS__TLS__CA_FILE`"),
            ("SLIPRING_DEAD_LETTERS_STREAM", "`SLIPRING_DEAD_LETTERS__STREAM`"),
            ("SLIPRING_DEADLETTERS__STREAM", "`SLIPRING_DEAD_LETTERS__STREAM`"),
            ("SLIPRING_LOGS", "`SLIPRING_LOG`"),
            ("SLIPRING_LOG_LEVEL", "`SLIPRING_LOG`"),
            ("slipring_log", "`SLIPRING_LOG`"),
            ("SLIPRING_CONFIG_FILE", "`SLIPRING_CONFIG`"),
        ] {
            assert_eq!(
                verdict(name),
                Stray::Mistake(format!("; did you mean {meant}?")),
                "{name}"
            );
        }
        assert_eq!(
            verdict("SLIPRING_NATS__TLS__CA"),
            Stray::Mistake("; did you mean `SLIPRING_NATS__TLS__CA_FILE`?".to_owned())
        );
        let section = |text: &str| Stray::Mistake(format!("; the keys of {text}"));
        assert_eq!(
            verdict("SLIPRING_NATS_URL"),
            section("`nats` begin with `SLIPRING_NATS__`")
        );
        assert_eq!(
            verdict("SLIPRING_NATS__TLS__VERIFY_HOSTNAMES"),
            section("`nats.tls` begin with `SLIPRING_NATS__TLS__`")
        );
        assert_eq!(
            verdict("SLIPRING_ADMIN_PORT"),
            section("`admin` begin with `SLIPRING_ADMIN__`")
        );
        assert_eq!(verdict("SLIPRING_OTHER__THING"), Stray::Mistake(String::new()));
    }

    #[test]
    fn what_does_not_may_be_somebody_s_own() {
        for name in [
            "SLIPRING_VERSION",
            "SLIPRING_IMAGE_TAG",
            "SLIPRING_HOME",
            "SLIPRING_",
            "SLIPRING_NATS",
        ] {
            assert_eq!(verdict(name), Stray::Unknown, "{name}");
        }
        for name in [
            "SLIPRING_BUILD_CACHE",
            "SLIPRING_LOG",
            "SLIPRING_LOG_FORMAT",
            "SLIPRING_CONFIG",
            "slipring_version",
        ] {
            assert_eq!(verdict(name), Stray::Fine, "{name}");
        }
    }

    #[test]
    fn what_kubernetes_sets_is_none_of_ours() {
        for name in [
            "SLIPRING_SERVICE_HOST",
            "SLIPRING_SERVICE_PORT",
            "SLIPRING_SERVICE_PORT_HTTP",
            "SLIPRING_PORT",
            "SLIPRING_PORT_9090_TCP",
            "SLIPRING_PORT_9090_TCP_ADDR",
            "SLIPRING_PORT_9090_TCP_PROTO",
            // Services named slipring-admin and slipring-nats-tls set these.
            "SLIPRING_ADMIN_SERVICE_HOST",
            "SLIPRING_ADMIN_SERVICE_PORT_METRICS",
            "SLIPRING_ADMIN_PORT_8787_UDP_PORT",
            "SLIPRING_NATS_TLS_PORT_4222_TCP",
            "SLIPRINGS_X",
            "SLIPRING",
            "PATH",
            "",
        ] {
            assert!(!is_ours(name), "{name}");
        }
        for name in [
            "SLIPRING_ADMIN_PORT_X_TCP",
            "SLIPRING_ADMIN_PORTS",
            "SLIPRING_NATS__SERVICE_HOST",
            "slipring.log",
        ] {
            assert!(is_ours(name), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_no_text_is_a_problem_where_it_is_ours() {
        use std::os::unix::ffi::OsStringExt;
        let odd = || OsString::from_vec(vec![b'a', 0xff]);
        let env = [
            (OsString::from("SLIPRING_NATS__TOKEN"), odd()),
            (OsString::from("OTHER"), odd()),
            (odd(), OsString::from("x")),
            (OsString::from("HOME"), OsString::from("/h")),
        ];
        let (texts, problems) = readable(env);
        assert_eq!(texts, [("HOME".to_owned(), "/h".to_owned())]);
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["SLIPRING_NATS__TOKEN: its value is not UTF-8"]);
    }
}
