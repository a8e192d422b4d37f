//! The WAL archive as seen from backups: how far recovery gets from each of them.

use super::{
    cluster::Cluster,
    engine::{RequiredWal, StoredBackup},
    wal::{Commit, Lsn, WalArchive},
};
use crate::{
    base::moment::Moment,
    provider::{Code, Error, Result, host::programs::Programs},
};
use std::path::Path;

/// The archive of a cluster, and the programs to read it with.
pub(super) struct ArchiveView {
    pub archive: WalArchive,
    pub programs: Programs,
}

/// How far recovery gets from one backup on one timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recoverable {
    /// The last commit before the first hole, or before the end.
    pub last: Option<Commit>,
    /// The first segment that is missing although there is something behind it.
    pub missing: Option<String>,
}

impl ArchiveView {
    /// Reads the archive of a cluster. The newest of `backups` names its folder if the cluster cannot.
    ///
    /// # Errors
    /// [`Code::Refused`] when nobody knows where it is, or it is another cluster's; [`Code::Unavailable`] when it
    /// cannot be read.
    pub(super) async fn read_archive(cluster: &Cluster, backups: &[StoredBackup]) -> Result<Self> {
        let folder = cluster.find_archive_dir(backups.last().map(|newest| newest.archive.as_path())).await?;
        let archive = WalArchive::scan_folder(&folder)?;
        let own = match (cluster.read_control_file().await, backups.last()) {
            (Ok(control), _) => Some(control.system_identifier),
            (Err(_), newest) => newest.map(|stored| stored.system_identifier.clone()),
        };
        match (archive.system_identifier(), own) {
            (Some(writer), Some(own)) if writer != own => {
                Err(foreign_archive_error(cluster, &folder, &writer, &own))
            }
            _ => Ok(Self { archive, programs: cluster.programs()? }),
        }
    }

