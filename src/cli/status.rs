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
    let url = url
        .join("api/status")
        .with_context(|| format!("{url} can't be the base of a URL"))?;
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
    let response = response.with_context(|| format!("no relay answers at {url} (is it running?)"))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            bail!(
                "the relay at {url} wants its token: set `admin.token_file` in the configuration, or SLIPRING_ADMIN__TOKEN"
            )
        }
        other => bail!("{url} answered {other}; a relay answers 200 OK"),
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
        vec![
            "slipring".to_owned(),
            format!("{} {ready}, since {}", status.version, status.started),
        ],
        vec!["nats".to_owned(), nats],
        vec!["centrifugo".to_owned(), trouble.to_owned()],
    ]);
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use insta::assert_snapshot;

    use super::super::canned;
    use super::*;

    const ANSWER: &str = r#"{"version":"0.1.0","started":"2026-11-01T08:00:00Z","ready":false,
        "nats":{"connected":true,"server":"2.15.2"},"centrifugo":{"trouble":"401: the API key is wrong"},"modules":[
        {"name":"orders","state":"running","reason":null,"sha256":"0123456789abcdef0123","since":"2026-11-01T08:00:01Z",
         "stream":"ORDERS","consumer":"slipring-orders","received":100000,"transformed":99998,"dropped":1,"rejected":2,
         "published":120000,"retried":3,"swaps":1,"refused_swaps":1,"last_refusal":"it does not export `init`",
         "lag_messages":12,"lag_seconds":0.44,"window_messages":9,"window_bytes":900},
        {"name":"bills","state":"halted","reason":"101 rejections in a row","sha256":null,"since":"2026-11-01T08:00:02Z",
         "received":101,"rejected":101,"lag_messages":null,"lag_seconds":null,"added_later":true}]}"#;

    fn ask(url: &Url, token: Option<&str>) -> anyhow::Result<Value> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let url = url.join("api/status").unwrap();
        let shown = url.port().unwrap().to_string();
        runtime
            .block_on(fetch(&url, token.map(Secret::new).as_ref()))
            .map_err(|error| anyhow::anyhow!(format!("{error:#}").replace(&shown, "8787")))
    }

    #[test]
    fn modules_are_columns_and_troubles_sentences() {
        let status = serde_json::from_str(ANSWER).unwrap();
        assert_snapshot!(render(&status), @r#"
        slipring    0.1.0 not ready, since 2026-11-01T08:00:00Z
        nats        connected to 2.15.2
        centrifugo  401: the API key is wrong

        MODULE  STATE    HASH          RECEIVED  PUBLISHED  DROPPED  REJECTED  LAG        SINCE
        orders  running  0123456789ab  100000    120000     1        2         12 / 0.4s  2026-11-01T08:00:01Z
        bills   halted   -             101       0          0        101       -          2026-11-01T08:00:02Z

        orders: its last new file was refused: it does not export `init`
        bills is halted: 101 rejections in a row
        "#);
        let nothing = serde_json::from_str("{}").unwrap();
        assert_snapshot!(render(&nothing), @r#"
        slipring     not ready, since
        nats        not connected
        centrifugo  no trouble

        no modules
        "#);
    }

    #[test]
    fn the_relay_is_asked_with_its_token() {
        let (url, asked) = canned::answer("200 OK", ANSWER);
        let answer = ask(&url, Some("hunter2")).unwrap();
        assert_eq!(answer["modules"][0]["name"], "orders");
        let asked = asked.join().unwrap();
        assert_eq!(asked[0], "GET /api/status HTTP/1.1");
        assert!(
            asked.iter().any(|line| line == "authorization: Bearer hunter2"),
            "{asked:?}"
        );
    }

    #[test]
    fn what_is_no_relay_is_told() {
        let (url, _) = canned::answer("401 Unauthorized", "");
        assert_snapshot!(ask(&url, None).unwrap_err(), @r#"
        the relay at http://127.0.0.1:8787/api/status wants its token: set `admin.token_file` in the configuration, or SLIPRING_ADMIN__TOKEN
        "#);
        let (url, _) = canned::answer("404 Not Found", "");
        assert_snapshot!(ask(&url, None).unwrap_err(), @r#"
        http://127.0.0.1:8787/api/status answered 404 Not Found; a relay answers 200 OK
        "#);
        let (url, _) = canned::answer("200 OK", "hi");
        assert_snapshot!(ask(&url, None).unwrap_err(), @r#"
        the answer of http://127.0.0.1:8787/api/status is not JSON: expected value at line 1 column 1
        "#);
        // Bound and closed again: no one listens there.
        let url = base_url(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()).unwrap();
        assert_snapshot!(ask(&url, None).unwrap_err(), @r#"
        no relay answers at http://127.0.0.1:8787/api/status (is it running?): error sending request: client error (Connect): tcp connect error: Connection refused (os error 111)
        "#);
    }

    #[test]
    fn what_listens_everywhere_is_reached_over_the_loopback() {
        let url = |listen: &str| base_url(listen.parse().unwrap()).unwrap().to_string();
        assert_eq!(url("0.0.0.0:1234"), "http://127.0.0.1:1234/");
        assert_eq!(url("[::]:1234"), "http://[::1]:1234/");
        assert_eq!(url("10.0.0.7:1234"), "http://10.0.0.7:1234/");
    }
}
