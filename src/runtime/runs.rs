//! Runs: started, resumed, abandoned, over what all of them share.

use super::{
    VERSION,
    check::{list_named_targets, require_runnable},
    end_run::RunResult,
    evaluate,
    events::Event,
    git::read_git_state,
    observer::RunObserver,
    permit,
    refusal::Refusal,
    run_clock::RunClock,
    run_context::{RunContext, RunSetup},
    runbook::{ResolvedParams, Runbook},
    runbook_error::RunbookError,
};
use crate::{
    base::{
        clock::{Clock, SystemClock},
        moment::Moment,
    },
    config::Config,
    journal::{self, EditedSources, Journal, NewRun, RunFold, StateFolderConsent, UnreadableRecord},
    ops::spec::Permission,
    provider::Fleet,
};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The configuration, targets, clock and threads that runs share.
pub struct Runtime {
    pub config: Arc<Config>,
    pub fleet: Arc<Fleet>,
    clock: Arc<dyn Clock>,
    consent: StateFolderConsent,
    pub(super) tokio: tokio::runtime::Runtime,
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
    /// Its runbook: as it was recorded, or edited. Of a run that is abandoned it is that of
    /// [`Runtime::acquire_run_to_abandon`].
    pub runbook: Runbook,
    /// Protected targets whose name was typed.
    pub confirmed: BTreeSet<String>,
    /// Whether to abandon the run: begun calls are resolved, nothing new begins, then it cleans up.
    pub abandon: bool,
}

/// Checks that a run may go on with a text, and returns whether it is another one than that with which the run was last
/// taken up.
///
/// # Errors
/// [`Refusal`]: no run may go on with it, or the run is ending and goes on as it was recorded.
pub(super) fn admit_and_compare_text(
    journal: &Journal,
    run: &str,
    fold: &RunFold,
    runbook: &Runbook,
) -> Result<bool, Refusal> {
    let recorded = journal.read_sources(run, fold.source_edition())?;
    if journal::digest_sources(&runbook.sources()) == journal::digest_sources(&recorded) {
        return Ok(false);
    }
    require_runnable(runbook)?;
    if fold.is_ending() {
        return Err(RunbookError::new("the run is ending: its clean-up goes on as it was recorded")
            .with_hint("resume it without `--edited`")
            .into());
    }
    Ok(true)
}

