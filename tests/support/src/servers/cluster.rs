//! A cluster of two Redis masters, each with half of the slots.

use anyhow::{Context, Result, ensure};
use redis::aio::MultiplexedConnection;

use super::{PATIENCE, Redis, free_port};
use crate::eventually;

/// The slots of a cluster.
const SLOTS: u16 = 16_384;

/// Starts both, and waits until they serve.
pub async fn cluster() -> Result<[Redis; 2]> {
    let (first, second) = (node().await?, node().await?);
    for (redis, from, to) in [(&first, 0, SLOTS / 2 - 1), (&second, SLOTS / 2, SLOTS - 1)] {
        command(redis, &["ADDSLOTSRANGE", &from.to_string(), &to.to_string()]).await?;
    }
    let bus = redis::cmd("CONFIG")
        .arg("GET")
        .arg("cluster-port")
        .query_async::<Vec<String>>(&mut second.client().await?)
        .await?;
    let bus = bus.get(1).context("there is no cluster-port")?;
    command(&first, &["MEET", "127.0.0.1", &second.port().to_string(), bus]).await?;
    for redis in [&first, &second] {
        eventually(PATIENCE, "a cluster of two", async || {
            let info = command(redis, &["INFO"]).await?;
            ensure!(
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2"),
                "{info}"
            );
            Ok(())
        })
        .await?;
    }
    Ok([first, second])
}

/// Returns true if this node has the key, or would have it.
pub async fn has(redis: &Redis, key: &str) -> Result<bool> {
    let exists = redis::cmd("EXISTS")
        .arg(key)
        .query_async::<u64>(&mut redis.client().await?)
        .await;
    match exists {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some("MOVED") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Moves the slot of a key, with all keys in it, as `redis-cli --cluster reshard` does.
pub async fn move_slot(key: &str, from: &Redis, to: &Redis) -> Result<()> {
    let (from_id, to_id) = (command(from, &["MYID"]).await?, command(to, &["MYID"]).await?);
    let slot = command(from, &["KEYSLOT", key]).await?;
    command(to, &["SETSLOT", &slot, "IMPORTING", &from_id]).await?;
    command(from, &["SETSLOT", &slot, "MIGRATING", &to_id]).await?;
    let mut client = from.client().await?;
    loop {
        let mut keys = redis::cmd("CLUSTER");
        keys.arg("GETKEYSINSLOT").arg(&slot).arg(100);
        let keys: Vec<Vec<u8>> = keys.query_async(&mut client).await?;
        if keys.is_empty() {
            break;
        }
        let mut migrate = redis::cmd("MIGRATE");
        migrate.arg("127.0.0.1").arg(to.port()).arg("").arg(0).arg(5_000);
        migrate.arg("KEYS").arg(keys).exec_async(&mut client).await?;
    }
    for redis in [to, from] {
        command(redis, &["SETSLOT", &slot, "NODE", &to_id]).await?;
    }
    Ok(())
}

async fn node() -> Result<Redis> {
    let bus = free_port().to_string();
    Redis::start_with(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--cluster-require-full-coverage",
        "no",
    ])
    .await
}

/// Sends `CLUSTER …`, and returns the reply as a text.
async fn command(redis: &Redis, arguments: &[&str]) -> Result<String> {
    let mut client: MultiplexedConnection = redis.client().await?;
    let mut command = redis::cmd("CLUSTER");
    command.arg(arguments);
    let reply = command.query_async(&mut client).await;
    reply.with_context(|| format!("CLUSTER {}", arguments.join(" ")))
}
