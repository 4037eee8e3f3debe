//! Runs the modules directory. Each module in it has a keeper, which loads new versions, starts the pipeline, swaps its
//! module and stops it again. Trouble with one module does not affect another.

mod claims;
mod context;
mod controls;
mod directory;
mod files;
pub mod install;
mod keeper;
mod keepers;
mod loading;
pub mod names;
pub mod permissions;
mod probe;
mod run;
mod uploads;
pub mod versions;

pub use self::claims::Claims;
pub use self::context::Context;
pub use self::controls::{Controls, Loaded, Request, Unheard, Verb};
pub use self::loading::Loading;
pub use self::run::run;
pub use self::uploads::{Refused, Uploaded, Uploads};
