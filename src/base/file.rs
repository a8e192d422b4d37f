//! Files that survive a power cut: written beside, synced, renamed, and the folder synced too.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// Replaces `path` with `bytes` so that a reader sees the old or the new content, and a crash keeps one of them.
///
/// # Errors
/// Whatever the file system says; the former file is then untouched.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut beside = tempfile::NamedTempFile::new_in(folder)?;
    beside.write_all(bytes)?;
    beside.as_file().sync_all()?;
    beside.persist(path).map_err(|e| e.error)?;
    sync_folder(folder)
}

/// Makes the names in `folder` durable.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Returns whether files can be made in `folder`, which is made first where it is missing.
///
/// # Errors
/// Why not.
pub fn ensure_writable(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    tempfile::NamedTempFile::new_in(folder).map(drop)
}
