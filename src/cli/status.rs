//! `slipring status`: queries a running relay for the state of its modules.

use std::io::Write;

use anyhow::{Context, anyhow};
use serde::Deserialize;

use super::address::Address;
use super::failure::Failure;
use super::palette::Palette;
use super::printable::{printable, printable_json};
use super::table::{Cell, Column, Table, View};
use crate::status::{Kind, MemoryStatus, ModuleStatus, NatsStatus, RejectionStatus, State, Status};

/// Show the state of a running relay and its modules
///
/// Connects to the relay at `admin.listen`, with the token in the configuration or the one that the relay created. Prints one line per
/// module: its state, the hash of its file, how many messages it received, dropped and rejected, how many publications Centrifugo
/// confirmed, and how far it is behind its stream. A module is `paused` while it runs but nothing can be published, or while somebody
/// has paused its consumer. Under the table it says why the relay is not ready, what needs attention, and why messages were rejected.
///
/// On a narrow terminal, some columns are left out.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring status
  slipring status --url http://10.0.0.7:8787
  slipring status --check >/dev/null || echo 'not ready'
  slipring status --json | jq '.modules[] | select(.state != \"running\")'")]
pub struct Args {
    #[command(flatten)]
    relay: Address,
    /// Print the relay's reply as JSON, for programs
    #[arg(long)]
    json: bool,
    /// Exit with 1 if the relay is not ready, for scripts and probes
    #[arg(long)]
    check: bool,
}

pub fn execute(args: &Args, output: &mut dyn Write) -> Result<(), Failure> {
    let answer = args.relay.find()?.status()?;
    let status = Status::deserialize(&answer).context("the reply is not the status of a relay")?;
    if args.json {
        writeln!(output, "{}", printable_json(&format!("{answer:#}")))?;
    } else {
        write!(output, "{}", render(&status, &View::of_stdout()))?;
    }
    if args.check && !status.ready {
        return Err(anyhow!("the relay is not ready").into());
    }
    Ok(())
}

const HEAD: [Column; 2] = [Column::new(""), Column::new("").wraps_from(20)];

const COLUMNS: [Column; 9] = [
    Column::new("MODULE").shrinks_to(12),
    Column::new("STATE"),
    Column::new("HASH").left_out(2),
    Column::new("RECEIVED"),
    Column::new("PUBLISHED"),
    Column::new("DROPPED").left_out(3),
    Column::new("REJECTED"),
    Column::new("LAG"),
    Column::new("SINCE").left_out(1),
];

fn render(status: &Status, view: &View) -> String {
    let palette = &view.palette;
    let mut text = head(status, palette).render(view);
    text.push('\n');
    if status.modules.is_empty() {
        text.push_str("no modules\n");
        return text;
    }
    let mut table = Table::new(COLUMNS);
    for module in &status.modules {
        table.row(row(module, status.centrifugo.trouble.is_some(), palette));
    }
    text.push_str(&table.render(view));
    let remarks = remarks(status);
    if !remarks.is_empty() {
        text.push('\n');
        text.push_str(&view.wrap(&printable(&remarks), 2));
    }
    text
}

fn head(status: &Status, palette: &Palette) -> Table {
    let ready = match status.ready {
        true => Cell::styled("ready", palette.good),
        false => Cell::styled("not ready", palette.bad),
    };
    let words = |nats: &NatsStatus| {
        let at = match nats.servers.as_slice() {
            [] => String::new(),
            servers => format!(" at {}", servers.join(", ")),
        };
        match (&nats.server, nats.connected) {
            (Some(server), true) => format!("connected to nats-server {server}{at}"),
            (None, true) => format!("connected{at}"),
            (_, false) => match &nats.trouble {
                Some(trouble) => format!("not connected: {trouble}"),
                None => "not connected".to_owned(),
            },
        }
    };
    let nats = status.nats.as_ref().map_or_else(|| "not needed".to_owned(), words);
    let is_connected = status.nats.as_ref().is_none_or(|nats| nats.connected);
    let centrifugo = match (&status.centrifugo.trouble, status.centrifugo.endpoints.as_slice()) {
        (Some(trouble), _) => Cell::styled(trouble, palette.bad),
        (None, []) => Cell::from("no trouble"),
        (None, endpoints) => Cell::from(format!("no trouble at {}", endpoints.join(", "))),
    };
    let mut head = Table::new(HEAD);
    head.row([
        Cell::from("slipring"),
        Cell::styled(
            format!("{} {}, since {}", status.version, ready.text(), status.started),
            ready.style(),
        ),
    ]);
    head.row([
        Cell::from("nats"),
        match is_connected {
            true => Cell::from(nats),
            false => Cell::styled(nats, palette.bad),
        },
    ]);
    head.row([Cell::from("centrifugo"), centrifugo]);
    if let Some(MemoryStatus { used, limit }) = status.memory {
        let used = format!("{} of {} MiB in use", used.div_ceil(1 << 20), limit >> 20);
        head.row(["memory".to_owned(), used].map(Cell::from));
    }
    head
}

