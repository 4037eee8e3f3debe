use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::eventually;

const SOON: Duration = Duration::from_secs(10);
/// How long to watch that nothing comes.
const NOTHING: Duration = Duration::from_millis(50);

/// A server that sends back what it gets, after `greeting`, and ends with its owner.
struct Echo {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Echo {
    async fn start(address: SocketAddr, greeting: &'static str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    stream.write_all(greeting.as_bytes()).await?;
                    let (mut reads, mut writes) = stream.split();
                    tokio::io::copy(&mut reads, &mut writes).await
                });
            }
        });
        Self { address, task }
    }

    async fn anywhere() -> Self {
        Self::start((Ipv4Addr::LOCALHOST, 0).into(), "").await
    }

    async fn end(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

struct Client(TcpStream);

impl Client {
    async fn connect(proxy: &Proxy) -> Self {
        Self(TcpStream::connect(proxy.address()).await.unwrap())
    }

    async fn says(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    async fn hears(&mut self, text: &str) {
        let mut heard = vec![0; text.len()];
        timeout(SOON, self.0.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8(heard).unwrap(), text);
    }

    async fn hears_nothing(&mut self) {
        let mut heard = [0; 100];
        assert!(timeout(NOTHING, self.0.read(&mut heard)).await.is_err(), "{heard:?}");
    }

    /// Reads until the connection ends, gracefully or not.
    async fn hears_the_end(&mut self) -> String {
        let mut heard = Vec::new();
        let mut byte = [0];
        while let Ok(1) = timeout(SOON, self.0.read(&mut byte)).await.unwrap() {
            heard.push(byte[0]);
        }
        String::from_utf8(heard).unwrap()
    }
}

async fn world() -> (Echo, Proxy, Client) {
    let echo = Echo::anywhere().await;
    let proxy = Proxy::recording(&format!("http://{}", echo.address)).await.unwrap();
    let mut client = Client::connect(&proxy).await;
    client.says("before ").await;
    client.hears("before ").await;
    (echo, proxy, client)
}

#[tokio::test]
async fn passes_on_both_ways_and_keeps_what_it_passed_on() {
    let (_echo, proxy, mut client) = world().await;
    proxy.label(7);
    let mut second = Client::connect(&proxy).await;
    second.says("two").await;
    second.hears("two").await;
    assert_eq!(proxy.connections(), 2);
    assert_eq!(proxy.take_tapes(), []);

    client.0.shutdown().await.unwrap();
    assert_eq!(client.hears_the_end().await, "");
    let tapes = eventually(SOON, "the first tape", async || {
        let tapes = proxy.take_tapes();
        if tapes.is_empty() { Err("none") } else { Ok(tapes) }
    });
    let expected = Tape {
        label: 0,
        requests: b"before ".to_vec(),
        answers: b"before ".to_vec(),
    };
    assert_eq!(tapes.await.unwrap(), [expected]);
    drop(second);
    let label = eventually(SOON, "the second tape", async || {
        proxy.take_tapes().first().map(|tape| tape.label).ok_or("none")
    });
    assert_eq!(label.await.unwrap(), 7);
}

#[tokio::test]
async fn cuts_all_connections_and_takes_new_ones() {
    let (_echo, proxy, mut client) = world().await;
    assert_eq!(proxy.cut(), 1);
    client.hears_the_end().await;
    let mut next = Client::connect(&proxy).await;
    next.says("again").await;
    next.hears("again").await;
}

#[tokio::test]
async fn cuts_in_the_middle_of_an_answer() {
    let (_echo, proxy, mut client) = world().await;
    proxy.cut_answer_after(5);
    client.says("abc").await;
    client.hears("abc").await;
    assert!(proxy.will_cut());
    client.says("defgh").await;
    assert_eq!(client.hears_the_end().await, "de");
    assert!(!proxy.will_cut());
    let tape = eventually(SOON, "the tape", async || proxy.take_tapes().pop().ok_or("none"));
    assert_eq!(
        tape.await.unwrap().answers,
        b"before abcdefgh",
        "the whole answer is kept"
    );
}

#[tokio::test]
async fn what_is_swallowed_was_heard_and_never_comes_back() {
    let (_echo, proxy, mut client) = world().await;
    proxy.change(|faults| faults.swallow = true);
    client.says("swallowed").await;
    client.hears_nothing().await;
    proxy.heal();
    client.says("too late").await;
    client.hears_nothing().await;
    let mut next = Client::connect(&proxy).await;
    next.says("again").await;
    next.hears("again").await;
    drop(client);
    let tape = eventually(SOON, "the tape", async || proxy.take_tapes().pop().ok_or("none"));
    assert_eq!(tape.await.unwrap().answers, b"before swallowedtoo late");
}

#[tokio::test]
async fn what_is_stalled_comes_later() {
    let (_echo, proxy, mut client) = world().await;
    proxy.change(|faults| faults.stall = true);
    client.says("held").await;
    client.hears_nothing().await;
    proxy.heal();
    client.hears("held").await;
}

#[tokio::test]
async fn delays_without_changing_the_order() {
    let (_echo, proxy, mut client) = world().await;
    proxy.change(|faults| faults.latency = Duration::from_millis(20));
    let start = Instant::now();
    for _ in 0..20 {
        client.says("slow").await;
        client.hears("slow").await;
    }
    // 40 pieces of 10 ms on average. A tenth of that would be unlikely.
    assert!(start.elapsed() > Duration::from_millis(40), "{:?}", start.elapsed());
}

#[tokio::test]
async fn refuses_new_connections_and_keeps_the_old_ones() {
    let (_echo, proxy, mut client) = world().await;
    proxy.change(|faults| faults.refuse = true);
    // A client that connects while the port closes may be accepted or reset.
    let refused = async || match TcpStream::connect(proxy.address()).await {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually(SOON, "a refusal", refused).await.unwrap();
    client.says("still here").await;
    client.hears("still here").await;
    proxy.heal();
    let accepted = async || TcpStream::connect(proxy.address()).await.map(drop);
    eventually(SOON, "the port to open", accepted).await.unwrap();
}

#[tokio::test]
async fn the_server_may_end_and_come_back() {
    let (echo, proxy, mut client) = world().await;
    let address = echo.end().await;
    client.hears_the_end().await;
    assert_eq!(Client::connect(&proxy).await.hears_the_end().await, "");
    let _echo = Echo::start(address, "back").await;
    Client::connect(&proxy).await.hears("back").await;
}

#[tokio::test]
async fn answers_with_a_status_in_place_of_the_server() {
    let (_echo, proxy, mut old) = world().await;
    proxy.change(|faults| faults.status = Some(404));
    let mut client = Client::connect(&proxy).await;
    client.says("POST / HTTP/1.1\r\n\r\n").await;
    client.hears("HTTP/1.1 404 ").await;
    old.says("the server").await;
    old.hears("the server").await;
    proxy.heal();
    let mut client = Client::connect(&proxy).await;
    client.says("hello").await;
    client.hears("hello").await;
}

#[tokio::test]
async fn cuts_the_connection_that_carries_poison() {
    let (_echo, proxy, mut client) = world().await;
    proxy.change(|faults| faults.poison = Some("poison"));
    client.says("something else").await;
    client.hears("something else").await;
    client.says("with poison in it").await;
    assert_eq!(client.hears_the_end().await, "");
}
