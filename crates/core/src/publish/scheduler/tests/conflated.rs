//! Tests channels where only the newest state matters.

use super::*;

impl Bench {
    /// Pushes a publication with this version, and returns the one that it replaced.
    fn push_newest(&mut self, channels: &str, version: Option<u64>) -> Option<u64> {
        let body = format!("[{}]", self.pushed);
        let publication = Publication {
            version,
            ..publication(channels, body)
        };
        let key = format!("key{}", self.pushed);
        let obsolete = self
            .scheduler
            .push_newest(self.pushed, publication, Some(key))
            .map(|concluded| concluded.ticket);
        self.pushed += 1;
        obsolete
    }
}

#[test]
fn the_newest_takes_the_place_of_what_waits() {
    let mut bench = bench(Order::Strict);
    assert_eq!(bench.push_newest("a", None), None);
    let first = bench.sends("0@a");
    assert_eq!(bench.push_newest("a", None), None, "the one before is in flight");
    assert_eq!(bench.push_newest("a", None), Some(1));
    assert_eq!(bench.push_newest("a", None), Some(2));
    bench.gets(first, replies("ok"), "0");
    let last = bench.sends("3@a");
    bench.gets(last, replies("ok"), "3");
    assert!(bench.scheduler.is_idle() && bench.scheduler.queues.is_empty());
}

#[test]
fn what_was_sent_goes_again_before_anything_newer() {
    let mut bench = bench(Order::Strict);
    bench.push_newest("a", None);
    let first = bench.sends("0@a");
    bench.gets(first, replies("100"), "");
    assert_eq!(bench.push_newest("a", None), None, "the first may yet be shown");
    assert_eq!(bench.push_newest("a", None), Some(1));
    bench.sleeps(50, 200);
    let again = bench.sends("0@a");
    bench.gets(again, replies("ok"), "0");
    bench.sends("2@a");
}

#[test]
fn a_channel_that_changes_all_the_time_keeps_its_turn() {
    let mut bench = bench_with(RequestLimits {
        order: Order::Strict,
        max_batch: 1,
        max_request_bytes: 10_000,
        max_in_flight: 3,
        busy_batch: usize::MAX,
    });
    bench.push_newest("a", None);
    bench.push_newest("b", None);
    assert_eq!(bench.push_newest("a", None), Some(0));
    bench.sends("2@a");
    bench.sends("1@b");
}

#[test]
fn a_broadcast_gives_up_its_place_to_one_for_the_same_channels_only() {
    let mut bench = bench(Order::Strict);
    bench.push_newest("a+b", None);
    assert_eq!(bench.push_newest("a+b", None), Some(0));
    assert_eq!(bench.push_newest("a", None), None, "b still needs the broadcast");
    assert_eq!(bench.push_newest("a+b", None), None, "another one waits between");
    assert_eq!(bench.push_newest("a+b", None), Some(3));
    let first = bench.sends("1@a+b");
    bench.gets(first, replies("ok ok"), "1");
    let second = bench.sends("2@a");
    bench.gets(second, replies("ok"), "2");
    bench.sends("4@a+b");
}

#[test]
fn a_version_that_centrifugo_would_suppress_takes_no_place() {
    let mut bench = bench(Order::Batched);
    bench.push_newest("a", Some(7));
    assert_eq!(bench.push_newest("a", Some(8)), Some(0));
    assert_eq!(bench.push_newest("a", Some(8)), None);
    assert_eq!(bench.push_newest("a", None), None);
    assert_eq!(
        bench.push_newest("a", Some(9)),
        None,
        "the one without a version is shown in any case"
    );
    bench.sends("1@a 2@a 3@a 4@a");
}

#[test]
fn what_was_pushed_otherwise_keeps_its_place() {
    let mut bench = bench(Order::Strict);
    bench.push("a");
    assert_eq!(bench.push_newest("a", None), None);
    bench.sends("0@a");
}
