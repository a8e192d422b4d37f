//! Copying a backup's files to a new server's folder: detached, and visible only when complete.

use crate::{
    base::moment::Span,
    provider::{
        Code, Error, Result,
        host::{
            disk,
            process::{self, TrackedProcess},
            programs::{self, Programs},
            record_file,
        },
        model::Progress,
        postgres::{cluster::Cluster, engine::BuiltinEngine, records::CopyRecord},
    },
};
use rustix::process::Signal;
use std::{
    ffi::{OsStr, OsString},
    fs,
    path::PathBuf,
};

/// How often a copy or a server is started in all, when it dies without an error message.
pub(super) const STARTS_MAX: u32 = 3;

/// What one poll of a copy found.
pub(super) enum CopyState {
    /// No process is copying, and there is no copy.
    Missing,
    /// A process is copying.
    Running(Progress),
    /// The copy is complete.
    Complete,
}

/// Starts to copy the backup of `copy` into its folder; its count of starts has this one in it already.
///
/// # Errors
/// [`Code::Tool`].
pub(super) fn start_backup_copy(
    cluster: &Cluster,
    programs: &Programs,
    copy: &CopyRecord,
) -> Result<TrackedProcess> {
    let (program, args) = BuiltinEngine::for_cluster(cluster)?
        .restore_copy_command(&copy.recovery.backup, &copy.files_folder());
    let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    let output = copy_log_path(copy);
    record_file::remove_file(&output)?;
    programs.spawn_detached(program, &args, &[], &output)
}

/// Polls the copying of a backup's files.
///
/// # Errors
/// [`Code::Tool`] with what the program said, when it failed.
pub(super) fn poll_copy(cluster: &Cluster, copy: &CopyRecord) -> Result<CopyState> {
    let (files, backup) = (copy.files_folder(), &copy.recovery.backup);
    let partial = BuiltinEngine::partial_folder(&files);
    if is_copying(copy) || process::find_program_started_with(partial.as_os_str()).is_some() {
        let total = BuiltinEngine::for_cluster(cluster)?.get_backup(backup).ok().map(|stored| stored.bytes);
        return Ok(CopyState::Running(Progress::with_bytes(
            "copying",
            disk::folder_size_in_bytes(&partial),
            total,
        )));
    }
    // Checked after the process: whoever completed the copy has ended by now.
    if files.is_dir() {
        return Ok(CopyState::Complete);
    }
    let said = fs::read(copy_log_path(copy)).unwrap_or_default();
    if said.is_empty() && copy.starts < STARTS_MAX {
        return Ok(CopyState::Missing);
    }
    let said = programs::tail_output(&said);
    let code = if said.contains("No space left on device") { Code::NoDiskSpace } else { Code::Tool };
    Err(Error::new(code, format!("backup `{backup}` could not be copied: {said}")))
}

/// Kills the processes that copy a backup's files.
pub(super) async fn kill_copy(cluster: &Cluster, copy: &CopyRecord) {
    let partial = BuiltinEngine::partial_folder(&copy.files_folder());
    loop {
        match process::find_program_started_with(partial.as_os_str()) {
            Some(copying) => {
                copying.signal_group(Signal::KILL);
                copying.signal(Signal::KILL);
            }
            // One that does not run its program yet is found when it does.
            None if is_copying(copy) => {}
            None => return,
        }
        cluster.clock.sleep(Span::from_millis(20)).await;
    }
}

/// Returns whether a process that was started to copy is there, also one that does not run its program yet, and whose start was
/// not counted because its starter died.
fn is_copying(copy: &CopyRecord) -> bool {
    let uncounted = CopyRecord { starts: copy.starts + 1, ..copy.clone() };
    [copy, &uncounted].iter().any(|copy| programs::is_log_in_use(&copy_log_path(copy)))
}

fn copy_log_path(copy: &CopyRecord) -> PathBuf {
    copy.folder.join(format!("copy-{}.log", copy.starts))
}
