//! `resume`: take up a run where it stopped, until it ends or stops again.

use super::{
    output,
    questions::QuestionPolicy,
    run::{RunOptions, ask_to_confirm_protected_targets, check_not_ended, find_run},
    run_output::{DECISION_STANDS, ReportFormat, report_refusal, run_and_report},
    runbook_file::{find_runbook_file, load_edited_runbook, write_check_command},
    session::check_is_no_session,
    takeover::{self, MAX_TAKEOVERS},
};
use crate::{
    base::{shell, terminal, value},
    journal::{Failure, Journal, RunError, RunFold, RunStatus, RunSummary, Source},
    ops::spec::Permission,
    provider::{self, Code},
    report::{
        CliError, DataFormat, RecordAge, diff_sources, exit_code, failure_to_json, find_next_step,
        is_given_up_before_its_end, write_command_to_go_on,
    },
    runtime::{Refusal, ResumeRequest, RunObserver, RunResult, Runbook, Runtime, StopReason},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, path::Path, sync::Arc};

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
    options: RunOptions,
    /// Whether the command has recorded a decision before it resumes the run.
    #[arg(skip)]
    has_decided: bool,
}

impl ResumeCommand {
    /// Resumes a run.
    pub(super) fn resume_run(&self, runtime: &Runtime) -> u8 {
        let format = self.options.output;
        let summary = match find_run(runtime, &self.run) {
            Ok(summary) => summary,
            Err(error) => return report_refusal(format.into(), &self.tell_of_decision(error, &self.run)),
        };
        if summary.status.is_final() {
            return report_ended_run(&summary, format);
        }
        let policy = QuestionPolicy::for_run(self.options.hold);
        run_and_report(
            runtime,
            format.into(),
            policy,
            &|value| output::print_value(value, &[], DataFormat::Table),
            |watch| {
                self.resume_and_take_over(runtime, &summary, &watch).map_err(|error| {
                    let error = self.tell_of_decision(error, &summary.id);
                    let next = error.next.clone();
                    let next = next.unwrap_or_else(|| self.write_next_command(runtime, &summary, &error));
                    error.with_next_command(next)
                })
            },
        )
    }

    /// Resumes the run; with `--take-over`, after the runs that hold its targets have stopped.
    fn resume_and_take_over(
        &self,
        runtime: &Runtime,
        summary: &RunSummary,
        watch: &Arc<dyn RunObserver>,
    ) -> Result<RunResult, CliError> {
        let mut ended = self.resume_once(runtime, summary, Arc::clone(watch))?;
        for _ in 0..if self.options.take_over { MAX_TAKEOVERS } else { 0 } {
            let (Err(Refusal::Journal(error)) | Ok(RunResult { stop: Some(StopReason::Leased(error)), .. })) =
                &ended
            else {
                break;
            };
            let Some(rival) = takeover::find_lease_holder(error) else { break };
            takeover::stop_run_owner_and_wait(&runtime.open_journal()?, rival)?;
            ended = self.resume_once(runtime, summary, Arc::clone(watch))?;
        }
        Ok(ended?)
    }

    /// Returns the command that resumes a run with these options, after a decision about it was recorded.
    pub(super) fn after_decision(run: String, yes: bool, options: RunOptions) -> Self {
        Self { run, edited: false, yes, options, has_decided: true }
    }

    /// Tries to resume the run once; the inner error is the runtime's refusal.
    fn resume_once(
        &self,
        runtime: &Runtime,
        summary: &RunSummary,
        watch: Arc<dyn RunObserver>,
    ) -> Result<Result<RunResult, Refusal>, CliError> {
        let journal = Arc::new(runtime.open_journal()?);
        check_is_no_session(&journal, summary)?;
        let confirmed = if self.options.take_over && journal.is_run_held(&summary.id) {
            self.check_before_take_over(runtime, &journal, summary)?
        } else {
            self.options.confirm.iter().cloned().collect()
        };
        let (run, recorded) =
            takeover::acquire_or_take_over_run(&journal, &summary.id, self.options.take_over)?;
        // Another process may have finished it since the summary was read.
        check_not_ended(run.id(), run.status())?;
        let again = |more: &str| self.resume_command_with(&summary.id, more);
        let fold = run.copy_fold();
        let runbook = self.choose_runbook(runtime, summary, &fold, recorded, true)?;
        let age = RecordAge::of_run(runtime, run.last_record_before_acquisition());
        confirm_if_stale_and_destructive(age, &runbook.header.needs, self.yes, &again)?;
        let confirmed = self.ask_to_confirm(runtime, &journal, &summary.id, &fold, &runbook, confirmed)?;
        if is_given_up_before_its_end(&fold) {
            terminal::print_message(&carried_forward_note(&summary.id));
        }
        let resume = ResumeRequest { run, runbook, confirmed, abandon: false };
        match runtime.resume_run(journal, resume, watch) {
            Err(Refusal::Target(error)) if error.code == Code::NotFound => {
                Err(missing_target_error(error, &summary.id, &again("")))
            }
            ended => Ok(ended),
        }
    }

