//! Positions in the WAL.

use crate::provider::{Result, restore_points};
use std::fmt;

/// A position in the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(in super::super) struct Lsn(pub u64);

impl Lsn {
    /// Reads `16/B374D848`.
    ///
    /// # Errors
    /// [`crate::provider::Code::Invalid`].
    pub(in super::super) fn parse(text: &str) -> Result<Self> {
        restore_points::parse_lsn(text).map(Self)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}
