//! Tests the rules one by one. The notation of a request is `0@a 1@b+c 2@a~1`: publication 0 on channel a, 1 broadcast
//! to b and c, 2 on a with the key of its first repeat. A conclusion is `0` when confirmed and `1:102` when rejected
//! with that code.

mod accounts;
mod batched;
mod conflated;
mod failing_requests;

use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::message::Body;
use crate::publish::{HistoryPosition, Reply};

struct Bench {
    scheduler: Scheduler,
    now: Instant,
    pushed: u64,
}

fn bench(order: Order) -> Bench {
    bench_with(RequestLimits {
        order,
        max_batch: 8,
        max_request_bytes: 10_000,
        max_in_flight: 3,
        busy_batch: usize::MAX,
    })
}

fn bench_with(limits: RequestLimits) -> Bench {
    Bench {
        scheduler: Scheduler::new(limits, 7),
        now: Instant::now(),
        pushed: 0,
    }
}

fn publication(channels: &str, body: String) -> Publication {
    Publication::new(
        channels.split('+').map(Arc::from).collect(),
        Body::Json(RawValue::from_string(body).unwrap()),
    )
}

impl Bench {
    fn push(&mut self, channels: &str) {
        self.push_sized(channels, 0, None);
    }

    fn push_all(&mut self, channels: &str) {
        channels.split(' ').for_each(|channels| self.push(channels));
    }

    fn push_sized(&mut self, channels: &str, bytes: usize, own_key: Option<&str>) {
        let body = format!("[{},\"{}\"]", self.pushed, "x".repeat(bytes));
        let publication = Publication {
            idempotency_key: own_key.map(ToOwned::to_owned),
            ..publication(channels, body)
        };
        self.scheduler
            .push(self.pushed, publication, Some(format!("key{}", self.pushed)));
        self.pushed += 1;
    }

    fn next(&mut self) -> Option<(RequestId, String)> {
        let request = self.scheduler.next_request(self.now)?;
        let describe = |command: &Command| {
            let Body::Json(body) = &command.publication().body else {
                panic!("{command:?}")
            };
            let body: Value = serde_json::from_str(body.get()).unwrap();
            let number = &body[0];
            let key = command.key().unwrap();
            let key = key.strip_prefix(&format!("key{number}")).unwrap_or(&key);
            format!("{number}@{}{key}", command.channels().join("+"))
        };
        let commands: Vec<_> = request.commands().iter().map(describe).collect();
        assert_eq!(commands.len(), request.len());
        Some((request.id(), commands.join(" ")))
    }

    #[track_caller]
    fn sends(&mut self, expected: &str) -> RequestId {
        let (id, request) = self
            .next()
            .unwrap_or_else(|| panic!("{expected} should be sent: {:?}", self.scheduler));
        assert_eq!(request, expected);
        id
    }

    #[track_caller]
    fn asks(&mut self) -> RequestId {
        self.sends("")
    }

    /// Asks the endpoint whether it takes requests, and answers that it does.
    #[track_caller]
    fn finds_it_open(&mut self) {
        let asks = self.asks();
        self.gets(asks, taken(), "");
    }

    /// Answers everything that is sent now. Requests for this channel get the failure. Returns the confirmed
    /// publications.
    fn answers(&mut self, channel: &str, failure: &Answer) -> Vec<u64> {
        let mut confirmed = Vec::new();
        while let Some(request) = self.scheduler.next_request(self.now) {
            let fails = request
                .commands()
                .iter()
                .any(|command| command.channels().iter().any(|name| &**name == channel));
            let answer = match fails {
                true => failure.clone(),
                false => Answer::Replies(vec![Reply::Confirmed(None); request.channels().sum()]),
            };
            let concluded = self.scheduler.complete(self.now, request.id(), answer);
            confirmed.extend(concluded.iter().map(|concluded| concluded.ticket));
        }
        confirmed
    }

