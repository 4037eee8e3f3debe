//! `slipring check --online`: checks whether both servers respond, have what the relay needs, and have settings that
//! keep its promises. It changes nothing on either.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use async_nats::jetstream::account::Account;
use async_nats::jetstream::context::{ConsumerInfoErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::Stream;
use jiff::Timestamp;
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::super::failure::told_once;
use super::super::stored;
use super::modules::Checked;
use super::namespaces;
use crate::cause;
#[cfg(feature = "redis")]
use crate::config;
use crate::config::{Centrifugo, Config, ModuleConfig, Source, Store};
use crate::nats::{self, Nats};
use crate::publish::{self, Client};
#[cfg(feature = "redis")]
use crate::redis;
#[cfg(feature = "redis")]
use crate::source;
use crate::source::jetstream::{self, FIRST_WITH_RESET, Fitness, OLDEST, Server, Settings};

/// The result of one check of a server.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// For example `nats`, `stream ORDERS` or `http://127.0.0.1:8000`.
    pub subject: String,
    pub good: bool,
    /// True for information that is no failure.
    pub note: bool,
    /// A sentence for people.
    pub detail: String,
}

/// How long a server may take. The relay itself would wait for ever.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Checks NATS, the streams of the modules, and every endpoint of Centrifugo.
pub async fn ask(config: &Config, modules: &[Checked]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let reads = |module: &&Checked| {
        module
            .config
            .as_ref()
            .is_some_and(|config| config.source == Source::JetStream)
    };
    if config.redis.is_none()
        || config.dead_letters.store == Store::JetStream
        || modules.iter().any(|module| reads(&module))
    {
        ask_nats(config, modules, &mut findings).await;
    }
    #[cfg(feature = "redis")]
    if let Some(redis) = &config.redis {
        ask_redis(redis, modules, &mut findings).await;
    }
    for endpoint in &config.centrifugo.endpoints {
        findings.push(Finding::new(
            endpoint.as_str(),
            centrifugo(endpoint, &config.centrifugo).await,
        ));
    }
    let is_bad = |subject: &str| {
        findings
            .iter()
            .any(|finding| !finding.good && finding.subject == subject)
    };
    let servers_are_bad = ["nats", "redis"].iter().any(|server| is_bad(server));
    if !servers_are_bad {
        let more = namespaces::ask(config, modules, is_bad).await;
        findings.extend(more);
    }
    findings
}

async fn ask_nats(config: &Config, modules: &[Checked], findings: &mut Vec<Finding>) {
    match nats::connect_within(&config.nats, TIMEOUT).await {
        Ok(nats) => {
            let account = match account(&nats).await {
                Ok((words, account)) => {
                    findings.push(Finding::new("nats", Ok(words)));
                    if account.is_none() {
                        findings.push(Finding::note("nats", UNLIMITED.to_owned()));
                    }
                    account
                }
                Err(error) => {
                    findings.push(Finding::new("nats", Err(error)));
                    None
                }
            };
            if config.standby.is_some() {
                let fit = jetstream::can_stand_by(&nats).map(|()| "the server supports pinned consumers".to_owned());
                findings.push(Finding::new("standby", fit.map_err(Into::into)));
            }
            let mut readers: BTreeMap<&str, Vec<(&str, &ModuleConfig)>> = BTreeMap::new();
            for module in modules {
                if let Some(config) = module
                    .config
                    .as_ref()
                    .filter(|config| config.source == Source::JetStream)
                {
                    readers.entry(&config.stream).or_default().push((&module.name, config));
                }
            }
            for (stream, modules) in readers {
                findings.extend(reading(&nats, stream, &modules, account.as_ref()).await);
            }
        }
        Err(error) => findings.push(Finding::new("nats", Err(error.into()))),
    }
}

