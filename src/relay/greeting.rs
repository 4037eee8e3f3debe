//! Contacts Centrifugo at the start. Without this, the pipelines would find out only with their first message whether
//! Centrifugo is there and accepts the key, and a person who starts the relay should not have to wait for that.

use std::time::Duration;

use tracing::{info, warn};

use crate::publish::Client;
use crate::status::StatusBoard;

const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Returns once Centrifugo accepts publications. Until then the relay is not ready, and the board says why.
pub(super) async fn greet(centrifugo: &Client, board: &StatusBoard) {
    let mut said = None;
    let mut delay = FIRST_DELAY;
    while let Err(trouble) = centrifugo.probe().await {
        if said.as_ref() != Some(&trouble) {
            warn!(trouble, "Centrifugo does not accept publications yet, retrying");
        }
        board.centrifugo_unreached(Some(trouble.clone()));
        said = Some(trouble);
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LONGEST_DELAY);
    }
    board.centrifugo_unreached(None);
    info!("reached Centrifugo");
}
