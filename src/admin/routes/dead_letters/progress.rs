//! Tells a client how far a replay or a removal is.

use std::time::Duration;

use axum::response::sse::Event;
use futures_util::stream::{self, Stream};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// The shortest time between two events.
const PAUSE: Duration = Duration::from_millis(250);

/// How many failures are named at the end.
const MOST_FAILURES: usize = 100;

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::admin::routes) struct Progress {
    /// How many letters are done.
    pub done: usize,
    /// How many letters there are.
    pub of: usize,
    /// How many of those that are done stay, because they were rejected again, or were not there.
    pub failed: usize,
    /// Why nothing is published at the moment.
    pub paused: Option<String>,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::admin::routes) struct End {
    /// It has come to the end of the letters.
    pub ok: bool,
    /// A line for people.
    pub text: String,
    /// Some of the letters that failed, at most 100.
    pub failures: Vec<Failure>,
}

#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::admin::routes) struct Failure {
    number: u64,
    reason: String,
}

/// The letters that failed, as far as they are named.
#[derive(Debug, Default)]
pub(super) struct Failures(pub Vec<Failure>);

impl Failures {
    pub fn add(&mut self, number: u64, reason: impl FnOnce() -> String) {
        if self.0.len() < MOST_FAILURES {
            let reason = reason();
            self.0.push(Failure { number, reason });
        }
    }
}

/// What a client is waiting for.
struct Waiting {
    progress: watch::Receiver<Progress>,
    stage: Stage,
    /// Not earlier than this is there another event.
    due: Instant,
}

enum Stage {
    Running(oneshot::Receiver<End>),
    Ended(End),
    Told,
}

/// Returns the events for a client: the first progress at once, then at most four in a second, the last progress, and
/// the end. When the client leaves, the receiver is dropped.
pub(super) fn events(
    mut progress: watch::Receiver<Progress>,
    end: oneshot::Receiver<End>,
) -> impl Stream<Item = Event> {
    progress.mark_changed();
    let waiting = Waiting {
        progress,
        stage: Stage::Running(end),
        due: Instant::now(),
    };
    stream::unfold(waiting, |mut waiting| async move {
        let event = waiting.next().await?;
        Some((event, waiting))
    })
}

impl Waiting {
    async fn next(&mut self) -> Option<Event> {
        let end = match &mut self.stage {
            Stage::Running(end) => end,
            Stage::Ended(_) => match std::mem::replace(&mut self.stage, Stage::Told) {
                Stage::Ended(end) => return Some(event("end", &end)),
                _ => return None,
            },
            Stage::Told => return None,
        };
        let (progress, due) = (&mut self.progress, self.due);
        let due = async move {
            sleep_until(due).await;
            match progress.changed().await {
                Ok(()) => {}
                // The end comes at once.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = end => self.stage = Stage::Ended(ended.unwrap_or_else(|_| End::broken())),
            () = due => {}
        }
        self.due = Instant::now() + PAUSE;
        let progress = self.progress.borrow_and_update().clone();
        Some(event("progress", &progress))
    }
}

impl End {
    fn broken() -> Self {
        Self {
            ok: false,
            text: "It failed unexpectedly, which is a bug in Slipring. No dead letter was lost; try again.".to_owned(),
            failures: Vec::new(),
        }
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    let event = Event::default().event(name).json_data(data);
    event.expect("texts and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use axum::response::{IntoResponse, Sse};
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    fn end() -> End {
        let mut failures = Failures::default();
        for number in 0..1_000 {
            failures.add(number, || "no\nline".to_owned());
        }
        failures.0.truncate(1);
        End {
            ok: true,
            text: "done".to_owned(),
            failures: failures.0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_client_is_told_at_once_then_four_times_a_second_and_of_the_end() {
        let (progress, watching) = watch::channel(Progress {
            of: 3,
            ..Progress::default()
        });
        let (tell, ended) = oneshot::channel();
        let mut events = pin!(events(watching, ended));
        let begin = Instant::now();
        assert!(events.next().await.is_some());
        assert!(events.next().now_or_never().is_none(), "nothing has changed");
        assert_eq!(begin.elapsed(), Duration::ZERO);
        for done in 1..=2 {
            progress.send_modify(|progress| progress.done = done);
        }
        assert!(events.next().await.is_some());
        assert_eq!(begin.elapsed(), PAUSE);
        progress.send_modify(|progress| progress.done = 3);
        tell.send(end()).unwrap();
        // The end does not wait.
        let rest: Vec<Event> = events.collect().await;
        assert_eq!((rest.len(), begin.elapsed()), (2, PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_json_in_one_line() {
        let (progress, watching) = watch::channel(Progress::default());
        let (tell, ended) = oneshot::channel();
        progress.send_modify(|progress| progress.paused = Some("no\nCentrifugo".to_owned()));
        tell.send(end()).unwrap();
        let events = events(watching, ended).map(Ok::<_, std::convert::Infallible>);
        let response = Sse::new(events).into_response();
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        insta::assert_snapshot!(str::from_utf8(&body).unwrap(), @r#"
        event: progress
        data: {"done":0,"of":0,"failed":0,"paused":"no\nCentrifugo"}

        event: end
        data: {"ok":true,"text":"done","failures":[{"number":0,"reason":"no\nline"}]}
        "#);
    }

    #[tokio::test]
    async fn a_broken_task_is_no_silence() {
        let (progress, watching) = watch::channel(Progress::default());
        let (tell, ended) = oneshot::channel();
        drop((progress, tell));
        assert_eq!(events(watching, ended).count().await, 2);
    }

    #[test]
    fn only_some_failures_are_named() {
        let mut failures = Failures::default();
        for number in 0..1_000 {
            failures.add(number, || "no".to_owned());
        }
        assert_eq!(failures.0.len(), MOST_FAILURES);
    }
}
