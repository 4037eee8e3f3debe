//! Decides whether a client talks to its relay over TLS.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The certificates that a client accepts.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The relay's own, from the configuration. It is accepted under every name, because a relay on this machine is
    /// reached under an address, which few certificates have.
    pub own: Option<CertificateDer<'static>>,
    /// The authorities for others, instead of the platform's.
    pub ca_file: Option<PathBuf>,
}

impl Trust {
    /// `needed` is false for plain HTTP, which needs no authorities.
    pub(super) fn client(self, needed: bool) -> anyhow::Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = if needed { self.roots()? } else { RootCertStore::empty() };
        let others = if roots.is_empty() {
            None
        } else {
            Some(WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build()?)
        };
        let verifier = Verifier {
            own: self.own,
            others,
            provider: Arc::clone(&provider),
        };
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth())
    }

    fn roots(&self) -> anyhow::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
            Some(file) => {
                let failed = || format!("the file {} of --ca-file cannot be used", file.display());
                let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
                    .and_then(Iterator::collect)
                    .map_err(|error| anyhow!("{error}").context(failed()));
                for certificate in certificates? {
                    roots.add(certificate).with_context(failed)?;
                }
                if roots.is_empty() {
                    return Err(anyhow!("it holds no certificate in PEM form").context(failed()));
                }
            }
        }
        Ok(roots)
    }
}

/// Returns what a server's certificate lacks, if that is why a request failed.
pub(super) fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error @ Error::InvalidCertificate(_)) = error.downcast_ref() {
        return Some(error.to_string());
    }
    // What an I/O error wraps is not its source.
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => refusal(inner),
        None => refusal(error.source()?),
    }
}

/// Accepts the relay's own certificate, whose key only the relay has, and those that authorities signed.
#[derive(Debug)]
struct Verifier {
    own: Option<CertificateDer<'static>>,
    others: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.own.as_ref() == Some(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let Some(others) = &self.others else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        others.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
