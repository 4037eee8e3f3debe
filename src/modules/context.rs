//! The context that every keeper needs.

use std::sync::Arc;

use super::claims::Claims;
use super::controls::Controls;
use super::loading::Loading;
use crate::config;
use crate::pipeline::Shared;
use crate::shutdown::Shutdown;
use crate::status::StatusBoard;
use crate::transform::Engine;

#[derive(Debug)]
pub struct Context {
    pub engine: Engine,
    pub shared: Arc<Shared>,
    pub board: StatusBoard,
    pub controls: Controls,
    pub shutdown: Shutdown,
    pub loading: Arc<Loading>,
    /// Ensures that only one module reads from a consumer at a time.
    pub claims: Arc<Claims>,
    pub config: config::Modules,
}
