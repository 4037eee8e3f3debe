//! The admin server with a certificate, and the client that trusts it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use url::Url;

use super::super::{Client, Trust};
use super::{FULL, Test, exchange, start};
use crate::config::{self, AdminTls, Secret};

/// Returns a file: a certificate for 127.0.0.1 and localhost until 2126, its key, and the authority that signed it.
fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/grpc").join(name)
}

fn tls() -> AdminTls {
    AdminTls {
        certificates: vec![CertificateDer::from_pem_file(pem("server.pem")).unwrap()],
        key: Secret::new(std::fs::read_to_string(pem("server.key")).unwrap()),
    }
}

async fn start_tls() -> Test {
    start(|config| config.tls = Some(tls())).await
}

#[tokio::test]
async fn it_speaks_https_and_nothing_else() {
    let test = start_tls().await;
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(pem("ca.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(client));
    let name = || ServerName::try_from("localhost").unwrap();

    let stream = connector.connect(name(), test.connect().await).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let port = test.address.port();
    let request = format!(
        "GET /api/v1/status HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: https://localhost:{port}\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(exchange(stream, &request).await.code, 200);
    let stream = connector.connect(name(), test.connect().await).await.unwrap();
    let rebound = "GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(stream, rebound).await.code, 421);

    let mut plain = test.connect().await;
    plain.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1"), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_ten_seconds_and_holds_nobody_up() {
    let test = start_tls().await;
    let mut silent = test.connect().await;
    let trust = Trust {
        own: tls().certificates.pop(),
        ca_file: None,
    };
    let config = test.config.clone();
    let url = url(&test, "127.0.0.1");
    let status = tokio::task::spawn_blocking(move || Client::new(url, &config, trust)?.status());
    assert!(timeout(Duration::from_secs(9), status).await.unwrap().unwrap().is_ok());
    let begin = Instant::now();
    let _ = silent.read_to_end(&mut Vec::new()).await;
    assert!(begin.elapsed() <= Duration::from_secs(11), "{:?}", begin.elapsed());
}

fn url(test: &Test, host: &str) -> Url {
    Url::parse(&format!("https://{host}:{}/", test.address.port())).unwrap()
}

/// Asks for the status as the commands do.
async fn status(test: &Test, host: &str, trust: Trust) -> Result<serde_json::Value, String> {
    let (url, config) = (url(test, host), test.config.clone());
    let asked = tokio::task::spawn_blocking(move || Client::new(url, &config, trust)?.status());
    asked.await.unwrap().map_err(|error| format!("{error:#}"))
}

fn trust(own: Option<&str>, ca_file: Option<&str>) -> Trust {
    Trust {
        own: own.map(|name| CertificateDer::from_pem_file(pem(name)).unwrap()),
        ca_file: ca_file.map(pem),
    }
}

#[tokio::test]
async fn the_commands_trust_the_relays_own_certificate_and_named_authorities() {
    let test = start_tls().await;
    for trusted in [
        trust(Some("server.pem"), None),
        trust(None, Some("ca.pem")),
        trust(Some("ca.pem"), Some("ca.pem")),
    ] {
        assert!(status(&test, "127.0.0.1", trusted).await.is_ok());
    }
    // The certificate has no such name, but it is this relay's own.
    assert!(
        status(&test, "127.0.0.2", trust(Some("server.pem"), None))
            .await
            .is_err(),
        "nobody listens there"
    );
    for distrusted in [trust(None, None), trust(Some("ca.pem"), None)] {
        let error = status(&test, "127.0.0.1", distrusted).await.unwrap_err();
        assert!(
            error.contains("is not trusted") && error.contains("--ca-file"),
            "{error}"
        );
        assert!(error.contains("UnknownIssuer"), "{error}");
    }
    let everywhere = start(|config| {
        config.tls = Some(tls());
        config.listen = "0.0.0.0:0".parse().unwrap();
        config.token = Some(Secret::new(FULL));
    })
    .await;
    assert!(
        status(&everywhere, "127.0.0.2", trust(Some("server.pem"), None))
            .await
            .is_ok()
    );
    let error = status(&everywhere, "127.0.0.2", trust(None, Some("ca.pem")))
        .await
        .unwrap_err();
    assert!(error.contains("not valid for name"), "{error}");
}

#[test]
fn an_authority_that_is_none_is_named() {
    let config = config::parse_config(Path::new("slipring.toml"), "", [("", ""); 0])
        .unwrap()
        .admin;
    let client = |name: &str| {
        let url = Url::parse("https://127.0.0.1:1/").unwrap();
        format!("{:#}", Client::new(url, &config, trust(None, Some(name))).unwrap_err())
    };
    assert!(client("absent.pem").contains("absent.pem of --ca-file cannot be used"));
    assert!(client("server.key").contains("it holds no certificate in PEM form"));
}
