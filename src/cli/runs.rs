//! `runs`: list, show and verify runs, decide about a call, abandon a run.

use super::{
    asking::{QuestionPolicy, current_user},
    ending::{ReportFormat, run_and_report},
    exit,
    ops::perform_read,
    run::{find_run, open_journal},
};
use crate::{
    base::{terminal, value},
    journal::{CallState, Durability, FoldedCall, Record, RunFold, RunStatus, RunSummary},
    ops::{
        self,
        args::CallArgs,
        spec::{Operation, ReturnShape},
    },
    report::{self, CliError, DataFormat, exit_code, record_to_json, render_transcript},
    runtime::{ResumeRequest, Runtime, SESSION, gate::APPROVE},
};
use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// `runs`.
#[derive(Debug, Subcommand)]
pub(super) enum RunsCommand {
    /// List every run, newest first
    List {
        /// How they are written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: DataFormat,
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
    },
    /// Give a run up: resolve what was started, clean up, start nothing new
    Abandon {
        /// The run
        run: String,
        /// Change nothing, for targets that are gone or replaced: only record what is open
        #[arg(long)]
        leave: bool,
        /// How it is shown
        #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
        output: ReportFormat,
    },
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

/// What a person decides about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DecisionArg {
    /// It did not take effect, and is made again
    Redo,
    /// It failed
    Fail,
    /// It took effect: it made `--id`, or gave back `--result`
    Done,
}

const RUN_COLUMNS: &[&str] =
    &["id", "runbook", "status", "started_at", "finished_at", "calls", "left_behind"];

impl RunsCommand {
    /// Runs the subcommand.
    pub(super) fn dispatch_subcommand(&self, world: &Runtime) -> Result<u8, CliError> {
        match self {
            RunsCommand::List { output } => list_runs(world, *output),
            RunsCommand::Show { run, output } => show_run(world, run, *output),
            RunsCommand::Decide { run, call, decision, id, result } => {
                let outcome = decision.parse_resolution(id.as_deref(), result.as_deref())?;
                decide_call(world, run, call, &outcome)
            }
            RunsCommand::Abandon { run, leave: true, .. } => abandon_without_cleanup(world, run),
            RunsCommand::Abandon { run, output, .. } => abandon_run(world, run, *output),
            RunsCommand::Verify { run, head, output } => verify_run(world, run, head.as_deref(), *output),
        }
    }
}

fn list_runs(world: &Runtime, output: DataFormat) -> Result<u8, CliError> {
    let runs =
        world.open_existing_journal()?.map(|journal| journal.list_runs()).transpose()?.unwrap_or_default();
    let columns: Vec<String> = RUN_COLUMNS.iter().map(|&c| c.to_owned()).collect();
    let mut rows: Vec<Value> = runs.iter().map(summary_to_json).collect();
    if output == DataFormat::Table {
        for (row, run) in rows.iter_mut().zip(&runs) {
            drop(row.as_object_mut().and_then(|row| row.remove("reason")));
            row["started_at"] = report::format_moment(run.started_at).into();
            row["finished_at"] = run.finished_at.map(report::format_moment).into();
        }
    }
    exit::print_value(&rows.into(), &columns, output)?;
    if output == DataFormat::Table {
        for (run, reason) in runs.iter().filter_map(|run| run.reason.as_ref().map(|reason| (run, reason))) {
            let line = reason.lines().next().unwrap_or_default();
            terminal::print_message(&format!("{} is {}: {line}", run.id, run.status));
        }
    }
    Ok(0)
}

fn summary_to_json(run: &RunSummary) -> Value {
    json!({
        "id": run.id, "runbook": run.runbook, "status": run.status, "started_at": run.started_at.to_string(),
        "finished_at": run.finished_at.map(|at| at.to_string()), "calls": run.calls, "left_behind": run.left_behind,
        "reason": run.reason,
    })
}

fn show_run(world: &Runtime, given: &str, output: ReportFormat) -> Result<u8, CliError> {
    let summary_of = find_run(world, given)?;
    let entries = open_journal(world)?.read_records(&summary_of.id)?;
    match output {
        ReportFormat::Text => terminal::print_data(&render_transcript(&summary_of, &entries)),
        ReportFormat::Json => {
            let mut shown = summary_to_json(&summary_of);
            shown["title"] = summary_of.title.as_str().into();
            shown["error"] = json!(summary_of.error.as_ref().map(value::strip_tags));
            shown["params"] = value::strip_tags(&summary_of.params);
            shown["records"] = entries.iter().map(record_to_json).collect();
            terminal::print_data(&shown.to_string());
        }
    }
    Ok(0)
}

