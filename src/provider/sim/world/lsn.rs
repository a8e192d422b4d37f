//! Places in the log as PostgreSQL writes them: `0/3000148`.

use crate::provider::{Code, Error, Result};

/// Returns a place in the log as PostgreSQL writes it: `0/3000148`.
pub(super) fn format_lsn(lsn: i64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

/// Reads a place in the log.
///
/// # Errors
/// [`Code::Invalid`].
pub(super) fn parse_lsn(text: &str) -> Result<i64> {
    let part = |hex: &str| u32::from_str_radix(hex, 16).ok();
    let parsed = text.split_once('/').and_then(|(high, low)| part(high).zip(part(low)));
    let (high, low) = parsed.ok_or_else(|| {
        Error::new(Code::Invalid, format!("`{text}` is not a place in the log"))
            .with_hint("write it as `0/3000148`")
    })?;
    Ok((i64::from(high) << 32) | i64::from(low))
}
