//! A recovery target, looked for in the archive: on which timeline it is, and where recovery stops for it.
//!
//! - A moment, a restore point's own place, and a place or a transaction of a given timeline mean the same whatever was
//!   written later: where the archive has them, it is enough as it is.
//! - A name, and a transaction or a place of no given timeline, may have come up again since, on the same timeline or on
//!   another, so what was written last is archived before each search for one.

use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        model::{RecoveryPoint, RecoveryTarget, RestorePoint},
        postgres::{
            archive_search::ArchiveSearch,
            archive_view::ArchiveView,
            cluster::Cluster,
            engine::StoredBackup,
            records::RecoveryStop,
            wal::{Commit, Lsn, WalRestorePoint},
        },
        restore_points,
    },
};
use std::collections::BTreeSet;

/// A recovery target that was found in the archive.
pub(super) struct ArchivedTarget {
    pub timeline: u32,
    pub stop: RecoveryStop,
    /// The moment, for a target in time: a backup must have been complete by then.
    pub time: Option<Moment>,
    /// The position in the WAL, if known: everything up to it must be there.
    pub lsn: Option<Lsn>,
    /// What could not be searched for it, as a sentence; `None` when everything was that matters.
    pub unseen: Option<String>,
}

impl ArchivedTarget {
    /// Returns the target at which recovery stops as soon as it has replayed the record at `lsn`.
    fn at_place(timeline: u32, lsn: Lsn) -> Self {
        let stop = RecoveryStop::Lsn(lsn.to_string());
        Self { timeline, stop, time: None, lsn: Some(lsn), unseen: None }
    }
}

/// Where a target is looked for.
struct TargetSearch<'a> {
    cluster: &'a Cluster,
    view: &'a ArchiveView,
    backups: &'a [StoredBackup],
    /// The timeline, where the caller says which.
    asked: Option<u32>,
}

/// Finds the target in the archive, which is brought up to date before where that could matter.
pub(super) async fn resolve_target(
    cluster: &Cluster,
    backups: &[StoredBackup],
    to: &RecoveryPoint,
) -> Result<(ArchiveView, ArchivedTarget)> {
    let is_exact = is_exact_target(to);
    if is_exact {
        let view = ArchiveView::read_archive(cluster, backups).await?;
        let looked = TargetSearch { cluster, view: &view, backups, asked: to.timeline }.find_target(to).await;
        match looked {
            Ok(target) => return Ok((view, target)),
            Err(error) if !may_be_unarchived(cluster, &to.at, error.code) => return Err(error),
            Err(_) => {}
        }
    }
    let search = ArchiveSearch::archive_and_read(cluster, backups).await?;
    if let (RecoveryTarget::Latest, true, Some(why)) = (&to.at, cluster.is_running(), &search.unarchived) {
        return Err(why.clone());
    }
    let looking = TargetSearch { cluster, view: &search.view, backups, asked: to.timeline };
    let found = looking.find_target(to).await;
    let target = match found {
        Ok(target) if is_exact => target,
        Ok(target) => ArchivedTarget { unseen: search.describe_unsearched(backups).await?, ..target },
        Err(error) => return Err(search.add_unsearched_to_error(error).await?),
    };
    Ok((search.view, target))
}

/// Returns whether a target means the same whatever was written later.
fn is_exact_target(to: &RecoveryPoint) -> bool {
    match to.at {
        RecoveryTarget::Time(_) | RecoveryTarget::Point(_) => true,
        // One timeline has a place and a transaction once.
        RecoveryTarget::Lsn(_) | RecoveryTarget::Xid(_) => to.timeline.is_some(),
        RecoveryTarget::Name(_) | RecoveryTarget::Latest | RecoveryTarget::BackupEnd => false,
    }
}

/// Returns whether a target that was not found may be in WAL that is not archived yet.
fn may_be_unarchived(cluster: &Cluster, at: &RecoveryTarget, code: Code) -> bool {
    let is_future = matches!(at, RecoveryTarget::Time(time) if *time > cluster.clock.now());
    matches!(code, Code::TargetAfterWindow | Code::NotFound) && !is_future
}

