//! The arguments that select the dead letters a command works on.

use std::path::Path;

use clap::ValueEnum;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

use super::super::failure::Failure;
use crate::config;
use crate::dead_letter::{self, Reason};

/// All that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct Filter {
    /// Only dead letters of this module
    #[arg(long, value_name = "MODULE", value_parser = module)]
    pub module: Option<String>,
    /// Only dead letters that this stage rejected
    #[arg(long)]
    stage: Option<Stage>,
    /// Only dead letters with this code, such as `trap` or `102`
    #[arg(long)]
    code: Option<String>,
    /// Only dead letters whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only dead letters stored at this time or later: RFC 3339, or an age such as `2h` or `1d 12h`
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only dead letters stored before this time, in the format of --since
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    Transform,
    Publish,
}

/// By number, by filter, or all: one of these, so that nothing is chosen by mistake.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Selection {
    /// Their numbers, as shown by `slipring dead-letters list`
    #[arg(value_name = "NUMBER", conflicts_with_all = ["Filter", "all"])]
    pub numbers: Vec<u64>,
    #[command(flatten)]
    pub filter: Filter,
    /// All dead letters
    #[arg(long, conflicts_with = "Filter")]
    pub all: bool,
}

impl Filter {
    pub fn chosen(&self) -> dead_letter::Filter {
        dead_letter::Filter {
            module: self.module.clone(),
            stage: self.stage.map(|stage| stage.name().to_owned()),
            code: self.code.clone(),
            reason: self.reason.clone().map(Reason::Contains),
            since: self.since,
            until: self.until,
        }
    }
}

impl Selection {
    /// Giving no selection does not mean all letters.
    pub fn chosen(&self) -> Result<dead_letter::Selection, Failure> {
        if !self.numbers.is_empty() {
            return Ok(dead_letter::Selection::Numbers(self.numbers.clone()));
        }
        if !self.all && self.filter == Filter::default() {
            return Err(Failure::Usage(
                "no dead letters are selected: give their numbers (see `slipring dead-letters list`), a filter such as \
                 `--module NAME`, or `--all`"
                    .to_owned(),
            ));
        }
        Ok(dead_letter::Selection::Matching(self.filter.chosen()))
    }
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Transform => "transform",
            Self::Publish => "publish",
        }
    }
}

/// The name becomes part of a subject.
fn module(text: &str) -> Result<String, String> {
    let file = format!("{text}.toml");
    match config::module_name(Path::new(&file)) {
        Ok(name) if name == text => Ok(name.to_owned()),
        _ => Err("a module's name must not contain spaces, `.`, `*`, `>`, `/` or `\\`".to_owned()),
    }
}

/// Parses a time, or how long ago it was.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = text.parse::<Span>().ok();
    let ago = ago.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    ago.map(SignedDuration::abs)
        .and_then(|ago| Timestamp::now().checked_sub(ago).ok())
        .ok_or_else(|| "it must be a time such as 2026-11-01T00:00:00Z, or an age such as 2h or 1d 12h".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        selection: Selection,
    }

    fn parse(line: &str) -> Result<Selection, String> {
        let matches = Line::command().try_get_matches_from(format!("replay {line}").split_whitespace());
        let line = matches.and_then(|matches| Line::from_arg_matches(&matches));
        line.map(|line| line.selection)
            .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
    }

    #[test]
    fn one_way_of_choosing_is_needed_and_no_more() {
        let chosen = |line: &str| parse(line).unwrap().chosen();
        assert_eq!(chosen("1 2").unwrap(), dead_letter::Selection::Numbers(vec![1, 2]));
        let all = dead_letter::Selection::Matching(dead_letter::Filter::default());
        assert_eq!(chosen("--all").unwrap(), all);
        for line in [
            "--code 102",
            "--module orders --stage publish --code 102 --reason no --since 2h --until 1h",
        ] {
            assert!(chosen(line).is_ok(), "{line}");
        }
        let failure = chosen("").unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains("`--all`"), "{failure}");
        for wrong in [
            "1 --all",
            "1 --module orders",
            "--all --code trap",
            "one",
            "--stage neither",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for wrong in [
            "--module a.b",
            "--module *",
            "--module ../a",
            "--since soon",
            "--until 2026",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_how_long_ago_it_was() {
        let time: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        assert_eq!(moment("2026-11-01T01:00:00+01:00"), Ok(time));
        let day = moment("1d").unwrap().duration_until(Timestamp::now());
        assert!(day >= SignedDuration::from_hours(24) && day < SignedDuration::from_hours(25));
        assert!(moment("1h 30m").unwrap() < Timestamp::now());
    }

    #[test]
    fn every_filter_must_hold() {
        let letter = super::super::text::tests::letter();
        let matches = |line: &str| parse(line).unwrap().filter.chosen().matches(&letter);
        for line in [
            "--all",
            "--module orders",
            "--stage transform",
            "--code rejected --reason missing",
            "--since 2026-11-01T08:00:00Z --until 2026-11-01T08:00:01Z",
        ] {
            assert!(matches(line), "{line}");
        }
        for line in [
            "--module bills",
            "--stage publish",
            "--code trap",
            "--reason found",
            "--module orders --code trap",
            "--since 2026-11-01T08:00:01Z",
            "--until 2026-11-01T08:00:00Z",
        ] {
            assert!(!matches(line), "{line}");
        }
    }
}
