mod marks;

use std::collections::BTreeMap;

use slipring_core::pipeline::Counters;

use super::super::metrics::{Latency, Metrics};
use super::super::report::{ModuleStatus, State, Status};
use super::series::KEPT;
use super::*;

/// A whole minute.
const START: u64 = 1_796_083_200;

/// A recorder, and the status that it is given next.
struct Play {
    recorder: Recorder,
    started: Instant,
    status: Status,
    latencies: BTreeMap<String, Latency>,
}

fn module(name: &str) -> ModuleStatus {
    ModuleStatus {
        name: name.to_owned(),
        state: State::Running,
        ..ModuleStatus::default()
    }
}

/// Plays with one module, which is called `orders`.
fn play() -> Play {
    Play {
        recorder: Recorder::default(),
        started: Instant::now(),
        status: Status {
            modules: vec![module("orders")],
            ..Status::default()
        },
        latencies: BTreeMap::new(),
    }
}

impl Play {
    /// Takes a sample so many seconds after the start.
    fn at(&mut self, seconds: f64) -> LiveSample {
        self.at_clock(seconds, seconds)
    }

    /// Takes a sample while the clock that people set shows another time.
    fn at_clock(&mut self, seconds: f64, clock: f64) -> LiveSample {
        let now = Moment {
            unix: START as f64 + clock,
            instant: self.started + Duration::from_secs_f64(seconds),
        };
        self.recorder.add(now, self.status.clone(), &self.latencies)
    }

    fn orders(&mut self) -> &mut ModuleStatus {
        &mut self.status.modules[0]
    }

    /// Takes a sample in which so many messages were received by then. Returns the rate.
    fn received(&mut self, seconds: f64, received: u64) -> Option<f32> {
        self.orders().received = received;
        self.at(seconds).samples["orders"].received
    }

    fn report(&self, step: u32) -> HistoryReport {
        self.recorder.report(step, None)
    }
}

#[test]
fn a_rate_is_what_was_counted_over_the_time_that_passed() {
    let mut play = play();
    assert_eq!(play.received(0.5, 1_000), None, "nobody knows since when");
    assert_eq!(play.received(1.5, 1_100), Some(100.0));
    assert_eq!(play.received(2.75, 1_225), Some(100.0));
    assert_eq!(play.received(3.5, 1_225), Some(0.0));
    play.orders().published = 7;
    play.orders().rejected = 3;
    let sample = play.at(5.5).samples["orders"];
    assert_eq!((sample.published, sample.rejected), (Some(3.5), Some(1.5)));
}

#[test]
fn a_process_that_was_stopped_leaves_a_gap() {
    let mut play = play();
    play.received(0.5, 0);
    play.received(1.5, 10);
    assert_eq!(play.received(5.5, 50), Some(10.0));
    let report = play.report(1);
    assert_eq!(report.times, (START..=START + 5).collect::<Vec<_>>());
    let expected = [None, Some(10.0), None, None, None, Some(10.0)];
    assert_eq!(report.modules[0].received, expected);
}

#[test]
fn counters_that_went_back_begin_again() {
    let mut play = play();
    play.received(0.5, 1_000);
    play.orders().rejected = 10;
    assert_eq!(play.received(1.5, 1_001), Some(1.0));
    assert_eq!(play.received(2.5, 5), None);
    assert_eq!(play.received(3.5, 6), Some(1.0));
    play.orders().rejected = 0;
    assert_eq!(
        play.received(4.5, 7),
        None,
        "it is another module if any of them went back"
    );
    assert_eq!(play.received(5.5, 8), Some(1.0));
}

#[test]
fn a_module_that_comes_back_begins_again() {
    let mut play = play();
    play.received(0.5, 0);
    assert_eq!(play.received(1.5, 5), Some(5.0));
    let orders = play.status.modules.pop().unwrap();
    assert!(play.at(2.5).samples.is_empty());
    play.status.modules.push(orders);
    assert_eq!(play.received(3.5, 9), None);
    assert_eq!(play.received(4.5, 10), Some(1.0));
    let expected = [None, Some(5.0), None, None, Some(1.0)];
    assert_eq!(play.report(1).modules[0].received, expected);
}

#[test]
fn a_step_has_the_average_rate_and_the_highest_of_the_rest() {
    let mut play = play();
    let mut received = 0;
    for second in 0..12 {
        received += second;
        play.orders().received = received;
        play.orders().lag_messages = (second != 7).then_some(second % 5);
        play.orders().lag_seconds = Some(second as f64 / 8.0);
        let latency = Latency {
            p50: Duration::from_micros(100 * second),
            p99: Duration::from_millis(second),
        };
        play.latencies.clear();
        if second < 10 {
            play.latencies.insert("orders".to_owned(), latency);
        }
        play.at(second as f64 + 0.5);
    }
    let report = play.report(5);
    assert_eq!(report.step_seconds, 5);
    assert_eq!(report.times, [START, START + 5, START + 10]);
    let orders = &report.modules[0];
    // The first second has no rate, and the last step only two seconds.
    assert_eq!(orders.received, [Some(2.5), Some(7.0), Some(10.5)]);
    assert_eq!(orders.lag_messages, [Some(4), Some(4), Some(1)]);
    assert_eq!(orders.lag_seconds, [Some(0.5), Some(1.125), Some(1.375)]);
    assert_eq!(orders.latency_p50_ms, [Some(0.4), Some(0.9), None]);
    assert_eq!(orders.latency_p99_ms, [Some(4.0), Some(9.0), None]);
}

