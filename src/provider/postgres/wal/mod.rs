//! Reads an archive of WAL: which segments it holds, up to which commit, and what happened in it.
//!
//! - Only the archive is read, so this works while the server is down.
//! - `pg_waldump` decodes the records. Its exit code proves nothing: it also fails at the end of valid WAL.
//! - A record can be in two segments, because a new timeline starts with a copy of the segment it forked in.
//!   It counts once: for the parent if the archive has the parent's own file of that segment.

mod archive;
mod dump;
mod events;
mod names;
mod payload;
mod tablespaces;
mod transaction;
mod xid;

pub(super) use self::{
    archive::{ArchivedTimeline, WalArchive},
    dump::Commit,
    names::{RelationNames, fetch_relation_names},
    tablespaces::ReplayLimit,
};

use crate::provider::{Code, Error, Result};
use std::fmt;

/// A position in the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Lsn(pub u64);

impl Lsn {
    /// Reads `16/B374D848`.
    ///
    /// # Errors
    /// [`Code::Invalid`].
    pub(super) fn parse(text: &str) -> Result<Self> {
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

/// Returns the name of the segment that holds the last byte before `lsn`.
pub(super) fn segment_name_before(timeline: u32, lsn: &str, segment_bytes: u64) -> Option<String> {
    let number = Lsn::parse(lsn).ok()?.0.checked_sub(1)? / segment_bytes;
    Some(archive::format_segment_name(timeline, number, segment_bytes))
}

#[cfg(test)]
mod tests;
