//! WAL positions.

/// Returns the name of the segment that holds the last byte before `lsn`.
pub(super) fn segment_name(timeline: u32, lsn: &str, segment_bytes: u64) -> Option<String> {
    let (high, low) = lsn.split_once('/')?;
    let at = (u64::from_str_radix(high, 16).ok()? << 32) | u64::from_str_radix(low, 16).ok()?;
    let number = at.checked_sub(1)? / segment_bytes;
    let each = (1 << 32) / segment_bytes;
    Some(format!("{timeline:08X}{:08X}{:08X}", number / each, number % each))
}
