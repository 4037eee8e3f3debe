//! What a command says that waits for a person to type.

use anyhow::{Result, ensure};
use slipring_support::guests;

use super::super::world::{SOON, binary};
use super::terminal::Terminal;

#[tokio::test(flavor = "multi_thread")]
async fn try_says_that_it_reads_from_the_terminal() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::copy(guests::component("unruly")?, dir.path().join("unruly.wasm"))?;
    let command = format!("{} try unruly.wasm", binary());
    let mut terminal = Terminal::run(&command, 140, 24, |script| {
        script.current_dir(dir.path()).env("NO_COLOR", "1");
        Ok(())
    })?;
    let told = "reading messages from the terminal, one per line, such as {\"subject\":";
    terminal.shows(SOON, &[told, "Ctrl-D ends"]).await?;
    terminal.press("{\"subject\":\"unruly.ok\",\"data\":1}\n")?;
    terminal.press("\u{4}")?;
    let text = terminal.is_restored(SOON).await?;
    ensure!(
        text.contains("\"outcome\":\"publish\"") && text.contains("exit code 0"),
        "{text}"
    );
    Ok(())
}
