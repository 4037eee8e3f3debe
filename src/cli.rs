//! The command line: the commands that `slipring` understands, each in a file in `cli/`. Results go to standard output
//! and messages for people to standard error. The exit code tells how a command ended.

mod address;
mod case;
mod check;
mod command_line;
mod comparison;
mod completions;
mod config_file;
mod connection;
mod dead_letters;
mod deploy;
mod deployment;
mod dev;
mod diff;
mod difference;
mod failure;
mod fix;
mod held;
mod input;
mod manual_pages;
mod modules;
mod namespaces;
mod new;
mod palette;
mod printable;
mod project;
mod publish;
mod publishing;
mod record;
mod redact;
mod report;
mod run;
mod runner;
mod selection;
mod status;
pub mod stored;
mod table;
mod tap;
mod terminal;
mod test_cases;
mod time_of_day;
mod timing;
mod top;
mod try_module;
mod up;
mod wasm_file;

pub use self::command_line::Cli;
#[cfg(any(test, fuzzing))]
pub(crate) use self::dead_letters::fuzz as fuzz_dead_letter;
pub use self::failure::Failure;
pub use self::printable::{printable, printable_json};
pub use self::up::Tied;
