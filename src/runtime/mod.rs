//! The only room with Rhai in it: from the text of a runbook to a run that has ended, or has stopped and can go on.
//!
//! - A run is a deterministic script over recorded calls. There is no saved stack: a resume evaluates the recorded
//!   text from the top, and calls that have ended give back what they gave.
//! - The whole policy of a call is in `call`, the whole policy of an end is in `drive`.
//! - What must stop a run is not catchable by a script: a flag stops the engine, every native and every wait.

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

pub use drive::CLEAN_UP;
pub use fault::{Failure, Place};
pub use live::Stop;
pub use runbook::Runbook;
pub use session::{NAME as SESSION, Session, Unfinished};
pub use stage::{Scene, Stage};

use crate::{
    base::{
        clock::{Clock, Machine},
        moment::{Moment, Span},
    },
    config::Config,
    journal::{self, Git, Journal, NewRun, Status},
    ops::{
        args::Args,
        spec::{Context, Effect, Host, Op},
    },
    provider::{
        self, Accept, Fleet,
        model::{Key, Progress},
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

/// The version that a run records.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What happens in a run, as it happens.
#[derive(Debug, Serialize)]
#[serde(tag = "event")]
pub enum Event<'a> {
    /// A run was made.
    #[serde(rename = "run.started")]
    Started {
        /// The run.
        run: &'a str,
        /// The runbook.
        runbook: &'a str,
        /// Its title.
        title: &'a str,
    },
    /// A run was taken up again.
    #[serde(rename = "run.resumed")]
    Resumed {
        /// The run.
        run: &'a str,
        /// The runbook.
        runbook: &'a str,
        /// Its title.
        title: &'a str,
        /// How long ago its last record was made.
        age: Span,
    },
    /// A step began.
    #[serde(rename = "step.started")]
    StepStarted {
        /// Its path.
        step: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A step is over.
    #[serde(rename = "step.finished")]
    StepFinished {
        /// Its path.
        step: &'a str,
        /// Its name.
        name: &'a str,
        /// Whether it ended without an error.
        ok: bool,
    },
    /// A call began.
    #[serde(rename = "call.started")]
    CallStarted {
        /// The call.
        call: &'a str,
        /// The operation.
        op: &'a str,
        /// Its target.
        target: Option<&'a str>,
        /// Whether it changes anything.
        effect: bool,
    },
    /// A call is over.
    #[serde(rename = "call.finished")]
    CallFinished {
        /// The call.
        call: &'a str,
        /// The operation.
        op: &'a str,
        /// Whether it was done.
        ok: bool,
        /// How long it took.
        seconds: f64,
        /// What went wrong.
        error: Option<&'a str>,
    },
    /// A call was over before this process began: its recorded outcome was given back.
    #[serde(rename = "call.replayed")]
    CallReplayed {
        /// The call.
        call: &'a str,
        /// The operation.
        op: &'a str,
    },
    /// A call goes on.
    #[serde(rename = "call.progress")]
    Progress {
        /// The call.
        call: &'a str,
        /// The operation.
        op: &'a str,
        /// How far it is.
        progress: &'a Progress,
    },
    /// The rows of a query came with these columns, in this order.
    #[serde(rename = "call.columns")]
    Columns {
        /// The columns.
        columns: &'a [String],
    },
    /// `retry` tries again.
    #[serde(rename = "retrying")]
    Retrying {
        /// Which attempt failed.
        attempt: u32,
        /// How many there are.
        attempts: u32,
        /// What went wrong.
        message: &'a str,
        /// How long it waits first.
        pause: Span,
    },
    /// `wait_until` waits.
    #[serde(rename = "waiting")]
    Waiting {
        /// Where.
        step: &'a str,
        /// Until when at most.
        until: Moment,
        /// How often it asks.
        every: Span,
    },
    /// The runbook sleeps, for a second at least.
    #[serde(rename = "sleeping")]
    Sleeping {
        /// Until when.
        until: Moment,
    },
    /// The runbook notes something.
    #[serde(rename = "note")]
    Note {
        /// What.
        text: &'a str,
    },
    /// The runbook measured something.
    #[serde(rename = "metric")]
    Metric {
        /// What.
        name: &'a str,
        /// How much.
        value: &'a Value,
        /// Of what.
        unit: &'a str,
    },
    /// The runbook keeps something for the report.
    #[serde(rename = "attached")]
    Attached {
        /// Its name.
        name: &'a str,
        /// What.
        value: &'a Value,
    },
    /// The run is ending, and cleans up.
    #[serde(rename = "run.ending")]
    Ending {
        /// How many things there are to do.
        deferred: usize,
    },
}

/// Something that only a person can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether the run may go on.
    Approve {
        /// What for, as the runbook says it.
        message: String,
    },
    /// What becomes of a call that failed, and whose error ends the run.
    Failed {
        /// The call.
        call: String,
        /// The operation.
        op: String,
        /// What went wrong.
        message: String,
    },
}

/// What a person said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What.
    pub choice: Choice,
    /// Who.
    pub by: String,
}

