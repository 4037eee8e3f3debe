//! `slipring status`: queries a running relay for the state of its modules.

use std::io::Write;

use anyhow::{Context, anyhow};
use serde::Deserialize;

use super::address::Address;
use super::failure::Failure;
use super::printable::{printable, printable_json};
use super::table::align;
use crate::status::{Kind, MemoryStatus, ModuleStatus, NatsStatus, State, Status};

/// Show the state of a running relay and its modules
///
/// Connects to the relay at `admin.listen`, with the token in the configuration or the one that the relay created. Prints one line per
/// module: its state, the hash of its file, how many messages it received, dropped and rejected, how many publications Centrifugo
/// confirmed, and how far it is behind its stream. Under the table it says why the relay is not ready, and what needs attention.
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
        write!(output, "{}", render(&status))?;
    }
    if args.check && !status.ready {
        return Err(anyhow!("the relay is not ready").into());
    }
    Ok(())
}

fn render(status: &Status) -> String {
    let ready = if status.ready { "ready" } else { "not ready" };
    let words = |nats: &NatsStatus| match (&nats.server, nats.connected) {
        (Some(server), true) => format!("connected to {server}"),
        (None, true) => "connected".to_owned(),
        (_, false) => match &nats.trouble {
            Some(trouble) => format!("not connected: {trouble}"),
            None => "not connected".to_owned(),
        },
    };
    let nats = status.nats.as_ref().map_or_else(|| "not needed".to_owned(), words);
    let trouble = status.centrifugo.trouble.as_deref().unwrap_or("no trouble");
    let mut head = vec![
        vec![
            "slipring".to_owned(),
            format!("{} {ready}, since {}", status.version, status.started),
        ],
        vec!["nats".to_owned(), nats],
        vec!["centrifugo".to_owned(), trouble.to_owned()],
    ];
    if let Some(MemoryStatus { used, limit }) = status.memory {
        let used = format!("{} of {} MiB in use", used.div_ceil(1 << 20), limit >> 20);
        head.push(vec!["memory".to_owned(), used]);
    }
    let mut text = align(&head);
    text.push('\n');
    if status.modules.is_empty() {
        text.push_str("no modules\n");
        return text;
    }
    let head = [
        "MODULE",
        "STATE",
        "HASH",
        "RECEIVED",
        "PUBLISHED",
        "DROPPED",
        "REJECTED",
        "LAG",
        "SINCE",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(status.modules.iter().map(row));
    text.push_str(&align(&rows));

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
    if !remarks.is_empty() {
        text.push('\n');
        text.push_str(&printable(&remarks));
    }
    text
}

fn row(module: &ModuleStatus) -> Vec<String> {
    let hash = module
        .sha256
        .as_deref()
        .map_or("-", |hash| hash.get(..12).unwrap_or(hash));
    let lag = match (module.lag_messages, module.lag_seconds) {
        (None, _) => "-".to_owned(),
        (Some(messages), None) => messages.to_string(),
        (Some(messages), Some(seconds)) => format!("{messages} / {seconds:.1}s"),
    };
    vec![
        module.name.clone(),
        module.state.to_string(),
        hash.to_owned(),
        module.received.to_string(),
        module.published.to_string(),
        module.dropped.to_string(),
        module.rejected.to_string(),
        lag,
        module.since.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    const ANSWER: &str = r#"{"version":"0.1.0","started":"2026-11-01T08:00:00Z","ready":false,
        "nats":{"connected":true,"server":"2.15.2"},"centrifugo":{"trouble":"401: the API key is wrong"},
        "memory":{"used":5000000,"limit":268435456},"modules":[
        {"name":"orders","state":"running","reason":null,"sha256":"0123456789abcdef0123","since":"2026-11-01T08:00:01Z",
         "stream":"ORDERS","consumer":"slipring-orders","received":100000,"transformed":99998,"dropped":1,"expired":7,"rejected":2,
         "published":120000,"retried":3,"swaps":1,"refused_swaps":1,"last_refusal":"it does not export `init`",
         "lag_messages":12,"lag_seconds":0.44,"window_messages":9,"window_bytes":900},
        {"name":"bills","state":"halted","reason":"101 rejections in a row","sha256":null,"since":"2026-11-01T08:00:02Z",
         "received":101,"rejected":101,"lag_messages":null,"lag_seconds":null,"added_later":true}]}"#;

    #[test]
    fn modules_are_columns_and_troubles_sentences() {
        let status = serde_json::from_str(ANSWER).unwrap();
        assert_snapshot!(render(&status), @r#"
        slipring    0.1.0 not ready, since 2026-11-01T08:00:00Z
        nats        connected to 2.15.2
        centrifugo  401: the API key is wrong
        memory      5 of 256 MiB in use

        MODULE  STATE    HASH          RECEIVED  PUBLISHED  DROPPED  REJECTED  LAG        SINCE
        orders  running  0123456789ab  100000    120000     1        2         12 / 0.4s  2026-11-01T08:00:01Z
        bills   halted   -             101       0          0        101       -          2026-11-01T08:00:02Z

        orders: messages skipped because they were older than `max_age`: 7
        orders: its last new version was refused: it does not export `init`
        bills is halted: 101 rejections in a row
        "#);
        let nothing = serde_json::from_str("{}").unwrap();
        assert_snapshot!(render(&nothing), @r#"
        slipring     not ready, since
        nats        not needed
        centrifugo  no trouble

        no modules
        "#);
    }
}
