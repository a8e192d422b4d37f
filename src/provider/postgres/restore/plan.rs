//! The plan of a restore, made before anything is touched: where it stops, which timeline, which backup.
//!
//! Recovery itself notices late, or never, that a target cannot be reached: it dies after minutes of replay, and with
//! the wrong timeline it comes up with the wrong rows. So every refusal comes from here. The one
//! thing that is done to the source, when it is alive and the target lies between the end of the archive and now, is a
//! fence: a marker and a WAL switch.

use super::isolation;
use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        host::disk,
        model::{RecoveryPoint, RecoveryTarget, RestoreRequest},
        postgres::{
            archive_view::{self, ArchiveView},
            cluster::{Cluster, control_file::ControlFile},
            engine::{BuiltinEngine, StoredBackup, manifest},
            records::{RecoveryPlan, RecoveryStop},
            wal::{Commit, Lsn, ReplayLimit},
        },
    },
};
use std::{fs, path::Path};

/// A restore that passed every check.
pub(in super::super) struct RestorePlan {
    /// Where it starts and stops.
    pub recovery: RecoveryPlan,
    /// The cluster that is restored.
    pub system_identifier: String,
}

/// A recovery target that was found in the archive.
struct ArchivedTarget {
    timeline: u32,
    stop: RecoveryStop,
    /// The moment, where it is one: a backup must have been whole by then.
    time: Option<Moment>,
    /// The place in the WAL, where it is known: it must be there without a hole.
    place: Option<Lsn>,
}

/// Plans a restore to `folder`.
///
/// # Errors
/// Every refusal there is.
pub(in super::super) async fn plan_restore(
    cluster: &Cluster,
    request: &RestoreRequest,
    folder: &Path,
) -> Result<RestorePlan> {
    let engine = BuiltinEngine::for_cluster(cluster)?;
    let all = engine.list_backups()?;
    let asked = request.backup.as_deref().map(|id| engine.get_backup(id)).transpose()?;
    if let Some(asked) = &asked {
        archive_view::required_wal(asked)?;
    }
    // A damaged backup is only in the way of those who ask for it.
    let is_sound = |stored: &StoredBackup| {
        stored.is_completed()
            && manifest::compare_with_manifest(&engine.files_folder(&stored.id).join("data")).is_ok()
    };
    let candidates: Vec<StoredBackup> = match asked {
        Some(asked) => vec![asked],
        None => all.iter().filter(|stored| is_sound(stored)).cloned().collect(),
    };
    let (Some(oldest), Some(newest)) = (candidates.first(), candidates.last()) else {
        return Err(Error::new(Code::Refused, format!("`{}` has no usable backup", cluster.name))
            .with_hint("make one with `backup create`"));
    };
    let system_identifier = check_backup(cluster, newest, folder).await?;
    let (backup, horizon, target) = if request.to.at == RecoveryTarget::BackupEnd {
        let needed = archive_view::required_wal(newest)?;
        let own = needed.timeline;
        if request.to.timeline.is_some_and(|asked| asked != own) {
            return Err(Error::new(
                Code::Invalid,
                format!("backup `{}` ends on timeline {own}, and on no other", newest.id),
            ));
        }
        let place = Some(archive_view::backup_end_lsn(needed));
        let target = ArchivedTarget { timeline: own, stop: RecoveryStop::BackupEnd, time: None, place };
        (newest.clone(), ArchiveView::read_archive(cluster, &all).await?, target)
    } else {
        check_not_before(&request.to.at, oldest)?;
        let (horizon, target) = resolve_target(cluster, &all, &request.to).await?;
        let backup = choose_backup(&horizon, &candidates, &target).await?;
        (backup, horizon, target)
    };
    if backup.id != newest.id {
        check_backup(cluster, &backup, folder).await?;
    }
    check_no_new_tablespace(&horizon, &backup, &target).await?;
    let recovery = RecoveryPlan {
        backup: backup.id,
        stop: target.stop,
        inclusive: request.to.inclusive,
        timeline: target.timeline,
        archive: horizon.archive.folder,
    };
    Ok(RestorePlan { recovery, system_identifier })
}

/// Refuses a moment at which no backup was whole yet, whatever the archive holds.
fn check_not_before(at: &RecoveryTarget, oldest: &StoredBackup) -> Result<()> {
    match (at, oldest.finished_at) {
        (RecoveryTarget::Time(time), Some(earliest)) if *time < earliest => {
            Err(before_window_error(earliest))
        }
        _ => Ok(()),
    }
}