/// What can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The run may go on.
    Approve,
    /// It may not.
    Reject,
    /// The call is made again.
    Again,
    /// Everything stays as it is, and somebody decides later.
    Hold,
    /// The run cleans up and fails.
    Fail,
}

/// Whoever looks at a run.
pub trait Watch: Send + Sync {
    /// Hears what happens.
    fn event(&self, event: &Event<'_>);

    /// Answers a question; nothing where nobody is there who could.
    fn ask(&self, _question: &Question) -> Option<Answer> {
        None
    }
}

/// What everything here works with.
pub struct World {
    /// The configuration.
    pub config: Arc<Config>,
    /// The targets.
    pub fleet: Arc<Fleet>,
    clock: Arc<dyn Clock>,
    tokio: tokio::runtime::Runtime,
}

/// Why a run did not begin. Nothing was done, and there is no run.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The runbook, or what it was given, is wrong.
    #[error(transparent)]
    Runbook(#[from] runbook::Error),
    /// It is not allowed.
    #[error("{message}")]
    Policy {
        /// What is not.
        message: String,
        /// What would allow it.
        hint: String,
        /// Where in the runbook.
        place: Option<Place>,
    },
    /// A target does not answer, or is not what it should be.
    #[error(transparent)]
    Target(#[from] provider::Error),
    /// The journal says no.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The machine says no.
    #[error("{0}")]
    Machine(#[from] std::io::Error),
}

/// How a run ended, or stopped.
#[derive(Debug)]
pub struct Ended {
    /// The run.
    pub run: String,
    /// Where it stands.
    pub status: Status,
    /// The hash of its last record.
    pub head: String,
    /// What its last expression was, when it succeeded.
    pub value: Value,
    /// The error that ended it.
    pub failure: Option<Failure>,
    /// Why it stopped.
    pub stop: Option<Stop>,
    /// Clean-up that failed, one message each.
    pub cleanup: Vec<String>,
    /// What was made and is still there.
    pub left_behind: Vec<String>,
}

/// What a run is begun with.
pub struct Start {
    /// The runbook.
    pub runbook: Runbook,
    /// Its parameters, as they were typed.
    pub params: BTreeMap<String, String>,
    /// Protected targets whose name was typed.
    pub confirmed: BTreeSet<String>,
}

/// How a run is taken up again.
pub struct Resume {
    /// The run.
    pub run: journal::Run,
    /// Its runbook, as it was recorded.
    pub runbook: Runbook,
    /// Its parameters, as they were recorded.
    pub params: Value,
    /// Protected targets whose name was typed.
    pub confirmed: BTreeSet<String>,
    /// Whether nothing new is begun: what was begun is settled, and then the run cleans up.
    pub abandon: bool,
}

impl World {
    /// Returns the world of a configuration; touches no target.
    ///
    /// # Errors
    /// When the machine gives no threads.
    pub fn new(config: Config) -> std::io::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(Machine);
        let config = Arc::new(config);
        let fleet = Arc::new(Fleet::new(Arc::clone(&config), Arc::clone(&clock)));
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { config, fleet, clock, tokio })
    }

    /// Returns what is needed to take a run up again: holds the run from here on.
    ///
    /// # Errors
    /// There is no such run, another process has it, or its text no longer parses.
    pub fn take(journal: &Journal, id: &str) -> Result<(journal::Run, Runbook, Value), Refusal> {
        let run = journal.take(id)?;
        let summary = journal.summary(run.id())?;
        let runbook = Runbook::recorded(&summary.runbook, journal.sources(run.id(), run.edition())?)?;
        Ok((run, runbook, summary.params))
    }

    /// Opens the journal, which is made where there is none.
    ///
    /// # Errors
    /// [`journal::Error`].
    pub fn journal(&self) -> Result<Journal, journal::Error> {
        Journal::open(&self.config.state, Arc::clone(&self.clock))
    }

    /// Opens the journal if there is one.
    ///
    /// # Errors
    /// [`journal::Error`].
    pub fn peek(&self) -> Result<Option<Journal>, journal::Error> {
        Journal::peek(&self.config.state, Arc::clone(&self.clock))
    }

    /// Returns the clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Waits for something of the world that is no run.
    pub fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.tokio.block_on(what)
    }

