//! Deleting a backup, and the WAL that no other backup needs.
//!
//! An archive may be shared: other tools, and other targets, have backups of the same cluster. Each leaves a history
//! file in the archive. WAL is kept from the oldest of them on; all of it is kept if some is another cluster's.

use super::{BuiltinEngine, StoredBackup};
use crate::provider::{
    Code, Error, Result,
    host::record_file,
    model::BackupDeletion,
    postgres::{
        archive_view::{self, ArchiveView},
        cluster::Cluster,
        wal::{Lsn, WalArchive},
    },
};
use std::ffi::OsStr;

/// Returns what deleting a backup would remove and which moments could no longer be restored.
///
/// # Errors
/// [`Code::NotFound`].
pub(in super::super) async fn plan_deletion(cluster: &Cluster, id: &str) -> Result<BackupDeletion> {
    let all = BuiltinEngine::for_cluster(cluster)?.list_backups()?;
    let stored = BuiltinEngine::for_cluster(cluster)?.get_backup(id)?;
    let rest: Vec<&StoredBackup> = all.iter().filter(|other| other.id != id).collect();
    let wal = match ArchiveView::read_archive(cluster, &all).await {
        Ok(view) => first_kept_segment(cluster, &view, &stored, &rest)
            .map_or(0, |first| wal_bytes_before(&view, first)),
        // Without an archive nothing of it becomes free.
        Err(_) => 0,
    };
    let earliest =
        |of: &[&StoredBackup]| of.iter().filter(|s| s.is_completed()).filter_map(|s| s.finished_at).min();
    Ok(BackupDeletion {
        id: id.into(),
        also: Vec::new(),
        bytes: stored.bytes + wal,
        earliest_before: earliest(&all.iter().collect::<Vec<_>>()),
        earliest_after: earliest(&rest),
    })
}

/// Deletes a backup as it was planned.
///
/// # Errors
/// [`Code::Conflict`] when backups have changed since the plan, or the backup is being restored from.
pub(in super::super) async fn delete_backup(cluster: &Cluster, plan: &BackupDeletion) -> Result<()> {
    let engine = BuiltinEngine::for_cluster(cluster)?;
    let all = engine.list_backups()?;
    let deleted = all.iter().find(|stored| stored.id == plan.id);
    if deleted.is_some() {
        let now = plan_deletion(cluster, &plan.id).await?;
        if (&now.also, now.earliest_after) != (&plan.also, plan.earliest_after) {
            return Err(Error::new(
                Code::Conflict,
                format!("other backups have come or gone since the deletion of `{}` was planned", plan.id),
            )
            .with_hint("plan it again"));
        }
        // One whose maker is gone, and whose run was left, is nobody's: it would stay for ever.
        if !engine.get_backup(&plan.id)?.is_completed() && engine.is_at_work(&plan.id)? {
            return Err(Error::new(Code::Conflict, format!("backup `{}` is still being made", plan.id))
                .with_hint("wait until it is complete"));
        }
        if let Some(user) = cluster.records.find_reader_of_backup(&plan.id)? {
            return Err(Error::new(
                Code::Conflict,
                format!("{user} is being restored from backup `{}`", plan.id),
            ));
        }
    }
    engine.delete_backup(&plan.id)?;
    match deleted {
        Some(deleted) => remove_unneeded_wal(cluster, &all, deleted).await,
        None => Ok(()),
    }
}

/// Removes the WAL that no backup needs any more. When no backup is left, nothing is removed:
/// another tool may have a backup of its own.
async fn remove_unneeded_wal(cluster: &Cluster, all: &[StoredBackup], deleted: &StoredBackup) -> Result<()> {
    let rest: Vec<&StoredBackup> = all.iter().filter(|stored| stored.id != deleted.id).collect();
    let Ok(view) = ArchiveView::read_archive(cluster, all).await else { return Ok(()) };
    let archive = &view.archive;
    let first = first_kept_segment(cluster, &view, deleted, &rest);
    // Left in place, the history file would keep the WAL of the deleted backup for ever.
    for (history, ..) in archive.backups.iter().filter(|history| is_backup_history_of(history, deleted)) {
        record_file::remove_file(&archive.folder.join(history)).map_err(Error::with_side_effects)?;
    }
    let Some(first) = first else { return Ok(()) };
    let timeline = archive.timelines.keys().next().copied().unwrap_or(1);
    let name = archive.segment_name(timeline, first);
    let args = [archive.folder.as_os_str(), OsStr::new(&name)];
    view.programs.run("pg_archivecleanup", &args).await.map(drop).map_err(Error::with_side_effects)
}

