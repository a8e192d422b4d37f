//! Runbooks and runs. The only room with Rhai in it.
//!
//! - A run is a deterministic script over recorded calls. No stack is saved: a resume evaluates the recorded
//!   text from the top, and calls that have ended return their recorded outcome.
//! - `call` holds the whole policy of a call, `drive` the whole policy of how a run ends.
//! - A script cannot catch what must stop its run: a flag stops the engine, every native and every wait.

mod bind;
mod branches;
mod call;
pub mod check;
mod drive;
mod engine;
pub mod fault;
pub mod flow;
pub mod gate;
mod live;
mod modules;
#[cfg(test)]
pub(crate) mod mutant;
mod permit;
pub mod runbook;
mod session;
mod stage;
pub mod stdlib;
mod strict;
mod values;

#[cfg(test)]
mod tests;

pub use drive::CLEAN_UP_PATH;
pub use fault::{Failure, SourceLocation};
pub use live::StopReason;
pub use runbook::Runbook;
pub use session::{EvalError, SESSION_NAME as SESSION, Session};
pub use stage::{RunResources, ScriptRunner};

use crate::{
    base::{
        clock::{Clock, SystemClock},
        moment::{Moment, Span},
    },
    config::Config,
    journal::{self, GitState, Journal, NewRun, RunStatus},
    ops::{
        args::CallArgs,
        spec::{CallContext, CallHost, Effect, Operation},
    },
    provider::{
        self, Accept, Fleet,
        model::{CallKey, Progress},
    },
};
use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

/// The version of this program, as runs record it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Something that happens in a run, reported as it happens.
#[derive(Debug, Serialize)]
#[serde(tag = "event")]
pub enum Event<'a> {
    /// A run was started.
    #[serde(rename = "run.started")]
    Started { run: &'a str, runbook: &'a str, title: &'a str },
    /// A run was resumed.
    #[serde(rename = "run.resumed")]
    Resumed {
        run: &'a str,
        runbook: &'a str,
        title: &'a str,
        /// How long ago its last record was made.
        age: Span,
    },
    /// A step began.
    #[serde(rename = "step.started")]
    StepStarted { step: &'a str, name: &'a str },
    /// A step ended.
    #[serde(rename = "step.finished")]
    StepFinished {
        step: &'a str,
        name: &'a str,
        /// Whether it ended without an error.
        ok: bool,
    },
    /// A call began.
    #[serde(rename = "call.started")]
    CallStarted {
        call: &'a str,
        op: &'a str,
        target: Option<&'a str>,
        /// Whether it changes anything.
        effect: bool,
    },
    /// A call ended.
    #[serde(rename = "call.finished")]
    CallFinished {
        call: &'a str,
        op: &'a str,
        /// Whether it succeeded.
        ok: bool,
        /// How long it took.
        seconds: f64,
        error: Option<&'a str>,
    },
    /// A call had ended before this process began; its recorded outcome was returned.
    #[serde(rename = "call.replayed")]
    CallReplayed { call: &'a str, op: &'a str },
    /// A call made progress.
    #[serde(rename = "call.progress")]
    Progress {
        call: &'a str,
        op: &'a str,
        /// How far it is.
        progress: &'a Progress,
    },
    /// The columns of a query's rows, in the order of the query.
    #[serde(rename = "call.columns")]
    Columns { columns: &'a [String] },
    /// `retry` tries again.
    #[serde(rename = "retrying")]
    Retrying {
        attempt: u32,
        /// How many there are.
        attempts: u32,
        message: &'a str,
        /// How long it waits first.
        pause: Span,
    },
    /// `wait_until` waits.
    #[serde(rename = "waiting")]
    Waiting {
        step: &'a str,
        /// Until when at most.
        until: Moment,
        /// How often it asks.
        every: Span,
    },
    /// The runbook sleeps, for a second at least.
    #[serde(rename = "sleeping")]
    Sleeping { until: Moment },
    /// The runbook notes something.
    #[serde(rename = "note")]
    Note { text: &'a str },
    /// The runbook measured something.
    #[serde(rename = "metric")]
    Metric { name: &'a str, value: &'a Value, unit: &'a str },
    /// The runbook keeps something for the report.
    #[serde(rename = "attached")]
    Attached { name: &'a str, value: &'a Value },
    /// The run is ending, and cleans up.
    #[serde(rename = "run.ending")]
    Ending {
        /// How many things there are to do.
        deferred: usize,
    },
}

/// A question that only a person can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether the run may proceed.
    Approval {
        /// What for, as the runbook says it.
        message: String,
    },
    /// How to handle a failed call whose error is about to end the run.
    FailedCall { call: String, op: String, message: String },
}

/// A person's answer to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub choice: Choice,
    pub by: String,
}

/// The choice in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The run may go on.
    Approve,
    /// It may not.
    Reject,
    /// The call is performed again.
    Redo,
    /// The run stops and keeps everything; somebody decides later.
    Hold,
    /// The run cleans up and fails.
    Fail,
}

