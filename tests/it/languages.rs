//! The transform of `orders` in other languages has the same results as the one in Rust. `make test-languages` builds
//! those modules and runs these tests.

mod failures;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slipring_support::guests::{self, LANGUAGES};
use slipring_support::workspace;

use super::world::{World, binary};

/// Compiling an interpreter takes a while on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// The number of messages for the relay, and of channels.
const MESSAGES: u64 = 10_000;
const CHANNELS: u64 = 100;

macro_rules! in_each_language {
    ($($language:ident),+ $(,)?) => {
        $(
            mod $language {
                #[test]
                #[ignore = "needs the modules: make test-languages"]
                fn tries_the_same() -> anyhow::Result<()> {
                    super::tries_the_same(stringify!($language))
                }

                #[tokio::test(flavor = "multi_thread")]
                #[ignore = "needs the modules: make test-languages"]
                async fn publishes_the_same() -> anyhow::Result<()> {
                    super::publishes_the_same(stringify!($language)).await
                }

                #[test]
                #[ignore = "fetches tools: make test-languages"]
                fn says_what_failed_and_where() -> anyhow::Result<()> {
                    super::failures::are_told(stringify!($language))
                }

                #[test]
                #[ignore = "fetches tools: make test-languages"]
                fn begins_with_what_new_makes() -> anyhow::Result<()> {
                    super::begins_with_what_new_makes(stringify!($language))
                }
            }
        )+

        #[test]
        fn no_language_is_forgotten() {
            assert_eq!([$(stringify!($language)),+], LANGUAGES);
        }
    };
}

in_each_language!(js, python, go, c);

/// `slipring try` prints the same: for the samples, for an order larger than any buffer between the relay and a module,
/// and for invalid orders.
fn tries_the_same(language: &str) -> Result<()> {
    let samples = std::fs::read_to_string(workspace().join("examples/orders/samples.jsonl"))?;
    let mut messages: Vec<Value> = samples.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let line = json!({ "sku": "Ä-😀", "quantity": 3, "price_cents": u32::MAX });
    let lines: Vec<&Value> = vec![&line; 2_000];
    messages.push(message(
        &json!({ "id": 19, "revision": 1, "status": "paid", "lines": lines }),
    ));
    let good = messages.len();
    messages.extend([
        json!({ "subject": "orders.paid", "payload": "nonsense" }),
        json!({ "subject": "orders.paid", "payload": "" }),
        json!({ "subject": "orders.paid", "payload_base64": "/w==" }),
        message(&json!(null)),
        message(&json!([])),
        message(&json!({ "id": 17, "status": "paid", "lines": [] })),
        message(&json!({ "id": 17, "revision": 1, "status": "paid" })),
        message(&json!({ "id": 17, "revision": 1, "status": "lost", "lines": [] })),
        message(&json!({ "id": -17, "revision": 1, "status": "paid", "lines": [] })),
        message(&json!({ "id": "17", "revision": 1, "status": "paid", "lines": [] })),
        message(&json!({ "id": 17, "revision": 1, "status": "paid", "lines": [{ "quantity": 1 }] })),
        message(
            &json!({ "id": 17, "revision": 1, "status": "paid", "lines": [{ "quantity": 1.5, "price_cents": 1 }] }),
        ),
    ]);

    let of_rust = outcomes(&guests::component("orders")?, &messages)?;
    let outcomes = outcomes(&guests::in_language(language)?, &messages)?;
    ensure!(
        outcomes[..good] == of_rust[..good],
        "{:#?} instead of {:#?}",
        &outcomes[..good],
        &of_rust[..good]
    );
    for (rejection, of_rust) in outcomes[good..].iter().zip(&of_rust[good..]) {
        // Each language has its own words for the reason.
        ensure!(
            of_rust["outcome"] == "reject" && rejection["outcome"] == "reject" && rejection["code"] == "rejected",
            "{rejection} instead of {of_rust}"
        );
        ensure!(
            rejection["reason"].as_str().is_some_and(|reason| !reason.is_empty()),
            "{rejection}"
        );
    }
    Ok(())
}

fn message(order: &Value) -> Value {
    json!({ "subject": "orders.paid", "data": order })
}

