//! The client of a running relay's admin server.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::runtime::Runtime;
use url::Url;

use super::routes::COMMAND_HEADER;
use crate::config::Secret;

/// A relay that is expected to run at this address.
#[derive(Debug)]
pub struct Client {
    url: Url,
    token: Option<Secret>,
    runtime: Runtime,
    client: reqwest::Client,
}

const TIMEOUT: Duration = Duration::from_secs(10);

/// Compiling a large module takes that long.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

impl Client {
    pub fn new(url: Url, token: Option<Secret>) -> anyhow::Result<Self> {
        Ok(Self {
            url,
            token,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            // A proxy cannot reach the loopback interface of this machine.
            client: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    /// Returns the JSON of `/api/status`.
    pub fn status(&self) -> anyhow::Result<Value> {
        let url = self.path("api/status")?;
        let (status, body) = self.ask(&url, self.client.get(url.clone()).timeout(TIMEOUT))?;
        if status != StatusCode::OK {
            bail!("{url} returned {status}; a relay returns 200 OK");
        }
        serde_json::from_str(&body).with_context(|| format!("the answer from {url} is not JSON"))
    }

    /// Runs a command. Returns the relay's reply, a sentence.
    pub fn command(&self, module: &str, verb: &str) -> anyhow::Result<String> {
        let url = self.path(&format!("api/modules/{module}/{verb}"))?;
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

    fn path(&self, path: &str) -> anyhow::Result<Url> {
        let url = self.url.join(path);
        url.with_context(|| {
            format!(
                "{} is not a usable URL; it must be like http://127.0.0.1:8787",
                self.url
            )
        })
    }

    fn ask(&self, url: &Url, mut request: RequestBuilder) -> anyhow::Result<(StatusCode, String)> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        self.runtime.block_on(async {
            let response = request.send().await.map_err(reqwest::Error::without_url);
            let response = response.map_err(|error| {
                let doing = if error.is_timeout() && !error.is_connect() {
                    format!("the relay at {url} has not answered yet; it may still do what you asked (see `slipring modules`)")
                } else {
                    format!("no relay answers at {url} (is it running?)")
                };
                anyhow::Error::new(error).context(doing)
            })?;
            let status = response.status();
            if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                bail!(
                    "the relay at {url} requires its token: set `admin.token_file` in the configuration, or \
                     SLIPRING_ADMIN__TOKEN"
                )
            }
            let body = response.bytes().await.map_err(reqwest::Error::without_url);
            let body = body.with_context(|| format!("the answer from {url} was cut short"))?;
            let body = String::from_utf8(body.into());
            Ok((status, body.with_context(|| format!("the answer from {url} is not UTF-8"))?))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use insta::assert_snapshot;

    use super::super::canned;
    use super::*;

    fn relay(url: &Url, token: Option<&str>) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::new(url.clone(), token.map(Secret::new)).unwrap()
    }

    fn ask(url: &Url, token: Option<&str>) -> anyhow::Result<Value> {
        relay(url, token).status().map_err(|error| without_port(url, &error))
    }

    fn without_port(url: &Url, error: &anyhow::Error) -> anyhow::Error {
        let shown = url.port().unwrap().to_string();
        anyhow::anyhow!(format!("{error:#}").replace(&shown, "8787"))
    }

    #[test]
    fn a_command_is_marked_as_none_of_a_web_page_and_answered_with_a_sentence() {
        let (url, asked) = canned::answer("200 OK", "done\n");
        assert_eq!(
            relay(&url, Some("hunter2")).command("orders", "rollback").unwrap(),
            "done"
        );
        let asked = asked.join().unwrap();
        assert_eq!(asked[0], "POST /api/modules/orders/rollback HTTP/1.1");
        assert!(asked.iter().any(|line| line == "slipring-command: 1"), "{asked:?}");
        let (url, _) = canned::answer("409 Conflict", "no version is known\n");
        assert_eq!(
            relay(&url, None).command("orders", "rollback").unwrap_err().to_string(),
            "no version is known"
        );
        let (url, _) = canned::answer("500 Internal Server Error", "oh");
        let error = relay(&url, None).command("orders", "rollback").unwrap_err();
        assert_snapshot!(without_port(&url, &error), @"http://127.0.0.1:8787/api/modules/orders/rollback returned 500 Internal Server Error: oh");
    }

    #[test]
    fn the_relay_is_asked_with_its_token() {
        let (url, asked) = canned::answer("200 OK", r#"{"ready":true}"#);
        let answer = ask(&url, Some("hunter2")).unwrap();
        assert_eq!(answer["ready"], true);
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
        the relay at http://127.0.0.1:8787/api/status requires its token: set `admin.token_file` in the configuration, or SLIPRING_ADMIN__TOKEN
        "#);
        let (url, _) = canned::answer("404 Not Found", "");
        assert_snapshot!(ask(&url, None).unwrap_err(), @r#"
        http://127.0.0.1:8787/api/status returned 404 Not Found; a relay returns 200 OK
        "#);
        let (url, _) = canned::answer("200 OK", "hi");
        assert_snapshot!(ask(&url, None).unwrap_err(), @r#"
        the answer from http://127.0.0.1:8787/api/status is not JSON: expected value at line 1 column 1
        "#);
        // The port was bound and closed again, so nothing listens there.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = Url::parse(&format!("http://{address}/")).unwrap();
        assert_snapshot!(ask(&url, None).unwrap_err(), @r#"
        no relay answers at http://127.0.0.1:8787/api/status (is it running?): error sending request: client error (Connect): tcp connect error: Connection refused (os error 111)
        "#);
    }
}