/// A decision about a call, with the result where the call is done.
enum CallResolution<'a> {
    Redo,
    Fail,
    Created(&'a str),
    Returned(&'a str),
}

impl DecisionArg {
    fn parse_resolution<'a>(
        self,
        id: Option<&'a str>,
        result: Option<&'a str>,
    ) -> Result<CallResolution<'a>, CliError> {
        match (self, id, result) {
            (DecisionArg::Redo, None, None) => Ok(CallResolution::Redo),
            (DecisionArg::Fail, None, None) => Ok(CallResolution::Fail),
            (DecisionArg::Done, Some(id), _) => Ok(CallResolution::Created(id)),
            (DecisionArg::Done, None, Some(result)) => Ok(CallResolution::Returned(result)),
            (DecisionArg::Done, None, None) => Err(CliError::usage(
                "`done` does not say what the call came to",
            )
            .with_hint("add `--id` with the id of what it made, or `--result` with what it gave back")),
            _ => Err(CliError::usage("`--id` and `--result` belong to `done`")),
        }
    }
}

fn decide_call(
    world: &Runtime,
    given: &str,
    call: &str,
    outcome: &CallResolution<'_>,
) -> Result<u8, CliError> {
    let journal = open_journal(world)?;
    let id = journal.resolve_run_id(given)?;
    let run = journal.acquire_run(&id)?;
    let entries = journal.read_records(&id)?;
    let (fold, _) = RunFold::from_entries(&entries);
    let open: Vec<_> = fold.decidable_calls().filter(|(_, open)| open.op != APPROVE).collect();
    let named: Vec<_> = match open.iter().find(|(name, _)| *name == call) {
        Some(exact) => vec![*exact],
        None => open.iter().copied().filter(|(name, _)| name.contains(call)).collect(),
    };
    let [(name, FoldedCall { op, .. })] = named[..] else {
        let open: Vec<&str> = open.into_iter().map(|(name, _)| name).collect();
        return Err(undecidable_error(&id, call, &open, named.is_empty(), &fold));
    };
    let past = run.call_state(name);
    let args = match &past {
        CallState::Started { args, .. } => args.clone(),
        _ => Value::Null,
    };
    let mut decision = resolution_to_json(world, op, &args, outcome)?;
    let known = match past {
        CallState::Started { decision: Some(held), .. } => held["error"].clone(),
        _ => Value::Null,
    };
    // A call that is decided to have failed keeps the error it was held with.
    if decision["kind"] == "fail" {
        decision["error"] = known;
    }
    run.append_record(
        Record::Decided { call: name.to_owned(), decision, by: current_user() },
        Durability::Synced,
    )?;
    terminal::print_message(&format!("decided about {op} ({name}); the run goes on with"));
    terminal::print_message(&format!("redrill resume {id}"));
    Ok(0)
}

/// Returns the error for a call that cannot be decided about.
fn undecidable_error(id: &str, call: &str, open: &[&str], is_none: bool, fold: &RunFold) -> CliError {
    // A call that was cut short is looked up by a resume first; a person decides only what that cannot tell.
    if is_none
        && let Some((name, _)) =
            fold.open_calls().find(|(name, open)| open.op != APPROVE && name.contains(call))
    {
        let what = format!("the call `{name}` was cut short, and nobody has asked what came of it");
        return CliError::usage(what)
            .with_hint("a resume asks the world")
            .with_next_command(format!("redrill resume {id}"));
    }
    let known: Vec<String> = open.iter().map(|name| exit::quote_word(name)).collect();
    let what = if is_none { "no open call" } else { "more than one open call" };
    let hint = if known.is_empty() {
        "nothing in it is open".into()
    } else {
        format!("open are {}", known.join(", "))
    };
    CliError::usage(format!("the run `{id}` has {what} `{call}`")).with_hint(hint)
}

/// Returns the decision as it is recorded, after checking its result against the operation's fields.
fn resolution_to_json(
    world: &Runtime,
    op: &str,
    args: &Value,
    outcome: &CallResolution<'_>,
) -> Result<Value, CliError> {
    let result = match outcome {
        CallResolution::Redo => return Ok(json!({"kind": "redo"})),
        CallResolution::Fail => return Ok(json!({"kind": "fail"})),
        CallResolution::Created(id) => read_created_item(world, op, &args["target"], id)?,
        CallResolution::Returned(result) => serde_json::from_str(result)
            .map_err(|e| CliError::usage(format!("`--result` is no JSON: {e}")))?,
    };
    if let Some(op) = ops::find_operation(op) {
        check_result(op, &result)?;
    }
    Ok(json!({"kind": "done", "result": result}))
}