impl TargetSearch<'_> {
    async fn find_target(&self, to: &RecoveryPoint) -> Result<ArchivedTarget> {
        self.check_timeline_is_known().await?;
        match &to.at {
            RecoveryTarget::Time(time) => self.find_target_at_time(*time, to.inclusive).await,
            RecoveryTarget::Latest => self.find_latest_target().await,
            RecoveryTarget::Lsn(text) => self.find_target_at_lsn(Lsn::parse(text)?).await,
            RecoveryTarget::Xid(text) => {
                self.find_target_at_transaction(restore_points::parse_xid(text)?).await
            }
            RecoveryTarget::Name(name) => self.find_named_restore_point(name).await,
            RecoveryTarget::Point(point) => self.find_recorded_restore_point(point).await,
            RecoveryTarget::BackupEnd => {
                Err(Error::new(Code::Internal, "the end of a backup is not looked for in the archive"))
            }
        }
    }

    /// Refuses a timeline that neither the archive nor the cluster knows.
    async fn check_timeline_is_known(&self) -> Result<()> {
        let Some(asked) = self.asked else { return Ok(()) };
        let archived = &self.view.archive.timelines;
        if archived.contains_key(&asked) || self.cluster.current_timeline().await == Some(asked) {
            return Ok(());
        }
        let known: Vec<u32> = archived.keys().copied().collect();
        Err(restore_points::unknown_timeline_error(&self.cluster.name, asked, &known))
    }

    async fn find_target_at_time(&self, time: Moment, inclusive: bool) -> Result<ArchivedTarget> {
        let view = self.view;
        let found = match self.asked {
            Some(asked) => Some(asked),
            None => require_at_most_one_timeline(&view.timelines_holding_time(time).await?, "the moment")?,
        };
        let Some(timeline) = found else {
            return Err(add_hint_on_timelines(
                after_window_error(view.last_commit_in_archive().await?.as_ref()),
                view,
            ));
        };
        let last = view.last_commit_on_timeline(timeline).await?.filter(|last| time <= last.time);
        let Some(last) = last else {
            return Err(after_window_error(view.last_commit_on_timeline(timeline).await?.as_ref()));
        };
        // Nothing comes after the last commit at which recovery could notice that it has gone far enough.
        if inclusive && time == last.time {
            return Ok(ArchivedTarget { time: Some(time), ..ArchivedTarget::at_place(timeline, last.lsn) });
        }
        let stop = RecoveryStop::Time(time);
        Ok(ArchivedTarget { timeline, stop, time: Some(time), lsn: None, unseen: None })
    }

    async fn find_latest_target(&self) -> Result<ArchivedTarget> {
        let timeline = match self.asked {
            Some(asked) => asked,
            None => match self.cluster.current_timeline().await {
                Some(current) => current,
                None => self.view.archive.timelines.keys().next_back().copied().unwrap_or(1),
            },
        };
        let last =
            self.view.last_commit_on_timeline(timeline).await?.ok_or_else(|| after_window_error(None))?;
        Ok(ArchivedTarget::at_place(timeline, last.lsn))
    }

    async fn find_target_at_lsn(&self, lsn: Lsn) -> Result<ArchivedTarget> {
        let view = self.view;
        let found = match self.asked {
            // What is from before its fork is part of its history, too.
            Some(asked) => {
                view.last_commit_on_timeline(asked).await?.filter(|last| lsn <= last.lsn).map(|_| asked)
            }
            None => require_at_most_one_timeline(&view.timelines_holding_lsn(lsn).await?, "the place")?,
        };
        match found {
            Some(timeline) => Ok(ArchivedTarget::at_place(timeline, lsn)),
            None => Err(after_window_error(view.last_commit_in_archive().await?.as_ref())),
        }
    }

    async fn find_target_at_transaction(&self, full: u64) -> Result<ArchivedTarget> {
        // With its epoch an id has 64 bits; WAL has the lower 32.
        let xid = u32::try_from(full & u64::from(u32::MAX)).map_err(|e| {
            Error::new(Code::Internal, format!("transaction {full} cannot be looked for: {e}"))
        })?;
        let commits = self.view.archive.find_commits(&self.view.programs, xid).await?;
        let commits = self.prefer_reachable(commits, |(timeline, commit)| (*timeline, commit.lsn));
        let timelines: Vec<u32> = commits.iter().map(|(timeline, _)| *timeline).collect();
        let only = require_at_most_one_timeline(&timelines, "the transaction")?;
        let (Some(on), [(_, commit)]) = (only, commits.as_slice()) else {
            return Err(match commits.as_slice() {
                [] => restore_points::unknown_transaction_error(&self.cluster.name, full),
                several => repeated_transaction_error(xid, several),
            });
        };
        let timeline = self.asked.unwrap_or(on);
        let stop = RecoveryStop::Xid(xid.to_string());
        Ok(ArchivedTarget { timeline, stop, time: None, lsn: Some(commit.lsn), unseen: None })
    }

    async fn find_named_restore_point(&self, name: &str) -> Result<ArchivedTarget> {
        let all = self.view.archive.list_restore_points(&self.view.programs, 0..=u64::MAX).await?;
        let (named, others): (Vec<WalRestorePoint>, Vec<WalRestorePoint>) =
            all.into_iter().partition(|point| point.name == name);
        let named = self.prefer_reachable(named, |point| (point.timeline, point.lsn));
        match named.as_slice() {
            [] => {
                let known: Vec<String> = others.into_iter().map(|point| point.name).collect();
                Err(restore_points::unknown_name_error(&self.cluster.name, name, &known))
            }
            [only] => Ok(ArchivedTarget::at_place(self.asked.unwrap_or(only.timeline), only.lsn)),
            several => {
                let points: Vec<RestorePoint> =
                    several.iter().map(WalRestorePoint::to_restore_point).collect();
                Err(restore_points::ambiguous_name_error(name, &points))
            }
        }
    }

    /// Finds a restore point where it says that it is, and compares it with what the archive has there.
    async fn find_recorded_restore_point(&self, point: &RestorePoint) -> Result<ArchivedTarget> {
        let (Some(text), Some(timeline)) = (&point.lsn, point.timeline) else {
            return Err(restore_points::placeless_point_error(point));
        };
        let lsn = Lsn::parse(text)?;
        let archive = &self.view.archive;
        let segment = archive.segment_at(lsn);
        let there = archive.list_restore_points(&self.view.programs, segment..=segment + 1).await?;
        let found = there.iter().find(|found| {
            let writer = archive.timeline_that_wrote(found.timeline, found.lsn);
            found.lsn == lsn && found.name == point.name && (found.timeline == timeline || writer == timeline)
        });
        match found {
            Some(found) => Ok(ArchivedTarget::at_place(found.timeline, lsn)),
            // Whoever looks for a way to it says what is missing.
            None if self.is_place_unrecoverable(timeline, lsn).await? => {
                Ok(ArchivedTarget::at_place(timeline, lsn))
            }
            None => Err(restore_points::unknown_point_error(&self.cluster.name, point)),
        }
    }

    /// Returns whether a place lies before everything that can be restored, or in a hole of the archive.
    async fn is_place_unrecoverable(&self, timeline: u32, lsn: Lsn) -> Result<bool> {
        let archive = &self.view.archive;
        if archive.timelines.contains_key(&timeline) && !self.view.is_reachable(self.backups, timeline, lsn) {
            return Ok(true);
        }
        let last = self.view.last_commit_on_timeline(timeline).await?;
        let is_missing = archive.first_missing_segment(timeline, lsn, Some(Lsn(lsn.0 + 1))).is_some();
        Ok(is_missing && last.is_some_and(|last| lsn < last.lsn))
    }

    /// Keeps of what was found in files of timelines what is in the history that is asked for, and of that what a backup
    /// leads to. Where none does, the newest is kept: why it cannot be reached is then said of it.
    fn prefer_reachable<T>(&self, found: Vec<T>, place: impl Fn(&T) -> (u32, Lsn)) -> Vec<T> {
        let is_asked = |one: &T| {
            let (on, lsn) = place(one);
            self.asked.is_none_or(|asked| self.view.archive.is_in_history(asked, on, lsn))
        };
        let is_reachable = |one: &T| {
            let (on, lsn) = place(one);
            self.view.is_reachable(self.backups, on, lsn)
        };
        let asked: Vec<T> = found.into_iter().filter(is_asked).collect();
        let (reachable, mut lost): (Vec<T>, Vec<T>) = asked.into_iter().partition(is_reachable);
        if reachable.is_empty() {
            lost.sort_by_key(|one| std::cmp::Reverse(place(one)));
            lost.truncate(1);
            return lost;
        }
        reachable
    }
}

