//! A branch: a copy of a cluster in a folder of its own, from its request until nothing of it is left.
//!
//! - The record in the state folder is written first and removed last.
//! - Each poll does the next part, and each part can be repeated, so another process can continue after a kill.
//! - A branch whose recovery cannot be proved correct is removed.
//! - A folder is removed only when its marker names this very branch.

use super::{
    copying::{self, CopyState},
    isolation::{self, IsolatedCopy},
    recovery::{RecoveringCopy, RecoveryState},
};
use crate::{
    base::former_name,
    provider::{
        Code, Error, Result,
        host::{disk, process, programs::Programs, record_file},
        model::{Branch, Job, JobStatus, Progress},
        postgres::{
            cluster::{Cluster, control_file::ControlFile, server},
            records::{BranchPhase, BranchRecord},
        },
    },
};
use rustix::process::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The kind of job that makes a branch.
pub(in super::super) const BRANCH_JOB: &str = "branch";
/// The file in a branch's folder that says whose it is.
const MARKER: &str = ".redrill-branch.json";

/// Refuses a name that is not safe as a file name.
///
/// # Errors
/// [`Code::Invalid`].
pub(in super::super) fn check_branch_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.len() <= 50 && name.chars().all(good) && !name.starts_with('-') {
        return Ok(());
    }
    Err(Error::new(Code::Invalid, format!("`{name}` is no name for a branch"))
        .with_hint("use up to 50 letters, digits, `-` and `_`"))
}

/// Returns the folder for a branch, and makes the one above it: in the state folder if the cluster's user can reach it, else in `/var/tmp`.
pub(in super::super) async fn prepare_branch_home(
    cluster: &Cluster,
    programs: &Programs,
    id: &str,
) -> PathBuf {
    let home = cluster.records.home();
    if fs::create_dir_all(home).is_ok() && disk::is_reachable(programs, home).await {
        home.join("data").join(id)
    } else {
        Path::new("/var/tmp").join(format!("redrill-branch-{}", cluster.records.unique_name(id)))
    }
}

/// Returns the job that makes a branch.
pub(in super::super) fn branch_job(record: &BranchRecord) -> Job {
    Job {
        kind: BRANCH_JOB.into(),
        id: record.name.clone(),
        detail: serde_json::json!({ "branch": record.id }),
    }
}

/// Polls a branch job once and does its next part.
///
/// # Errors
/// Why the branch failed; by then it has been removed.
pub(in super::super) async fn poll_branch(cluster: &Cluster, job: &Job) -> Result<JobStatus> {
    let Some(record) = find_branch_of_job(cluster, job)? else { return Err(branch_gone_error(&job.id)) };
    if record.phase == BranchPhase::Ready {
        return Ok(JobStatus::Done(to_branch(&record).to_handle()));
    }
    if record.phase == BranchPhase::Removing {
        remove_branch(cluster, record).await?;
        return Err(branch_gone_error(&job.id));
    }
    match advance_branch(cluster, record.clone()).await {
        Ok(observed) => Ok(observed),
        Err(error) => match remove_branch(cluster, record).await {
            Ok(()) => Err(error),
            Err(left) => Err(Error { left_behind: left.left_behind, ..error }.with_side_effects()),
        },
    }
}

/// Returns the branch that a job makes; a later branch with the same name does not count.
///
/// # Errors
/// [`Code::Internal`].
pub(in super::super) fn find_branch_of_job(cluster: &Cluster, job: &Job) -> Result<Option<BranchRecord>> {
    let id = job.detail.get("branch").and_then(|id| id.as_str()).unwrap_or_default();
    Ok(cluster.records.read_branch(&job.id)?.filter(|record| record.id == id))
}

fn branch_gone_error(name: &str) -> Error {
    Error::new(Code::NotFound, format!("branch `{name}` is not there any more: it failed, or it was deleted"))
}

async fn advance_branch(cluster: &Cluster, record: BranchRecord) -> Result<JobStatus> {
    let programs = cluster.programs()?;
    // After a reboot nobody knows what had reached the disk, so the copy starts again.
    let other_boot = record.child.as_ref().is_some_and(|child| child.boot != process::read_boot_id());
    if other_boot {
        disk::remove_folder(&record.folder.join("files"))?;
        let record = BranchRecord { phase: BranchPhase::Copying, child: None, starts: 0, ..record };
        return start_backup_copy(cluster, &programs, record);
    }
    match record.phase {
        BranchPhase::Copying => poll_copy(cluster, &programs, record).await,
        _ => poll_replay(cluster, &programs, record).await,
    }
}

fn start_backup_copy(cluster: &Cluster, programs: &Programs, mut record: BranchRecord) -> Result<JobStatus> {
    fs::create_dir_all(record.folder.parent().unwrap_or(Path::new("/")))
        .map_err(|e| Error::new(Code::Tool, format!("`{}` cannot be made: {e}", record.folder.display())))?;
    disk::make_private_folder(programs, &record.folder)?;
    record_file::write_record(&former_name::find_existing_path(record.folder.join(MARKER)), &record)?;
    record.starts += 1;
    let backup = &record.recovery.backup;
    record.child =
        Some(copying::start_backup_copy(cluster, programs, &record.folder, backup, record.starts)?);
    cluster.records.save_branch(&record)?;
    Ok(JobStatus::Running(Progress::with_phase("copying")))
}

