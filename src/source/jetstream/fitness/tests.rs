use std::time::Duration;

use async_nats::jetstream::consumer::PriorityPolicy;
use async_nats::jetstream::stream::Source;
use insta::assert_snapshot;

use super::*;

fn module() -> ModuleConfig {
    ModuleConfig::new("orders", "ORDERS")
}

fn stream() -> stream::Config {
    stream::Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        num_replicas: 1,
        ..Default::default()
    }
}

/// Returns a consumer as the relay creates it.
fn consumer() -> consumer::Config {
    consumer::Config {
        durable_name: Some("slipring-orders".to_owned()),
        deliver_policy: DeliverPolicy::New,
        ack_policy: AckPolicy::Explicit,
        max_deliver: -1,
        max_waiting: 512,
        ..Default::default()
    }
}

fn now() -> Timestamp {
    "2026-11-28T12:00:00Z".parse().unwrap()
}

fn look(module: &ModuleConfig, stream: &stream::Config, consumer: Option<&consumer::Config>) -> Fitness {
    let settings = Settings {
        stream,
        consumer,
        account_max_ack_pending: None,
        resumes: false,
    };
    Fitness::of(module, settings, now())
}

/// Returns all messages, one per line.
fn said(fitness: &Fitness) -> String {
    let refusals = fitness.refusals.iter().map(|error| format!("refused: {error}"));
    let warnings = fitness.warnings.iter().map(|text| format!("warned: {text}"));
    let notes = fitness.notes.iter().map(|text| format!("noted: {text}"));
    let mut lines: Vec<String> = refusals.chain(warnings).chain(notes).collect();
    if lines.is_empty() {
        lines.push("good".to_owned());
    }
    lines.join("\n")
}

fn of_consumer(change: impl FnOnce(&mut consumer::Config)) -> String {
    let mut consumer = consumer();
    change(&mut consumer);
    said(&look(&module(), &stream(), Some(&consumer)))
}

fn of_stream(deliver: Deliver, change: impl FnOnce(&mut stream::Config)) -> String {
    let module = ModuleConfig { deliver, ..module() };
    let mut stream = stream();
    change(&mut stream);
    said(&look(&module, &stream, None))
}

#[test]
fn what_the_relay_makes_itself_is_good() {
    assert_eq!(of_consumer(|_| {}), "good");
    assert_eq!(of_stream(Deliver::New, |_| {}), "good");
}

#[test]
fn what_the_relay_sets_itself_is_good_whatever_it_is() {
    type Change = fn(&mut consumer::Config);
    let changes: [Change; 7] = [
        |consumer| consumer.inactive_threshold = Duration::from_secs(60),
        |consumer| consumer.max_ack_pending = 5,
        |consumer| consumer.max_ack_pending = -1,
        |consumer| consumer.ack_wait = Duration::from_secs(1),
        |consumer| consumer.filter_subject = "orders.1".to_owned(),
        // A server's `max_request_batch` puts it into every consumer.
        |consumer| consumer.max_batch = 100,
        |consumer| consumer.sample_frequency = 100,
    ];
    for change in changes {
        assert_eq!(of_consumer(change), "good");
    }
}

#[test]
fn every_flaw_of_a_consumer_is_named() {
    let said = of_consumer(|consumer| {
        *consumer = consumer::Config {
            deliver_subject: Some("a".to_owned()),
            durable_name: None,
            deliver_policy: DeliverPolicy::LastPerSubject,
            ack_policy: AckPolicy::All,
            max_deliver: 5,
            backoff: vec![Duration::from_secs(1)],
            replay_policy: ReplayPolicy::Original,
            max_waiting: 2,
            headers_only: true,
            max_bytes: 7,
            max_expires: Duration::from_secs(1),
            memory_storage: true,
            priority_policy: PriorityPolicy::Overflow,
            priority_groups: vec!["a".to_owned()],
            ..consumer.clone()
        }
    });
    let flaws = said.lines().next().unwrap_or_default();
    for key in [
        "deliver_subject",
        "durable_name",
        "deliver_policy is last_per_subject",
        "ack_policy is all",
        "max_deliver is 5",
        "backoff",
        "replay_policy is original",
        "max_waiting is 2, and must be at least 12, the number of pulls that the relay may have open",
        "headers_only",
        "max_bytes is 7",
        "max_expires",
        "mem_storage",
        "priority_policy",
    ] {
        assert!(flaws.contains(key), "{key} is named in {flaws}");
    }
    assert!(
        flaws.starts_with("refused: the consumer `slipring-orders` of the stream `ORDERS` already exists"),
        "{flaws}"
    );
}