/// An observer of a run: it hears events and may answer questions.
pub trait RunObserver: Send + Sync {
    /// Receives an event.
    fn on_event(&self, event: &Event<'_>);

    /// Answers a question, or returns `None` when nobody is there to answer.
    fn ask_person(&self, _question: &Question) -> Option<Answer> {
        None
    }
}

/// The configuration, targets, clock and threads that runs share.
pub struct Runtime {
    pub config: Arc<Config>,
    pub fleet: Arc<Fleet>,
    clock: Arc<dyn Clock>,
    tokio: tokio::runtime::Runtime,
}

/// Why a run was refused before it began: nothing was done, and no run was recorded.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The runbook, or what it was given, is wrong.
    #[error(transparent)]
    Runbook(#[from] runbook::RunbookError),
    /// A right or a confirmation is missing.
    #[error("{message}")]
    Policy {
        message: String,
        /// What would allow it.
        hint: String,
        /// Where in the runbook.
        place: Option<SourceLocation>,
    },
    /// A target does not answer, or is not what it should be.
    #[error(transparent)]
    Target(#[from] provider::Error),
    /// The journal refused.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// The result of a run that ended or stopped.
#[derive(Debug)]
pub struct RunResult {
    pub run: String,
    pub status: RunStatus,
    /// The hash of its last record.
    pub head: String,
    /// What its last expression was, when it succeeded.
    pub value: Value,
    /// The error that ended it.
    pub failure: Option<Failure>,
    pub stop: Option<StopReason>,
    /// Clean-up that failed, one message each.
    pub cleanup: Vec<String>,
    /// What was made and is still there.
    pub left_behind: Vec<String>,
}

/// The request to start a run.
pub struct StartRequest {
    pub runbook: Runbook,
    /// Its parameters, as they were typed.
    pub params: BTreeMap<String, String>,
    /// Protected targets whose name was typed.
    pub confirmed: BTreeSet<String>,
}

/// The request to resume a run.
pub struct ResumeRequest {
    pub run: journal::Run,
    /// Its runbook, as it was recorded.
    pub runbook: Runbook,
    /// Its parameters, as they were recorded.
    pub params: Value,
    /// Protected targets whose name was typed.
    pub confirmed: BTreeSet<String>,
    /// Whether to abandon the run: begun calls are resolved, nothing new begins, then it cleans up.
    pub abandon: bool,
}

impl Runtime {
    /// Creates the runtime of a configuration; contacts no target.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(config: Config) -> std::io::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let config = Arc::new(config);
        let fleet = Arc::new(Fleet::new(Arc::clone(&config), Arc::clone(&clock)));
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { config, fleet, clock, tokio })
    }

    /// Acquires a run, and returns it with its recorded runbook and parameters.
    ///
    /// # Errors
    /// There is no such run, another process has it, or its text no longer parses.
    pub fn acquire_run(journal: &Journal, id: &str) -> Result<(journal::Run, Runbook, Value), Refusal> {
        let run = journal.acquire_run(id)?;
        let summary = journal.summarize_run(run.id())?;
        let runbook =
            Runbook::from_recorded(&summary.runbook, journal.read_sources(run.id(), run.source_edition())?)?;
        Ok((run, runbook, summary.params))
    }

    /// Opens the journal; creates it if there is none.
    ///
    /// # Errors
    /// [`journal::Error`].
    pub fn open_journal(&self) -> Result<Journal, journal::Error> {
        Journal::open(&self.config.state, Arc::clone(&self.clock))
    }

    /// Opens the journal if there is one.
    ///
    /// # Errors
    /// [`journal::Error`].
    pub fn open_existing_journal(&self) -> Result<Option<Journal>, journal::Error> {
        Journal::open_if_exists(&self.config.state, Arc::clone(&self.clock))
    }

    /// Returns the clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Blocks on a future that belongs to no run.
    pub fn block_on<T>(&self, what: impl Future<Output = T>) -> T {
        self.tokio.block_on(what)
    }

    /// Runs a runbook to its end, or to where it stops.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn start_run(&self, start: StartRequest, watch: Arc<dyn RunObserver>) -> Result<RunResult, Refusal> {
        let StartRequest { runbook, params, confirmed } = start;
        let params = runbook.resolve_params(&params, &self.config)?;
        let findings = check::check_runbook(&runbook);
        if let Some(finding) = check::find_blocking(&findings) {
            return Err(to_refusal(finding));
        }
        self.check_targets(&runbook, &params, &confirmed)?;
        let mut leases = Vec::new();
        for target in &runbook.targets_in_params(&params) {
            let identity = self.block_on(async { self.fleet.open_target(target)?.identity().await })?;
            leases.extend(permit::lease_for_target(target, &identity, &runbook.header.needs));
        }
        let journal = Arc::new(self.open_journal()?);
        let run = journal.create_run(&NewRun {
            runbook: runbook.path.clone(),
            title: runbook.header.title.clone(),
            params: params.clone(),
            sources: runbook.sources(),
            git: read_git_state(Path::new(&runbook.path)),
            version: VERSION.into(),
            leases,
        })?;
        watch.on_event(&Event::Started {
            run: run.id(),
            runbook: &runbook.path,
            title: &runbook.header.title,
        });
        let rights = Some(runbook.header.needs.clone());
        let live = live::RunContext::new(self, journal, run, rights, watch, confirmed, false);
        Ok(drive::run_on_thread(&self.tokio, &live, runbook, params)?)
    }

