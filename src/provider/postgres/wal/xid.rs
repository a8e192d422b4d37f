//! Finds the commits of a transaction id in the archive.

use super::{
    WalArchive,
    dump::{Commit, WalRange},
};
use crate::provider::{Result, host::programs::Programs};

impl WalArchive {
    /// Returns every commit of the transaction id `xid` (without epoch), with its timeline: after a fork the
    /// same id is assigned again.
    ///
    /// # Errors
    /// [`crate::provider::Code::Tool`].
    pub(in super::super) async fn find_commits(
        &self,
        programs: &Programs,
        xid: u32,
    ) -> Result<Vec<(u32, Commit)>> {
        let mut commits = Vec::new();
        for (&timeline, there) in &self.timelines {
            for run in there.contiguous_segments() {
                let range = WalRange::Segments(run);
                let read = self.visit_records(programs, timeline, &range, &["Transaction"], |record| {
                    let commit = record
                        .to_commit()
                        .filter(|c| c.xid == xid && self.belongs_to_timeline(timeline, c.lsn));
                    commits.extend(commit.map(|commit| (timeline, commit)));
                    true
                });
                read.await?;
            }
        }
        Ok(commits)
    }

    /// Returns the commit of the transaction `xid` (without epoch) that left a message with this prefix before it.
    ///
    /// # Errors
    /// [`crate::provider::Code::Tool`].
    pub(in super::super) async fn find_commit_after_message(
        &self,
        programs: &Programs,
        xid: u32,
        prefix: &str,
    ) -> Result<Option<Commit>> {
        let message = format!("MESSAGE transactional, prefix \"{prefix}\";");
        for (&timeline, there) in &self.timelines {
            for run in there.contiguous_segments() {
                let (mut is_announced, mut found) = (false, None);
                let range = WalRange::Segments(run);
                let read = self.visit_records(
                    programs,
                    timeline,
                    &range,
                    &["LogicalMessage", "Transaction"],
                    |record| {
                        if record.xid == xid && record.desc.starts_with(&message) {
                            is_announced = true;
                        }
                        found = record.to_commit().filter(|commit| is_announced && commit.xid == xid);
                        found.is_none()
                    },
                );
                read.await?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }
}
