//! A NATS client that sends arbitrary bytes: subjects, header blocks and payloads that no library would accept, but
//! that nats-server stores.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

#[derive(Debug)]
pub struct RawClient {
    stream: BufReader<TcpStream>,
    out: Vec<u8>,
}

impl RawClient {
    /// `url` is `nats://HOST:PORT`.
    pub async fn connect(url: &str) -> Result<Self> {
        let address = url.trim_start_matches("nats://");
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("connecting to {address}"))?;
        let mut client = Self {
            stream: BufReader::new(stream),
            out: b"CONNECT {\"headers\":true,\"verbose\":false,\"pedantic\":false}\r\n".to_vec(),
        };
        client.flush().await?;
        Ok(client)
    }

    /// Publishes a message with these bytes as its header block, or without headers if they are empty. It is sent with
    /// the next flush.
    pub fn publish(&mut self, subject: &[u8], headers: &[u8], payload: &[u8]) {
        self.out
            .extend_from_slice(if headers.is_empty() { b"PUB " } else { b"HPUB " });
        self.out.extend_from_slice(subject);
        if !headers.is_empty() {
            self.out.extend_from_slice(format!(" {}", headers.len()).as_bytes());
        }
        self.out
            .extend_from_slice(format!(" {}\r\n", headers.len() + payload.len()).as_bytes());
        self.out.extend_from_slice(headers);
        self.out.extend_from_slice(payload);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Returns once the server has received everything. JetStream may still be storing it.
    pub async fn flush(&mut self) -> Result<()> {
        let mut out = std::mem::take(&mut self.out);
        out.extend_from_slice(b"PING\r\n");
        self.stream.get_mut().write_all(&out).await?;
        loop {
            let mut line = String::new();
            ensure!(
                self.stream.read_line(&mut line).await? > 0,
                "the server closed the connection"
            );
            match line.split_whitespace().next() {
                Some("PONG") => return Ok(()),
                Some("PING") => self.stream.get_mut().write_all(b"PONG\r\n").await?,
                Some("INFO") => {}
                _ => bail!("the server said {line}"),
            }
        }
    }
}
