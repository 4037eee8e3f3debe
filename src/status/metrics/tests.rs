use std::collections::BTreeSet;
use std::time::Duration;

use slipring_core::pipeline::Counters;

use super::super::progress::Consumer;
use super::*;

#[test]
fn names_units_and_meanings() {
    let memory = Memory::new(256 << 20);
    let account = memory.open();
    account.hold(5_000, 0);
    let metrics = Metrics::with_memory(memory);
    let orders = metrics.module("orders");
    orders.set_sha256(Some("abc"));
    orders.count(&Counters {
        received: 1,
        rejected_in_publish: 1,
        ..Counters::default()
    });
    orders.window(3, 1_000);
    orders.transformed(Duration::from_micros(3));
    let text = metrics.encode(Format::OpenMetrics);
    let is_own = |line: &&str| !line.contains("process_");
    let own: Vec<&str> = text.lines().filter(is_own).collect();
    insta::assert_snapshot!(own.join("\n"));
}

#[test]
fn each_metric_has_a_row_in_the_reference() {
    let metrics = Metrics::with_memory(Memory::new(256 << 20));
    let orders = metrics.module("orders");
    orders.set_sha256(Some("abc"));
    orders.progress().answered(Instant::now(), Consumer::default());
    orders.swapped();
    let text = metrics.encode(Format::OpenMetrics);
    let mut encoded = BTreeSet::new();
    let mut family = None;
    for line in text.lines() {
        if let Some(name_and_type) = line.strip_prefix("# TYPE ") {
            family = name_and_type.split_once(' ');
        } else if line.starts_with("slipring_") || line.starts_with("process_") {
            // The first sample of a family shows its labels.
            let Some((name, of_type)) = family.take() else { continue };
            let total = if of_type == "counter" { "_total" } else { "" };
            encoded.insert(format!("| `{name}{total}` | {of_type} | {} |", labels(line)));
        }
    }
    let page = include_str!("../../../docs/reference/metrics.md");
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `slipring_") || line.starts_with("| `process_"));
    let first_cells = |row: &str| row.split_inclusive('|').take(4).collect::<String>();
    assert_eq!(rows.map(first_cells).collect::<BTreeSet<_>>(), encoded);
}

#[test]
fn dashboard_and_alerts_use_only_metrics_that_exist() {
    let metrics = Metrics::with_memory(Memory::new(256 << 20));
    let orders = metrics.module("orders");
    orders.progress().answered(Instant::now(), Consumer::default());
    orders.swapped();
    let text = metrics.encode(Format::Text);
    for file in [
        include_str!("../../../docs/operating/prometheus/dashboard.json"),
        include_str!("../../../docs/operating/prometheus/alerts.yml"),
    ] {
        let is_name = |character: char| character.is_ascii_lowercase() || character == '_';
        let names = file.match_indices("slipring_").map(|(at, _)| {
            let rest = &file[at..];
            &rest[..rest.find(|character| !is_name(character)).unwrap_or(rest.len())]
        });
        let names: BTreeSet<&str> = names.collect();
        assert!(names.len() > 10);
        for name in names {
            let has = |end: &str| text.contains(&format!("\n{name}{end}"));
            assert!(has("{") || has(" "), "{name}");
        }
    }
}

