//! Restore points. WAL has their names alone, so a record says which key made which.
//!
//! - A name is taken while a backup leads to a restore point that has it, on whatever timeline: the archive is brought up to
//!   date and searched before one is made.
//! - One whose answer never came can come no more when its session has ended, and is then looked for.
//! - A restore point counts as made when it is seen in the archive. The server does not flush one by itself, and one that is
//!   lost with the server leads nowhere.

use super::{
    archive_view::ArchiveView,
    cluster::Cluster,
    engine::{BuiltinEngine, StoredBackup},
    sql::{self, SessionName},
    wal::{Lsn, WalRestorePoint},
};
use crate::provider::{
    Code, Error, Result,
    host::record_file,
    model::{CallKey, RestorePoint},
    restore_points::{check_point_name, describe_place, taken_name_error},
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A requested restore point; while `made` is `None`, nobody knows whether it was made.
#[derive(Debug, Serialize, Deserialize)]
struct RestorePointRecord {
    name: String,
    /// Where the WAL ended before it was asked for; no record of an earlier version says it.
    after: Option<WalEnd>,
    /// The restore point, as the archive has it.
    made: Option<RestorePoint>,
}

/// The end of the WAL of a running server.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WalEnd {
    timeline: u32,
    lsn: String,
}

fn record_path(cluster: &Cluster, key: &CallKey) -> PathBuf {
    cluster.records.target_folder().join("marks").join(format!("{key}.json"))
}

/// Makes a restore point, and archives it.
///
/// # Errors
/// [`Code::Invalid`] for a text that is no name, [`Code::Conflict`] for a name that is taken, what the server says; with side
/// effects when it was made and cannot be archived.
pub(super) async fn make_and_archive_restore_point(
    cluster: &Cluster,
    name: &str,
    key: &CallKey,
) -> Result<RestorePoint> {
    if let Some(made) = find_restore_point(cluster, name, key).await? {
        return Ok(made);
    }
    check_point_name(name)?;
    let client = cluster.address.connect().await?;
    match sql::end_sessions(&client, &[session_name(name)]).await {
        // That another call has lost one of this name is not known here.
        Err(e) if e.code == Code::Unknown => {}
        ended => ended?,
    }
    cluster.commit_and_archive_fence().await?;
    check_name_is_free(cluster, name).await?;
    let after = fetch_wal_end(&client).await?;
    sql::name_session(&client, &session_name(name)).await?;
    let record = RestorePointRecord { name: name.into(), after: Some(after.clone()), made: None };
    record_file::write_record(&record_path(cluster, key), &record)?;
    let statement = format!("select pg_create_restore_point('{}')", name.replace('\'', "''"));
    // Without an answer its outcome is unknown, and is looked up in the WAL.
    let end = sql::send_change(&client, &statement).await?;
    match find_acknowledged_restore_point(cluster, name, &after, end.as_deref()).await {
        Ok(Some(point)) => save_made_point(cluster, key, record, &point),
        Ok(None) => Err(unarchived_point_error(name, "it is not in the archive")),
        Err(why) => Err(unarchived_point_error(name, &why.message)),
    }
}

/// Returns the restore point that the server has answered with its end. Another process may make one of the same name at
/// the same moment; the answer tells them apart.
async fn find_acknowledged_restore_point(
    cluster: &Cluster,
    name: &str,
    after: &WalEnd,
    end: Option<&str>,
) -> Result<Option<WalRestorePoint>> {
    let end = end.map(Lsn::parse).transpose()?;
    let points = archive_and_find_restore_points(cluster, name, after).await?;
    let is_before_end = |point: &WalRestorePoint| end.is_none_or(|end| point.lsn < end);
    Ok(points.into_iter().filter(is_before_end).max_by_key(|point| point.lsn))
}

