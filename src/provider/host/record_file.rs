//! Records, each a JSON file: read and replaced as a whole, so that a reader sees the old one or the new one.

use crate::{
    base::file,
    provider::{Code, Error, Result},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Reads a record; `None` where there is none.
///
/// # Errors
/// [`Code::Internal`] when it cannot be read.
pub(in crate::provider) fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable_error(path, &e)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| unreadable_error(path, &e))
}

/// Replaces a record.
///
/// # Errors
/// [`Code::Internal`].
pub(in crate::provider) fn write_record<T: Serialize>(path: &Path, record: &T) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(record).map_err(|e| unreadable_error(path, &e))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)
        .and_then(|()| file::write_atomic(path, &bytes))
        .map_err(|e| unwritable_error(path, &e))
}

/// Removes a record; one that is gone is no error.
///
/// # Errors
/// [`Code::Internal`].
pub(in crate::provider) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(unwritable_error(path, &e)),
    }
}

/// Writes a record where there is none, at once and completely, from a file beside it that is named after `writer`: whoever
/// was killed in between and writes again, or gives up, finds that.
pub(in crate::provider) fn write_new_record<T: Serialize>(
    path: &Path,
    writer: &str,
    record: &T,
) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let beside = unlinked_record_path(path, writer);
    match fs::remove_file(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let name = beside.file_name().unwrap_or_default();
    let beside = tempfile::Builder::new().prefix(name).rand_bytes(0).tempfile_in(folder)?;
    serde_json::to_writer_pretty(beside.as_file(), record)?;
    beside.as_file().sync_all()?;
    beside.persist_noclobber(path).map_err(|e| e.error)?;
    file::sync_folder(folder)
}

/// Returns the file that `writer` leaves when it is killed while it writes a new record.
pub(in crate::provider) fn unlinked_record_path(path: &Path, writer: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", writer.to_lowercase()));
    path.with_file_name(name)
}

/// Reads every record in a folder.
///
/// # Errors
/// [`Code::Internal`] when one cannot be read.
pub(in crate::provider) fn read_all_records<T: DeserializeOwned>(folder: &Path) -> Result<Vec<T>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unreadable_error(folder, &e)),
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let records =
        paths.filter(|path| path.extension().is_some_and(|e| e == "json")).map(|path| read_record(&path));
    records.filter_map(Result::transpose).collect()
}

fn unreadable_error(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::new(Code::Internal, format!("`{}` cannot be read: {why}", path.display()))
}

pub(in crate::provider) fn unwritable_error(path: &Path, why: &io::Error) -> Error {
    let code = if why.kind() == io::ErrorKind::StorageFull { Code::NoDiskSpace } else { Code::Internal };
    Error::new(code, format!("`{}` cannot be written: {why}", path.display()))
}
