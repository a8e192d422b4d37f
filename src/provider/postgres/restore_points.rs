//! Restore points. WAL has their names alone, so a record says which key made which.

use super::{archive_view::ArchiveView, cluster::Cluster, engine::BuiltinEngine, sql};
use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        host::record_file,
        model::{CallKey, RestorePoint},
    },
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The longest name that PostgreSQL takes, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// A requested restore point; while `lsn` is `None`, nobody knows whether it was made.
#[derive(Debug, Serialize, Deserialize)]
struct RestorePointRecord {
    name: String,
    asked_at: Moment,
    lsn: Option<String>,
    time: Option<Moment>,
}

fn record_path(cluster: &Cluster, key: &CallKey) -> PathBuf {
    cluster.records.home().join("marks").join(format!("{key}.json"))
}

/// Makes a restore point.
///
/// # Errors
/// [`Code::Invalid`] for a name that is too long; what the server says.
pub(super) async fn make_restore_point(cluster: &Cluster, name: &str, key: &CallKey) -> Result<RestorePoint> {
    if let Some(made) = find_restore_point(cluster, name, key).await? {
        return Ok(made);
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        return Err(Error::new(Code::Invalid, format!("`{name}` is no name for a restore point"))
            .with_hint(format!("use 1 to {NAME_BYTES_MAX} bytes")));
    }
    let client = cluster.address.connect().await?;
    let asked = cluster.clock.now();
    let mut record = RestorePointRecord { name: name.into(), asked_at: asked, lsn: None, time: None };
    record_file::write_record(&record_path(cluster, key), &record)?;
    let statement = format!("select pg_create_restore_point('{}')", name.replace('\'', "''"));
    // The statement was sent: without an answer its outcome is unknown, and is looked up in the WAL.
    let made = sql::fetch_text(&client, &statement).await.map_err(|e| match e.code {
        Code::Unavailable | Code::Timeout => Error { code: Code::Unknown, retryable: false, ..e },
        _ => e,
    })?;
    record.lsn = Some(made.unwrap_or_default());
    record.time = Some(cluster.clock.now());
    record_file::write_record(&record_path(cluster, key), &record)?;
    Ok(to_restore_point(&record))
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
    let Some(mut record) = record_file::read_record::<RestorePointRecord>(&record_path(cluster, key))?
        .filter(|record| record.name == name)
    else {
        return Ok(None);
    };
    if record.lsn.is_some() {
        return Ok(Some(to_restore_point(&record)));
    }
    // A process died before it recorded the answer. The archive must be complete before it can prove absence.
    cluster.archive_fence().await.map_err(|e| {
        Error::new(Code::Unknown, format!("nobody knows whether restore point `{name}` was made: {e}"))
    })?;
    let view =
        ArchiveView::read_archive(cluster, &BuiltinEngine::for_cluster(cluster)?.list_backups()?).await?;
    let points = view.archive.find_restore_points(&view.programs, name).await?;
    let Some(point) = points.into_iter().find(|point| record.asked_at <= point.time) else { return Ok(None) };
    record.lsn = Some(point.lsn.to_string());
    record.time = Some(point.time);
    record_file::write_record(&record_path(cluster, key), &record)?;
    Ok(Some(to_restore_point(&record)))
}

fn to_restore_point(record: &RestorePointRecord) -> RestorePoint {
    RestorePoint {
        name: record.name.clone(),
        lsn: record.lsn.clone().unwrap_or_default(),
        time: record.time.unwrap_or(record.asked_at),
    }
}