/// Finds the target in the archive; when it is not there yet and the source is alive, brings the archive up to now.
async fn resolve_target(
    cluster: &Cluster,
    all: &[StoredBackup],
    to: &RecoveryPoint,
) -> Result<(ArchiveView, ArchivedTarget)> {
    if to.at == RecoveryTarget::Latest && cluster.is_running() {
        cluster.archive_fence().await?;
        let horizon = ArchiveView::read_archive(cluster, all).await?;
        let target = find_target(cluster, &horizon, to).await?;
        return Ok((horizon, target));
    }
    let horizon = ArchiveView::read_archive(cluster, all).await?;
    let error = match find_target(cluster, &horizon, to).await {
        Ok(target) => return Ok((horizon, target)),
        Err(error) => error,
    };
    let is_past = !matches!(&to.at, RecoveryTarget::Time(time) if *time > cluster.clock.now());
    if error.code != Code::TargetAfterWindow || !is_past || !cluster.is_running() {
        return Err(error);
    }
    cluster.archive_fence().await?;
    let horizon = ArchiveView::read_archive(cluster, all).await?;
    let target = find_target(cluster, &horizon, to).await?;
    Ok((horizon, target))
}

async fn find_target(cluster: &Cluster, horizon: &ArchiveView, to: &RecoveryPoint) -> Result<ArchivedTarget> {
    match &to.at {
        RecoveryTarget::Time(time) => find_time(horizon, *time, to).await,
        RecoveryTarget::Latest => find_latest(cluster, horizon, to.timeline).await,
        RecoveryTarget::Lsn(text) => find_lsn(horizon, Lsn::parse(text)?, to.timeline).await,
        RecoveryTarget::Xid(text) => find_xid(horizon, text, to.timeline).await,
        RecoveryTarget::Name(name) => find_name(horizon, name, to.timeline).await,
        RecoveryTarget::BackupEnd => {
            Err(Error::new(Code::Internal, "the end of a backup is not looked for in the archive"))
        }
    }
}

async fn find_time(horizon: &ArchiveView, time: Moment, to: &RecoveryPoint) -> Result<ArchivedTarget> {
    let found = match to.timeline {
        Some(asked) => Some(asked),
        None => only_timeline(&horizon.timelines_holding_time(time).await?, "the moment")?,
    };
    let Some(timeline) = found else {
        return Err(hint_at_timelines(after_window_error(latest_commit(horizon).await?.as_ref()), horizon));
    };
    let last = horizon.last_commit(timeline).await?.filter(|last| time <= last.time);
    let Some(last) = last else {
        return Err(after_window_error(horizon.last_commit(timeline).await?.as_ref()));
    };
    // Nothing comes after the last commit at which recovery could notice that it has gone far enough.
    let is_the_end = to.inclusive && time == last.time;
    let stop = if is_the_end { RecoveryStop::Lsn(last.lsn.to_string()) } else { RecoveryStop::Time(time) };
    Ok(ArchivedTarget { timeline, stop, time: Some(time), place: is_the_end.then_some(last.lsn) })
}

async fn find_latest(cluster: &Cluster, horizon: &ArchiveView, asked: Option<u32>) -> Result<ArchivedTarget> {
    let timeline = match asked {
        Some(asked) => asked,
        None => match cluster.current_timeline().await {
            Some(current) => current,
            None => horizon.archive.timelines.keys().next_back().copied().unwrap_or(1),
        },
    };
    let last = horizon.last_commit(timeline).await?.ok_or_else(|| after_window_error(None))?;
    Ok(ArchivedTarget {
        timeline,
        stop: RecoveryStop::Lsn(last.lsn.to_string()),
        time: None,
        place: Some(last.lsn),
    })
}

async fn find_lsn(horizon: &ArchiveView, place: Lsn, asked: Option<u32>) -> Result<ArchivedTarget> {
    let mut holding = horizon.timelines_holding_lsn(place).await?;
    holding.retain(|timeline| asked.is_none_or(|asked| asked == *timeline));
    let Some(timeline) = only_timeline(&holding, "the place")? else {
        return Err(after_window_error(latest_commit(horizon).await?.as_ref()));
    };
    Ok(ArchivedTarget {
        timeline,
        stop: RecoveryStop::Lsn(place.to_string()),
        time: None,
        place: Some(place),
    })
}

