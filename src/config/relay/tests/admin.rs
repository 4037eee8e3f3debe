//! `[admin]`: tokens, hosts, certificates.

use std::fs;

use super::*;

#[test]
fn a_token_cannot_be_guessed_and_can_be_sent() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("short", "fifteen-letters"),
        ("spaces", "a token with some spaces"),
        ("letters", "schlüsselschlüssel"),
        ("good", "sixteen-letters!\n"),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let file = dir.path().join("slipring.toml");
    let parse = |text: &str| parse_config(&file, text, NO_ENV);
    assert_eq!(
        parse("admin.token_file = 'good'").unwrap().admin.token,
        Some(Secret::new("sixteen-letters!"))
    );
    let shown = |text: &str| {
        parse(text)
            .unwrap_err()
            .to_string()
            .replace(&dir.path().display().to_string(), "")
    };
    assert_snapshot!(shown("[admin]\ntoken_file = 'short'\nread_token_file = 'spaces'"), @r#"
    /slipring.toml:2:14: the token of `admin.token_file` has 15 characters; it must have at least 16 ASCII characters without spaces, such as `openssl rand -hex 32` prints
    /slipring.toml:3:19: the token of `admin.read_token_file` has spaces, or characters beyond ASCII; it must have at least 16 ASCII characters without spaces, such as `openssl rand -hex 32` prints
    "#);
    assert!(shown("admin.token_file = 'letters'").contains("beyond ASCII"));
    assert_snapshot!(shown("admin = { token_file = 'good', read_token_file = 'good' }"), @r#"
    /slipring.toml:1:50: `admin.read_token_file` holds the same token as `admin.token_file`, so it would allow everything; it must be a different token
    "#);
    assert_snapshot!(with_env("", &[("SLIPRING_ADMIN__TOKEN", "short")]).unwrap_err(), @r#"
    SLIPRING_ADMIN__TOKEN: the token of `admin.token` has 5 characters; it must have at least 16 ASCII characters without spaces, such as `openssl rand -hex 32` prints
    "#);
}

#[test]
fn others_may_only_come_with_a_token() {
    let parse = |env: &[(&str, &str)]| with_env("admin.listen = '0.0.0.0:1'", env);
    assert!(parse(&[]).is_err());
    for variable in ["SLIPRING_ADMIN__TOKEN", "SLIPRING_ADMIN__READ_TOKEN"] {
        assert!(parse(&[(variable, "sixteen-letters!")]).is_ok(), "{variable}");
    }
}

#[test]
fn a_host_is_a_name_alone() {
    let told = problems(
        "admin.hosts = ['http://relay.example', 'relay.example:8787', '*.example', '', 'a..b', 'a b', '[::1]', 7]",
    );
    assert_eq!(told.lines().count(), 8, "{told}");
    for line in told.lines() {
        let right = "it must be a host name such as \"relay.example\", without a scheme, a port or a wildcard";
        assert!(line.ends_with(right), "{line}");
    }
}

#[test]
fn a_certificate_and_its_key_are_read_together() {
    let pem = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(path);
    let (cert, key) = (pem("grpc/server.pem"), pem("grpc/server.key"));
    let (other, client) = (pem("unreadable/tls/client.key"), pem("unreadable/tls/client.pem"));
    let dir = tempfile::tempdir().unwrap();
    let parse = |cert: &Path, key: &Path| {
        let text = format!("[admin.tls]\ncert_file = {cert:?}\nkey_file = {key:?}");
        parse_config(&dir.path().join("slipring.toml"), &text, NO_ENV)
    };
    let tls = parse(&cert, &key).unwrap().admin.tls.unwrap();
    assert_eq!(tls.certificates.len(), 1);
    assert!(tls.server().is_ok());
    assert!(format!("{tls:?}").contains("key: ***"));

    let told = |cert: &Path, key: &Path| parse(cert, key).unwrap_err().to_string();
    let garbage = dir.path().join("garbage.pem");
    fs::write(
        &garbage,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    for (said, right) in [
        (
            told(&cert, &other),
            "cannot be used with the key in `admin.tls.key_file`",
        ),
        (
            told(&client, &key),
            "cannot be used with the key in `admin.tls.key_file`",
        ),
        (
            told(&garbage, &key),
            "cannot be used with the key in `admin.tls.key_file`",
        ),
        (told(&key, &key), "it holds no certificate in PEM form"),
        (told(&cert, &cert), "it holds no private key in PEM form"),
        (told(&cert, dir.path()), "`admin.tls.key_file` names"),
    ] {
        assert!(said.contains(right), "{said}");
    }
    assert_snapshot!(problems("admin.tls.cert_file = '/dev/null'"), @"slipring.toml:1:23: `admin.tls.cert_file` needs `admin.tls.key_file`");
    assert_snapshot!(problems("admin.tls.key_file = '/dev/null'"), @"slipring.toml:1:22: `admin.tls.key_file` needs `admin.tls.cert_file`");
}

#[test]
fn a_token_of_the_relay_is_in_a_place_of_its_user() {
    let uid = rustix::process::geteuid().as_raw();
    let dirs = |env: &[(&str, &str)]| with_env("", env).unwrap().admin.token_dirs;
    let run = format!("/run/user/{uid}/slipring");
    assert_eq!(
        dirs(&[("XDG_RUNTIME_DIR", "/r"), ("TMPDIR", "/t")]),
        [
            "/r/slipring".into(),
            run.clone().into(),
            Path::new("/t").join(format!("slipring-{uid}"))
        ]
    );
    let session = format!("/run/user/{uid}");
    assert_eq!(
        dirs(&[("XDG_RUNTIME_DIR", &session), ("TMPDIR", "relative")]),
        [run.into(), Path::new("/tmp").join(format!("slipring-{uid}"))]
    );
}

#[test]
fn only_a_plain_address_gets_into_the_content_policy() {
    let good = [
        "ws://127.0.0.1:8000/connection/websocket",
        "wss://chat.example",
        "ws://[::1]:8000/ws",
    ];
    for url in good {
        let config = with_env(&format!("admin.centrifugo_websocket = '{url}'"), &[]).unwrap();
        assert_eq!(config.admin.centrifugo_websocket, Some(url.parse().unwrap()));
    }
    for url in [
        "http://127.0.0.1:8000",
        "ws://a;b/",
        "ws://*.example",
        "127.0.0.1:8000",
        "ws://a/?x",
    ] {
        let told = problems(&format!("admin.centrifugo_websocket = \"{url}\""));
        assert!(
            told.contains("it must be the URL of Centrifugo's WebSocket without user"),
            "{url}: {told}"
        );
    }
    assert_snapshot!(problems("admin.centrifugo_websocket = 'ws://me:secret@a/'"), @r#"
    slipring.toml:1:30: `admin.centrifugo_websocket` is a URL with more in it (not shown); it must be the URL of Centrifugo's WebSocket without user, password, `?` and `#`, such as "ws://127.0.0.1:8000/connection/websocket"
    "#);
}
