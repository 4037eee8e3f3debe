//! Parses `slipring.toml` and applies the environment on top.

mod admin;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;
use url::Url;

use super::checked::{
    Bounds, Centrifugo, Config, DeadLetters, Modules, Nats, NatsAuth, Publish, Redis, Secret, Sentinel, Shutdown,
    Standby, Store,
};
use super::problem::{Place, Problems};
use super::secret::{self, is_variable};
use super::section::{Document, Section, Taken};
use super::subject;
use super::value::{GIB, KIB, MIB, Parsed, Wrong, as_usize, boolean, duration, number, one_of, size, text, url};
use super::{Order, environment, tls};

const NATS: &str = "nats://127.0.0.1:4222";
const REDIS: &str = "redis://127.0.0.1:6379";
const CENTRIFUGO: &str = "http://127.0.0.1:8000";

/// Parses `text`, the content of the file `path`.
pub fn parse<N: Into<OsString>, V: Into<OsString>>(
    path: &Path,
    text: &str,
    env: impl IntoIterator<Item = (N, V)>,
) -> Result<Config, Problems> {
    let (env, unreadable) = environment::readable(env);
    let env: BTreeMap<String, String> = env.into_iter().collect();
    let cache_dir = default_cache_dir(&env);
    let token_dirs = admin::token_dirs(&env);
    let variables = env.into_iter().filter(|(name, _)| environment::is_ours(name));

    let document = Document::with_environment(path, text, variables.collect());
    for problem in unreadable {
        document.report(problem.place, &problem.key, problem.message);
    }
    let mut config = read(&document, cache_dir)?;
    config.admin.token_dirs = token_dirs;
    config.unknown_variables = document.unknown_variables();
    document.finish()?;
    Ok(config)
}

/// Reads every key. The document collects the mistakes; an error means that the file is not TOML.
pub(super) fn read<'d>(document: &'d Document<'d>, cache_dir: Option<PathBuf>) -> Result<Config, Problems> {
    let mut root = document.root()?;
    let has_redis = root.has_table("redis");
    // What a relay with Redis alone expects.
    let store = match has_redis && cfg!(feature = "redis") && !root.has_table("nats") {
        true => Store::Redis,
        false => Store::JetStream,
    };
    let config = Config {
        memory_limit: root.take("memory_limit", size(16 * MIB..=1024 * GIB)),
        nats: nats(root.section("nats")),
        redis: Some(redis(root.section("redis"))).filter(|_| has_redis),
        centrifugo: centrifugo(root.section("centrifugo")),
        modules: modules(root.section("modules"), cache_dir),
        publish: publish(root.section("publish")),
        admin: admin::read(root.section("admin")),
        dead_letters: dead_letters(root.section("dead_letters"), store, has_redis),
        standby: standby(root.section("standby")),
        shutdown: shutdown(root.section("shutdown")),
        unknown_variables: Vec::new(),
    };
    root.finish();
    Ok(config)
}

fn nats(mut section: Section<'_>) -> Nats {
    let servers = take_urls(
        &mut section,
        "servers",
        url(
            &["nats", "tls"],
            NATS,
            "`nats.user` and `nats.password_file`, or `nats.token_file`,",
        ),
        NATS,
    );
    let auth = nats_auth(&mut section);
    let api_prefix = api_prefix(&mut section);
    let inbox_prefix = section.take("inbox_prefix", subject::prefix);
    let mut tls_section = section.section("tls");
    let defaults = Nats::at(servers.iter().map(|server| server.as_str().to_owned()));
    let nats = Nats {
        auth,
        tls_first: tls_section.take("first", boolean).unwrap_or(false),
        tls: tls::read(&mut tls_section),
        api_prefix: api_prefix.unwrap_or_else(|| defaults.api_prefix.clone()),
        inbox_prefix: inbox_prefix.unwrap_or_else(|| defaults.inbox_prefix.clone()),
        ..defaults
    };
    tls_section.finish();
    section.finish();
    nats
}

/// A domain is the usual case of a prefix.
fn api_prefix(section: &mut Section<'_>) -> Option<String> {
    let domain = section.take_placed("domain", subject::name);
    let prefix = section.take("api_prefix", subject::prefix);
    match (domain, prefix) {
        (Some(Taken { place, .. }), Some(_)) => {
            let message = "`nats.domain` and `nats.api_prefix` are both set; a domain is short for a prefix, so set only one of them";
            section.remark(place, "domain", message.to_owned());
            None
        }
        (Some(domain), None) => Some(format!("$JS.{}.API", domain.value)),
        (None, prefix) => prefix,
    }
}

