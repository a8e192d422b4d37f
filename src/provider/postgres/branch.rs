//! Branches: copies of a cluster in a folder of their own, from the moment they are asked for until nothing is left.
//!
//! - The record in the state folder is written first and removed last.
//! - Every look does the next part, and each part can be done again: a killed process is followed by the next one.
//! - A branch that cannot be proved to be what was asked for is removed.
//! - Nothing is removed whose marker does not say that it is this very branch.

use super::{
    cluster::Cluster,
    control::Control,
    copying::{self, Copying, STARTS_MAX},
    disk,
    isolation::{self, Isolation},
    opened::OpenBranch,
    process,
    records::{self, BranchRecord, Phase},
    recovery::{self, Copy, Recovering},
    server,
    sql::Address,
    tools::Tools,
};
use crate::base::former_name;
use crate::provider::{
    Branches, Code, Error, Provider, Result,
    model::{Branch, Job, Key, Observed, Progress},
};
use async_trait::async_trait;
use rustix::process::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The kind of job that makes a branch.
pub(super) const KIND: &str = "branch";
/// The file in a branch's folder that says whose it is.
const MARKER: &str = ".redrill-branch.json";

/// Refuses a name that would not do as the name of a file.
///
/// # Errors
/// [`Code::Invalid`].
pub(super) fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.len() <= 50 && name.chars().all(good) && !name.starts_with('-') {
        return Ok(());
    }
    Err(Error::new(Code::Invalid, format!("`{name}` is no name for a branch"))
        .hint("use up to 50 letters, digits, `-` and `_`"))
}

/// Returns where a branch with this id is to be: in the state folder when the cluster's user gets there.
pub(super) async fn folder(cluster: &Cluster, tools: &Tools, id: &str) -> PathBuf {
    let home = cluster.records.home();
    if fs::create_dir_all(home).is_ok() && disk::is_reachable(tools, home).await {
        home.join("data").join(id)
    } else {
        Path::new("/var/tmp").join(format!("redrill-branch-{}", cluster.records.unique(id)))
    }
}

/// Returns the job that makes a branch.
pub(super) fn job(record: &BranchRecord) -> Job {
    Job { kind: KIND.into(), id: record.name.clone(), detail: serde_json::json!({ "branch": record.id }) }
}

/// Looks at a branch that is being made and takes it one part further.
///
/// # Errors
/// Why it cannot be made; it has then been removed.
pub(super) async fn observe(cluster: &Cluster, job: &Job) -> Result<Observed> {
    let Some(record) = of_job(cluster, job)? else { return Err(gone(&job.id)) };
    if record.phase == Phase::Ready {
        return Ok(Observed::Done(view(&record).handle()));
    }
    if record.phase == Phase::Removing {
        remove(cluster, record).await?;
        return Err(gone(&job.id));
    }
    match advance(cluster, record.clone()).await {
        Ok(observed) => Ok(observed),
        Err(error) => match remove(cluster, record).await {
            Ok(()) => Err(error),
            Err(left) => Err(Error { left_behind: left.left_behind, ..error }.with_side_effects()),
        },
    }
}

/// Returns the branch that a job makes; a later branch of its name is another.
///
/// # Errors
/// [`Code::Internal`].
pub(super) fn of_job(cluster: &Cluster, job: &Job) -> Result<Option<BranchRecord>> {
    let id = job.detail.get("branch").and_then(|id| id.as_str()).unwrap_or_default();
    Ok(cluster.records.branch(&job.id)?.filter(|record| record.id == id))
}

fn gone(name: &str) -> Error {
    Error::new(Code::NotFound, format!("branch `{name}` is not there any more: it failed, or it was deleted"))
}

async fn advance(cluster: &Cluster, record: BranchRecord) -> Result<Observed> {
    let tools = cluster.tools()?;
    // What a machine had not yet written to its disk when it went down is not known.
    let other_boot = record.child.as_ref().is_some_and(|child| child.boot != process::boot());
    if other_boot {
        disk::remove(&record.folder.join("files"))?;
        let record = BranchRecord { phase: Phase::Copying, child: None, starts: 0, ..record };
        return start_copy(cluster, &tools, record);
    }
    match record.phase {
        Phase::Copying => observe_copy(cluster, &tools, record).await,
        _ => observe_replay(cluster, &tools, record).await,
    }
}