#[test]
fn a_consumer_that_the_server_forgets_is_refused_where_that_loses_messages() {
    let hour = |stream: &mut stream::Config| {
        stream.consumer_limits = Some(ConsumerLimits {
            inactive_threshold: Duration::from_secs(3_600),
            max_ack_pending: 0,
        });
    };
    let told = [
        of_stream(Deliver::New, hour),
        of_stream(Deliver::All, hour),
        of_stream(Deliver::All, |stream| {
            hour(stream);
            stream.retention = RetentionPolicy::Interest;
        }),
        of_stream(Deliver::All, |stream| {
            hour(stream);
            stream.retention = RetentionPolicy::WorkQueue;
        }),
    ];
    assert_snapshot!(told.join("\n"), @r#"
    refused: the stream `ORDERS` has `consumer_limits.inactive_threshold` = 1h: the server deletes the consumer `slipring-orders` when no relay has read from it for that long, and messages stored before a relay reads again would be lost; remove that limit from the stream, or set `deliver = "all"` in the module's .toml
    warned: the stream `ORDERS` has `consumer_limits.inactive_threshold` = 1h: the server deletes the consumer `slipring-orders` when no relay has read from it for that long, and the next relay publishes everything from the position in `deliver` a second time; remove that limit from the stream
    refused: the stream `ORDERS` has `consumer_limits.inactive_threshold` = 1h: the server deletes the consumer `slipring-orders` when no relay has read from it for that long, and messages stored before a relay reads again would be lost; remove that limit from the stream
    good
    "#);
    let in_memory = |deliver: Deliver, replicas: usize, storage: StorageType| {
        let module = ModuleConfig { deliver, ..module() };
        let stream = stream::Config {
            num_replicas: replicas,
            storage,
            ..stream()
        };
        let consumer = consumer::Config {
            deliver_policy: super::super::settings::deliver_policy(deliver),
            memory_storage: true,
            ..consumer()
        };
        said(&look(&module, &stream, Some(&consumer)))
    };
    let told = [
        in_memory(Deliver::New, 1, StorageType::File),
        in_memory(Deliver::New, 3, StorageType::File),
        in_memory(Deliver::All, 1, StorageType::File),
        in_memory(Deliver::New, 1, StorageType::Memory),
    ];
    assert_snapshot!(told.join("\n"), @r#"
    refused: the consumer `slipring-orders` of the stream `ORDERS` already exists with settings that would break ordering or delivery: mem_storage is set, so a restart of the server would lose the module's position, and with it messages; delete it, or name another with `consumer` in the module's .toml
    warned: the consumer `slipring-orders` of the stream `ORDERS` is kept in memory (`mem_storage`): when its servers restart, the module's position is lost, and messages would be lost; delete it, and the relay creates one on disk
    warned: the consumer `slipring-orders` of the stream `ORDERS` is kept in memory (`mem_storage`): when its servers restart, the module's position is lost, and everything from the position in `deliver` on would be published again; delete it, and the relay creates one on disk
    good
    "#);
}

#[test]
fn a_smaller_limit_than_the_window_is_noted_with_the_key_of_the_smallest() {
    let limited = |of_stream: i64, of_account: i64| {
        let mut stream = stream();
        stream.consumer_limits = Some(ConsumerLimits {
            inactive_threshold: Duration::ZERO,
            max_ack_pending: of_stream,
        });
        let settings = Settings {
            stream: &stream,
            consumer: None,
            account_max_ack_pending: Some(of_account),
            resumes: false,
        };
        let fitness = Fitness::of(&module(), settings, now());
        (max_ack_pending(&module(), &stream), said(&fitness))
    };
    assert_eq!(limited(0, 0), (4_096, "good".to_owned()));
    assert_eq!(limited(-1, -1), (4_096, "good".to_owned()));
    assert_eq!(limited(4_096, 5_000), (4_096, "good".to_owned()));
    let (of_stream, told) = limited(1_000, 2_000);
    assert_eq!(of_stream, 1_000);
    assert_snapshot!([told, limited(1_000, 500).1].join("\n"), @r#"
    noted: the stream `ORDERS` allows a consumer 1000 unacknowledged messages (`consumer_limits.max_ack_pending`), but the module's `window` is 4096: it reads only 1000 ahead; set `window = 1000`, or raise that limit
    noted: the account allows a consumer 500 unacknowledged messages (`max_ack_pending`), but the module's `window` is 4096: it reads only 500 ahead; set `window = 500`, or raise that limit
    "#);
}

#[test]
fn what_else_is_said() {
    let paused = |until: &str| {
        let until: Timestamp = until.parse().unwrap();
        of_consumer(|consumer| {
            consumer.pause_until = OffsetDateTime::from_unix_timestamp_nanos(until.as_nanosecond()).ok();
        })
    };
    let few_replicas = {
        let stream = stream::Config {
            num_replicas: 3,
            ..stream()
        };
        let consumer = consumer::Config {
            num_replicas: 1,
            ..consumer()
        };
        said(&look(&module(), &stream, Some(&consumer)))
    };
    let told = [
        paused("2026-11-28T13:00:00Z"),
        paused("2026-11-28T11:00:00Z"),
        few_replicas,
        of_consumer(|consumer| consumer.deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: 7 }),
        of_stream(Deliver::New, |stream| stream.retention = RetentionPolicy::WorkQueue),
        of_stream(Deliver::All, |stream| stream.retention = RetentionPolicy::WorkQueue),
    ];
    assert_snapshot!(told.join("\n"), @r#"
    refused: the consumer `slipring-orders` of the stream `ORDERS` is paused until 2026-11-28T13:00:00Z (`pause_until`); to resume it, run `nats consumer resume ORDERS slipring-orders`
    good
    warned: the consumer `slipring-orders` of the stream `ORDERS` has `num_replicas` = 1, but its stream has 3: if the consumer's servers are lost, so is the module's position; set its `num_replicas` to 0, which means as many as the stream has
    noted: the consumer `slipring-orders` of the stream `ORDERS` already exists, was created to deliver messages from the sequence 7 on, and continues at its position: `deliver` in the module's .toml only applies to a new consumer; to start over, delete it, or name another with `consumer`
    refused: the stream `ORDERS` is a work queue, which can only be read from its beginning; set `deliver = "all"` in the module's .toml
    good
    "#);
}

#[test]
fn a_subject_comes_if_the_stream_or_its_transform_or_another_stream_may_bring_it() {
    let transformed = |destination: &str| {
        let mut stream = stream();
        stream.subjects = vec!["in.*".to_owned()];
        stream.subject_transform = Some(SubjectTransform {
            source: "in.*".to_owned(),
            destination: destination.to_owned(),
        });
        stream
    };
    for (destination, wanted, expected) in [
        ("orders.{{wildcard(1)}}", "orders.>", Comes::Maybe),
        ("orders.$1", "orders.*", Comes::Maybe),
        ("orders.$1", "in.1", Comes::Maybe),
        ("orders.{{split(1,-)}}", "orders.a.b.c", Comes::Maybe),
        ("orders.{{SplitFromLeft(1,2)}}.x", "orders.a.b", Comes::Maybe),
        ("{{partition(3,1)}}.{{wildcard(1)}}", "2.a", Comes::Maybe),
        ("", "anything", Comes::Maybe),
        ("orders.{{wildcard(1)}}", "invoices.>", Comes::Hardly),
        ("orders.$1", "orders.a.b", Comes::Hardly),
    ] {
        assert_eq!(
            comes(&transformed(destination), wanted),
            expected,
            "{destination} and {wanted}"
        );
    }
    assert_eq!(comes(&stream(), "orders.1"), Comes::Maybe);
    assert_eq!(comes(&stream(), "invoices.1"), Comes::Never);
    for other in [
        stream::Config {
            mirror: Some(Source::default()),
            subjects: Vec::new(),
            ..stream()
        },
        stream::Config {
            sources: Some(vec![Source::default()]),
            ..stream()
        },
    ] {
        assert_eq!(comes(&other, "invoices.1"), Comes::Maybe);
    }
}

#[test]
fn patterns_overlap_when_one_subject_matches_both() {
    for (left, right, expected) in [
        ("orders.>", "orders.1", true),
        ("orders.1", "orders.>", true),
        ("orders.*", "orders.1", true),
        ("orders.*.created", "orders.1.*", true),
        (">", "anything.at.all", true),
        ("orders.>", "orders", false),
        ("orders.*", "orders.1.2", false),
        ("orders.1", "invoices.1", false),
    ] {
        assert_eq!(overlap(left, right), expected, "{left} and {right}");
    }
}

/// The manual's table has every key of the server.
#[test]
fn each_setting_is_in_the_manual() {
    let page = include_str!("../../../../docs/streams.md");
    // As nats-server 2.15.2 spells them: StreamConfig, ConsumerConfig, JetStreamAccountLimits and the server's limits.
    let keys = [
        "subjects",
        "retention",
        "max_consumers",
        "max_msgs",
        "max_bytes",
        "max_age",
        "max_msgs_per_subject",
        "max_msg_size",
        "discard",
        "discard_new_per_subject",
        "storage",
        "num_replicas",
        "no_ack",
        "duplicate_window",
        "placement",
        "mirror",
        "sources",
        "compression",
        "first_seq",
        "subject_transform",
        "republish",
        "allow_direct",
        "mirror_direct",
        "sealed",
        "deny_delete",
        "deny_purge",
        "allow_rollup_hdrs",
        "consumer_limits.inactive_threshold",
        "consumer_limits.max_ack_pending",
        "allow_msg_ttl",
        "subject_delete_marker_ttl",
        "allow_msg_counter",
        "allow_atomic",
        "allow_batched",
        "allow_msg_schedules",
        "persist_mode",
        "metadata",
        "description",
        "durable_name",
        "deliver_policy",
        "opt_start_seq",
        "opt_start_time",
        "ack_policy",
        "ack_wait",
        "max_deliver",
        "backoff",
        "filter_subject",
        "filter_subjects",
        "replay_policy",
        "rate_limit_bps",
        "sample_freq",
        "max_waiting",
        "max_ack_pending",
        "flow_control",
        "headers_only",
        "max_batch",
        "max_expires",
        "deliver_subject",
        "deliver_group",
        "idle_heartbeat",
        "inactive_threshold",
        "mem_storage",
        "direct",
        "sourcing",
        "pause_until",
        "priority_groups",
        "priority_policy",
        "priority_timeout",
        "max_request_batch",
    ];
    for key in keys {
        assert!(page.contains(&format!("`{key}`")), "`{key}` is in docs/streams.md");
    }
}