#[test]
fn the_last_15_minutes_are_kept() {
    let mut play = play();
    for second in 0..2_000 {
        play.orders().lag_messages = Some(second);
        play.at(second as f64 + 0.5);
    }
    let newest = START + 1_999;
    let report = play.report(1);
    assert_eq!(report.times, (newest - 899..=newest).collect::<Vec<_>>());
    let lag: Vec<_> = (1_100..2_000).map(Some).collect();
    assert_eq!(report.modules[0].lag_messages, lag);
    for step in 1..=60 {
        let report = play.report(step);
        let orders = &report.modules[0];
        assert!(report.times.len() <= 900 / step as usize, "{step}");
        assert!(report.times.len() >= 900 / step as usize - 1, "{step}");
        assert!(report.times.iter().all(|time| time % u64::from(step) == 0), "{step}");
        assert_eq!(orders.lag_messages.len(), report.times.len());
        assert!(orders.lag_messages.is_sorted(), "{step}");
        assert_eq!(orders.lag_messages.last(), Some(&Some(1_999)), "{step}");
        let first = orders.lag_messages[0].unwrap();
        assert!((1_100..1_100 + u64::from(3 * step)).contains(&first), "{step} {first}");
    }
}

#[test]
fn a_long_gap_leaves_nothing_of_what_was_before() {
    let mut play = play();
    for second in 0..10 {
        play.received(second as f64 + 0.5, second);
    }
    play.received(KEPT as f64 * 3.0 + 4.5, 20);
    let report = play.report(60);
    assert_eq!(report.times.len(), 15);
    let known = report.modules[0].received.iter().flatten();
    assert_eq!(
        known.copied().collect::<Vec<_>>(),
        [0.004],
        "11 messages in 2,695 seconds"
    );
}

#[test]
fn a_clock_that_was_set_back_is_followed() {
    let mut play = play();
    for second in 0..100 {
        play.orders().lag_messages = Some(second);
        play.at(second as f64 + 0.5);
    }
    play.orders().lag_messages = Some(1_000);
    play.orders().received = 30;
    let sample = play.at_clock(100.5, 90.5);
    assert_eq!(
        sample.samples["orders"].received,
        Some(30.0),
        "a rate needs no such clock"
    );
    let report = play.report(1);
    assert_eq!(report.times.last(), Some(&(START + 90)));
    let lag: Vec<_> = (0..90).chain([1_000]).map(Some).collect();
    assert_eq!(report.modules[0].lag_messages, lag);

    // By years: nothing is left.
    play.at_clock(101.5, -1e8);
    let report = play.report(1);
    assert_eq!(report.times, [START - 100_000_000]);
    assert!(report.marks.iter().all(|mark| mark.time <= START as f64 - 1e8));
    play.at_clock(102.5, -1e8 + 1.0);
    assert_eq!(play.report(1).modules[0].lag_messages, [Some(1_000), Some(1_000)]);
}

#[test]
fn a_removed_module_is_forgotten_after_15_minutes() {
    let mut play = play();
    play.status.modules.push(module("bills"));
    play.at(0.5);
    play.at(1.5);
    play.status.modules.pop();
    let names = |play: &Play| {
        let modules = play.report(1).modules.into_iter();
        modules.map(|module| module.name).collect::<Vec<_>>()
    };
    for second in 2..KEPT + 1 {
        play.at(second as f64 + 0.5);
    }
    assert_eq!(names(&play), ["bills", "orders"]);
    play.at(KEPT as f64 + 1.5);
    assert_eq!(names(&play), ["orders"]);
}

#[test]
fn many_removed_modules_need_no_more_memory() {
    let mut play = play();
    for second in 0..100 {
        play.status.modules = vec![module(&format!("m{second}"))];
        play.at(f64::from(second) + 0.5);
    }
    let modules = play.report(1).modules;
    assert_eq!(modules.len(), 21);
    assert!(modules.iter().any(|module| module.name == "m79"), "the newest are kept");
}

