//! Whether every benchmark still works, with numbers so small that its figures mean nothing.

use std::process::Command;

use serde_json::Value;

#[test]
fn every_way_delivers_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bench.json");
    let output = Command::new(env!("CARGO_BIN_EXE_slipring-bench"))
        .args(["throughput", "--smoke", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");

    let report: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let runs = report["throughput"]["runs"].as_array().unwrap();
    for way in [
        "slipring-http",
        "slipring-grpc",
        "slipring-keys-http",
        "slipring-keys-grpc",
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
