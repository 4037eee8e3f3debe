//! The address of the relay that a command queries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use url::Url;

use super::config_file::ConfigFile;
use super::failure::Failure;
use crate::admin::{Client, Trust};
use crate::config::Secret;

/// Where the relay listens.
#[derive(Debug, clap::Args)]
pub struct Address {
    #[command(flatten)]
    config: ConfigFile,
    /// The relay's address, instead of the one in the configuration
    #[arg(long, global = true, value_name = "URL", value_parser = url)]
    url: Option<Url>,
    /// Trust the certificate authorities in this file instead of the platform's, for a relay with TLS
    ///
    /// Not needed if the relay uses the certificate that `admin.tls.cert_file` in this configuration names.
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A token that `--token-file` names.
#[derive(Debug)]
pub struct GivenToken {
    pub token: Secret,
    pub file: PathBuf,
}

impl Address {
    /// Returns the address in a configuration.
    pub fn of(config: ConfigFile) -> Self {
        Self {
            config,
            url: None,
            ca_file: None,
        }
    }

    pub fn config(&self) -> &ConfigFile {
        &self.config
    }

    pub fn find(&self) -> Result<Client, Failure> {
        self.at(None, None)
    }

    /// Returns the relay at another address, or with the token of `--token-file`.
    pub fn at(&self, url: Option<&Url>, token: Option<GivenToken>) -> Result<Client, Failure> {
        let mut config = self.config.load()?.admin;
        let given = url.or(self.url.as_ref());
        config.from_up &= given.is_none();
        let url = match given {
            Some(url) => url.clone(),
            None => base_url(config.listen, config.tls.is_some())?,
        };
        let own = config.tls.as_ref().and_then(|tls| tls.certificates.first());
        let trust = Trust {
            own: own.cloned(),
            ca_file: self.ca_file.clone(),
        };
        let client = Client::new(url, &config, trust)?;
        Ok(match token {
            Some(GivenToken { token, file }) => client.with_token(token, file),
            None => client,
        })
    }
}

/// Parses the address of a relay.
pub fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| {
        let example = match text.contains("://") || text.is_empty() {
            true => "http://127.0.0.1:8787".to_owned(),
            false => format!("http://{text}"),
        };
        format!("it must be a URL, such as {example}")
    })
}

/// A relay that listens on all addresses is reached over the loopback address.
pub fn base_url(listen: SocketAddr, tls: bool) -> anyhow::Result<Url> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if tls { "https" } else { "http" };
    let url = format!("{scheme}://{}/", SocketAddr::new(ip, listen.port()));
    Url::parse(&url).with_context(|| format!("{url} is not a URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme() {
        assert_eq!(url("http://10.0.0.7:8787").unwrap().as_str(), "http://10.0.0.7:8787/");
        for (text, example) in [
            ("127.0.0.1:8787", "http://127.0.0.1:8787"),
            ("localhost:8787", "http://localhost:8787"),
            ("relay", "http://relay"),
            ("nats://127.0.0.1:4222", "http://127.0.0.1:8787"),
            ("", "http://127.0.0.1:8787"),
        ] {
            assert_eq!(url(text).unwrap_err(), format!("it must be a URL, such as {example}"));
        }
    }

    #[test]
    fn what_listens_everywhere_is_reached_over_the_loopback() {
        let url = |listen: &str| base_url(listen.parse().unwrap(), false).unwrap().to_string();
        assert_eq!(url("0.0.0.0:1234"), "http://127.0.0.1:1234/");
        assert_eq!(url("[::]:1234"), "http://[::1]:1234/");
        assert_eq!(url("10.0.0.7:1234"), "http://10.0.0.7:1234/");
        let secure = base_url("0.0.0.0:1234".parse().unwrap(), true).unwrap();
        assert_eq!(secure.as_str(), "https://127.0.0.1:1234/");
    }
}
