//! Finds the tablespaces that a replay would create.
//!
//! The record that creates one carries the path of its folder. Replay creates a link to that same path, even
//! in a copy, and even over an existing link.

use super::{Lsn, WalArchive};
use crate::{
    base::moment::Moment,
    provider::{Result, host::programs::Programs},
};

/// How far a replay goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum ReplayLimit {
    /// Up to and including the record at this position.
    Lsn(Lsn),
    /// Up to the first commit after this moment.
    Time(Moment),
}

impl WalArchive {
    /// Returns the first tablespace that a replay on `timeline` from `from` creates: its OID
    /// and its folder, such as `16400 "/srv/fast"`.
    ///
    /// # Errors
    /// `Tool`, and `CorruptBackup` when a segment cannot be read.
    pub(in super::super) async fn find_created_tablespace(
        &self,
        programs: &Programs,
        timeline: u32,
        from: Lsn,
        until: ReplayLimit,
    ) -> Result<Option<String>> {
        let mut made = None;
        let read =
            self.visit_replayed_records(programs, timeline, from, &["Tablespace", "Transaction"], |record| {
                let is_over = match until {
                    ReplayLimit::Lsn(lsn) => record.lsn > lsn,
                    ReplayLimit::Time(time) => record.to_commit().is_some_and(|commit| commit.time > time),
                };
                if is_over {
                    return false;
                }
                // A tablespace without a path is a folder inside the data folder.
                made = record
                    .desc
                    .strip_prefix("CREATE ")
                    .filter(|made| !made.ends_with(" \"\""))
                    .map(str::to_owned);
                record.rmgr != "Tablespace" || made.is_none()
            });
        read.await?;
        Ok(made)
    }
}