/// Checks the server, and what each module reads there.
#[cfg(feature = "redis")]
async fn ask_redis(config: &config::Redis, modules: &[Checked], findings: &mut Vec<Finding>) {
    let server = redis::Server::new(config.clone());
    let facts = match redis::Facts::of(&server).await {
        Ok(facts) => facts,
        Err(error) => {
            findings.push(Finding::new("redis", Err(error.into())));
            return;
        }
    };
    findings.push(Finding::new(
        "redis",
        match facts.refusal() {
            Some(refusal) => Err(anyhow!(refusal)),
            None => Ok(format!("{} at {}", facts.name, server.address())),
        },
    ));
    let warnings = facts.warnings().into_iter();
    findings.extend(warnings.map(|warning| Finding {
        note: true,
        ..Finding::new("redis", Ok(warning))
    }));
    for module in modules {
        if let Some((config, Source::Redis(source))) = module.config.as_ref().map(|config| (config, &config.source)) {
            let found = source::redis::look_at(&server, config, source).await;
            findings.push(Finding::new(
                format!("module {}", module.name),
                found.map_err(Into::into),
            ));
        }
    }
}

/// The server drops a request that the user may not send, so this is all that is seen.
const UNLIMITED: &str = "no reply to JetStream's `INFO` request, so the account's limits are not checked; this user may not \
                         be allowed to send it, and the relay works without it";

/// Returns the account's limits as well, if the user may ask for them. Without JetStream, the server replies at once.
async fn account(nats: &Nats) -> anyhow::Result<(String, Option<Account>)> {
    let version = nats.client.server_info().version;
    let account = match tokio::time::timeout(TIMEOUT, nats.jetstream.query_account()).await {
        Err(_) => None,
        Ok(account) => {
            Some(account.with_context(|| format!("nats-server {version} has no JetStream for this account"))?)
        }
    };
    Ok((with_its_version(&version, Server::of(&nats.client))?, account))
}

/// Checks a stream and each module that reads it.
async fn reading(
    nats: &Nats,
    name: &str,
    modules: &[(&str, &ModuleConfig)],
    account: Option<&Account>,
) -> Vec<Finding> {
    let subject = format!("stream {name}");
    let stream = match find(nats, name).await {
        Ok(stream) => stream,
        Err(error) => return vec![Finding::new(subject, Err(error))],
    };
    let info = stream.cached_info();
    let holds = format!(
        "{} messages, subjects {}",
        info.state.messages,
        info.config.subjects.join(", ")
    );
    let mut findings = vec![Finding::new(subject, Ok(holds))];
    for (module, config) in modules {
        let subject = format!("module {module}");
        match within(fitness(&stream, config, account)).await {
            Ok(fitness) => {
                let refusals = fitness.refusals.into_iter().map(anyhow::Error::from);
                let bad = refusals.chain(fitness.warnings.into_iter().map(anyhow::Error::msg));
                findings.extend(bad.map(|reason| Finding::new(subject.clone(), Err(reason))));
                findings.extend(fitness.notes.into_iter().map(|note| Finding {
                    note: true,
                    ..Finding::new(subject.clone(), Ok(note))
                }));
            }
            Err(error) => findings.push(Finding::new(subject, Err(error))),
        }
    }
    findings
}

async fn find(nats: &Nats, name: &str) -> anyhow::Result<Stream> {
    let answer = tokio::time::timeout(TIMEOUT, nats.jetstream.get_stream(name))
        .await
        .context("no reply")?;
    let answer = answer.map_err(|error| match error.kind() {
        GetStreamErrorKind::JetStream(refusal) if refusal.code() == 404 => Missing::Stream,
        _ => Missing::Answer(anyhow::Error::new(error).context("cannot be looked up")),
    });
    match answer {
        Ok(stream) => Ok(stream),
        Err(Missing::Answer(error)) => Err(error),
        Err(Missing::Stream) => {
            let others = within(async { anyhow::Ok(stored::others(nats).await) }).await;
            let others = others.unwrap_or_default();
            Err(anyhow!(
                "the stream does not exist{others}; its modules wait until you create it"
            ))
        }
    }
}

/// Why a stream was not found.
enum Missing {
    Stream,
    Answer(anyhow::Error),
}

async fn within<T>(asking: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(TIMEOUT, asking).await.context("no reply")?
}

