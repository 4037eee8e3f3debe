use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::nats::denials::Action;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Long enough for something that must not happen to happen.
const MOMENT: Duration = Duration::from_millis(100);

const ACK: &[u8] = b"PUB $JS.ACK.S.c.1.1.1.1.0 4\r\n+ACK\r\n";

/// A connection with its other end, which a test plays.
struct Pair {
    outgoing: Outgoing,
    ahead: Arc<Ahead>,
    arrived: UnboundedReceiver<Vec<Frame>>,
    denials: Arc<Denials>,
    server: BufReader<TcpStream>,
}

/// `limit` is how many bytes may wait to be taken.
async fn pair(limit: usize) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = tokio::join!(connecting, listener.accept());
    let (ahead, denials) = (Arc::new(Ahead::new(limit)), Arc::default());
    let (sender, arrived) = mpsc::unbounded_channel();
    let line = Line::new(
        Socket::Plain(client.unwrap()),
        BytesMut::new(),
        Arc::clone(&ahead),
        Arc::clone(&denials),
    );
    Pair {
        outgoing: Outgoing::start(|orders| line.run(orders, sender)),
        ahead,
        arrived,
        denials,
        server: BufReader::new(server.unwrap().0),
    }
}

impl Outgoing {
    /// A connection to a server that reads nothing, which lives as long as what is returned with it.
    pub(crate) async fn to_nowhere() -> (Self, impl Sized) {
        let Pair { outgoing, server, .. } = pair(1_000).await;
        (outgoing, server)
    }
}

impl Pair {
    /// Returns the next line that the connection sent.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.server.read_line(&mut line)).await;
        read.expect("the connection sends").unwrap();
        line
    }

    async fn says(&mut self, bytes: &[u8]) {
        self.server.write_all(bytes).await.unwrap();
    }
}

#[tokio::test]
async fn a_flush_ends_once_the_server_has_everything() {
    let mut pair = pair(1_000).await;
    pair.outgoing.send(Bytes::from_static(ACK));
    assert!(
        timeout(MOMENT, pair.outgoing.flush()).await.is_err(),
        "it was not answered"
    );
    for expected in ["PUB $JS.ACK.S.c.1.1.1.1.0 4\r\n", "+ACK\r\n", "PING\r\n"] {
        assert_eq!(pair.line().await, expected);
    }
    // This answers the ping of the first flush, and the second one has its own.
    pair.says(b"PONG\r\n").await;
    assert!(
        timeout(MOMENT, pair.outgoing.flush()).await.is_err(),
        "it took another's answer"
    );
    assert_eq!(pair.line().await, "PING\r\n");
    pair.says(b"PONG\r\nPONG\r\n").await;
    assert_eq!(timeout(PATIENCE, pair.outgoing.flush()).await, Ok(Ok(())));
}

#[tokio::test]
async fn a_flush_ends_with_the_connection() {
    let mut pair = pair(1_000).await;
    assert!(timeout(MOMENT, pair.outgoing.flush()).await.is_err());
    drop(pair.server);
    let flushed = timeout(PATIENCE, pair.outgoing.flush()).await.unwrap();
    assert!(matches!(flushed, Err(Ended::Closed | Ended::Io(_))), "{flushed:?}");
}

#[tokio::test]
async fn what_nobody_takes_holds_up_no_acks_and_after_the_subscription_no_flush() {
    let mut pair = pair(10).await;
    pair.says(b"MSG a 1 b 20\r\naaaaaaaaaaaaaaaaaaaa\r\n").await;
    assert_eq!(timeout(PATIENCE, pair.arrived.recv()).await.unwrap().unwrap().len(), 1);
    assert!(pair.ahead.is_full());
    pair.outgoing.send(Bytes::from_static(ACK));
    assert_eq!(pair.line().await, "PUB $JS.ACK.S.c.1.1.1.1.0 4\r\n");
    assert_eq!(pair.line().await, "+ACK\r\n");
    pair.says(b"MSG a 1 b 20\r\naaaaaaaaaaaaaaaaaaaa\r\nPONG\r\n").await;
    assert!(timeout(MOMENT, pair.outgoing.flush()).await.is_err(), "nothing is read");
    assert_eq!(pair.line().await, "PING\r\n");
    pair.ahead.end();
    assert!(
        timeout(MOMENT, pair.outgoing.flush()).await.is_err(),
        "it took another's answer"
    );
    assert_eq!(pair.line().await, "PING\r\n");
    pair.says(b"PONG\r\nPONG\r\n").await;
    assert_eq!(timeout(PATIENCE, pair.outgoing.flush()).await, Ok(Ok(())));
}

#[tokio::test]
async fn an_ack_that_is_not_allowed_ends_nothing() {
    let mut pair = pair(1_000).await;
    pair.says(b"-ERR 'Permissions Violation for Publish to \"$JS.ACK.S.c.1.1.1.1.0\"'\r\nMSG a 1 b 1\r\na\r\n")
        .await;
    assert_eq!(timeout(PATIENCE, pair.arrived.recv()).await.unwrap().unwrap().len(), 1);
    let denied = pair.denials.current(std::time::Instant::now());
    assert_eq!(denied.len(), 1);
    assert_eq!(
        (denied[0].action, &*denied[0].subject),
        (Action::Publish, "$JS.ACK.S.c.>")
    );
    pair.says(b"-ERR 'Permissions Violation for Publish to \"$JS.API.CONSUMER.MSG.NEXT.S.c\"'\r\n")
        .await;
    let ended = timeout(PATIENCE, pair.outgoing.ended()).await.unwrap();
    assert!(matches!(ended, Ended::Said(_)), "{ended:?}");
}
