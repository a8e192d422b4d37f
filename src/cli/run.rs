//! `run` and `resume`: start a run or resume it, until it ends or stops.

use super::{
    asking::QuestionPolicy,
    ending::{ReportFormat, report_refusal, run_and_report},
    exit, takeover,
};
use crate::{
    base::{moment::Span, terminal, value},
    journal::{Journal, RunStatus, RunSummary, Source},
    ops::spec::{Effect, Permission},
    report::{CliError, DataFormat, diff_sources, exit_code, format_seconds},
    runtime::{
        Refusal, ResumeRequest, RunObserver, RunResult, Runbook, Runtime, SESSION, StartRequest, StopReason,
        check,
    },
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

/// The maximum number of other runs that `--take-over` asks to stop.
const MAX_TAKEOVERS: u32 = 8;
/// The age of the last record from which a run that may destroy asks before it is resumed.
const STALE_AFTER: Span = Span::from_secs(30 * 60);

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
    how: RunOptions,
}

/// `resume`.
#[derive(Debug, clap::Args)]
pub(super) struct ResumeCommand {
    /// The run: its id, the beginning of it, or `last`
    run: String,
    /// Go on with the runbook as it is on disk now
    #[arg(long)]
    edited: bool,
    /// Go on although the last record is old and the run may destroy something
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    how: RunOptions,
}

/// The options that `run` and `resume` share.
#[derive(Debug, clap::Args)]
pub(super) struct RunOptions {
    /// Stop and wait where a call fails, instead of cleaning up
    #[arg(long)]
    hold: bool,
    /// Ask whoever holds the run or its targets to stop, then go on
    #[arg(long)]
    take_over: bool,
    /// Name a protected target that may be changed
    #[arg(long, value_name = "TARGET")]
    confirm: Vec<String>,
    /// How the run is shown
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: ReportFormat,
}

