//! Finds the node of a cluster that has a key. All of the relay's own keys for a list or stream have its hash tag, so one
//! node has them all, and a connection to it is enough. When the key moves to another node, that connection ends with an
//! error, and the next one goes to the other node.

use std::sync::{MutexGuard, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, Value};
use url::Url;

use super::Server;

/// How many nodes are asked for one key.
const REDIRECTS: usize = 5;

impl Server {
    /// Opens a connection to the node that has this key. Outside a cluster it is the server at `redis.url`.
    pub(super) async fn open_node_of(
        &self,
        key: &str,
        settings: &AsyncConnectionConfig,
    ) -> Result<(Url, MultiplexedConnection), RedisError> {
        let (mut url, mut connection) = self.open_any(settings).await?;
        let mut redirects = 0;
        loop {
            let mut exists = redis::cmd("EXISTS");
            let moved = match exists.arg(key).query_async::<u64>(&mut connection).await {
                Err(error) if error.code() == Some("MOVED") => error,
                // Another error comes back with the first request.
                _ => return Ok((url, connection)),
            };
            redirects += 1;
            let node = moved.redirect_node().and_then(|(address, _)| at(&url, address));
            let Some(node) = node.filter(|_| redirects <= REDIRECTS) else {
                return Err(moved);
            };
            self.learn(&url, &mut connection).await;
            connection = self.open_at(&node, settings).await?;
            url = node;
        }
    }

    /// Connects to the server at `redis.url` or, if that fails, to another node of its cluster.
    async fn open_any(&self, settings: &AsyncConnectionConfig) -> Result<(Url, MultiplexedConnection), RedisError> {
        let configured = self.config.url.clone();
        let failed = match self.open_at(&configured, settings).await {
            Ok(connection) => return Ok((configured, connection)),
            Err(error) => error,
        };
        let others: Vec<Url> = self
            .nodes()
            .iter()
            .filter(|node| **node != configured)
            .cloned()
            .collect();
        for node in others {
            if let Ok(connection) = self.open_at(&node, settings).await {
                return Ok((node, connection));
            }
        }
        Err(failed)
    }

    async fn open_at(&self, url: &Url, settings: &AsyncConnectionConfig) -> Result<MultiplexedConnection, RedisError> {
        let client = self.client(url.clone())?;
        client.get_multiplexed_async_connection_with_config(settings).await
    }

    /// Remembers the nodes of the cluster that `url` belongs to. The user may be denied to ask for them.
    async fn learn(&self, url: &Url, connection: &mut MultiplexedConnection) {
        let mut slots = redis::cmd("CLUSTER");
        if let Ok(slots) = slots.arg("SLOTS").query_async::<Value>(connection).await {
            let mut nodes: Vec<Url> = addresses(&slots).filter_map(|address| at(url, &address)).collect();
            nodes.sort();
            nodes.dedup();
            *self.nodes() = nodes;
        }
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Url>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the URL of the node at this address. An empty host means that of the node that was asked.
fn at(asked: &Url, address: &str) -> Option<Url> {
    let (host, port) = address.rsplit_once(':')?;
    let mut url = asked.clone();
    match host {
        "" | "?" => {}
        // An IPv6 address comes without brackets.
        host if host.contains(':') => url.set_host(Some(&format!("[{host}]"))).ok()?,
        host => url.set_host(Some(host)).ok()?,
    }
    url.set_port(Some(port.parse().ok()?)).ok()?;
    Some(url)
}

/// Returns the addresses in a reply to `CLUSTER SLOTS`: ranges of slots, each with its nodes.
fn addresses(slots: &Value) -> impl Iterator<Item = String> {
    let list = |value: &Value| match value {
        Value::Array(values) => values.clone(),
        _ => Vec::new(),
    };
    let nodes = list(slots)
        .into_iter()
        .flat_map(move |range| list(&range).into_iter().skip(2));
    nodes.filter_map(move |node| match list(&node).as_slice() {
        [host, Value::Int(port), ..] => {
            let host = match host {
                Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
                _ => String::new(),
            };
            Some(format!("{host}:{port}"))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_by_its_address() {
        let asked = Url::parse("rediss://one.example:7000/0").unwrap();
        for (address, url) in [
            ("10.0.0.2:7001", "rediss://10.0.0.2:7001/0"),
            ("two.example:7001", "rediss://two.example:7001/0"),
            ("::1:7001", "rediss://[::1]:7001/0"),
            (":7001", "rediss://one.example:7001/0"),
        ] {
            assert_eq!(at(&asked, address).unwrap().as_str(), url);
        }
        assert_eq!(at(&asked, "two.example"), None);
    }
}
