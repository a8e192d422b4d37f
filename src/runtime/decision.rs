//! What a person decides: how they are asked, and what becomes of a run after a failed call.

use super::{
    observer::{Answer, Choice, Question, RunObserver, Withdrawal},
    run_context::RunContext,
    stop::{NativeError, StopReason},
};
use crate::{
    base::lock::lock_unpoisoned,
    journal::{CallState, Decision, Durability, Failure, Record},
};
use std::sync::Arc;

/// Asks the observer, one question at a time. A stopped run does not wait for the answer, and withdraws the question.
pub(super) fn ask_observer(
    context: &Arc<RunContext>,
    question: Question,
) -> Result<Option<Answer>, NativeError> {
    let turn = lock_unpoisoned(&context.asking);
    let answer =
        context.wait_until_ready_or_stopped(ask_on_own_thread(Arc::clone(&context.observer), question))?;
    drop(turn);
    Ok(answer)
}

/// Asks an observer on a thread of its own, because a person who reads takes time. The question is withdrawn when this is
/// dropped.
pub(super) async fn ask_on_own_thread(observer: Arc<dyn RunObserver>, question: Question) -> Option<Answer> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let standing = StandingQuestion::default();
    let withdrawal = standing.0.clone();
    let asking = std::thread::Builder::new().name("question".into()).spawn(move || {
        drop(tell.send(observer.ask_person(&question, &withdrawal)));
    });
    let answer = told.await;
    drop((asking, standing));
    answer.ok().flatten()
}

/// A question that stands; withdrawn on drop.
#[derive(Default)]
struct StandingQuestion(Withdrawal);

impl Drop for StandingQuestion {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

/// Returns the time since when a call waits, as text.
pub(super) fn waiting_since(context: &RunContext, call: &str) -> String {
    let at = context.run.call_last_changed_at(call).unwrap_or_else(|| context.fleet.clock().now());
    at.0.round(jiff::Unit::Second).unwrap_or(at.0).to_string()
}

/// What to do with a run after a failed call.
pub(super) enum FailureDecision {
    /// It ends as failed.
    EndRun,
    /// It is evaluated again, with the decision recorded.
    EvaluateAgain,
    /// It stops.
    StopRun,
}

/// Asks a person about the call that failed a run. An error that the script raised itself is not asked about.
pub(super) fn ask_about_failure(
    context: &Arc<RunContext>,
    failure: &Failure,
) -> Result<FailureDecision, NativeError> {
    let fault = &failure.fault;
    let call = match fault.call_name.as_deref() {
        Some(call) if !fault.decided && !context.run.is_ending() && !context.is_settling() => call,
        _ => return Ok(FailureDecision::EndRun),
    };
    let op = fault.operation.as_deref().unwrap_or("");
    let message = &fault.message;
    let past = context.call_state(call)?;
    let held = matches!(past, CallState::Started { decision: Some(Decision::Hold { .. }), .. });
    let question =
        Question::FailedCall { call: call.to_owned(), op: op.to_owned(), message: message.clone() };
    let answer = ask_observer(context, question)?;
    let error = fault.clone();
    let (decision, by) = match answer {
        None if !held => return Ok(FailureDecision::EndRun),
        None => (Decision::Hold { error }, String::new()),
        Some(Answer { choice: Choice::Redo, by }) => (Decision::Redo { error: Some(error) }, by),
        Some(Answer { choice: Choice::Hold, by }) => (Decision::Hold { error }, by),
        Some(Answer { by, .. }) => (Decision::Fail { error: Some(error) }, by),
    };
    let holds = matches!(decision, Decision::Hold { .. });
    if !holds || !held {
        let record = Record::Decided { call: call.to_owned(), decision: decision.to_json(), by };
        context.stop_on_journal_error(context.run.append_record(record, Durability::Synced))?;
    }
    if !holds {
        return Ok(FailureDecision::EvaluateAgain);
    }
    let since = waiting_since(context, call);
    let reason = format!(
        "is held since {since} at {call}, which whoever can write the state folder may decide about: `{op}` failed: {message}"
    );
    drop(context.stopper.stop_run(StopReason::Waiting { call: call.to_owned(), reason }));
    Ok(FailureDecision::StopRun)
}
