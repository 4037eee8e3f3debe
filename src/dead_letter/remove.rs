//! Removes dead letters that nobody needs any more.

use std::pin::pin;

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::read::{ReadError, Reader};

/// How many requests are sent to the server at the same time.
const AT_ONCE: usize = 16;

/// Removes the letters, each given by its numbers. Calls `each` for a letter that is gone, with true if it was still
/// there. Once `stop` returns, or after an error, it finishes what was sent to the server and begins nothing more.
pub async fn remove_all(
    reader: &Reader,
    letters: Vec<Vec<u64>>,
    stop: impl Future<Output = ()>,
    mut each: impl FnMut(bool),
) -> Result<(), ReadError> {
    let failed = CancellationToken::new();
    let stop = async {
        tokio::select! {
            () = stop => {}
            () = failed.cancelled() => {}
        }
    };
    let removals = stream::iter(letters)
        .take_until(stop)
        .map(async |numbers| reader.remove(&numbers).await)
        .buffered(AT_ONCE);
    let mut removals = pin!(removals);
    let mut ended = Ok(());
    while let Some(removed) = removals.next().await {
        match removed {
            Ok(found) => each(found),
            Err(error) => {
                failed.cancel();
                ended = ended.and(Err(error));
            }
        }
    }
    ended
}
