//! The restore window: what can be restored, from the backups and the archive alone; the source may be dead.

use super::{
    archive_view::{self, ArchiveView},
    cluster::Cluster,
    engine::{BuiltinEngine, RequiredWal, StoredBackup, manifest},
    wal::{self, Commit, Lsn, RelationNames},
};
use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        model::{BackupUsability, RecoveryWindow, TableEvent, TableEventQuery, Verification},
    },
};

/// Returns what can be restored.
///
/// # Errors
/// [`Code::Refused`] when nobody knows where the archive is, [`Code::Unavailable`] when it cannot be read.
pub(super) async fn compute_window(cluster: &Cluster) -> Result<RecoveryWindow> {
    let engine = BuiltinEngine::for_cluster(cluster)?;
    let all = engine.list_backups()?;
    let horizon = ArchiveView::read_archive(cluster, &all).await?;
    let backups: Vec<BackupUsability> =
        all.iter().map(|stored| check_usable(&engine, &horizon, stored)).collect();
    let sound: Vec<&StoredBackup> =
        all.iter().zip(&backups).filter(|(_, seen)| seen.usable).map(|(stored, _)| stored).collect();
    let latest = latest_reachable_commit(cluster, &horizon, &sound).await?;
    let earliest = sound.iter().filter_map(|stored| stored.finished_at).min();
    // A backup can be restored to its own end, whatever is missing behind it.
    let whole = sound.iter().filter_map(|stored| stored.finished_at).max();
    Ok(RecoveryWindow {
        earliest,
        latest: latest.as_ref().map(|commit| commit.time).max(whole),
        latest_lsn: latest.map(|commit| commit.lsn.to_string()),
        gaps: [describe_gaps(&horizon, &sound)?, describe_lost_times(&horizon, &sound).await?].concat(),
        backups,
        timelines: horizon.archive.timelines.keys().copied().collect(),
        warnings: collect_warnings(cluster, &horizon, &sound).await,
    })
}

fn check_usable(engine: &BuiltinEngine<'_>, horizon: &ArchiveView, stored: &StoredBackup) -> BackupUsability {
    let why = if let Ok(needed) = archive_view::required_wal(stored) {
        let damage = manifest::compare_with_manifest(&engine.files_folder(&stored.id).join("data"))
            .err()
            .map(|e| e.message);
        damage.or_else(|| {
            let missing = first_missing_own_segment(horizon, needed)?;
            Some(format!("WAL segment `{missing}`, without which it is not whole, is missing"))
        })
    } else {
        Some("it is not complete yet".into())
    };
    BackupUsability { id: stored.id.clone(), usable: why.is_none(), why }
}

/// Returns the first segment that is missing of those that were written while the backup was made.
fn first_missing_own_segment(horizon: &ArchiveView, needed: &RequiredWal) -> Option<String> {
    let start = Lsn::parse(&needed.start).ok()?;
    horizon.archive.first_missing_segment(needed.timeline, start, Some(archive_view::backup_end_lsn(needed)))
}

/// Returns the last commit on the cluster's timeline that recovery reaches from any backup.
async fn latest_reachable_commit(
    cluster: &Cluster,
    horizon: &ArchiveView,
    sound: &[&StoredBackup],
) -> Result<Option<Commit>> {
    let newest = horizon.archive.timelines.keys().next_back().copied();
    let current = cluster.current_timeline().await.filter(|id| horizon.archive.timelines.contains_key(id));
    let Some(timeline) = current.or(newest) else { return Ok(None) };
    let mut latest: Option<Commit> = None;
    for stored in sound.iter().rev() {
        let needed = archive_view::required_wal(stored)?;
        if horizon.can_follow_timeline(needed, timeline) {
            let reached = horizon.find_recoverable(needed, timeline).await?.last;
            if reached.as_ref().map(|c| c.time) > latest.as_ref().map(|c| c.time) {
                latest = reached;
            }
        }
    }
    Ok(latest)
}

