//! A link with a delay: what goes in at one end comes out at the other half a round trip later, in both directions. Any
//! amount of data may be on the way, so the link limits the time and not the throughput.
//!
//! It has threads of its own, so that neither the benchmark nor the number of connections changes the delay. It does
//! not delay the opening of a connection, which the measured ways do once.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The most bytes read at once.
const PIECE: usize = 128 << 10;

/// The most pieces on the way in one direction of a connection. More never fit into any of the delays used here.
const UNDER_WAY: usize = 4_096;

#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    one_way: Duration,
    closed: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// `server` is an address and a port, with or without a scheme.
    pub fn to(server: &str, round_trip: Duration) -> Result<Self> {
        let host = server.split_once("://").map_or(server, |(_, host)| host);
        let server = host
            .parse()
            .with_context(|| format!("{server} is not an address and a port"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("opening a port for a delayed link")?;
        let address = listener.local_addr().context("the link's own address")?;
        let shared = Arc::new(Shared {
            server,
            one_way: round_trip / 2,
            closed: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.closed.load(Ordering::Acquire) {
                    return;
                }
                // If the server cannot be reached, the client's connection is closed.
                let _ = accepting.carry(client);
            }
        });
        Ok(Self { address, shared })
    }

    /// Returns no link if there is no delay to add.
    pub fn unless_zero(server: &str, round_trip: Duration) -> Result<Option<Self>> {
        (!round_trip.is_zero())
            .then(|| Self::to(server, round_trip))
            .transpose()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        for stream in self.shared.streams().drain(..) {
            // Fails for a connection that has ended.
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn carry(&self, client: TcpStream) -> std::io::Result<()> {
        let server = TcpStream::connect(self.server)?;
        for (from, to) in [(&client, &server), (&server, &client)] {
            from.set_nodelay(true)?;
            let (sender, receiver) = sync_channel(UNDER_WAY);
            let (from, to) = (from.try_clone()?, to.try_clone()?);
            let one_way = self.one_way;
            thread::spawn(move || receive(from, &sender, one_way));
            thread::spawn(move || deliver(to, &receiver));
        }
        self.streams().extend([client, server]);
        Ok(())
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends with the connection, however that ends.
fn receive(mut from: TcpStream, to: &SyncSender<(Instant, Vec<u8>)>, one_way: Duration) {
    let mut buffer = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.send((Instant::now() + one_way, buffer[..length].to_vec())).is_err() {
            return;
        }
    }
}

fn deliver(mut to: TcpStream, from: &Receiver<(Instant, Vec<u8>)>) {
    for (due, piece) in from {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a server that sends back what it gets, on one connection.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut writer = stream.try_clone().unwrap();
            std::io::copy(&mut stream, &mut writer).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        address
    }

    #[test]
    fn a_round_trip_takes_as_long_as_it_should() {
        let link = Link::to(&format!("nats://{}", echo()), Duration::from_millis(5)).unwrap();
        let mut client = TcpStream::connect(link.address()).unwrap();
        client.set_nodelay(true).unwrap();
        let mut times: Vec<Duration> = (0..50)
            .map(|_| {
                let start = Instant::now();
                client.write_all(b"ping").unwrap();
                client.read_exact(&mut [0; 4]).unwrap();
                start.elapsed()
            })
            .collect();
        times.sort();
        assert!(times[0] >= Duration::from_millis(5), "{:?}", times[0]);
        // On an idle machine, it is a tenth of a millisecond more.
        assert!(times[0] < Duration::from_millis(8), "{:?}", times[0]);
    }

    #[test]
    fn much_may_be_under_way() {
        const SENT: usize = 64 << 20;
        let round_trip = Duration::from_millis(100);
        let link = Link::to(&echo().to_string(), round_trip).unwrap();
        let mut client = TcpStream::connect(link.address()).unwrap();
        let mut writer = client.try_clone().unwrap();
        let start = Instant::now();
        let writing = thread::spawn(move || {
            writer.write_all(&vec![7; SENT]).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::with_capacity(SENT);
        client.read_to_end(&mut received).unwrap();
        writing.join().unwrap();
        assert!(received.len() == SENT && received.iter().all(|&byte| byte == 7));
        // One piece after the other would take 25 s in each direction.
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }

    #[test]
    fn its_end_is_the_end_of_its_connections() {
        let link = Link::to(&echo().to_string(), Duration::from_millis(1)).unwrap();
        let mut client = TcpStream::connect(link.address()).unwrap();
        client.write_all(b"a").unwrap();
        client.read_exact(&mut [0]).unwrap();
        drop(link);
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }
}
