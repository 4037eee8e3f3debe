//! Checks that every benchmark works, with numbers so small that its figures mean nothing.

use std::process::Command;

use serde_json::Value;

#[test]
fn every_way_delivers_in_order() {
    let (report, said) = bench(&["throughput"]);
    let runs = report["throughput"]["runs"].as_array().unwrap();
    for way in [
        "slipring-http",
        "slipring-grpc",
        "slipring-keys-http",
        "slipring-keys-grpc",
        "centrifugo",
        "centrifugo-again",
        "ceiling-http",
        "ceiling-grpc",
    ] {
        for delay_ms in [0, 5] {
            let run = runs.iter().find(|run| run["way"] == way && run["delay_ms"] == delay_ms);
            let run = run.unwrap_or_else(|| panic!("{way} at {delay_ms} ms is missing: {runs:?}"));
            assert_eq!(
                run["arrived"]["publications"], report["throughput"]["messages"],
                "{run}"
            );
            assert!(run["messages_per_second"].as_f64().unwrap() > 0.0, "{run}");
        }
    }
    assert!(said.contains("| Centrifugo's own consumer"), "{said}");
}

#[test]
fn a_cluster_is_drained_in_each_way() {
    let (report, said) = bench(&["cluster"]);
    assert_eq!(report["cluster"]["nodes"], 3, "{report}");
    let runs = report["cluster"]["runs"].as_array().unwrap();
    let ways: Vec<&str> = runs.iter().map(|run| run["way"].as_str().unwrap()).collect();
    assert_eq!(
        ways,
        ["slipring-http", "slipring-grpc", "centrifugo", "centrifugo-again"]
    );
    for run in runs {
        assert_eq!(run["arrived"]["publications"], report["cluster"]["messages"], "{run}");
    }
    assert!(said.contains("3 replicas on 3 servers"), "{said}");
}

#[test]
fn the_relay_gets_a_core_of_its_own() {
    let (report, said) = bench(&["throughput", "--own-core", "--only", "slipring-http", "--delays", "0"]);
    assert_eq!(report["throughput"]["own_core"], true, "{report}");
    assert!(said.contains("a processor core of its own"), "{said}");
}

#[test]
fn latency_is_measured_in_each_way() {
    let (report, said) = bench(&["latency"]);
    let runs = report["latency"]["runs"].as_array().unwrap();
    for way in ["slipring-http", "slipring-grpc", "centrifugo", "centrifugo-again"] {
        for rate in [100, 1_000] {
            let run = runs.iter().find(|run| run["way"] == way && run["rate"] == rate);
            let run = run.unwrap_or_else(|| panic!("{way} at {rate}/s is missing: {runs:?}"));
            assert_eq!(run["messages"], rate / 2, "{run}");
            let times = ["p50", "p99", "p999", "max"].map(|time| run[time].as_u64().unwrap());
            assert!(times[0] > 0 && times.is_sorted(), "{run}");
        }
    }
    assert!(said.contains("| Centrifugo's own consumer"), "{said}");
}

#[test]
fn a_swap_is_seen_by_a_subscriber() {
    let (report, said) = bench(&["swap"]);
    let swaps = report["swap"]["swaps"].as_array().unwrap();
    assert_eq!(swaps.len(), 2, "{swaps:?}");
    for swap in swaps {
        for window in [&swap["with"], &swap["without"]] {
            assert!(window["messages"].as_u64().unwrap() > 100, "{swap}");
            assert!(window["longest_gap"].as_u64().unwrap() > 0, "{swap}");
        }
    }
    assert!(said.contains("| longest gap between receipts"), "{said}");
}

#[test]
fn throughput_is_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("throughput.svg");
    bench(&["throughput", "--only", "ceiling-http", "--plot", file.to_str().unwrap()]);
    let svg = std::fs::read_to_string(&file).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    assert_eq!(svg.matches("<rect class=\"ceiling\"").count(), 2, "{svg}");
}

#[test]
fn each_series_of_growth_is_measured() {
    let (report, said) = bench(&["growth"]);
    let runs = report["growth"]["runs"].as_array().unwrap();
    for series in ["modules", "work", "channels", "size", "window", "workers"] {
        assert!(runs.iter().any(|run| run["series"] == series), "{series}: {runs:?}");
    }
    for run in runs {
        assert_eq!(run["drained"], true, "{run}");
        assert!(
            run["used"]["slipring"]["peak_memory"].as_u64().unwrap() > 1 << 20,
            "{run}"
        );
    }
    assert_eq!(report["growth"]["idle"][0]["modules"], 3, "{said}");
    let starts = report["growth"]["start"].as_array().unwrap();
    assert_eq!(starts.len(), 2, "{said}");
    for start in starts {
        assert!(
            start["first_seconds"].as_f64() <= start["all_seconds"].as_f64(),
            "{start}"
        );
    }
    assert!(said.contains("| modules at rest"), "{said}");
}