/// Returns what a call created, as the target lists it now.
fn read_created_item(world: &Runtime, op: &str, target: &Value, id: &str) -> Result<Value, CliError> {
    let lister = ops::find_operation(op).and_then(Operation::find_lister).ok_or_else(|| {
        CliError::usage(format!("`{op}` makes nothing that has an id"))
            .with_hint("give what it gave back with `--result`")
    })?;
    let args =
        CallArgs::decode(lister, vec![target.clone()], Map::new()).map_err(CliError::from_read_error)?;
    let (all, _) = perform_read(world, lister, &args)?;
    let is_it = |item: &&Value| value::untag_value(item).map_or(*item, |(_, inner)| inner)["id"] == id;
    let found = all.as_array().into_iter().flatten().find(is_it).cloned();
    found.ok_or_else(|| {
        let path = lister.path();
        CliError::usage(format!("`{path}` shows nothing with the id `{id}`"))
            .with_hint(format!("see `redrill {}`", path.replace("::", " ")))
    })
}

fn check_result(op: &Operation, result: &Value) -> Result<(), CliError> {
    let wrong = |message: String| {
        let known: Vec<&str> = op.returns.fields().iter().map(|f| f.name).collect();
        CliError::usage(message).with_hint(format!("`{}` gives back {}", op.path(), known.join(", ")))
    };
    if let Some(key) = value::find_stray_tag(result) {
        return Err(wrong(format!("`{key}` in `--result` is no tag")));
    }
    let items: Vec<&Value> = match (&op.returns, result) {
        (ReturnShape::Any, _) => return Ok(()),
        (ReturnShape::One(_), one) => vec![one],
        (ReturnShape::List(_) | ReturnShape::Rows, Value::Array(items)) => items.iter().collect(),
        _ => return Err(wrong("`--result` is not a list".into())),
    };
    let known = op.returns.fields();
    for item in items {
        let fields = value::untag_value(item).map_or(item, |(_, inner)| inner).as_object();
        let fields = fields.ok_or_else(|| wrong("`--result` is not an object".into()))?;
        let unknown = fields.keys().find(|key| !known.is_empty() && !known.iter().any(|f| f.name == *key));
        if let Some(unknown) = unknown {
            return Err(wrong(format!(
                "`--result` has `{unknown}`, which `{}` does not give back",
                op.path()
            )));
        }
        if let Some(missing) = known.iter().find(|field| !fields.contains_key(field.name)) {
            return Err(wrong(format!("`--result` lacks `{}`, and scripts read it", missing.name)));
        }
    }
    Ok(())
}

fn abandon_run(world: &Runtime, given: &str, output: ReportFormat) -> Result<u8, CliError> {
    let summary = find_run(world, given)?;
    if summary.status.is_final() {
        return Err(CliError::usage(format!("the run `{}` has ended as {}", summary.id, summary.status))
            .with_next_command(format!("redrill runs show {}", summary.id)));
    }
    Ok(run_and_report(world, output, QuestionPolicy::approvals_only(), &|_| Ok(()), |watch| {
        let journal = Arc::new(world.open_journal()?);
        // Nothing new is started on any target, so no name needs to be confirmed.
        let confirmed = world.fleet.target_configs().map(|target| target.name.clone()).collect();
        if summary.runbook == SESSION {
            return Ok(world.abandon_session(journal, &summary.id, confirmed, watch)?);
        }
        let (run, runbook, params) = Runtime::acquire_run(&journal, &summary.id)?;
        let resume = ResumeRequest { run, runbook, params, confirmed, abandon: true };
        Ok(world.resume_run(journal, resume, watch)?)
    }))
}

/// Ends a run without touching its targets, and records its open calls as left behind.
fn abandon_without_cleanup(world: &Runtime, given: &str) -> Result<u8, CliError> {
    let summary = find_run(world, given)?;
    let journal = open_journal(world)?;
    let run = journal.acquire_run(&summary.id)?;
    let open = run.open_calls().into_iter().map(|call| format!("what {call} began"));
    let left_behind: Vec<String> = summary.left_behind.into_iter().chain(open).collect();
    terminal::print_message(&format!(
        "given up; left behind: {}",
        if left_behind.is_empty() { "nothing".to_owned() } else { left_behind.join(", ") }
    ));
    let finished = Record::Finished { status: RunStatus::Abandoned, error: None, left_behind };
    run.append_record(finished, Durability::Synced)?;
    journal.release_leases(&summary.id)?;
    Ok(0)
}

fn verify_run(world: &Runtime, given: &str, head: Option<&str>, output: DataFormat) -> Result<u8, CliError> {
    let journal = open_journal(world)?;
    let id = journal.resolve_run_id(given)?;
    let verified =
        journal.verify_run(&id, head).map_err(|e| CliError::from(e).with_exit(exit_code::FAILED))?;
    let value = json!({"run": id, "ok": true, "records": verified.records, "head": verified.head});
    exit::print_value(&value, &["run".into(), "ok".into(), "records".into(), "head".into()], output)?;
    Ok(0)
}