async fn find_xid(horizon: &ArchiveView, text: &str, asked: Option<u32>) -> Result<ArchivedTarget> {
    let wrong = || Error::new(Code::Invalid, format!("`{text}` is no transaction id"));
    let full: u64 = text.trim().parse().map_err(|_| wrong())?;
    // With its epoch it is longer; in the WAL it stands without.
    let xid = u32::try_from(full & u64::from(u32::MAX)).map_err(|_| wrong())?;
    let mut commits = horizon.archive.find_commits(&horizon.tools, xid).await?;
    commits.retain(|(timeline, _)| asked.is_none_or(|asked| asked == *timeline));
    let timelines: Vec<u32> = commits.iter().map(|(timeline, _)| *timeline).collect();
    let timeline = only_timeline(&timelines, "the transaction")?.ok_or_else(|| {
        Error::new(Code::TargetAfterWindow, format!("no commit of transaction {text} is in the archive"))
            .with_hint("look at `pitr window`; a transaction that was rolled back cannot be a target")
    })?;
    let place = commits.first().map(|(_, commit)| commit.lsn);
    Ok(ArchivedTarget { timeline, stop: RecoveryStop::Xid(xid.to_string()), time: None, place })
}

async fn find_name(horizon: &ArchiveView, name: &str, asked: Option<u32>) -> Result<ArchivedTarget> {
    let mut points = horizon.archive.find_restore_points(&horizon.tools, name).await?;
    points.retain(|point| asked.is_none_or(|asked| asked == point.timeline));
    let mut timelines: Vec<u32> = points.iter().map(|point| point.timeline).collect();
    timelines.sort_unstable();
    timelines.dedup();
    let timeline = only_timeline(&timelines, "the restore point")?.ok_or_else(|| {
        Error::new(Code::TargetAfterWindow, format!("there is no restore point `{name}` in the archive"))
            .with_hint("make one with `pitr mark`")
    })?;
    let [point] = points.as_slice() else {
        return Err(Error::new(
            Code::Refused,
            format!(
                "there are {} restore points `{name}`, and recovery stops at the first it meets",
                points.len()
            ),
        )
        .with_hint(format!(
            "name a place instead: {}",
            points.iter().map(|p| format!("`{}` of {}", p.lsn, p.time)).collect::<Vec<_>>().join(", ")
        )));
    };
    Ok(ArchivedTarget { timeline, stop: RecoveryStop::Name(name.into()), time: None, place: Some(point.lsn) })
}

/// Returns the only timeline, or `None` when there is none; refuses several.
fn only_timeline(timelines: &[u32], what: &str) -> Result<Option<u32>> {
    match timelines {
        [] => Ok(None),
        [only] => Ok(Some(*only)),
        several => Err(Error::new(
            Code::AmbiguousTimeline,
            format!(
                "{what} is on {} timelines: {}",
                several.len(),
                several.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
            ),
        )
        .with_hint(format!("say which, such as `timeline={}`", several[0]))),
    }
}

/// Returns the last commit of the whole archive.
async fn latest_commit(horizon: &ArchiveView) -> Result<Option<Commit>> {
    let mut latest: Option<Commit> = None;
    for &timeline in horizon.archive.timelines.keys() {
        let last = horizon.last_commit(timeline).await?;
        if last.as_ref().map(|c| c.time) > latest.as_ref().map(|c| c.time) {
            latest = last;
        }
    }
    Ok(latest)
}

/// Returns the newest backup from which the target can be reached without a hole.
async fn choose_backup(
    horizon: &ArchiveView,
    candidates: &[StoredBackup],
    target: &ArchivedTarget,
) -> Result<StoredBackup> {
    let mut refusal = None;
    for stored in candidates.iter().rev() {
        match find_objection(horizon, stored, target).await? {
            None => return Ok(stored.clone()),
            // The newest backup that is old enough has the most to say.
            Some(error) if error.code == Code::WalGap => refusal = refusal.or(Some(error)),
            Some(_) => {}
        }
    }
    let earliest = candidates.first().and_then(|stored| stored.finished_at);
    Err(refusal.or(earliest.map(before_window_error)).unwrap_or_else(|| {
        Error::new(Code::Refused, format!("no backup leads to timeline {}", target.timeline))
    }))
}