#[test]
fn what_is_new_comes_through_behind_a_backlog() {
    let (report, said) = bench(&["behind"]);
    let behind = &report["behind"];
    let messages = behind["messages"].as_u64().unwrap();
    let runs = behind["runs"].as_array().unwrap();
    let of = |way: &str| runs.iter().find(|run| run["way"] == way);

    let every = of("every").unwrap();
    assert_eq!(every["publications"], messages, "{every}");
    assert!(every["last_newest_seconds"].as_f64().unwrap() > 0.0, "{every}");

    let max_age = of("max-age").unwrap();
    assert_eq!(max_age["publications"], 0, "{max_age}");
    assert_eq!(max_age["acknowledged"], messages, "{max_age}");

    let conflate = of("conflate").unwrap();
    assert!(conflate["publications"].as_u64().unwrap() <= messages, "{conflate}");
    assert_eq!(conflate["acknowledged"], messages, "{conflate}");

    for run in runs {
        assert!(run["live_seconds"].as_f64().unwrap() > 0.0, "{run}");
    }
    assert!(said.contains("| every message"), "{said}");
}

#[test]
fn each_setting_is_measured() {
    let (report, said) = bench(&["tuning", "--delays", "0"]);
    let runs = report["tuning"]["runs"].as_array().unwrap();
    let cases: Vec<&str> = runs.iter().map(|run| run["way"].as_str().unwrap()).collect();
    let expected = [
        "base",
        "base-again",
        "http",
        "no-keys",
        "history",
        "histograms",
        "gogc",
        "all",
        "window",
        "flight-2",
        "flight-3",
        "batched",
        "batched-window",
    ];
    assert_eq!(cases, expected);
    for run in runs {
        assert!(run["messages_per_second"].as_f64().unwrap() > 0.0, "{run}");
    }
    assert!(said.contains("| `GOGC=400` for Centrifugo"), "{said}");
}

#[test]
fn redis_is_drained_in_each_way() {
    let (report, said) = bench(&["redis"]);
    let runs = report["redis"]["runs"].as_array().unwrap();
    for way in [
        "list-http",
        "list-grpc",
        "stream-http",
        "stream-grpc",
        "jetstream-http",
        "centrifugo",
    ] {
        for delay_ms in [0, 5] {
            let run = runs.iter().find(|run| run["way"] == way && run["delay_ms"] == delay_ms);
            let run = run.unwrap_or_else(|| panic!("{way} at {delay_ms} ms is missing: {runs:?}"));
            assert!(run["messages_per_second"].as_f64().unwrap() > 0.0, "{run}");
        }
    }
    assert!(said.contains("| slipring, list, HTTP"), "{said}");
}

#[test]
fn two_builds_are_compared_in_pairs() {
    let relay = std::path::Path::new(env!("CARGO_BIN_EXE_slipring-bench")).with_file_name("slipring");
    let against = relay.to_str().unwrap();
    let (report, said) = bench(&[
        "pairs",
        "--only",
        "slipring-grpc",
        "--rounds",
        "2",
        "--against",
        against,
    ]);
    let runs = report["pairs"]["runs"].as_array().unwrap();
    for round in [1, 2] {
        for build in ["first", "second", "first again"] {
            let run = runs.iter().find(|run| run["round"] == round && run["build"] == build);
            let run = run.unwrap_or_else(|| panic!("{build} of round {round} is missing: {runs:?}"));
            assert!(run["relay_seconds"].as_f64().unwrap() > 0.0, "{run}");
            assert!(run["servers_seconds"].as_f64().unwrap() > 0.0, "{run}");
        }
    }
    assert!(
        said.contains(" second : first |") && said.contains(" first again : first |"),
        "{said}"
    );
}

/// Returns the report of a smoke run, as JSON and in words.
fn bench(arguments: &[&str]) -> (Value, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bench.json");
    let output = Command::new(env!("CARGO_BIN_EXE_slipring-bench"))
        .args(arguments)
        .args(["--smoke", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    let report = std::fs::read_to_string(&file).unwrap();
    (serde_json::from_str(&report).unwrap(), said.into_owned())
}
