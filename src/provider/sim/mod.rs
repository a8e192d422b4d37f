//! An embedded, simulated platform.

use super::{Error, Provider, Result, fleet::Opening};
use std::sync::Arc;

/// Opens a simulated target.
///
/// # Errors
/// What its settings or its world file lack.
pub fn open(_: &Opening<'_>) -> Result<Arc<dyn Provider>> {
    Err(Error::unsupported("", ""))
}
