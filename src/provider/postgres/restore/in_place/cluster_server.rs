//! The cluster's own server: told to stop, and started again as it was.

use super::data_folder;
use crate::provider::{
    Error, Result,
    host::programs::{self, Programs},
    model::{JobStatus, Progress},
    postgres::{
        cluster::{Cluster, server},
        records::RestoreRecord,
    },
};
use std::{ffi::OsString, fs};

/// Tells the cluster's server to stop, and returns how far that is; `None` when no process of it is left. It takes as long as
/// its sessions let it, so the call's own time bounds it.
///
/// # Errors
/// Why a server that was started since the plan could not be started again, or as for saving a record; the server was
/// not told then.
pub(super) async fn stop_or_poll_cluster(
    cluster: &Cluster,
    programs: &Programs,
    record: &mut RestoreRecord,
) -> Result<Option<JobStatus>> {
    let stopping = |left: &str| Some(JobStatus::Running(Progress::with_phase(left)));
    let found = server::find_server(&record.data);
    if found.is_some() && found != record.stopping {
        if found != record.server {
            read_how_server_was_started(programs, record).await?;
        }
        // Whoever undoes this must know that it goes down, whenever that is, and is to be started again.
        record.ran = true;
        record.server.clone_from(&found);
        record.stopping = found;
        cluster.records.save_restore(record)?;
        server::stop_or_poll_server(&record.data, server::ShutdownMode::Fast);
        return Ok(stopping("stopping the cluster"));
    }
    let left = server::stop_or_poll_server(&record.data, server::ShutdownMode::Fast);
    Ok(left.and_then(|left| stopping(&format!("stopping the cluster, {left}"))))
}

/// Reads how the running server was started, which somebody has done since the restore was planned.
///
/// # Errors
/// Why it could not be started like that again.
async fn read_how_server_was_started(programs: &Programs, record: &mut RestoreRecord) -> Result<()> {
    record.options = data_folder::find_start_options(programs, &record.data, None).await?;
    if let Some(log) = server::find_stderr_file(&record.data) {
        record.log = log;
    }
    Ok(())
}

/// Waits until the old server is gone, where it runs no more or was told to stop, and starts it as it was. One that the
/// restore has not stopped stays as it is: whoever has shut it down wants it so.
///
/// # Errors
/// [`crate::provider::Code::Timeout`] when it is not gone after half a minute; why it does not start.
pub(super) async fn restart_old_server(
    cluster: &Cluster,
    programs: &Programs,
    record: &mut RestoreRecord,
) -> Result<()> {
    let stopped_it = record.failure.as_ref().is_some_and(|failure| failure.stopped);
    let found = server::find_server(&record.data);
    if record.ran && stopped_it && (found.is_none() || found == record.stopping) {
        server::stop_server(cluster.clock.as_ref(), &record.data, server::ShutdownMode::Fast).await?;
        start_server_as_before(cluster, programs, record).await?;
    }
    Ok(())
}

/// Starts the server as it was started last, notes that it is our own, and returns when it serves.
///
/// # Errors
/// Why it does not, in its own words.
pub(super) async fn start_server_as_before(
    cluster: &Cluster,
    programs: &Programs,
    record: &mut RestoreRecord,
) -> Result<()> {
    let options: Vec<OsString> = record.options.iter().map(OsString::from).collect();
    let said_before = fs::metadata(&record.log).map_or(0, |log| log.len());
    record.copy.child = Some(server::start_server(programs, &record.data, &options, &record.log)?);
    cluster.records.save_restore(record)?;
    server::wait_until_ready(cluster.clock.as_ref(), &record.data).await.map_err(|error| {
        let said = fs::read(&record.log).unwrap_or_default();
        let new = said.get(usize::try_from(said_before).unwrap_or_default()..).unwrap_or(&said);
        let words = programs::tail_output(new);
        let hint = format!("look at `{}`", record.log.display());
        let message = if words.is_empty() { error.message } else { format!("{}: {words}", error.message) };
        Error { message, ..error }.with_hint(hint)
    })
}