/// Returns the error for a transaction id that was given out more than once on one timeline.
fn repeated_transaction_error(xid: u32, commits: &[(u32, Commit)]) -> Error {
    let places: Vec<String> =
        commits.iter().map(|(_, commit)| format!("at {}, of {}", commit.lsn, commit.time)).collect();
    Error::new(
        Code::Refused,
        format!(
            "transaction {xid} was committed {} times: {}; nothing was restored",
            commits.len(),
            places.join("; ")
        ),
    )
    .with_hint("give the place of the one you mean, such as `to: #{ lsn: … }`")
}

/// Returns the only timeline, or `None` when there is none; refuses several.
fn require_at_most_one_timeline(timelines: &[u32], what: &str) -> Result<Option<u32>> {
    let distinct: BTreeSet<u32> = timelines.iter().copied().collect();
    let (Some(first), Some(last)) = (distinct.first(), distinct.last()) else { return Ok(None) };
    if first == last {
        return Ok(Some(*first));
    }
    let named: Vec<String> = distinct.iter().map(u32::to_string).collect();
    Err(Error::new(
        Code::AmbiguousTimeline,
        format!("{what} is on {} timelines: {}", named.len(), named.join(", ")),
    )
    .with_hint(format!("say which, such as `timeline={last}`, the newest")))
}

/// Adds to the hint the timelines to choose from, where there are several.
fn add_hint_on_timelines(error: Error, view: &ArchiveView) -> Error {
    let there: Vec<String> = view.archive.timelines.keys().map(|id| format!("`timeline={id}`")).collect();
    match &error.hint {
        Some(hint) if there.len() > 1 => {
            let hint = format!("{hint}; between two timelines, say which: {}", there.join(", "));
            error.with_hint(hint)
        }
        _ => error,
    }
}

fn after_window_error(latest: Option<&Commit>) -> Error {
    let error =
        Error::new(Code::TargetAfterWindow, "nothing in the archive was committed at the target or later");
    match latest {
        Some(latest) => error.with_hint(format!(
            "the last commit that is archived is of {}; while the source is alive, `pitr mark` and restoring to now bring the archive up to date",
            latest.time
        )),
        None => error.with_hint("no commit is archived yet"),
    }
}