async fn poll_copy(cluster: &Cluster, programs: &Programs, mut record: BranchRecord) -> Result<JobStatus> {
    match copying::poll_copy(cluster, &record.folder, &record.recovery.backup, record.starts)? {
        CopyState::Missing => start_backup_copy(cluster, programs, record),
        CopyState::Running(progress) => Ok(JobStatus::Running(progress)),
        CopyState::Complete => {
            configure_copy(cluster, programs, &record).await?;
            record.phase = BranchPhase::Replaying;
            record.starts = 0;
            start_server(cluster, programs, record)
        }
    }
}

async fn configure_copy(cluster: &Cluster, programs: &Programs, record: &BranchRecord) -> Result<()> {
    let mut control = ControlFile::read(programs, &record.data_folder()).await?;
    // The source may have raised a setting after the backup; its WAL then wants the higher one.
    if let Ok(source) = cluster.read_control_file().await {
        control.raise_minima(&source);
    }
    let isolation = IsolatedCopy {
        cluster_name: format!("branch:{}", record.name),
        socket: &record.socket,
        port: record.port,
        recovery: &record.recovery,
        control: &control,
    };
    isolation::write_configuration(programs, &record.folder.join("files"), &isolation)
}

fn start_server(cluster: &Cluster, programs: &Programs, mut record: BranchRecord) -> Result<JobStatus> {
    record.starts += 1;
    // The count is saved first, because it names the log: an unread log would hide why the server died.
    cluster.records.save_branch(&record)?;
    record.child =
        Some(server::start_server(programs, &record.data_folder(), &[], &record.recovery_log_path())?);
    cluster.records.save_branch(&record)?;
    Ok(JobStatus::Running(Progress::with_phase("replaying WAL")))
}

async fn poll_replay(cluster: &Cluster, programs: &Programs, mut record: BranchRecord) -> Result<JobStatus> {
    let copy = RecoveringCopy {
        data: &record.data_folder(),
        log: &record.recovery_log_path(),
        starts: record.starts,
        child: record.child.as_ref(),
        recovery: &record.recovery,
        address: &record.address(&cluster.address),
        system_identifier: &record.system_identifier,
    };
    let polled = copy.poll_recovery().await;
    // Checked whatever the poll returned: replay may have just created a link into the source's folders.
    isolation::check_tablespace_links(&record.folder.join("files"))?;
    let proof = match polled? {
        RecoveryState::Running(progress) => return Ok(JobStatus::Running(progress)),
        RecoveryState::Killed => return start_server(cluster, programs, record),
        RecoveryState::Proved(proof) => proof,
    };
    record.reached = proof.reached;
    record.timeline = Some(proof.timeline);
    record.phase = BranchPhase::Ready;
    cluster.records.save_branch(&record)?;
    Ok(JobStatus::Done(to_branch(&record).to_handle()))
}

/// Converts a branch's record to the model's `Branch`.
pub(in super::super) fn to_branch(record: &BranchRecord) -> Branch {
    let status = match record.phase {
        BranchPhase::Copying | BranchPhase::Replaying => "preparing",
        BranchPhase::Ready if server::find_server(&record.data_folder()).is_some() => "ready",
        BranchPhase::Ready | BranchPhase::Removing => "stopped",
    };
    Branch {
        name: record.name.clone(),
        id: record.id.clone(),
        target: record.target.clone(),
        status: status.into(),
        created_at: record.created_at,
        backup: Some(record.recovery.backup.clone()),
        reached: record.reached,
        timeline: record.timeline,
        unseen: record.recovery.unseen.clone(),
        host: Some(record.socket.display().to_string()),
        port: Some(record.port),
        temporary: record.temporary,
        run: record.run.clone(),
        key: Some(record.key.clone()),
    }
}

/// Removes everything of a branch; what is gone already is no error.
///
/// # Errors
/// [`Code::Refused`] when the folder is not this branch's; [`Code::Timeout`] when a process of it does not end.
pub(in super::super) async fn remove_branch(cluster: &Cluster, mut record: BranchRecord) -> Result<()> {
    check_folder_ownership(cluster, &record)?;
    record.phase = BranchPhase::Removing;
    cluster.records.save_branch(&record)?;
    copying::kill_copy(cluster, &record.folder).await;
    if let Some(starting) = process::find_started_with(record.data_folder().as_os_str()) {
        starting.signal(Signal::QUIT);
    }
    server::stop_server(cluster.clock.as_ref(), &record.data_folder(), server::ShutdownMode::Immediate)
        .await?;
    disk::remove_folder(&record.folder)?;
    disk::remove_folder(&record.socket)?;
    cluster.records.forget_branch(&record.name)
}

/// Refuses a folder whose marker does not name this branch.
fn check_folder_ownership(cluster: &Cluster, record: &BranchRecord) -> Result<()> {
    let foreign = |why: &str| {
        Error::new(Code::Refused, format!("`{}` is left alone: {why}", record.folder.display()))
            .with_hint("look at it, and remove it by hand when nobody needs it")
            .with_left_behind(record.folder.display().to_string())
    };
    let Ok(folder) = fs::canonicalize(&record.folder) else { return Ok(()) };
    let source = fs::canonicalize(&cluster.data).unwrap_or_else(|_| cluster.data.clone());
    if source.starts_with(&folder) || folder.starts_with(&source) {
        return Err(foreign("it is the source's own"));
    }
    match record_file::read_record::<BranchRecord>(&former_name::find_existing_path(folder.join(MARKER)))? {
        Some(marker) if marker.id == record.id && marker.name == record.name => Ok(()),
        Some(_) => Err(foreign("its marker names another branch")),
        // The marker was checked when the removal began and may be gone by now.
        None if record.phase == BranchPhase::Removing => Ok(()),
        // We died between making the folder and writing the marker.
        None if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_none()) => Ok(()),
        None => Err(foreign("it has no marker of a branch")),
    }
}
