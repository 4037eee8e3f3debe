//! The code of `docs/crates-that-work.md`, run natively by its unit tests and as WebAssembly by its cases. The test
//! `crates_that_work` in `tests/it` compares the page with these files.

mod base64;
mod decimal;
mod messagepack;
mod protobuf;

use slipring_sdk::prelude::*;

#[transform]
fn crates(message: &Message) -> Result<Publication> {
    match message.token(1)? {
        "protobuf" => protobuf::reading(message),
        "messagepack" => messagepack::reading(message),
        "base64" => base64::upload(message),
        "decimal" => decimal::invoice(message),
        other => bail!("there is no crate for {other:?}"),
    }
}

#[cfg(test)]
fn published(message: &Message) -> Result<(String, String)> {
    let publication = crates(message)?;
    let text = publication.body.text().context("JSON")?;
    Ok((publication.channels.join(" "), text.to_owned()))
}
