//! The plan of a restore, made before anything is touched: where it stops, which timeline, which backup.
//!
//! - Recovery notices late, or never, that its target cannot be reached: it fails after minutes of replay, or comes up
//!   on the wrong timeline with the wrong rows. So every refusal is made here.
//! - The source is changed in one way: before a search by name, transaction or place, and for a target after the end of the
//!   archive, a marker is committed and archived where its server runs ([`Cluster::commit_and_archive_fence`]).

use super::{
    archived_target::{ArchivedTarget, resolve_target},
    isolation,
};
use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        host::disk,
        model::{RecoveryTarget, RestoreRequest},
        postgres::{
            archive_view::{self, ArchiveView},
            cluster::{Cluster, control_file::ControlFile},
            engine::{BuiltinEngine, StoredBackup, manifest},
            records::{RecoveryPlan, RecoveryStop},
            wal::{Lsn, ReplayLimit},
        },
    },
};
use std::{fs, path::Path};

/// A restore that passed every check.
pub(in super::super) struct RestorePlan {
    /// From which backup recovery starts, and where it stops.
    pub recovery: RecoveryPlan,
    /// The system identifier of the cluster that is restored.
    pub system_identifier: String,
}

/// Plans a restore to `folder`.
///
/// # Errors
/// Any reason to refuse.
pub(in super::super) async fn plan_restore(
    cluster: &Cluster,
    request: &RestoreRequest,
    folder: &Path,
) -> Result<RestorePlan> {
    let engine = BuiltinEngine::for_cluster(cluster)?;
    let all = engine.list_backups()?;
    let requested = request.backup.as_deref().map(|id| engine.get_backup(id)).transpose()?;
    if let Some(requested) = &requested {
        archive_view::required_wal(requested)?;
    }
    // A damaged backup fails only a request that names it.
    let is_sound = |stored: &StoredBackup| {
        stored.is_completed()
            && manifest::compare_with_manifest(&engine.files_folder(&stored.id).join("data")).is_ok()
    };
    let candidates: Vec<StoredBackup> = match requested {
        Some(requested) => vec![requested],
        None => all.iter().filter(|stored| is_sound(stored)).cloned().collect(),
    };
    let (Some(oldest), Some(newest)) = (candidates.first(), candidates.last()) else {
        return Err(Error::new(Code::Refused, format!("`{}` has no usable backup", cluster.name))
            .with_hint("make one with `backup create`"));
    };
    let system_identifier = check_and_identify_backup(cluster, newest, folder).await?;
    let (backup, view, target) = if request.to.at == RecoveryTarget::BackupEnd {
        let needed = archive_view::required_wal(newest)?;
        let own = needed.timeline;
        if request.to.timeline.is_some_and(|requested| requested != own) {
            return Err(Error::new(
                Code::Invalid,
                format!("backup `{}` ends on timeline {own}, and on no other", newest.id),
            ));
        }
        let lsn = Some(archive_view::backup_end_lsn(needed));
        let target =
            ArchivedTarget { timeline: own, stop: RecoveryStop::BackupEnd, time: None, lsn, unseen: None };
        (newest.clone(), ArchiveView::read_archive(cluster, &all).await?, target)
    } else {
        check_not_before_oldest_backup(&request.to.at, oldest)?;
        let (view, target) = resolve_target(cluster, &all, &request.to).await?;
        let backup = choose_backup(&view, &candidates, &target).await?;
        (backup, view, target)
    };
    if backup.id != newest.id {
        check_and_identify_backup(cluster, &backup, folder).await?;
    }
    check_no_new_tablespace(&view, &backup, &target).await?;
    let recovery = RecoveryPlan {
        backup: backup.id,
        stop: target.stop,
        inclusive: request.to.inclusive,
        timeline: target.timeline,
        archive: view.archive.folder,
        unseen: target.unseen,
    };
    Ok(RestorePlan { recovery, system_identifier })
}

/// Refuses a moment at which no backup was whole yet, whatever the archive holds.
fn check_not_before_oldest_backup(at: &RecoveryTarget, oldest: &StoredBackup) -> Result<()> {
    match (at, oldest.finished_at) {
        (RecoveryTarget::Time(time), Some(earliest)) if *time < earliest => {
            Err(before_window_error(earliest))
        }
        _ => Ok(()),
    }
}

/// Returns the newest backup from which the target can be reached without a hole.
async fn choose_backup(
    view: &ArchiveView,
    candidates: &[StoredBackup],
    target: &ArchivedTarget,
) -> Result<StoredBackup> {
    let mut refusal = None;
    for stored in candidates.iter().rev() {
        match find_why_unreachable(view, stored, target).await? {
            None => return Ok(stored.clone()),
            // The refusal of the newest backup that is old enough says the most.
            Some(error) if error.code == Code::WalGap => refusal = refusal.or(Some(error)),
            Some(_) => {}
        }
    }
    let earliest = candidates.first().and_then(|stored| stored.finished_at);
    Err(refusal.or(earliest.map(before_window_error)).unwrap_or_else(|| {
        Error::new(Code::Refused, format!("no backup leads to timeline {}", target.timeline))
    }))
}

/// Returns why the target cannot be reached from a backup.
async fn find_why_unreachable(
    view: &ArchiveView,
    stored: &StoredBackup,
    target: &ArchivedTarget,
) -> Result<Option<Error>> {
    let needed = archive_view::required_wal(stored)?;
    let from = archive_view::backup_end_lsn(needed);
    let too_young = target.time.is_some_and(|time| stored.finished_at.is_none_or(|whole| time < whole))
        || target.lsn.is_some_and(|lsn| lsn < from)
        || !view.can_follow_timeline(needed, target.timeline);
    if too_young {
        return Ok(Some(Error::new(Code::TargetBeforeWindow, "the backup is younger than the target")));
    }
    let missing = if let Some(lsn) = target.lsn {
        view.archive.first_missing_segment(target.timeline, from, Some(Lsn(lsn.0 + 1)))
    } else {
        let reach = view.find_recovery_end(needed, target.timeline).await?;
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
    view: &ArchiveView,
    backup: &StoredBackup,
    target: &ArchivedTarget,
) -> Result<()> {
    let from = Lsn::parse(&archive_view::required_wal(backup)?.start)?;
    let until = match (target.lsn, target.time) {
        (Some(lsn), _) => ReplayLimit::Lsn(lsn),
        (None, Some(time)) => ReplayLimit::Time(time),
        (None, None) => ReplayLimit::Lsn(Lsn(u64::MAX)),
    };
    match view.archive.find_created_tablespace(&view.programs, target.timeline, from, until).await? {
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
async fn check_and_identify_backup(
    cluster: &Cluster,
    backup: &StoredBackup,
    folder: &Path,
) -> Result<String> {
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

fn before_window_error(earliest: Moment) -> Error {
    Error::new(Code::TargetBeforeWindow, "no backup is old enough for the target")
        .with_hint(format!("the earliest moment that can be restored is {earliest}"))
}