#[test]
fn one_module_can_be_asked_for() {
    let mut play = play();
    play.status.modules.push(module("bills"));
    play.status.centrifugo.trouble = Some("connection refused".to_owned());
    play.at(0.5);
    let report = play.recorder.report(5, Some("bills"));
    assert_eq!(report.modules.len(), 1);
    assert_eq!(report.modules[0].name, "bills");
    let modules: Vec<_> = report.marks.iter().map(|mark| mark.module.as_deref()).collect();
    assert_eq!(modules, [None, Some("bills")]);
    assert_eq!(play.recorder.report(5, Some("nobody")).modules, []);
}

#[test]
fn the_contract() {
    let mut play = play();
    play.at(0.5);
    let orders = play.orders();
    (orders.received, orders.published) = (812, 811);
    (orders.lag_messages, orders.lag_seconds) = (Some(3), Some(0.012_345));
    let latency = Latency {
        p50: Duration::from_micros(803),
        p99: Duration::from_micros(2_100),
    };
    play.latencies.insert("orders".to_owned(), latency);
    let sample = play.at(1.5);
    let mut report = play.report(1);
    report.marks[0].id = 17;
    insta::assert_snapshot!(serde_json::to_string(&report).unwrap(), @r#"{"step_seconds":1,"times":[1796083200,1796083201],"modules":[{"name":"orders","received":[null,812.0],"published":[null,811.0],"rejected":[null,0.0],"lag_messages":[null,3],"lag_seconds":[null,0.012],"latency_p50_ms":[null,0.803],"latency_p99_ms":[null,2.1]}],"marks":[{"id":17,"time":1796083200.5,"kind":"started","module":"orders","text":"started"}]}"#);

    let text = sample.with_marks(&report.marks);
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["status"].take(), serde_json::to_value(&play.status).unwrap());
    insta::assert_snapshot!(value, @r#"{"marks":[{"id":17,"kind":"started","module":"orders","text":"started","time":1796083200.5}],"samples":{"orders":{"lag_messages":3,"lag_seconds":0.012,"latency_p50_ms":0.803,"latency_p99_ms":2.1,"published":811.0,"received":812.0,"rejected":0.0}},"status":null,"time":1796083201.5}"#);

    // As a reader gets them.
    let read: HistoryReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(read, report);
    let read: LiveSample = serde_json::from_str(&text).unwrap();
    assert_eq!((read.time, &read.status), (sample.time, &sample.status));
    assert_eq!((read.samples, read.marks), (sample.samples, report.marks));
}

#[test]
fn another_version_may_say_more_or_less() {
    let newer = r#"{"marks":[{"kind":"moved","weather":"good"}],"modules":[{"name":"orders","mood":[1]}],"more":1}"#;
    let report: HistoryReport = serde_json::from_str(newer).unwrap();
    assert_eq!(
        (report.marks[0].kind, report.modules[0].name.as_str()),
        (MarkKind::Unknown, "orders")
    );
    let older: LiveSample = serde_json::from_str(r#"{"samples":{"orders":{}}}"#).unwrap();
    assert_eq!(older.samples["orders"], ModuleSample::default());
}

#[test]
fn a_sample_is_taken_in_the_middle_of_each_second() {
    let until = |millis| until_next(Duration::from_millis(millis)).as_millis();
    assert_eq!(
        [until(7_000), until(7_400), until(7_600), until(7_999)],
        [1_500, 1_100, 900, 501]
    );
}

#[tokio::test]
async fn the_board_is_followed() {
    let board = StatusBoard::new(Metrics::new());
    let orders = board.module("orders");
    orders.set_state(State::Running, None);
    let history = History::default();
    let mut samples = history.samples();
    assert!(samples.borrow().is_none());
    let following = tokio::spawn({
        let (history, board) = (history.clone(), board.clone());
        async move { history.follow(board).await }
    });
    let mut next = async || {
        loop {
            samples.changed().await.unwrap();
            if let Some(sample) = samples.borrow_and_update().clone() {
                return sample;
            }
        }
    };
    let first = next().await;
    assert_eq!(first.samples["orders"].received, None);
    orders.metrics().count(&Counters {
        received: 50,
        settled: vec![Duration::from_millis(20)],
        ..Counters::default()
    });
    let second = next().await;
    let sample = second.samples["orders"];
    // It is half a second to one and a half after the first.
    assert!((30.0..=100.0).contains(&sample.received.unwrap()), "{sample:?}");
    assert!((19.8..20.2).contains(&sample.latency_p99_ms.unwrap()), "{sample:?}");
    assert_eq!(second.status.modules[0].received, 50);
    let third = next().await;
    assert!((third.time.fract() - 0.5).abs() < 0.4, "{}", third.time);
    assert_eq!(third.samples["orders"].latency_p99_ms, None, "none was settled since");
    following.abort();

    let marks = history.marks_after(0);
    assert_eq!(marks.len(), 1);
    assert_eq!(history.marks_after(marks[0].id), []);
    // Another client gets the newest one at once.
    let mut samples = history.samples();
    samples.changed().await.unwrap();
    assert_eq!(samples.borrow().as_ref().unwrap().time, third.time);
}