    /// Resumes a run where it stopped. A runbook that has changed is recorded as edited; what was
    /// recorded must match it.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn resume_run(
        &self,
        journal: Arc<Journal>,
        resume: ResumeRequest,
        watch: Arc<dyn RunObserver>,
    ) -> Result<RunResult, Refusal> {
        let ResumeRequest { run, runbook, params, confirmed, abandon } = resume;
        let edited = journal::digest_sources(&runbook.sources())
            != journal::digest_sources(&journal.read_sources(run.id(), run.source_edition())?);
        let params = runbook.add_missing_presets(params, &self.config)?;
        if edited && let Some(finding) = check::find_blocking(&check::check_runbook(&runbook)) {
            return Err(to_refusal(finding));
        }
        if !abandon {
            self.check_targets(&runbook, &params, &confirmed)?;
            // Leased before the script reaches its first new call: until then it may wait for a long time.
            journal.acquire_leases(
                &permit::leases_for_run(&run, &runbook.header.needs),
                run.id(),
                &journal::Holder::this_process(),
            )?;
        }
        let age = self.clock.now().duration_since(run.last_at());
        run.record_resume(VERSION, edited.then(|| runbook.sources()))?;
        watch.on_event(&Event::Resumed {
            run: run.id(),
            runbook: &runbook.path,
            title: &runbook.header.title,
            age,
        });
        let rights = Some(runbook.header.needs.clone());
        let live = live::RunContext::new(self, journal, run, rights, watch, confirmed, abandon);
        Ok(drive::run_on_thread(&self.tokio, &live, runbook, params)?)
    }

    /// Abandons a session whose process is gone: resolves the calls that it had begun, and removes
    /// its temporary branches.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn abandon_session(
        &self,
        journal: Arc<Journal>,
        id: &str,
        confirmed: BTreeSet<String>,
        watch: Arc<dyn RunObserver>,
    ) -> Result<RunResult, Refusal> {
        let run = journal.acquire_run(id)?;
        let entries = journal.read_records(id)?;
        run.record_resume(VERSION, None)?;
        let live = live::RunContext::new(self, journal, run, None, watch, confirmed, true);
        Ok(drive::abandon_on_thread(&self.tokio, &live, entries)?)
    }

    /// Performs a read-only operation outside any run.
    ///
    /// # Errors
    /// What the operation says; an interrupt is [`provider::Code::Timeout`].
    pub fn perform_read(
        &self,
        op: &'static Operation,
        args: &CallArgs,
        watch: &dyn RunObserver,
    ) -> provider::Result<Value> {
        let key = CallKey(String::new());
        let host = ReadOnlyHost(watch);
        let cx = CallContext { fleet: &self.fleet, key: &key, run: None, accepted: None, host: &host };
        let timeout = args.timeout();
        self.tokio.block_on(async {
            let slow = || {
                provider::Error::new(provider::Code::Timeout, format!("no answer within {timeout}"))
                    .with_hint("give it more with `--timeout`")
            };
            tokio::time::timeout(timeout.to_std(), (op.perform)(&cx, args))
                .await
                .unwrap_or_else(|_| Err(slow()))
        })
    }

    /// Returns the protected targets that the runbook may change; a person must confirm each by name.
    pub fn targets_to_confirm(&self, runbook: &Runbook, params: &Value) -> Vec<String> {
        permit::protected_targets(&self.fleet, &list_named_targets(runbook, params), &runbook.header.needs)
    }

    /// Refuses a run that names a target which is not configured, or changes a protected one whose name was not typed.
    fn check_targets(
        &self,
        runbook: &Runbook,
        params: &Value,
        confirmed: &BTreeSet<String>,
    ) -> Result<(), Refusal> {
        let targets = list_named_targets(runbook, params);
        for target in &targets {
            self.fleet.target_config(target)?;
        }
        permit::require_confirmation(&self.fleet, &targets, &runbook.header.needs, confirmed)
    }
}

