//! `runs`: list, show, verify, abandon and prune runs.

use super::{
    decide::{DecisionArg, record_call_decision},
    output,
    prune::PruneCommand,
    questions::QuestionPolicy,
    run::{check_not_ended, find_run, require_journal},
    run_output::{ReportFormat, run_and_report},
};
use crate::{
    base::{shell::with_location_options, terminal, value},
    journal::{self, Journal, JournalEntry, Record, RunFold, RunStatus, RunSummary},
    report::{
        self, CliError, DataFormat, exit_code, find_next_step, find_standing_reason, record_to_json,
        render_transcript,
    },
    runtime::{Refusal, ResumeRequest, RunObserver, RunResult, Runtime, SESSION, end_as_abandoned},
};
use clap::Subcommand;
use serde_json::{Value, json};
use std::sync::Arc;

/// `runs`.
#[derive(Debug, Subcommand)]
pub(super) enum RunsCommand {
    /// List every run, newest first
    List {
        /// How they are written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: DataFormat,
        /// In the table, every run, and not only the newest ones
        #[arg(long)]
        all: bool,
    },
    /// Show what happened in a run
    Show {
        /// The run: its id, the beginning of it, or `last`
        run: String,
        /// As text, or every record as JSON
        #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
        output: ReportFormat,
    },
    /// Decide about a call of which nobody knows whether it took effect
    Decide {
        /// The run
        run: String,
        /// The call, or a part of its name that only one open call has
        call: String,
        /// What happened to the call
        decision: DecisionArg,
        /// What the call made, when it is done: read back by its id
        #[arg(long, value_name = "ID", conflicts_with = "result")]
        id: Option<String>,
        /// What the call gave back, when it is done
        #[arg(long, value_name = "JSON")]
        result: Option<String>,
        /// Decide although a request of the call may still take effect
        #[arg(long)]
        anyway: bool,
    },
    /// Give a run up: resolve what was started, clean up, start nothing new
    Abandon {
        /// The run
        run: String,
        /// Change nothing, for targets that are gone or replaced: only record what is left behind
        #[arg(long)]
        leave: bool,
        /// How it is shown
        #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
        output: ReportFormat,
    },
    /// Remove runs that have ended, for good
    Prune(PruneCommand),
    /// Check the records of a run against their hashes
    Verify {
        /// The run
        run: String,
        /// A head noted earlier, which must be part of the run's chain
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
        /// How the answer is written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: DataFormat,
    },
}

/// How many runs the table has where not all were asked for.
const NEWEST_SHOWN: usize = 50;

const RUN_COLUMNS: &[&str] =
    &["id", "runbook", "status", "started_at", "finished_at", "calls", "left_behind"];

impl RunsCommand {
    /// Runs the subcommand.
    pub(super) fn dispatch_subcommand(&self, runtime: &Runtime) -> Result<u8, CliError> {
        match self {
            RunsCommand::List { output, all } => list_runs(runtime, *output, *all),
            RunsCommand::Show { run, output } => show_run(runtime, run, *output),
            RunsCommand::Decide { run, call, decision, id, result, anyway } => {
                let resolution = decision.parse_resolution(id.as_deref(), result.as_deref())?;
                record_call_decision(runtime, run, call, &resolution, *anyway)
            }
            RunsCommand::Abandon { run, leave: true, .. } => abandon_without_cleanup(runtime, run),
            RunsCommand::Abandon { run, output, .. } => abandon_run(runtime, run, *output),
            RunsCommand::Prune(prune) => prune.ask_and_prune_runs(runtime),
            RunsCommand::Verify { run, head, output } => verify_run(runtime, run, head.as_deref(), *output),
        }
    }
}

