//! A process that holds something: a run, or a lease.

use crate::base::moment::Moment;
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsStr,
    fmt,
    fs::{self, File},
    path::Path,
};

/// A process that holds something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id on its machine.
    pub pid: u32,
    pub host: String,
}

impl Holder {
    /// Returns this process.
    pub fn this_process() -> Holder {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Holder { pid: std::process::id(), host }
    }

    /// Returns what to do about a process that does not let go.
    pub fn describe_how_to_release(&self) -> String {
        let Holder { pid, host } = self;
        format!(
            "is that process stopped? on {host}, `kill -CONT {pid}` lets it go on and `kill -9 {pid}` ends it, which harms no \
             run; then try again"
        )
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

/// What a holder writes into the lock file.
#[derive(Serialize, Deserialize)]
pub(super) struct LockNote {
    #[serde(flatten)]
    pub(super) holder: Holder,
    pub(super) since: Moment,
}

impl LockNote {
    /// Reads the note in a lock file; nothing where its holder has not written it yet.
    pub(super) fn read(path: &Path) -> Option<LockNote> {
        fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok())
    }
}

/// Returns whether the file is locked exclusively, by a holder, and not shared, by a probe.
pub(super) fn is_held_exclusively(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => {
            // Unlock now: others should not wait until the file is closed.
            drop(file.unlock());
            false
        }
        Err(_) => true,
    }
}

/// Returns the runs whose locks in `folder` other processes hold, each with its holder.
pub(super) fn list_holders(folder: &Path) -> Vec<(String, Holder)> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let locks = paths.filter(|path| path.extension().and_then(OsStr::to_str) == Some("lock"));
    let held = locks.filter(|path| File::open(path).is_ok_and(|file| is_held_exclusively(&file)));
    let mut holders: Vec<_> = held
        .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), LockNote::read(&path)?.holder)))
        .filter(|(_, holder)| *holder != Holder::this_process())
        .collect();
    holders.sort_by(|one, other| one.0.cmp(&other.0));
    holders
}
