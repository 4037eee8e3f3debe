//! Variables that begin with `SLIPRING_` but set nothing are refused or get a warning.

use std::ffi::OsString;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use slipring_support::guests;

use super::super::world::binary;
use super::{exits, stderr};

fn check_with(variables: &[(&str, OsString)]) -> Result<Output> {
    let dir = tempfile::tempdir()?;
    let modules = dir.path().join("modules");
    std::fs::create_dir(&modules)?;
    std::fs::copy(guests::component("orders")?, modules.join("orders.wasm"))?;
    std::fs::write(modules.join("orders.toml"), "stream = \"ORDERS\"\n")?;
    let mut command = Command::new(binary());
    command.arg("check").current_dir(dir.path()).env("NO_COLOR", "1");
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.output().context("running slipring")
}

#[test]
fn one_that_looks_like_a_key_s_is_refused() -> Result<()> {
    for (name, meant) in [
        ("SLIPRING_NATS_SERVERS", "SLIPRING_NATS__SERVERS"),
        ("SLIPRING_NATS__SERVER", "SLIPRING_NATS__SERVERS"),
        ("slipring.nats.servers", "SLIPRING_NATS__SERVERS"),
        ("SLIPRING_LOG_LEVEL", "SLIPRING_LOG"),
    ] {
        let output = check_with(&[(name, "nats://10.0.0.7:4222".into())])?;
        exits(&output, 78)?;
        let expected = format!("{name}: this variable matches no key; did you mean `{meant}`?\n");
        ensure!(stderr(&output) == expected, "{}", stderr(&output));
    }
    Ok(())
}

#[test]
fn another_is_told_unless_kubernetes_sets_it() -> Result<()> {
    let of_kubernetes = [
        ("SLIPRING_SERVICE_HOST", "10.96.0.7"),
        ("SLIPRING_SERVICE_PORT_HTTP", "8787"),
        ("SLIPRING_PORT", "tcp://10.96.0.7:8787"),
        ("SLIPRING_PORT_8787_TCP_ADDR", "10.96.0.7"),
        ("SLIPRING_LOG", ""),
    ];
    let mut variables = of_kubernetes
        .map(|(name, value)| (name, OsString::from(value)))
        .to_vec();
    let output = check_with(&variables)?;
    exits(&output, 0)?;
    ensure!(!stderr(&output).contains("variable"), "{}", stderr(&output));

    variables.push(("SLIPRING_VERSION", "1.2".into()));
    let output = check_with(&variables)?;
    exits(&output, 0)?;
    ensure!(
        stderr(&output)
            .contains("WARN unknown variable: it matches no key of the configuration variable=\"SLIPRING_VERSION\""),
        "{}",
        stderr(&output)
    );
    ensure!(stderr(&output).matches("variable=").count() == 1, "{}", stderr(&output));
    Ok(())
}

#[cfg(unix)]
#[test]
fn one_that_is_no_text_is_refused() -> Result<()> {
    use std::os::unix::ffi::OsStringExt;
    for name in ["SLIPRING_NATS__TOKEN", "SLIPRING_LOG"] {
        let output = check_with(&[(name, OsString::from_vec(vec![b'a', 0xff]))])?;
        exits(&output, 78)?;
        let expected = format!("{name}: its value is not UTF-8\n");
        ensure!(stderr(&output) == expected, "{}", stderr(&output));
    }
    Ok(())
}
