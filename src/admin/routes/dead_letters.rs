//! Dead letters over the API: what there is and why, what today's module makes of a letter, and the way back. It is the
//! code of `slipring dead-letters`, over connections of its own, so no pipeline waits for anybody who looks.

mod backend;
mod change;
mod groups;
mod letter;
mod list;
mod page;
mod progress;
mod refused;
mod selection;
mod show;

pub use self::backend::Backend;
pub(super) use self::change::{remove, replay};
pub(super) use self::letter::Whole;
pub(super) use self::list::{Asked, DeadLetters, list};
use self::progress::{End, Progress};
use self::selection::Selection;
pub(super) use self::show::show;
use super::openapi::{Api, Reply, schema};

/// A replay or a removal.
pub(super) const CHANGE: Api = Api {
    query: None,
    body: Some(schema::<Selection>),
    bytes: None,
    reply: Reply::Events(&[("progress", schema::<Progress>), ("end", schema::<End>)]),
};
