//! The tablespaces that were made in a stretch of WAL.
//!
//! The record of one that is made carries the path of its folder. Its replay makes a link to that very path, also in a
//! copy, and also over a link that was there already.

use super::{Archive, Lsn};
use crate::{base::moment::Moment, provider::Result, provider::postgres::tools::Tools};

/// How far a replay goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Until {
    /// Up to, and with, the record at this place.
    Place(Lsn),
    /// Up to the first commit after this moment.
    Time(Moment),
}

impl Archive {
    /// Returns the first tablespace that a replay on `timeline` from `from` makes, as its record has it: its number
    /// and its folder, such as `16400 "/srv/fast"`.
    ///
    /// # Errors
    /// `Tool`, and `CorruptBackup` when a segment cannot be read.
    pub(in super::super) async fn tablespace_made(
        &self,
        tools: &Tools,
        timeline: u32,
        from: Lsn,
        until: Until,
    ) -> Result<Option<String>> {
        let mut made = None;
        let read = self.replay(tools, timeline, from, &["Tablespace", "Transaction"], |record| {
            let is_over = match until {
                Until::Place(place) => record.lsn > place,
                Until::Time(time) => record.commit().is_some_and(|commit| commit.time > time),
            };
            if is_over {
                return false;
            }
            // One without a path of its own is a folder inside the data.
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