    /// Runs a runbook to its end, or to where it stops.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn start(&self, start: Start, watch: Arc<dyn Watch>) -> Result<Ended, Refusal> {
        let Start { runbook, params, confirmed } = start;
        let params = runbook.params(&params, &self.config)?;
        let findings = check::check(&runbook);
        if let Some(finding) = check::refuses(&findings) {
            return Err(refused(finding));
        }
        self.guard(&runbook, &params, &confirmed)?;
        let mut leases = Vec::new();
        for target in &runbook.targets_given(&params) {
            let identity = self.wait(async { self.fleet.target(target)?.identity().await })?;
            leases.extend(permit::lease(target, &identity, &runbook.header.needs));
        }
        let journal = Arc::new(self.journal()?);
        let run = journal.create(&NewRun {
            runbook: runbook.path.clone(),
            title: runbook.header.title.clone(),
            params: params.clone(),
            sources: runbook.sources(),
            git: git(Path::new(&runbook.path)),
            version: VERSION.into(),
            leases,
        })?;
        watch.event(&Event::Started { run: run.id(), runbook: &runbook.path, title: &runbook.header.title });
        let rights = Some(runbook.header.needs.clone());
        let live = live::Live::new(self, journal, run, rights, watch, confirmed, false);
        Ok(drive::drive(&self.tokio, &live, runbook, params)?)
    }

    /// Takes a run up where it stopped. A runbook that is not the recorded one is recorded as edited; what was
    /// recorded must match it.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn resume(
        &self,
        journal: Arc<Journal>,
        resume: Resume,
        watch: Arc<dyn Watch>,
    ) -> Result<Ended, Refusal> {
        let Resume { run, runbook, params, confirmed, abandon } = resume;
        let edited = journal::digest(&runbook.sources())
            != journal::digest(&journal.sources(run.id(), run.edition())?);
        let params = runbook.complete(params, &self.config)?;
        if edited && let Some(finding) = check::refuses(&check::check(&runbook)) {
            return Err(refused(finding));
        }
        if !abandon {
            self.guard(&runbook, &params, &confirmed)?;
            // Before the script comes to its first new call: until then it may wait for long.
            journal.lease(
                &permit::leases(&run, &runbook.header.needs),
                run.id(),
                &journal::Holder::this_process(),
            )?;
        }
        let age = self.clock.now().since(run.last_at());
        run.resume(VERSION, edited.then(|| runbook.sources()))?;
        watch.event(&Event::Resumed {
            run: run.id(),
            runbook: &runbook.path,
            title: &runbook.header.title,
            age,
        });
        let rights = Some(runbook.header.needs.clone());
        let live = live::Live::new(self, journal, run, rights, watch, confirmed, abandon);
        Ok(drive::drive(&self.tokio, &live, runbook, params)?)
    }

    /// Gives up a run of which there is no text, a session whose process is gone: settles what it had begun, and removes
    /// its temporary branches.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn settle(
        &self,
        journal: Arc<Journal>,
        id: &str,
        confirmed: BTreeSet<String>,
        watch: Arc<dyn Watch>,
    ) -> Result<Ended, Refusal> {
        let run = journal.take(id)?;
        let entries = journal.records(id)?;
        run.resume(VERSION, None)?;
        let live = live::Live::new(self, journal, run, None, watch, confirmed, true);
        Ok(drive::settle_run(&self.tokio, &live, entries)?)
    }

    /// Performs an operation that only looks, without a run.
    ///
    /// # Errors
    /// What the operation says; an interrupt is [`provider::Code::Timeout`].
    pub fn look(&self, op: &'static Op, args: &Args, watch: &dyn Watch) -> provider::Result<Value> {
        let key = Key(String::new());
        let host = Onlooker(watch);
        let cx = Context { fleet: &self.fleet, key: &key, run: None, accepted: None, host: &host };
        let timeout = args.timeout();
        self.tokio.block_on(async {
            let slow = || {
                provider::Error::new(provider::Code::Timeout, format!("no answer within {timeout}"))
                    .hint("give it more with `--timeout`")
            };
            tokio::time::timeout(timeout.to_std(), (op.perform)(&cx, args))
                .await
                .unwrap_or_else(|_| Err(slow()))
        })
    }

    /// Returns the protected targets that a run with these rights would change, and whose name must be typed first.
    pub fn to_confirm(&self, runbook: &Runbook, params: &Value) -> Vec<String> {
        permit::guarded(&self.fleet, &targets(runbook, params), &runbook.header.needs)
    }

    /// Refuses a run that names a target which is not configured, or changes a protected one whose name was not typed.
    fn guard(&self, runbook: &Runbook, params: &Value, confirmed: &BTreeSet<String>) -> Result<(), Refusal> {
        let targets = targets(runbook, params);
        for target in &targets {
            self.fleet.settings(target)?;
        }
        permit::guard(&self.fleet, &targets, &runbook.header.needs, confirmed)
    }
}

