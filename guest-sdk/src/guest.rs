//! Converts the WIT world's types to this crate's and back. Both sides own their strings and bytes, so the
//! conversion copies only the outer elements of vectors.

use crate::expansion::Transform;
use crate::{Body, Message, Publication, batch};

/// Generated from the WIT files. (The code is full of `unsafe`. The lint does not see it, because it comes from
/// another crate's macro.)
#[expect(missing_docs, clippy::too_many_arguments, reason = "generated")]
pub mod bindings {
    #[cfg(not(target_os = "unknown"))]
    wit_bindgen::generate!({ path: "wit", world: "transform-batched", pub_export_macro: true, export_macro_name: "export" });
    #[cfg(target_os = "unknown")]
    wit_bindgen::generate!({ path: "wit", world: "transform-core-batched", pub_export_macro: true, export_macro_name: "export" });
}

use bindings::slipring::transform::types;

impl<T: Transform> bindings::Guest for T {
    fn init(settings: String) -> Result<(), String> {
        #[cfg(target_os = "unknown")]
        bring_out_panics();
        T::init(&settings).map_err(|error| error.to_string())
    }

    fn transform(message: types::Message) -> Result<Vec<types::Publication>, String> {
        let output = T::transform(&message.into()).map_err(|error| error.to_string())?;
        Ok(output.into_iter().map(Into::into).collect())
    }

    fn transform_batch(messages: Vec<u8>) -> Vec<u8> {
        batch::transform(&messages, bindings::slipring::transform::batch::begin, T::transform)
    }
}

/// Reports panics through an import. Without WASI there is no standard error that Rust's own hook could write to.
#[cfg(target_os = "unknown")]
fn bring_out_panics() {
    use bindings::slipring::transform::diagnostics;
    std::panic::set_hook(Box::new(|panic| diagnostics::panicked(&panic.to_string())));
}

impl From<types::Message> for Message {
    fn from(message: types::Message) -> Self {
        Self {
            subject: message.subject,
            payload: message.payload,
            headers: message.headers,
            stream: message.stream_name,
            sequence: message.sequence,
            timestamp: message.timestamp,
            deliveries: message.deliveries,
        }
    }
}

impl From<Publication> for types::Publication {
    fn from(publication: Publication) -> Self {
        Self {
            channels: publication.channels,
            body: match publication.body {
                Body::Json(text) => types::Body::Json(text),
                Body::Binary(bytes) => types::Body::Binary(bytes),
            },
            version: publication.version,
            version_epoch: publication.version_epoch,
            tags: publication.tags,
            idempotency_key: publication.idempotency_key,
            delta: publication.delta,
            skip_history: publication.skip_history,
        }
    }
}
