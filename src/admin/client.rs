//! The client of a running relay's admin server.

mod attempts;
mod dead_letters;
mod sse;
mod stream;
mod trust;
mod upload;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;
use url::{Host, Position, Url};

pub use self::dead_letters::DeadLetter;
pub use self::sse::Event;
pub use self::stream::Events;
pub use self::trust::Trust;
use super::guard::COMMAND_HEADER;
use super::token_file;
use crate::cause;
use crate::config::{self, Secret};

/// A relay that is expected to run at this address.
#[derive(Debug)]
pub struct Client {
    url: Url,
    config: config::Admin,
    /// The file that `--token-file` names, if it was given.
    token_file: Option<PathBuf>,
    runtime: Runtime,
    client: reqwest::Client,
}

/// The token for a relay, or the reason why there is none.
#[derive(Debug, Clone)]
enum Token {
    Known(Secret),
    /// The relay may have created one in one of these files.
    NotIn(String),
    /// A relay on another machine keeps it there.
    Elsewhere,
}

const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection is used again. A relay ends one that is idle for 10 seconds, and nobody notices that between two
/// requests.
const IDLE: Duration = Duration::from_secs(5);

/// Compiling a large module takes that long.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

impl Client {
    /// Each request will have the token from the configuration, or else the one that a relay at this address has created.
    pub fn new(url: Url, config: &config::Admin, trust: Trust) -> anyhow::Result<Self> {
        let tls = trust.client(url.scheme() == "https")?;
        Ok(Self {
            config: config.clone(),
            token_file: None,
            url,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            // A proxy cannot reach the loopback interface of this machine.
            client: reqwest::Client::builder()
                .no_proxy()
                .pool_idle_timeout(IDLE)
                .tls_backend_preconfigured(tls)
                .build()?,
        })
    }

    /// Sends this token from `file` instead of the configured one.
    #[must_use]
    pub fn with_token(mut self, token: Secret, file: PathBuf) -> Self {
        self.config.token = Some(token);
        self.token_file = Some(file);
        self
    }

    /// Returns the JSON of `/api/v1/status`.
    pub fn status(&self) -> anyhow::Result<Value> {
        let url = self.path("api/v1/status")?;
        let (status, body) = self.ask(&url, self.client.get(url.clone()).timeout(TIMEOUT))?;
        match status {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => {
                bail!("{url} returned {status}: {}", body.trim_end())
            }
            _ => bail!("{url} returned {status}, so it is probably not a relay: check `--url` or `admin.listen`"),
        }
        serde_json::from_str(&body).with_context(|| format!("the reply from {url} is not JSON"))
    }

    /// Returns the JSON of `/api/v1/modules/NAME/versions`.
    pub fn versions(&self, module: &str) -> anyhow::Result<Value> {
        self.block_on(self.get(&format!("api/v1/modules/{module}/versions")))
    }

    /// Runs a command. Returns the relay's reply, a sentence.
    pub fn command(&self, module: &str, verb: &str, version: Option<&str>) -> anyhow::Result<String> {
        let mut url = self.path(&format!("api/v1/modules/{module}/{verb}"))?;
        if let Some(version) = version {
            url.query_pairs_mut().append_pair("version", version);
        }
        let request = self.client.post(url.clone()).header(COMMAND_HEADER, "1");
        let (status, body) = self.ask(&url, request.timeout(COMMAND_TIMEOUT))?;
        let said = body.trim_end();
        match status {
            StatusCode::OK => Ok(said.to_owned()),
            StatusCode::NOT_FOUND if said.is_empty() => {
                bail!("{url} returned {status}: is it a relay of this version?")
            }
            StatusCode::CONFLICT | StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE => bail!("{said}"),
            other => bail!("{url} returned {other}: {said}"),
        }
    }

    /// Returns the host and port, as people write them.
    pub fn address(&self) -> &str {
        &self.url[Position::BeforeHost..Position::AfterPort]
    }

    /// Returns the token that requests have, if one is known.
    pub fn token(&self) -> Option<Secret> {
        match Token::find(&self.url, &self.config) {
            Token::Known(token) => Some(token),
            Token::NotIn(_) | Token::Elsewhere => None,
        }
    }

