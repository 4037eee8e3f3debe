//! `GET /api/v1/dead-letters/{number}`: one letter, and what the running module makes of its message.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;

use super::super::Served;
use super::super::attempt::{Attempt, attempt};
use super::super::modules::unheard_of;
use super::backend::within;
use super::letter::Whole;
use super::refused::Refused;
use crate::dead_letter::{Opened, Reader};
use crate::modules::Loaded;

pub(in crate::admin::routes) async fn show(
    Shared(served): Shared<Served>,
    Path(number): Path<String>,
) -> Result<Json<Whole>, Refused> {
    let absent = |text: String| Refused::new(StatusCode::NOT_FOUND, text);
    let number: u64 = number
        .parse()
        .map_err(|_| absent(format!("{number:?} is not the number of a dead letter.")))?;
    let session = served.dead_letters.open().await?;
    let Some(reader) = &session.reader else {
        return Err(absent(served.dead_letters.servers().no_stream()));
    };
    let _turn = served.dead_letters.payload().await?;
    let opened = within(&session, open(&served, reader, number)).await?;
    let opened = opened.ok_or_else(|| absent(format!("there is no dead letter {number} in {}", reader.name())))?;
    let now = now(&served, &opened).await;
    Ok(Json(Whole::of(opened, now)))
}

/// Returns a letter by its number, or by that of one of its parts. Only a letter in parts takes a scan.
async fn open(served: &Served, reader: &Reader, number: u64) -> Result<Option<Opened>, Refused> {
    let found = reader.fetch(&[number]).await?;
    if found.as_ref().is_none_or(|opened| opened.letter.parts() == 1) {
        return Ok(found);
    }
    let _turn = served.dead_letters.scan().await?;
    match reader.find(number).await? {
        Some(letter) => Ok(reader.fetch(letter.numbers()).await?),
        None => Ok(None),
    }
}

/// Calls the running module with the message. The error says why that is not possible.
async fn now(served: &Served, opened: &Opened) -> Result<Attempt, String> {
    let message = opened
        .message()
        .map_err(|unfit| format!("The message is unknown: {unfit}."))?;
    let loaded = running(served, &opened.letter.module).await?;
    Ok(attempt(&loaded, Arc::new(message)).await)
}

/// Returns the running version of a module. The error says why there is none.
pub(super) async fn running(served: &Served, module: &str) -> Result<Loaded, String> {
    match served.controls.version(module, None).await {
        Ok(loaded) => loaded,
        Err(unheard) => Err(unheard_of(served, module, unheard).1),
    }
}