/// Checks the same things as the relay when it starts to read.
async fn fitness(stream: &Stream, module: &ModuleConfig, account: Option<&Account>) -> anyhow::Result<Fitness> {
    let strange = jetstream::holds_subjects(stream, &module.subjects).await;
    let consumer = match stream.consumer_info(&module.consumer).await {
        Ok(info) => Some(info.config),
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => None,
        Err(error) => {
            return Err(error).context(format!("the consumer `{}` cannot be looked up", module.consumer));
        }
    };
    let settings = Settings {
        stream: &stream.cached_info().config,
        consumer: consumer.as_ref(),
        account_max_ack_pending: account.map(|account| max_ack_pending(account, stream)),
        resumes: false,
    };
    let mut fitness = Fitness::of(module, settings, Timestamp::now());
    match strange {
        Ok(strange) => fitness.warnings.extend(strange),
        Err(refusal) => fitness.refusals.insert(0, refusal),
    }
    Ok(fitness)
}

/// An account may have separate limits for streams with this number of replicas.
fn max_ack_pending(account: &Account, stream: &Stream) -> i64 {
    let tier = format!("R{}", stream.cached_info().config.num_replicas.max(1));
    let tier = account.tiers.get(&tier).map(|tier| tier.limits.max_ack_pending);
    tier.unwrap_or(account.limits.max_ack_pending)
}

/// Explains what the server's version means for the relay.
fn with_its_version(version: &str, server: Server) -> anyhow::Result<String> {
    match server {
        Server::Resets => Ok(format!("nats-server {version} with JetStream")),
        Server::HoldsBack => Ok(format!(
            "nats-server {version} with JetStream; it cannot reset a consumer ({FIRST_WITH_RESET} and later can), so a \
             module that starts or reconnects with unacknowledged messages holds back new ones for 0.1 to 0.3 s"
        )),
        Server::TooOld => {
            bail!("nats-server is {version}, but the relay needs {OLDEST} or later, preferably {FIRST_WITH_RESET}")
        }
    }
}

async fn centrifugo(endpoint: &Url, config: &Centrifugo) -> anyhow::Result<String> {
    match endpoint.scheme() {
        "grpc" | "grpcs" => over_grpc(endpoint, config).await,
        _ => over_http(endpoint, config).await,
    }
}

/// Checks whether the endpoint takes requests, with an empty one.
async fn over_grpc(endpoint: &Url, config: &Centrifugo) -> anyhow::Result<String> {
    let config = Centrifugo {
        endpoints: vec![endpoint.clone()],
        api_key: config.api_key.clone(),
        timeout: TIMEOUT,
        tls: config.tls.clone(),
    };
    match Client::new(&config)?.probe().await {
        Ok(()) => Ok("Centrifugo's GRPC API".to_owned()),
        Err(reason) => bail!("{reason}"),
    }
}

async fn over_http(endpoint: &Url, config: &Centrifugo) -> anyhow::Result<String> {
    let mut url = endpoint.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().pop_if_empty();
        if !endpoint.path().trim_end_matches('/').ends_with("/api") {
            segments.push("api");
        }
        segments.push("info");
    }
    let client = publish::http_builder(config)?.no_proxy().timeout(TIMEOUT).build()?;
    let mut request = client.post(url).body("{}");
    if let Some(key) = &config.api_key {
        request = request.header("X-API-Key", key.expose());
    }
    let response = request
        .send()
        .await
        .map_err(|error| anyhow!(cause::of(&error.without_url())))
        .context("Centrifugo does not reply")?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if config.api_key.is_none() => {
            bail!("requires an API key: set `centrifugo.api_key_file` or SLIPRING_CENTRIFUGO__API_KEY")
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            bail!("refuses the API key; it must be `http_api.key` of Centrifugo's configuration")
        }
        other => bail!("returns {other}; is this Centrifugo's address?"),
    }
    let body = response.bytes().await;
    let body = body.map_err(|error| anyhow!(cause::of(&error.without_url())))?;
    let info: Value = serde_json::from_slice(&body)
        .ok()
        .context("the reply is not from Centrifugo (check the address in `centrifugo.endpoints`)")?;
    if let Some(message) = info["error"]["message"].as_str() {
        bail!("refuses the `info` request: {message}");
    }
    let nodes = info["result"]["nodes"]
        .as_array()
        .context("the reply is not from Centrifugo (check the address in `centrifugo.endpoints`)")?;
    let version = nodes
        .first()
        .and_then(|node| node["version"].as_str())
        .unwrap_or("of unknown version");
    Ok(format!("Centrifugo {version}, nodes: {}", nodes.len()))
}

