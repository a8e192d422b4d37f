//! Restore points. What was made under a key is written down, because the WAL only knows names.

use super::{builtin::Builtin, cluster::Cluster, horizon::Horizon, records, sql};
use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        model::{Key, Mark},
    },
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The longest name that PostgreSQL takes, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// A restore point that was asked for; without a place, it is not known whether it was made.
#[derive(Debug, Serialize, Deserialize)]
struct MarkRecord {
    name: String,
    asked_at: Moment,
    lsn: Option<String>,
    time: Option<Moment>,
}

fn path(cluster: &Cluster, key: &Key) -> PathBuf {
    cluster.records.home().join("marks").join(format!("{key}.json"))
}

/// Makes a restore point.
///
/// # Errors
/// [`Code::Invalid`] for a name that is too long; what the server says.
pub(super) async fn make(cluster: &Cluster, name: &str, key: &Key) -> Result<Mark> {
    if let Some(made) = find(cluster, name, key).await? {
        return Ok(made);
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        return Err(Error::new(Code::Invalid, format!("`{name}` is no name for a restore point"))
            .hint(format!("use 1 to {NAME_BYTES_MAX} bytes")));
    }
    let client = cluster.address.connect().await?;
    let asked = cluster.clock.now();
    let mut record = MarkRecord { name: name.into(), asked_at: asked, lsn: None, time: None };
    records::write(&path(cluster, key), &record)?;
    let statement = format!("select pg_create_restore_point('{}')", name.replace('\'', "''"));
    // Sent: whatever keeps the answer from us leaves it unknown, and the WAL is asked.
    let made = sql::text(&client, &statement).await.map_err(|e| match e.code {
        Code::Unavailable | Code::Timeout => Error { code: Code::Unknown, retryable: false, ..e },
        _ => e,
    })?;
    record.lsn = Some(made.unwrap_or_default());
    record.time = Some(cluster.clock.now());
    records::write(&path(cluster, key), &record)?;
    Ok(mark(&record))
}

/// Returns the restore point that was made under `key`.
///
/// # Errors
/// [`Code::Unknown`] when it was asked for, nobody wrote down an answer, and the source is not there to be asked.
pub(super) async fn find(cluster: &Cluster, name: &str, key: &Key) -> Result<Option<Mark>> {
    let Some(mut record) =
        records::read::<MarkRecord>(&path(cluster, key))?.filter(|record| record.name == name)
    else {
        return Ok(None);
    };
    if record.lsn.is_some() {
        return Ok(Some(mark(&record)));
    }
    // We died between asking and writing down the answer. The archive must have everything before it can say no.
    cluster.fence().await.map_err(|e| {
        Error::new(Code::Unknown, format!("nobody knows whether restore point `{name}` was made: {e}"))
    })?;
    let horizon = Horizon::of(cluster, &Builtin::of(cluster)?.list()?).await?;
    let points = horizon.archive.restore_points(&horizon.tools, name).await?;
    let Some(point) = points.into_iter().find(|point| record.asked_at <= point.time) else { return Ok(None) };
    record.lsn = Some(point.lsn.to_string());
    record.time = Some(point.time);
    records::write(&path(cluster, key), &record)?;
    Ok(Some(mark(&record)))
}

fn mark(record: &MarkRecord) -> Mark {
    Mark {
        name: record.name.clone(),
        lsn: record.lsn.clone().unwrap_or_default(),
        time: record.time.unwrap_or(record.asked_at),
    }
}
