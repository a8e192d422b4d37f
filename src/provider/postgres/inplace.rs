//! Restoring a cluster in place: its data is exchanged, everything else of it stays.
//!
//! - The backup is copied beside the data while the cluster still serves; only then is it stopped.
//! - The old data is moved aside, never deleted: it is the way back, and stays when all went well.
//! - The new data recovers out of everybody's sight, on a private socket. The cluster serves again only when recovery
//!   was proved, with the settings and options that it had before.
//! - Whatever fails after the cluster was stopped puts the old data back and starts it again.
//! - Every part can be done again; what was done is seen from which folders exist.

mod exchange;
mod managed;

use super::{
    cluster::Cluster,
    copying::{self, Copying, STARTS_MAX},
    disk, plan,
    process::{self, Child},
    records::{self, Recovery},
    recovery::{self, Copy, Recovering},
    server,
    sql::Address,
    tools::Tools,
};
use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        model::{Job, Key, Observed, Progress, RestoreRequest, Restored},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The kind of job that restores in place.
pub(super) const KIND: &str = "restore";

/// How far a restore in place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// The backup is being copied beside the data.
    Copying,
    /// The cluster is being stopped and its data exchanged.
    Exchanging,
    /// The new data replays WAL.
    Replaying,
    /// Recovery was proved; the cluster is being started as before.
    Starting,
    /// It is over, and well.
    Done,
    /// It is being undone.
    Undoing,
    /// It failed and everything is as before.
    Undone,
}

/// A restore in place, as it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RestoreRecord {
    key: Key,
    target: String,
    run: Option<String>,
    created_at: Moment,
    system_identifier: String,
    recovery: Recovery,
    /// The data folder, links followed.
    data: PathBuf,
    /// Where the old data goes.
    aside: PathBuf,
    /// Where the copy grows, beside the data, and what is private to the recovery.
    folder: PathBuf,
    /// The socket of the private recovery.
    socket: PathBuf,
    /// What the cluster's server is started with, besides its data folder.
    options: Vec<String>,
    /// Where its server writes what it does not log elsewhere.
    log: PathBuf,
    /// Whether it ran, and so is to run again.
    ran: bool,
    phase: Phase,
    child: Option<Child>,
    starts: u32,
    reached: Option<Moment>,
    timeline: Option<u32>,
    /// Why it failed.
    failure: Option<Failure>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Failure {
    code: String,
    message: String,
    /// Whether the cluster had been stopped by then.
    stopped: bool,
}

impl Failure {
    fn new(record: &RestoreRecord, code: Code, message: String) -> Self {
        Self { code: code.as_str().into(), message, stopped: record.phase != Phase::Copying }
    }
}

impl RestoreRecord {
    fn path(cluster: &Cluster, key: &str) -> PathBuf {
        cluster.records.home().join("restores").join(format!("{key}.json"))
    }

    fn keep(&self, cluster: &Cluster) -> Result<()> {
        records::write(&Self::path(cluster, &self.key.0), self)
    }

    fn new_data(&self) -> PathBuf {
        copying::files(&self.folder).join("data")
    }

    fn recovery_log(&self) -> PathBuf {
        self.folder.join(format!("server-{}.log", self.starts))
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Done | Phase::Undone)
    }
}

/// Returns the job of the restore in place that was asked for with `key`.
///
/// # Errors
/// [`Code::Internal`] when what was written down cannot be read.
pub(super) fn find(cluster: &Cluster, key: &Key) -> Result<Option<Job>> {
    Ok(records::read::<RestoreRecord>(&RestoreRecord::path(cluster, &key.0))?.map(|record| job(&record)))
}

fn job(record: &RestoreRecord) -> Job {
    Job { kind: KIND.into(), id: record.key.0.clone(), detail: Value::Null }
}

