//! The jobs of a cluster: its backups, and restores into branches and in place.

use super::{
    cluster::Cluster,
    engine::{BackupPoll, BuiltinEngine},
    restore::{branch, in_place},
};
use crate::provider::{
    Code, Error, Result,
    model::{CallKey, GivenUpJob, Job, JobStatus, RecordedJob, UndoneJob},
};
use serde_json::Value;

/// The kind of job that makes a backup.
const BACKUP_JOB: &str = "backup";

/// Returns the job that was started with `key`: a branch, a restore in place or a backup.
///
/// # Errors
/// [`Code::Internal`] when a record cannot be read; [`Code::Unknown`] while only a person can say how a restore goes on.
pub(super) fn find_job(cluster: &Cluster, key: &CallKey) -> Result<Option<Job>> {
    if let Some(record) = cluster.records.find_branch_by_key(key)? {
        return Ok(Some(branch::branch_job(&record)));
    }
    if let Some(job) = in_place::find_restore_job(cluster, key)? {
        return Ok(Some(job));
    }
    if cluster.backup_dir().is_err() {
        return Ok(None);
    }
    Ok(BuiltinEngine::for_cluster(cluster)?.find_backup_by_key(key)?.map(|stored| backup_job(stored.id)))
}

/// Reads what was recorded of a job.
///
/// # Errors
/// [`Code::Internal`] for what nobody records.
pub(super) fn check_recorded_job(recorded: RecordedJob<'_>) -> Result<()> {
    match recorded {
        RecordedJob::Accepted(job) if job.kind == branch::BRANCH_JOB => branch::read_branch_id(job).map(drop),
        _ => Ok(()),
    }
}

/// Polls a job once and does its next part.
///
/// One that has failed has removed what it made, or names it in its error.
///
/// # Errors
/// Why it cannot be looked at, or that there is no such job.
pub(super) async fn poll_job(cluster: &Cluster, job: &Job) -> Result<JobStatus> {
    match job.kind.as_str() {
        BACKUP_JOB => poll_backup(cluster, job).await,
        branch::BRANCH_JOB => branch::poll_branch(cluster, job).await,
        in_place::RESTORE_JOB => in_place::poll_restore(cluster, job).await,
        _ => Err(unknown_job_error(job)),
    }
}

/// Cancels a job and removes what it has made so far.
///
/// # Errors
/// What could not be removed; [`Code::Refused`] for a restore in place that is over.
pub(super) async fn cancel_job(cluster: &Cluster, job: &Job) -> Result<()> {
    match job.kind.as_str() {
        BACKUP_JOB => BuiltinEngine::for_cluster(cluster)?.stop_and_remove_backup(&job.id),
        branch::BRANCH_JOB => match branch::find_branch_of_job(cluster, job)? {
            Some(record) => branch::remove_branch(cluster, record).await,
            None => Ok(()),
        },
        in_place::RESTORE_JOB => in_place::cancel_restore(cluster, job).await,
        _ => Err(unknown_job_error(job)),
    }
}

/// Brings a job to its end for which nobody waits any more. A restore in place that goes on is undone; a backup or a branch
/// that is done is somebody's by now, and stays.
///
/// # Errors
/// What is left of it, and why.
pub(super) async fn give_job_up(cluster: &Cluster, job: &Job) -> Result<GivenUpJob> {
    if job.kind != in_place::RESTORE_JOB {
        match poll_job(cluster, job).await {
            Ok(JobStatus::Done(_)) => return Ok(GivenUpJob::Done),
            Err(e) if e.code == Code::NotFound => return Ok(GivenUpJob::Undone(UndoneJob::default())),
            _ => {}
        }
    }
    match cancel_job(cluster, job).await {
        Ok(()) => Ok(GivenUpJob::Undone(read_undone_job(cluster, job).await)),
        // The next poll writes down that it is done.
        Err(e) if e.code == Code::Refused => match poll_job(cluster, job).await? {
            JobStatus::Done(_) => Ok(GivenUpJob::Done),
            _ => Err(e),
        },
        Err(e) => Err(e),
    }
}

/// Returns what a job that was cancelled has changed, and what of it stays: a restore in place says so in its own end.
async fn read_undone_job(cluster: &Cluster, job: &Job) -> UndoneJob {
    match poll_job(cluster, job).await {
        Ok(JobStatus::Failed(end)) => {
            UndoneJob { side_effects: end.side_effects, left_behind: end.left_behind }
        }
        _ => UndoneJob::default(),
    }
}

/// Writes down that a job is done, because somebody says so. Only a restore in place has a record that later ones go by.
///
/// # Errors
/// Why it cannot be over.
pub(super) async fn settle_job_as_done(cluster: &Cluster, job: &Job) -> Result<()> {
    match job.kind.as_str() {
        in_place::RESTORE_JOB => in_place::settle_restore_as_done(cluster, job).await,
        _ => Ok(()),
    }
}

/// Returns the job that makes a backup.
pub(super) fn backup_job(id: String) -> Job {
    Job { kind: BACKUP_JOB.into(), id, detail: Value::Null }
}

/// Polls a backup job once and does its next part.
///
/// # Errors
/// Why it cannot be looked at.
async fn poll_backup(cluster: &Cluster, job: &Job) -> Result<JobStatus> {
    Ok(match BuiltinEngine::for_cluster(cluster)?.poll_backup(&job.id).await? {
        BackupPoll::Running(progress) => JobStatus::Running(progress),
        BackupPoll::Completed(stored) => JobStatus::Done(stored.to_backup().to_handle()),
        BackupPoll::Failed(error) => JobStatus::Failed(error),
    })
}

fn unknown_job_error(job: &Job) -> Error {
    Error::new(Code::Invalid, format!("a PostgreSQL target knows no job of the kind `{}`", job.kind))
}
