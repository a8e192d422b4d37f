//! Things that know nothing of databases, scripts or runs.
//!
//! The rule for doubtful cases: what would still make sense in a program about trains lives here.

pub mod call_time;
pub mod clock;
pub mod file;
pub mod former_name;
pub mod lock;
pub mod mask;
pub mod memory;
pub mod moment;
#[cfg(test)]
pub(crate) mod mutant;
pub mod painter;
pub mod program;
pub mod secret;
pub mod send_deadline;
pub mod shell;
pub mod sqlite;
pub mod suggest;
pub mod terminal;
pub mod value;
