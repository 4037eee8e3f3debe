//! Converts the WIT world's types to this crate's and back. Both sides own their strings and bytes, so the
//! conversion copies only the outer elements of vectors.

pub use slipring_sdk_bindings as bindings;
use slipring_sdk_bindings::slipring::transform::types;

use crate::expansion::Transform;
use crate::{Body, Message, Publication, batch};

/// Makes `$carrier` the component's exports.
#[doc(hidden)]
#[macro_export]
macro_rules! __slipring_sdk_export {
    ($carrier:ident) => {
        impl $crate::expansion::guest::bindings::Guest for $carrier {
            fn init(settings: ::std::string::String) -> ::core::result::Result<(), ::std::string::String> {
                $crate::expansion::guest::init::<Self>(&settings)
            }

            fn transform(
                message: $crate::expansion::guest::bindings::Message,
            ) -> ::core::result::Result<
                ::std::vec::Vec<$crate::expansion::guest::bindings::Publication>,
                ::std::string::String,
            > {
                $crate::expansion::guest::transform::<Self>(message)
            }

            fn transform_batch(messages: ::std::vec::Vec<u8>) -> ::std::vec::Vec<u8> {
                $crate::expansion::guest::transform_batch::<Self>(&messages)
            }
        }

        $crate::expansion::guest::bindings::export!($carrier with_types_in $crate::expansion::guest::bindings);
    };
}

pub fn init<T: Transform>(settings: &str) -> Result<(), String> {
    #[cfg(target_os = "unknown")]
    bring_out_panics();
    T::init(settings).map_err(|error| error.to_string())
}

pub fn transform<T: Transform>(message: types::Message) -> Result<Vec<types::Publication>, String> {
    let output = T::transform(&message.into()).map_err(|error| error.to_string())?;
    Ok(output.into_iter().map(Into::into).collect())
}

pub fn transform_batch<T: Transform>(messages: &[u8]) -> Vec<u8> {
    batch::transform(messages, bindings::slipring::transform::batch::begin, T::transform)
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