    /// Checks, before the process that has the run is asked to stop, all that could refuse this command then; returns the
    /// protected targets that are confirmed. The age of the last record is none of it: that process writes one as it stops.
    fn check_before_take_over(
        &self,
        runtime: &Runtime,
        journal: &Journal,
        summary: &RunSummary,
    ) -> Result<BTreeSet<String>, CliError> {
        let id = &summary.id;
        let (fold, _) = RunFold::fold_until_illegal(&journal.read_records(id)?);
        let recorded = Runtime::read_recorded_runbook(journal, id, fold.source_edition())?;
        let runbook = self.choose_runbook(runtime, summary, &fold, recorded, false)?;
        let given = self.options.confirm.iter().cloned().collect();
        let confirmed = self.ask_to_confirm(runtime, journal, id, &fold, &runbook, given)?;
        match runtime.check_could_resume(journal, id, &fold, &runbook, &confirmed) {
            Err(Refusal::Target(error)) if error.code == Code::NotFound => {
                Err(missing_target_error(error, id, &self.resume_command_with(id, "")))
            }
            checked => Ok(checked.map(|()| confirmed)?),
        }
    }

    /// Returns the runbook with which the run goes on: as it is recorded or, `--edited`, as it is on disk.
    fn choose_runbook(
        &self,
        runtime: &Runtime,
        summary: &RunSummary,
        fold: &RunFold,
        recorded: Runbook,
        prints_difference: bool,
    ) -> Result<Runbook, CliError> {
        if !self.edited {
            return Ok(recorded);
        }
        let (edited, file) =
            load_edited_runbook(runtime, &summary.runbook, &self.resume_command_with(&summary.id, ""))?;
        if prints_difference {
            print_difference(&file, &recorded.sources(), &edited.sources());
            let kept = fold.complete_params_without_trial(&summary.params);
            let lines = edited.describe_kept_params(&recorded, &kept, &runtime.config);
            for line in lines {
                terminal::print_message(&line);
            }
        }
        if fold.is_ending() && edited.sources() != recorded.sources() {
            return Err(edit_of_ending_run_error(write_command_to_go_on(runtime, &summary.id)));
        }
        Ok(edited)
    }

    /// Returns the confirmed protected targets: those that are `given`, and those typed now.
    fn ask_to_confirm(
        &self,
        runtime: &Runtime,
        journal: &Journal,
        run: &str,
        fold: &RunFold,
        runbook: &Runbook,
        given: BTreeSet<String>,
    ) -> Result<BTreeSet<String>, CliError> {
        let params = runtime.resolve_params_to_resume(journal, run, fold, runbook)?.values;
        let come_to = fold.targets_come_to().map(str::to_owned).collect();
        let again = |more: &str| self.resume_command_with(run, more);
        ask_to_confirm_protected_targets(runtime, runbook, &params, come_to, given, &again)
    }

    /// Returns what to type after a refusal that does not say it. Whoever wanted to edit is given no line that goes on with the
    /// text before, as one that approves would.
    fn write_next_command(&self, runtime: &Runtime, summary: &RunSummary, refusal: &CliError) -> String {
        if !self.edited {
            return find_next_step(runtime, &summary.id).command;
        }
        let again = self.resume_command_with(&summary.id, "");
        let is_of_text = refusal.place.is_some();
        match find_runbook_file(runtime, &summary.runbook, &again) {
            Ok(file) if is_of_text => write_check_command(&file),
            _ => again,
        }
    }

    /// Says, where a decision was recorded and the run could not be resumed then, that the decision stands, and how the run is
    /// brought on.
    fn tell_of_decision(&self, mut error: CliError, run: &str) -> CliError {
        if !self.has_decided {
            return error;
        }
        error.facts.push(DECISION_STANDS.to_owned());
        let resume = self.resume_command_with(run, "");
        // A line that is refused for want of an option says which.
        let next = error.next.take().filter(|next| next.starts_with(&resume));
        error.with_next_command(next.unwrap_or(resume))
    }

    /// Returns the command that resumes the run with these options and `more`. Always `resume`: an approval that
    /// `approve --resume` has given is not given twice.
    fn resume_command_with(&self, run: &str, more: &str) -> String {
        let RunOptions { hold, take_over, confirm, output } = &self.options;
        let words = [
            ("--edited", self.edited),
            ("--yes", self.yes),
            ("--hold", *hold),
            ("--take-over", *take_over),
            ("-o json", *output == ReportFormat::Json),
        ];
        let mut line = vec![format!("redrill resume {run}")];
        line.extend(words.iter().filter(|(_, is_given)| *is_given).map(|(word, _)| (*word).to_owned()));
        line.extend(confirm.iter().map(|target| format!("--confirm {}", shell::quote_shell_word(target))));
        line.extend(Some(more.to_owned()).filter(|more| !more.is_empty()));
        line.join(" ")
    }
}

