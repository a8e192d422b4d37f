//! Where a transaction was committed.

use super::{
    Archive,
    dump::{Commit, Stretch},
};
use crate::provider::{Result, postgres::tools::Tools};

impl Archive {
    /// Returns every commit of the transaction `xid` (without its epoch), with its timeline: after a fork the same id
    /// is given again.
    ///
    /// # Errors
    /// [`crate::provider::Code::Tool`].
    pub(in super::super) async fn commits_of(&self, tools: &Tools, xid: u32) -> Result<Vec<(u32, Commit)>> {
        let mut commits = Vec::new();
        for (&timeline, there) in &self.timelines {
            for run in there.runs() {
                let stretch = Stretch::Segments(run);
                let read = self.read(tools, timeline, &stretch, &["Transaction"], |record| {
                    let commit = record.commit().filter(|c| c.xid == xid && self.counts(timeline, c.lsn));
                    commits.extend(commit.map(|commit| (timeline, commit)));
                    true
                });
                read.await?;
            }
        }
        Ok(commits)
    }
}
