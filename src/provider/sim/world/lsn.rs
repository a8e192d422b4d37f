//! Places in the log as PostgreSQL writes them: `0/3000148`.

use crate::provider::{Result, restore_points};

/// Returns a place in the log as PostgreSQL writes it: `0/3000148`.
pub(super) fn format_lsn(lsn: i64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

/// Reads a place in the log; one that no world reaches is read as the last there could be.
///
/// # Errors
/// [`crate::provider::Code::Invalid`].
pub(super) fn parse_lsn(text: &str) -> Result<i64> {
    Ok(i64::try_from(restore_points::parse_lsn(text)?).unwrap_or(i64::MAX))
}