/// Reads one way to authenticate, or none. If the environment sets one, it replaces the file's.
fn nats_auth(section: &mut Section<'_>) -> NatsAuth {
    let mut ways: Vec<(&str, Place, NatsAuth)> = Vec::new();
    if let Some(Taken { value, place }) = secret::take(section, "creds", "creds_file") {
        ways.push(("creds_file", place, NatsAuth::Credentials(value)));
    }
    if let Some(Taken { value, place }) = secret::take(section, "nkey", "nkey_file") {
        ways.push(("nkey_file", place, NatsAuth::NKey(value)));
    }
    if let Some(Taken { value, place }) = secret::take(section, "token", "token_file") {
        ways.push(("token_file", place, NatsAuth::Token(value)));
    }
    let password_given = secret::is_set(section, "password", "password_file");
    let user = section.take_placed("user", text);
    let password = secret::take(section, "password", "password_file");
    match (user, password) {
        (Some(user), Some(password)) => {
            let place = if is_variable(&password.place) {
                password.place
            } else {
                user.place
            };
            ways.push((
                "user",
                place,
                NatsAuth::User {
                    user: user.value,
                    password: password.value,
                },
            ));
        }
        (Some(user), None) if !password_given => {
            let message = format!(
                "`nats.user` needs `nats.password_file` or {}",
                section.variable("password")
            );
            section.remark(user.place, "user", message);
        }
        (None, Some(password)) => {
            section.remark(
                password.place,
                "password_file",
                "a password for NATS needs `nats.user`".to_owned(),
            );
        }
        _ => {}
    }

    for (key, place, auth) in &ways {
        if let Some(fault) = auth.fault() {
            let file = auth.secret().and_then(Secret::file);
            let message = match file {
                Some(file) => format!("`{}` names {}, which {fault}", auth.key(), file.display()),
                None => format!("its value {fault}"),
            };
            section.remark(place.clone(), key, message);
        }
    }
    if ways.iter().any(|(_, place, _)| is_variable(place)) {
        ways.retain(|(_, place, _)| is_variable(place));
    }
    if let [(_, place, _), _, ..] = ways.as_slice() {
        let keys: Vec<String> = ways.iter().map(|(key, ..)| format!("`nats.{key}`")).collect();
        let message = format!(
            "{} are set together; only one way to authenticate can be used",
            keys.join(" and ")
        );
        section.remark(place.clone(), ways[0].0, message);
    }
    ways.pop().map_or(NatsAuth::None, |(_, _, auth)| auth)
}

fn redis(mut section: Section<'_>) -> Redis {
    let server = url(&["redis", "rediss"], REDIS, "`redis.user` and `redis.password_file`");
    let master = section.take_placed("master", text);
    let sentinels = section.take_list("sentinels", &server);
    let sentinel = match (sentinels, master) {
        (Some(Taken { value: urls, place }), master) if master.is_none() || urls.is_empty() => {
            let message = match urls.is_empty() {
                true => "`redis.sentinels` is an empty list; name at least one, or remove the key".to_owned(),
                false => "`redis.sentinels` is set without `redis.master`; set it to the master's name in the sentinels' configuration".to_owned(),
            };
            section.remark(place, "sentinels", message);
            None
        }
        (None, Some(Taken { place, .. })) => {
            let message =
                "`redis.master` is set without `redis.sentinels`; list the sentinels, or remove `redis.master`"
                    .to_owned();
            section.remark(place, "master", message);
            None
        }
        (urls, master) => urls.zip(master).map(|(urls, master)| Sentinel {
            urls: urls.value.into_iter().map(|taken| taken.value).collect(),
            master: master.value,
            user: None,
            password: None,
        }),
    };
    let user = section.take_placed("sentinel_user", text);
    let password = secret::take(&mut section, "sentinel_password", "sentinel_password_file");
    needs_a_password(&section, "sentinel_user", user.as_ref(), password.as_ref());
    let sentinel = match sentinel {
        Some(sentinel) => Some(Sentinel {
            user: user.map(|taken| taken.value),
            password: password.map(|taken| taken.value),
            ..sentinel
        }),
        None => {
            let places = [
                user.map(|taken| (taken.place, "sentinel_user")),
                password.map(|taken| (taken.place, "sentinel_password_file")),
            ];
            for (place, key) in places.into_iter().flatten() {
                let message =
                    format!("`redis.{key}` needs `redis.sentinels` and `redis.master`; set them, or remove it");
                section.remark(place, key, message);
            }
            None
        }
    };
    let database = |value: &DeValue<'_>| {
        let url = server(value)?;
        let database = url.path().trim_start_matches('/');
        match database.is_empty() || database.parse::<u32>().is_ok() {
            true => Ok(url),
            false => Err(Wrong::new(format!(
                "a URL whose path is the number of a database, such as \"{REDIS}/0\""
            ))
            .found_value(value)),
        }
    };
    let address = section.take_placed("url", database);
    let place = address
        .as_ref()
        .map_or_else(|| section.at(0), |address| address.place.clone());
    let url = address
        .map(|address| address.value)
        .or_else(|| Url::parse(REDIS).ok())
        .expect("the default is a URL");
    let user = section.take_placed("user", text);
    let password = secret::take(&mut section, "password", "password_file");
    needs_a_password(&section, "user", user.as_ref(), password.as_ref());
    let tls = tls::take(&mut section);
    {
        let sentinels = sentinel.iter().flat_map(|sentinel: &Sentinel| &sentinel.urls);
        let is_encrypted = sentinels.chain([&url]).any(|url| url.scheme() == "rediss");
        if tls != tls::Tls::default() && !is_encrypted {
            let message = "`redis.tls` is set, but `redis.url` begins with `redis://`, which is without TLS; write \
                           `rediss://`, or remove `redis.tls`";
            section.remark(place, "url", message.to_owned());
        }
    }
    section.finish();
    Redis {
        url,
        user: user.map(|taken| taken.value),
        password: password.map(|taken| taken.value),
        sentinel,
        tls,
    }
}

