//! Secrets: where they come from, and where they are never shown.

use super::*;

#[test]
fn secrets_come_from_files_and_do_not_show() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("key"), "hunter2\n").unwrap();
    fs::write(dir.path().join("full"), "hunter2hunter2hunter2\n").unwrap();
    fs::write(dir.path().join("read"), "hunter2-may-only-read\n").unwrap();
    let text = "centrifugo.api_key_file = 'key'\n\
                admin = { listen = '0.0.0.0:1', token_file = 'full', read_token_file = 'read' }\n\
                nats = { user = 'relay', password_file = 'key' }";
    let config = parse_config(&dir.path().join("slipring.toml"), text, NO_ENV).unwrap();
    assert_eq!(config.centrifugo.api_key, Some(Secret::new("hunter2")));
    assert_eq!(config.admin.token, Some(Secret::new("hunter2hunter2hunter2")));
    assert_eq!(config.admin.read_token, Some(Secret::new("hunter2-may-only-read")));
    assert_eq!(
        config.nats.auth,
        NatsAuth::User {
            user: "relay".to_owned(),
            password: Secret::new("hunter2")
        }
    );
    assert_eq!(config.modules.dir, dir.path().join("modules"));
    let shown = format!("{config:?}");
    assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn secrets_come_from_the_environment_too() {
    let env = [
        ("SLIPRING_CENTRIFUGO__API_KEY", "123"),
        ("SLIPRING_NATS__PASSWORD", "'quoted'"),
    ];
    let config = with_env("nats.user = 'relay'\ncentrifugo.api_key_file = 'not there'", &env).unwrap();
    assert_eq!(config.centrifugo.api_key, Some(Secret::new("123")));
    assert_eq!(
        config.nats.auth,
        NatsAuth::User {
            user: "relay".to_owned(),
            password: Secret::new("'quoted'")
        }
    );

    let config = with_env("nats.creds_file = '/dev/null'", &[("SLIPRING_NATS__TOKEN", "t")]);
    assert_snapshot!(config.unwrap_err(), @r#"
    slipring.toml:1:19: `nats.creds_file` names /dev/null, which cannot be read: the file is empty
    "#);
}

#[test]
fn unreadable_secrets_are_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("empty"), " \n").unwrap();
    let text = "[nats]\ncreds_file = 'creds'\n[centrifugo]\napi_key_file = 'empty'\n[nats.tls]\nca_file = 'ca.pem'\n";
    let file = dir.path().join("slipring.toml");
    let problems = parse_config(&file, text, NO_ENV).unwrap_err().to_string();
    assert_snapshot!(problems.replace(&dir.path().display().to_string(), "/etc/slipring"), @r#"
    /etc/slipring/slipring.toml:2:14: `nats.creds_file` names a file that does not exist in /etc/slipring; it must be the path of a file (the value is not shown, because it may be the secret itself)
    /etc/slipring/slipring.toml:4:16: `centrifugo.api_key_file` names /etc/slipring/empty, which cannot be read: the file is empty
    /etc/slipring/slipring.toml:6:11: `nats.tls.ca_file` names a file that does not exist in /etc/slipring; it must be the path of a file (the value is not shown, because it may be the secret itself)
    "#);
}

/// Whatever a person puts where the name of a file belongs, no error repeats it.
#[test]
fn a_secret_in_place_of_its_file_is_not_shown() {
    const KEYS: [&str; 15] = [
        "admin.read_token_file",
        "admin.tls.cert_file",
        "admin.tls.key_file",
        "admin.token_file",
        "centrifugo.api_key_file",
        "centrifugo.tls.ca_file",
        "centrifugo.tls.cert_file",
        "centrifugo.tls.key_file",
        "nats.creds_file",
        "nats.nkey_file",
        "nats.password_file",
        "nats.tls.ca_file",
        "nats.tls.cert_file",
        "nats.tls.key_file",
        "nats.token_file",
    ];
    let long = format!("MARKER{}", "0".repeat(5_000));
    let secrets = [
        "MARKER",
        "MARKER.txt",
        "MARKER/with+slashes=",
        "/MARKER",
        "sec/ret/../MARKER",
        "-----BEGIN PRIVATE KEY-----\nMARKER\n-----END PRIVATE KEY-----\n",
        "MARKER\0",
        &long,
    ];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("slipring.toml");
    for key in KEYS {
        // A certificate needs its key, and a key its certificate.
        let other = match key.strip_prefix("admin.tls.") {
            Some("cert_file") => "admin.tls.key_file = '/dev/null'\n",
            Some(_) => "admin.tls.cert_file = '/dev/null'\n",
            None => "",
        };
        let mut wrong: Vec<String> = secrets
            .iter()
            .map(|secret| format!("{other}{key} = {secret:?}"))
            .collect();
        wrong.push(format!("{key} = ['MARKER']"));
        for text in wrong.iter().map(|text| text.replace("\\0", "\\u0000")) {
            let problems = parse_config(&file, &text, NO_ENV).unwrap_err().to_string();
            assert!(!problems.contains("MARKER"), "{problems}");
            assert!(
                problems.contains(key) && problems.contains("path of a file"),
                "{problems}"
            );
        }
        for secret in secrets.iter().filter(|secret| !secret.contains('\0')) {
            let variable = format!("SLIPRING_{}", key.replace('.', "__").to_uppercase());
            let problems = with_env("", &[(&variable, secret)]).unwrap_err().to_string();
            assert!(
                !problems.contains("MARKER") && problems.contains(&variable),
                "{problems}"
            );
        }
        let number = format!("{key} = 8316497");
        let problems = parse_config(&file, &number, NO_ENV).unwrap_err().to_string();
        assert!(!problems.contains("8316497"), "{problems}");
    }
}

#[test]
fn one_way_to_authenticate_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("seed"),
        "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
    )
    .unwrap();
    let parse = |text: &str| parse_config(&dir.path().join("slipring.toml"), text, NO_ENV);
    assert!(matches!(
        parse("nats.nkey_file = 'seed'").unwrap().nats.auth,
        NatsAuth::NKey(_)
    ));
    let problems = parse("[nats]\nnkey_file = 'seed'\ntoken_file = 'seed'\ncreds_file = 'seed'")
        .unwrap_err()
        .to_string();
    assert_snapshot!(problems.replace(&dir.path().display().to_string(), "/etc/slipring"), @r#"
    /etc/slipring/slipring.toml:4:14: `nats.creds_file` and `nats.nkey_file` and `nats.token_file` are set together; only one way to authenticate can be used
    /etc/slipring/slipring.toml:4:14: `nats.creds_file` names /etc/slipring/seed, which has no user JWT with its seed; use a file written by `nsc generate creds`
    "#);
    // The environment's way to authenticate replaces the file's.
    let env = [("SLIPRING_NATS__TOKEN".to_owned(), "t".to_owned())];
    let config = parse_config(&dir.path().join("slipring.toml"), "nats.nkey_file = 'seed'", env).unwrap();
    assert_eq!(config.nats.auth, NatsAuth::Token(Secret::new("t")));
}