fn list_runs(runtime: &Runtime, output: DataFormat, all: bool) -> Result<u8, CliError> {
    let journal = runtime.open_existing_journal()?;
    let mut runs = journal.as_ref().map(Journal::list_runs).transpose()?.unwrap_or_default();
    // What can still be read is shown first.
    let refusal = journal.as_ref().map(Journal::find_refusal_to_act).transpose()?.flatten();
    let shown = if output == DataFormat::Table && !all { NEWEST_SHOWN } else { usize::MAX };
    let older = runs.len().saturating_sub(shown);
    runs.truncate(shown);
    if let Some(journal) = &journal {
        for run in &mut runs {
            run.reason = find_standing_reason(journal, run);
        }
    }
    let columns: Vec<String> = RUN_COLUMNS.iter().map(|&c| c.to_owned()).collect();
    let mut rows: Vec<Value> = runs.iter().map(summary_to_json).collect();
    if output == DataFormat::Table {
        for (row, run) in rows.iter_mut().zip(&runs) {
            drop(row.as_object_mut().and_then(|row| row.remove("reason")));
            row["started_at"] = report::format_moment(run.started_at).into();
            row["finished_at"] = run.finished_at.map(report::format_moment).into();
        }
    }
    output::print_value(&rows.into(), &columns, output)?;
    match refusal {
        Some(error @ journal::Error::RolledBack { .. }) if runs.is_empty() => {
            return Err(CliError { next: None, ..error.into() });
        }
        refusal => warn_of_refusal(refusal.as_ref()),
    }
    if output == DataFormat::Table {
        for (run, reason) in runs.iter().filter_map(|run| run.reason.as_ref().map(|reason| (run, reason))) {
            let line = reason.lines().next().unwrap_or_default();
            let next = with_location_options(&find_next_step(runtime, &run.id).command);
            terminal::print_message(&format!("{} is {}: {line}\n  {next}", run.id, run.status));
        }
    }
    if older > 0 {
        let all = with_location_options("redrill runs list --all");
        terminal::print_message(&format!("and {older} older runs: {all}"));
    }
    Ok(0)
}

/// Says with what every command that acts here is refused.
fn warn_of_refusal(refusal: Option<&journal::Error>) {
    if let Some(error) = refusal {
        terminal::print_message(&format!("warning: {error}"));
    }
}

fn summary_to_json(run: &RunSummary) -> Value {
    json!({
        "id": run.id, "runbook": run.runbook, "status": run.status, "started_at": run.started_at.to_string(),
        "finished_at": run.finished_at.map(|at| at.to_string()), "calls": run.calls, "left_behind": run.left_behind,
        "reason": run.reason,
    })
}

fn show_run(runtime: &Runtime, run_or_prefix: &str, output: ReportFormat) -> Result<u8, CliError> {
    let mut summary = find_run(runtime, run_or_prefix)?;
    let journal = require_journal(runtime)?;
    let (entries, wrong) = journal.read_intact_records(&summary.id)?;
    summary.reason = find_standing_reason(&journal, &summary);
    warn_of_refusal(journal.find_refusal_to_act()?.as_ref());
    match output {
        ReportFormat::Text => {
            terminal::print_data(&render_transcript(&summary, &entries));
            if !summary.status.is_final() && summary.status != RunStatus::Running && wrong.is_none() {
                output::print_next_command(&find_next_step(runtime, &summary.id).command);
            }
        }
        ReportFormat::Json => {
            let mut shown = summary_to_json(&summary);
            shown["title"] = summary.title.as_str().into();
            shown["error"] = json!(summary.error.as_ref().map(value::strip_tags));
            let (fold, _) = RunFold::fold_until_illegal(&entries);
            shown["params"] = value::strip_tags(&fold.complete_params(&summary.params));
            shown["records"] = entries.iter().map(record_to_json).collect();
            terminal::print_data(&shown.to_string());
        }
    }
    wrong.map_or(Ok(0), |why| Err(broken_run_error(why, summary.status)))
}

/// Returns the error of a run whose records are not all right. One that has ended needs nothing more.
fn broken_run_error(why: journal::Error, status: RunStatus) -> CliError {
    let error = CliError::from(why);
    if status.is_final() { CliError { next: None, ..error } } else { error }
}

fn abandon_run(runtime: &Runtime, run_or_prefix: &str, output: ReportFormat) -> Result<u8, CliError> {
    let summary = find_run(runtime, run_or_prefix)?;
    check_not_ended(&summary.id, summary.status)?;
    Ok(run_and_report(runtime, output.into(), QuestionPolicy::approvals_only(), &|_| Ok(()), |watch| {
        abandon_with_cleanup(runtime, &summary, watch)
            .map_err(|why| abandon_refusal_to_error(why, &format!("redrill runs abandon {}", summary.id)))
    }))
}

