//! The recovery window: what can be restored, by the backups and the archive alone; the source may be down.

use super::{
    archive_view::{self, ArchiveView},
    cluster::Cluster,
    engine::{BuiltinEngine, RequiredWal, StoredBackup, manifest},
    wal::{Commit, Lsn},
};
use crate::{
    base::moment::Moment,
    provider::{
        Result,
        model::{BackupUsability, RecoveryWindow},
    },
};

/// Returns what can be restored.
///
/// # Errors
/// [`Code::Refused`] when nobody knows where the archive is, [`Code::Unavailable`] when it cannot be read.
pub(super) async fn compute_window(cluster: &Cluster) -> Result<RecoveryWindow> {
    let engine = BuiltinEngine::for_cluster(cluster)?;
    let all = engine.list_backups()?;
    let view = ArchiveView::read_archive(cluster, &all).await?;
    let backups: Vec<BackupUsability> =
        all.iter().map(|stored| backup_usability(&engine, &view, stored)).collect();
    let sound: Vec<&StoredBackup> =
        all.iter().zip(&backups).filter(|(_, seen)| seen.usable).map(|(stored, _)| stored).collect();
    let latest = latest_reachable_commit(cluster, &view, &sound).await?;
    let earliest = sound.iter().filter_map(|stored| stored.finished_at).min();
    // A backup can be restored to its own end, whatever is missing behind it.
    let whole = sound.iter().filter_map(|stored| stored.finished_at).max();
    Ok(RecoveryWindow {
        earliest,
        latest: latest.as_ref().map(|commit| commit.time).max(whole),
        latest_lsn: latest.map(|commit| commit.lsn.to_string()),
        gaps: [describe_gaps(&view, &sound)?, describe_lost_times(&view, &sound).await?].concat(),
        backups,
        timelines: view.archive.timelines.keys().copied().collect(),
        warnings: collect_warnings(cluster, &view, &sound).await,
    })
}

fn backup_usability(
    engine: &BuiltinEngine<'_>,
    view: &ArchiveView,
    stored: &StoredBackup,
) -> BackupUsability {
    let why = if let Ok(needed) = archive_view::required_wal(stored) {
        let damage = manifest::compare_with_manifest(&engine.files_folder(&stored.id).join("data"))
            .err()
            .map(|e| e.message);
        damage.or_else(|| {
            let missing = first_missing_own_segment(view, needed)?;
            Some(format!("WAL segment `{missing}`, without which it is not whole, is missing"))
        })
    } else {
        Some("it is not complete yet".into())
    };
    BackupUsability { id: stored.id.clone(), usable: why.is_none(), why }
}

/// Returns the first segment that is missing of those that were written while the backup was made.
fn first_missing_own_segment(view: &ArchiveView, needed: &RequiredWal) -> Option<String> {
    let start = Lsn::parse(&needed.start).ok()?;
    view.archive.first_missing_segment(needed.timeline, start, Some(archive_view::backup_end_lsn(needed)))
}

/// Returns the last commit on the cluster's timeline that recovery reaches from any backup.
async fn latest_reachable_commit(
    cluster: &Cluster,
    view: &ArchiveView,
    sound: &[&StoredBackup],
) -> Result<Option<Commit>> {
    let newest = view.archive.timelines.keys().next_back().copied();
    let current = cluster.current_timeline().await.filter(|id| view.archive.timelines.contains_key(id));
    let Some(timeline) = current.or(newest) else { return Ok(None) };
    let mut latest: Option<Commit> = None;
    for stored in sound.iter().rev() {
        let needed = archive_view::required_wal(stored)?;
        if view.can_follow_timeline(needed, timeline) {
            let reached = view.find_recovery_end(needed, timeline).await?.last;
            if reached.as_ref().map(|c| c.time) > latest.as_ref().map(|c| c.time) {
                latest = reached;
            }
        }
    }
    Ok(latest)
}

