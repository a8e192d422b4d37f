//! Restores a cluster in place: its data folder is replaced, everything else stays.
//!
//! - The backup is copied beside the data and compared with its checksums while the cluster still serves; only then is
//!   the cluster stopped.
//! - The old data is moved aside and never deleted, even after success: it is the way back.
//! - The new data recovers on a private socket. The cluster serves again only when recovery was proved, with the
//!   settings and options that it had before.
//! - Whatever fails after the cluster was told to stop puts the old data back and starts it again, once it is down.
//! - Every phase can be repeated; the existing folders show what was done.

mod checksums;
mod cluster_server;
mod data_folder;
mod ending;
mod exchange;
mod lock;
mod new_data;
mod refusal;
mod running_server;
mod server_owner;
mod unarchived_wal;
mod undo;

use super::{
    copying, plan,
    restored_copy::{self, RestoredCopy as _},
};
use crate::provider::{
    Code, Error, Result,
    host::programs::Programs,
    model::{CallKey, Job, JobStatus, Progress, RestoreRequest, UnfinishedRestore},
    postgres::{
        cluster::{Cluster, server},
        records::{CopyRecord, RestoreFailure, RestorePhase, RestoreRecord},
    },
};
use serde_json::Value;

/// The kind of job that restores in place.
pub(in super::super) const RESTORE_JOB: &str = "restore";

/// Returns the job of the restore in place that has the key `key`.
///
/// # Errors
/// [`Code::Internal`] when the record cannot be read.
pub(in super::super) fn find_restore_job(cluster: &Cluster, key: &CallKey) -> Result<Option<Job>> {
    Ok(cluster.records.read_restore(&key.0)?.as_ref().map(restore_job))
}

/// Returns the restore in place that is neither done nor undone, if this state folder has one.
///
/// # Errors
/// [`Code::Internal`] when a record cannot be read.
pub(in super::super) fn find_unfinished_restore(cluster: &Cluster) -> Result<Option<UnfinishedRestore>> {
    let unfinished = cluster.records.list_restores()?.into_iter().find(|record| !record.is_over());
    Ok(unfinished.map(|record| UnfinishedRestore { job: restore_job(&record), run: record.run }))
}

fn restore_job(record: &RestoreRecord) -> Job {
    Job { kind: RESTORE_JOB.into(), id: record.key.0.clone(), detail: Value::Null }
}

/// Plans a restore in place and writes it down.
///
/// # Errors
/// Any reason to refuse; nothing was changed.
pub(in super::super) async fn plan_and_record_restore(
    cluster: &Cluster,
    request: &RestoreRequest,
    key: &CallKey,
) -> Result<Job> {
    // Found first: whatever is started from here on is another one than it was planned for.
    let server = server::find_server(&cluster.data);
    let current = data_folder::DataFolder::load_replaceable(cluster).await?;
    let beside = |what: &str| RestoreRecord::folder_beside(&current.data, what, key);
    unarchived_wal::wait_until_wal_is_archived(cluster, &current).await?;
    let folder = beside("restoring");
    let plan = plan::plan_restore(cluster, request, &folder).await?;
    if current.running.is_none() {
        unarchived_wal::check_no_unarchived_wal(&current.data, &plan.recovery.archive)?;
    }
    let socket = server::choose_socket_folder(&folder, &cluster.records.unique_name(&key.0.to_lowercase()));
    let record = RestoreRecord {
        key: key.clone(),
        target: cluster.name.clone(),
        run: request.run.clone(),
        created_at: cluster.clock.now(),
        copy: CopyRecord::new(plan.system_identifier, plan.recovery, folder, socket),
        aside: beside("before"),
        options: current.options,
        log: current.log,
        server,
        ran: current.running.is_some() || has_crashed(cluster).await?,
        running: false,
        configuration: current.running.map(|running| running.configuration).unwrap_or_default(),
        data: current.data,
        phase: RestorePhase::Copying,
        failure: None,
        stopping: None,
        served: None,
    };
    // The record comes first: nobody could release a lock without a record.
    cluster.records.save_restore(&record)?;
    if let Err(error) = lock::acquire_lock(cluster, &record) {
        cluster.records.remove_restore_record(&key.0)?;
        return Err(error);
    }
    Ok(restore_job(&record))
}

