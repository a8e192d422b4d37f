//! Positions in the WAL.

use crate::provider::{Code, Error, Result};
use std::fmt;

/// A position in the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(in super::super) struct Lsn(pub u64);

impl Lsn {
    /// Reads `16/B374D848`.
    ///
    /// # Errors
    /// [`Code::Invalid`].
    pub(in super::super) fn parse(text: &str) -> Result<Self> {
        let read = || {
            let (high, low) = text.trim().split_once('/')?;
            let part = |digits: &str| u32::from_str_radix(digits, 16).ok().map(u64::from);
            Some(Self(part(high)? << 32 | part(low)?))
        };
        read().ok_or_else(|| {
            Error::new(Code::Invalid, format!("`{text}` is no place in the WAL"))
                .with_hint("write it as `pg_current_wal_lsn()` does, such as `16/B374D848`")
        })
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}
