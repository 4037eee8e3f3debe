//! Messages and outcomes in JSON, as people write and read them: lines of `slipring try`, cases, and the admin API.

mod exact;
mod explain;
mod outcome;
mod sample;

pub use self::exact::{Json, held, is_same};
pub use self::explain::{explain, explain_line};
pub use self::outcome::{Kind, Published, Report, on_one_line};
pub use self::sample::{Sample, parse};
