//! Things that know nothing of databases, scripts or runs.
//!
//! The rule that decides doubtful lines: if it would still make sense in a program about trains, it lives here.

pub mod clock;
pub mod file;
pub mod former_name;
pub mod ink;
pub mod moment;
pub mod secret;
pub mod shell;
pub mod sqlite;
pub mod suggest;
pub mod terminal;
pub mod value;
