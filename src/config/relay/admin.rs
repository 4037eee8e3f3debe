//! Reads `[admin]`: where the relay answers, to whom, and with which certificate.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use toml::de::DeValue;
use url::Url;

use super::super::checked::{Admin, AdminTls, Secret};
use super::super::section::{Section, Taken};
use super::super::value::{Parsed, Wrong, boolean};
use super::super::{file, secret};

/// A token of random characters that is this long cannot be guessed over the network.
const SHORTEST_TOKEN: usize = 16;

pub(super) fn read(mut section: Section<'_>) -> Admin {
    let listen = section.take_placed("listen", socket_address);
    let hosts = section.take_list("hosts", host_name);
    let given = ["token", "read_token"].map(|key| secret::is_set(&section, key, &format!("{key}_file")));
    let full = token(&mut section, "token", "token_file");
    let reading = token(&mut section, "read_token", "read_token_file");
    if let (Some(full), Some(Taken { value, place })) = (&full, &reading)
        && full.value == *value
    {
        let message = "`admin.read_token_file` holds the same token as `admin.token_file`, so it would allow \
                       everything; it must be a different token";
        section.remark(place.clone(), "read_token_file", message.to_owned());
    }
    if let Some(Taken { value, place }) = &listen
        && !value.ip().is_loopback()
        && given == [false, false]
    {
        let variable = section.variable("token");
        let message = format!(
            "`admin.listen` is {value}, which others can reach; use a loopback address such as \"127.0.0.1:8787\", or \
             set `admin.token_file` or {variable}"
        );
        section.remark(place.clone(), "listen", message);
    }
    let centrifugo_websocket = section.take("centrifugo_websocket", websocket);
    let uploads = section.take("uploads", boolean).unwrap_or(false);
    let tls = tls(section.section("tls"));
    section.finish();
    let default = SocketAddr::from(([127, 0, 0, 1], 8787));
    let hosts = hosts.map(|taken| taken.value).unwrap_or_default();
    Admin {
        listen: listen.map_or(default, |taken| taken.value),
        hosts: hosts.into_iter().map(|taken| taken.value).collect(),
        token: full.map(|taken| taken.value),
        read_token: reading.map(|taken| taken.value),
        tls,
        centrifugo_websocket,
        uploads,
        token_dirs: Vec::new(),
        from_up: false,
    }
}

/// Returns the directories in which the relay may save a token and where the commands look for it, best first. The
/// login session's own comes first. A relay that a service manager started has none, and neither has `su`.
pub(super) fn token_dirs(env: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let absolute = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let session = absolute("XDG_RUNTIME_DIR").into_iter();
    let runtime = session.chain([PathBuf::from(format!("/run/user/{uid}"))]);
    let temporary = absolute("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
    let mut dirs: Vec<PathBuf> = runtime.map(|dir| dir.join("slipring")).collect();
    dirs.push(temporary.join(format!("slipring-{uid}")));
    dirs.dedup();
    dirs
}

/// Reads a token that can be sent in a header and cannot be guessed.
fn token(section: &mut Section<'_>, key: &'static str, file_key: &'static str) -> Option<Taken<Secret>> {
    let taken = secret::take(section, key, file_key)?;
    let length = taken.value.expose().chars().count();
    let trouble = if !taken.value.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        "has spaces, or characters beyond ASCII".to_owned()
    } else if length < SHORTEST_TOKEN {
        format!("has {length} characters")
    } else {
        return Some(taken);
    };
    let key = if secret::is_variable(&taken.place) {
        key
    } else {
        file_key
    };
    let message = format!(
        "the token of `{}` {trouble}; it must have at least {SHORTEST_TOKEN} ASCII characters without spaces, such as \
         `openssl rand -hex 32` prints",
        section.key(key)
    );
    section.remark(taken.place, key, message);
    None
}

fn socket_address(value: &DeValue<'_>) -> Parsed<SocketAddr> {
    let address = value.as_str().and_then(|text| text.parse().ok());
    address.ok_or_else(|| Wrong::new("an IP address and a port such as \"127.0.0.1:8787\"").found_value(value))
}