/// Returns the names of a sample's labels, as the reference writes them.
fn labels(sample: &str) -> String {
    let labels = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let Some((labels, _)) = labels else {
        return "none".to_owned();
    };
    let names = labels.split(',').filter_map(|label| label.split_once('='));
    names
        .map(|(name, _)| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn a_handle_is_the_modules_own_until_it_is_removed() {
    let metrics = Metrics::new();
    let one = Counters {
        received: 1,
        ..Counters::default()
    };
    metrics.module("b").count(&one);
    metrics.module("a").count(&one);
    metrics.module("b").count(&one);
    let of = |module: &str| {
        let start = format!("slipring_messages_received_total{{module=\"{module}\"}} ");
        metrics
            .encode(Format::OpenMetrics)
            .lines()
            .find_map(|line| line.strip_prefix(&start).map(str::to_owned))
    };
    assert_eq!((of("a").as_deref(), of("b").as_deref()), (Some("1"), Some("2")));
    let held = metrics.module("b");
    metrics.remove("b");
    held.count(&one);
    assert!(
        !metrics.encode(Format::OpenMetrics).contains("\"b\""),
        "{}",
        metrics.encode(Format::OpenMetrics)
    );
    metrics.module("b");
    assert_eq!(of("b").as_deref(), Some("0"));
}

#[test]
fn only_the_hash_in_use_is_shown() {
    let metrics = Metrics::new();
    let orders = metrics.module("orders");
    assert!(!metrics.encode(Format::OpenMetrics).contains("module_info{"));
    orders.set_sha256(Some("abc"));
    orders.set_sha256(Some("def"));
    let text = metrics.encode(Format::OpenMetrics);
    assert!(
        text.contains("slipring_module_info{module=\"orders\",sha256=\"def\"} 1\n"),
        "{text}"
    );
    assert!(!text.contains("abc"), "{text}");
}

#[test]
fn what_is_unknown_is_left_out() {
    let metrics = Metrics::new();
    let orders = metrics.module("orders");
    let has = |name: &str| {
        metrics
            .encode(Format::OpenMetrics)
            .contains(&format!("\n{name}{{module=\"orders\"}} "))
    };
    let known_later = [
        "slipring_lag_messages",
        "slipring_lag_seconds",
        "slipring_stalled_seconds",
        "slipring_consumer_paused",
    ];
    assert_eq!(known_later.map(has), [false; 4]);
    orders.progress().answered(Instant::now(), Consumer::default());
    assert_eq!(known_later.map(has), [true; 4]);
    orders.lag_unknown();
    assert_eq!(known_later.map(has), [false; 4]);
    assert!(!has("slipring_last_swap_timestamp_seconds"));
    orders.swapped();
    assert!(has("slipring_last_swap_timestamp_seconds"));
    assert!(!metrics.encode(Format::OpenMetrics).contains("NaN"));
}

#[test]
fn each_state_has_a_sample() {
    let metrics = Metrics::new();
    metrics.module("orders").set_state(State::Halted);
    let text = metrics.encode(Format::Text);
    for state in State::ALL {
        let value = u8::from(state == State::Halted);
        let sample = format!("slipring_module_state{{module=\"orders\",state=\"{state}\"}} {value}\n");
        assert!(text.contains(&sample), "{sample} in {text}");
    }
}

#[test]
fn a_client_gets_the_format_that_it_accepts() {
    for (accept, format) in [
        ("", Format::Text),
        ("*/*", Format::Text),
        ("text/plain;version=0.0.4", Format::Text),
        ("application/openmetrics-text", Format::OpenMetrics),
        // As Prometheus asks.
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::OpenMetrics,
        ),
        (
            "Application/OpenMetrics-Text; version=0.0.1; charset=utf-8",
            Format::OpenMetrics,
        ),
        ("application/openmetrics-text;q=0, text/plain", Format::Text),
        ("application/openmetrics-text-of-another-kind", Format::Text),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept}");
    }
}

#[test]
fn the_older_format_names_counters_in_full_and_marks_no_end() {
    let open = "# HELP slipring_acks Acks sent.\n# TYPE slipring_acks counter\nslipring_acks_total 1\n\
                # HELP slipring_lag_seconds Age\n# TYPE slipring_lag_seconds gauge\n\
                # UNIT slipring_lag_seconds seconds\nslipring_lag_seconds 2.0\n# EOF\n";
    assert_eq!(
        older(open),
        "# HELP slipring_acks_total Acks sent.\n# TYPE slipring_acks_total counter\nslipring_acks_total 1\n\
         # HELP slipring_lag_seconds Age\n# TYPE slipring_lag_seconds gauge\nslipring_lag_seconds 2.0\n"
    );
}
