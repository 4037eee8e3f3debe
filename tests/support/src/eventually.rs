//! Waits for a condition instead of a fixed time. A sleep in a test is either too short on a busy machine or too long
//! on every other.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// Calls `condition` until it returns `Ok`, and returns its value. `Err` holds what was seen instead. When `patience`
/// is over, the error includes the last one. `what` completes "waited for".
pub async fn eventually<T, E: Display>(
    patience: Duration,
    what: impl Display,
    mut condition: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(2);
    let mut seen = String::from("no answer at all");
    loop {
        match timeout_at(deadline, condition()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => seen = format!("{error:#}"),
            Err(_) => {}
        }
        if Instant::now() + pause >= deadline {
            bail!("waited {patience:?} for {what}; seen last: {seen}");
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_what_the_condition_returns_once_it_holds() {
        let mut asked = 0;
        let condition = async || {
            asked += 1;
            if asked < 4 {
                Err(format!("asked {asked} times"))
            } else {
                Ok(asked)
            }
        };
        assert_eq!(
            eventually(Duration::from_secs(5), "the fourth time", condition)
                .await
                .unwrap(),
            4
        );
    }

    #[tokio::test]
    async fn says_what_it_waited_for_and_what_it_saw() {
        let never = async || Err::<(), _>("3 of 5 arrived");
        let error = eventually(Duration::from_millis(20), "five messages", never)
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "waited 20ms for five messages; seen last: 3 of 5 arrived"
        );
    }

    #[tokio::test]
    async fn a_condition_that_hangs_does_not_outlast_the_deadline() {
        let hanging = async || std::future::pending::<Result<(), String>>().await;
        let error = eventually(Duration::from_millis(20), "an answer", hanging)
            .await
            .unwrap_err();
        assert!(error.to_string().ends_with("seen last: no answer at all"), "{error}");
    }
}