/// Returns a sentence for every hole behind the oldest backup.
fn describe_gaps(view: &ArchiveView, sound: &[&StoredBackup]) -> Result<Vec<String>> {
    let Some(oldest) = sound.first() else { return Ok(Vec::new()) };
    let since = archive_view::backup_end_lsn(archive_view::required_wal(oldest)?);
    let archive = &view.archive;
    let mut sentences = Vec::new();
    for &timeline in archive.timelines.keys() {
        let own = archive.segment_name(timeline, archive.segment_at(since));
        for (first, last) in archive.missing_segment_names(timeline) {
            if last < own {
                continue;
            }
            let which = if first == last {
                format!("WAL segment `{first}` is")
            } else {
                format!("WAL segments `{first}` to `{last}` are")
            };
            let next = next_backup_end_after(view, sound, &last);
            sentences.push(match next {
                Some(next) => format!("{which} missing: nothing from there on can be restored, until {next}"),
                None => format!(
                    "{which} missing: nothing from there on can be restored, until there is a newer backup"
                ),
            });
        }
    }
    Ok(sentences)
}

/// Returns a sentence for every span of time that is lost between a backup and the next, because WAL is missing
/// behind it.
async fn describe_lost_times(view: &ArchiveView, sound: &[&StoredBackup]) -> Result<Vec<String>> {
    let mut sentences = Vec::new();
    for (at, stored) in sound.iter().enumerate() {
        let needed = archive_view::required_wal(stored)?;
        let reach = view.find_recovery_end(needed, needed.timeline).await?;
        let Some(missing) = reach.missing else { continue };
        let next = sound.get(at + 1).copied();
        let is_before = |next: &StoredBackup| {
            let start =
                archive_view::required_wal(next).map(archive_view::backup_end_lsn).unwrap_or_default();
            view.archive.segment_name(needed.timeline, view.archive.segment_at(start)) < missing
        };
        // The next backup, and not this one, is the last before the hole.
        if next.is_some_and(is_before) {
            continue;
        }
        let from = reach.last.map(|commit| commit.time).max(stored.finished_at);
        let from = from.map_or_else(String::new, |from| format!(" after {from}"));
        let until =
            next.and_then(|next| next.finished_at).map_or_else(String::new, |t| format!(" and before {t}"));
        sentences.push(format!(
            "no moment{from}{until} can be restored: behind backup `{}` WAL segment `{missing}` is missing",
            stored.id
        ));
    }
    Ok(sentences)
}

/// Returns when the first backup behind a hole was whole.
fn next_backup_end_after(view: &ArchiveView, sound: &[&StoredBackup], missing: &str) -> Option<Moment> {
    let behind = |stored: &&&StoredBackup| {
        archive_view::required_wal(stored).is_ok_and(|needed| {
            let segment = view.archive.segment_at(archive_view::backup_end_lsn(needed));
            *view.archive.segment_name(needed.timeline, segment) > *missing
        })
    };
    sound.iter().find(behind).and_then(|stored| stored.finished_at)
}

async fn collect_warnings(cluster: &Cluster, view: &ArchiveView, sound: &[&StoredBackup]) -> Vec<String> {
    let mut warnings = Vec::new();
    if sound.is_empty() {
        warnings.push("there is no usable backup, so nothing can be restored".to_owned());
    }
    warnings.extend(
        BuiltinEngine::for_cluster(cluster)
            .and_then(|engine| engine.describe_unreadable_backups())
            .unwrap_or_default(),
    );
    match cluster.archiver_failure().await {
        Ok(None) => {}
        Ok(Some(why)) => warnings.push(format!("WAL is not being archived: {why}")),
        Err(e) => warnings.push(format!("whether the archiver works cannot be seen: {}", e.message)),
    }
    for damaged in &view.archive.damaged {
        warnings.push(format!("the archived segment `{damaged}` does not have the length of a segment"));
    }
    warnings
}
