//! A TCP proxy on 127.0.0.1 between the relay and one of its servers. It passes everything on until it is told to
//! misbehave. The server may end and come back. Each client connection is one connection to the server.
//!
//! It does not interpret what it carries. A [recording](Proxy::recording) proxy keeps what went through, for
//! a test to read.

mod connection;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::sleep;

use crate::servers::{PORTS_TRIED, candidate_port};

#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// The proxy's faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Each piece of data is delayed by up to this much, in either direction. The pieces behind it wait as well.
    pub latency: Duration,
    /// Nothing goes through, in either direction. What was held back continues afterwards.
    pub stall: bool,
    /// The server receives everything, but nothing comes back. After an answer was swallowed, the connection stays deaf
    /// for good, because later data would not make sense.
    pub swallow: bool,
    /// The port is closed to new connections.
    pub refuse: bool,
    /// New connections are answered with this HTTP status, whatever they ask for, and none reaches the server. A
    /// misconfigured proxy does this.
    pub status: Option<u16>,
    /// A connection with this text in a request is cut before the server has all of it.
    pub poison: Option<&'static str>,
}

/// What went through one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tape {
    /// The [label](Proxy::label) at the time when the server was reached.
    pub label: u64,
    pub requests: Vec<u8>,
    /// What the server sent, including what never reached the client.
    pub answers: Vec<u8>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    faults: watch::Sender<Faults>,
    /// How many more bytes of answers pass until a connection is cut.
    cut_answer: Mutex<Option<usize>>,
    connections: Mutex<BTreeMap<u64, AbortHandle>>,
    tapes: Option<Mutex<Vec<Arc<Mutex<Tape>>>>>,
    label: AtomicU64,
}

impl Proxy {
    /// `upstream` is the server: `http://127.0.0.1:8000`, `nats://127.0.0.1:4222`, or without a scheme.
    pub async fn start(upstream: &str) -> Result<Self> {
        Self::start_with(upstream, None).await
    }

    /// Starts a proxy that keeps what goes through.
    pub async fn recording(upstream: &str) -> Result<Self> {
        Self::start_with(upstream, Some(Mutex::default())).await
    }

    async fn start_with(upstream: &str, tapes: Option<Mutex<Vec<Arc<Mutex<Tape>>>>>) -> Result<Self> {
        let host = upstream.split_once("://").map_or(upstream, |(_, host)| host);
        let shared = Arc::new(Shared {
            upstream: host
                .parse()
                .with_context(|| format!("{upstream} is not an address and a port"))?,
            faults: watch::Sender::default(),
            cut_answer: Mutex::default(),
            connections: Mutex::default(),
            tapes,
            label: AtomicU64::new(0),
        });
        let listener = listen().await?;
        let address = listener.local_addr().context("the proxy's own address")?;
        let accepting = tokio::spawn(accept(Arc::clone(&shared), listener, address));
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the faults from now on, on all connections.
    pub fn change(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.faults.send_modify(change);
    }

    /// Passes everything on again.
    pub fn heal(&self) {
        self.shared.faults.send_replace(Faults::default());
        *lock(&self.shared.cut_answer) = None;
    }

    /// Cuts all connections now, and returns how many there were.
    pub fn cut(&self) -> usize {
        let connections = lock(&self.shared.connections);
        connections.values().for_each(AbortHandle::abort);
        connections.len()
    }

    /// Cuts a connection in the middle of an answer, after this many more bytes of answers. The server has then done
    /// what it was asked, and the client does not learn it.
    pub fn cut_answer_after(&self, bytes: usize) {
        *lock(&self.shared.cut_answer) = Some(bytes);
    }

    /// Returns true if a cut is still to come.
    pub fn will_cut(&self) -> bool {
        lock(&self.shared.cut_answer).is_some()
    }

    pub fn connections(&self) -> usize {
        lock(&self.shared.connections).len()
    }

    /// Marks the tapes of the connections that reach the server from now on.
    pub fn label(&self, label: u64) {
        self.shared.label.store(label, Ordering::Relaxed);
    }

    /// Returns the tapes of the connections that have ended. Each tape is returned once.
    pub fn take_tapes(&self) -> Vec<Tape> {
        let Some(tapes) = &self.shared.tapes else {
            return Vec::new();
        };
        let mut tapes = lock(tapes);
        // A connection holds its tape as long as it lives.
        let ended: Vec<_> = tapes.extract_if(.., |tape| Arc::strong_count(tape) == 1).collect();
        ended
            .into_iter()
            .map(|tape| std::mem::take(&mut *lock(&tape)))
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, address: SocketAddr) {
    let mut faults = shared.faults.subscribe();
    let mut listener = Some(listener);
    for number in 0.. {
        let client = loop {
            if faults.borrow_and_update().refuse {
                listener = None;
            } else if listener.is_none() {
                // The kernel never gives this port to outgoing connections, so only a connection that is ending
                // can still use it.
                listener = TcpListener::bind(address).await.ok();
            }
            let accepted = async {
                match &listener {
                    Some(listener) => listener.accept().await.ok(),
                    None => {
                        sleep(Duration::from_millis(5)).await;
                        None
                    }
                }
            };
            tokio::select! {
                accepted = accepted => if let Some((client, _)) = accepted { break client },
                // Never fails: the sender is in `shared`, which is here.
                _ = faults.changed() => {}
            }
        };
        serve(&shared, number, client);
    }
}

/// Gives the connection a task of its own, and removes it when the task ends.
fn serve(shared: &Arc<Shared>, number: u64, client: TcpStream) {
    struct Served(Arc<Shared>, u64);
    impl Drop for Served {
        fn drop(&mut self) {
            lock(&self.0.connections).remove(&self.1);
        }
    }
    // Locked while the task starts, because it may end at once.
    let mut connections = lock(&shared.connections);
    let served = Served(Arc::clone(shared), number);
    let task = tokio::spawn(async move {
        // How a connection ends depends on both ends and the faults. Nobody needs to know.
        let _ = connection::carry(&served.0, client).await;
    });
    connections.insert(number, task.abort_handle());
}

async fn listen() -> Result<TcpListener> {
    for _ in 1..PORTS_TRIED {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, candidate_port())).await {
            return Ok(listener);
        }
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, candidate_port()))
        .await
        .context("opening a port for the proxy")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
