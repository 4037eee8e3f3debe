mod admin;
mod secrets;

use std::fs;
use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;
use url::Url;

use super::super::*;

const NO_ENV: [(String, String); 0] = [];

fn config(text: &str) -> Config {
    parse_config(Path::new("slipring.toml"), text, NO_ENV).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(text: &str) -> String {
    with_env(text, &[]).expect_err("it is wrong").to_string()
}

fn with_env(text: &str, env: &[(&str, &str)]) -> Result<Config, Problems> {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    parse_config(Path::new("slipring.toml"), text, env)
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = config("");
    assert_eq!(config.memory_limit, None);
    assert_eq!(config.nats.servers, ["nats://127.0.0.1:4222"]);
    assert_eq!(config.nats.auth, NatsAuth::None);
    assert_eq!(
        config.centrifugo.endpoints,
        [Url::parse("http://127.0.0.1:8000").unwrap()]
    );
    assert_eq!(config.centrifugo.timeout, Duration::from_secs(8));
    assert_eq!(
        config.modules,
        Modules {
            dir: "modules".into(),
            cache_dir: None,
            versions_dir: "modules/.versions".into(),
            keep_versions: 5,
            strict_permissions: false,
            bounds: Bounds::default()
        }
    );
    let publish = Publish {
        order: Order::Strict,
        idempotency: true,
        max_batch: 512,
        max_in_flight: 8,
    };
    assert_eq!(config.publish, publish);
    assert_eq!(
        config.admin,
        Admin {
            listen: "127.0.0.1:8787".parse().unwrap(),
            hosts: vec![],
            token: None,
            read_token: None,
            tls: None,
            centrifugo_websocket: None,
            uploads: false,
            token_dirs: config.admin.token_dirs.clone(),
            from_up: false,
        }
    );
    assert_eq!(config.dead_letters.stream, "SLIPRING_DEAD_LETTERS");
    assert_eq!(config.shutdown.grace, Duration::from_secs(10));
}

#[test]
fn every_key_is_read() {
    let config = config(
        r#"
        memory_limit = "512MiB"
        nats.servers = ["tls://a.example:4222", "nats://b.example"]
        nats.tls.first = true
        nats.domain = "hub"
        nats.inbox_prefix = "_INBOX_relay.a"
        centrifugo = { endpoints = ["https://c.example/centrifugo", "grpc://c.example", "grpcs://c.example:1"], timeout = "1s 500ms" }
        [modules]
        dir = "/srv/modules"
        cache_dir = "cache"
        versions_dir = "/var/lib/slipring"
        keep_versions = 2
        strict_permissions = true
        max_file_size = "1MiB"
        max_nesting = 7
        compile_cpu = "2s 500ms"
        compile_memory = "512MiB"
        [publish]
        order = "batched"
        idempotency = false
        max_batch = 1_000
        max_in_flight = 64
        [admin]
        listen = "[::1]:80"
        hosts = ["relay.example", "Relay-2.Example."]
        [dead_letters]
        stream = "DEAD"
        replicas = 3
        max_age = "720h"
        max_bytes = "1GiB"
        [shutdown]
        grace = "2m"
        "#,
    );
    assert_eq!(config.memory_limit, Some(512 << 20));
    assert_eq!(config.nats.servers, ["tls://a.example:4222", "nats://b.example"]);
    let endpoints: Vec<&str> = config.centrifugo.endpoints.iter().map(Url::as_str).collect();
    assert_eq!(
        endpoints,
        [
            "https://c.example/centrifugo",
            "grpc://c.example",
            "grpcs://c.example:1"
        ]
    );
    assert_eq!(config.centrifugo.timeout, Duration::from_millis(1_500));
    assert_eq!(
        config.modules,
        Modules {
            dir: "/srv/modules".into(),
            cache_dir: Some("cache".into()),
            versions_dir: "/var/lib/slipring".into(),
            keep_versions: 2,
            strict_permissions: true,
            bounds: Bounds {
                file_size: 1 << 20,
                cpu: Duration::from_millis(2_500),
                memory: 512 << 20,
                nesting: 7
            }
        }
    );
    let publish = Publish {
        order: Order::Batched,
        idempotency: false,
        max_batch: 1_000,
        max_in_flight: 64,
    };
    assert_eq!(config.publish, publish);
    assert_eq!(config.admin.listen, "[::1]:80".parse().unwrap());
    assert_eq!(config.admin.hosts, ["relay.example", "relay-2.example"]);
    assert_eq!(
        config.dead_letters,
        DeadLetters {
            store: Store::JetStream,
            stream: "DEAD".to_owned(),
            replicas: 3,
            max_age: Some(Duration::from_secs(720 * 3_600)),
            max_bytes: Some(1 << 30)
        }
    );
    assert!(config.nats.tls_first);
    assert_eq!(config.nats.api_prefix, "$JS.hub.API");
    assert_eq!(config.nats.inbox_prefix, "_INBOX_relay.a");
    assert_eq!(config.shutdown.grace, Duration::from_secs(120));
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = r#"
[nats]
server = ["nats://127.0.0.1:4222"]
user = "relay"

[centrifugo]
endpoints = ["http://127.0.0.1:8000", "grpc://127.0.0.1:10000/api", "grpcs://c", 8000]
api_key = "0f9c2a"
timeout = "10s"

[publish]
order = "strikt"
idempotency = "yes"
max_batch = 0
max_in_flight = 2.5

[admin]
listen = "0.0.0.0:8787"

[dead_letter]
stream = "DEAD"

[shutdown]
grace = 10
"#;
    assert_snapshot!(problems(text), @r#"
    slipring.toml:3:1: there is no key `nats.server`; did you mean `nats.servers`?
    slipring.toml:4:8: `nats.user` needs `nats.password_file` or SLIPRING_NATS__PASSWORD
    slipring.toml:7:39: `centrifugo.endpoints` is "grpc://127.0.0.1:10000/api"; it must be a URL such as "grpc://127.0.0.1:10000", since GRPC has no path
    slipring.toml:7:82: `centrifugo.endpoints` is 8000; it must be a URL such as "http://127.0.0.1:8000"
    slipring.toml:8:1: `centrifugo.api_key` is not allowed in this file; put the secret into a file of its own and name it with `api_key_file`, or set SLIPRING_CENTRIFUGO__API_KEY
    slipring.toml:9:11: `centrifugo.timeout` is "10s"; it must be a duration from "100ms" to "9s", because Centrifugo itself times out after 10s
    slipring.toml:12:9: `publish.order` is "strikt"; it must be "strict" or "batched"
    slipring.toml:13:15: `publish.idempotency` is "yes"; it must be true or false
    slipring.toml:14:13: `publish.max_batch` is 0; it must be a whole number from 1 to 5000
    slipring.toml:15:17: `publish.max_in_flight` is 2.5; it must be a whole number from 1 to 64
    slipring.toml:18:10: `admin.listen` is 0.0.0.0:8787, which others can reach; use a loopback address such as "127.0.0.1:8787", or set `admin.token_file` or SLIPRING_ADMIN__TOKEN
    slipring.toml:20:2: there is no key `dead_letter`; did you mean `dead_letters`?
    slipring.toml:24:9: `shutdown.grace` is 10; it must be a duration from "0s" to "10m"; did you mean "10s"?
    "#);
}

#[test]
fn another_word_for_a_key_is_told_which_it_is() {
    let text = "centrifugo.url = 'http://a'\nnats.url = 'nats://a'\nredis.endpoint = 'redis://a'\nadmin.bind = 1\nnats.login = 'a'";
    assert_snapshot!(problems(text), @r#"
    slipring.toml:1:12: there is no key `centrifugo.url`; did you mean `centrifugo.endpoints`?
    slipring.toml:2:6: there is no key `nats.url`; did you mean `nats.servers`?
    slipring.toml:3:7: there is no key `redis.endpoint`; did you mean `redis.url`?
    slipring.toml:4:7: there is no key `admin.bind`; did you mean `admin.listen`?
    slipring.toml:5:6: there is no key `nats.login`; did you mean `nats.user`?
    "#);
}

#[test]
fn a_key_that_resembles_none_is_told_which_there_are() {
    let text = "
kafka = 1
[centrifugo]
colour = 1
[nats]
tls = { verify = false }
[shutdown]
period = 1
";
    assert_snapshot!(problems(text), @r"
    slipring.toml:2:1: there is no key `kafka`; this file can have only `memory_limit`, `nats`, `redis`, `centrifugo`, `modules`, `publish`, `admin`, `dead_letters`, `standby`, `shutdown`
    slipring.toml:4:1: there is no key `centrifugo.colour`; `centrifugo` can have only `endpoints`, `api_key_file`, `timeout`, `tls`
    slipring.toml:6:9: there is no key `nats.tls.verify`; `nats.tls` can have only `first`, `ca_file`, `cert_file`, `key_file`
    slipring.toml:8:1: there is no key `shutdown.period`; `shutdown` can have only `grace`
    ");
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_the_place() {
    assert_snapshot!(problems("[nats]\nservers = [\n\n[publish]\nmax_batch = = 5\n"), @r#"
    slipring.toml:4:2: this is not TOML: a text has to be in quotes, or a bracket above is not closed
    "#);
    assert_snapshot!(problems("[nats]\nuser = \"a\"\nuser = \"b\"\n"), @r#"
    slipring.toml:3:1: this is not TOML: duplicate key
    "#);
}

#[test]
fn a_section_must_be_a_table() {
    assert_snapshot!(problems("publish = 5\n[nats]\ntls = true"), @r#"
    slipring.toml:1:11: `publish` is 5; it must be a table: [publish]
    slipring.toml:3:7: `nats.tls` is true; it must be a table: [nats.tls]
    "#);
}

#[test]
fn urls_hold_no_secrets_and_show_none() {
    let shown = problems(
        r#"
        nats.servers = ["nats://relay:hunter2@127.0.0.1:4222", "127.0.0.1:4222", "nats://", "http://127.0.0.1"]
        centrifugo.endpoints = ["http://127.0.0.1:8000/api?api_key=hunter2", "grpc://a:hunter2@b", "hunter2@x"]
        "#,
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_snapshot!(shown, @r#"
    slipring.toml:2:25: `nats.servers` is a URL with credentials in it (not shown); it must be a URL such as "nats://127.0.0.1:4222" without user and password: set `nats.user` and `nats.password_file`, or `nats.token_file`, instead
    slipring.toml:2:64: `nats.servers` is "127.0.0.1:4222"; it must be a URL such as "nats://127.0.0.1:4222"
    slipring.toml:2:82: `nats.servers` is "nats://"; it must be a URL such as "nats://127.0.0.1:4222"
    slipring.toml:2:93: `nats.servers` is "http://127.0.0.1"; it must be a URL such as "nats://127.0.0.1:4222"
    slipring.toml:3:33: `centrifugo.endpoints` is a URL with parameters (not shown); it must be a URL such as "http://127.0.0.1:8000" without `?` or `#`
    slipring.toml:3:78: `centrifugo.endpoints` is a URL with credentials in it (not shown); it must be a URL such as "http://127.0.0.1:8000" without user and password: set `centrifugo.api_key_file` instead
    slipring.toml:3:100: `centrifugo.endpoints` is a URL with credentials in it (not shown); it must be a URL such as "http://127.0.0.1:8000" without user and password: set `centrifugo.api_key_file` instead
    "#);
}

#[test]
fn the_environment_goes_before_the_file() {
    let text = "[publish]\nmax_batch = 1\n[nats]\nservers = [\"nats://file\"]";
    let env = [
        ("SLIPRING_PUBLISH__MAX_BATCH", "7"),
        ("SLIPRING_PUBLISH__IDEMPOTENCY", "false"),
        ("SLIPRING_PUBLISH__ORDER", "batched"),
        ("SLIPRING_NATS__SERVERS", "nats://a, nats://b"),
        ("SLIPRING_CENTRIFUGO__ENDPOINTS", r#"["http://c"]"#),
        ("SLIPRING_CENTRIFUGO__TIMEOUT", "2s"),
        ("SLIPRING_DEAD_LETTERS__STREAM", "123"),
        ("SLIPRING_MODULES__DIR", "here"),
        ("SLIPRING_MODULES__CACHE_DIR", "false"),
        ("SLIPRING_LOG", "debug"),
        ("SLIPRINGS__X", "not ours"),
        ("HOME", "/home/relay"),
    ];
    let config = with_env(text, &env).unwrap();
    assert_eq!(
        config.publish,
        Publish {
            order: Order::Batched,
            idempotency: false,
            max_batch: 7,
            max_in_flight: 8
        }
    );
    assert_eq!(config.nats.servers, ["nats://a", "nats://b"]);
    assert_eq!(config.centrifugo.endpoints, [Url::parse("http://c").unwrap()]);
    assert_eq!(config.centrifugo.timeout, Duration::from_secs(2));
    assert_eq!(config.dead_letters.stream, "123");
    assert_eq!(
        config.modules,
        Modules {
            dir: "here".into(),
            cache_dir: None,
            versions_dir: "here/.versions".into(),
            keep_versions: 5,
            strict_permissions: false,
            bounds: Bounds::default()
        }
    );
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    let env = [
        ("SLIPRING_PUBLISH__MAX_BATCH", "many"),
        ("SLIPRING_PUBLISH__MAX_IN_FLIGHT", "65"),
        ("SLIPRING_NATS__SERVER", "nats://a"),
        ("SLIPRING_NATS__SERVERS", "nats://a,b"),
        ("SLIPRING_NATS__TLS__CA", "x"),
        ("SLIPRING_CENTRIFUGO__ENDPOINTS", ""),
        ("SLIPRING_ADMIN__TOKEN", " "),
    ];
    assert_snapshot!(with_env("", &env).unwrap_err(), @r#"
    SLIPRING_ADMIN__TOKEN: `admin.token` is empty; set it to the secret itself, or leave it unset
    SLIPRING_CENTRIFUGO__ENDPOINTS: `centrifugo.endpoints` is ""; it must be a URL such as "http://127.0.0.1:8000"
    SLIPRING_NATS__SERVER: this variable matches no key; did you mean `SLIPRING_NATS__SERVERS`?
    SLIPRING_NATS__SERVERS: `nats.servers` is "b"; it must be a URL such as "nats://127.0.0.1:4222"
    SLIPRING_NATS__TLS__CA: this variable matches no key; did you mean `SLIPRING_NATS__TLS__CA_FILE`?
    SLIPRING_PUBLISH__MAX_BATCH: `publish.max_batch` is "many"; it must be a whole number from 1 to 5000
    SLIPRING_PUBLISH__MAX_IN_FLIGHT: `publish.max_in_flight` is 65; it must be a whole number from 1 to 64
    "#);
}

#[test]
fn a_variable_that_sets_nothing_is_refused_if_it_looks_as_if_it_did() {
    let env = [
        ("SLIPRING_NATS_SERVERS", "nats://a"),
        ("SLIPRING_CENTRIFUGO_API_KEY", ""),
        ("SLIPRING_MAX_BATCH", "7"),
        ("slipring_admin__listen", "127.0.0.1:1"),
        ("SLIPRING_STANDBY_ON", "true"),
        ("SLIPRING_VERSION", "1.2"),
    ];
    assert_snapshot!(with_env("", &env).unwrap_err(), @r"
    SLIPRING_CENTRIFUGO_API_KEY: this variable matches no key; did you mean `SLIPRING_CENTRIFUGO__API_KEY`?
    SLIPRING_MAX_BATCH: this variable matches no key; did you mean `SLIPRING_PUBLISH__MAX_BATCH`?
    SLIPRING_NATS_SERVERS: this variable matches no key; did you mean `SLIPRING_NATS__SERVERS`?
    SLIPRING_STANDBY_ON: this variable matches no key; the keys of `standby` begin with `SLIPRING_STANDBY__`
    slipring_admin__listen: this variable matches no key; did you mean `SLIPRING_ADMIN__LISTEN`?
    ");
}

#[test]
fn a_variable_that_may_be_anybody_s_is_told() {
    let env = [
        ("SLIPRING_VERSION", "1.2"),
        ("SLIPRING_IMAGE", ""),
        ("SLIPRING_SERVICE_HOST", "10.0.0.1"),
        ("SLIPRING_SERVICE_PORT", "8787"),
        ("SLIPRING_PORT", "tcp://10.0.0.1:8787"),
        ("SLIPRING_PORT_8787_TCP_ADDR", "10.0.0.1"),
        ("SLIPRING_LOG", "debug"),
        ("SLIPRING_CONFIG", "slipring.toml"),
        ("SLIPRING_ADMIN__LISTEN", "127.0.0.1:1"),
    ];
    assert_eq!(
        with_env("", &env).unwrap().unknown_variables,
        ["SLIPRING_IMAGE", "SLIPRING_VERSION"]
    );
}

#[test]
fn the_cache_is_where_the_platform_keeps_caches() {
    let cache_dir = |env: &[(&str, &str)]| with_env("", env).unwrap().modules.cache_dir;
    assert_eq!(
        cache_dir(&[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")]),
        Some("/c/slipring".into())
    );
    assert_eq!(
        cache_dir(&[("XDG_CACHE_HOME", "relative"), ("HOME", "/h")]),
        Some("/h/.cache/slipring".into())
    );
    assert_eq!(cache_dir(&[]), None);
    assert_eq!(config("modules.cache_dir = false").modules.cache_dir, None);
}

#[test]
fn a_tls_certificate_needs_its_key() {
    let certificate = tls_file("server.pem");
    assert_eq!(
        problems(&format!("nats.tls.cert_file = '{certificate}'")),
        "slipring.toml:1:22: `nats.tls.cert_file` needs `nats.tls.key_file`"
    );
    assert_eq!(
        problems(&format!("centrifugo.tls.key_file = '{}'", tls_file("server.key"))),
        "slipring.toml:1:27: `centrifugo.tls.key_file` needs `centrifugo.tls.cert_file`"
    );
}

/// Returns a file that the tests with real servers use.
fn tls_file(name: &str) -> String {
    format!("{}/tests/it/grpc/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn files_for_tls_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\nMARK\n-----END CERTIFICATE-----\n";
    fs::write(dir.path().join("broken.pem"), broken).unwrap();
    fs::write(dir.path().join("none.pem"), "MARKER").unwrap();
    let told = |ca: &str, cert: &str, key: &str| {
        let text = format!("[nats.tls]\nca_file = '{ca}'\ncert_file = '{cert}'\nkey_file = '{key}'");
        let problems = parse_config(&dir.path().join("slipring.toml"), &text, NO_ENV).map(|_| String::new());
        let problems = problems.unwrap_or_else(|problems| problems.to_string());
        let problems = problems.replace(&tls_file(""), "/tests/");
        problems.replace(&dir.path().display().to_string(), "/etc/slipring")
    };
    let [ca, cert, key] = ["ca.pem", "server.pem", "server.key"].map(tls_file);
    let other = format!("{}/tests/it/unreadable/tls/client.key", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(told(&ca, &cert, &key), "");
    assert_snapshot!(told("none.pem", "none.pem", "none.pem"), @r#"
    /etc/slipring/slipring.toml:2:11: `nats.tls.ca_file` names /etc/slipring/none.pem, which has no certificate in PEM form (-----BEGIN CERTIFICATE-----)
    /etc/slipring/slipring.toml:3:13: `nats.tls.cert_file` names /etc/slipring/none.pem, which has no certificate in PEM form (-----BEGIN CERTIFICATE-----)
    /etc/slipring/slipring.toml:4:12: `nats.tls.key_file` names /etc/slipring/none.pem, which has no private key in PEM form; an encrypted key cannot be used
    "#);
    assert_snapshot!(told("broken.pem", "broken.pem", &cert), @r#"
    /etc/slipring/slipring.toml:2:11: `nats.tls.ca_file` names /etc/slipring/broken.pem, which has a broken certificate: invalid peer certificate: BadEncoding
    /etc/slipring/slipring.toml:4:12: `nats.tls.key_file` names /tests/server.pem, which has no private key in PEM form; an encrypted key cannot be used
    "#);
    assert_snapshot!(told(&ca, &cert, &other).replace(env!("CARGO_MANIFEST_DIR"), ""), @r#"
    /etc/slipring/slipring.toml:4:12: `nats.tls.key_file` names /tests/it/unreadable/tls/client.key, which is not the key of the certificate in `cert_file`: keys may not be consistent: KeyMismatch
    "#);
}

#[test]
fn broken_secrets_are_noticed_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("seed"),
        "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VX",
    )
    .unwrap();
    let creds = "-----BEGIN NATS USER JWT-----\nMARKER\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY \
                 SEED-----\nMARKER\n------END USER NKEY SEED------\n";
    fs::write(dir.path().join("creds"), creds).unwrap();
    let told = |text: &str, env: &[(&str, &str)]| {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let problems = parse_config(&dir.path().join("slipring.toml"), text, env)
            .unwrap_err()
            .to_string();
        problems.replace(&dir.path().display().to_string(), "/etc/slipring")
    };
    assert_snapshot!(told("nats.nkey_file = 'seed'", &[]), @r#"
    /etc/slipring/slipring.toml:1:18: `nats.nkey_file` names /etc/slipring/seed, which is damaged or not a user's seed; a user's seed begins with "SU" and has 58 characters
    "#);
    assert_snapshot!(told("nats.creds_file = 'creds'", &[]), @r#"
    /etc/slipring/slipring.toml:1:19: `nats.creds_file` names /etc/slipring/creds, which has a seed that is damaged or not a user's; use a file written by `nsc generate creds`
    "#);
    assert_snapshot!(told("", &[("SLIPRING_NATS__NKEY", "MARKER")]), @r#"
    SLIPRING_NATS__NKEY: its value is damaged or not a user's seed; a user's seed begins with "SU" and has 58 characters
    "#);
}

#[test]
fn a_domain_is_a_prefix() {
    let prefix = |text: &str| config(text).nats.api_prefix;
    assert_eq!(prefix("nats.api_prefix = 'JS.hub.API'"), "JS.hub.API");
    assert_snapshot!(problems("nats = { domain = 'hub', api_prefix = 'JS.hub.API' }"), @r#"
    slipring.toml:1:19: `nats.domain` and `nats.api_prefix` are both set; a domain is short for a prefix, so set only one of them
    "#);
    assert_snapshot!(problems("nats = { api_prefix = '$JS.API.>', inbox_prefix = '_INBOX.' }"), @r#"
    slipring.toml:1:23: `nats.api_prefix` is "$JS.API.>"; it must be the beginning of a subject without wildcards and without a dot at its end
    slipring.toml:1:51: `nats.inbox_prefix` is "_INBOX."; it must be the beginning of a subject without wildcards and without a dot at its end
    "#);
}

#[test]
fn only_the_default_file_may_be_absent() {
    let problems = load(Some(Path::new("/nowhere/slipring.toml")), NO_ENV).unwrap_err();
    assert_snapshot!(problems, @r#"
    /nowhere/slipring.toml: the configuration cannot be read: No such file or directory (os error 2)
    "#);
    assert!(load(None, NO_ENV).is_ok());
}

#[test]
fn the_documented_example_is_the_default() {
    let example = parse_config(
        Path::new("slipring.toml"),
        include_str!("../../../examples/slipring.toml"),
        NO_ENV,
    );
    assert_eq!(example.unwrap(), config(""));
}

#[test]
fn the_bounds_of_loading_say_what_they_may_be() {
    let told = problems(
        "[modules]\nmax_file_size = \"2GiB\"\nmax_nesting = 0\ncompile_cpu = \"100ms\"\ncompile_memory = \"512MB\"\n",
    );
    for expected in [
        "`modules.max_file_size` is \"2GiB\"; it must be a size from \"64KiB\" to \"1GiB\"",
        "`modules.max_nesting` is 0; it must be a whole number from 1 to 100000",
        "`modules.compile_cpu` is \"100ms\"; it must be a duration from \"1s\" to \"1h\"",
        "`modules.compile_memory` is \"512MB\"; it must be a size from \"64MiB\" to \"64GiB\"",
    ] {
        assert!(told.contains(expected), "{expected} is not in {told}");
    }
}

#[test]
fn the_memory_limit_is_a_size_in_the_file_or_in_a_variable() {
    let config = with_env("memory_limit = \"1GiB\"", &[("SLIPRING_MEMORY_LIMIT", "64MiB")]).unwrap();
    assert_eq!(config.memory_limit, Some(64 << 20));
    assert_snapshot!(problems("memory_limit = \"1MiB\""), @r#"slipring.toml:1:16: `memory_limit` is "1MiB"; it must be a size from "16MiB" to "1024GiB""#);
    assert_snapshot!(
        with_env("", &[("SLIPRING_MEMORY_LIMIT", "half")]).unwrap_err(),
        @r#"SLIPRING_MEMORY_LIMIT: `memory_limit` is "half"; it must be a size from "16MiB" to "1024GiB""#
    );
}

#[test]
fn redis_is_configured_only_if_it_is_named() {
    let parse = |text: &str, env: &[(&str, &str)]| {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        parse_config(Path::new("slipring.toml"), text, env).unwrap()
    };
    let none = parse("", &[]);
    assert_eq!((none.redis, none.dead_letters.store), (None, Store::JetStream));
    let alone = parse("[redis]", &[]);
    assert_eq!(alone.redis.unwrap().url.as_str(), "redis://127.0.0.1:6379");
    assert_eq!(alone.dead_letters.store, Store::Redis);
    let both = parse("[redis]\n[nats]", &[]);
    assert_eq!(both.dead_letters.store, Store::JetStream);
    let chosen = parse("[redis]\n[nats]\n[dead_letters]\nstore = 'redis'", &[]);
    assert_eq!(chosen.dead_letters.store, Store::Redis);
    let from_environment = parse("", &[("SLIPRING_REDIS__URL", "rediss://a.example:1/3")]);
    assert_eq!(from_environment.redis.unwrap().url.as_str(), "rediss://a.example:1/3");
    let sentinel = parse("[redis]\nsentinels = ['redis://a', 'redis://b']\nmaster = 'main'", &[]);
    assert_eq!(sentinel.redis.unwrap().sentinel.unwrap().urls.len(), 2);
}

#[test]
fn what_is_wrong_about_redis_is_said() {
    let problems = [
        "redis.url = 'http://a'",
        "redis.url = 'redis://user:secret@a'",
        "redis.url = 'redis://a/orders'",
        "redis.sentinels = ['redis://a']",
        "redis.sentinels = []\nredis.master = 'main'",
        "redis.master = 'main'",
        "redis.password = 'secret'",
        "redis.sentinel_user = 'relay'",
        "redis.user = 'relay'",
        "redis.url = 'redis://a'\nredis.tls.ca_file = 'tests/it/grpc/ca.pem'",
        "dead_letters.store = 'redis'",
        "dead_letters.store = 'redis'\ndead_letters.max_bytes = '1GiB'\n[redis]",
        "redis.ulr = 'redis://a'",
    ];
    let told: Vec<String> = problems
        .iter()
        .map(|text| {
            parse_config(Path::new("slipring.toml"), text, [("", ""); 0])
                .unwrap_err()
                .to_string()
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn words_of_other_programs_lead_to_the_right_key() {
    let text = "dir = 'modules'\ncache = 'x'\n[nats]\naddress = 'a'\n[centrifugo]\nurl = 'a'\nkey = 'b'\n[admin]\nhost_ = 'x'\nport = 1\n";
    assert_snapshot!(problems(text), @r#"
    slipring.toml:1:1: there is no key `dir`; did you mean `modules.dir`?
    slipring.toml:2:1: there is no key `cache`; this file can have only `memory_limit`, `nats`, `redis`, `centrifugo`, `modules`, `publish`, `admin`, `dead_letters`, `standby`, `shutdown`
    slipring.toml:4:1: there is no key `nats.address`; did you mean `nats.servers`?
    slipring.toml:6:1: there is no key `centrifugo.url`; did you mean `centrifugo.endpoints`?
    slipring.toml:7:1: there is no key `centrifugo.key`; did you mean `centrifugo.api_key_file`?
    slipring.toml:9:1: there is no key `admin.host_`; did you mean `admin.hosts`?
    slipring.toml:10:1: there is no key `admin.port`; did you mean `admin.listen`?
    "#);
}

#[test]
fn a_value_in_place_of_a_list_is_shown_as_a_list_unless_it_may_hold_a_secret() {
    assert_snapshot!(problems("centrifugo.endpoints = 'http://c:8000'\nnats.servers = 'nats://u:MARKER@n'\n"), @r#"
    slipring.toml:1:24: `centrifugo.endpoints` is a string; it must be a list, in brackets; did you mean ["http://c:8000"]?
    slipring.toml:2:16: `nats.servers` is a string; it must be a list, in brackets
    "#);
}

#[test]
fn a_word_without_quotes_is_told() {
    assert_snapshot!(problems("[standby]\nenabled = yes\n"), @"slipring.toml:2:11: `yes` is no value; write `true`");
    assert_snapshot!(problems("[standby]\nenabled = Off # not yet\n"), @"slipring.toml:2:11: `Off` is no value; write `false`");
    assert_snapshot!(problems("modules.dir = modules\n"), @"slipring.toml:1:15: this is not TOML: a text has to be in quotes");
}

#[test]
fn a_name_for_other_relays_fits_into_a_line() {
    let standby = |name: &str| config(&format!("standby = {{ enabled = true, name = '{name}' }}")).standby;
    let named = standby("relay-a").and_then(|standby| standby.name);
    assert_eq!(named.as_deref(), Some("relay-a"));
    let long = "a".repeat(101);
    for wrong in ["''", "' '", "\"a\\nb\"", &format!("'{long}'"), "7"] {
        let problems = problems(&format!("standby.name = {wrong}"));
        assert!(problems.contains("`standby.name` is "), "{wrong}: {problems}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
}