/// Returns the oldest segment to keep when `deleted` goes and `rest` stays; `None` to keep all.
fn first_kept_segment(
    cluster: &Cluster,
    view: &ArchiveView,
    deleted: &StoredBackup,
    rest: &[&StoredBackup],
) -> Option<u64> {
    if !BuiltinEngine::for_cluster(cluster)
        .and_then(|engine| engine.describe_unreadable_backups())
        .ok()?
        .is_empty()
    {
        // Nobody knows what a backup needs that cannot be read, and it is not among the others.
        return None;
    }
    let archive = &view.archive;
    let others = archive.backups.iter().filter(|history| !is_backup_history_of(history, deleted));
    let first = others
        .map(|(_, _, start)| archive.segment_at(*start))
        .chain([first_needed_segment(archive, rest)?])
        .min()?;
    let goes = archive.timelines.iter().flat_map(|(timeline, there)| {
        there.segments.range(..first).map(|segment| archive.segment_name(*timeline, *segment))
    });
    let own = Some(deleted.system_identifier.as_str());
    goes.into_iter()
        .all(|segment| archive.read_system_identifier(&segment).as_deref() == own)
        .then_some(first)
}

/// Returns whether a history file in the archive is that of `stored`.
fn is_backup_history_of((_, timeline, start): &(String, u32, Lsn), stored: &StoredBackup) -> bool {
    stored.wal.as_ref().is_some_and(|needed| {
        needed.timeline == *timeline && Lsn::parse(&needed.start).is_ok_and(|s| s == *start)
    })
}

/// Returns the oldest segment that these backups need; `None` while that of one is not known: it is unfinished, or says of
/// itself what cannot be read.
fn first_needed_segment(archive: &WalArchive, backups: &[&StoredBackup]) -> Option<u64> {
    let start = |stored: &&StoredBackup| {
        let needed = archive_view::required_wal(stored).ok()?;
        Some(archive.segment_at(Lsn::parse(&needed.start).ok()?))
    };
    backups.iter().map(start).collect::<Option<Vec<u64>>>()?.into_iter().min()
}

fn wal_bytes_before(view: &ArchiveView, first: u64) -> u64 {
    let older = |segments: &std::collections::BTreeSet<u64>| segments.range(..first).count() as u64;
    view.archive.timelines.values().map(|timeline| older(&timeline.segments)).sum::<u64>()
        * view.archive.segment_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn stored(phase: &str, wal: &Value) -> StoredBackup {
        let moment = "2026-11-20T03:00:00Z";
        serde_json::from_value(json!({
            "id": "b", "target": "lab", "label": null, "key": "BACKUP0001", "stage": phase, "child": null, "starts": 1,
            "started_at": moment, "finished_at": moment, "expected_bytes": 1, "bytes": 1, "system_identifier": "7",
            "archive": "/nowhere", "wal": wal, "names": null,
        }))
        .expect("a backup")
    }

    /// Where it is not known what one of them needs, nothing is known of all.
    #[test]
    fn a_backup_that_does_not_say_where_it_begins_keeps_all_wal() {
        let folder = tempfile::tempdir().expect("a folder");
        let archive = WalArchive::scan_folder(folder.path()).expect("an archive");
        let from = |start: &str| json!({ "Timeline": 1, "Start-LSN": start, "End-LSN": "0/9000000" });
        let old = stored("completed", &from("0/3000028"));
        let new = stored("completed", &from("0/7000028"));
        assert_eq!(first_needed_segment(&archive, &[&new, &old]), Some(3));
        assert_eq!(first_needed_segment(&archive, &[]), None);
        for odd in [
            stored("completed", &Value::Null),
            stored("completed", &from("nowhere")),
            stored("archiving", &from("0/3000028")),
            stored("copying", &Value::Null),
        ] {
            assert_eq!(first_needed_segment(&archive, &[&new, &odd]), None, "{odd:?}");
        }
    }
}