fn start_copy(cluster: &Cluster, tools: &Tools, mut record: BranchRecord) -> Result<Observed> {
    fs::create_dir_all(record.folder.parent().unwrap_or(Path::new("/")))
        .map_err(|e| Error::new(Code::Tool, format!("`{}` cannot be made: {e}", record.folder.display())))?;
    disk::make_private(tools, &record.folder)?;
    records::write(&former_name::existing(record.folder.join(MARKER)), &record)?;
    record.starts += 1;
    let backup = &record.recovery.backup;
    record.child = Some(copying::begin(cluster, tools, &record.folder, backup, record.starts)?);
    cluster.records.keep_branch(&record)?;
    Ok(Observed::Running(Progress::phase("copying")))
}

async fn observe_copy(cluster: &Cluster, tools: &Tools, mut record: BranchRecord) -> Result<Observed> {
    match copying::look(cluster, &record.folder, &record.recovery.backup, record.starts)? {
        Copying::Missing => start_copy(cluster, tools, record),
        Copying::Running(progress) => Ok(Observed::Running(progress)),
        Copying::Complete => {
            configure(cluster, tools, &record).await?;
            record.phase = Phase::Replaying;
            record.starts = 0;
            start_server(cluster, tools, record)
        }
    }
}

async fn configure(cluster: &Cluster, tools: &Tools, record: &BranchRecord) -> Result<()> {
    let mut control = Control::read(tools, &record.data()).await?;
    // The source may have raised a setting after the backup; its WAL then wants the higher one.
    if let Ok(source) = cluster.control().await {
        control.raise_minima(&source);
    }
    let isolation = Isolation {
        cluster_name: format!("branch:{}", record.name),
        socket: &record.socket,
        port: record.port,
        recovery: &record.recovery,
        control: &control,
    };
    isolation::write(tools, &record.folder.join("files"), &isolation)
}

fn start_server(cluster: &Cluster, tools: &Tools, mut record: BranchRecord) -> Result<Observed> {
    record.starts += 1;
    // The number is written down first: a log that nobody reads would hide why the server went away.
    cluster.records.keep_branch(&record)?;
    record.child = Some(server::start(tools, &record.data(), &[], &record.log())?);
    cluster.records.keep_branch(&record)?;
    Ok(Observed::Running(Progress::phase("replaying WAL")))
}

async fn observe_replay(cluster: &Cluster, tools: &Tools, mut record: BranchRecord) -> Result<Observed> {
    let copy = Copy {
        data: &record.data(),
        log: &record.log(),
        child: record.child.as_ref(),
        recovery: &record.recovery,
        address: &address(cluster, &record),
        system_identifier: &record.system_identifier,
    };
    let look = copy.observe().await;
    // Whatever it says: replay may just have made a link to a folder of the source's.
    isolation::check_links(&record.folder.join("files"))?;
    let proof = match look? {
        Recovering::Running(progress) => return Ok(Observed::Running(progress)),
        Recovering::Killed if record.starts < STARTS_MAX => return start_server(cluster, tools, record),
        Recovering::Killed => return Err(recovery::given_up(&server::Log::read(&record.log()))),
        Recovering::Over(proof) => proof,
    };
    record.reached = proof.reached;
    record.timeline = Some(proof.timeline);
    record.phase = Phase::Ready;
    cluster.records.keep_branch(&record)?;
    Ok(Observed::Done(view(&record).handle()))
}

/// Returns how a branch is connected to.
pub(super) fn address(cluster: &Cluster, record: &BranchRecord) -> Address {
    Address {
        host: record.socket.display().to_string(),
        port: record.port,
        user: cluster.address.user.clone(),
        database: cluster.address.database.clone(),
        password: None,
    }
}