/// Returns what the table does not say, in sentences.
fn remarks(status: &Status) -> String {
    let mut remarks = String::new();
    for (head, findings) in [("not ready", &status.obstacles), ("warning", &status.warnings)] {
        // What concerns no module is above the table.
        for finding in findings
            .iter()
            .filter(|finding| finding.module.is_some() || finding.kind == Kind::Permission)
        {
            remarks.push_str(&format!("{head}: {finding}\n"));
        }
    }
    for module in &status.modules {
        let is_told = status.obstacles.iter().chain(&status.warnings);
        let is_told = is_told
            .filter(|finding| finding.module.as_ref() == Some(&module.name))
            .any(|finding| {
                let reason = module.reason.as_deref();
                reason.is_some_and(|reason| finding.text.ends_with(reason))
            });
        if let (Some(reason), true, false) = (&module.reason, module.state != State::Running, is_told) {
            remarks.push_str(&format!("{} is {}: {reason}\n", module.name, module.state));
        }
        if let Some(RejectionStatus { at, code, reason, .. }) = &module.last_rejection {
            let name = &module.name;
            remarks.push_str(&format!("{name}: the last rejection, at {at} ({code}): {reason}\n"));
        }
        if module.expired > 0 {
            let (name, expired) = (&module.name, module.expired);
            remarks.push_str(&format!(
                "{name}: messages skipped because they were older than `max_age`: {expired}\n"
            ));
        }
        let refusal = module.last_refusal.as_ref();
        // If nothing runs, the refusal is already shown as the reason.
        if let Some(refusal) = refusal.filter(|refusal| Some(*refusal) != module.reason.as_ref()) {
            remarks.push_str(&format!(
                "{}: its last new version was refused: {refusal}\n",
                module.name
            ));
        }
    }
    remarks
}

fn row(module: &ModuleStatus, nothing_is_published: bool, palette: &Palette) -> Vec<Cell> {
    let hash = module
        .sha256
        .as_deref()
        .map_or("-", |hash| hash.get(..12).unwrap_or(hash));
    let lag = match (module.lag_messages, module.lag_seconds) {
        (None, _) => "-".to_owned(),
        (Some(messages), None) => messages.to_string(),
        (Some(messages), Some(seconds)) => format!("{messages} / {seconds:.1}s"),
    };
    let rejected = match module.rejected {
        0 => Cell::from("0"),
        rejected => Cell::styled(rejected.to_string(), palette.note),
    };
    let is_paused = nothing_is_published || module.backlog.as_ref().is_some_and(|backlog| backlog.paused);
    vec![
        module.name.clone().into(),
        match module.state {
            State::Running if is_paused => Cell::styled("paused", palette.note),
            state => state_cell(state, palette),
        },
        hash.into(),
        module.received.to_string().into(),
        module.published.to_string().into(),
        module.dropped.to_string().into(),
        rejected,
        lag.into(),
        module.since.clone().into(),
    ]
}