    #[track_caller]
    fn sends_nothing(&mut self) {
        assert_eq!(self.next(), None);
    }

    #[track_caller]
    fn gets(&mut self, id: RequestId, answer: Answer, expected: &str) {
        let concluded = self.scheduler.complete(self.now, id, answer);
        let describe = |Concluded { ticket, result, .. }: &Concluded| match result {
            Ok(()) => ticket.to_string(),
            Err(rejection) => format!("{ticket}:{}", rejection.code),
        };
        assert_eq!(concluded.iter().map(describe).collect::<Vec<_>>().join(" "), expected);
    }

    #[track_caller]
    fn sleeps(&mut self, at_least: u64, at_most: u64) {
        self.sends_nothing();
        let pause = self.scheduler.next_wakeup().expect("it waits for a time") - self.now;
        let range = Duration::from_millis(at_least)..=Duration::from_millis(at_most);
        assert!(range.contains(&pause), "{pause:?} is not in {range:?}");
        self.now += pause;
    }
}

/// Parses replies: `ok` is a confirmation without a position, `@7` a confirmation with one, and a number an error code.
fn replies(replies: &str) -> Answer {
    let reply = |reply: &str| match reply.strip_prefix('@') {
        Some(offset) => Reply::Confirmed(Some(HistoryPosition {
            offset: offset.parse().unwrap(),
            epoch: 1,
        })),
        None if reply == "ok" => Reply::Confirmed(None),
        None => Reply::Failed {
            code: reply.parse().unwrap(),
            message: "a message".to_owned(),
        },
    };
    Answer::Replies(replies.split(' ').map(reply).collect())
}

fn refused(status: u16) -> Answer {
    Answer::Refused {
        status,
        reason: format!("HTTP {status}"),
    }
}

fn lost() -> Answer {
    Answer::Lost {
        reason: "timeout".to_owned(),
    }
}

/// The answer to a request without publications.
fn taken() -> Answer {
    Answer::Replies(Vec::new())
}

fn denied() -> Answer {
    Answer::Denied {
        reason: "HTTP 401: is the key right?".to_owned(),
    }
}

#[test]
fn strict_sends_one_a_channel_oldest_first() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a b a c b");
    let first = bench.sends("0@a 1@b 3@c");
    bench.sends_nothing();
    bench.gets(first, replies("ok ok ok"), "0 1 3");
    let second = bench.sends("2@a 4@b");
    bench.gets(second, replies("ok ok"), "2 4");
    assert!(bench.scheduler.is_idle());
}

#[test]
fn the_oldest_goes_first_whatever_was_done_before() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a b b");
    let first = bench.sends("0@a 1@b");
    bench.gets(first, replies("ok ok"), "0 1");
    // These take the places of the first two.
    bench.push_all("c d");
    bench.sends("2@b 3@c 4@d");
}

#[test]
fn batched_sends_many_a_channel_oldest_first() {
    let mut bench = bench(Order::Batched);
    bench.push_all("a b a c b");
    let first = bench.sends("0@a 1@b 2@a 3@c 4@b");
    bench.push_all("a d");
    let second = bench.sends("6@d");
    bench.gets(first, replies("ok ok ok ok ok"), "0 1 2 3 4");
    bench.sends("5@a");
    bench.gets(second, replies("ok"), "6");
}

#[test]
fn what_did_not_fit_goes_next_unless_its_channel_is_in_flight() {
    let mut bench = bench_with(RequestLimits {
        order: Order::Batched,
        max_batch: 2,
        max_request_bytes: 10_000,
        max_in_flight: 3,
        busy_batch: usize::MAX,
    });
    bench.push_all("a a a b");
    let first = bench.sends("0@a 1@a");
    bench.sends("3@b");
    bench.sends_nothing();
    bench.gets(first, replies("ok ok"), "0 1");
    bench.sends("2@a");
}

