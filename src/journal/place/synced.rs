//! The number of the last record of each run that is on disk, in `runs/<id>.synced`.
//!
//! It is written after the sync of the record, in place, and not synced itself: after a power cut it may lag behind the
//! journal, which says nothing, and it is never ahead of what was on disk.

use super::{
    super::{Error, schema},
    identity::set_unreadable_file_aside,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

const EXTENSION: &str = "synced";

/// The file with the number of one run, held by whoever holds the run.
#[derive(Debug)]
pub(in crate::journal) struct SyncedNumber(Option<File>);

impl SyncedNumber {
    /// Opens the file of a run, making it where it is missing.
    pub(in crate::journal) fn open(state: &Path, run: &str) -> io::Result<SyncedNumber> {
        let path = synced_number_path(state, run);
        if path.is_dir() {
            // It does not read, so that nothing acts before somebody has taken the state over, which sets it aside.
            return Ok(SyncedNumber(None));
        }
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        Ok(SyncedNumber(Some(file)))
    }

    /// Writes that the record `seq` is on disk. A number that cannot be written lags behind, which is no harm.
    pub(in crate::journal) fn write_number(&self, seq: u64) {
        let Some(file) = &self.0 else { return };
        if let Err(why) = file.write_all_at(format!("{seq:020}\n").as_bytes(), 0) {
            tracing::warn!(%why, "the number of the last record could not be written");
        }
    }
}

/// Removes the number of a run that is gone. A number left behind is noticed, so a failure is one.
pub(in crate::journal) fn remove_synced_number(state: &Path, run: &str) -> io::Result<()> {
    match fs::remove_file(synced_number_path(state, run)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Renames the file of a number that does not read, and keeps it for whoever looks into what is wrong with the disk.
pub(super) fn set_synced_number_aside(state: &Path, run: &str) -> io::Result<()> {
    set_unreadable_file_aside(&synced_number_path(state, run))
}

/// Returns the number of every run that has one; nothing for a number that does not read.
pub(super) fn read_synced_numbers(state: &Path) -> Result<BTreeMap<String, Option<u64>>, Error> {
    let mut numbers = BTreeMap::new();
    for (run, path) in list_run_files(state, &[EXTENSION])? {
        match fs::read(&path).map_err(|e| e.to_string()).and_then(|text| parse_synced_number(&text)) {
            Ok(None) => {}
            Ok(number) => drop(numbers.insert(run, number)),
            Err(why) => {
                tracing::warn!(path = %path.display(), why, "the number of a run's last record does not read");
                numbers.insert(run, None);
            }
        }
    }
    Ok(numbers)
}

/// Returns the runs of which a lock or a number is there.
pub(in crate::journal) fn list_runs_with_traces(state: &Path) -> Result<BTreeSet<String>, Error> {
    Ok(list_run_files(state, &[EXTENSION, "lock"])?.into_iter().map(|(run, _)| run).collect())
}

/// Reads a number; nothing where the process or the machine died before it was written, which leaves the file empty or
/// without its bytes.
fn parse_synced_number(text: &[u8]) -> Result<Option<u64>, String> {
    if text.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let number = std::str::from_utf8(text).ok().and_then(|text| text.trim_end().parse().ok());
    number.map(Some).ok_or_else(|| "it holds no number; without it, nothing is told of that run".to_owned())
}

/// Returns the files of runs with one of these extensions, each with the id of its run.
fn list_run_files(state: &Path, extensions: &[&str]) -> Result<Vec<(String, PathBuf)>, Error> {
    let folder = schema::locks_folder(state);
    let unreadable = |e: io::Error| Error::Unreadable { path: folder.clone(), why: e.to_string() };
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let is_wanted = path.extension().and_then(OsStr::to_str).is_some_and(|ext| extensions.contains(&ext));
        if let Some(run) = path.file_stem().and_then(OsStr::to_str).filter(|_| is_wanted) {
            files.push((run.to_owned(), path.clone()));
        }
    }
    Ok(files)
}

fn synced_number_path(state: &Path, run: &str) -> PathBuf {
    schema::locks_folder(state).join(format!("{run}.{EXTENSION}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_reads_back_and_grows_in_place() {
        let state = tempfile::tempdir().expect("a folder");
        fs::create_dir(schema::locks_folder(state.path())).expect("made");
        let number = SyncedNumber::open(state.path(), "abcd2345").expect("opens");
        assert_eq!(read_synced_numbers(state.path()), Ok(BTreeMap::new()), "empty: nothing is known");
        for seq in [1, 9, 10, u64::MAX] {
            number.write_number(seq);
            assert_eq!(
                read_synced_numbers(state.path()),
                Ok(BTreeMap::from([("abcd2345".to_owned(), Some(seq))]))
            );
        }
        remove_synced_number(state.path(), "abcd2345").expect("removed");
        remove_synced_number(state.path(), "abcd2345").expect("is gone already");
        assert_eq!(read_synced_numbers(state.path()), Ok(BTreeMap::new()));
    }

    #[test]
    fn what_a_power_cut_leaves_says_nothing_and_what_somebody_wrote_is_named() {
        for lost in ["", "\0\0\0\0"] {
            assert_eq!(parse_synced_number(lost.as_bytes()), Ok(None));
        }
        for odd in ["seven\n", "-1\n", "1 2\n", "\u{ff}"] {
            assert!(parse_synced_number(odd.as_bytes()).is_err(), "{odd}");
        }
    }
}