/// Returns the word for a state in its colour.
pub(super) fn state_cell(state: State, palette: &Palette) -> Cell {
    let style = match state {
        State::Running => palette.good,
        State::Halted | State::Failed => palette.bad,
        State::Standby => anstyle::Style::new(),
        State::Waiting | State::Starting | State::Draining | State::Unknown => palette.note,
    };
    Cell::styled(state.to_string(), style)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    const ANSWER: &str = r#"{"version":"0.1.0","started":"2026-11-01T08:00:00Z","ready":false,
        "nats":{"connected":true,"server":"2.15.2","servers":["nats://10.0.0.7:4222"]},"centrifugo":{"trouble":"401: the API key is wrong"},
        "memory":{"used":5000000,"limit":268435456},"modules":[
        {"name":"orders","state":"running","reason":null,"sha256":"0123456789abcdef0123","since":"2026-11-01T08:00:01Z",
         "stream":"ORDERS","consumer":"slipring-orders","received":100000,"transformed":99998,"dropped":1,"expired":7,"rejected":2,
         "published":120000,"retried":3,"swaps":1,"refused_swaps":1,"last_refusal":"it does not export `init`",
         "last_rejection":{"at":"2026-11-01T08:00:03Z","stage":"publish","code":"102","channel":"orders:7","reason":"unknown channel"},
         "lag_messages":12,"lag_seconds":0.44,"window_messages":9,"window_bytes":900},
        {"name":"bills","state":"halted","reason":"101 rejections in a row","sha256":null,"since":"2026-11-01T08:00:02Z",
         "received":101,"rejected":101,"lag_messages":null,"lag_seconds":null,"added_later":true}]}"#;

    #[test]
    fn modules_are_columns_and_troubles_sentences() {
        let status = serde_json::from_str(ANSWER).unwrap();
        assert_snapshot!(render(&status, &View::default()), @r#"
        slipring    0.1.0 not ready, since 2026-11-01T08:00:00Z
        nats        connected to nats-server 2.15.2 at nats://10.0.0.7:4222
        centrifugo  401: the API key is wrong
        memory      5 of 256 MiB in use

        MODULE  STATE   HASH          RECEIVED  PUBLISHED  DROPPED  REJECTED  LAG        SINCE
        orders  paused  0123456789ab  100000    120000     1        2         12 / 0.4s  2026-11-01T08:00:01Z
        bills   halted  -             101       0          0        101       -          2026-11-01T08:00:02Z

        orders: the last rejection, at 2026-11-01T08:00:03Z (102): unknown channel
        orders: messages skipped because they were older than `max_age`: 7
        orders: its last new version was refused: it does not export `init`
        bills is halted: 101 rejections in a row
        "#);
        let nothing = serde_json::from_str("{}").unwrap();
        assert_snapshot!(render(&nothing, &View::default()), @r#"
        slipring     not ready, since
        nats        not needed
        centrifugo  no trouble

        no modules
        "#);
    }

    #[test]
    fn no_row_is_wider_than_the_terminal() {
        let status = serde_json::from_str(ANSWER).unwrap();
        let view = View {
            width: Some(80),
            ..View::default()
        };
        assert_snapshot!(render(&status, &view), @r#"
        slipring    0.1.0 not ready, since 2026-11-01T08:00:00Z
        nats        connected to nats-server 2.15.2 at nats://10.0.0.7:4222
        centrifugo  401: the API key is wrong
        memory      5 of 256 MiB in use

        MODULE  STATE   HASH          RECEIVED  PUBLISHED  DROPPED  REJECTED  LAG
        orders  paused  0123456789ab  100000    120000     1        2         12 / 0.4s
        bills   halted  -             101       0          0        101       -
        (left out: SINCE; a wider terminal or a pipe shows all)

        orders: the last rejection, at 2026-11-01T08:00:03Z (102): unknown channel
        orders: messages skipped because they were older than `max_age`: 7
        orders: its last new version was refused: it does not export `init`
        bills is halted: 101 rejections in a row
        "#);
        let view = View {
            width: Some(60),
            ..view
        };
        for line in render(&status, &view).lines() {
            assert!(line.len() <= 60, "{line}");
        }
    }

    #[test]
    fn a_module_runs_where_it_can_publish() {
        let mut status: Status = serde_json::from_str(ANSWER).unwrap();
        status.centrifugo.trouble = None;
        let states = |status: &Status| {
            let text = render(status, &View::default());
            let states = text.lines().filter(|line| line.starts_with("orders  "));
            states
                .map(|line| line.split_whitespace().nth(1).unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(states(&status), ["running"]);
        status.modules[0].backlog = Some(crate::status::Backlog {
            paused: true,
            ..crate::status::Backlog::default()
        });
        assert_eq!(states(&status), ["paused"]);
    }
}