/// Returns where the data of a cluster is, while a restore in place has moved it aside and not yet put another there.
///
/// # Errors
/// [`Code::Internal`] when what was written down cannot be read.
pub(super) fn moved_aside(cluster: &Cluster) -> Result<Option<PathBuf>> {
    if cluster.data.is_dir() {
        return Ok(None);
    }
    let all: Vec<RestoreRecord> = records::read_all(&cluster.records.home().join("restores"))?;
    let of_this = |record: &RestoreRecord| record.data == cluster.data && record.aside.is_dir();
    Ok(all.into_iter().find(of_this).map(|record| record.aside))
}

/// Returns who copies from a backup at the moment.
///
/// # Errors
/// [`Code::Internal`] when what was written down cannot be read.
pub(super) fn copying(cluster: &Cluster, backup: &str) -> Result<Option<String>> {
    let all: Vec<RestoreRecord> = records::read_all(&cluster.records.home().join("restores"))?;
    let copies = |record: &RestoreRecord| record.phase == Phase::Copying && record.recovery.backup == backup;
    Ok(all.iter().find(|record| copies(record)).map(|record| format!("`{}`", record.data.display())))
}

/// Plans a restore in place and writes it down.
///
/// # Errors
/// Every refusal there is; nothing was done.
pub(super) async fn accept(cluster: &Cluster, request: &RestoreRequest, key: &Key) -> Result<Job> {
    let place = managed::Place::of(cluster)?;
    let suffix = key.0.to_lowercase();
    let beside = |what: &str| {
        let mut name = place.data.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{what}-{suffix}"));
        place.data.with_file_name(name)
    };
    let folder = beside("restoring");
    let plan = plan::restore(cluster, request, &folder).await?;
    let record = RestoreRecord {
        key: key.clone(),
        target: cluster.name.clone(),
        run: request.run.clone(),
        created_at: cluster.clock.now(),
        system_identifier: plan.system_identifier,
        recovery: plan.recovery,
        aside: beside("before"),
        socket: disk::socket_folder(&folder, &cluster.records.unique(&suffix)),
        folder,
        options: place.options,
        log: place.log,
        ran: cluster.is_running(),
        data: place.data,
        phase: Phase::Copying,
        child: None,
        starts: 0,
        reached: None,
        timeline: None,
        failure: None,
    };
    record.keep(cluster)?;
    Ok(job(&record))
}

/// Looks at a restore in place and takes it one part further.
///
/// # Errors
/// Why it failed; everything is then as it was before.
pub(super) async fn observe(cluster: &Cluster, job: &Job) -> Result<Observed> {
    let Some(record) = records::read::<RestoreRecord>(&RestoreRecord::path(cluster, &job.id))? else {
        return Err(Error::new(
            Code::NotFound,
            format!("there is no restore in place with the key `{}`", job.id),
        ));
    };
    match record.phase {
        Phase::Done => return Ok(Observed::Done(restored(&record))),
        Phase::Undoing => return undo(cluster, record).await,
        Phase::Undone => return Err(failed(&record)),
        _ => {}
    }
    match advance(cluster, record.clone()).await {
        Ok(observed) => Ok(observed),
        Err(error) => {
            // What `advance` wrote down meanwhile, the folders say too.
            let failure = Failure::new(&record, error.code, error.message);
            undo(cluster, RestoreRecord { phase: Phase::Undoing, failure: Some(failure), ..record }).await
        }
    }
}

