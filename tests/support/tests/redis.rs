//! Checks what the support crate promises the relay's tests about its Redis.

#![cfg(feature = "redis")]

use std::time::Duration;

use anyhow::Result;
use slipring_support::servers::Redis;

#[tokio::test]
async fn redis_keeps_its_port_and_its_data_over_a_stop_and_a_kill() -> Result<()> {
    let push = async |redis: &Redis| -> Result<u64> {
        let mut client = redis.client().await?;
        Ok(redis::cmd("RPUSH")
            .arg("orders")
            .arg("one")
            .query_async(&mut client)
            .await?)
    };
    let mut redis = Redis::start().await?;
    let url = redis.url();
    assert_eq!(push(&redis).await?, 1);

    redis.restart().await?;
    assert_eq!(push(&redis).await?, 2);

    redis.kill();
    redis.restart().await?;
    assert_eq!(redis.url(), url);
    assert_eq!(push(&redis).await?, 3);
    Ok(())
}

#[tokio::test]
async fn a_paused_redis_answers_once_it_is_resumed() -> Result<()> {
    let mut redis = Redis::start().await?;
    let mut client = redis.client().await?;
    redis.pause()?;
    let ping = redis::cmd("PING");
    let mut answer = std::pin::pin!(ping.query_async::<String>(&mut client));
    let early = tokio::time::timeout(Duration::from_millis(200), &mut answer).await;
    assert!(early.is_err(), "{early:?}");
    redis.resume()?;
    assert_eq!(answer.await?, "PONG");
    Ok(())
}

#[tokio::test]
async fn redis_says_why_it_does_not_start() {
    let error = Redis::start_with(&["--no-such-setting", "1"]).await.unwrap_err();
    assert!(format!("{error:#}").contains("no-such-setting"), "{error:#}");
}