/// Returns one outcome per message.
fn outcomes(wasm: &Path, messages: &[Value]) -> Result<Vec<Value>> {
    let lines: String = messages.iter().map(|message| format!("{message}\n")).collect();
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), lines)?;
    let mut command = Command::new(binary());
    let output = command
        .arg("try")
        .arg(wasm)
        .arg(file.path())
        .output()
        .context("running slipring")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let outcomes = String::from_utf8(output.stdout)?;
    let outcomes: Vec<Value> = outcomes.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(outcomes.len() == messages.len(), "{outcomes:#?}");
    Ok(outcomes)
}

/// The relay and Centrifugo produce the same histories, byte for byte. The module in Rust gets many messages in a call,
/// the other ones one.
async fn publishes_the_same(language: &str) -> Result<()> {
    let of_rust = histories(&guests::component("orders")?).await?;
    let histories = histories(&guests::in_language(language)?).await?;
    ensure!(histories == of_rust, "{histories:#?} instead of {of_rust:#?}");
    let published: usize = histories.iter().map(Vec::len).sum();
    // Every fourth order is a draft.
    ensure!(
        published as u64 == MESSAGES - MESSAGES / 4,
        "{published} were published"
    );
    Ok(())
}

/// Returns the channels' final histories as texts, each in order.
async fn histories(wasm: &Path) -> Result<Vec<Vec<String>>> {
    let mut world = World::start().await?;
    // Half of the default, because users have slower machines and larger modules.
    world.home.env("SLIPRING_MODULES__COMPILE_CPU", "60s");
    world.stream("ORDERS", &["orders.>"]).await?;
    world.publish((0..MESSAGES).map(order)).await?;
    world
        .home
        .add_module("orders", wasm, "stream = \"ORDERS\"\ndeliver = \"all\"\n")?;
    let relay = world.home.run().await?;
    relay.ready(LONG).await?;
    world.all_acked(LONG, "ORDERS", "orders").await?;
    let mut histories = Vec::new();
    for id in 0..CHANNELS {
        let history = world.centrifugo.history(&format!("orders:{id}")).await?;
        histories.push(history.iter().map(|publication| publication.text()).collect());
    }
    Ok(histories)
}

fn order(number: u64) -> (String, String) {
    let status = ["draft", "paid", "shipped", "delivered"][number as usize % 4];
    let (id, revision) = (number / 4 % CHANNELS, number + 1);
    let lines = format!(r#"[{{"sku":"A-1","quantity":{number},"price_cents":450}}]"#);
    let order = format!(r#"{{"id":{id},"revision":{revision},"status":"{status}","lines":{lines}}}"#);
    (format!("orders.{status}"), order)
}

/// Everything that `slipring new` prints is copied and works, up to the last steps, which run until somebody ends them.
fn begins_with_what_new_makes(language: &str) -> Result<()> {
    let desk = tempfile::TempDir::with_prefix("slipring-new-")?;
    let made = shell(desk.path(), &format!("slipring new my-shop --lang {language}"))?;
    let steps = made
        .strip_suffix("slipring up\nslipring dev\n")
        .context("the last steps")?;
    let passed = shell(desk.path(), steps)?;
    ensure!(
        passed.ends_with("ok       draft\nok       no-status\nok       paid\n"),
        "{passed}"
    );

    let shop = desk.path().join("my-shop");
    for (case, order) in [
        ("no-id", json!({ "revision": 1, "status": "paid" })),
        ("no-revision", json!({ "id": 7, "status": "paid" })),
        ("other-id", json!({ "id": "7", "revision": 1, "status": "paid" })),
    ] {
        let expect = json!({ "outcome": "reject", "code": "rejected" });
        let text = json!({ "message": message(&order), "expect": expect }).to_string();
        std::fs::write(shop.join("cases").join(format!("{case}.json")), text)?;
    }
    shell(&shop, "slipring test --no-build")?;
    Ok(())
}

/// Runs a script with the relay in the PATH and returns its output.
fn shell(dir: &Path, script: &str) -> Result<String> {
    let programs = Path::new(binary()).parent().context("a directory")?.to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path)))?;
    let mut command = Command::new("sh");
    command
        .args(["-ec", script])
        .current_dir(dir)
        .env("PATH", path)
        .env("NO_COLOR", "1");
    let output = command.output().context("running a shell")?;
    let (stdout, stderr) = (
        String::from_utf8(output.stdout)?,
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "{script}: {}\n{stdout}{stderr}", output.status);
    Ok(stdout)
}