/// Returns a sentence for every hole behind the oldest backup.
fn describe_gaps(horizon: &ArchiveView, sound: &[&StoredBackup]) -> Result<Vec<String>> {
    let Some(oldest) = sound.first() else { return Ok(Vec::new()) };
    let since = archive_view::backup_end_lsn(archive_view::required_wal(oldest)?);
    let archive = &horizon.archive;
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
            let next = next_backup_end_after(horizon, sound, &last);
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

/// Returns a sentence for every stretch of time that is lost between a backup and the next, because WAL is missing
/// behind it.
async fn describe_lost_times(horizon: &ArchiveView, sound: &[&StoredBackup]) -> Result<Vec<String>> {
    let mut sentences = Vec::new();
    for (at, stored) in sound.iter().enumerate() {
        let needed = archive_view::required_wal(stored)?;
        let reach = horizon.find_recoverable(needed, needed.timeline).await?;
        let Some(missing) = reach.missing else { continue };
        let next = sound.get(at + 1).copied();
        let is_before = |next: &StoredBackup| {
            let start =
                archive_view::required_wal(next).map(archive_view::backup_end_lsn).unwrap_or_default();
            horizon.archive.segment_name(needed.timeline, horizon.archive.segment_at(start)) < missing
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
fn next_backup_end_after(horizon: &ArchiveView, sound: &[&StoredBackup], missing: &str) -> Option<Moment> {
    let behind = |stored: &&&StoredBackup| {
        archive_view::required_wal(stored).is_ok_and(|needed| {
            let segment = horizon.archive.segment_at(archive_view::backup_end_lsn(needed));
            *horizon.archive.segment_name(needed.timeline, segment) > *missing
        })
    };
    sound.iter().find(behind).and_then(|stored| stored.finished_at)
}

async fn collect_warnings(cluster: &Cluster, horizon: &ArchiveView, sound: &[&StoredBackup]) -> Vec<String> {
    let mut warnings = Vec::new();
    if sound.is_empty() {
        warnings.push("there is no usable backup, so nothing can be restored".to_owned());
    }
    warnings.extend(
        BuiltinEngine::for_cluster(cluster)
            .and_then(|engine| engine.unreadable_backups())
            .unwrap_or_default(),
    );
    match cluster.archiver_failure().await {
        Ok(None) => {}
        Ok(Some(why)) => warnings.push(format!("WAL is not being archived: {why}")),
        Err(e) => warnings.push(format!("whether the archiver works cannot be seen: {}", e.message)),
    }
    for damaged in &horizon.archive.damaged {
        warnings.push(format!("the archived segment `{damaged}` does not have the length of a segment"));
    }
    warnings
}

/// Reads a backup through, and looks for the WAL that it needs.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Refused`] when it is not complete.
pub(super) async fn verify_backup(cluster: &Cluster, id: &str) -> Result<Verification> {
    let engine = BuiltinEngine::for_cluster(cluster)?;
    let stored = engine.get_backup(id)?;
    let needed = archive_view::required_wal(&stored)?;
    let mut problems = engine.verify_backup(id).await?;
    let mut checked = vec!["checksums".to_owned()];
    match ArchiveView::read_archive(cluster, std::slice::from_ref(&stored)).await {
        Ok(horizon) => {
            checked.push("wal".into());
            let start = Lsn::parse(&needed.start)?;
            let stop = Some(archive_view::backup_end_lsn(needed));
            let missing = horizon.archive.first_missing_segment(needed.timeline, start, stop);
            problems.extend(
                missing.map(|segment| format!("WAL segment `{segment}` is missing from the archive")),
            );
        }
        Err(e) => problems.push(format!("the archive was not looked at: {}", e.message)),
    }
    Ok(Verification { id: id.into(), ok: problems.is_empty(), checked, problems })
}

/// Returns the drops and truncates that the archive shows.
///
/// # Errors
/// As for the archive; when nothing is found, also [`Code::WalGap`] and [`Code::Refused`] for WAL that could not be
/// looked at: that there was nothing is then not known.
pub(super) async fn find_events(cluster: &Cluster, query: &TableEventQuery) -> Result<Vec<TableEvent>> {
    let all = BuiltinEngine::for_cluster(cluster)?.list_backups()?;
    // What was dropped a moment ago lies in a segment that is not full yet.
    let archived = if cluster.is_running() { cluster.archive_now().await } else { Ok(()) };
    let horizon = ArchiveView::read_archive(cluster, &all).await?;
    let mut names = RelationNames::default();
    all.iter().filter_map(|stored| stored.names.clone()).for_each(|older| names.merge_newer(older));
    if let Ok(client) = cluster.address.connect().await {
        names.merge_newer(wal::fetch_relation_names(&client).await?);
    }
    let events = horizon.archive.find_events(&horizon.tools, query, &names).await?;
    if events.is_empty() {
        check_searched_everywhere(cluster, &horizon, &all, query, archived).await?;
    }
    Ok(events)
}

/// Refuses to say that there was nothing where not all of the time that was asked for could be searched.
async fn check_searched_everywhere(
    cluster: &Cluster,
    horizon: &ArchiveView,
    backups: &[StoredBackup],
    query: &TableEventQuery,
    archived: Result<()>,
) -> Result<()> {
    if let Some(segment) = horizon.find_unsearchable_segment(backups, query.since, query.until).await? {
        return Err(Error::new(
            Code::WalGap,
            format!("nothing was found, but WAL segment `{segment}` is missing and could not be searched"),
        )
        .with_hint(
            "bring the segment back, or ask for a time span without it; `pitr window` shows every gap",
        ));
    }
    let Err(why) = archived else { return Ok(()) };
    let timeline = cluster.current_timeline().await.unwrap_or_default();
    let last = horizon.last_commit(timeline).await?.map(|commit| commit.time);
    if query.until.zip(last).is_some_and(|(until, last)| until <= last) {
        return Ok(());
    }
    let since = last.map_or_else(|| "any commit".into(), |last| format!("what was committed after {last}"));
    let message = format!("nothing was found, but {since} could not be searched: {}", why.message);
    Err(Error { code: Code::Refused, message, ..why })
}
