//! One lock a run: an advisory lock on `runs/<id>.lock`. The system takes it back when the process dies, however it dies.
//!
//! The file is never removed while it is held, or a second process could lock a new file of the same name.
//! To learn whether a lock is free one must take it; those who only look take it shared, and [`take`] sees
//! by that whether it met a holder or a looker.

use super::{Error, Holder, schema};
use crate::base::moment::Moment;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// How often, a millisecond apart, a lock is tried that somebody only looks at.
const TRIES: u32 = 200;
/// How often, a millisecond apart, a holder must be met to be believed: a child that the last holder started has its
/// files, and so its lock, between its fork and its exec.
const MEETINGS: u32 = 50;

/// A run's lock, held until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// What a holder writes into the file.
#[derive(Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    holder: Holder,
    since: Moment,
}

/// Returns where the lock of a run lies.
pub(super) fn path(state: &Path, run: &str) -> PathBuf {
    schema::runs(state).join(format!("{run}.lock"))
}

/// Takes a run's lock, making its file where that is missing.
///
/// # Errors
/// [`Error::Held`] or [`Error::Taken`] when another process has it, [`Error::NotWritable`].
pub(super) fn take(state: &Path, run: &str, now: Moment) -> Result<Lock, Error> {
    let path = path(state, run);
    let refused = |why: io::Error| Error::NotWritable { path: path.clone(), why: why.to_string() };
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(refused)?;
    let mut met = 0;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => {
                sign(&mut file, now).map_err(refused)?;
                return Ok(Lock { _file: file });
            }
            Err(TryLockError::Error(why)) => return Err(refused(why)),
            Err(TryLockError::WouldBlock) => met += u32::from(is_held(&file)),
        }
        if met == MEETINGS {
            return Err(held(&path, run));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(Error::Taken { run: run.into() })
}

/// Returns whether a process holds the run.
pub(super) fn is_taken(state: &Path, run: &str) -> bool {
    File::open(path(state, run)).is_ok_and(|file| is_held(&file))
}

/// Returns whether the file is locked by one who holds it, not by one who looks.
fn is_held(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => {
            // Closing the file would do; where that is not next, others should not have to wait for it.
            drop(file.unlock());
            false
        }
        Err(_) => true,
    }
}

/// Writes down who holds the lock. For people only: not synced, and nothing depends on it.
fn sign(file: &mut File, since: Moment) -> io::Result<()> {
    let note = serde_json::to_string(&Note { holder: Holder::this_process(), since })?;
    file.set_len(0)?;
    writeln!(file, "{note}")
}

/// Returns the error that says who holds the lock.
fn held(path: &Path, run: &str) -> Error {
    let note = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok());
    match note {
        Some(Note { holder, since }) => Error::Held { run: run.into(), holder, since },
        None => Error::Taken { run: run.into() },
    }
}
