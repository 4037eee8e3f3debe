//! The page of `slipring dev --web` in a real browser. The script of `tests/page` saves files as an author does.

use std::process::Command;

use anyhow::Result;
use slipring_support::process::Process;
use slipring_support::servers::tool;

use super::super::dev_web::Author;
use super::super::world::SOON;
use super::stage::watch;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js and Chromium: make test-page"]
async fn shows_an_author_what_a_save_changes() -> Result<()> {
    let author = Author::new()?;
    let (mut dev, page) = author.start().await?;
    let mut command = Command::new("node");
    command
        .current_dir(slipring_support::workspace().join("tests/page"))
        .args(["--test-reporter=spec", "dev.mjs"])
        .env("PAGE_URL", &page.url)
        .env("PAGE_TOKEN", &page.token)
        .env("PAGE_FOLDER", author.path(""))
        .env("PAGE_BROWSER", tool("chromium")?);
    let mut node = Process::spawn("node", &mut command)?;
    watch(&mut node).await?;
    dev.interrupt()?;
    dev.wait(SOON).await?;
    Ok(())
}
