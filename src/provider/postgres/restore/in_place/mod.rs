//! Restores a cluster in place: its data folder is replaced, everything else stays.
//!
//! - The backup is copied beside the data and compared with its checksums while the cluster still serves; only then is
//!   the cluster stopped.
//! - The old data is moved aside and never deleted, even after success: it is the way back.
//! - The new data recovers on a private socket. The cluster serves again only when recovery was proved, with the
//!   settings and options that it had before.
//! - Whatever fails after the cluster was stopped puts the old data back and starts it again.
//! - Every phase can be repeated; the existing folders show what was done.

mod checksums;
mod data_folder;
mod exchange;
mod lock;
mod new_data;
mod refusal;
mod running_server;
mod unarchived_wal;

use super::{
    copying, plan,
    restored_copy::{self, RestoredCopy as _},
};
use crate::provider::{
    Code, Error, Result,
    host::{
        disk,
        programs::{self, Programs},
    },
    model::{CallKey, Job, JobStatus, Progress, RestoreOutcome, RestoreRequest},
    postgres::{
        cluster::{Cluster, server},
        records::{CopyRecord, RestoreFailure, RestorePhase, RestoreRecord},
    },
};
use serde_json::Value;
use std::ffi::OsString;

/// The kind of job that restores in place.
pub(in super::super) const RESTORE_JOB: &str = "restore";

