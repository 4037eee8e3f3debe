//! A server for the page of one command: it listens on this machine only, and whoever asks for anything but the files of
//! the page needs the token in its address.

mod check;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use axum::extract::DefaultBodyLimit;
use axum::{Router, middleware};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connection::Service;
use super::routes::page_of_dev;
use super::server::{accept_all, finish};
use super::tokens::Tokens;
use crate::config::Secret;
use crate::status::Metrics;

/// The page of a command. It listens at once, but answers only when told to serve.
#[derive(Debug)]
pub struct Local {
    listener: TcpListener,
    address: SocketAddr,
    token: Secret,
}

impl Local {
    /// Listens on this port of the loopback address. With port 0 it takes a free one.
    pub async fn bind(port: u16) -> anyhow::Result<Self> {
        let doing =
            || format!("cannot listen on 127.0.0.1:{port} for the page; use another port, or none for a free one");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.with_context(doing)?;
        let address = listener.local_addr().with_context(doing)?;
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).context("cannot get random numbers for a token")?;
        Ok(Self {
            listener,
            address,
            token: Secret::new(URL_SAFE_NO_PAD.encode(bytes)),
        })
    }

    /// Returns the address to open. The token is in the fragment, which browsers send to nobody.
    pub fn page(&self) -> String {
        format!("http://{}/#/?token={}", self.address, self.token.expose())
    }

    /// Serves the page, and `api` for those who have the token, until it is cancelled.
    pub async fn serve(self, api: Router, cancel: CancellationToken) {
        let tokens = Arc::new(Tokens::one(&self.token));
        let api = api
            .layer(DefaultBodyLimit::disable())
            .layer(middleware::from_fn_with_state(tokens, check::token));
        let router = page_of_dev().merge(api).layer(middleware::from_fn(check::place));
        let service = Service {
            router,
            tls: None,
            metrics: Metrics::new(),
            cancel,
        };
        let connections = accept_all(&self.listener, &service).await;
        drop(self.listener);
        finish(connections).await;
    }
}
