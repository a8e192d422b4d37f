//! A branch: a copy of a cluster in a folder of its own, from its request until nothing of it is left.
//!
//! - The record in the state folder is written first and removed last.
//! - Each poll does the next part, and each part can be repeated, so another process can continue after a kill.
//! - A branch whose recovery cannot be proved correct is removed.
//! - A folder is removed only when its marker names this very branch.

use super::{
    copying,
    isolation::{self, IsolatedCopy},
    restored_copy::{self, RestoredCopy},
};
use crate::{
    base::former_name,
    provider::{
        Code, Error, Result,
        host::{disk, programs::Programs, record_file},
        model::{Branch, Job, JobStatus},
        postgres::{
            cluster::{Cluster, control_file::ControlFile, server},
            records::{BranchPhase, BranchRecord, CopyRecord},
            sql::DatabaseAddress,
        },
    },
};
use async_trait::async_trait;
use std::{
    ffi::OsString,
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
pub(in super::super) async fn choose_branch_folder(
    cluster: &Cluster,
    programs: &Programs,
    id: &str,
) -> PathBuf {
    let home = cluster.records.target_folder();
    if fs::create_dir_all(home).is_ok() && disk::can_os_user_enter(programs, home).await {
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

/// Polls a branch job once and does its next part. A branch that has failed has been removed, or is named in the error.
///
/// # Errors
/// Why it cannot be looked at, or that there is no such branch.
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
        Err(error) => {
            // What was begun before it failed is in its record as it was saved last.
            let saved = find_branch_of_job(cluster, job).ok().flatten().unwrap_or(record);
            Ok(JobStatus::Failed(match remove_branch(cluster, saved).await {
                Ok(()) => error,
                Err(left) => Error { left_behind: left.left_behind, ..error }.with_side_effects(),
            }))
        }
    }
}

/// Returns the id of the branch that a job makes.
///
/// # Errors
/// [`Code::Internal`] where nothing says so.
pub(in super::super) fn read_branch_id(job: &Job) -> Result<&str> {
    let id = job.detail.get("branch").and_then(|id| id.as_str());
    id.ok_or_else(|| Error::new(Code::Internal, format!("the job of the branch `{}` cannot be read", job.id)))
}

/// Returns the branch that a job makes; a later branch with the same name does not count.
///
/// # Errors
/// [`Code::Internal`]; [`Code::Unknown`] when the job does not say which branch it makes: that branch may be at work.
pub(in super::super) fn find_branch_of_job(cluster: &Cluster, job: &Job) -> Result<Option<BranchRecord>> {
    let id = read_branch_id(job)?;
    Ok(cluster.records.read_branch(&job.id)?.filter(|record| record.id == id))
}

fn branch_gone_error(name: &str) -> Error {
    Error::new(Code::NotFound, format!("branch `{name}` is not there any more: it failed, or it was deleted"))
}

async fn advance_branch(cluster: &Cluster, mut record: BranchRecord) -> Result<JobStatus> {
    let programs = cluster.programs()?;
    if record.copy.is_of_other_boot() {
        let stale = record.copy.files_folder();
        record.phase = BranchPhase::Copying;
        return restored_copy::restart_copying(cluster, &programs, &mut record, &stale);
    }
    match record.phase {
        BranchPhase::Copying => poll_copying(cluster, &programs, record).await,
        _ => poll_recovery(cluster, &programs, record).await,
    }
}

async fn poll_copying(cluster: &Cluster, programs: &Programs, mut record: BranchRecord) -> Result<JobStatus> {
    if let Some(at_work) = restored_copy::poll_copying(cluster, programs, &mut record)? {
        return Ok(at_work);
    }
    configure_copy(cluster, programs, &record).await?;
    record.phase = BranchPhase::Replaying;
    restored_copy::begin_recovery(cluster, programs, &mut record).await
}

async fn configure_copy(cluster: &Cluster, programs: &Programs, record: &BranchRecord) -> Result<()> {
    let mut control = ControlFile::read(programs, &record.copy.data_folder()).await?;
    // The source may have raised a setting after the backup; its WAL then wants the higher one.
    if let Ok(source) = cluster.read_control_file().await {
        control.raise_minimum_settings(&source);
    }
    let isolation = IsolatedCopy {
        cluster_name: format!("branch:{}", record.name),
        socket: &record.copy.socket,
        port: record.port,
        recovery: &record.copy.recovery,
        control: &control,
    };
    isolation::write_isolated_configuration(programs, &record.copy.files_folder(), &isolation)
}

async fn poll_recovery(
    cluster: &Cluster,
    programs: &Programs,
    mut record: BranchRecord,
) -> Result<JobStatus> {
    if let Some(at_work) = restored_copy::poll_recovery(cluster, programs, &mut record).await? {
        return Ok(at_work);
    }
    record.phase = BranchPhase::Ready;
    record.save(cluster)?;
    Ok(JobStatus::Done(to_branch(&record).to_handle()))
}

#[async_trait]
impl RestoredCopy for BranchRecord {
    fn copy(&self) -> &CopyRecord {
        &self.copy
    }

    fn copy_mut(&mut self) -> &mut CopyRecord {
        &mut self.copy
    }

    fn save(&self, cluster: &Cluster) -> Result<()> {
        cluster.records.save_branch(self)
    }

    /// The marker in the folder says whose it is.
    fn claim_and_make_folder(&self, _: &Cluster, programs: &Programs) -> Result<()> {
        let folder = &self.copy.folder;
        fs::create_dir_all(folder.parent().unwrap_or(Path::new("/")))
            .map_err(|e| Error::new(Code::Tool, format!("`{}` cannot be made: {e}", folder.display())))?;
        disk::make_private_folder(programs, folder)?;
        record_file::write_record(&former_name::fall_back_to_former_path(folder.join(MARKER)), self)
    }

    /// A branch stays where it was laid down.
    fn recovery_data_folder(&self) -> PathBuf {
        self.copy.data_folder()
    }

    fn address(&self, source: &DatabaseAddress) -> DatabaseAddress {
        self.server_address(source)
    }

    /// Its configuration was rewritten when it was complete, and has everything.
    async fn prepare_server_and_get_options(&mut self, _: &Programs) -> Result<Vec<OsString>> {
        Ok(Vec::new())
    }

    /// Nobody else knows of its folder.
    fn check_server_is_own(&self) -> Result<()> {
        Ok(())
    }

    /// Replay may have just created a link into the source's folders.
    fn check_still_isolated(&self) -> Result<()> {
        isolation::check_tablespace_links(&self.copy.files_folder())
    }
}

/// Converts a branch's record to the model's `Branch`.
pub(in super::super) fn to_branch(record: &BranchRecord) -> Branch {
    let status = match record.phase {
        BranchPhase::Copying | BranchPhase::Replaying => "preparing",
        BranchPhase::Ready if server::find_server(&record.copy.data_folder()).is_some() => "ready",
        BranchPhase::Ready | BranchPhase::Removing => "stopped",
    };
    Branch {
        name: record.name.clone(),
        id: record.id.clone(),
        target: record.target.clone(),
        status: status.into(),
        created_at: record.created_at,
        backup: Some(record.copy.recovery.backup.clone()),
        reached: record.copy.reached,
        timeline: record.copy.timeline,
        unseen: record.copy.recovery.unseen.clone(),
        host: Some(record.copy.socket.display().to_string()),
        port: Some(record.port),
        temporary: record.temporary,
        run: record.run.clone(),
        key: Some(record.key.clone()),
    }
}

/// Removes everything of a branch; what is gone already is no error.
///
/// # Errors
/// [`Code::Refused`] when the folder is not this branch's; [`Code::Timeout`] when a process of it does not end. The error names
/// the folder: whatever was not done of it, the server may be ended by then.
pub(in super::super) async fn remove_branch(cluster: &Cluster, record: BranchRecord) -> Result<()> {
    check_folder_ownership(cluster, &record)?;
    let folder = record.copy.folder.display().to_string();
    remove_own_branch(cluster, record).await.map_err(|error| match error.left_behind.as_slice() {
        [] => error.with_left_behind(folder),
        _ => error,
    })
}

async fn remove_own_branch(cluster: &Cluster, mut record: BranchRecord) -> Result<()> {
    record.phase = BranchPhase::Removing;
    cluster.records.save_branch(&record)?;
    copying::kill_copy(cluster, &record.copy).await;
    restored_copy::stop_recovering_server(cluster, &record.copy, &record.copy.data_folder()).await?;
    disk::remove_folder(&record.copy.folder)?;
    disk::remove_folder(&record.copy.socket)?;
    cluster.records.remove_branch_record(&record.name)
}

/// Refuses a folder whose marker does not name this branch.
fn check_folder_ownership(cluster: &Cluster, record: &BranchRecord) -> Result<()> {
    let foreign = |why: &str| {
        Error::new(Code::Refused, format!("`{}` is left alone: {why}", record.copy.folder.display()))
            .with_hint("look at it, and remove it by hand when nobody needs it")
            .with_left_behind(record.copy.folder.display().to_string())
    };
    let Ok(folder) = fs::canonicalize(&record.copy.folder) else { return Ok(()) };
    let source = fs::canonicalize(&cluster.data).unwrap_or_else(|_| cluster.data.clone());
    if source.starts_with(&folder) || folder.starts_with(&source) {
        return Err(foreign("it is the source's own"));
    }
    match record_file::read_record::<BranchRecord>(&former_name::fall_back_to_former_path(
        folder.join(MARKER),
    ))? {
        Some(marker) if marker.id == record.id && marker.name == record.name => Ok(()),
        Some(_) => Err(foreign("its marker names another branch")),
        // The marker was checked when the removal began and may be gone by now.
        None if record.phase == BranchPhase::Removing => Ok(()),
        // We died between making the folder and writing the marker.
        None if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_none()) => Ok(()),
        None => Err(foreign("it has no marker of a branch")),
    }
}
