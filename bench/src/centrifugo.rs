//! Centrifugo as every way gets it: a fresh one, its memory engine, its HTTP and its GRPC API, and histories that keep everything,
//! so that versions work and what arrived can be read afterwards.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use slipring_support::servers::Centrifugo;

use crate::delay::Link;

/// The API that publications come through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Http,
    Grpc,
}

#[derive(Debug)]
pub struct Target {
    pub centrifugo: Centrifugo,
    grpc_port: u16,
}

impl Target {
    /// Starts it with `history` publications a channel; `edit` changes its configuration.
    pub async fn start(history: usize, edit: impl FnOnce(&mut Value)) -> Result<Self> {
        let grpc_port = free_port()?;
        let configure = |config: &mut Value| {
            let key = config["http_api"]["key"].clone();
            config["grpc_api"] = json!({ "enabled": true, "address": "127.0.0.1", "port": grpc_port, "key": key });
            let namespace = json!({ "name": "bench", "history_size": history, "history_ttl": "1h" });
            config["channel"] = json!({ "namespaces": [namespace] });
            edit(config);
        };
        let centrifugo = Centrifugo::start_with(configure).await?;
        Ok(Self { centrifugo, grpc_port })
    }

    /// Where an API is, as the relay's `endpoints` name it; behind `link`, if there is one.
    pub fn endpoint(&self, api: Api, link: Option<&Link>) -> String {
        match (api, link) {
            (Api::Http, None) => self.centrifugo.url(),
            (Api::Http, Some(link)) => format!("http://{}", link.address()),
            (Api::Grpc, None) => format!("grpc://127.0.0.1:{}", self.grpc_port),
            (Api::Grpc, Some(link)) => format!("grpc://{}", link.address()),
        }
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
    Ok(listener.local_addr().context("looking for a free port")?.port())
}
