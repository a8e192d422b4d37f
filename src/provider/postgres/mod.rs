//! PostgreSQL clusters on this machine.

#![expect(dead_code, reason = "the rooms below are being built")]

mod audit;
mod process;
#[cfg(test)]
mod scratch;
mod sql;
mod tools;

use super::{Error, Provider, Result, fleet::Opening};
use std::sync::Arc;

/// Opens a PostgreSQL target.
///
/// # Errors
/// What its settings lack.
pub fn open(_: &Opening<'_>) -> Result<Arc<dyn Provider>> {
    Err(Error::unsupported("", ""))
}
