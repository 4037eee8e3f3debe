//! The list of commands in `slipring --help`, in groups. clap knows only one list.

use std::fmt::Write as _;

use clap::builder::Styles;

/// Each command is in one of them; a test says which is missing.
const GROUPS: [(&str, &[&str]); 3] = [
    (
        "To write a module",
        &[
            "new", "up", "test", "dev", "try", "diff", "record", "publish", "deploy", "fix",
        ],
    ),
    (
        "To run the relay",
        &["run", "check", "status", "top", "tap", "modules", "dead-letters"],
    ),
    ("Other", &["completions", "help"]),
];

/// Returns clap's template for the help of the whole program.
pub fn template(commands: &clap::Command) -> String {
    let styles = Styles::default();
    let (heading, literal) = (styles.get_header(), styles.get_literal());
    let mut template = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    let abouts = abouts(commands);
    let width = abouts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (title, names) in GROUPS {
        let _ = writeln!(template, "\n{heading}{title}:{heading:#}");
        for name in names {
            if let Some((_, about)) = abouts.iter().find(|(known, _)| known == name) {
                let _ = writeln!(template, "  {literal}{name:width$}{literal:#}  {about}");
            }
        }
    }
    let _ = write!(template, "\n{heading}Options:{heading:#}\n{{options}}{{after-help}}");
    template
}

/// Returns the name and the first sentence of each command that people use.
fn abouts(commands: &clap::Command) -> Vec<(String, String)> {
    let shown = commands.get_subcommands().filter(|command| !command.is_hide_set());
    let about = |command: &clap::Command| command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut abouts: Vec<_> = shown
        .map(|command| (command.get_name().to_owned(), about(command)))
        .collect();
    // clap adds it later.
    abouts.push(("help".to_owned(), "Explain a command".to_owned()));
    abouts
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::Cli;
    use super::*;

    #[test]
    fn every_command_is_in_one_group_and_its_line_fits() {
        let commands = Cli::command();
        let abouts = abouts(&commands);
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        for (name, about) in &abouts {
            let times = grouped.iter().filter(|grouped| *grouped == name).count();
            assert_eq!(times, 1, "`{name}` must be in one of GROUPS");
            assert!(about.len() <= 64, "`{name}` does not fit into 80 columns: {about}");
        }
        for name in grouped {
            assert!(
                abouts.iter().any(|(known, _)| known == name),
                "there is no command `{name}`"
            );
        }
        let help = Cli::command().render_long_help().to_string();
        for (name, about) in &abouts {
            let line = format!("  {name:12}  {about}\n");
            assert_eq!(help.matches(&line).count(), 1, "{line:?} in\n{help}");
        }
        assert!(help.contains("--log-format"), "{help}");
    }
}