/// The URL becomes a part of the page's content policy, so its host may have no other characters than those of names and
/// addresses.
fn websocket(value: &DeValue<'_>) -> Parsed<Url> {
    let right = || {
        Wrong::new(
            "the URL of Centrifugo's WebSocket without user, password, `?` and `#`, such as \
             \"ws://127.0.0.1:8000/connection/websocket\"",
        )
    };
    let Some(text) = value.as_str() else {
        return Err(right().found_value(value));
    };
    if text.contains(['@', '?', '#']) {
        return Err(right().found("a URL with more in it (not shown)"));
    }
    let is_plain = |host: &str| {
        let mut bytes = host.bytes();
        !host.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte))
    };
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "ws" | "wss"));
    let url = url.filter(|url| url.host_str().is_some_and(is_plain));
    url.ok_or_else(|| right().found_value(value))
}

/// Returns the name in the form in which it is compared.
fn host_name(value: &DeValue<'_>) -> Parsed<String> {
    let is_label = |label: &str| {
        let mut bytes = label.bytes();
        (1..=63).contains(&label.len()) && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let name = value.as_str().map(|text| text.strip_suffix('.').unwrap_or(text));
    let name = name.filter(|name| name.len() <= 253 && name.split('.').all(is_label));
    name.map(str::to_ascii_lowercase).ok_or_else(|| {
        Wrong::new("a host name such as \"relay.example\", without a scheme, a port or a wildcard").found_value(value)
    })
}

fn tls(mut section: Section<'_>) -> Option<AdminTls> {
    let given = ["cert_file", "key_file"].map(|key| section.is_set(key));
    let cert_file = section.take_path("cert_file");
    let key_file = section.take_path("key_file");
    let tls = match (cert_file, key_file) {
        (Some(cert_file), Some(key_file)) => certificate(&section, &cert_file, &key_file),
        (Some(alone), None) | (None, Some(alone)) if given != [true, true] => {
            let (key, other) = match given {
                [true, _] => ("cert_file", "key_file"),
                _ => ("key_file", "cert_file"),
            };
            section.remark(alone.place, key, format!("`admin.tls.{key}` needs `admin.tls.{other}`"));
            None
        }
        _ => None,
    };
    section.finish();
    tls
}

fn certificate(section: &Section<'_>, cert_file: &Taken<PathBuf>, key_file: &Taken<PathBuf>) -> Option<AdminTls> {
    let (certificates, key) = (certificates(section, cert_file), key(section, key_file));
    let (certificates, key) = certificates.zip(key)?;
    let tls = AdminTls { certificates, key };
    if let Err(error) = tls.server() {
        let message = format!(
            "the certificate in `admin.tls.cert_file` cannot be used with the key in `admin.tls.key_file`: {error}"
        );
        section.remark(cert_file.place.clone(), "cert_file", message);
        return None;
    }
    Some(tls)
}

fn certificates(section: &Section<'_>, file: &Taken<PathBuf>) -> Option<Vec<CertificateDer<'static>>> {
    let pem = contents(section, "cert_file", file)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let trouble = match parsed {
        Ok(certificates) if !certificates.is_empty() => return Some(certificates),
        Ok(_) => "it holds no certificate in PEM form, which begins with `-----BEGIN CERTIFICATE-----`".to_owned(),
        Err(error) => format!("it is not PEM: {error}"),
    };
    unusable(section, "cert_file", file, &trouble);
    None
}

fn key(section: &Section<'_>, file: &Taken<PathBuf>) -> Option<Secret> {
    let pem = contents(section, "key_file", file)?;
    match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(_) => Some(Secret::new(pem)),
        Err(_) => {
            let trouble = "it holds no private key in PEM form, which begins with `-----BEGIN PRIVATE KEY-----`";
            unusable(section, "key_file", file, trouble);
            None
        }
    }
}

fn contents(section: &Section<'_>, key: &'static str, file: &Taken<PathBuf>) -> Option<String> {
    fs::read_to_string(&file.value)
        .map_err(|error| {
            let message = file::unreadable(section, key, &file.value, &error);
            section.remark(file.place.clone(), key, message);
        })
        .ok()
}

fn unusable(section: &Section<'_>, key: &'static str, file: &Taken<PathBuf>, trouble: &str) {
    let message = format!("`{}` names {}: {trouble}", section.key(key), file.value.display());
    section.remark(file.place.clone(), key, message);
}

impl AdminTls {
    /// Returns a TLS server that shows this certificate.
    pub fn server(&self) -> Result<ServerConfig, rustls::Error> {
        let key = PrivateKeyDer::from_pem_slice(self.key.expose().as_bytes())
            .map_err(|error| rustls::Error::General(format!("the private key cannot be read: {error}")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.certificates.clone(), key)?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(server)
    }
}