/// Returns whether the server of a cluster, which is not running, crashed instead of being stopped.
async fn has_crashed(cluster: &Cluster) -> Result<bool> {
    let state = cluster.read_control_file().await?.state;
    Ok(cluster.data.join("postmaster.pid").exists() || !state.starts_with("shut down"))
}

/// Polls a restore in place and advances it by one phase. What has failed is undone, and the failure is its end.
///
/// # Errors
/// [`Code::Unknown`] when only a person can say how to go on, or how it is cannot be read; the next poll tries again.
pub(in super::super) async fn poll_restore(cluster: &Cluster, job: &Job) -> Result<JobStatus> {
    let unknown = |error: Error| Error { code: Code::Unknown, retryable: false, ..error };
    let Some(mut record) = cluster.records.read_restore(&job.id).map_err(unknown)? else {
        return Err(Error::new(
            Code::NotFound,
            format!("there is no restore in place with the key `{}`", job.id),
        ));
    };
    match record.phase {
        RestorePhase::Done | RestorePhase::Undone => return Ok(ending::end_restore(&record)),
        RestorePhase::Undoing => return undo::undo_restore(cluster, record, None).await,
        _ => server_owner::note_served_data(cluster, &mut record).map_err(unknown)?,
    }
    match advance_restore(cluster, record.clone()).await {
        Ok(observed) => Ok(observed),
        Err(error) if error.code == Code::Unknown => Err(unknown(error)),
        // It is done, whatever else went wrong: what was committed there since must not be lost.
        Err(error) if is_served(&record) => Err(unknown(error)),
        Err(error) => {
            // What was saved meanwhile says which server is our own.
            let record = cluster.records.read_restore(&job.id).map_err(unknown)?.unwrap_or(record);
            if record.phase == RestorePhase::Done {
                return Err(unknown(error));
            }
            let failure = RestoreFailure::new(&record, error.code, error.message);
            undo::undo_restore(cluster, record, Some(failure)).await
        }
    }
}

/// Returns whether the restored cluster serves.
fn is_served(record: &RestoreRecord) -> bool {
    record.phase == RestorePhase::Starting
        && server::is_server_ready(&record.data)
        && !server_owner::is_private_server(&record.data, &record.copy.socket)
}

/// Cancels a restore in place, whose time is up: that is what it failed with for whoever finishes the undo.
///
/// # Errors
/// [`Code::Refused`] when it is over; otherwise what prevents the undo.
pub(in super::super) async fn cancel_restore(cluster: &Cluster, job: &Job) -> Result<()> {
    let Some(mut record) = cluster.records.read_restore(&job.id)? else { return Ok(()) };
    if record.phase == RestorePhase::Done || is_served(&record) {
        return Err(Error::new(Code::Refused, "the restore in place is over, and cannot be cancelled")
            .with_hint(format!("the data from before is kept in `{}`", record.aside.display())));
    }
    if record.phase == RestorePhase::Undone {
        return Ok(());
    }
    if record.aside.is_dir() {
        // Nothing is begun that somebody else's server would keep from its end.
        server_owner::note_served_data(cluster, &mut record)?;
        server_owner::check_no_foreign_server(&record)?;
    }
    let failure = RestoreFailure::new(&record, Code::Timeout, "the time for the restore was up".into());
    undo::undo_restore(cluster, record, Some(failure)).await.map(drop)
}

/// Writes down that a restore in place is done, because somebody says so; a copy that is not in place yet is removed.
///
/// # Errors
/// [`Code::Refused`] while the data is nowhere, or only the recovery uses it.
pub(in super::super) async fn settle_restore_as_done(cluster: &Cluster, job: &Job) -> Result<()> {
    let Some(record) = cluster.records.read_restore(&job.id)?.filter(|record| !record.is_over()) else {
        return Ok(());
    };
    let refuse = |why: &str| {
        Err(Error::new(
            Code::Refused,
            format!("`{}` {why}, so that the restore is not done", record.data.display()),
        ))
    };
    if !record.data.is_dir() {
        return refuse("is not there");
    }
    if server_owner::is_recovering(&record) {
        return refuse("is still being recovered, and lets nobody in");
    }
    copying::kill_copy(cluster, &record.copy).await;
    checksums::kill_verification_and_wait(cluster.clock.as_ref(), &record.copy.data_folder()).await;
    record_as_done(cluster, record).map(drop)
}

