//! A run on the command line: its events while it goes on, then its outcome, its value and the exit code.

use super::{
    output,
    questions::QuestionPolicy,
    watch::{JsonWatch, TreeWatch},
};
use crate::{
    base::{shell::with_location_options, terminal, value},
    journal::{FoldedCall, RunFold},
    report::{
        CliError, exit_code, failure_to_json, find_next_step, write_command_to_go_on, write_consent_options,
    },
    runtime::{RunObserver, RunResult, Runtime, StopReason, is_gate},
};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::sync::Arc;

/// The output format of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// For people, on stderr
    Text,
    /// One JSON object a line, on stdout
    Json,
}

/// How a run is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunReport {
    /// For people, on stderr; its value, if it has one, on stdout.
    Text,
    /// As text, but a run that does not succeed puts the last of its events, with the error, in the place of its value.
    JsonValue,
    /// One JSON object an event, on stdout.
    JsonEvents,
}

impl From<ReportFormat> for RunReport {
    fn from(format: ReportFormat) -> Self {
        match format {
            ReportFormat::Text => RunReport::Text,
            ReportFormat::Json => RunReport::JsonEvents,
        }
    }
}

/// Starts a run with a watcher, reports how it ended, writes its value, and returns the exit code.
pub(super) fn run_and_report(
    runtime: &Runtime,
    report: RunReport,
    policy: QuestionPolicy,
    write: &dyn Fn(&Value) -> Result<(), CliError>,
    perform: impl FnOnce(Arc<dyn RunObserver>) -> Result<RunResult, CliError>,
) -> u8 {
    let watch: Arc<dyn RunObserver> = match report {
        RunReport::Text | RunReport::JsonValue => Arc::new(TreeWatch::new(policy)),
        RunReport::JsonEvents => Arc::new(JsonWatch { policy }),
    };
    let result = perform(Arc::clone(&watch));
    drop(watch);
    let ended = match result {
        Ok(ended) => ended,
        Err(error) => return report_refusal(report, &error),
    };
    let ink = terminal::stderr_painter();
    let consent = write_consent_options(runtime, &ended.run);
    let error = CliError::from_run_result(&ended, &consent)
        .map(|error| error.with_next_step(&ended, find_next_step(runtime, &ended.run)));
    match report {
        RunReport::Text | RunReport::JsonValue => {
            if let Some(error) = &error {
                terminal::print_message(&error.render_body(ink));
            }
            print_run_state(runtime, &ended);
            if error.is_none()
                && !ended.value.is_null()
                && let Err(wrong) = write(&ended.value)
            {
                return output::print_error(&wrong);
            }
            if error.is_some() && report == RunReport::JsonValue {
                terminal::print_data(&final_event(runtime, &ended, error.as_ref()).to_string());
            }
        }
        RunReport::JsonEvents => {
            terminal::print_data(&final_event(runtime, &ended, error.as_ref()).to_string());
        }
    }
    if let Some(next) = error.as_ref().and_then(|t| t.next.as_ref()) {
        if report == RunReport::JsonEvents
            && let Some(error) = &error
        {
            terminal::print_message(&error.render_body(ink));
        }
        output::print_next_command(next);
    }
    CliError::exit_code_of(&ended)
}

/// What is said where a decision was recorded and the run could not be resumed.
pub(super) const DECISION_STANDS: &str =
    "what was decided stands, and whoever resumes the run goes by it; nothing else was done";

/// Reports why a run was not started or resumed, and returns the exit code.
pub(super) fn report_refusal(report: RunReport, error: &CliError) -> u8 {
    if report != RunReport::Text {
        print_refusal_event(error);
    }
    let mut error = error.clone();
    if error.exit != exit_code::BUG && !error.facts.iter().any(|fact| fact == DECISION_STANDS) {
        error.facts.push("nothing was done".into());
    }
    output::print_error(&error)
}

/// Prints the event of a command that was refused.
pub(super) fn print_refusal_event(error: &CliError) {
    let place = error.place.as_ref().map(|p| json!({"file": p.file, "line": p.line, "column": p.column}));
    let event = json!({
        "event": "run.refused",
        "error": {"message": error.message, "hint": error.hint_with_location_options(), "place": place},
        "exit": error.exit, "next": error.next_command_with_location_options(),
    });
    terminal::print_data(&event.to_string());
}