/// Without a password, the client does not name its user.
fn needs_a_password(
    section: &Section<'_>,
    key: &'static str,
    user: Option<&Taken<String>>,
    password: Option<&Taken<Secret>>,
) {
    if let (Some(user), None) = (user, password) {
        let file = match key {
            "user" => "password_file",
            _ => "sentinel_password_file",
        };
        let message = format!("`{}` needs `{}`", section.key(key), section.key(file));
        section.remark(user.place.clone(), key, message);
    }
}

fn centrifugo(mut section: Section<'_>) -> Centrifugo {
    let timeout = duration(
        Duration::from_millis(100)..=Duration::from_secs(9),
        ", because Centrifugo itself times out after 10s",
    );
    let centrifugo = Centrifugo {
        endpoints: take_urls(&mut section, "endpoints", endpoint, CENTRIFUGO),
        api_key: secret::take(&mut section, "api_key", "api_key_file").map(|taken| taken.value),
        timeout: section.take("timeout", timeout).unwrap_or(Duration::from_secs(8)),
        tls: tls::take(&mut section),
    };
    section.finish();
    centrifugo
}

fn modules(mut section: Section<'_>, default_cache_dir: Option<PathBuf>) -> Modules {
    let dir = section.take_path("dir").map(|taken| taken.value);
    let dir = dir.unwrap_or_else(|| section.relative("modules"));
    let versions_dir = section.take_path("versions_dir").map(|taken| taken.value);
    let modules = Modules {
        // The leading dot keeps the directory from being read as a module.
        versions_dir: versions_dir.unwrap_or_else(|| dir.join(".versions")),
        keep_versions: section.take("keep_versions", number(1..=100)).map_or(5, as_usize),
        strict_permissions: section.take("strict_permissions", boolean).unwrap_or(false),
        bounds: bounds(&mut section),
        dir,
        cache_dir: match section.take_placed("cache_dir", cache_dir) {
            None => default_cache_dir,
            Some(Taken { value: None, .. }) => None,
            Some(Taken {
                value: Some(path),
                place,
            }) if is_variable(&place) => Some(PathBuf::from(path)),
            Some(Taken { value: Some(path), .. }) => Some(section.relative(&path)),
        },
    };
    section.finish();
    modules
}

fn bounds(section: &mut Section<'_>) -> Bounds {
    let default = Bounds::default();
    let cpu = duration(Duration::from_secs(1)..=Duration::from_secs(3600), "");
    Bounds {
        file_size: section
            .take("max_file_size", size(64 * KIB..=GIB))
            .unwrap_or(default.file_size),
        cpu: section.take("compile_cpu", cpu).unwrap_or(default.cpu),
        memory: section
            .take("compile_memory", size(64 * MIB..=64 * GIB))
            .unwrap_or(default.memory),
        nesting: section
            .take("max_nesting", number(1..=100_000))
            .map_or(default.nesting, as_usize),
    }
}

/// A path, or `false` for no cache.
fn cache_dir(value: &DeValue<'_>) -> Parsed<Option<String>> {
    match value {
        DeValue::Boolean(false) => Ok(None),
        other => match text(other) {
            Ok(path) => Ok(Some(path)),
            Err(_) => Err(Wrong::new("a path, or false for no cache").found_value(value)),
        },
    }
}

/// Returns the platform's cache directory. The XDG Base Directory Specification says to ignore a relative path.
pub fn default_cache_dir(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let absolute = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(caches.join("slipring"))
}