#[test]
fn slots_and_bytes_are_bounded() {
    let mut bench = bench_with(RequestLimits {
        order: Order::Strict,
        max_batch: 8,
        max_request_bytes: 1_000,
        max_in_flight: 2,
        busy_batch: usize::MAX,
    });
    bench.push_sized("a", 5_000, None);
    bench.push_sized("b", 300, None);
    bench.push_sized("c", 300, None);
    bench.push("d");
    let first = bench.sends("0@a");
    bench.sends("1@b 2@c");
    bench.sends_nothing();
    assert_eq!((bench.scheduler.in_flight(), bench.scheduler.waiting()), (2, 1));
    bench.gets(first, replies("ok"), "0");
    bench.sends("3@d");
}

#[test]
fn a_broadcast_occupies_each_of_its_channels() {
    for order in [Order::Strict, Order::Batched] {
        let mut bench = bench(order);
        bench.push_all("a a+b b c");
        let first = bench.sends("0@a 3@c");
        bench.gets(first, replies("ok ok"), "0 3");
        let expected = if order == Order::Strict { "1@a+b" } else { "1@a+b 2@b" };
        bench.sends(expected);
        bench.sends_nothing();
    }
}

#[test]
fn a_broadcast_to_very_many_is_several_commands_of_one_request() {
    let mut bench = bench(Order::Strict);
    let channels: Vec<String> = (0..450).map(|channel| format!("c{channel}")).collect();
    bench.push(&channels.join("+"));
    bench.push("c449");
    let (first, request) = bench.next().unwrap();
    let parts: Vec<String> = channels
        .chunks(200)
        .map(|part| format!("0@{}", part.join("+")))
        .collect();
    assert_eq!(request, parts.join(" "));
    bench.sends_nothing();
    let answers: Vec<&str> = (0..450)
        .map(|channel| match channel {
            7 => "102",
            201 | 449 => "100",
            _ => "ok",
        })
        .collect();
    bench.gets(first, replies(&answers.join(" ")), "");
    bench.now += Duration::from_millis(100);
    let again = bench.sends("0@c201+c449");
    bench.gets(again, replies("ok ok"), "0:102");
    let next = bench.sends("1@c449");
    bench.gets(next, replies("ok"), "1");
    assert!(bench.scheduler.is_idle());
}

#[test]
fn a_broadcast_ends_channel_by_channel() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a+b+c+d a b c");
    let first = bench.sends("0@a+b+c+d");
    bench.gets(first, replies("ok 100 102 100"), "");
    let second = bench.sends("1@a 3@c");
    bench.gets(second, replies("ok ok"), "1 3");
    // The pauses of b and d differ, and the broadcast waits for both.
    bench.now += Duration::from_millis(100);
    let third = bench.sends("0@b+d");
    bench.gets(third, replies("ok 100"), "");
    bench.sends("2@b");
    bench.sleeps(100, 200);
    let fourth = bench.sends("0@d");
    bench.gets(fourth, replies("ok"), "0:102");
}

#[test]
fn a_broadcast_is_rejected_for_the_first_refusal_once_the_rest_is_done() {
    let mut bench = bench(Order::Strict);
    bench.push("a+b+c");
    let first = bench.sends("0@a+b+c");
    bench.gets(first, replies("102 100 107"), "");
    bench.sleeps(50, 100);
    let second = bench.sends("0@b");
    let concluded = bench.scheduler.complete(bench.now, second, replies("ok"));
    let rejection = concluded[0].result.clone().unwrap_err();
    assert_eq!((&*rejection.code, rejection.channel.as_deref()), ("102", Some("a")));
}

