//! Reads a stream of events from a relay.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::sse::{Event, Parser};
use super::{Client, TIMEOUT, refusal};
use crate::cause;

/// A relay that has nothing to say sends a comment every 15 seconds.
const SILENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Events {
    url: Url,
    response: Response,
    parser: Parser,
    ready: VecDeque<Event>,
    /// When something came last.
    heard: Instant,
}

impl Client {
    /// Opens the stream of events at this path, which may have a query.
    pub async fn events(&self, path: &str) -> anyhow::Result<Events> {
        let url = self.path(path)?;
        let request = self.client.get(url.clone());
        self.stream(url, request, TIMEOUT).await
    }

    /// Opens the stream of events that answers this request within `patience`.
    pub(super) async fn stream(&self, url: Url, request: RequestBuilder, patience: Duration) -> anyhow::Result<Events> {
        let opened = timeout(patience, self.open(&url, request)).await;
        let response = opened.map_err(|_| {
            let seconds = patience.as_secs();
            anyhow!("the relay at {url} has not answered within {seconds} s")
        })??;
        Ok(Events {
            url,
            response,
            parser: Parser::default(),
            ready: VecDeque::new(),
            heard: Instant::now(),
        })
    }

    async fn open(&self, url: &Url, request: RequestBuilder) -> anyhow::Result<Response> {
        const KIND: &str = "text/event-stream";
        let response = self.send(url, request.header(header::ACCEPT, KIND)).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(refusal(url, status, &super::text(url, response).await?));
        }
        let kind = response.headers().get(header::CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(KIND.as_bytes())) {
            bail!("the reply from {url} is no stream of events, so it is probably not a relay of this version")
        }
        Ok(response)
    }
}

impl Events {
    /// Returns the next event, or `None` when the relay has ended the stream. A call that is dropped loses nothing.
    pub async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let read = timeout_at(self.heard + SILENCE, self.response.chunk()).await;
            let url = &self.url;
            let read = read.map_err(|_| {
                let seconds = SILENCE.as_secs();
                anyhow!("nothing has come from {url} for {seconds} s, so the connection is taken for a dead one")
            })?;
            let read = read.map_err(|error| anyhow!(cause::of(&error.without_url())));
            let Some(bytes) = read.with_context(|| format!("the connection to {url} broke"))? else {
                return Ok(None);
            };
            self.heard = Instant::now();
            let parsed = self.parser.read(&bytes, &mut self.ready);
            parsed.with_context(|| format!("the events from {url} cannot be read"))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use insta::assert_snapshot;

    use super::super::tests::{relay, without_port};
    use super::*;
    use crate::admin::canned;

    /// Serves one request with these bytes. The connection ends when the returned sender is dropped.
    fn serve(answer: &'static [u8]) -> (Url, std::sync::mpsc::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let (end, ended) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer).unwrap();
            let _ = ended.recv();
        });
        (url, end)
    }

    fn refused(status: &str, body: &str) -> anyhow::Error {
        let (url, _asked) = canned::answer(status, body);
        let client = relay(&url, Some("hunter2"));
        let error = client.block_on(client.events("api/v1/events")).unwrap_err();
        without_port(&url, &error)
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

    #[test]
    fn events_come_one_after_the_other_until_the_relay_ends_them() {
        // The chunks end within an event.
        let answer = format!("{HEAD}7\r\n: hi\n\nd\r\n21\r\nata: 1\n\nevent: sample\ndata: two\n\n\r\n0\r\n\r\n");
        let (url, _end) = serve(answer.leak().as_bytes());
        let client = relay(&url, None);
        let next = client.block_on(async {
            let mut events = client.events("api/v1/tap?module=orders").await.unwrap();
            let mut next = Vec::new();
            while let Some(Event { name, data }) = events.next().await.unwrap() {
                next.push(format!("{name} {data}"));
            }
            next
        });
        assert_eq!(next, ["message 1", "sample two"]);
    }

    #[test]
    fn a_connection_that_breaks_is_an_error() {
        let (url, end) = serve(format!("{HEAD}9\r\ndata: 1\n\n\r\n7\r\nda").leak().as_bytes());
        drop(end);
        let client = relay(&url, None);
        let error = client.block_on(async {
            let mut events = client.events("api/v1/events").await.unwrap();
            assert_eq!(events.next().await.unwrap().unwrap().data, "1");
            events.next().await.unwrap_err()
        });
        let error = without_port(&url, &error).to_string();
        assert!(
            error.starts_with("the connection to http://127.0.0.1:8787/api/v1/events broke: "),
            "{error}"
        );
    }

    #[test]
    fn a_silent_connection_is_an_error() {
        let (url, _end) = serve(HEAD.as_bytes());
        let client = relay(&url, None);
        let error = client.block_on(async {
            let mut events = client.events("api/v1/events").await.unwrap();
            events.heard -= SILENCE;
            events.next().await.unwrap_err()
        });
        assert_snapshot!(without_port(&url, &error), @"nothing has come from http://127.0.0.1:8787/api/v1/events for 20 s, so the connection is taken for a dead one");
    }

    #[test]
    fn what_is_no_stream_of_events_is_told() {
        assert_snapshot!(refused("401 Unauthorized", ""), @"the relay at http://127.0.0.1:8787/api/v1/events requires its token: the token that was sent is wrong; set `admin.token_file` in the configuration, or SLIPRING_ADMIN__TOKEN");
        assert_snapshot!(refused("403 Forbidden", "this needs all rights\n"), @"http://127.0.0.1:8787/api/v1/events returned 403 Forbidden: this needs all rights");
        assert_snapshot!(refused("404 Not Found", "There is no module `x`.\n"), @"http://127.0.0.1:8787/api/v1/events returned 404 Not Found: There is no module `x`.");
        assert_snapshot!(refused("404 Not Found", "There is no such path. The paths are:\n/  this list\n"), @"http://127.0.0.1:8787/api/v1/events returned 404 Not Found, so it is not a relay, or one of an older version: check `--url` or `admin.listen`");
        assert_snapshot!(refused("200 OK", "hello"), @"the reply from http://127.0.0.1:8787/api/v1/events is no stream of events, so it is probably not a relay of this version");
        assert_snapshot!(refused("302 Found", "hello"), @"http://127.0.0.1:8787/api/v1/events returned 302 Found: hello");
    }
}
