//! That one data folder is restored by one at a time, whatever state folder it is asked from.
//!
//! Whoever is let in leaves a file beside the data, made only where there is none, before anything else is done.

use super::RestoreRecord;
use crate::provider::{
    Code, Error, Result,
    postgres::{cluster::Cluster, records},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

/// Who restores.
#[derive(Debug, Serialize, Deserialize)]
struct Lock {
    key: String,
    run: Option<String>,
    /// Where it is written down how far the restore is.
    record: PathBuf,
}

fn path(data: &Path) -> PathBuf {
    let mut name = data.file_name().unwrap_or_default().to_owned();
    name.push(".restore-lock");
    data.with_file_name(name)
}

/// Refuses while another restore of this data is under way, also one from another state folder. A lock whose restore
/// is over, by its record or by what can be seen, is taken away.
///
/// # Errors
/// [`Code::Conflict`] naming the record and the run.
pub(super) fn check(cluster: &Cluster, data: &Path) -> Result<()> {
    let all: Vec<RestoreRecord> = records::read_all(&cluster.records.home().join("restores"))?;
    if let Some(mine) = all.iter().find(|record| !record.is_over()) {
        return Err(conflict(data, &of(cluster, mine)));
    }
    if let Some(lock) = records::read::<Lock>(&path(data))? {
        let known: Option<RestoreRecord> = records::read(&lock.record)?;
        if !known.is_some_and(|record| record.is_over()) {
            return Err(conflict(data, &lock));
        }
        records::remove(&path(data))?;
    }
    Ok(())
}

/// Lets one restore in; one that is in already stays so.
///
/// # Errors
/// [`Code::Conflict`] when another was faster.
pub(super) fn lock(cluster: &Cluster, record: &RestoreRecord) -> Result<()> {
    let path = path(&record.data);
    let failed = |e: &dyn std::fmt::Display| {
        Error::new(Code::Tool, format!("`{}` cannot be written: {e}", path.display()))
    };
    let lock = of(cluster, record);
    let text = serde_json::to_vec(&lock).map_err(|e| failed(&e))?;
    match File::options().write(true).create_new(true).open(&path) {
        Ok(mut file) => file.write_all(&text).and_then(|()| file.sync_all()).map_err(|e| failed(&e)),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let there = records::read::<Lock>(&path).ok().flatten().unwrap_or(lock);
            if there.key == record.key.0 { Ok(()) } else { Err(conflict(&record.data, &there)) }
        }
        Err(e) => Err(failed(&e)),
    }
}

/// Lets the next one in.
///
/// # Errors
/// [`Code::Tool`].
pub(super) fn unlock(record: &RestoreRecord) -> Result<()> {
    let path = path(&record.data);
    let is_ours = records::read::<Lock>(&path)?.is_some_and(|lock| lock.key == record.key.0);
    if is_ours { records::remove(&path) } else { Ok(()) }
}

fn of(cluster: &Cluster, record: &RestoreRecord) -> Lock {
    let path = RestoreRecord::path(cluster, &record.key.0);
    Lock { key: record.key.0.clone(), run: record.run.clone(), record: path }
}

fn conflict(data: &Path, other: &Lock) -> Error {
    let run = other.run.as_ref().map_or_else(|| "no run".to_owned(), |run| format!("run `{run}`"));
    Error::new(
        Code::Conflict,
        format!(
            "another restore of `{}` is under way: `{}`, of {run}, written down in `{}`",
            data.display(),
            other.key,
            other.record.display()
        ),
    )
    .hint(format!(
        "take that run up again with `resume`; if its record is gone for good, remove `{}`",
        path(data).display()
    ))
}
