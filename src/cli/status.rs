//! `slipring status`: asks a running relay how its modules do.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::table::align;
use super::{ConfigFile, Failure};
use crate::config::Secret;

/// Show what the modules of a running relay do
///
/// Asks the relay at the address that `admin.listen` of the configuration names, with the token if one is set there. One line a
/// module: its state, the hash of the file in use, what it received and what became of that, how far it is behind its stream.
/// A module that does not run has its reason below.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring status
  slipring status --url http://10.0.0.7:8787
  slipring status --json | jq '.modules[] | select(.state != \"running\")'")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Where the relay listens, instead of the address in the configuration
    #[arg(long)]
    url: Option<Url>,
    /// Print what the relay said, for programs
    #[arg(long)]
    json: bool,
}

const TIMEOUT: Duration = Duration::from_secs(10);

pub fn execute(args: &Args, output: &mut dyn Write) -> Result<(), Failure> {
    let config = args.config.load()?;
    let url = match &args.url {
        Some(url) => url.clone(),
        None => base_url(config.admin.listen)?,
    };
    let url = url.join("api/status").with_context(|| format!("{url} can't be the base of a URL"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(fetch(&url, config.admin.token.as_ref()))?;
    if args.json {
        writeln!(output, "{answer:#}")?;
    } else {
        let status = Status::deserialize(answer).with_context(|| format!("{url} is not the status of a relay"))?;
        write!(output, "{}", render(&status))?;
    }
    Ok(())
}

/// An address that everything listens on is reached over the loopback.
fn base_url(listen: SocketAddr) -> anyhow::Result<Url> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let url = format!("http://{}/", SocketAddr::new(ip, listen.port()));
    Url::parse(&url).with_context(|| format!("{url} is not a URL"))
}

async fn fetch(url: &Url, token: Option<&Secret>) -> anyhow::Result<Value> {
    // A proxy has no way to the loopback of this machine.
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
    let mut request = client.get(url.clone());
    if let Some(token) = token {
        request = request.bearer_auth(token.expose());
    }
    let response = request.send().await.map_err(reqwest::Error::without_url);
    let response = response.with_context(|| format!("no relay answers at {url}; is it running?"))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            bail!("the relay at {url} wants its token: set `admin.token_file` in the configuration, or SLIPRING_ADMIN__TOKEN")
        }
        other => bail!("{url} answered {other}; a relay's answers 200"),
    }
    let body = response.bytes().await.map_err(reqwest::Error::without_url);
    let body = body.with_context(|| format!("the answer of {url} broke off"))?;
    serde_json::from_slice(&body).with_context(|| format!("the answer of {url} is not JSON"))
}

/// What `/api/status` says, as far as people are shown it. What an older or newer relay leaves out is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    version: String,
    started: String,
    ready: bool,
    nats: NatsStatus,
    centrifugo: CentrifugoStatus,
    modules: Vec<ModuleStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NatsStatus {
    connected: bool,
    server: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CentrifugoStatus {
    trouble: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ModuleStatus {
    name: String,
    state: String,
    reason: Option<String>,
    sha256: Option<String>,
    since: String,
    received: u64,
    published: u64,
    dropped: u64,
    rejected: u64,
    last_refusal: Option<String>,
    lag_messages: Option<u64>,
    lag_seconds: Option<f64>,
}

fn render(status: &Status) -> String {
    let ready = if status.ready { "ready" } else { "not ready" };
    let nats = match (&status.nats.server, status.nats.connected) {
        (Some(server), true) => format!("connected to {server}"),
        (None, true) => "connected".to_owned(),
        (_, false) => "not connected".to_owned(),
    };
    let trouble = status.centrifugo.trouble.as_deref().unwrap_or("no trouble");
    let mut text = align(&[
        vec!["slipring".to_owned(), format!("{} {ready}, since {}", status.version, status.started)],
        vec!["nats".to_owned(), nats],
        vec!["centrifugo".to_owned(), trouble.to_owned()],
    ]);
    text.push('\n');
    if status.modules.is_empty() {
        text.push_str("no modules\n");
        return text;
    }
    let head = ["MODULE", "STATE", "HASH", "RECEIVED", "PUBLISHED", "DROPPED", "REJECTED", "LAG", "SINCE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(status.modules.iter().map(row));
    text.push_str(&align(&rows));

    let mut remarks = String::new();
    for module in &status.modules {
        if let (Some(reason), true) = (&module.reason, module.state != "running") {
            remarks.push_str(&format!("{} is {}: {reason}\n", module.name, module.state));
        }
        if let Some(refusal) = &module.last_refusal {
            remarks.push_str(&format!("{}: its last new file was refused: {refusal}\n", module.name));
        }
    }
    if !remarks.is_empty() {
        text.push('\n');
        text.push_str(&remarks);
    }
    text
}

fn row(module: &ModuleStatus) -> Vec<String> {
    let hash = module.sha256.as_deref().map_or("-", |hash| hash.get(..12).unwrap_or(hash));
    let lag = match (module.lag_messages, module.lag_seconds) {
        (None, _) => "-".to_owned(),
        (Some(messages), None) => messages.to_string(),
        (Some(messages), Some(seconds)) => format!("{messages} / {seconds:.1}s"),
    };
    vec![
        module.name.clone(),
        module.state.clone(),
        hash.to_owned(),
        module.received.to_string(),
        module.published.to_string(),
        module.dropped.to_string(),
        module.rejected.to_string(),
        lag,
        module.since.clone(),
    ]
}