impl Finding {
    pub(super) fn note(subject: impl Into<String>, detail: String) -> Self {
        Self {
            note: true,
            ..Self::new(subject, Ok(detail))
        }
    }

    pub(super) fn new(subject: impl Into<String>, answer: anyhow::Result<String>) -> Self {
        let good = answer.is_ok();
        let detail = answer.unwrap_or_else(|error| told_once(&error));
        Self {
            subject: subject.into(),
            good,
            note: false,
            detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::admin::canned;
    use crate::config::Secret;

    fn ask(endpoint: &Url, path: &str, key: Option<&str>) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = Centrifugo {
            endpoints: Vec::new(),
            api_key: key.map(Secret::new),
            timeout: Duration::from_secs(1),
            tls: crate::config::Tls::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answer = runtime.block_on(centrifugo(&endpoint.join(path).unwrap(), &config));
        Finding::new("", answer).detail
    }

    #[test]
    fn centrifugo_is_asked_about_itself_with_the_key() {
        let body = r#"{"result":{"nodes":[{"version":"6.9.1"},{"version":"6.9.1"}]}}"#;
        for path in ["", "api", "/api/"] {
            let (url, asked) = canned::answer("200 OK", body);
            assert_eq!(ask(&url, path, Some("sesame")), "Centrifugo 6.9.1, nodes: 2");
            let asked = asked.join().unwrap();
            assert_eq!(asked[0], "POST /api/info HTTP/1.1");
            assert!(asked.iter().any(|line| line == "x-api-key: sesame"), "{asked:?}");
        }
    }

    #[test]
    fn what_an_older_nats_server_means_is_told() {
        let told = [
            with_its_version("2.15.2", Server::Resets),
            with_its_version("2.12.8", Server::HoldsBack),
            with_its_version("2.9.25", Server::TooOld),
        ];
        let told = told.map(|told| told.unwrap_or_else(|error| format!("bad: {error}")));
        assert_snapshot!(told.join("\n"), @r#"
        nats-server 2.15.2 with JetStream
        nats-server 2.12.8 with JetStream; it cannot reset a consumer (2.14 and later can), so a module that starts or reconnects with unacknowledged messages holds back new ones for 0.1 to 0.3 s
        bad: nats-server is 2.9.25, but the relay needs 2.10 or later, preferably 2.14
        "#);
    }

    #[test]
    fn what_is_wrong_with_centrifugo_is_told() {
        let told = |status: &str, body: &str, key: Option<&str>| ask(&canned::answer(status, body).0, "", key);
        let told = [
            told("401 Unauthorized", "", None),
            told("401 Unauthorized", "", Some("wrong")),
            told("404 Not Found", "", None),
            told("200 OK", "<html>", None),
            told("200 OK", "{}", None),
            told(
                "200 OK",
                r#"{"error":{"code":100,"message":"internal server error"}}"#,
                None,
            ),
        ];
        assert_snapshot!(told.join("\n"), @r#"
        requires an API key: set `centrifugo.api_key_file` or SLIPRING_CENTRIFUGO__API_KEY
        refuses the API key; it must be `http_api.key` of Centrifugo's configuration
        returns 404 Not Found; is this Centrifugo's address?
        the reply is not from Centrifugo (check the address in `centrifugo.endpoints`)
        the reply is not from Centrifugo (check the address in `centrifugo.endpoints`)
        refuses the `info` request: internal server error
        "#);
    }

    #[test]
    fn a_finding_tells_a_cause_once() {
        let error = anyhow!("refused").context("IO error: refused").context("no connection");
        assert_eq!(
            Finding::new("nats", Err(error)).detail,
            "no connection: IO error: refused"
        );
    }
}
