use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;

use super::super::*;

fn module(text: &str) -> Result<ModuleConfig, Problems> {
    parse_module(Path::new("modules/orders.toml"), text)
}

fn module_problems(text: &str) -> String {
    module(text).expect_err("it is wrong").to_string()
}

#[test]
fn a_module_needs_its_stream_only() {
    let orders = module("stream = 'ORDERS'").unwrap();
    assert_eq!(orders, ModuleConfig::new("orders", "ORDERS"));
    assert_eq!(orders.consumer, "slipring-orders");
    assert_eq!(orders.settings, "{}");
    assert_snapshot!(module_problems(""), @r#"
    modules/orders.toml: `stream` is missing; it must be the name of a JetStream stream
    "#);
}

#[test]
fn every_key_of_a_module_is_read() {
    let text = r#"
        stream = "ORDERS"
        subjects = ["orders.*", "refunds.>"]
        deliver = { sequence = 42 }
        consumer = "shop"
        on_reject = "halt"
        timeout = "5ms"
        memory = "1GiB"
        max_age = "30s"
        conflate = true
        version = "sequence"
        max_consecutive_rejects = 0
        window = 65_536
        window_bytes = 65536
        window_age = "90s"
        workers = 4
        sha256 = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"
        probe = 0
        watch = "5m"
        watch_max_rejects = 0
        [settings]
        currency = "EUR"
        since = 2026-11-01
        rates = [0x10, -1.5, 18446744073709551615]
        nested.deep = { yes = true }
    "#;
    let expected = ModuleConfig {
        source: Source::JetStream,
        stream: "ORDERS".to_owned(),
        subjects: vec!["orders.*".to_owned(), "refunds.>".to_owned()],
        deliver: Deliver::Sequence(42),
        consumer: "shop".to_owned(),
        on_reject: OnReject::Halt,
        timeout: Duration::from_millis(5),
        memory: 1 << 30,
        max_age: Some(Duration::from_secs(30)),
        conflate: true,
        version: VersionSource::Sequence,
        max_consecutive_rejects: 0,
        window: 65_536,
        window_bytes: 65_536,
        window_age: Duration::from_secs(90),
        workers: 4,
        sha256: Some("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned()),
        probe: 0,
        watch: Duration::from_secs(300),
        watch_max_rejects: 0,
        settings: r#"{"currency":"EUR","nested":{"deep":{"yes":true}},"rates":[16,-1.5,18446744073709551615],"since":"2026-11-01"}"#
            .to_owned(),
    };
    assert_eq!(module(text), Ok(expected));
}

#[test]
fn deliver_has_four_forms() {
    let deliver = |written: &str| module(&format!("stream = 'S'\ndeliver = {written}")).map(|module| module.deliver);
    let since = Deliver::Since("2026-11-01T00:00:00Z".parse().unwrap());
    assert_eq!(deliver("'new'"), Ok(Deliver::New));
    assert_eq!(deliver("'all'"), Ok(Deliver::All));
    assert_eq!(deliver("{ sequence = 1 }"), Ok(Deliver::Sequence(1)));
    assert_eq!(deliver("{ since = '2026-11-01T00:00:00Z' }"), Ok(since));
    assert_eq!(deliver("{ since = 2026-11-01T01:00:00+01:00 }"), Ok(since));
    for wrong in [
        "'last'",
        "{}",
        "{ sequence = 0 }",
        "{ since = 'monday' }",
        "{ since = 2026-11-01 }",
        "7",
        "{ sequence = 1, since = '2026-11-01T00:00:00Z' }",
    ] {
        assert!(deliver(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn all_mistakes_of_a_module_are_reported_at_once() {
    let text = r#"
stream = "ORDERS.EU"
subjects = ["orders.>", "orders.new", "a..b", "refunds", "refunds"]
deliver = "last"
consumer = "slip ring"
on_rejects = "drop"
timeout = "2m"
memory = "64MB"
conflate = "yes"
window = 100000

[settings]
rate = nan
limits = [1, inf]
"#;
    assert_snapshot!(module_problems(text), @r#"
    modules/orders.toml:2:10: `stream` is "ORDERS.EU"; it must be a name of at most 255 characters without spaces, `.`, `*`, `>`, `/` or `\`
    modules/orders.toml:3:39: `subjects` is "a..b"; it must be a subject whose tokens are not empty and contain no spaces, such as "orders.*.created"
    modules/orders.toml:4:11: `deliver` is "last"; it must be "new", "all", { sequence = 42 } or { since = "2026-11-01T00:00:00Z" }
    modules/orders.toml:5:12: `consumer` is "slip ring"; it must be a name of at most 255 characters without spaces, `.`, `*`, `>`, `/` or `\`
    modules/orders.toml:6:1: there is no key `on_rejects`; did you mean `on_reject`?
    modules/orders.toml:7:11: `timeout` is "2m"; it must be a duration from "1ms" to "1m"
    modules/orders.toml:8:10: `memory` is "64MB"; it must be a size from "1MiB" to "4GiB"; did you mean "64MiB"?
    modules/orders.toml:9:12: `conflate` is "yes"; it must be true or false
    modules/orders.toml:10:10: `window` is 100000; it must be a whole number from 1 to 65536
    modules/orders.toml:13:8: `settings.rate` is nan; it must be a finite number: JSON has neither nan nor inf
    modules/orders.toml:14:14: `settings.limits[1]` is inf; it must be a finite number: JSON has neither nan nor inf
    "#);
}

#[test]
fn filters_that_cover_one_another_are_refused() {
    assert_snapshot!(module_problems("stream = 'S'\nsubjects = ['a.>', 'a.*', 'b', 'b']"), @r#"
    modules/orders.toml:2:20: the subject "a.*" is covered by "a.>"; remove one of them
    modules/orders.toml:2:32: the subject "b" is covered by "b"; remove one of them
    "#);
    assert!(module("stream = 'S'\nsubjects = ['a.*', '*.b']").is_ok());
}

#[test]
fn a_module_is_called_after_its_file() {
    let problems = parse_module(Path::new("modules/my orders.v2.toml"), "stream = 5").unwrap_err();
    assert_snapshot!(problems, @r#"
    modules/my orders.v2.toml: the module's name, "my orders.v2", comes from its file; it must be a name of at most 255 characters without spaces, `.`, `*`, `>`, `/` or `\`
    "#);
    assert_eq!(module_name(Path::new("modules/orders.wasm")), Ok("orders"));
}

#[test]
fn what_a_pipeline_reads_and_how_it_runs_is_settled_when_it_starts() {
    let orders = || ModuleConfig::new("orders", "ORDERS");
    assert!(orders().can_follow(&orders()));
    let exchanged = ModuleConfig {
        timeout: Duration::from_secs(7),
        conflate: true,
        settings: r#"{"a":1}"#.to_owned(),
        ..orders()
    };
    assert!(exchanged.can_follow(&orders()));
    let reads = |change: fn(&mut ModuleConfig)| {
        let mut other = orders();
        change(&mut other);
        other.can_follow(&orders())
    };
    assert!(!reads(|config| config.stream = "OTHER".to_owned()));
    assert!(!reads(|config| config.subjects = vec!["orders.>".to_owned()]));
    assert!(!reads(|config| config.deliver = Deliver::All));
    assert!(!reads(|config| config.consumer = "other".to_owned()));
    assert!(!reads(|config| config.window = 7));
    assert!(!reads(|config| config.window_bytes = 7));
    assert!(!reads(|config| config.window_age = Duration::from_secs(7)));
    assert!(!reads(|config| config.workers = 7));
}

#[test]
fn a_table_says_what_is_read() {
    let of = |text: &str| module(&format!("[source]\n{text}")).unwrap();
    let jetstream =
        of("kind = 'jetstream'\nstream = 'ORDERS'\nsubjects = ['orders.>']\nconsumer = 'shop'\ndeliver = 'all'");
    let same = module("stream = 'ORDERS'\nsubjects = ['orders.>']\nconsumer = 'shop'\ndeliver = 'all'").unwrap();
    assert_eq!(jetstream, same);

    let list = of("kind = 'redis-list'\nkey = 'centrifugo.publish'");
    let expected = ModuleConfig {
        source: Source::Redis(RedisSource::List {
            take: End::Left,
            keep: 1_000,
        }),
        deliver: Deliver::All,
        ..ModuleConfig::new("orders", "centrifugo.publish")
    };
    assert_eq!(list, expected);
    let list = of("kind = 'redis-list'\nkey = 'a'\ntake = 'right'\nkeep = 0");
    assert_eq!(
        list.source,
        Source::Redis(RedisSource::List {
            take: End::Right,
            keep: 0,
        })
    );

    let stream = of("kind = 'redis-stream'\nkey = 'events'\ngroup = 'shop'\nfield = 'data'\ndeliver = 'all'");
    let expected = ModuleConfig {
        source: Source::Redis(RedisSource::Stream {
            field: "data".to_owned(),
        }),
        deliver: Deliver::All,
        consumer: "shop".to_owned(),
        ..ModuleConfig::new("orders", "events")
    };
    assert_eq!(stream, expected);
    let since = of("kind = 'redis-stream'\nkey = 'events'\ndeliver = { since = '2026-11-01T00:00:00Z' }");
    assert_eq!(since.deliver, Deliver::Since("2026-11-01T00:00:00Z".parse().unwrap()));
    assert_eq!(since.consumer, "slipring-orders");
}

#[test]
fn what_is_wrong_about_a_source_is_said() {
    let problems = [
        "[source]\nkey = 'a'",
        "[source]\nkind = 'kafka'",
        "[source]\nkind = 'redis-list'",
        "[source]\nkind = 'redis-list'\nkey = ''",
        "[source]\nkind = 'redis-list'\nkey = 'a'\ngroup = 'b'",
        "[source]\nkind = 'redis-list'\nkey = 'a'\nkeeep = 5",
        "[source]\nkind = 'redis-list'\nkey = 'a'\ntake = 'top'",
        "[source]\nkind = 'redis-stream'\nkey = 'a'\ndeliver = { sequence = 5 }",
        "[source]\nkind = 'redis-stream'\nkey = 'a'\nstream = 'b'",
        "stream = 'b'\n[source]\nkind = 'redis-list'\nkey = 'a'",
        "[source]\nkind = 'jetstream'\nkey = 'a'",
        "deliver = 'all'\nkey = 'a'\n[source]\nkind = 'redis-stream'\nkey = 'a'",
        "[source]\nkind = 'redis-list'\nkey = 'a'\nworkers = 2\nsettings = {}",
    ];
    let told: Vec<String> = problems.iter().map(|text| module_problems(text)).collect();
    assert_snapshot!(told.join("\n"));
}

#[test]
fn what_is_wrong_in_deliver_is_told() {
    let told = |deliver: &str| module_problems(&format!("stream = 'S'\ndeliver = {deliver}\n"));
    let told = [
        "{ seq = 4 }",
        "{ from_start = true }",
        "{ sequence = 0 }",
        "{ sequence = 'four' }",
        "{ since = 2026-11-01 }",
        "{ since = '2026-11-01T08:00:00' }",
        "{ since = 'yesterday' }",
        "{ since = 7 }",
        "{ since = '2026-11-01T00:00:00Z', sequence = 4 }",
        "'last'",
    ]
    .map(told);
    assert_snapshot!(told.join("\n"), @r#"
    modules/orders.toml:2:11: there is no key `deliver.seq`; did you mean `sequence`?
    modules/orders.toml:2:11: there is no key `deliver.from_start`; `deliver` can have only `sequence` or `since`
    modules/orders.toml:2:11: `deliver.sequence` is 0; it must be a whole number from 1
    modules/orders.toml:2:11: `deliver.sequence` is "four"; it must be a whole number from 1
    modules/orders.toml:2:11: `deliver.since` is 2026-11-01; it must be a time with its zone, such as "2026-11-01T00:00:00Z"; did you mean "2026-11-01T00:00:00Z"?
    modules/orders.toml:2:11: `deliver.since` is "2026-11-01T08:00:00"; it must be a time with its zone, such as "2026-11-01T00:00:00Z"; did you mean "2026-11-01T08:00:00Z"?
    modules/orders.toml:2:11: `deliver.since` is "yesterday"; it must be a time with its zone, such as "2026-11-01T00:00:00Z"
    modules/orders.toml:2:11: `deliver.since` is 7; it must be a time such as "2026-11-01T00:00:00Z"
    modules/orders.toml:2:11: `deliver` is a table; it must be "new", "all", { sequence = 42 } or { since = "2026-11-01T00:00:00Z" }
    modules/orders.toml:2:11: `deliver` is "last"; it must be "new", "all", { sequence = 42 } or { since = "2026-11-01T00:00:00Z" }
    "#);
}