/// The host of a read-only operation: it accepts no job.
struct ReadOnlyHost<'a>(&'a dyn RunObserver);

#[async_trait]
impl Accept for ReadOnlyHost<'_> {
    async fn accepted(&self, _: Value) -> provider::Result<()> {
        Err(provider::Error::new(
            provider::Code::Internal,
            "an operation that only looks was given something to wait for",
        ))
    }
}

impl CallHost for ReadOnlyHost<'_> {
    fn report_progress(&self, progress: &Progress) {
        self.0.on_event(&Event::Progress { call: "", op: "", progress });
    }

    fn report_columns(&self, columns: &[String]) {
        self.0.on_event(&Event::Columns { columns });
    }
}

/// Returns every target that a runbook names in its parameters or as a literal.
fn list_named_targets(runbook: &Runbook, params: &Value) -> Vec<String> {
    let mut targets = runbook.targets_in_params(params);
    targets.extend(check::find_literal_targets(runbook));
    targets.sort();
    targets.dedup();
    targets
}

fn to_refusal(finding: &check::Finding) -> Refusal {
    let (message, hint, place) = (finding.message.clone(), finding.hint.clone(), finding.place.clone());
    match finding.severity {
        check::Severity::Policy => Refusal::Policy { message, hint: hint.unwrap_or_default(), place },
        _ => Refusal::Runbook(runbook::RunbookError { message, hint, place }),
    }
}

/// Returns whether an operation can be performed by [`World::look`], with these arguments.
pub fn is_read_only(op: &Operation, args: &CallArgs) -> bool {
    op.required_permission(args).effect == Effect::Read
}

/// Returns the git state of the repository that contains a file, if there is one.
fn read_git_state(file: &Path) -> Option<GitState> {
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Search by hand first: most folders are in no repository, and starting git costs more than a small run.
    folder.canonicalize().ok()?.ancestors().find(|f| f.join(".git").exists())?;
    // One process answers both questions and leaves the index untouched.
    let asked =
        ["--no-optional-locks", "status", "--porcelain=v2", "--branch", "--no-ahead-behind", "--", "."];
    let output = std::process::Command::new("git").arg("-C").arg(folder).args(asked).output().ok()?;
    parse_git_status(&String::from_utf8_lossy(&output.stdout)).filter(|_| output.status.success())
}

/// Parses `git status --porcelain=v2`: lines about the branch begin with `#`, all others are
/// changes.
fn parse_git_status(text: &str) -> Option<GitState> {
    let commit = text.lines().find_map(|line| line.strip_prefix("# branch.oid "))?;
    let dirty = text.lines().any(|line| !line.starts_with('#'));
    // A repository without a commit says `(initial)`.
    commit.bytes().all(|b| b.is_ascii_hexdigit()).then(|| GitState { commit: commit.into(), dirty })
}
