//! A real Prometheus scrapes two relays with standby. Every expression of the dashboard and the alert rules has an answer,
//! and none is NaN.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use slipring_support::eventually;
use slipring_support::process::Process;
use slipring_support::servers::{free_port, installed};
use tempfile::TempDir;

use super::world::{SOON, World, module};

/// The folder with the dashboard and the alert rules.
fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating/prometheus")
}

fn promtool() -> Result<Command> {
    let mut command = Command::new(installed("prometheus/usr/bin/promtool")?);
    command.current_dir(files());
    Ok(command)
}

struct Prometheus {
    /// Declared before the directory, because it must be dropped first.
    _process: Process,
    _dir: TempDir,
    url: String,
    http: reqwest::Client,
}

impl Prometheus {
    /// Starts one that scrapes these relays each second.
    async fn start(relays: &[&str]) -> Result<Self> {
        let dir = TempDir::with_prefix("slipring-prometheus-")?;
        let targets: Vec<&str> = relays.iter().map(|url| url.trim_start_matches("http://")).collect();
        let config = dir.path().join("prometheus.yml");
        let rules = files().join("alerts.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{rules:?}]\nscrape_configs:\n- \
             job_name: slipring\n  static_configs: [{{ targets: {targets:?} }}]\n"
        );
        std::fs::write(&config, text)?;
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(installed("prometheus/usr/bin/prometheus")?);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        let mut process = Process::spawn("prometheus", &mut command)?;
        process
            .line(SOON, "readiness", |line| line.contains("Server is ready"))
            .await?;
        Ok(Self {
            _process: process,
            _dir: dir,
            url: format!("http://{address}"),
            http: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    /// Returns the values that Prometheus finds for an expression.
    async fn query(&self, expression: &str) -> Result<Vec<String>> {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/query", self.url), [("query", expression)])?;
        let reply: Value = serde_json::from_slice(&self.http.get(url).send().await?.bytes().await?)?;
        ensure!(reply["status"] == "success", "{expression}: {reply}");
        let samples = reply["data"]["result"].as_array().context("a list of samples")?;
        let values = samples.iter().filter_map(|sample| sample["value"][1].as_str());
        Ok(values.map(str::to_owned).collect())
    }
}

fn dashboard() -> Result<Vec<String>> {
    let text = std::fs::read_to_string(files().join("dashboard.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions = targets.filter_map(|target| target["expr"].as_str());
    // Grafana puts these in.
    let put_in = |expression: &str| expression.replace("$module", ".*").replace("$__rate_interval", "30s");
    Ok(expressions.map(put_in).collect())
}

fn alerts() -> Result<Vec<String>> {
    let text = std::fs::read_to_string(files().join("alerts.yml"))?;
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    Ok(lines.map(str::to_owned).collect())
}

/// Runs promtool with this input, and returns what it printed.
fn check(arguments: &[&str], input: &str) -> Result<String> {
    let mut command = promtool()?;
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("running promtool")?;
    child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(output.status.success(), "promtool {arguments:?}: {said}");
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: make test-metrics"]
async fn dashboard_and_alerts_are_answered() -> Result<()> {
    check(&["check", "rules", "alerts.yml"], "")?;
    check(&["test", "rules", "alerts.test.yml"], "")?;

    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    world.home.configure_more("[standby]\nenabled = true")?;
    let active = world.run().await?;
    world.publish([("unruly.ok", "0")]).await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    let other = world.run().await?;
    let stands_by = |status: &Value| module(status, "unruly")["state"] == "standby";
    other.status_when(SOON, "the other to stand by", stands_by).await?;
    for relay in [&active, &other] {
        let said = check(&["check", "metrics"], &relay.metrics().await?)?;
        ensure!(said.trim().is_empty(), "promtool complains: {said}");
    }

    let prometheus = Prometheus::start(&[active.url(), other.url()]).await?;
    let (dashboard, alerts) = (dashboard()?, alerts()?);
    ensure!(dashboard.len() > 25 && alerts.len() > 10, "{dashboard:?} {alerts:?}");
    let mut number = 0;
    for expression in &dashboard {
        let answered = async || -> Result<Vec<String>> {
            number += 1;
            world.publish([("unruly.ok", number.to_string())]).await?;
            let values = prometheus.query(expression).await?;
            ensure!(!values.is_empty(), "{expression} has no answer");
            ensure!(!values.iter().any(|value| value == "NaN"), "{expression} is {values:?}");
            Ok(values)
        };
        let values = eventually(SOON, format!("an answer to {expression}"), answered).await?;
        println!("{expression} = {}", values.join(", "));
    }
    for expression in &alerts {
        let values = prometheus.query(expression).await?;
        ensure!(values.is_empty(), "{expression} fires: {values:?}");
        println!("{expression} does not fire");
    }
    // It fires when it should.
    drop(active);
    drop(other);
    let fires = async || {
        let values = prometheus.query("up{job=\"slipring\"} == 0").await?;
        ensure!(values.len() == 2, "{values:?}");
        Ok(())
    };
    eventually(Duration::from_secs(30), "both to be down", fires).await
}
