//! Whose server is on the data of a restore in place: its own, which it stops, or somebody else's, which it does not.
//!
//! What was committed on the new data while any server but the private one ran there is somebody's, and is never deleted.

use crate::provider::{
    Code, Error, Result,
    host::{
        process::{self, TrackedProcess},
        programs,
    },
    postgres::{
        cluster::{Cluster, server},
        records::RestoreRecord,
    },
};
use std::{ffi::OsStr, fs, path::Path};

/// Returns the setting by which the command line of the private server is known.
pub(super) fn private_socket_setting(socket: &Path) -> String {
    format!("unix_socket_directories={}", socket.display())
}

/// Returns whether the server on `data` is the private one.
pub(super) fn is_private_server(data: &Path, socket: &Path) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    text.lines().nth(4).is_some_and(|used| Path::new(used) == socket)
}

/// Returns whether the private server is there, also one that has only begun.
pub(super) fn is_recovering(record: &RestoreRecord) -> bool {
    let (data, socket) = (&record.data, &record.copy.socket);
    programs::is_log_in_use(&record.copy.recovery_log_path())
        || process::find_program_started_with(OsStr::new(&private_socket_setting(socket))).is_some()
        || (is_private_server(data, socket) && server::find_server(data).is_some())
}

/// Fails while a server that the restore has not started uses its data: waiting for it would never end, and it is not ours to
/// stop.
///
/// # Errors
/// [`Code::Unknown`].
pub(super) fn check_no_foreign_server(record: &RestoreRecord) -> Result<()> {
    let Some(found) = find_foreign_server(record) else { return Ok(()) };
    let what =
        format!("somebody else has started a server (process {}) on `{}`", found.pid, record.data.display());
    Err(Error::new(Code::Unknown, format!("{what} in the middle of its recovery, which is theirs to stop"))
        .with_hint("stop it, and take the run up again, or decide again")
        .with_side_effects())
}

fn find_foreign_server(record: &RestoreRecord) -> Option<TrackedProcess> {
    let (data, socket) = (&record.data, &record.copy.socket);
    let found = server::find_server(data).or_else(|| process::find_program_started_with(data.as_os_str()))?;
    // One that has only begun has not yet written down its socket, and its process may not be recorded yet.
    let is_ours = is_private_server(data, socket)
        || record.copy.child.as_ref() == Some(&found)
        || process::find_program_started_with(OsStr::new(&private_socket_setting(socket)))
            == Some(found.clone());
    (!is_ours).then_some(found)
}

/// Notes in the record that another server than the private one uses the new data, or has used it: an undo keeps that then.
///
/// # Errors
/// [`Code::Internal`] when it cannot be written down.
pub(super) fn note_served_data(cluster: &Cluster, record: &mut RestoreRecord) -> Result<()> {
    if record.served.is_some() || !record.aside.is_dir() {
        return Ok(());
    }
    if find_foreign_server(record).is_some() || was_started_otherwise(record) {
        record.served = Some(RestoreRecord::folder_beside(&record.data, "restored", &record.key));
        cluster.records.save_restore(record)?;
    }
    Ok(())
}

/// Returns whether the last server that was started on the new data, as that says itself, was not the private one.
fn was_started_otherwise(record: &RestoreRecord) -> bool {
    let started = fs::read_to_string(record.data.join("postmaster.opts")).unwrap_or_default();
    !started.is_empty() && !started.contains(&private_socket_setting(&record.copy.socket))
}
