//! Whether every benchmark still works, with numbers so small that its figures mean nothing.

use std::process::Command;

use serde_json::Value;

/// What a benchmark reports, and what it says.
fn smoke(bench: &str) -> (Value, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bench.json");
    let output = Command::new(env!("CARGO_BIN_EXE_slipring-bench"))
        .args([bench, "--smoke", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    let report = std::fs::read_to_string(&file).unwrap();
    (serde_json::from_str(&report).unwrap(), said)
}

#[test]
fn every_way_delivers_in_order() {
    let (report, said) = smoke("throughput");
    let runs = report["throughput"]["runs"].as_array().unwrap();
    for way in [
        "slipring-http",
        "slipring-keys-http",
        "centrifugo",
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
fn each_series_of_growth_is_measured() {
    let (report, said) = smoke("growth");
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
    let (report, said) = smoke("behind");
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

    // Until the relay can conflate, this way is left out, and says so.
    match of("conflate") {
        Some(conflate) => assert!(conflate["publications"].as_u64().unwrap() <= messages, "{conflate}"),
        None => assert_eq!(behind["skipped"][0]["way"], "conflate", "{behind}"),
    }
    for run in runs {
        assert!(run["live_seconds"].as_f64().unwrap() > 0.0, "{run}");
    }
    assert!(said.contains("| every message"), "{said}");
}