/// Asks before a run goes on that may destroy something and whose last record is old, or from the future;
/// `command_with` returns the command with a word more.
///
/// # Errors
/// Nobody says yes.
pub(super) fn confirm_if_stale_and_destructive(
    age: RecordAge,
    needs: &[Permission],
    yes: bool,
    command_with: &dyn Fn(&str) -> String,
) -> Result<(), CliError> {
    let Some(right) = age.right_to_ask_about(needs).filter(|_| !yes) else { return Ok(()) };
    let message = format!("the last record of the run is {}, and the run may `{right}`", age.describe());
    let yes = terminal::can_prompt()
        && ["y", "yes"]
            .contains(&terminal::prompt_line(&format!("{message}. Go on? [y/N]"))?.to_lowercase().as_str());
    if yes {
        return Ok(());
    }
    Err(CliError::usage(message)
        .with_hint("look at the world first; then go on with `--yes`")
        .with_exit(exit_code::REFUSED)
        .with_next_command(command_with("--yes")))
}

/// Returns the error of a run whose target is not configured (any more): `again` is the command for when it is. Giving the run
/// up without the target ends it for good with its clean-up undone, and is nothing to type because it is printed.
pub(super) fn missing_target_error(error: provider::Error, run: &str, again: &str) -> CliError {
    let known = error.hint.clone().map_or_else(String::new, |known| format!("{known}; "));
    CliError::from(error)
        .with_hint(format!(
            "{known}configure it, and then `{again}`; or give the run up: `redrill runs abandon {run}` cannot clean up \
             where the target is missing"
        ))
        .with_next_command(again)
}

/// Says that a run which somebody was giving up goes on with its script: whoever resumes it may not know.
fn carried_forward_note(run: &str) -> String {
    format!(
        "the run was being given up, and now goes on with its script; to give it up all the same: Ctrl-C, and then \
         `redrill runs abandon {run}`"
    )
}

/// Returns the error of an edit of a run that is ending: what it undoes is what it did under the text that it has.
fn edit_of_ending_run_error(next: String) -> CliError {
    CliError::usage("the run is ending: its clean-up goes on as it was recorded")
        .with_hint("go on without `--edited`; the text as it is now is for a new run")
        .with_exit(exit_code::MISMATCH)
        .with_next_command(next)
}

/// Says which file is read, and in what it differs from the recorded text.
fn print_difference(file: &Path, recorded: &[Source], edited: &[Source]) {
    terminal::print_message(&format!("the runbook is read from {}", file.display()));
    match diff_sources(recorded, edited) {
        Some(difference) => terminal::print_message(&difference),
        None => terminal::print_message("the runbook is the one that was recorded"),
    }
}

/// Reports that a run ended before, and returns its exit code.
fn report_ended_run(summary: &RunSummary, format: ReportFormat) -> u8 {
    let RunSummary { id, status, .. } = summary;
    match format {
        ReportFormat::Text => {
            let when = summary.finished_at.map(|at| format!(" at {at}")).unwrap_or_default();
            let ended = if *status == RunStatus::Abandoned { "was abandoned" } else { status.as_str() };
            terminal::print_message(&format!("the run {id} {ended}{when}: there is nothing to resume"));
            if *status != RunStatus::Succeeded {
                output::print_next_command(&format!("redrill runs show {id}"));
            }
        }
        ReportFormat::Json => terminal::print_data(&ended_event(summary).to_string()),
    }
    if *status == RunStatus::Succeeded { 0 } else { exit_code::FAILED }
}

/// Returns the final event of a run that ended before, as far as it is recorded; what does not read is shown as it is.
fn ended_event(summary: &RunSummary) -> Value {
    let RunSummary { id, status, error, left_behind, .. } = summary;
    let mut event = json!({
        "event": "run.finished", "run": id, "status": status, "error": error.as_ref().map(value::strip_tags),
        "left_behind": left_behind,
    });
    if let Some(Ok(RunError { fault, place, cleanup, cleanup_errors })) = error.as_ref().map(RunError::decode)
    {
        event["error"] = json!(fault.map(|fault| failure_to_json(&Failure { fault, place })));
        event["cleanup"] = json!(cleanup);
        event["cleanup_errors"] = cleanup_errors.iter().map(failure_to_json).collect();
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal;

    #[test]
    fn whoever_decided_and_found_the_run_taken_is_told_that_it_stands_and_how_it_goes_on() {
        let options =
            || RunOptions { hold: true, take_over: false, confirm: vec![], output: ReportFormat::Text };
        let taken = || CliError::from(journal::Error::HeldByUnknown { run: "abcd2345".into() });
        let decided = ResumeCommand::after_decision("abcd2345".into(), false, options());
        let error = decided.tell_of_decision(taken(), "abcd2345");
        assert_eq!(error.next.as_deref(), Some("redrill resume abcd2345 --hold"));
        assert!(error.facts.iter().any(|fact| fact == DECISION_STANDS), "{error:?}");
        let resumed = ResumeCommand { has_decided: false, ..decided };
        let error = resumed.tell_of_decision(taken(), "abcd2345");
        assert_eq!((error.next.as_deref(), error.facts.len()), (Some("redrill runs show abcd2345"), 0));
    }
}