#[test]
fn error_100_makes_its_channel_wait_longer_each_time_with_the_same_key() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a a b");
    let first = bench.sends("0@a 2@b");
    bench.gets(first, replies("100 ok"), "2");
    bench.push("b");
    let other = bench.sends("3@b");
    bench.gets(other, replies("ok"), "3");
    for (at_least, at_most) in [(50, 100), (100, 200), (200, 400)] {
        bench.sleeps(at_least, at_most);
        let retry = bench.sends("0@a");
        bench.gets(retry, replies("100"), "");
    }
    bench.sleeps(400, 800);
    let retry = bench.sends("0@a");
    bench.gets(retry, replies("ok"), "0");
    assert_eq!(bench.scheduler.retried(), 4);
    // A success ends the doubling.
    let next = bench.sends("1@a");
    bench.gets(next, replies("100"), "");
    bench.sleeps(50, 100);
}

#[test]
fn another_code_rejects_and_says_why() {
    let mut bench = bench(Order::Strict);
    bench.push_all("nope:1 a nope:1");
    let first = bench.sends("0@nope:1 1@a");
    let concluded = bench.scheduler.complete(bench.now, first, replies("102 ok"));
    let rejection = concluded[0].result.clone().unwrap_err();
    assert_eq!(rejection.stage, crate::message::Stage::Publish);
    assert_eq!(
        rejection.reason,
        "Centrifugo refused the publication on `nope:1` with error 102 (a message): does the namespace before `:` exist in \
         Centrifugo's configuration?"
    );
    assert_eq!(concluded[1].result, Ok(()));
    bench.sends("2@nope:1");
}

#[test]
fn frozen_it_sends_nothing_but_takes_answers() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a a b");
    let first = bench.sends("0@a 2@b");
    bench.scheduler.freeze();
    bench.gets(first, replies("ok 100"), "0");
    bench.sends_nothing();
    assert!(bench.scheduler.is_frozen());
    assert_eq!(
        (
            bench.scheduler.next_wakeup(),
            bench.scheduler.in_flight(),
            bench.scheduler.waiting()
        ),
        (None, 0, 2)
    );
}

#[test]
fn an_answer_to_nothing_changes_nothing() {
    let mut bench = bench(Order::Strict);
    bench.push("a");
    let first = bench.sends("0@a");
    bench.gets(first, replies("ok"), "0");
    bench.gets(first, replies("ok"), "");
    bench.gets(RequestId(99), denied(), "");
    assert_eq!(bench.scheduler.trouble(), None);
}

#[test]
fn channels_without_work_take_no_memory() {
    let mut bench = bench_with(RequestLimits {
        order: Order::Batched,
        max_batch: 100,
        max_request_bytes: 1 << 20,
        max_in_flight: 3,
        busy_batch: usize::MAX,
    });
    for channel in 0..1_000 {
        bench.push(&format!("c{channel}+d{channel}"));
    }
    while let Some(request) = bench.scheduler.next_request(bench.now) {
        let confirmed = vec![Reply::Confirmed(None); request.channels().sum()];
        bench
            .scheduler
            .complete(bench.now, request.id(), Answer::Replies(confirmed));
    }
    assert!(
        bench.scheduler.is_idle() && bench.scheduler.queues.is_empty(),
        "{:?}",
        bench.scheduler
    );
}

#[test]
fn a_few_wait_for_more_while_much_is_in_flight_but_not_for_long() {
    let mut bench = bench_with(RequestLimits {
        order: Order::Strict,
        max_batch: 8,
        max_request_bytes: 10_000,
        max_in_flight: 3,
        busy_batch: 4,
    });
    bench.push_all("a b c d e f");
    let first = bench.sends("0@a 1@b 2@c 3@d 4@e 5@f");
    bench.push_all("g h");
    bench.sends_nothing();
    bench.push("i");
    let second = bench.sends("6@g 7@h 8@i");
    bench.push("j");
    bench.sleeps(1, 2);
    bench.sends("9@j");
    bench.gets(first, replies("ok ok ok ok ok ok"), "0 1 2 3 4 5");
    bench.push("k");
    bench.sends("10@k");
    bench.gets(second, replies("ok ok ok"), "6 7 8");
    bench.push("l");
    bench.sends("11@l");
}
