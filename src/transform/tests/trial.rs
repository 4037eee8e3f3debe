//! Tests versions that have just taken over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{Chunk, Module, Transformed, Trial, Workers};
use super::message;
use super::wat::{Guest, limits};
use crate::load::LoadId;
use crate::message::{Outcome, Rejection, Stage};

const MINUTE: Duration = Duration::from_secs(60);

/// Rejects the messages above this sequence and publishes the others.
fn rejects_above(sequence: u64) -> Arc<Module> {
    let transform = format!(
        "(if (i64.gt_u (local.get $sequence) (i64.const {sequence}))
            (then (return (call $result (i32.const 1) (i32.const 16) (i32.const 1)))))
        (call $result (i32.const 0) (call $publication) (i32.const 1))"
    );
    let guest = Guest {
        transform: &transform,
        ..Guest::default()
    };
    guest.load(limits()).expect("a module")
}

/// Runs messages 1 to 100 in chunks of ten. Returns for each whether it was rejected, and by which load.
fn run(module: &Arc<Module>, trial: &Arc<Trial>, workers: usize) -> Vec<(bool, LoadId)> {
    let (mut workers, mut results) = Workers::spawn("test", workers, |_| 0).expect("threads");
    for chunk in 0..10 {
        let sequences = chunk * 10 + 1..=chunk * 10 + 10;
        workers.submit(Chunk {
            module: Arc::clone(module),
            trial: trial.is_on(Instant::now()).then(|| Arc::clone(trial)),
            messages: sequences
                .map(|sequence| (sequence, Arc::new(message(sequence))))
                .collect(),
        });
    }
    drop(workers);
    let all = std::iter::from_fn(|| results.blocking_recv()).flat_map(|piece| piece.outcomes);
    all.map(|Transformed { outcome, by, .. }| (matches!(outcome, Outcome::Reject(_)), by.id))
        .collect()
}

#[test]
fn a_bad_version_touches_no_more_than_it_may() {
    let (old, new) = (rejects_above(1_000), rejects_above(20));
    let trial = Trial::new(Arc::clone(&old), MINUTE, 4);
    let became = run(&new, &trial, 1);
    assert!(trial.has_failed());
    for (sequence, (rejected, by)) in (1..).zip(became) {
        assert_eq!(rejected, (21..=25).contains(&sequence), "{sequence}");
        let expected = if sequence <= 25 { &new } else { &old };
        assert_eq!(by, expected.load_id(), "{sequence}");
    }
}

#[test]
fn it_is_no_more_with_several_workers() {
    for _ in 0..20 {
        let trial = Trial::new(rejects_above(1_000), MINUTE, 4);
        let became = run(&rejects_above(20), &trial, 4);
        assert_eq!(became.iter().filter(|(rejected, _)| *rejected).count(), 5);
    }
}

#[test]
fn what_the_old_version_rejected_too_is_no_failure() {
    let trial = Trial::new(rejects_above(50), MINUTE, 0);
    let became = run(&rejects_above(50), &trial, 1);
    assert!(!trial.has_failed());
    assert_eq!(became.iter().filter(|(rejected, _)| *rejected).count(), 50);
}

#[test]
fn a_trial_ends() {
    let trial = Trial::new(rejects_above(1_000), Duration::ZERO, 0);
    assert!(!trial.is_on(Instant::now()));
    let became = run(&rejects_above(20), &trial, 1);
    assert_eq!(became.iter().filter(|(rejected, _)| *rejected).count(), 80);
    assert!(!trial.has_failed());
}

#[test]
fn what_centrifugo_refuses_counts_if_the_old_version_would_not_have_published_it_there() {
    // The guest publishes on the channel `a`.
    let trial = Trial::new(rejects_above(50), MINUTE, 0);
    let refusal = |channel: &str| Rejection {
        stage: Stage::Publish,
        code: "102".into(),
        channel: Some(channel.into()),
        reason: "unknown channel".to_owned(),
    };
    let refused = |sequence, channel| (Arc::new(message(sequence)), refusal(channel), ());
    trial.refused(&[refused(1, "a"), refused(51, "nowhere")]);
    assert!(!trial.has_failed());
    trial.refused(&[refused(1, "nowhere")]);
    assert!(trial.has_failed());
}

#[tokio::test]
async fn the_verdict_says_what_happened() {
    let (old, new) = (rejects_above(1_000), rejects_above(0));
    let trial = Trial::new(old, MINUTE, 1);
    let (module, watched) = (Arc::clone(&new), Arc::clone(&trial));
    tokio::task::spawn_blocking(move || run(&module, &watched, 1))
        .await
        .expect("it runs");
    assert_eq!(
        trial.failure().await.to_string(),
        "the new version rejected 2 messages that the previous version accepts, the last one (sequence 2) because: a"
    );
}
