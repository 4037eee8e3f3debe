//! The address of the relay that a command queries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use url::Url;

use super::config_file::ConfigFile;
use super::failure::Failure;
use crate::admin::{Client, Trust};

/// Where the relay listens.
#[derive(Debug, clap::Args)]
pub struct Address {
    #[command(flatten)]
    config: ConfigFile,
    /// The relay's address, instead of the one in the configuration
    #[arg(long, global = true)]
    url: Option<Url>,
    /// Trust the certificate authorities in this file instead of the platform's, for a relay with TLS
    ///
    /// Not needed if the relay uses the certificate that `admin.tls.cert_file` in this configuration names.
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Address {
    pub fn find(&self) -> Result<Client, Failure> {
        let config = self.config.load()?.admin;
        let url = match &self.url {
            Some(url) => url.clone(),
            None => base_url(config.listen, config.tls.is_some())?,
        };
        let own = config.tls.as_ref().and_then(|tls| tls.certificates.first());
        let trust = Trust {
            own: own.cloned(),
            ca_file: self.ca_file.clone(),
        };
        Ok(Client::new(url, &config, trust)?)
    }
}

/// A relay that listens on all addresses is reached over the loopback address.
fn base_url(listen: SocketAddr, tls: bool) -> anyhow::Result<Url> {
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
    fn what_listens_everywhere_is_reached_over_the_loopback() {
        let url = |listen: &str| base_url(listen.parse().unwrap(), false).unwrap().to_string();
        assert_eq!(url("0.0.0.0:1234"), "http://127.0.0.1:1234/");
        assert_eq!(url("[::]:1234"), "http://[::1]:1234/");
        assert_eq!(url("10.0.0.7:1234"), "http://10.0.0.7:1234/");
        let secure = base_url("0.0.0.0:1234".parse().unwrap(), true).unwrap();
        assert_eq!(secure.as_str(), "https://127.0.0.1:1234/");
    }
}
