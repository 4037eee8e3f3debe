//! A module that was compiled, checked and tried. It can be swapped in at any time.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use wasmtime::component::InstancePre;

use super::bindings::TransformIndices;
use super::console::Log;
use super::doubts::Doubts;
use super::host::State;
use super::limits::Limits;
use crate::load::{Load, LoadId};

pub struct Module {
    pub(super) engine: wasmtime::Engine,
    pub(super) name: String,
    pub(super) settings: String,
    pub(super) limits: Limits,
    pub(super) pre: InstancePre<State>,
    pub(super) indices: TransformIndices,
    pub(super) log: Arc<Log>,
    pub(super) doubts: Doubts,
    pub(super) loaded: Load,
    /// Set once whoever loaded it has said so.
    pub(super) version: OnceLock<Arc<str>>,
    /// Set once its function for many messages has returned something else than results.
    pub(super) one_by_one: AtomicBool,
}

impl Module {
    /// Returns the hash of the file in hexadecimal digits.
    pub fn sha256(&self) -> &Arc<str> {
        &self.loaded.sha256
    }

    /// Sets the name of the version, which the file alone does not tell. Only the first one counts.
    pub fn set_version(&self, version: Arc<str>) {
        let _ = self.version.set(version);
    }

    /// Returns the name of the version, or the hash of the file if there is none.
    pub fn version(&self) -> &Arc<str> {
        self.version.get().unwrap_or(&self.loaded.sha256)
    }

    /// Returns the load that this module is.
    pub fn loaded(&self) -> &Load {
        &self.loaded
    }

    pub fn load_id(&self) -> LoadId {
        self.loaded.id
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Keeps what the module prints from now on, for [`take_output`](Self::take_output), instead of logging it.
    pub fn keep_output(&self) {
        self.log.keep();
    }

    /// Returns the lines that the module printed since the last time. The report of a panic is not among them, because
    /// it is the reason of the rejection, and neither is what a failed call printed before it was made again.
    pub fn take_output(&self) -> Vec<String> {
        self.log.take()
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("name", &self.name)
            .field("loaded", &self.loaded)
            .finish_non_exhaustive()
    }
}
