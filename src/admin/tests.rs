//! The admin server over TCP, request by request.

mod access;
mod hosts;
mod limits;
mod live;
mod local;
mod routes;
mod tap;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Admin, Arrivals, DeadLetters, Served};
use crate::config::{self, Secret};
use crate::modules::{Controls, Uploads};
use crate::status::{History, Metrics, StatusBoard};
use crate::tap::Taps;

const SOON: Duration = Duration::from_secs(30);

const FULL: &str = "the-token-for-all";
const READ: &str = "the-token-to-read";

struct Test {
    address: SocketAddr,
    board: StatusBoard,
    metrics: Metrics,
    controls: Controls,
    taps: Taps,
    history: History,
    cancel: CancellationToken,
    server: JoinHandle<()>,
    config: config::Admin,
    _place: TempDir,
}

struct Reply {
    code: u16,
    head: String,
    body: String,
}

/// Starts a server with the default configuration, after `change`.
async fn start(change: impl FnOnce(&mut config::Admin)) -> Test {
    let place = tempfile::tempdir().unwrap();
    let mut config = config::Admin {
        listen: "127.0.0.1:0".parse().unwrap(),
        hosts: Vec::new(),
        token: None,
        read_token: None,
        tls: None,
        centrifugo_websocket: None,
        uploads: false,
        token_dirs: vec![place.path().join("slipring")],
        from_up: false,
    };
    change(&mut config);
    let admin = Admin::bind(&config).await.unwrap();
    let metrics = Metrics::new();
    let board = StatusBoard::new(metrics.clone());
    board.modules_known();
    let cancel = CancellationToken::new();
    let address = admin.address();
    let (controls, taps) = (Controls::default(), Taps::default());
    let history = History::default();
    let served = Served {
        board: board.clone(),
        metrics: metrics.clone(),
        controls: controls.clone(),
        taps: taps.clone(),
        history: history.clone(),
        dead_letters: DeadLetters::without_servers(),
        arrivals: Arrivals::new(config.centrifugo_websocket.clone()),
        uploads: Uploads::default(),
    };
    let server = tokio::spawn(admin.serve(served, cancel.clone()));
    Test {
        address,
        board,
        metrics,
        controls,
        taps,
        history,
        cancel,
        server,
        config,
        _place: place,
    }
}

/// Starts a server with both tokens.
async fn start_guarded() -> Test {
    start(|config| {
        config.token = Some(Secret::new(FULL));
        config.read_token = Some(Secret::new(READ));
    })
    .await
}

impl Test {
    async fn get(&self, path: &str, headers: &str) -> Reply {
        self.ask("GET", path, headers).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &str) -> Reply {
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
        ))
        .await
    }

    async fn send(&self, request: &str) -> Reply {
        exchange(self.connect().await, request).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Returns the token that the relay has created.
    fn created_token(&self) -> String {
        std::fs::read_to_string(self.token_file()).unwrap().trim().to_owned()
    }

    fn token_file(&self) -> PathBuf {
        let name = format!("127.0.0.1-{}.token", self.address.port());
        self.config.token_dirs[0].join(name)
    }

    /// Ends the server.
    async fn stop(&mut self) {
        self.cancel.cancel();
        timeout(SOON, &mut self.server).await.expect("an end").unwrap();
    }
}

/// Sends a request and reads until the server closes the connection. Of events, which have no end, it reads the head.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Reply {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = async {
        let endless = |answer: &[u8]| {
            let head = String::from_utf8_lossy(answer);
            head.contains("content-type: text/event-stream\r\n") && head.contains("\r\n\r\n")
        };
        while stream.read_buf(&mut answer).await.unwrap() > 0 && !endless(&answer) {}
    };
    timeout(SOON, reading).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    Reply {
        code: head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status code"),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}
