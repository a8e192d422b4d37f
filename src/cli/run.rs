//! `run`: start a run, and what it shares with `resume`.

use super::{
    output,
    questions::QuestionPolicy,
    run_output::{ReportFormat, run_and_report},
    runbook_file::name_runbook,
    takeover::{self, MAX_TAKEOVERS},
};
use crate::{
    base::{shell, terminal},
    journal::{Journal, RunStatus, RunSummary},
    report::{CliError, DataFormat, exit_code},
    runtime::{Refusal, RunObserver, RunResult, Runbook, Runtime, StartRequest, check},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// `run`.
#[derive(Debug, clap::Args)]
pub(super) struct RunCommand {
    /// The runbook, a `.rhai` file
    runbook: std::path::PathBuf,
    /// A parameter of the runbook
    #[arg(short, long = "param", value_name = "KEY=VALUE")]
    params: Vec<String>,
    /// Answer yes where a run asks whether to go on; never to `--confirm`
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    options: RunOptions,
}

/// The options that `run` and `resume` share.
#[derive(Debug, clap::Args)]
pub(super) struct RunOptions {
    /// Stop and wait where a call fails, instead of cleaning up
    #[arg(long)]
    pub(super) hold: bool,
    /// Ask whoever holds the run or its targets to stop, then go on
    #[arg(long)]
    pub(super) take_over: bool,
    /// Name a protected target that may be changed
    #[arg(long, value_name = "TARGET")]
    pub(super) confirm: Vec<String>,
    /// How the run is shown
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub(super) output: ReportFormat,
}

impl RunCommand {
    /// Runs a runbook.
    pub(super) fn run_runbook(&self, runtime: &Runtime) -> u8 {
        let options = &self.options;
        let policy = QuestionPolicy::for_run(options.hold);
        run_and_report(
            runtime,
            options.output.into(),
            policy,
            &|value| output::print_value(value, &[], DataFormat::Table),
            |watch| {
                let params = parse_params(&self.params)?;
                let config = &runtime.config;
                let project = config.file.as_ref().map(|_| config.base.as_path());
                let name = name_runbook(project, &self.runbook);
                let load = || Runbook::load_file_as(&self.runbook, name.clone()).map_err(CliError::from);
                let begun = start_run(runtime, load, &params, &options.confirm, options.take_over, &watch);
                begun.map_err(|error| match &error.place {
                    Some(_) if error.next.is_none() => {
                        let file = shell::quote_shell_word(&self.runbook.display().to_string());
                        error.with_next_command(format!("redrill check {file}"))
                    }
                    _ => error,
                })
            },
        )
    }
}

/// Parses `key=value` words.
pub(super) fn parse_params(words: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let mut pairs = BTreeMap::new();
    for word in words {
        let (key, text) = word.split_once('=').ok_or_else(|| {
            CliError::usage(format!("`{word}` is no parameter")).with_hint("write `-p key=value`")
        })?;
        if pairs.insert(key.to_owned(), text.to_owned()).is_some() {
            return Err(CliError::usage(format!("the parameter `{key}` was given twice")));
        }
    }
    Ok(pairs)
}

/// Starts a run after the protected targets that it may change are confirmed. With `take_over`, asks the
/// runs that hold its targets to stop, loads the runbook again, and starts anew.
pub(super) fn start_run(
    runtime: &Runtime,
    load: impl Fn() -> Result<Runbook, CliError>,
    params: &BTreeMap<String, String>,
    confirm: &[String],
    take_over: bool,
    watch: &Arc<dyn RunObserver>,
) -> Result<RunResult, CliError> {
    let runbook = load()?;
    let values = runtime.resolve_params(&runbook, params)?.values;
    // A runbook that will be refused is not worth a question.
    let confirmed = match check::find_blocking(&check::check_runbook(&runbook)) {
        Some(_) => BTreeSet::new(),
        None => ask_to_confirm_protected_targets(
            runtime,
            &runbook,
            &values,
            vec![],
            confirm.iter().cloned().collect(),
            &shell::own_command_line_with,
        )?,
    };
    let start = |runbook| {
        let (params, confirmed) = (params.clone(), confirmed.clone());
        runtime.start_run(StartRequest { runbook, params, confirmed }, Arc::clone(watch))
    };
    let mut started = start(runbook);
    for _ in 0..if take_over { MAX_TAKEOVERS } else { 0 } {
        let Err(Refusal::Journal(error)) = &started else { break };
        let Some(rival) = takeover::find_lease_holder(error) else { break };
        takeover::stop_run_owner_and_wait(&runtime.open_journal()?, rival)?;
        started = start(load()?);
    }
    started.map_err(CliError::from)
}

/// Returns the confirmed protected targets: those given with `--confirm`, and those typed now.
pub(super) fn ask_to_confirm_protected_targets(
    runtime: &Runtime,
    runbook: &Runbook,
    params: &Value,
    come_to: Vec<String>,
    given: BTreeSet<String>,
    command_with: &dyn Fn(&str) -> String,
) -> Result<BTreeSet<String>, CliError> {
    let mut confirmed = given;
    for name in runtime.targets_to_confirm(runbook, params, come_to) {
        if confirmed.contains(&name) {
            continue;
        }
        let refused = || {
            CliError::usage(format!("the target `{name}` is protected, and this may change it"))
                .with_hint(format!("name it: `--confirm {}`", shell::quote_shell_word(&name)))
                .with_exit(exit_code::REFUSED)
                .with_next_command(command_with(&format!("--confirm {}", shell::quote_shell_word(&name))))
        };
        if !terminal::can_prompt() {
            return Err(refused());
        }
        let question = format!("`{name}` is protected, and this may change it. Type its name to go on:");
        if terminal::prompt_line(&question)? != name {
            return Err(refused());
        }
        confirmed.insert(name);
    }
    Ok(confirmed)
}

/// Returns the run with this id, the beginning of an id, or `last`.
pub(super) fn find_run(runtime: &Runtime, run_or_prefix: &str) -> Result<RunSummary, CliError> {
    let journal = require_journal(runtime)?;
    Ok(journal.summarize_run(&journal.resolve_run_id(run_or_prefix)?)?)
}

/// Refuses to go on with a run that has ended.
///
/// # Errors
/// It has.
pub(super) fn check_not_ended(run: &str, status: RunStatus) -> Result<(), CliError> {
    if !status.is_final() {
        return Ok(());
    }
    Err(CliError::usage(format!("the run `{run}` has ended as {status}"))
        .with_next_command(format!("redrill runs show {run}")))
}

/// Opens the journal, which must exist.
pub(super) fn require_journal(runtime: &Runtime) -> Result<Journal, CliError> {
    runtime.open_existing_journal()?.ok_or_else(|| {
        CliError::usage(format!("there are no runs in {}", runtime.config.state.display()))
            .with_hint("choose another state folder with `--state`")
    })
}