impl RunCommand {
    /// Runs a runbook.
    pub(super) fn run_runbook(&self, world: &Runtime) -> u8 {
        let how = &self.how;
        let asking = QuestionPolicy::for_run(how.hold);
        run_and_report(
            world,
            how.output,
            asking,
            &|value| exit::print_value(value, &[], DataFormat::Table),
            |watch| {
                let params = parse_params(&self.params)?;
                let load = || Runbook::load_file(&self.runbook).map_err(CliError::from);
                let begun = start_run(world, load, &params, &how.confirm, how.take_over, &watch);
                begun.map_err(|trouble| match &trouble.place {
                    Some(_) if trouble.next.is_none() => {
                        let file = exit::quote_word(&self.runbook.display().to_string());
                        trouble.with_next_command(format!("redrill check {file}"))
                    }
                    _ => trouble,
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
    world: &Runtime,
    load: impl Fn() -> Result<Runbook, CliError>,
    params: &BTreeMap<String, String>,
    confirm: &[String],
    take_over: bool,
    watch: &Arc<dyn RunObserver>,
) -> Result<RunResult, CliError> {
    let runbook = load()?;
    let values = runbook.resolve_params(params, &world.config)?;
    // A runbook that will be refused is not worth a question.
    let confirmed = match check::find_blocking(&check::check_runbook(&runbook)) {
        Some(_) => BTreeSet::new(),
        None => confirm_targets(world, &runbook, &values, confirm, &command_line_with)?,
    };
    let start = |runbook| {
        let (params, confirmed) = (params.clone(), confirmed.clone());
        world.start_run(StartRequest { runbook, params, confirmed }, Arc::clone(watch))
    };
    let mut started = start(runbook);
    for _ in 0..if take_over { MAX_TAKEOVERS } else { 0 } {
        let Err(Refusal::Journal(error)) = &started else { break };
        let Some(rival) = takeover::lease_holder(error) else { break };
        takeover::stop_run_owner(&world.open_journal()?, rival)?;
        started = start(load()?);
    }
    started.map_err(CliError::from)
}

/// Returns the confirmed protected targets: those given with `--confirm`, and those typed now.
fn confirm_targets(
    world: &Runtime,
    runbook: &Runbook,
    params: &Value,
    given: &[String],
    again: &dyn Fn(&str) -> String,
) -> Result<BTreeSet<String>, CliError> {
    let mut confirmed: BTreeSet<String> = given.iter().cloned().collect();
    for name in world.targets_to_confirm(runbook, params) {
        if confirmed.contains(&name) {
            continue;
        }
        let refused = || {
            CliError::usage(format!("the target `{name}` is protected, and this may change it"))
                .with_hint(format!("name it: `--confirm {name}`"))
                .with_exit(exit_code::REFUSED)
                .with_next_command(again(&format!("--confirm {name}")))
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

/// Returns the command line of this process with `more` appended.
fn command_line_with(more: &str) -> String {
    let words = std::env::args().skip(1).map(|word| exit::quote_word(&word));
    let words: Vec<_> = ["redrill".to_owned()].into_iter().chain(words).chain([more.to_owned()]).collect();
    words.join(" ")
}

impl ResumeCommand {
    /// Resumes a run.
    pub(super) fn resume_run(&self, world: &Runtime) -> u8 {
        let shown = self.how.output;
        let summary = match find_run(world, &self.run) {
            Ok(summary) => summary,
            Err(trouble) => return report_refusal(shown, &trouble),
        };
        if summary.status.is_final() {
            return report_ended_run(&summary, shown);
        }
        let asking = QuestionPolicy::for_run(self.how.hold);
        run_and_report(
            world,
            shown,
            asking,
            &|value| exit::print_value(value, &[], DataFormat::Table),
            |watch| {
                let mut ended = self.resume_once(world, &summary, Arc::clone(&watch))?;
                for _ in 0..if self.how.take_over { MAX_TAKEOVERS } else { 0 } {
                    let (Err(Refusal::Journal(error))
                    | Ok(RunResult { stop: Some(StopReason::Leased(error)), .. })) = &ended
                    else {
                        break;
                    };
                    let Some(rival) = takeover::lease_holder(error) else { break };
                    takeover::stop_run_owner(&world.open_journal()?, rival)?;
                    ended = self.resume_once(world, &summary, Arc::clone(&watch))?;
                }
                Ok(ended?)
            },
        )
    }

    /// Returns the command that resumes the run with these options.
    pub(super) fn from_options(run: String, how: RunOptions) -> Self {
        Self { run, edited: false, yes: false, how }
    }

    /// Tries to resume the run once; the inner error is the runtime's refusal.
    fn resume_once(
        &self,
        world: &Runtime,
        summary: &RunSummary,
        watch: Arc<dyn RunObserver>,
    ) -> Result<Result<RunResult, Refusal>, CliError> {
        if summary.runbook == SESSION {
            return Err(CliError::usage(format!("`{}` is a session, and its process is gone", summary.id))
                .with_hint(
                    "it cannot go on; what it began can be settled, and its temporary branches removed",
                )
                .with_next_command(format!("redrill runs abandon {}", summary.id)));
        }
        let journal = Arc::new(world.open_journal()?);
        let (run, recorded, params) = takeover::claim_run(&journal, &summary.id, self.how.take_over)?;
        // Another process may have finished it since the summary was read.
        if run.status().is_final() {
            return Err(CliError::usage(format!("the run `{}` has ended as {}", run.id(), run.status()))
                .with_next_command(format!("redrill runs show {}", run.id())));
        }
        let runbook =
            if self.edited { load_edited_runbook(&summary.runbook, &recorded.sources())? } else { recorded };
        let again = |more: &str| self.resume_command_with(&summary.id, more);
        let age = world.clock().now().duration_since(run.last_at());
        self.confirm_stale_run(age, &runbook.header.needs, &again)?;
        let confirmed = confirm_targets(world, &runbook, &params, &self.how.confirm, &again)?;
        Ok(world.resume_run(
            journal,
            ResumeRequest { run, runbook, params, confirmed, abandon: false },
            watch,
        ))
    }

    /// Asks before resuming a run whose last record is old and which may destroy something.
    fn confirm_stale_run(
        &self,
        age: Span,
        needs: &[Permission],
        again: &dyn Fn(&str) -> String,
    ) -> Result<(), CliError> {
        let destroys = needs.iter().find(|need| need.effect == Effect::Destroy);
        let Some(right) = destroys.filter(|_| age > STALE_AFTER && !self.yes) else { return Ok(()) };
        let since = format_seconds(age.as_secs_f64().floor());
        let message = format!("the last record of the run is {since} old, and the run may `{right}`");
        let yes = terminal::can_prompt()
            && ["y", "yes"].contains(
                &terminal::prompt_line(&format!("{message}. Go on? [y/N]"))?.to_lowercase().as_str(),
            );
        if yes {
            return Ok(());
        }
        Err(CliError::usage(message)
            .with_hint("look at the world first; then go on with `--yes`")
            .with_exit(exit_code::REFUSED)
            .with_next_command(again("--yes")))
    }

    /// Returns the command that resumes the run with these options and `more`. Always `resume`: an approval that
    /// `approve --resume` has given is not given twice.
    fn resume_command_with(&self, run: &str, more: &str) -> String {
        let RunOptions { hold, take_over, confirm, output } = &self.how;
        let words = [
            ("--edited", self.edited),
            ("--yes", self.yes),
            ("--hold", *hold),
            ("--take-over", *take_over),
            ("-o json", *output == ReportFormat::Json),
        ];
        let mut line = vec![format!("redrill resume {run}")];
        line.extend(words.iter().filter(|(_, is_given)| *is_given).map(|(word, _)| (*word).to_owned()));
        line.extend(confirm.iter().map(|target| format!("--confirm {}", exit::quote_word(target))));
        line.push(more.to_owned());
        line.join(" ")
    }
}

/// Loads the runbook from disk, and prints its difference from the recorded one.
fn load_edited_runbook(path: &str, recorded: &[Source]) -> Result<Runbook, CliError> {
    let runbook = Runbook::load_file(Path::new(path))?;
    match diff_sources(recorded, &runbook.sources()) {
        Some(difference) => terminal::print_message(&difference),
        None => terminal::print_message("the runbook is the one that was recorded"),
    }
    Ok(runbook)
}

/// Returns the run with this id, the beginning of an id, or `last`.
pub(super) fn find_run(world: &Runtime, given: &str) -> Result<RunSummary, CliError> {
    let journal = open_journal(world)?;
    Ok(journal.summarize_run(&journal.resolve_run_id(given)?)?)
}

/// Opens the journal, which must exist.
pub(super) fn open_journal(world: &Runtime) -> Result<Journal, CliError> {
    world.open_existing_journal()?.ok_or_else(|| {
        CliError::usage(format!("there are no runs in {}", world.config.state.display()))
            .with_hint("choose another state folder with `--state`")
    })
}

/// Reports that a run ended before, and returns its exit code.
fn report_ended_run(summary: &RunSummary, shown: ReportFormat) -> u8 {
    let RunSummary { id, status, .. } = summary;
    match shown {
        ReportFormat::Text => {
            let when = summary.finished_at.map(|at| format!(" at {at}")).unwrap_or_default();
            let ended = if *status == RunStatus::Abandoned { "was abandoned" } else { status.as_str() };
            terminal::print_message(&format!("the run {id} {ended}{when}: there is nothing to resume"));
            if *status != RunStatus::Succeeded {
                terminal::print_message(&format!("redrill runs show {id}"));
            }
        }
        ReportFormat::Json => terminal::print_data(
            &json!({
                "event": "run.finished", "run": id, "status": status, "error": summary.error.as_ref().map(error_to_json),
                "left_behind": summary.left_behind,
            })
            .to_string(),
        ),
    }
    if *status == RunStatus::Succeeded { 0 } else { exit_code::FAILED }
}

/// Returns a recorded error in the form of the final event, with its place as a field.
fn error_to_json(recorded: &Value) -> Value {
    let plain = value::strip_tags(recorded);
    let mut error = plain["fault"].clone();
    if !error.is_object() {
        return plain;
    }
    error["place"] = plain["place"].clone();
    error
}
