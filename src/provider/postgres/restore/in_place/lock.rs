//! The lock on a data folder: one restore at a time, from whichever state folder.
//!
//! The lock is a file beside the data, made exclusively and completely before anything else is done.

use crate::{
    base::shell,
    provider::{
        Code, Error, Result,
        host::record_file,
        postgres::{cluster::Cluster, records::RestoreRecord},
    },
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// The restore that holds the lock.
#[derive(Debug, Serialize, Deserialize)]
struct RestoreLock {
    key: String,
    run: Option<String>,
    /// The file with the record of the restore.
    record: PathBuf,
    /// The configuration file of whoever holds it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<PathBuf>,
}

/// Returns the file that locks a data folder.
pub(super) fn lock_path(data: &Path) -> PathBuf {
    let mut name = data.file_name().unwrap_or_default().to_owned();
    name.push(".restore-lock");
    data.with_file_name(name)
}

/// Fails while another restore of this data is under way, even from another state folder. A lock whose
/// restore is over, by its record or by the folders, is removed.
///
/// # Errors
/// [`Code::Conflict`] naming the record and the run.
pub(super) fn check_unlocked_and_clear_stale(cluster: &Cluster, data: &Path) -> Result<()> {
    if let Some(mine) = cluster.records.list_restores()?.iter().find(|record| !record.is_over()) {
        return Err(conflict_error(cluster, data, &restore_lock_of(cluster, mine)));
    }
    if let Some(lock) = read_lock(data)? {
        let known: Option<RestoreRecord> = record_file::read_record(&lock.record)?;
        if !known.is_some_and(|record| record.is_over()) {
            return Err(conflict_error(cluster, data, &lock));
        }
        record_file::remove_file(&lock_path(data))?;
    }
    Ok(())
}

/// Acquires the lock for a restore; succeeds if that restore holds it already.
///
/// # Errors
/// [`Code::Conflict`] when another was faster.
pub(super) fn acquire_lock(cluster: &Cluster, record: &RestoreRecord) -> Result<()> {
    let path = lock_path(&record.data);
    let lock = restore_lock_of(cluster, record);
    match record_file::write_new_record(&path, &lock.key, &lock) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => match read_lock(&record.data)? {
            Some(there) if there.key == record.key.0 => Ok(()),
            Some(there) => Err(conflict_error(cluster, &record.data, &there)),
            // It has gone since.
            None => acquire_lock(cluster, record),
        },
        Err(e) => Err(record_file::unwritable_error(&path, &e)),
    }
}

/// Reads the lock of a data folder. One without a word in it is nobody's, and is removed: whoever began to write it was killed
/// before it locked anything.
///
/// # Errors
/// [`Code::Internal`] when it cannot be read.
fn read_lock(data: &Path) -> Result<Option<RestoreLock>> {
    let path = lock_path(data);
    if fs::metadata(&path).is_ok_and(|found| found.len() == 0) {
        record_file::remove_file(&path)?;
    }
    record_file::read_record(&path).map_err(|error| {
        error.with_hint(format!(
            "see that no restore of `{}` is under way, then remove `{}`",
            data.display(),
            path.display()
        ))
    })
}

/// Releases the lock if this restore holds it, and removes what was left of making it.
///
/// # Errors
/// [`Code::Tool`].
pub(super) fn release_lock(record: &RestoreRecord) -> Result<()> {
    record_file::remove_file(&record_file::unlinked_record_path(&lock_path(&record.data), &record.key.0))?;
    let is_ours = read_lock(&record.data)?.is_some_and(|lock| lock.key == record.key.0);
    if is_ours { record_file::remove_file(&lock_path(&record.data)) } else { Ok(()) }
}

fn restore_lock_of(cluster: &Cluster, record: &RestoreRecord) -> RestoreLock {
    let path = cluster.records.restore_record_path(&record.key.0);
    RestoreLock {
        key: record.key.0.clone(),
        run: record.run.clone(),
        record: path,
        config: cluster.config_file.clone(),
    }
}

fn conflict_error(cluster: &Cluster, data: &Path, other: &RestoreLock) -> Error {
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
    .with_hint(hint_at_other_restore(cluster, data, other))
}

/// Returns how another restore is brought to its end: by whoever takes its run up again or gives it up, which `runs show` says, with
/// the configuration and in the state folder of that run.
fn hint_at_other_restore(cluster: &Cluster, data: &Path, other: &RestoreLock) -> String {
    let Some(run) = other.run.as_ref().filter(|_| other.record.exists()) else {
        return format!("if its record is gone for good, remove `{}`", lock_path(data).display());
    };
    let is_ours = other.record == cluster.records.restore_record_path(&other.key);
    // It is `postgres/TARGET/restores/KEY.json` in its state folder.
    let state = other.record.ancestors().nth(4).filter(|_| !is_ours);
    let config = other.config.as_deref().filter(|_| !is_ours);
    let option = |name: &str, path: Option<&Path>| {
        path.map(|path| format!(" --{name} {}", shell::quote_shell_word(&path.display().to_string())))
    };
    let options = [option("config", config), option("state", state)].into_iter().flatten();
    format!("`redrill runs show {run}{}` says what brings that run on", options.collect::<String>())
}