fn abandon_with_cleanup(
    runtime: &Runtime,
    summary: &RunSummary,
    watch: Arc<dyn RunObserver>,
) -> Result<RunResult, Refusal> {
    let journal = Arc::new(runtime.open_journal()?);
    // Nothing new is started on any target, so no name needs to be confirmed.
    let confirmed = runtime.fleet.target_configs().map(|target| target.name.clone()).collect();
    let acquired = match Runtime::acquire_run_to_abandon(&journal, &summary.id) {
        _ if summary.runbook == SESSION => None,
        // What no longer reads as a runbook still has its records.
        Err(Refusal::Runbook(error)) => {
            terminal::print_message(&format!("{error}\nthe run is given up by its records"));
            None
        }
        acquired => Some(acquired?),
    };
    let ended = match acquired {
        Some((run, runbook)) => {
            let resume = ResumeRequest { run, runbook, confirmed, abandon: true };
            runtime.resume_run(journal, resume, watch)?
        }
        None => runtime.abandon_by_records(journal, &summary.id, confirmed, watch)?,
    };
    Ok(RunResult { is_given_up: true, ..ended })
}

/// Ends a run without touching its targets, and says what it leaves behind.
fn abandon_without_cleanup(runtime: &Runtime, run_or_prefix: &str) -> Result<u8, CliError> {
    let summary = find_run(runtime, run_or_prefix)?;
    check_not_ended(&summary.id, summary.status)?;
    let left_behind = end_as_abandoned(&require_journal(runtime)?, &summary.id).map_err(|why| {
        abandon_refusal_to_error(why.into(), &format!("redrill runs abandon {} --leave", summary.id))
    })?;
    terminal::print_message(&format!(
        "given up; left behind: {}",
        if left_behind.is_empty() { "nothing".to_owned() } else { left_behind.join(", ") }
    ));
    Ok(0)
}

/// Returns the error of a run that could not be given up: of one that another process has, whoever gives it up is not told how
/// it goes on.
fn abandon_refusal_to_error(refusal: Refusal, again: &str) -> CliError {
    let is_held = matches!(
        refusal,
        Refusal::Journal(journal::Error::Held { .. } | journal::Error::HeldByUnknown { .. })
    );
    let error = CliError::from(refusal);
    if is_held { error.with_hint(format!("stop that process, and then `{again}`")) } else { error }
}

fn verify_run(
    runtime: &Runtime,
    run_or_prefix: &str,
    head: Option<&str>,
    output: DataFormat,
) -> Result<u8, CliError> {
    let journal = require_journal(runtime)?;
    let id = journal.resolve_run_id(run_or_prefix)?;
    let status = journal.summarize_run(&id)?.status;
    let verified = journal.verify_run(&id, head).map_err(|why| {
        let error = match journal.verify_run(&id, None) {
            // All that is there is right, and does not lead to that head.
            Ok(_) => CliError { hint: None, ..why.into() }
                .with_hint("the head is another run's, or records were taken away after it was noted")
                .with_next_command(format!("redrill runs show {id}")),
            Err(_) => broken_run_error(why, status),
        };
        error.with_exit(exit_code::FAILED)
    })?;
    let mut value = json!({"run": id, "ok": true, "records": verified.records, "head": verified.head});
    let adopted: Vec<Value> = journal.read_records(&id)?.iter().filter_map(adoption_to_json).collect();
    if !adopted.is_empty() || output != DataFormat::Table {
        value["adopted"] = adopted.into();
    }
    let columns = ["run", "ok", "records", "head", "adopted"].map(str::to_owned);
    output::print_value(&value, &columns, output)?;
    Ok(0)
}

/// Returns a record of a take-over for programs; nothing for any other record.
fn adoption_to_json(entry: &JournalEntry) -> Option<Value> {
    let Record::Adopted { by, from, to, rolled_back } = &entry.record else { return None };
    Some(json!({
        "at": entry.at.to_string(), "by": by, "from": from, "to": to, "rolled_back": rolled_back,
    }))
}