/// Gives a restore in place up.
///
/// # Errors
/// [`Code::Refused`] when it is over; what is in the way of undoing it.
pub(super) async fn cancel(cluster: &Cluster, job: &Job) -> Result<()> {
    let path = RestoreRecord::path(cluster, &job.id);
    let Some(record) = records::read::<RestoreRecord>(&path)? else { return Ok(()) };
    if record.phase == Phase::Done {
        return Err(Error::new(Code::Refused, "the restore in place is over, and cannot be cancelled")
            .hint(format!("the data from before is kept in `{}`", record.aside.display())));
    }
    if record.phase == Phase::Undone {
        return Ok(());
    }
    let failure = Failure::new(&record, Code::Refused, "the restore was cancelled".into());
    match undo(cluster, RestoreRecord { phase: Phase::Undoing, failure: Some(failure), ..record }).await {
        Err(error) if error.left_behind.is_empty() => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

async fn advance(cluster: &Cluster, mut record: RestoreRecord) -> Result<Observed> {
    let tools = cluster.tools_for(&[&record.data, &record.aside])?;
    let other_boot = record.child.as_ref().is_some_and(|child| child.boot != process::boot());
    match record.phase {
        Phase::Copying if other_boot => {
            disk::remove(&copying::files(&record.folder))?;
            start_copy(cluster, &tools, RestoreRecord { child: None, starts: 0, ..record })
        }
        Phase::Copying => observe_copy(cluster, &tools, record),
        Phase::Exchanging => {
            server::stop(cluster.clock.as_ref(), &record.data, server::Stop::Fast).await?;
            exchange::forward(&record.data, &record.aside, &record.new_data())?;
            record.phase = Phase::Replaying;
            record.starts = 0;
            start_recovery(cluster, &tools, record).await
        }
        Phase::Replaying => observe_replay(cluster, &tools, record).await,
        _ => start_serving(cluster, &tools, record).await,
    }
}

fn start_copy(cluster: &Cluster, tools: &Tools, mut record: RestoreRecord) -> Result<Observed> {
    disk::make_private(tools, &record.folder)?;
    record.starts += 1;
    let backup = &record.recovery.backup;
    record.child = Some(copying::begin(cluster, tools, &record.folder, backup, record.starts)?);
    record.keep(cluster)?;
    Ok(Observed::Running(Progress::phase("copying")))
}

fn observe_copy(cluster: &Cluster, tools: &Tools, mut record: RestoreRecord) -> Result<Observed> {
    match copying::look(cluster, &record.folder, &record.recovery.backup, record.starts)? {
        Copying::Missing => start_copy(cluster, tools, record),
        Copying::Running(progress) => Ok(Observed::Running(progress)),
        Copying::Complete => {
            exchange::keep_configuration(tools, &record.data, &record.new_data())?;
            record.phase = Phase::Exchanging;
            record.keep(cluster)?;
            Ok(Observed::Running(Progress::phase("stopping the cluster")))
        }
    }
}

async fn start_recovery(cluster: &Cluster, tools: &Tools, mut record: RestoreRecord) -> Result<Observed> {
    record.starts += 1;
    record.keep(cluster)?;
    let mut options: Vec<OsString> = record.options.iter().map(OsString::from).collect();
    let control = super::control::Control::read(tools, &record.data).await?;
    exchange::make_private_folder(tools, &record.folder, &record.socket)?;
    options.extend(exchange::recovery_options(&record.recovery, &control, &record.socket));
    record.child = Some(server::start(tools, &record.data, &options, &record.recovery_log())?);
    record.keep(cluster)?;
    Ok(Observed::Running(Progress::phase("replaying WAL")))
}

async fn observe_replay(cluster: &Cluster, tools: &Tools, mut record: RestoreRecord) -> Result<Observed> {
    let copy = Copy {
        data: &record.data,
        log: &record.recovery_log(),
        child: record.child.as_ref(),
        recovery: &record.recovery,
        address: &Address {
            host: record.socket.display().to_string(),
            port: exchange::PORT,
            password: None,
            ..cluster.address.clone()
        },
        system_identifier: &record.system_identifier,
    };
    let proof = match copy.observe().await? {
        Recovering::Running(progress) => return Ok(Observed::Running(progress)),
        Recovering::Killed if record.starts < STARTS_MAX => {
            return start_recovery(cluster, tools, record).await;
        }
        Recovering::Killed => return Err(recovery::given_up(&server::Log::read(&record.recovery_log()))),
        Recovering::Over(proof) => proof,
    };
    record.reached = proof.reached;
    record.timeline = Some(proof.timeline);
    record.phase = Phase::Starting;
    record.keep(cluster)?;
    Ok(Observed::Running(Progress::phase("starting the cluster")))
}

/// Ends the private recovery and starts the cluster as it ran before.
async fn start_serving(cluster: &Cluster, tools: &Tools, mut record: RestoreRecord) -> Result<Observed> {
    let serves = server::is_ready(&record.data) && !exchange::is_private(&record.data, &record.socket);
    if !serves {
        server::stop(cluster.clock.as_ref(), &record.data, server::Stop::Fast).await?;
        if record.ran {
            serve(cluster, tools, &record).await?;
        }
    }
    disk::remove(&record.socket)?;
    disk::remove(&record.folder)?;
    record.phase = Phase::Done;
    record.child = None;
    record.keep(cluster)?;
    Ok(Observed::Done(restored(&record)))
}

async fn serve(cluster: &Cluster, tools: &Tools, record: &RestoreRecord) -> Result<()> {
    let options: Vec<OsString> = record.options.iter().map(OsString::from).collect();
    server::start(tools, &record.data, &options, &record.log)?;
    server::wait_ready(cluster.clock.as_ref(), &record.data).await
}

/// Puts everything back as it was, and returns why.
async fn undo(cluster: &Cluster, mut record: RestoreRecord) -> Result<Observed> {
    record.keep(cluster)?;
    let what_is_left = |error: Error, record: &RestoreRecord| {
        let reason = failed(record).message;
        Error { message: format!("{reason}; and it could not be undone: {}", error.message), ..error }
            .hint(format!(
                "the data from before is in `{}`, or still in `{}`: stop the server, move it back, and start it",
                record.aside.display(),
                record.data.display()
            ))
            .leaving(record.folder.display().to_string())
    };
    match put_back(cluster, &record).await {
        Ok(()) => {
            record.phase = Phase::Undone;
            record.keep(cluster)?;
            Err(failed(&record))
        }
        Err(error) => Err(what_is_left(error, &record)),
    }
}

async fn put_back(cluster: &Cluster, record: &RestoreRecord) -> Result<()> {
    let tools = cluster.tools_for(&[&record.data, &record.aside])?;
    copying::end(cluster, &record.folder).await;
    if record.aside.is_dir() {
        if let Some(starting) = process::started_with(record.data.as_os_str()) {
            starting.signal(rustix::process::Signal::QUIT);
        }
        server::stop(cluster.clock.as_ref(), &record.data, server::Stop::Immediate).await?;
        exchange::back(&record.data, &record.aside, &record.new_data())?;
    }
    if record.ran && server::running(&record.data).is_none() {
        serve(cluster, &tools, record).await?;
    }
    disk::remove(&record.socket)?;
    disk::remove(&record.folder)
}

fn failed(record: &RestoreRecord) -> Error {
    let Some(Failure { code, message, stopped }) = record.failure.clone() else {
        return Error::new(Code::Internal, "the restore failed, and nobody wrote down why");
    };
    let code = Code::ALL.iter().copied().find(|known| known.as_str() == code).unwrap_or(Code::Tool);
    if stopped {
        let message = format!("{message}; the cluster was stopped, and is as it was before");
        return Error::new(code, message).with_side_effects();
    }
    Error::new(code, format!("{message}; the cluster was not touched"))
}

fn restored(record: &RestoreRecord) -> Value {
    let restored = Restored {
        target: record.target.clone(),
        backup: record.recovery.backup.clone(),
        reached: record.reached,
        timeline: record.timeline,
        kept: Some(record.aside.display().to_string()),
    };
    serde_json::to_value(restored).unwrap_or_default()
}

/// Refuses while another restore of this data is under way, also one from another state folder.
fn check_alone(cluster: &Cluster, data: &Path) -> Result<()> {
    let folder = cluster.records.home().join("restores");
    let records: Vec<RestoreRecord> = records::read_all(&folder)?;
    let mine = records.iter().find(|record| !record.is_over()).map(|record| record.key.0.clone());
    let name = data.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside =
        data.parent().and_then(|parent| std::fs::read_dir(parent).ok()).into_iter().flatten().flatten();
    let theirs = beside
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|other| other.starts_with(&format!("{name}.restoring-")));
    match mine.or(theirs) {
        None => Ok(()),
        Some(other) => Err(Error::new(
            Code::Conflict,
            format!("another restore of `{}` is under way: `{other}`", data.display()),
        )),
    }
}
