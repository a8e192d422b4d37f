//! The copy of a backup on its way to a server that has recovered, one step a poll: what a restore into a branch and one
//! in place do alike.
//!
//! 1. The backup's files are laid down: [`start_copying`], [`poll_copying`].
//! 2. A server is started on them to recover: [`begin_recovery`]. It replays WAL, stops at its target and promotes itself.
//! 3. It is looked at until that is proved: [`poll_recovery`]. What it reached is then in the record.
//!
//! Whatever dies meanwhile is started again. What a step does is recorded before it is waited for, and can be repeated, so
//! another process can continue after a kill. What isolates a branch, and what keeps the way back in place, is theirs.

use super::{
    copying::{self, CopyState},
    recovery::{RecoveringCopy, RecoveryState},
};
use crate::provider::{
    Result,
    host::{disk, programs::Programs},
    model::{JobStatus, Progress},
    postgres::{
        cluster::{Cluster, server},
        records::CopyRecord,
        sql::DatabaseAddress,
    },
};
use async_trait::async_trait;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// A copy of a backup that is being restored, with the record that it is part of.
#[async_trait]
pub(super) trait RestoredCopy: Send + Sync {
    /// Returns its record.
    fn copy(&self) -> &CopyRecord;
    /// Returns its record, to be changed.
    fn copy_mut(&mut self) -> &mut CopyRecord;
    /// Saves the record that it is part of.
    fn save(&self, cluster: &Cluster) -> Result<()>;
    /// Claims its folder and makes it; once more does no harm.
    fn claim_and_make_folder(&self, cluster: &Cluster, programs: &Programs) -> Result<()>;
    /// Returns the data folder in which its server recovers.
    fn recovery_data_folder(&self) -> PathBuf;
    /// Returns how to connect to its server, given how to connect to its source.
    fn address(&self, source: &DatabaseAddress) -> DatabaseAddress;
    /// Prepares the start of its server, and returns the options of the start.
    async fn prepare_server_and_get_options(&mut self, programs: &Programs) -> Result<Vec<OsString>>;
    /// Checks, before a look at the recovery, that the server on the data is its own.
    fn check_server_is_own(&self) -> Result<()>;
    /// Checks, after a look at the recovery and whatever that has shown, that the copy still reaches nothing outside.
    fn check_still_isolated(&self) -> Result<()>;
}

/// Starts to lay the backup down.
///
/// # Errors
/// What the copy's folder or the program says.
pub(super) fn start_copying(
    cluster: &Cluster,
    programs: &Programs,
    restored: &mut impl RestoredCopy,
) -> Result<JobStatus> {
    restored.claim_and_make_folder(cluster, programs)?;
    let copy = restored.copy_mut();
    copy.starts += 1;
    copy.child = Some(copying::start_backup_copy(cluster, programs, copy)?);
    restored.save(cluster)?;
    Ok(JobStatus::Running(Progress::with_phase("copying")))
}

/// Starts to lay the backup down anew after a reboot, without what may be `stale`: nobody knows what had reached the disk.
///
/// # Errors
/// As [`start_copying`].
pub(super) fn restart_copying(
    cluster: &Cluster,
    programs: &Programs,
    restored: &mut impl RestoredCopy,
    stale: &Path,
) -> Result<JobStatus> {
    disk::remove_folder(stale)?;
    let copy = restored.copy_mut();
    copy.child = None;
    copy.starts = 0;
    start_copying(cluster, programs, restored)
}

/// Polls the copying once, and starts it again when it was killed; `None` when the files are complete.
///
/// # Errors
/// Why it failed.
pub(super) fn poll_copying(
    cluster: &Cluster,
    programs: &Programs,
    restored: &mut impl RestoredCopy,
) -> Result<Option<JobStatus>> {
    match copying::poll_copy(cluster, restored.copy())? {
        CopyState::Missing => start_copying(cluster, programs, restored).map(Some),
        CopyState::Running(progress) => Ok(Some(JobStatus::Running(progress))),
        CopyState::Complete => Ok(None),
    }
}

/// Starts the server that recovers the complete files, for the first time.
///
/// # Errors
/// As [`RestoredCopy::prepare_server_and_get_options`], and what the server's program says.
pub(super) async fn begin_recovery(
    cluster: &Cluster,
    programs: &Programs,
    restored: &mut impl RestoredCopy,
) -> Result<JobStatus> {
    restored.copy_mut().starts = 0;
    start_server(cluster, programs, restored).await
}

async fn start_server(
    cluster: &Cluster,
    programs: &Programs,
    restored: &mut impl RestoredCopy,
) -> Result<JobStatus> {
    let options = restored.prepare_server_and_get_options(programs).await?;
    restored.copy_mut().starts += 1;
    // The count is saved first, because it names the log: an unread log would hide why the server died.
    restored.save(cluster)?;
    let (data, log) = (restored.recovery_data_folder(), restored.copy().recovery_log_path());
    restored.copy_mut().child = Some(server::start_server(programs, &data, &options, &log)?);
    restored.save(cluster)?;
    Ok(JobStatus::Running(Progress::with_phase("replaying WAL")))
}

/// Polls the recovery once, and starts the server again when it was killed; `None` when it is proved to have reached its
/// target. What it reached is then in the record, which is not saved yet.
///
/// # Errors
/// Why it did not reach its target.
pub(super) async fn poll_recovery(
    cluster: &Cluster,
    programs: &Programs,
    restored: &mut impl RestoredCopy,
) -> Result<Option<JobStatus>> {
    restored.check_server_is_own()?;
    let recovering = RecoveringCopy {
        data: &restored.recovery_data_folder(),
        address: &restored.address(&cluster.address),
        copy: restored.copy(),
    };
    let polled = recovering.poll_recovery().await;
    restored.check_still_isolated()?;
    match polled? {
        RecoveryState::Running(progress) => Ok(Some(JobStatus::Running(progress))),
        RecoveryState::Killed => start_server(cluster, programs, restored).await.map(Some),
        RecoveryState::Proved(proof) => {
            let copy = restored.copy_mut();
            copy.reached = proof.reached;
            copy.timeline = Some(proof.timeline);
            Ok(None)
        }
    }
}

/// Stops at once the server that recovers a copy in `data`, also one that is only starting.
///
/// # Errors
/// [`crate::provider::Code::Timeout`] when it does not end.
pub(super) async fn stop_recovering_server(cluster: &Cluster, copy: &CopyRecord, data: &Path) -> Result<()> {
    server::stop_server_at_once(cluster.clock.as_ref(), data, &copy.recovery_log_path()).await
}