/// Returns the job of the restore in place that has the key `key`.
///
/// # Errors
/// [`Code::Internal`] when the record cannot be read; [`Code::Unknown`] while only a person can say how to
/// go on.
pub(in super::super) fn find_restore_job(cluster: &Cluster, key: &CallKey) -> Result<Option<Job>> {
    match cluster.records.read_restore(&key.0)? {
        Some(RestoreRecord { stuck: Some(why), .. }) => Err(Error::new(Code::Unknown, why)),
        record => Ok(record.as_ref().map(restore_job)),
    }
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
    let current = data_folder::DataFolder::load_replaceable(cluster).await?;
    let suffix = key.0.to_lowercase();
    let beside = |what: &str| {
        let mut name = current.data.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{what}-{suffix}"));
        current.data.with_file_name(name)
    };
    unarchived_wal::ensure_wal_archived(cluster, &current).await?;
    let folder = beside("restoring");
    let plan = plan::plan_restore(cluster, request, &folder).await?;
    if current.running.is_none() {
        unarchived_wal::check_no_unarchived_wal(&current.data, &plan.recovery.archive)?;
    }
    let socket = server::choose_socket_folder(&folder, &cluster.records.unique_name(&suffix));
    let record = RestoreRecord {
        key: key.clone(),
        target: cluster.name.clone(),
        run: request.run.clone(),
        created_at: cluster.clock.now(),
        copy: CopyRecord::new(plan.system_identifier, plan.recovery, folder, socket),
        aside: beside("before"),
        options: current.options,
        log: current.log,
        ran: current.running.is_some() || has_crashed(cluster).await?,
        running: false,
        configuration: current.running.map(|running| running.configuration).unwrap_or_default(),
        data: current.data,
        phase: RestorePhase::Copying,
        failure: None,
        stuck: None,
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

/// Polls a restore in place and advances it by one phase.
///
/// # Errors
/// The reason for its failure; everything is then as before.
pub(in super::super) async fn poll_restore(cluster: &Cluster, job: &Job) -> Result<JobStatus> {
    let Some(record) = cluster.records.read_restore(&job.id)? else {
        return Err(Error::new(
            Code::NotFound,
            format!("there is no restore in place with the key `{}`", job.id),
        ));
    };
    let record = RestoreRecord { stuck: None, ..record };
    match record.phase {
        RestorePhase::Done => return Ok(JobStatus::Done(restored_to_json(&record))),
        RestorePhase::Undoing => return undo_restore(cluster, record).await,
        RestorePhase::Undone => return Err(restore_failed_error(&record)),
        _ => {}
    }
    match advance_restore(cluster, record.clone()).await {
        Ok(observed) => Ok(observed),
        Err(error) if error.code == Code::Unknown => Err(save_as_needing_person(cluster, record, error)?),
        Err(error) => {
            // The record may lack what was saved meanwhile, but the folders show it.
            let failure = RestoreFailure::new(&record, error.code, error.message);
            undo_restore(
                cluster,
                RestoreRecord { phase: RestorePhase::Undoing, failure: Some(failure), ..record },
            )
            .await
        }
    }
}

/// Records that only a person can say how to go on; the next poll tries again.
fn save_as_needing_person(cluster: &Cluster, record: RestoreRecord, error: Error) -> Result<Error> {
    let error = Error { code: Code::Unknown, retryable: false, ..error };
    cluster.records.save_restore(&RestoreRecord { stuck: Some(error.message.clone()), ..record })?;
    Ok(error)
}

/// Cancels a restore in place.
///
/// # Errors
/// [`Code::Refused`] when it is over; otherwise what prevents the undo.
pub(in super::super) async fn cancel_restore(cluster: &Cluster, job: &Job) -> Result<()> {
    let Some(record) = cluster.records.read_restore(&job.id)? else { return Ok(()) };
    if record.phase == RestorePhase::Done {
        return Err(Error::new(Code::Refused, "the restore in place is over, and cannot be cancelled")
            .with_hint(format!("the data from before is kept in `{}`", record.aside.display())));
    }
    if record.phase == RestorePhase::Undone {
        return Ok(());
    }
    let failure = RestoreFailure::new(&record, Code::Refused, "the restore was cancelled".into());
    match undo_restore(
        cluster,
        RestoreRecord { phase: RestorePhase::Undoing, failure: Some(failure), ..record },
    )
    .await
    {
        Err(error) if error.left_behind.is_empty() => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
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
            server::stop_server(cluster.clock.as_ref(), &record.data, server::ShutdownMode::Fast).await?;
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
    let serves = server::is_server_ready(&record.data)
        && !exchange::is_private_server(&record.data, &record.copy.socket);
    if !serves {
        server::stop_server(cluster.clock.as_ref(), &record.data, server::ShutdownMode::Fast).await?;
        if record.ran {
            start_server_as_before(cluster, programs, &record).await?;
        }
    }
    disk::remove_folder(&record.copy.socket)?;
    disk::remove_folder(&record.copy.folder)?;
    record.phase = RestorePhase::Done;
    record.copy.child = None;
    record.running = server::find_server(&record.data).is_some();
    cluster.records.save_restore(&record)?;
    lock::release_lock(&record)?;
    Ok(JobStatus::Done(restored_to_json(&record)))
}

async fn start_server_as_before(
    cluster: &Cluster,
    programs: &Programs,
    record: &RestoreRecord,
) -> Result<()> {
    let options: Vec<OsString> = record.options.iter().map(OsString::from).collect();
    let said_before = std::fs::metadata(&record.log).map_or(0, |log| log.len());
    server::start_server(programs, &record.data, &options, &record.log)?;
    server::wait_until_ready(cluster.clock.as_ref(), &record.data).await.map_err(|error| {
        let said = std::fs::read(&record.log).unwrap_or_default();
        let new = said.get(usize::try_from(said_before).unwrap_or_default()..).unwrap_or(&said);
        let words = programs::tail_output(new);
        let hint = format!("look at `{}`", record.log.display());
        let message = if words.is_empty() { error.message } else { format!("{}: {words}", error.message) };
        Error { message, ..error }.with_hint(hint)
    })
}

/// Undoes the restore, and returns the error that caused it.
async fn undo_restore(cluster: &Cluster, mut record: RestoreRecord) -> Result<JobStatus> {
    cluster.records.save_restore(&record)?;
    let what_is_left = |error: Error, record: &RestoreRecord| {
        let reason = record.failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default();
        Error { message: format!("{reason}; and it could not be undone: {}", error.message), ..error }
            .with_hint(format!(
                "mend that, and take the run up again: it goes on undoing; the data from before is in `{}`, or still in `{}`",
                record.aside.display(),
                record.data.display()
            ))
            .with_left_behind(record.copy.folder.display().to_string())
    };
    match put_old_data_back(cluster, &record).await {
        Ok(()) => {
            record.phase = RestorePhase::Undone;
            cluster.records.save_restore(&record)?;
            lock::release_lock(&record)?;
            Err(restore_failed_error(&record))
        }
        // It is neither done nor undone: the run stops here, and resuming it continues the undo.
        Err(error) => {
            let error = what_is_left(error, &record);
            Err(save_as_needing_person(cluster, record, error)?)
        }
    }
}

async fn put_old_data_back(cluster: &Cluster, record: &RestoreRecord) -> Result<()> {
    let programs = cluster.programs_for_any(&[&record.data, &record.aside])?;
    copying::kill_copy(cluster, &record.copy).await;
    checksums::kill_verification_and_wait(cluster.clock.as_ref(), &record.copy.data_folder()).await;
    if record.aside.is_dir() {
        restored_copy::stop_recovering_server(cluster, &record.data).await?;
        exchange::move_old_data_back(&record.data, &record.aside, &record.copy.data_folder())?;
    }
    if record.ran && server::find_server(&record.data).is_none() {
        start_server_as_before(cluster, &programs, record).await?;
    }
    disk::remove_folder(&record.copy.socket)?;
    disk::remove_folder(&record.copy.folder)
}

fn restore_failed_error(record: &RestoreRecord) -> Error {
    let Some(RestoreFailure { code, message, stopped }) = record.failure.clone() else {
        return Error::new(Code::Internal, "the restore failed, and nobody wrote down why");
    };
    let code = Code::ALL.iter().copied().find(|known| known.as_str() == code).unwrap_or(Code::Tool);
    if stopped {
        let message = format!("{message}; the cluster was stopped, and is as it was before");
        return Error::new(code, message).with_side_effects();
    }
    Error::new(code, format!("{message}; the cluster was not touched"))
}

fn restored_to_json(record: &RestoreRecord) -> Value {
    let restored = RestoreOutcome {
        target: record.target.clone(),
        backup: record.copy.recovery.backup.clone(),
        reached: record.copy.reached,
        timeline: record.copy.timeline,
        kept: Some(record.aside.display().to_string()),
        unseen: record.copy.recovery.unseen.clone(),
        running: record.running,
    };
    serde_json::to_value(restored).unwrap_or_default()
}
