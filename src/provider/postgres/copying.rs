//! Copying a backup's files to where a server will run on them: detached, and seen only when it is complete.

use super::{
    builtin::Builtin,
    cluster::Cluster,
    disk,
    process::{self, Child},
    records,
    tools::{self, Tools},
};
use crate::{
    base::moment::Span,
    provider::{Code, Error, Result, model::Progress},
};
use rustix::process::Signal;
use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

/// How often a copy, or a server, that was killed without a word is begun again.
pub(super) const STARTS_MAX: u32 = 3;

/// One look at a copy.
pub(super) enum Copying {
    /// Nobody works on it, and it is not there.
    Missing,
    /// Somebody works on it.
    Running(Progress),
    /// It is there, completely.
    Complete,
}

/// Returns the files of the copy in `folder`.
pub(super) fn files(folder: &Path) -> PathBuf {
    folder.join("files")
}

/// Begins to copy `backup` into `folder`, for the `starts`-th time.
///
/// # Errors
/// [`Code::Tool`].
pub(super) fn begin(
    cluster: &Cluster,
    tools: &Tools,
    folder: &Path,
    backup: &str,
    starts: u32,
) -> Result<Child> {
    let (program, args) = Builtin::of(cluster)?.copy(backup, &files(folder));
    let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    let output = output(folder, starts);
    records::remove(&output)?;
    tools.spawn_detached(program, &args, &[], &output)
}

/// Looks at the copy of `backup` in `folder` that was begun `starts` times.
///
/// # Errors
/// [`Code::Tool`] with what the program said, when it failed.
pub(super) fn look(cluster: &Cluster, folder: &Path, backup: &str, starts: u32) -> Result<Copying> {
    let files = files(folder);
    let partial = Builtin::partial(&files);
    if process::started_with(partial.as_os_str()).is_some() {
        let total = Builtin::of(cluster)?.get(backup).ok().map(|stored| stored.bytes);
        return Ok(Copying::Running(Progress::bytes("copying", disk::bytes_in(&partial), total)));
    }
    // Looked at after the process: a copy that is complete by now was begun by a process that is gone by now.
    if files.is_dir() {
        return Ok(Copying::Complete);
    }
    let said = fs::read(output(folder, starts)).unwrap_or_default();
    if said.is_empty() && starts < STARTS_MAX {
        return Ok(Copying::Missing);
    }
    let said = tools::tail(&said);
    let code = if said.contains("No space left on device") { Code::NoDiskSpace } else { Code::Tool };
    Err(Error::new(code, format!("backup `{backup}` could not be copied: {said}")))
}

/// Ends whoever works on the copy in `folder`.
pub(super) async fn end(cluster: &Cluster, folder: &Path) {
    let partial = Builtin::partial(&files(folder));
    while let Some(copying) = process::started_with(partial.as_os_str()) {
        copying.signal_group(Signal::KILL);
        copying.signal(Signal::KILL);
        cluster.clock.sleep(Span::millis(20)).await;
    }
}

fn output(folder: &Path, starts: u32) -> PathBuf {
    folder.join(format!("copy-{starts}.log"))
}
