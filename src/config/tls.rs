//! TLS towards a server: the files that a section names, and the settings of a client that follow from them.

mod reason;

pub use self::reason::Peer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::file;
use super::section::{Section, Taken};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Replaces the platform's own certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// Set together with `key_file`.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// What is wrong with a file. It completes "`nats.tls.ca_file` names FILE, which …".
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    #[error("has no certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    #[error("has a broken certificate: {0}")]
    Certificate(String),
    #[error("has no private key in PEM form; an encrypted key cannot be used")]
    NoKey,
    #[error("is not the key of the certificate in `cert_file`: {0}")]
    OtherKey(rustls::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the file {file} {unfit}")]
    File { file: String, unfit: String },
    #[error(
        "this machine has no certificate authorities; set `ca_file` to the certificate of the authority that signed the server's{0}"
    )]
    NoAuthorities(String),
    #[error("setting up TLS failed")]
    Rustls(#[from] rustls::Error),
}

impl Tls {
    /// Reads the files and returns the settings of a client. Without a `ca_file`, it trusts the platform's authorities.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let roots = match &self.ca_file {
            Some(file) => authorities(file).map_err(|unfit| unfit.of(file))?,
            None => platform()?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        match (&self.cert_file, &self.key_file) {
            (Some(certificate), Some(file)) => {
                let chain = certificates(certificate).map_err(|unfit| unfit.of(certificate))?;
                let key = key(file).map_err(|unfit| unfit.of(file))?;
                Ok(builder.with_client_auth_cert(chain, key)?)
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }
}

impl Unfit {
    fn of(self, file: &Path) -> TlsError {
        TlsError::File {
            file: file.display().to_string(),
            unfit: self.to_string(),
        }
    }
}

/// Reads the table `tls` of a section that has nothing else in it.
pub fn take(section: &mut Section<'_>) -> Tls {
    let mut section = section.section("tls");
    let tls = read(&mut section);
    section.finish();
    tls
}

/// Reads the keys for TLS of a section, and checks what is in the files.
pub(super) fn read(section: &mut Section<'_>) -> Tls {
    let ca_file = section.take_path("ca_file");
    let cert_file = section.take_path("cert_file");
    let key_file = section.take_path("key_file");
    check(section, "ca_file", ca_file.as_ref(), |file| authorities(file).map(drop));
    check(section, "cert_file", cert_file.as_ref(), |file| {
        certificates(file).map(drop)
    });
    check(section, "key_file", key_file.as_ref(), |file| {
        let key = key(file)?;
        // A broken certificate is reported by itself.
        let chain = cert_file.as_ref().and_then(|cert| certificates(&cert.value).ok());
        chain.map_or(Ok(()), |chain| belongs(chain, key))
    });
    let lonely = |key: &'static str, taken: &Taken<PathBuf>, other: &str| {
        let message = format!("`{}` needs `{}`", section.key(key), section.key(other));
        section.remark(taken.place.clone(), key, message);
    };
    match (&cert_file, &key_file) {
        (Some(cert), None) => lonely("cert_file", cert, "key_file"),
        (None, Some(key)) => lonely("key_file", key, "cert_file"),
        _ => {}
    }
    let path = |taken: Option<Taken<PathBuf>>| taken.map(|taken| taken.value);
    Tls {
        ca_file: path(ca_file),
        cert_file: path(cert_file),
        key_file: path(key_file),
    }
}

fn check(
    section: &Section<'_>,
    key: &'static str,
    taken: Option<&Taken<PathBuf>>,
    check: impl Fn(&Path) -> Result<(), Unfit>,
) {
    if let Some(Taken { value: path, place }) = taken
        && let Err(unfit) = check(path)
    {
        let message = match unfit {
            Unfit::Unreadable(error) => file::unreadable(section, key, path, &error),
            unfit => format!("`{}` names {}, which {unfit}", section.key(key), path.display()),
        };
        section.remark(place.clone(), key, message);
    }
}

fn authorities(file: &Path) -> Result<RootCertStore, Unfit> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .map_err(|error| Unfit::Certificate(error.to_string()))?;
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let reader = File::open(file).map_err(Unfit::Unreadable)?;
    let certificates = CertificateDer::pem_reader_iter(reader).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(Unfit::NoCertificate),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(Unfit::Certificate(error.to_string())),
    }
}

/// The error never contains anything of the file.
fn key(file: &Path) -> Result<PrivateKeyDer<'static>, Unfit> {
    let reader = File::open(file).map_err(Unfit::Unreadable)?;
    PrivateKeyDer::from_pem_reader(reader).map_err(|_| Unfit::NoKey)
}

fn belongs(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), Unfit> {
    let provider = rustls::crypto::ring::default_provider();
    let pair = rustls::sign::CertifiedKey::from_der(chain, key, &provider);
    pair.map(drop).map_err(Unfit::OtherKey)
}

/// Certificates that rustls cannot read are left out: some platforms have very old ones.
fn platform() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        let why = native.errors.first().map(|error| format!(": {error}"));
        return Err(TlsError::NoAuthorities(why.unwrap_or_default()));
    }
    Ok(roots)
}
