//! `runs decide`: a person says what came of a call that nobody else can know about.

use super::{operations::perform_read_with_columns, output, questions::current_user, run::require_journal};
use crate::{
    base::{shell, terminal, value},
    journal::{Decision, FoldedCall, Journal, RunFold, ScriptError, describe_landing_end},
    ops::{
        self,
        args::CallArgs,
        spec::{Evidence, Operation, ReturnShape, parse_target_ref},
    },
    provider::{
        Code, Error, Provider,
        model::{GivenUpJob, Job, UndoneJob},
    },
    report::{CliError, find_next_step, write_command_to_go_on, write_consent_options},
    runtime::{DecidableCall, DecisionRefusal, NeverMadeAgain, Runtime},
};
use clap::ValueEnum;
use serde_json::{Map, Value};
use std::sync::Arc;

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

/// A decision about a call, with the result where the call is done.
pub(super) enum CallResolution<'a> {
    Redo,
    Fail,
    Created(&'a str),
    Returned(&'a str),
}

impl DecisionArg {
    /// Combines the word with what `--id` or `--result` says of the call.
    ///
    /// # Errors
    /// `done` without either of them, or another word with one.
    pub(super) fn parse_resolution<'a>(
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

/// Records a decision about an open call of a run.
///
/// # Errors
/// The call is not one that a person decides about, or its result is not what its operation gives back.
pub(super) fn record_call_decision(
    runtime: &Runtime,
    run_or_prefix: &str,
    call: &str,
    resolution: &CallResolution<'_>,
    anyway: bool,
) -> Result<u8, CliError> {
    let journal = require_journal(runtime)?;
    let id = journal.resolve_run_id(run_or_prefix)?;
    if journal.summarize_run(&id)?.status.is_final() {
        return end_call_quarantine(runtime, &journal, &id, call, resolution, anyway);
    }
    let (open, undone) = match acquire_and_end_job(runtime, &journal, (&id, call), resolution, anyway) {
        Ok(acquired) => acquired,
        // What became of it is recorded, or not known yet; who waits for it can still be let go on.
        Err(DecisionObstacle::Refusal(
            DecisionRefusal::CutShort { .. } | DecisionRefusal::NotOne { is_none: true, .. },
        )) if anyway
            && matches!(resolution, CallResolution::Fail)
            && is_one_under_quarantine(&journal, &id, call)? =>
        {
            return end_call_quarantine(runtime, &journal, &id, call, resolution, anyway);
        }
        Err(DecisionObstacle::Refusal(why)) => return Err(refusal_to_error(runtime, &id, call, why)),
        Err(DecisionObstacle::Job(error)) => return Err(error),
    };
    let DecidableCall { name, op, args, known_error, .. } = &open;
    let known_error = undone.map(|undone| open.error_of_undone_job(&undone)).or_else(|| known_error.clone());
    let decision = resolution_to_decision(runtime, op, args, resolution, known_error)?;
    if matches!(decision, Decision::Done { .. }) {
        settle_recorded_job(runtime, &open)?;
    }
    let by = current_user();
    open.record_decision(&journal, &decision, if anyway { format!("{by}, with --anyway") } else { by })?;
    terminal::print_message(&format!("decided about {op} ({name}); the run goes on with"));
    drop(open);
    output::print_next_command(&find_next_step(runtime, &id).command);
    Ok(0)
}

/// Why nothing is decided about a call.
enum DecisionObstacle {
    /// It cannot be decided about.
    Refusal(DecisionRefusal),
    /// What it began on this machine is not at an end.
    Job(CliError),
}

/// Takes the call that somebody decides about. Before it is failed or made again, what this machine does itself for it is brought
/// to its end: nobody would take that up afterwards, and it would keep every later call away.
fn acquire_and_end_job(
    runtime: &Runtime,
    journal: &Journal,
    (id, given): (&str, &str),
    resolution: &CallResolution<'_>,
    anyway: bool,
) -> Result<(DecidableCall, Option<UndoneJob>), DecisionObstacle> {
    let ends_attempt = matches!(resolution, CallResolution::Redo | CallResolution::Fail);
    // What this machine does can land no more once it has ended.
    let (open, may_land) = match DecidableCall::acquire(journal, id, given, anyway) {
        Err(why @ DecisionRefusal::MayLand { .. }) if ends_attempt => {
            let open = DecidableCall::acquire(journal, id, given, true);
            (open.map_err(DecisionObstacle::Refusal)?, Some(why))
        }
        open => (open.map_err(DecisionObstacle::Refusal)?, None),
    };
    if !ends_attempt {
        return Ok((open, None));
    }
    if matches!(resolution, CallResolution::Redo) {
        open.check_is_made_again().map_err(DecisionObstacle::Refusal)?;
    }
    let stopped =
        |error: CliError| DecisionObstacle::Job(error.with_next_command(find_next_step(runtime, id).command));
    match (give_up_recorded_job(runtime, &open.args, open.accepted.as_ref()), may_land) {
        (Err(why), _) => Err(stopped(unended_job_error(&open.name, &why))),
        (Ok(GivenUpJob::OfPlatform), Some(why)) => Err(DecisionObstacle::Refusal(why)),
        (Ok(GivenUpJob::OfPlatform), None) => Ok((open, None)),
        (Ok(GivenUpJob::Done), _) if !anyway => Err(stopped(done_job_error(&open.name))),
        (Ok(ended), _) => {
            open.note_job_given_up(journal).map_err(|e| DecisionObstacle::Refusal(e.into()))?;
            let undone = match ended {
                GivenUpJob::Undone(undone) => Some(undone),
                _ => None,
            };
            Ok((open, undone))
        }
    }
}

fn done_job_error(call: &str) -> CliError {
    CliError::usage(format!("what the call `{call}` began is done; nothing was decided"))
        .with_hint("a resume goes on from it; or decide all the same, with `--anyway`")
}

fn unended_job_error(call: &str, why: &Error) -> CliError {
    let what = format!("what the call `{call}` began on this machine could not be brought to an end");
    CliError::usage(format!("{what}; nothing was decided: {}", why.message)).with_hint(match why.code {
        Code::NotFound | Code::Invalid if why.hint.is_some() => why.hint.clone().unwrap_or_default(),
        _ => "mend that, and decide again: it goes on from there".into(),
    })
}

/// Gives up what a call has begun on this machine. A run that goes on finds that it has failed.
///
/// # Errors
/// What is left of it, and why.
fn give_up_job_of_call(runtime: &Runtime, call: Option<&FoldedCall>) -> Result<GivenUpJob, Error> {
    let Some(call) = call.filter(|call| call.is_open()) else { return Ok(GivenUpJob::OfPlatform) };
    give_up_recorded_job(runtime, &call.args, call.last_accepted())
}

/// Gives up the job that a call was given to wait on, where this machine does it.
///
/// # Errors
/// What is left of the job, and why; that the target cannot be opened, which alone knows whether this machine does it.
fn give_up_recorded_job(
    runtime: &Runtime,
    args: &Value,
    accepted: Option<&Value>,
) -> Result<GivenUpJob, Error> {
    let Some(job) = accepted_job(accepted) else { return Ok(GivenUpJob::OfPlatform) };
    runtime.block_on(open_target_of_job(runtime, args)?.give_job_up(&job))
}

/// Opens the target of a call that was given a job to wait on.
///
/// # Errors
/// Why it cannot be opened here, with what to type.
fn open_target_of_job(runtime: &Runtime, args: &Value) -> Result<Arc<dyn Provider>, Error> {
    let name = parse_target_ref(&args["target"])?.target;
    runtime.fleet.open_target(&name).map_err(|why| {
        let message = format!("its target `{name}` cannot be opened here: {}", why.message);
        Error { message, ..why }.with_hint(format!(
            "type it where `{name}` is configured, or name that configuration with `--config FILE`; one that was renamed or \
             removed has to be put back until then"
        ))
    })
}

/// Writes down for the machine, too, that the job of a call is done: no later restore undoes it then.
///
/// # Errors
/// Why it cannot be done.
fn settle_recorded_job(runtime: &Runtime, open: &DecidableCall) -> Result<(), CliError> {
    let Some(job) = accepted_job(open.accepted.as_ref()) else { return Ok(()) };
    let settled = open_target_of_job(runtime, &open.args)
        .and_then(|target| runtime.block_on(target.settle_job_as_done(&job)));
    settled.map_err(|why| {
        let what =
            format!("what the call `{}` began is not known to be done; nothing was decided", open.name);
        CliError::usage(format!("{what}: {}", why.message))
            .with_hint(why.hint.unwrap_or_else(|| "a resume goes on with it".into()))
            .with_next_command(find_next_step(runtime, open.run_id()).command)
    })
}

fn accepted_job(accepted: Option<&Value>) -> Option<Job> {
    match accepted.map(Evidence::decode) {
        Some(Ok(Evidence::Accepted { job })) => Some(job),
        _ => None,
    }
}

/// Returns whether one call of a run has this name of which a request may still take effect.
fn is_one_under_quarantine(journal: &Journal, id: &str, given: &str) -> Result<bool, CliError> {
    let (fold, _) = RunFold::fold_until_illegal(&journal.read_intact_records(id)?.0);
    let landings = journal.list_landing_ends(id)?;
    Ok(landings.keys().filter(|call| fold.is_named(given, call)).count() == 1)
}

/// Ends the quarantine of a call, and records nothing: the run has ended, or goes on by what is recorded of the call.
fn end_call_quarantine(
    runtime: &Runtime,
    journal: &Journal,
    id: &str,
    given: &str,
    resolution: &CallResolution<'_>,
    anyway: bool,
) -> Result<u8, CliError> {
    let landings = journal.list_landing_ends(id)?;
    let (fold, _) = RunFold::fold_until_illegal(&journal.read_intact_records(id)?.0);
    let quarantined = landings.iter().filter(|(call, _)| fold.is_named(given, call));
    let mut named: Vec<_> = quarantined.map(|(call, until)| (call.as_str(), Some(*until))).collect();
    if named.is_empty() {
        // Its quarantine may be gone, and what it began on this machine may not.
        let begun = fold.open_calls().filter(|(call, open)| {
            fold.is_named(given, call) && accepted_job(open.last_accepted()).is_some()
        });
        named.extend(begun.map(|(call, _)| (call, None)));
    }
    let [(call, until)] = named[..] else {
        return Err(no_quarantined_call_error(id, given, landings.keys()));
    };
    let pending = match until {
        Some(until) => {
            format!("a request of its call `{call}` may still take effect, {}", describe_landing_end(until))
        }
        None => format!("what its call `{call}` began on this machine may not be at its end"),
    };
    if !anyway || !matches!(resolution, CallResolution::Fail) {
        return Err(CliError::usage(format!("the run `{id}` has ended, and {pending}"))
            .with_hint(
                "all that is left to decide is that nothing waits for it any more: `fail`, with `--anyway`",
            )
            .with_next_command(format!(
                "redrill runs decide {id} {} fail --anyway",
                shell::quote_shell_word(call)
            )));
    }
    // Its process may still be at its end.
    let run = journal.acquire_run(id)?;
    let given_up =
        give_up_job_of_call(runtime, fold.call(call)).map_err(|why| unended_job_error(call, &why))?;
    journal.lift_quarantines(id, call)?;
    drop(run);
    let what = match given_up {
        GivenUpJob::Undone(undone) if !undone.left_behind.is_empty() => {
            let kept = undone.left_behind.join(", ");
            format!("what {call} began on this machine is undone; left behind: {kept}")
        }
        GivenUpJob::Undone(_) => format!("what {call} began on this machine is undone"),
        GivenUpJob::Done => format!("what {call} began on this machine is done"),
        GivenUpJob::OfPlatform => match until {
            Some(until) => {
                let until = describe_landing_end(until);
                format!(
                    "nothing waits any more for what {call} asked for, which may still take effect, {until}"
                )
            }
            None => format!("nothing of what {call} began is this machine's own work"),
        },
    };
    terminal::print_message(&format!("{what}; nothing is recorded in the run"));
    Ok(0)
}

/// Returns the error for a call of a run that has ended, of which no request may still take effect.
fn no_quarantined_call_error<'a>(id: &str, given: &str, left: impl Iterator<Item = &'a String>) -> CliError {
    let left: Vec<String> = left.map(|call| shell::quote_shell_word(call)).collect();
    let hint = if left.is_empty() {
        "there is nothing left of it to decide about".into()
    } else {
        format!("a request may still take effect of {}", left.join(", "))
    };
    CliError::usage(format!(
        "the run `{id}` has ended, and `{given}` names no one call of it that may still take effect"
    ))
    .with_hint(hint)
}

/// Returns the error for a call that cannot be decided about.
fn refusal_to_error(runtime: &Runtime, id: &str, given: &str, refusal: DecisionRefusal) -> CliError {
    let (open, is_none) = match refusal {
        DecisionRefusal::Journal(error) => return error.into(),
        DecisionRefusal::CutShort { call } => {
            let what = format!("the call `{call}` was cut short, and it is not known yet what came of it");
            return CliError::usage(format!("{what}; nothing was decided"))
                .with_hint("a resume looks for that, until it is known")
                .with_next_command(write_command_to_go_on(runtime, id));
        }
        DecisionRefusal::IsGate { call, is_awaited } => {
            return approval_decided_elsewhere_error(runtime, id, &call, is_awaited);
        }
        DecisionRefusal::MayLand { call, until } => {
            let until = describe_landing_end(until);
            return CliError::usage(format!(
                "a request of the call `{call}` may still take effect, {until}: nothing that is decided now would stop it"
            ))
            .with_hint("a resume looks on; or decide all the same, with `--anyway`")
            .with_next_command(write_command_to_go_on(runtime, id));
        }
        DecisionRefusal::NeverMadeAgain { call, why } => {
            return not_made_again_error(runtime, id, &call, why);
        }
        DecisionRefusal::NotOne { open, is_none } => (open, is_none),
    };
    let known: Vec<String> = open.iter().map(|name| shell::quote_shell_word(name)).collect();
    let what = if is_none { "no open call" } else { "more than one open call" };
    let hint = if known.is_empty() {
        "nothing in it is open".into()
    } else {
        format!("open are {}", known.join(", "))
    };
    CliError::usage(format!("the run `{id}` has {what} `{given}`; nothing was decided"))
        .with_hint(hint)
        .with_next_command(format!("redrill runs show {id}"))
}

/// Returns the error for a call that nobody would make again.
fn not_made_again_error(runtime: &Runtime, id: &str, call: &str, why: NeverMadeAgain) -> CliError {
    let (what, hint) = match why {
        NeverMadeAgain::GivenUp => (
            "its run is given up, in which nothing is made again",
            "decide `fail`, or `done` where it was made; or give the run up as it stands",
        ),
        NeverMadeAgain::GonePast => (
            "the text handles its error, and the run has gone on behind it",
            "go on from there; or edit the text, so that it makes the call again under another name",
        ),
    };
    CliError::usage(format!("the call `{call}` would not be made again: {what}; nothing was decided"))
        .with_hint(hint)
        .with_next_command(find_next_step(runtime, id).command)
}

/// Returns the error for a gate: it has commands of its own.
fn approval_decided_elsewhere_error(runtime: &Runtime, id: &str, gate: &str, is_awaited: bool) -> CliError {
    if !is_awaited {
        return CliError::usage(format!(
            "`{gate}` is an approval, and the run does not wait for it; nothing was decided"
        ))
        .with_hint("an approval that was given and not gone on from is taken back with `reject`")
        .with_next_command(format!("redrill runs show {id}"));
    }
    let error = CliError::usage(format!(
        "`{gate}` is an approval, which is approved or rejected; nothing was decided"
    ));
    let step = find_next_step(runtime, id);
    // Whoever has said no to a gate beside it, say, is given no approval to type.
    if !step.is_approval {
        return CliError { hint: step.hint, ..error }.with_next_command(step.command);
    }
    let (gate_word, confirm) = (shell::quote_shell_word(gate), write_consent_options(runtime, id));
    error
        .with_hint(format!("or `redrill reject {id} {gate_word} --resume{confirm}`"))
        .with_next_command(format!("redrill approve {id} {gate_word} --resume{confirm}"))
}

/// Returns the decision, after checking its result against the operation's fields. A call that is decided to have
/// failed, or to be made again, keeps its `known` error: whoever decides otherwise afterwards finds it.
fn resolution_to_decision(
    runtime: &Runtime,
    op: &str,
    args: &Value,
    resolution: &CallResolution<'_>,
    known: Option<ScriptError>,
) -> Result<Decision, CliError> {
    let result = match resolution {
        CallResolution::Redo => return Ok(Decision::Redo { error: known }),
        CallResolution::Fail => return Ok(Decision::Fail { error: known }),
        CallResolution::Created(id) => read_created_item(runtime, op, &args["target"], id)?,
        CallResolution::Returned(result) => serde_json::from_str(result)
            .map_err(|e| CliError::usage(format!("`--result` is no JSON: {e}")))?,
    };
    if let Some(op) = ops::find_operation(op) {
        check_result(op, args, &result)?;
    }
    Ok(Decision::Done { result })
}

/// Returns what a call created, as the target lists it now.
fn read_created_item(runtime: &Runtime, op: &str, target: &Value, id: &str) -> Result<Value, CliError> {
    let lister = ops::find_operation(op).and_then(ops::find_list_operation).ok_or_else(|| {
        CliError::usage(format!("`{op}` makes nothing that has an id"))
            .with_hint("give what it gave back with `--result`")
    })?;
    let args =
        CallArgs::decode(lister, vec![target.clone()], Map::new()).map_err(CliError::from_provider_error)?;
    let (all, _) = perform_read_with_columns(runtime, lister, &args)?;
    let is_it = |item: &&Value| value::untag_value(item).map_or(*item, |(_, inner)| inner)["id"] == id;
    let found = all.as_array().into_iter().flatten().find(is_it).cloned();
    found.ok_or_else(|| {
        let path = lister.path();
        CliError::usage(format!("`{path}` shows nothing with the id `{id}`"))
            .with_hint(format!("see `redrill {}`", path.replace("::", " ")))
    })
}

/// Checks that a result has the fields that its operation gives back, and no others.
fn check_result(op: &Operation, args: &Value, result: &Value) -> Result<(), CliError> {
    let wrong = |message: String| {
        let known: Vec<&str> = ops::list_returned_fields(op, args).iter().map(|f| f.name).collect();
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
    let known = ops::list_returned_fields(op, args);
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