impl Runtime {
    /// Creates the runtime of a configuration; contacts no target.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(config: Config) -> std::io::Result<Self> {
        Self::with_clock(config, Arc::new(SystemClock))
    }

    /// Creates the runtime of a configuration on a clock of the caller's.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn with_clock(config: Config, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let config = Arc::new(config);
        let fleet = Arc::new(Fleet::new(Arc::clone(&config), Arc::clone(&clock)));
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { config, fleet, clock, consent: StateFolderConsent::default(), tokio })
    }

    /// Returns the runtime for a person who has consented to something about the state folder.
    #[must_use]
    pub fn with_consent(self, consent: StateFolderConsent) -> Self {
        Self { consent, ..self }
    }

    /// Acquires a run, and returns it with its recorded runbook.
    ///
    /// # Errors
    /// There is no such run, another process has it, its text no longer parses, or its parameters do not read.
    pub fn acquire_run(journal: &Journal, id: &str) -> Result<(journal::Run, Runbook), Refusal> {
        let run = journal.acquire_run(id)?;
        let runbook = Self::read_recorded_runbook(journal, id, run.source_edition())?;
        Ok((run, runbook))
    }

    /// Acquires a run to give it up, and returns it with its runbook: an edit under which nothing has taken
    /// effect is dropped with that, and the text before it does the clean-up.
    ///
    /// # Errors
    /// As [`Runtime::acquire_run`].
    pub fn acquire_run_to_abandon(journal: &Journal, id: &str) -> Result<(journal::Run, Runbook), Refusal> {
        let run = journal.acquire_run(id)?;
        let runbook = Self::read_recorded_runbook(journal, id, run.edition_to_give_up())?;
        Ok((run, runbook))
    }

    /// Returns the runbook of a run, as an edition of its sources has it.
    ///
    /// # Errors
    /// Its text no longer parses, or its parameters do not read.
    pub fn read_recorded_runbook(journal: &Journal, run: &str, edition: u32) -> Result<Runbook, Refusal> {
        let summary = journal.summarize_run(run)?;
        if !summary.params.is_object() {
            let what = format!("they are no map but {}", summary.params);
            let (subject, version) = ("the parameters".to_owned(), summary.version);
            return Err(UnreadableRecord { subject, what, version }.into());
        }
        Ok(Runbook::from_recorded(&summary.runbook, journal.read_sources(run, edition)?)?)
    }

    /// Opens the journal; creates it if there is none.
    ///
    /// # Errors
    /// [`journal::Error`].
    pub fn open_journal(&self) -> Result<Journal, journal::Error> {
        Journal::open_with_consent(&self.config.state, Arc::clone(&self.clock), self.consent.clone())
    }

    /// Opens the journal if there is one.
    ///
    /// # Errors
    /// [`journal::Error`].
    pub fn open_existing_journal(&self) -> Result<Option<Journal>, journal::Error> {
        Journal::open_if_exists(&self.config.state, Arc::clone(&self.clock), self.consent.clone())
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
    pub fn start_run(
        &self,
        start: StartRequest,
        observer: Arc<dyn RunObserver>,
    ) -> Result<RunResult, Refusal> {
        let StartRequest { runbook, params, confirmed } = start;
        let ResolvedParams { values: params, relative } = self.resolve_params(&runbook, &params)?;
        require_runnable(&runbook)?;
        self.check_targets_and_confirmations(&runbook, &params, &confirmed)?;
        let clock = RunClock::for_targets(&self.fleet, &list_named_targets(&runbook, &params))?;
        clock.require_common_time()?;
        let targets = runbook.targets_in_params(&params);
        let leases = self.block_on(permit::list_leases_needed_on_targets(
            &self.fleet,
            &targets,
            &runbook.header.needs,
        ))?;
        let journal = Arc::new(self.open_journal()?);
        let run = journal.create_run(&NewRun {
            runbook: runbook.path.clone(),
            title: runbook.header.title.clone(),
            params: params.clone(),
            sources: runbook.sources(),
            git: read_git_state(&self.config.base.join(&runbook.path)),
            version: VERSION.into(),
            leases,
        })?;
        observer.on_event(&Event::Started {
            run: run.id(),
            runbook: &runbook.path,
            title: &runbook.header.title,
        });
        for param in &relative {
            observer.on_event(&Event::Resolved {
                name: &param.name,
                moment: param.moment,
                given: &param.given,
            });
        }
        let rights = Some(runbook.header.needs.clone());
        let setup = self.prepare_run_setup(journal, run, rights, observer);
        let context = RunContext::new(RunSetup { clock, targets_in_params: targets, confirmed, ..setup });
        self.run_script_to_end_or_stop(&context, runbook, params)
    }

    /// Returns the clock of a run that is resumed. Where a target is gone, every call there says so, and the run can still
    /// be ended.
    fn clock_of_resumed_run(&self, targets: &[String]) -> RunClock {
        match RunClock::for_targets(&self.fleet, targets) {
            Ok(clock) => clock,
            Err(error) => {
                tracing::warn!(message = error.message, "the clock of a target cannot be read");
                RunClock::of_machine(Arc::clone(&self.clock))
            }
        }
    }

    /// Runs the script of a run; its worlds have one time when it is over, too.
    fn run_script_to_end_or_stop(
        &self,
        context: &Arc<RunContext>,
        runbook: Runbook,
        params: Value,
    ) -> Result<RunResult, Refusal> {
        let result = evaluate::run_on_thread(&self.tokio, context, runbook, params);
        // A world whose file cannot be written says so when it is next used.
        drop(context.clock.align_world_times());
        Ok(result?)
    }

    /// Checks what was given against a runbook's header, and returns the value of every parameter; a moment that is
    /// counted back from now is fixed on the clock of the targets that the parameters name.
    ///
    /// # Errors
    /// [`Refusal`]: the first unknown, missing or mistyped one, or worlds that have no time in common.
    pub fn resolve_params(
        &self,
        runbook: &Runbook,
        given: &BTreeMap<String, String>,
    ) -> Result<ResolvedParams, Refusal> {
        runbook.resolve_params(given, &self.config, &|targets| self.read_target_time(targets))
    }

    /// Returns the time on the clock of targets: their worlds' where all are simulated, else the machine's.
    ///
    /// # Errors
    /// [`Refusal`]: worlds that have no time in common, or a file that cannot be read.
    pub fn read_target_time(&self, targets: &[String]) -> Result<Moment, Refusal> {
        let clock = RunClock::for_targets(&self.fleet, targets)?;
        clock.require_common_time()?;
        Ok(clock.now())
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
        observer: Arc<dyn RunObserver>,
    ) -> Result<RunResult, Refusal> {
        let ResumeRequest { run, runbook, confirmed, abandon } = resume;
        let fold = run.copy_fold();
        let edited = !abandon && admit_and_compare_text(&journal, run.id(), &fold, &runbook)?;
        let resolved = if abandon {
            let given = journal.summarize_run(run.id())?.params;
            self.complete_params(&runbook, fold.complete_params_without_trial(&given))?
        } else {
            self.resolve_params_to_resume(&journal, run.id(), &fold, &runbook)?
        };
        let ResolvedParams { values: params, relative } = resolved;
        let targets = list_named_targets(&runbook, &params);
        let clock = self.clock_of_resumed_run(&targets);
        if !abandon {
            self.check_targets_and_confirmations(&runbook, &params, &confirmed)?;
            // Leased before the script reaches its first new call: until then it may wait for a long time.
            journal.acquire_leases(
                &permit::list_leases_needed_by_run(&run, &runbook.header.needs)?,
                run.id(),
                &journal::Holder::this_process(),
            )?;
        }
        let age = self.clock.now().duration_since(run.last_record_before_acquisition());
        if abandon {
            run.record_giving_up(VERSION)?;
        } else {
            let given = journal.summarize_run(run.id())?.params;
            let edited = edited.then(|| EditedSources {
                sources: runbook.sources(),
                params: list_added_params(&given, &params),
            });
            run.record_resume(VERSION, edited)?;
        }
        observer.on_event(&Event::Resumed {
            run: run.id(),
            runbook: &runbook.path,
            title: &runbook.header.title,
            age,
        });
        for param in &relative {
            observer.on_event(&Event::Resolved {
                name: &param.name,
                moment: param.moment,
                given: &param.given,
            });
        }
        let rights = Some(runbook.header.needs.clone());
        let targets_in_params = runbook.targets_in_params(&params);
        let setup = self.prepare_run_setup(journal, run, rights, observer);
        let context = RunContext::new(RunSetup {
            clock,
            targets,
            targets_in_params,
            confirmed,
            is_abandoning: abandon,
            ..setup
        });
        self.run_script_to_end_or_stop(&context, runbook, params)
    }

    /// Abandons a run by its records, where there is no text of it that reads: resolves the calls that it had begun,
    /// removes its temporary branches, and names the clean-up that only its text could do.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn abandon_by_records(
        &self,
        journal: Arc<Journal>,
        id: &str,
        confirmed: BTreeSet<String>,
        observer: Arc<dyn RunObserver>,
    ) -> Result<RunResult, Refusal> {
        let run = journal.acquire_run(id)?;
        run.record_giving_up(VERSION)?;
        let setup = self.prepare_run_setup(journal, run, None, observer);
        let context = RunContext::new(RunSetup { confirmed, is_abandoning: true, ..setup });
        Ok(evaluate::abandon_on_thread(&self.tokio, &context)?)
    }

    /// Returns the setup of a run with these rights, for which nothing is confirmed, by the machine's clock.
    pub(super) fn prepare_run_setup(
        &self,
        journal: Arc<Journal>,
        run: journal::Run,
        rights: Option<Vec<Permission>>,
        observer: Arc<dyn RunObserver>,
    ) -> RunSetup {
        RunSetup {
            fleet: Arc::clone(&self.fleet),
            clock: RunClock::of_machine(Arc::clone(&self.clock)),
            tokio: self.tokio.handle().clone(),
            fork_limit: usize::MAX,
            journal,
            run,
            rights,
            observer,
            targets: vec![],
            targets_in_params: vec![],
            confirmed: BTreeSet::new(),
            is_abandoning: false,
        }
    }

    /// Returns the protected targets that the runbook may change, by its text, its parameters, and what its run has `come_to`;
    /// a person must confirm each by name.
    pub fn targets_to_confirm(
        &self,
        runbook: &Runbook,
        params: &Value,
        come_to: impl IntoIterator<Item = String>,
    ) -> Vec<String> {
        let mut targets = list_named_targets(runbook, params);
        targets.extend(come_to);
        targets.sort();
        targets.dedup();
        permit::protected_targets_at_risk(&self.fleet, &targets, &runbook.header.needs)
    }

    /// Refuses a run that names a target which is not configured, or changes a protected one whose name was not typed.
    pub(super) fn check_targets_and_confirmations(
        &self,
        runbook: &Runbook,
        params: &Value,
        confirmed: &BTreeSet<String>,
    ) -> Result<(), Refusal> {
        let targets = list_named_targets(runbook, params);
        for target in &targets {
            self.fleet.target_config(target)?;
        }
        let protected = permit::protected_targets_at_risk(&self.fleet, &targets, &runbook.header.needs);
        match protected.into_iter().find(|name| !confirmed.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let (message, hint) = permit::unconfirmed_message_and_hint(&name);
                Err(Refusal::Policy { message, hint, place: None })
            }
        }
    }
}

/// Returns those of a run's parameters that it was not given.
fn list_added_params(given: &Value, params: &Value) -> Map<String, Value> {
    let values = params.as_object().into_iter().flatten();
    let added = values.filter(|(name, _)| given.get(name.as_str()).is_none());
    added.map(|(name, value)| (name.clone(), value.clone())).collect()
}