/// Returns the restore point that was made under `key`.
///
/// # Errors
/// [`Code::Unknown`] when it was requested, no answer was recorded, and the source does not answer now.
pub(super) async fn find_restore_point(
    cluster: &Cluster,
    name: &str,
    key: &CallKey,
) -> Result<Option<RestorePoint>> {
    let Some(record) = record_file::read_record::<RestorePointRecord>(&record_path(cluster, key))?
        .filter(|record| record.name == name)
    else {
        return Ok(None);
    };
    if record.made.is_some() {
        return Ok(record.made);
    }
    let unknown = |why: &str| {
        Error::new(Code::Unknown, format!("nobody knows whether restore point `{name}` was made: {why}"))
    };
    let Some(after) = record.after.clone() else {
        return Err(unknown("its record was written by another version of redrill"));
    };
    // What was sent must not come after the look, and can come only through its session.
    let client = cluster.address.connect().await.map_err(|e| unknown(&e.message))?;
    sql::end_sessions(&client, &[session_name(name)]).await.map_err(|e| unknown(&e.message))?;
    // A process died before it recorded the answer. The archive must be complete before it can prove absence.
    let points =
        archive_and_find_restore_points(cluster, name, &after).await.map_err(|e| unknown(&e.message))?;
    match points.as_slice() {
        [] => Ok(None),
        [only] => save_made_point(cluster, key, record, only).map(Some),
        several => Err(unknown(&format!("{} of this name were made at that time", several.len()))),
    }
}

/// Returns the name of a session that makes a restore point.
fn session_name(point: &str) -> SessionName {
    SessionName::for_thing("mark", point)
}

/// Refuses a name while a backup leads to a restore point that has it.
async fn check_name_is_free(cluster: &Cluster, name: &str) -> Result<()> {
    let backups = BuiltinEngine::for_cluster(cluster)?.list_backups()?;
    let view = ArchiveView::read_archive(cluster, &backups).await?;
    // What no backup leads to is no part of the recovery window.
    if !backups.iter().any(StoredBackup::is_completed) {
        return Ok(());
    }
    let points = view.archive.list_restore_points(&view.programs, 0..=u64::MAX).await?;
    let taken = points.iter().find(|p| p.name == name && view.is_reachable(&backups, p.timeline, p.lsn));
    taken.map_or(Ok(()), |taken| Err(taken_name_error(name, &describe_place(&taken.to_restore_point()))))
}

async fn fetch_wal_end(client: &sql::Client) -> Result<WalEnd> {
    let place = "select pg_current_wal_insert_lsn()::text";
    let timeline = "select left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)";
    let (lsn, timeline) = (sql::fetch_text(client, place).await?, sql::fetch_text(client, timeline).await?);
    let timeline = timeline.and_then(|hex| u32::from_str_radix(&hex, 16).ok());
    let (Some(lsn), Some(timeline)) = (lsn, timeline) else {
        return Err(Error::new(
            Code::Tool,
            "the server does not say where its WAL ends; no restore point was made",
        ));
    };
    Ok(WalEnd { timeline, lsn })
}

/// Archives everything up to now, and returns the restore points of this name that were made after a place.
async fn archive_and_find_restore_points(
    cluster: &Cluster,
    name: &str,
    after: &WalEnd,
) -> Result<Vec<WalRestorePoint>> {
    cluster.commit_and_archive_fence().await?;
    let backups = BuiltinEngine::for_cluster(cluster)?.list_backups()?;
    let view = ArchiveView::read_archive(cluster, &backups).await?;
    let archive = &view.archive;
    let from = Lsn::parse(&after.lsn)?;
    let mut points = archive.list_restore_points(&view.programs, archive.segment_at(from)..=u64::MAX).await?;
    points.retain(|point| {
        let writer = archive.timeline_that_wrote(point.timeline, point.lsn);
        point.name == name && from <= point.lsn && writer == after.timeline
    });
    Ok(points)
}

/// Records that a restore point was made. One that cannot be recorded is there all the same.
fn save_made_point(
    cluster: &Cluster,
    key: &CallKey,
    record: RestorePointRecord,
    point: &WalRestorePoint,
) -> Result<RestorePoint> {
    let made = point.to_restore_point();
    let record = RestorePointRecord { made: Some(made.clone()), ..record };
    record_file::write_record(&record_path(cluster, key), &record)
        .map_err(|e| e.with_left_behind(format!("restore point {}", record.name)))?;
    Ok(made)
}

fn unarchived_point_error(name: &str, why: &str) -> Error {
    Error::new(
        Code::Refused,
        format!("restore point `{name}` was made and cannot be gone back to yet: {why}"),
    )
    .with_hint("mend the archiving; then it can be gone back to by its name, which is taken")
    .with_left_behind(format!("restore point {name}"))
}
