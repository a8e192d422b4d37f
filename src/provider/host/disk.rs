//! Folders: their size, the free space, who can reach them, how they are created and removed.

use super::programs::Programs;
use crate::provider::{Code, Error, Result};
use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::Path,
};

/// The space that is left free on every disk, in bytes.
const RESERVE_BYTES: u64 = 64 << 20;

/// Returns the size of everything in `folder`, links not followed; what vanishes meanwhile counts as nothing.
pub(in crate::provider) fn folder_size_in_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => folder_size_in_bytes(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Refuses when the disk of `folder`, which need not exist yet, has no room for `bytes`.
///
/// # Errors
/// [`Code::NoDiskSpace`] with both numbers.
pub(in crate::provider) fn check_free_space(bytes: u64, folder: &Path) -> Result<()> {
    let there = folder.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let disk = rustix::fs::statvfs(there).map_err(|e| {
        Error::new(Code::Tool, format!("the disk of `{}` cannot be looked at: {e}", there.display()))
    })?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let need = bytes.saturating_add(RESERVE_BYTES);
    if need <= free {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    Err(Error::new(
        Code::NoDiskSpace,
        format!("`{}` needs {} MiB and has {} MiB", folder.display(), mib(need), mib(free)),
    )
    .with_hint("make room, or put the folder on another disk"))
}

/// Returns whether the OS user of `programs` can enter `folder`.
pub(in crate::provider) async fn can_os_user_enter(programs: &Programs, folder: &Path) -> bool {
    let asked = programs.run_with_any_exit("test", &[OsStr::new("-x"), folder.as_os_str()]).await;
    asked.is_ok_and(|output| output.status.success())
}

/// Creates a folder with mode 0700 for the OS user of `programs`; one that is ours or theirs already is no error.
///
/// # Errors
/// [`Code::Conflict`] when somebody else has it.
pub(in crate::provider) fn make_private_folder(programs: &Programs, folder: &Path) -> Result<()> {
    let failed = |e: &io::Error| {
        Error::new(Code::Tool, format!("the folder `{}` cannot be made: {e}", folder.display()))
    };
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            // In a folder such as /var/tmp anybody may have been here before us.
            let found = fs::symlink_metadata(folder).map_err(|e| failed(&e))?;
            let ours = [rustix::process::geteuid().as_raw(), programs.user()?.uid].contains(&found.uid());
            if !found.is_dir() || !ours {
                return Err(Error::new(
                    Code::Conflict,
                    format!("`{}` belongs to somebody else", folder.display()),
                ));
            }
        }
        Err(e) => return Err(failed(&e)),
    }
    programs.chown_to_owner(folder)
}

/// Removes a folder and everything in it, links not followed; one that is gone is no error.
///
/// # Errors
/// [`Code::Tool`].
pub(in crate::provider) fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::new(Code::Tool, format!("`{}` cannot be removed: {e}", folder.display()))
            .with_left_behind(folder.display().to_string())),
    }
}