/// Records that the data is restored, and removes what is needed no more.
fn record_as_done(cluster: &Cluster, mut record: RestoreRecord) -> Result<JobStatus> {
    record.phase = RestorePhase::Done;
    record.copy.child = None;
    record.running = server::find_server(&record.data).is_some();
    cluster.records.save_restore(&record)?;
    Ok(ending::end_restore(&record))
}

async fn advance_restore(cluster: &Cluster, mut record: RestoreRecord) -> Result<JobStatus> {
    let programs = cluster.programs_for_any(&[&record.data, &record.aside])?;
    match record.phase {
        RestorePhase::Copying if record.copy.is_of_other_boot() => {
            // What the verification of the stale files said goes with them.
            let stale = record.copy.folder.clone();
            restored_copy::restart_copying(cluster, &programs, &mut record, &stale)
        }
        RestorePhase::Copying => poll_copying(cluster, &programs, record),
        RestorePhase::Exchanging => {
            if record.aside.exists() {
                record.check_server_is_own()?;
            }
            if let Some(stopping) =
                cluster_server::stop_or_poll_cluster(cluster, &programs, &mut record).await?
            {
                return Ok(stopping);
            }
            if !record.aside.exists() {
                unarchived_wal::check_no_unarchived_wal(&record.data, &record.copy.recovery.archive)?;
            }
            exchange::move_new_data_in(&record.data, &record.aside, &record.copy.data_folder())?;
            record.phase = RestorePhase::Replaying;
            restored_copy::begin_recovery(cluster, &programs, &mut record).await
        }
        RestorePhase::Replaying => poll_recovery(cluster, &programs, record).await,
        _ => start_cluster_after_recovery(cluster, &programs, record).await,
    }
}

fn poll_copying(cluster: &Cluster, programs: &Programs, mut record: RestoreRecord) -> Result<JobStatus> {
    if let Some(at_work) = restored_copy::poll_copying(cluster, programs, &mut record)? {
        return Ok(at_work);
    }
    let new = record.copy.data_folder();
    if !checksums::start_or_poll_verification(programs, &record.copy.folder, &new)? {
        return Ok(JobStatus::Running(Progress::with_phase("comparing with checksums")));
    }
    exchange::carry_over_configuration(programs, &record.data, &new, &record.configuration)?;
    record.phase = RestorePhase::Exchanging;
    record.save(cluster)?;
    Ok(JobStatus::Running(Progress::with_phase("stopping the cluster")))
}

async fn poll_recovery(
    cluster: &Cluster,
    programs: &Programs,
    mut record: RestoreRecord,
) -> Result<JobStatus> {
    if let Some(at_work) = restored_copy::poll_recovery(cluster, programs, &mut record).await? {
        return Ok(at_work);
    }
    record.phase = RestorePhase::Starting;
    record.save(cluster)?;
    Ok(JobStatus::Running(Progress::with_phase("starting the cluster")))
}

/// Ends the private recovery and starts the cluster as it ran before.
async fn start_cluster_after_recovery(
    cluster: &Cluster,
    programs: &Programs,
    mut record: RestoreRecord,
) -> Result<JobStatus> {
    if !is_served(&record) {
        record.check_server_is_own()?;
        if let Some(left) = server::stop_or_poll_server(&record.data, server::ShutdownMode::Fast) {
            return Ok(JobStatus::Running(Progress::with_phase(format!("ending the recovery, {left}"))));
        }
        if record.ran {
            cluster_server::start_server_as_before(cluster, programs, &mut record).await?;
        }
    }
    record_as_done(cluster, record)
}
