//! One lock a run: an advisory lock on `runs/<id>.lock`. The system releases it when the process dies, however it dies.
//!
//! The file is never removed while it is held, or a second process could lock a new file of the same name.
//! To learn whether a lock is free one must take it. A process that only probes takes it shared, which tells
//! [`acquire_lock`] whether it met a holder or a probe.

use super::{
    Error, Holder,
    holder::{LockNote, is_held_exclusively},
    place::SyncedNumber,
    schema,
};
use crate::base::moment::Moment;
use std::{
    fs::{File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// How many times to try a lock, a millisecond apart, while others only probe it.
const LOCK_ATTEMPTS: u32 = 200;
/// How often, a millisecond apart, the lock must be found held before it counts as held: a child process of the last
/// holder has its files, and so its lock, between its fork and its exec.
const HELD_CONFIRMATIONS: u32 = 50;

/// A run's lock, held until this is dropped, and the number that only its holder writes.
#[derive(Debug)]
pub(super) struct RunLock {
    _file: File,
    synced: SyncedNumber,
}

impl RunLock {
    /// Writes down that the record `seq` of the run is on disk.
    pub(super) fn write_synced_number(&self, seq: u64) {
        self.synced.write_number(seq);
    }
}

/// Returns the path of the lock file of a run.
pub(super) fn lock_path(state: &Path, run: &str) -> PathBuf {
    schema::locks_folder(state).join(format!("{run}.lock"))
}

/// Takes a run's lock, making its file where that is missing.
///
/// # Errors
/// [`Error::Held`] or [`Error::HeldByUnknown`] when another process has it, [`Error::NotWritable`].
pub(super) fn acquire_lock(state: &Path, run: &str, now: Moment) -> Result<RunLock, Error> {
    let path = lock_path(state, run);
    let refused = |why: io::Error| Error::NotWritable { path: path.clone(), why: why.to_string() };
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(refused)?;
    let mut met = 0;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => {
                write_holder(&mut file, now).map_err(refused)?;
                let synced = SyncedNumber::open(state, run).map_err(refused)?;
                return Ok(RunLock { _file: file, synced });
            }
            Err(TryLockError::Error(why)) => return Err(refused(why)),
            Err(TryLockError::WouldBlock) => met += u32::from(is_held_exclusively(&file)),
        }
        if met == HELD_CONFIRMATIONS {
            return Err(held_error(&path, run));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(Error::HeldByUnknown { run: run.into() })
}

/// Returns whether a process holds the run.
pub(super) fn is_run_held(state: &Path, run: &str) -> bool {
    File::open(lock_path(state, run)).is_ok_and(|file| is_held_exclusively(&file))
}

/// Writes down who holds the lock. For people only: not synced, and nothing depends on it.
fn write_holder(file: &mut File, since: Moment) -> io::Result<()> {
    let note = serde_json::to_string(&LockNote { holder: Holder::this_process(), since })?;
    file.set_len(0)?;
    writeln!(file, "{note}")
}

/// Returns the error that says who holds the lock.
fn held_error(path: &Path, run: &str) -> Error {
    match LockNote::read(path) {
        Some(LockNote { holder, since }) => Error::Held { run: run.into(), holder, since },
        None => Error::HeldByUnknown { run: run.into() },
    }
}