/// Returns a branch as it is seen from outside.
fn view(record: &BranchRecord) -> Branch {
    let status = match record.phase {
        Phase::Copying | Phase::Replaying => "preparing",
        Phase::Ready if server::running(&record.data()).is_some() => "ready",
        Phase::Ready | Phase::Removing => "stopped",
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
pub(super) async fn remove(cluster: &Cluster, mut record: BranchRecord) -> Result<()> {
    check_is_its_own(cluster, &record)?;
    record.phase = Phase::Removing;
    cluster.records.keep_branch(&record)?;
    copying::end(cluster, &record.folder).await;
    if let Some(starting) = process::started_with(record.data().as_os_str()) {
        starting.signal(Signal::QUIT);
    }
    server::stop(cluster.clock.as_ref(), &record.data(), server::Stop::Immediate).await?;
    disk::remove(&record.folder)?;
    disk::remove(&record.socket)?;
    cluster.records.forget_branch(&record.name)
}

/// Refuses to touch a folder that does not say that it is this branch's.
fn check_is_its_own(cluster: &Cluster, record: &BranchRecord) -> Result<()> {
    let foreign = |why: &str| {
        Error::new(Code::Refused, format!("`{}` is left alone: {why}", record.folder.display()))
            .hint("look at it, and remove it by hand when nobody needs it")
            .leaving(record.folder.display().to_string())
    };
    let Ok(folder) = fs::canonicalize(&record.folder) else { return Ok(()) };
    let source = fs::canonicalize(&cluster.data).unwrap_or_else(|_| cluster.data.clone());
    if source.starts_with(&folder) || folder.starts_with(&source) {
        return Err(foreign("it is the source's own"));
    }
    match records::read::<BranchRecord>(&former_name::existing(folder.join(MARKER)))? {
        Some(marker) if marker.id == record.id && marker.name == record.name => Ok(()),
        Some(_) => Err(foreign("its marker names another branch")),
        // It was checked before its removal was begun, and the marker has gone with part of the rest.
        None if record.phase == Phase::Removing => Ok(()),
        // We died between making the folder and writing the marker.
        None if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_none()) => Ok(()),
        None => Err(foreign("it has no marker of a branch")),
    }
}

/// The branches of a cluster.
#[async_trait]
impl Branches for Cluster {
    async fn list(&self) -> Result<Vec<Branch>> {
        Ok(self.records.branches()?.iter().map(view).collect())
    }

    async fn get(&self, name: &str) -> Result<Branch> {
        Ok(view(&existing(self, name)?))
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn Provider>> {
        let record = existing(self, name)?;
        if record.phase != Phase::Ready {
            return Err(Error::new(Code::Unavailable, format!("branch `{name}` is not ready yet"))
                .hint("wait until its restore is over"));
        }
        wake(self, &record).await?;
        Ok(Arc::new(OpenBranch::new(self, &record)))
    }

    async fn delete(&self, name: &str, id: &str) -> Result<()> {
        match self.records.branch(name)? {
            Some(record) if record.id == id => remove(self, record).await,
            _ => Ok(()),
        }
    }
}

/// Starts the server of a branch that does not run, such as after the machine was restarted.
async fn wake(cluster: &Cluster, record: &BranchRecord) -> Result<()> {
    let data = record.data();
    if server::running(&data).is_none() {
        disk::make_private(&cluster.tools()?, &record.socket)?;
        server::start(&cluster.tools()?, &data, &[], &record.folder.join("server.log"))?;
    }
    server::wait_ready(cluster.clock.as_ref(), &data).await
}

fn existing(cluster: &Cluster, name: &str) -> Result<BranchRecord> {
    check_name(name)?;
    cluster.records.branch(name)?.ok_or_else(|| {
        let there = cluster.records.branches().unwrap_or_default();
        let hint = crate::base::suggest::hint(name, there.iter().map(|branch| branch.name.as_str()));
        Error::new(Code::NotFound, format!("`{}` has no branch `{name}`", cluster.name)).hint(hint)
    })
}

/// Returns the branch that was made with `key`.
///
/// # Errors
/// [`Code::Internal`].
pub(super) fn by_key(cluster: &Cluster, key: &Key) -> Result<Option<BranchRecord>> {
    Ok(cluster.records.branches()?.into_iter().find(|record| record.key == *key))
}

/// Returns the branch that a handle is of.
#[cfg(test)]
pub(super) fn from_handle(handle: &serde_json::Value) -> Branch {
    use crate::base::value;
    let inner = value::inside(handle, value::BRANCH).expect("a branch handle");
    serde_json::from_value(inner.clone()).expect("a branch")
}