    /// Runs a future, such as one that reads from a stream of this client.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Returns what the relay has at this path, which may have a query.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let url = self.path(path)?;
        let response = self.send(&url, self.client.get(url.clone()).timeout(TIMEOUT)).await?;
        let status = response.status();
        let body = text(&url, response).await?;
        if status != StatusCode::OK {
            return Err(refusal(&url, status, &body));
        }
        serde_json::from_str(&body).with_context(|| format!("the reply from {url} cannot be read"))
    }

    fn path(&self, path: &str) -> anyhow::Result<Url> {
        let url = self.url.join(path);
        url.with_context(|| {
            format!(
                "{} is not a usable URL; it must be like http://127.0.0.1:8787",
                self.url
            )
        })
    }

    fn ask(&self, url: &Url, request: RequestBuilder) -> anyhow::Result<(StatusCode, String)> {
        self.runtime.block_on(async {
            let response = self.send(url, request).await?;
            Ok((response.status(), text(url, response).await?))
        })
    }

    async fn send(&self, url: &Url, mut request: RequestBuilder) -> anyhow::Result<Response> {
        // A relay that was restarted has created another one.
        let token = Token::find(&self.url, &self.config);
        if let Token::Known(token) = &token {
            request = request.bearer_auth(token.expose());
        }
        let request = request.build().map_err(reqwest::Error::without_url)?;
        let only_reads = request.method() == Method::GET;
        let response = self.client.execute(request).await;
        let response = response.map_err(reqwest::Error::without_url).map_err(|error| {
            if let Some(refusal) = trust::refusal(&error) {
                return anyhow!(
                    "the certificate of the relay at {url} is not trusted, because it is not the one in \
                     `admin.tls.cert_file` of this configuration: {refusal}; name its certificate authority with \
                     `--ca-file`, or restart the relay if its certificate has been replaced"
                );
            }
            let doing = match error.is_timeout() && !error.is_connect() {
                true if only_reads => format!("the relay at {url} has not answered yet"),
                true => format!(
                    "the relay at {url} has not answered yet; it may still do what you asked (see `slipring modules`)"
                ),
                false if self.config.from_up => format!("no relay answers at {url} (is `slipring up` running?)"),
                false => format!("no relay answers at {url} (is it running?)"),
            };
            anyhow!(cause::of(&error)).context(doing)
        })?;
        if response.status() == StatusCode::UNAUTHORIZED {
            bail!(
                "the relay at {url} requires its token: {}",
                token.advice(self.token_file.as_deref())
            )
        }
        Ok(response)
    }
}

async fn text(url: &Url, response: Response) -> anyhow::Result<String> {
    let body = response.bytes().await;
    let body = body.map_err(|error| anyhow!(cause::of(&error.without_url())));
    let body = body.with_context(|| format!("the reply from {url} was cut short"))?;
    let body = String::from_utf8(body.into());
    body.with_context(|| format!("the reply from {url} is not UTF-8"))
}

/// Returns an error for a reply of another status than 200.
fn refusal(url: &Url, status: StatusCode, body: &str) -> anyhow::Error {
    let said = body.trim_end();
    // A relay that does not know the path lists those that it knows. Other servers send a page.
    let is_sentence = !said.is_empty() && !said.contains('\n') && !said.starts_with('<');
    match status {
        StatusCode::NOT_FOUND if !is_sentence => {
            anyhow!(
                "{url} returned {status}, so it is not a relay, or one of an older version: check `--url` or `admin.listen`"
            )
        }
        _ if is_sentence => anyhow!("{url} returned {status}: {said}"),
        _ => anyhow!("{url} returned {status}, so it is probably not a relay: check `--url` or `admin.listen`"),
    }
}

impl Token {
    fn find(url: &Url, config: &config::Admin) -> Self {
        if let Some(token) = &config.token {
            return Self::Known(token.clone());
        }
        let created = match local(url) {
            Some(address) => token_file::find(&config.token_dirs, address).map_or_else(Self::NotIn, Self::Known),
            None => Self::Elsewhere,
        };
        match (created, &config.read_token) {
            (Self::Known(token), _) => Self::Known(token),
            (_, Some(token)) => Self::Known(token.clone()),
            (unknown, None) => unknown,
        }
    }

    /// Completes a sentence that says that the relay wants a token.
    fn advice(&self, file: Option<&Path>) -> String {
        const CONFIGURE: &str = "set `admin.token_file` in the configuration, or SLIPRING_ADMIN__TOKEN";
        match (self, file) {
            (Self::Known(_), Some(file)) => format!(
                "{} does not hold the token of that relay, which is in its `admin.token_file` or SLIPRING_ADMIN__TOKEN, or \
                 else in a file that it has created and names in its log",
                file.display()
            ),
            (Self::Known(_), None) => format!("the token that was sent is wrong; {CONFIGURE}"),
            (Self::Elsewhere, _) => CONFIGURE.to_owned(),
            (Self::NotIn(places), _) => format!(
                "{CONFIGURE}. A relay without a configured token has created one, but this user finds none \
                 in {places}; run this command as the user who runs the relay, with the same XDG_RUNTIME_DIR \
                 and TMPDIR"
            ),
        }
    }
}

