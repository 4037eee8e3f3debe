//! `slipring publish`.

use futures_util::StreamExt;
use slipring_support::servers::NatsServer;
use tokio::time::timeout;

use super::super::world::World;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_stored_with_its_headers_and_only_once() -> Result<()> {
    let world = World::start().await?;
    world.stream("SHOP", &["shop.>"]).await?;
    let client = world.nats.client().await?;
    let mut listener = client.subscribe("shop.>").await?;
    client.flush().await?;
    let run = |arguments: &[&str], input: &str| -> Result<Output> {
        let mut process = world
            .home
            .command(["publish"])
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()?;
        let mut stdin = process.stdin.take().context("an input")?;
        // A command that does not read its input closes it.
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
        drop(stdin);
        Ok(process.wait_with_output()?)
    };
    let said = |output: &Output| -> Result<String> {
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{errors}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let arguments = ["-H", "Nats-Msg-Id: 1", "--header", "Trace: a", "shop.7", "one"];
    ensure!(said(&run(&arguments, "")?)? == "stored in SHOP as 1\n");
    let again = said(&run(&arguments, "")?)?;
    ensure!(
        again == "not stored: SHOP has a message with this Nats-Msg-Id already, as 1\n",
        "{again}"
    );
    ensure!(said(&run(&["shop.7"], "from\nstandard input")?)? == "stored in SHOP as 2\n");
    ensure!(said(&run(&["shop.7", "-"], "")?)? == "stored in SHOP as 3\n");
    let case = r#"{"message":{"subject":"shop.8","data":{"id":8},"headers":{"Trace":["b","c"]}}}"#;
    fs::create_dir(world.home.path().join("cases"))?;
    fs::write(world.home.path().join("cases/paid.json"), case)?;
    ensure!(said(&run(&["--case", "paid"], "")?)? == "stored in SHOP as 4\n");
    ensure!(said(&run(&["--case", "cases/paid.json", "shop.9"], "")?)? == "stored in SHOP as 5\n");

    let mut sent = Vec::new();
    for _ in 1..=6 {
        let message = timeout(SOON, listener.next()).await?.context("a message")?;
        let traces = message.headers.iter().flat_map(|headers| headers.get_all("Trace"));
        let traces: Vec<String> = traces.map(ToString::to_string).collect();
        let payload = String::from_utf8_lossy(&message.payload).into_owned();
        sent.push(format!("{} {payload:?} {}", message.subject, traces.join(",")));
    }
    let expected = [
        r#"shop.7 "one" a"#,
        r#"shop.7 "one" a"#,
        r#"shop.7 "from\nstandard input" "#,
        r#"shop.7 "" "#,
        r#"shop.8 "{\"id\":8}" b,c"#,
        r#"shop.9 "{\"id\":8}" b,c"#,
    ];
    ensure!(sent == expected, "{sent:#?}");

    let wrong = |arguments: &[&str], code: i32| failed(&run(arguments, "")?, code);
    let text = wrong(&["bills.1", "x"], 1)?;
    ensure!(
        text.contains("stores bills.1. The streams and their subjects are: SHOP (shop.>)"),
        "{text}"
    );
    let text = wrong(&["shop.>", "x"], 2)?;
    ensure!(text.contains("has a wildcard"), "{text}");
    let text = wrong(&["-H", "Trace", "shop.7", "x"], 2)?;
    ensure!(text.contains("must have the form 'Name: value'"), "{text}");
    let text = wrong(&["--case", "piad"], 1)?;
    ensure!(
        text.contains("there is no case cases/piad.json: cases has paid"),
        "{text}"
    );
    let text = wrong(&[], 2)?;
    ensure!(text.contains("<SUBJECT>"), "{text}");
    world.jetstream.delete_stream("SHOP").await?;
    let text = wrong(&["shop.7", "x"], 1)?;
    ensure!(
        text.contains("because there is none") && text.contains("`slipring up`"),
        "{text}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_told_at_once() -> Result<()> {
    let nats = NatsServer::start_with(
        "authorization { users: [{ user: a, password: a, permissions: { publish: [\"$JS.API.>\"], subscribe: \">\" } }] }",
    )
    .await?;
    let desk = Desk::new()?;
    desk.write("password", "a")?;
    let config = format!(
        "nats.servers = ['{}']\nnats.user = 'a'\nnats.password_file = 'password'\n",
        nats.url()
    );
    desk.write("slipring.toml", &config)?;
    let said = failed(&desk.slipring("", &["publish", "shop.7", "x"])?, 1)?;
    ensure!(said.contains("NATS does not let this user publish to shop.7"), "{said}");
    Ok(())
}