/// Prints the state of a run on stderr: status, id, head, open calls, and what is left behind.
fn print_run_state(runtime: &Runtime, ended: &RunResult) {
    let ink = terminal::stderr_painter();
    let head: String = ended.head.chars().take(16).collect();
    // The call that stopped the run was reported above; calls of other limbs may be open too.
    let said = match &ended.stop {
        Some(StopReason::Waiting { call, .. } | StopReason::Undecided { call, .. }) => Some(call),
        _ => None,
    };
    if ended.stop.is_some() {
        for open in render_open_calls(runtime, &ended.run, said) {
            terminal::print_message(&format!("  {open}"));
        }
    }
    if !ended.left_behind.is_empty() {
        terminal::print_message(&format!(
            "{} {}",
            terminal::stderr_painter().yellow("left behind:"),
            ended.left_behind.join(", ")
        ));
    }
    let status = ended.status.as_str();
    let status = if CliError::exit_code_of(ended) == 0 { ink.green(status) } else { ink.red(status) };
    terminal::print_message(&format!("{status}  run {}  head {head}", ended.run));
}

/// Returns the open calls of a run as text, without approvals and without the call `said`.
fn render_open_calls(runtime: &Runtime, run: &str, said: Option<&String>) -> Vec<String> {
    let entries = runtime
        .open_existing_journal()
        .ok()
        .flatten()
        .and_then(|journal| journal.read_records(run).ok())
        .unwrap_or_default();
    let (fold, _) = RunFold::fold_until_illegal(&entries);
    // An approval is an open call too, but nothing is under way in it.
    let open = fold
        .open_calls()
        .filter(|(name, call)| !is_gate(&call.op) && said.is_none_or(|said| said.as_str() != *name));
    open.map(|(name, call)| {
        format!("{}: {} ({name}){}", describe_open_call(call), call.op, describe_failure_of_held_call(call))
    })
    .collect()
}

/// Says of an open call what of it may go on: nothing does of one that a person keeps open, or has decided about.
fn describe_open_call(call: &FoldedCall) -> &'static str {
    match (&call.decision, call.is_accepted()) {
        (Some(_), _) if call.is_held() => "is held",
        (Some(_), _) => "is decided about, and was not gone on with",
        (None, true) => "may go on in the world",
        (None, false) => "was begun, and may not be asked for yet",
    }
}

/// Returns with which error a held call failed, as the end of a line.
fn describe_failure_of_held_call(call: &FoldedCall) -> String {
    match call.find_last_failure() {
        Ok(Some(error)) if call.is_held() => format!(": it failed with {} {}", error.code, error.message),
        _ => String::new(),
    }
}

/// Returns the last line of `-o json`.
fn final_event(runtime: &Runtime, ended: &RunResult, error: Option<&CliError>) -> Value {
    let RunResult { run, status, head, left_behind, .. } = ended;
    match &ended.stop {
        None => json!({
            "event": "run.finished", "run": run, "status": status, "head": head, "value": value::strip_tags(&ended.value),
            "error": ended.failure.as_ref().map(failure_to_json),
            "cleanup": ended.cleanup.iter().map(|failure| &failure.fault.message).collect::<Vec<_>>(),
            "cleanup_errors": ended.cleanup.iter().map(failure_to_json).collect::<Vec<_>>(), "left_behind": left_behind,
        }),
        Some(stop) => json!({
            "event": "run.stopped", "run": run, "status": status, "head": head, "reason": name_stop_reason(stop),
            "message": error.map(|t| &t.message), "hint": error.and_then(CliError::hint_with_location_options),
            "call": match stop { StopReason::Undecided { call, .. } | StopReason::Waiting { call, .. } => Some(call), _ => None },
            "next": error.and_then(CliError::next_command_with_location_options), "resume": with_location_options(&write_command_to_go_on(runtime, run)),
            "left_behind": left_behind,
        }),
    }
}

/// Returns the word for why a run stopped.
fn name_stop_reason(stop: &StopReason) -> &'static str {
    match stop {
        StopReason::Interrupted => "interrupted",
        StopReason::Waiting { .. } => "waiting",
        StopReason::TakenOver { .. } => "taken_over",
        StopReason::Undecided { .. } => "undecided",
        StopReason::Mismatch { .. } | StopReason::EditRejected { .. } => "mismatch",
        StopReason::Unreadable(_) => "unreadable",
        StopReason::Refused { .. } | StopReason::Unconfirmed { .. } => "refused",
        StopReason::Leased(_) => "leased",
        StopReason::Journal(_) => "journal",
        StopReason::Abandoned => "abandoned",
    }
}
