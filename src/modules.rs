//! The modules directory at work: each module in it has a keeper, which loads what appears, starts its pipeline, exchanges its
//! module and stops it again. What one keeper goes through does not touch another.

mod claims;
mod context;
mod controls;
mod directory;
mod files;
mod keeper;
mod keepers;
mod loading;
pub mod permissions;
mod probe;
mod run;
pub mod versions;

pub use self::claims::Claims;
pub use self::context::Context;
pub use self::controls::{Command, Controls, Unheard, Verb};
pub use self::loading::Loading;
pub use self::run::run;