/// The host of an operation that only looks.
struct Onlooker<'a>(&'a dyn Watch);

#[async_trait]
impl Accept for Onlooker<'_> {
    async fn accepted(&self, _: Value) -> provider::Result<()> {
        Err(provider::Error::new(
            provider::Code::Internal,
            "an operation that only looks was given something to wait for",
        ))
    }
}

impl Host for Onlooker<'_> {
    fn progress(&self, progress: &Progress) {
        self.0.event(&Event::Progress { call: "", op: "", progress });
    }

    fn columns(&self, columns: &[String]) {
        self.0.event(&Event::Columns { columns });
    }
}

/// Returns every target that a run names before it runs: in its parameters, or by a literal.
fn targets(runbook: &Runbook, params: &Value) -> Vec<String> {
    let mut targets = runbook.targets_given(params);
    targets.extend(check::targets_named(runbook));
    targets.sort();
    targets.dedup();
    targets
}

fn refused(finding: &check::Finding) -> Refusal {
    let (message, hint, place) = (finding.message.clone(), finding.hint.clone(), finding.place.clone());
    match finding.severity {
        check::Severity::Policy => Refusal::Policy { message, hint: hint.unwrap_or_default(), place },
        _ => Refusal::Runbook(runbook::Error { message, hint, place }),
    }
}

/// Returns whether an operation can be performed by [`World::look`], with these arguments.
pub fn only_looks(op: &Op, args: &Args) -> bool {
    op.need(args).effect == Effect::Read
}

/// Returns the state of the repository that a file lies in, if git knows it.
fn git(file: &Path) -> Option<Git> {
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Looked for by hand first: most folders have none, and starting git costs more than a whole small run.
    folder.canonicalize().ok()?.ancestors().find(|f| f.join(".git").exists())?;
    // One process that answers both questions and leaves the index as it is.
    let asked =
        ["--no-optional-locks", "status", "--porcelain=v2", "--branch", "--no-ahead-behind", "--", "."];
    let output = std::process::Command::new("git").arg("-C").arg(folder).args(asked).output().ok()?;
    of_status(&String::from_utf8_lossy(&output.stdout)).filter(|_| output.status.success())
}

/// Reads what `git status` says in its second machine format: lines about the branch begin with `#`, all others are
/// changes.
fn of_status(text: &str) -> Option<Git> {
    let commit = text.lines().find_map(|line| line.strip_prefix("# branch.oid "))?;
    let dirty = text.lines().any(|line| !line.starts_with('#'));
    // A repository without a commit says `(initial)`.
    commit.bytes().all(|b| b.is_ascii_hexdigit()).then(|| Git { commit: commit.into(), dirty })
}