    /// Returns the last commit of the whole archive.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(super) async fn last_commit_in_archive(&self) -> Result<Option<Commit>> {
        let mut latest: Option<Commit> = None;
        for &timeline in self.archive.timelines.keys() {
            let last = self.last_commit_on_timeline(timeline).await?;
            if last.as_ref().map(|c| c.time) > latest.as_ref().map(|c| c.time) {
                latest = last;
            }
        }
        Ok(latest)
    }

    /// Returns whether recovery from any of these backups can come to a place on a timeline, if no WAL is missing.
    pub(super) fn is_reachable(&self, backups: &[StoredBackup], timeline: u32, lsn: Lsn) -> bool {
        backups
            .iter()
            .filter_map(|stored| required_wal(stored).ok())
            .any(|needed| backup_end_lsn(needed) <= lsn && self.can_follow_timeline(needed, timeline))
    }

    /// Returns whether recovery from a backup can follow `timeline`: it is the backup's own, or forked from it later.
    pub(super) fn can_follow_timeline(&self, from: &RequiredWal, timeline: u32) -> bool {
        if from.timeline == timeline {
            return true;
        }
        let ancestors =
            self.archive.timelines.get(&timeline).map(|t| t.ancestors.as_slice()).unwrap_or_default();
        let left = ancestors.iter().find(|(ancestor, _)| *ancestor == from.timeline);
        left.is_some_and(|(_, left)| backup_end_lsn(from) <= *left)
    }

    /// Returns how far recovery from a backup gets on `timeline`.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(super) async fn find_recovery_end(&self, from: &RequiredWal, timeline: u32) -> Result<Recoverable> {
        let missing = self.archive.first_missing_segment(timeline, backup_end_lsn(from), None);
        let last = match &missing {
            None => self.archive.find_last_commit(&self.programs, timeline).await?,
            Some(missing) => {
                self.cut_before_segment(missing).find_last_commit(&self.programs, timeline).await?
            }
        };
        Ok(Recoverable { last: last.filter(|commit| commit.lsn >= backup_end_lsn(from)), missing })
    }

    /// Returns the archive as if nothing had come after this segment.
    fn cut_before_segment(&self, missing: &str) -> WalArchive {
        let mut archive = self.archive.clone();
        for (timeline, there) in &mut archive.timelines {
            // Names of segments sort as segments do, apart from the timeline in front.
            there.segments.retain(|number| self.archive.segment_name(*timeline, *number)[8..] < missing[8..]);
        }
        archive
    }

    /// Returns the last commit on a timeline, whatever is missing before it.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(super) async fn last_commit_on_timeline(&self, timeline: u32) -> Result<Option<Commit>> {
        self.archive.find_last_commit(&self.programs, timeline).await
    }

    /// Returns every timeline that had begun at `time` and has a commit at `time` or later.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(super) async fn timelines_holding_time(&self, time: Moment) -> Result<Vec<u32>> {
        let mut holding = Vec::new();
        for (&timeline, there) in &self.archive.timelines {
            let begun = match there.parent_timeline() {
                None => true,
                Some((parent, fork)) if self.continues_past_fork(parent, fork) => {
                    let first = self.archive.find_first_commit(&self.programs, timeline, fork).await?;
                    // An idle timeline commits its first long after it began.
                    first.map(|first| first.time).into_iter().chain(there.begun).any(|begun| begun <= time)
                }
                Some((parent, _)) => {
                    self.last_commit_on_timeline(parent).await?.is_none_or(|last| last.time < time)
                }
            };
            if begun && self.last_commit_on_timeline(timeline).await?.is_some_and(|last| time <= last.time) {
                holding.push(timeline);
            }
        }
        Ok(holding)
    }

    /// Returns every timeline that had begun at `lsn` and has a commit there or later.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(super) async fn timelines_holding_lsn(&self, lsn: Lsn) -> Result<Vec<u32>> {
        let mut holding = Vec::new();
        for (&timeline, there) in &self.archive.timelines {
            let begun = match there.parent_timeline() {
                None => true,
                Some((parent, fork)) if self.continues_past_fork(parent, fork) => fork <= lsn,
                Some((parent, _)) => {
                    self.last_commit_on_timeline(parent).await?.is_none_or(|last| last.lsn < lsn)
                }
            };
            if begun && self.last_commit_on_timeline(timeline).await?.is_some_and(|last| lsn <= last.lsn) {
                holding.push(timeline);
            }
        }
        Ok(holding)
    }

    /// Returns the first missing segment that may hold a commit from between `since` and `until`; `None` when all of that
    /// time can be searched.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(super) async fn find_unsearchable_segment(
        &self,
        backups: &[StoredBackup],
        since: Option<Moment>,
        until: Option<Moment>,
    ) -> Result<Option<String>> {
        for &timeline in self.archive.timelines.keys() {
            for hole in self.archive.missing_segments(timeline) {
                let first = self.archive.segment_name(timeline, *hole.start());
                let before =
                    self.cut_before_segment(&first).find_last_commit(&self.programs, timeline).await?;
                let behind = self.archive.segment_start(hole.end() + 1);
                let after = self.archive.find_first_commit(&self.programs, timeline, behind).await?;
                let is_later = until.zip(before).is_some_and(|(until, before)| until < before.time);
                let is_earlier = since.zip(after).is_some_and(|(since, after)| after.time < since);
                if !is_later && !is_earlier {
                    return Ok(Some(first));
                }
            }
        }
        for (timeline, first) in self.missing_leading_segments(backups) {
            let before = self.cut_before_segment(&first).find_last_commit(&self.programs, timeline).await?;
            if until.zip(before).is_none_or(|(until, before)| until >= before.time) {
                return Ok(Some(first));
            }
        }
        Ok(None)
    }

    /// Returns the segments that are missing behind a backup and before the first of a timeline, each with the timeline.
    fn missing_leading_segments(&self, backups: &[StoredBackup]) -> Vec<(u32, String)> {
        let needed: Vec<&RequiredWal> =
            backups.iter().filter_map(|stored| required_wal(stored).ok()).collect();
        let mut all = Vec::new();
        // A timeline of which nothing is archived yet lacks nothing.
        let begun = self.archive.timelines.iter().filter(|(_, there)| !there.segments.is_empty());
        for &timeline in begun.map(|(timeline, _)| timeline) {
            let holes = self.archive.missing_segment_names(timeline);
            let from = needed.iter().filter(|needed| self.can_follow_timeline(needed, timeline));
            let missing = from.filter_map(|needed| {
                self.archive.first_missing_segment(timeline, backup_end_lsn(needed), None)
            });
            let outside =
                missing.filter(|name| !holes.iter().any(|(first, last)| first <= name && name <= last));
            all.extend(outside.map(|name| (timeline, name)));
        }
        all
    }

    /// Returns whether the archive has more of `parent` than what its child took over. Where a server was replaced by
    /// its replica, it has not: the end of the parent is in the child's first segment alone.
    fn continues_past_fork(&self, parent: u32, fork: Lsn) -> bool {
        let fork = self.archive.segment_at(fork);
        self.archive.timelines.get(&parent).is_some_and(|there| there.segments.range(fork..).next().is_some())
    }
}

fn foreign_archive_error(cluster: &Cluster, folder: &Path, writer: &str, own: &str) -> Error {
    Error::new(
        Code::Refused,
        format!(
            "the archive `{}` holds the WAL of cluster {writer}, and `{}` is cluster {own}",
            folder.display(),
            cluster.name
        ),
    )
    .with_hint("set `archive_dir` of the target to the folder that this cluster archives to")
}

/// Returns the LSN from which on a backup is consistent.
pub(super) fn backup_end_lsn(needed: &RequiredWal) -> Lsn {
    Lsn::parse(&needed.stop).unwrap_or_default()
}

/// Returns the range of WAL that a backup needs.
///
/// # Errors
/// [`Code::Refused`] when it is not complete.
pub(super) fn required_wal(stored: &StoredBackup) -> Result<&RequiredWal> {
    stored.wal.as_ref().filter(|_| stored.is_completed()).ok_or_else(|| {
        Error::new(Code::Refused, format!("backup `{}` is not complete", stored.id))
            .with_hint("wait until it is, or choose another")
    })
}