async fn find_objection(
    horizon: &ArchiveView,
    stored: &StoredBackup,
    target: &ArchivedTarget,
) -> Result<Option<Error>> {
    let needed = archive_view::required_wal(stored)?;
    let from = archive_view::backup_end_lsn(needed);
    let too_young = target.time.is_some_and(|time| stored.finished_at.is_none_or(|whole| time < whole))
        || target.place.is_some_and(|place| place < from)
        || !horizon.can_follow_timeline(needed, target.timeline);
    if too_young {
        return Ok(Some(Error::new(Code::TargetBeforeWindow, "the backup is younger than the target")));
    }
    let missing = if let Some(place) = target.place {
        horizon.archive.first_missing_segment(target.timeline, from, Some(Lsn(place.0 + 1)))
    } else {
        let reach = horizon.find_recoverable(needed, target.timeline).await?;
        let reached = reach.last.is_some_and(|last| target.time.is_some_and(|time| time <= last.time));
        reach.missing.filter(|_| !reached)
    };
    Ok(missing.map(|segment| {
        Error::new(
            Code::WalGap,
            format!("WAL segment `{segment}` is missing between backup `{}` and the target", stored.id),
        )
        .with_hint("bring the segment back, or choose a target before it; `pitr window` shows every gap")
    }))
}

/// Refuses a replay that would create a tablespace: its WAL record names the source's folder, and a copy that
/// replays it writes and deletes there.
async fn check_no_new_tablespace(
    horizon: &ArchiveView,
    backup: &StoredBackup,
    target: &ArchivedTarget,
) -> Result<()> {
    let from = Lsn::parse(&archive_view::required_wal(backup)?.start)?;
    let until = match (target.place, target.time) {
        (Some(place), _) => ReplayLimit::Lsn(place),
        (None, Some(time)) => ReplayLimit::Time(time),
        (None, None) => ReplayLimit::Lsn(Lsn(u64::MAX)),
    };
    match horizon.archive.find_created_tablespace(&horizon.tools, target.timeline, from, until).await? {
        None => Ok(()),
        Some(made) => Err(Error::new(
            Code::Refused,
            format!(
                "tablespace {made} was made after backup `{}`, and replaying that would let the copy into the \
                 source's own files",
                backup.id
            ),
        )
        .with_hint("restore from a backup that was made after the tablespace, or to a moment with a later commit before it")),
    }
}

/// Checks the backup and the folder it would go to; returns the system identifier of its cluster.
async fn check_backup(cluster: &Cluster, backup: &StoredBackup, folder: &Path) -> Result<String> {
    let files = BuiltinEngine::for_cluster(cluster)?.files_folder(&backup.id);
    let data = files.join("data");
    manifest::compare_with_manifest(&data)?;
    for (oid, to) in isolation::list_tablespace_links(&data)? {
        if !to.starts_with(&files) {
            return Err(isolation::unmapped_tablespace_error(&oid));
        }
    }
    let major =
        |data: &Path| fs::read_to_string(data.join("PG_VERSION")).unwrap_or_default().trim().to_owned();
    let (of_backup, of_cluster) = (major(&data), major(&cluster.data));
    if of_backup != of_cluster {
        return Err(Error::new(
            Code::Refused,
            format!(
                "backup `{}` is of PostgreSQL {of_backup}, and the cluster is of {of_cluster}",
                backup.id
            ),
        )
        .with_hint("a backup can only be restored with the programs of its own version"));
    }
    let copy = ControlFile::read(&cluster.programs()?, &data).await?;
    let own = cluster.read_control_file().await?.system_identifier;
    if copy.system_identifier != own {
        return Err(Error::new(
            Code::Refused,
            format!("backup `{}` is of cluster {}, and not of {own}", backup.id, copy.system_identifier),
        ));
    }
    disk::check_free_space(backup.bytes, folder)?;
    Ok(copy.system_identifier)
}

/// Adds the timelines to choose from, where there are several.
fn hint_at_timelines(error: Error, horizon: &ArchiveView) -> Error {
    let there: Vec<String> = horizon.archive.timelines.keys().map(|id| format!("`timeline={id}`")).collect();
    match &error.hint {
        Some(hint) if there.len() > 1 => {
            let hint = format!("{hint}; between two timelines, say which: {}", there.join(", "));
            error.with_hint(hint)
        }
        _ => error,
    }
}

fn before_window_error(earliest: Moment) -> Error {
    Error::new(Code::TargetBeforeWindow, "no backup is old enough for the target")
        .with_hint(format!("the earliest moment that can be restored is {earliest}"))
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