fn publish(mut section: Section<'_>) -> Publish {
    const ORDERS: [(&str, Order); 2] = [("strict", Order::Strict), ("batched", Order::Batched)];
    let publish = Publish {
        order: section.take("order", one_of(&ORDERS)).unwrap_or(Order::Strict),
        idempotency: section.take("idempotency", boolean).unwrap_or(true),
        // Centrifugo executes the commands of a batch one by one and must finish within its timeout. With a distant
        // Redis that takes a millisecond for each, 5,000 commands take 5 s.
        max_batch: section.take("max_batch", number(1..=5_000)).map_or(512, as_usize),
        max_in_flight: section.take("max_in_flight", number(1..=64)).map_or(8, as_usize),
    };
    section.finish();
    publish
}

fn dead_letters(mut section: Section<'_>, default: Store, has_redis: bool) -> DeadLetters {
    const STORES: [(&str, Store); 2] = [("jetstream", Store::JetStream), ("redis", Store::Redis)];
    let store = section.take_placed("store", one_of(&STORES));
    if let Some(Taken {
        value: Store::Redis,
        place,
    }) = &store
        && !has_redis
    {
        let message = "`dead_letters.store` is \"redis\", but no Redis is configured: set `redis.url`".to_owned();
        section.remark(place.clone(), "store", message);
    }
    if let Some(Taken {
        value: Store::Redis,
        place,
    }) = &store
        && !cfg!(feature = "redis")
    {
        let message = "this slipring was built without Redis; build it with the cargo feature `redis`".to_owned();
        section.remark(place.clone(), "store", message);
    }
    let store = store.map_or(default, |store| store.value);
    let stream = section
        .take("stream", subject::name)
        .unwrap_or_else(|| "SLIPRING_DEAD_LETTERS".to_owned());
    // A stream never has more than five replicas.
    let replicas = section.take("replicas", number(1..=5)).map_or(1, as_usize);
    let age = duration(Duration::from_secs(60)..=Duration::from_secs(87_600 * 3_600), "");
    let max_bytes = section.take_placed("max_bytes", size(MIB..=1024 * GIB));
    if let (Store::Redis, Some(Taken { place, .. })) = (store, &max_bytes) {
        let message = "`dead_letters.max_bytes` is for JetStream only; in Redis, use `dead_letters.max_age`".to_owned();
        section.remark(place.clone(), "max_bytes", message);
    }
    let dead_letters = DeadLetters {
        store,
        stream,
        replicas,
        max_age: section.take("max_age", age),
        max_bytes: max_bytes.map(|taken| taken.value),
    };
    section.finish();
    dead_letters
}

/// Returns `None` unless standby is enabled.
fn standby(mut section: Section<'_>) -> Option<Standby> {
    let enabled = section.take("enabled", boolean).unwrap_or(false);
    let ttl = duration(Duration::from_secs(2)..=Duration::from_secs(300), "");
    let ttl = section.take("ttl", ttl).unwrap_or(Duration::from_secs(10));
    let name = section.take("name", relay_name).map(Into::into);
    section.finish();
    enabled.then_some(Standby { ttl, name })
}

/// A name that fits into a line.
fn relay_name(value: &DeValue<'_>) -> Parsed<String> {
    let name = text(value)?;
    match name.len() <= 100 && !name.chars().any(char::is_control) && !name.trim().is_empty() {
        true => Ok(name),
        false => Err(Wrong::new("a name in one line, of at most 100 bytes").found_value(value)),
    }
}

fn shutdown(mut section: Section<'_>) -> Shutdown {
    let grace = duration(Duration::ZERO..=Duration::from_secs(600), "");
    let grace = section.take("grace", grace).unwrap_or(Duration::from_secs(10));
    section.finish();
    Shutdown { grace }
}

/// The URL of one of Centrifugo's two APIs.
fn endpoint(value: &DeValue<'_>) -> Parsed<Url> {
    let url = url(
        &["http", "https", "grpc", "grpcs"],
        CENTRIFUGO,
        "`centrifugo.api_key_file`",
    )(value)?;
    if url.scheme().starts_with("grpc") && !matches!(url.path(), "" | "/") {
        return Err(Wrong::new("a URL such as \"grpc://127.0.0.1:10000\", since GRPC has no path").found_value(value));
    }
    Ok(url)
}

/// Reads a list of at least one URL. `default` is also the example in errors.
fn take_urls(
    section: &mut Section<'_>,
    key: &'static str,
    parse: impl Fn(&DeValue<'_>) -> Parsed<Url>,
    default: &'static str,
) -> Vec<Url> {
    let Some(Taken { value: urls, place }) = section.take_list(key, parse) else {
        return Url::parse(default).into_iter().collect();
    };
    if urls.is_empty() {
        let wrong = Wrong::new(format!("a list of at least one URL such as \"{default}\"")).found("an empty list");
        section.complain(place, key, &wrong);
    }
    urls.into_iter().map(|taken| taken.value).collect()
}