/// Returns the address in the URL, where a relay on this machine may listen.
fn local(url: &Url) -> Option<SocketAddr> {
    let ip = match url.host()? {
        Host::Ipv4(ip) => IpAddr::V4(ip),
        Host::Ipv6(ip) => IpAddr::V6(ip),
        Host::Domain("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Host::Domain(_) => return None,
    };
    Some(SocketAddr::new(ip, url.port_or_known_default()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use insta::assert_snapshot;

    use super::super::canned;
    use super::super::token_file::TokenFile;
    use super::*;

    pub(super) fn relay(url: &Url, token: Option<&str>) -> Client {
        let mut config = config::parse_config(Path::new("slipring.toml"), "", [("", ""); 0])
            .unwrap()
            .admin;
        config.token_dirs = vec!["/nowhere/slipring".into()];
        config.token = token.map(Secret::new);
        Client::new(url.clone(), &config, Trust::default()).unwrap()
    }

    fn ask(url: &Url, token: Option<&str>) -> anyhow::Result<Value> {
        relay(url, token).status().map_err(|error| without_port(url, &error))
    }

    pub(super) fn without_port(url: &Url, error: &anyhow::Error) -> anyhow::Error {
        let shown = url.port().unwrap().to_string();
        anyhow::anyhow!(format!("{error:#}").replace(&shown, "8787"))
    }

    #[test]
    fn a_command_is_marked_as_none_of_a_web_page_and_answered_with_a_sentence() {
        let (url, asked) = canned::answer("200 OK", "done\n");
        assert_eq!(
            relay(&url, Some("hunter2"))
                .command("orders", "rollback", None)
                .unwrap(),
            "done"
        );
        let asked = asked.join().unwrap();
        assert_eq!(asked[0], "POST /api/v1/modules/orders/rollback HTTP/1.1");
        assert!(asked.iter().any(|line| line == "slipring-command: 1"), "{asked:?}");
        let (url, _) = canned::answer("409 Conflict", "no version is known\n");
        assert_eq!(
            relay(&url, None)
                .command("orders", "rollback", None)
                .unwrap_err()
                .to_string(),
            "no version is known"
        );
        let (url, _) = canned::answer("500 Internal Server Error", "oh");
        let error = relay(&url, None).command("orders", "rollback", None).unwrap_err();
        assert_snapshot!(without_port(&url, &error), @"http://127.0.0.1:8787/api/v1/modules/orders/rollback returned 500 Internal Server Error: oh");
    }

    #[test]
    fn the_relay_is_asked_with_its_token() {
        let (url, asked) = canned::answer("200 OK", r#"{"ready":true}"#);
        let answer = ask(&url, Some("hunter2")).unwrap();
        assert_eq!(answer["ready"], true);
        let asked = asked.join().unwrap();
        assert_eq!(asked[0], "GET /api/v1/status HTTP/1.1");
        assert!(
            asked.iter().any(|line| line == "authorization: Bearer hunter2"),
            "{asked:?}"
        );
    }

    #[test]
    fn the_token_of_a_relay_that_was_restarted_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (url, asked) = canned::answer("200 OK", "{}");
        let mut relay = relay(&url, None);
        relay.config.token_dirs = vec![dir.path().join("slipring")];
        let address = local(&url).unwrap();
        drop(TokenFile::create(&relay.config.token_dirs, address).unwrap());
        let file = TokenFile::create(&relay.config.token_dirs, address).unwrap();
        relay.status().unwrap();
        let header = format!("authorization: Bearer {}", file.token().expose());
        let asked = asked.join().unwrap();
        assert!(asked.contains(&header), "{asked:?}");
    }

    #[test]
    fn what_is_no_relay_is_told() {
        let (url, _) = canned::answer("401 Unauthorized", "");
        assert_snapshot!(ask(&url, None).unwrap_err(), @r#"
        the relay at http://127.0.0.1:8787/api/v1/status requires its token: set `admin.token_file` in the configuration, or SLIPRING_ADMIN__TOKEN. A relay without a configured token has created one, but this user finds none in /nowhere/slipring/127.0.0.1-8787.token; run this command as the user who runs the relay, with the same XDG_RUNTIME_DIR and TMPDIR
        "#);
        let (url, _) = canned::answer("401 Unauthorized", "");
        let relay = relay(&url, None).with_token(Secret::new("hunter2"), "admin.token".into());
        assert_snapshot!(without_port(&url, &relay.status().unwrap_err()), @"the relay at http://127.0.0.1:8787/api/v1/status requires its token: admin.token does not hold the token of that relay, which is in its `admin.token_file` or SLIPRING_ADMIN__TOKEN, or else in a file that it has created and names in its log");
        let (url, _) = canned::answer("404 Not Found", "");
        assert_snapshot!(ask(&url, None).unwrap_err(), @r#"
        http://127.0.0.1:8787/api/v1/status returned 404 Not Found, so it is probably not a relay: check `--url` or `admin.listen`
        "#);
        let (url, _) = canned::answer("200 OK", "hi");
        assert_snapshot!(ask(&url, None).unwrap_err(), @r#"
        the reply from http://127.0.0.1:8787/api/v1/status is not JSON: expected value at line 1 column 1
        "#);
        // The port was bound and closed again, so nothing listens there.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = Url::parse(&format!("http://{address}/")).unwrap();
        assert_snapshot!(ask(&url, None).unwrap_err(), @r#"
        no relay answers at http://127.0.0.1:8787/api/v1/status (is it running?): connection refused
        "#);
    }
}
