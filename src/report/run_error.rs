//! How a run that ended or stopped is told as the error of a command.

use super::{
    error::CliError,
    exit_code::{FAILED, INTERRUPTED, MISMATCH, REFUSED, UNDECIDED, WAITING},
    fault_text::{explain_unknown_function, list_clean_up_lines, list_fault_facts},
    next_step::{NextStep, hint_at_mismatch, hint_at_rejected_edit, render_resume},
};
use crate::{
    base::shell::quote_shell_word,
    journal::{Failure, RunStatus},
    runtime::{EvalError, RunResult, StopReason, unconfirmed_message_and_hint},
};

impl CliError {
    /// Returns what kept a run from ending well; nothing when it did. `consent` is what it takes to resume it: see
    /// [`super::write_consent_options`].
    pub fn from_run_result(ended: &RunResult, consent: &str) -> Option<Self> {
        let mut error = match (&ended.stop, &ended.failure) {
            (Some(stop), _) => error_from_stop(stop, &ended.run, consent),
            (None, Some(failure)) => Self::from_failure(failure),
            (None, None) if ended.cleanup.is_empty() => return None,
            (None, None) => Self::usage("the clean-up failed").with_exit(FAILED),
        };
        error.facts.extend(ended.cleanup.iter().flat_map(list_clean_up_lines));
        let run = &ended.run;
        match (&ended.stop, ended.is_given_up) {
            (Some(StopReason::Refused { .. } | StopReason::Unconfirmed { .. }), true) => {
                let hint = error.hint.take().unwrap_or_default();
                error.next = Some(format!("redrill runs abandon {run} --leave"));
                error.hint = Some(format!(
                    "{hint}, with `redrill runs abandon {run}`\n      or end it as it is, without clean-up"
                ));
            }
            (Some(StopReason::Unreadable(_)), true) => {
                error.next = Some(format!("redrill runs abandon {run} --leave"));
            }
            (Some(StopReason::Undecided { call, .. }), true) => {
                error.hint = Some(hint_at_undecided(run, call, false));
                error.next = Some(format!("redrill runs abandon {run}"));
            }
            (Some(_), true) => error.next = Some(format!("redrill runs abandon {run}")),
            (_, _) => {}
        }
        if error.next.is_none() {
            error.next = Some(format!("redrill runs show {}", ended.run));
        }
        Some(error)
    }

    /// Replaces what to type next by what the run's records say, where it stands still and can go on.
    #[must_use]
    pub fn with_next_step(mut self, ended: &RunResult, step: NextStep) -> Self {
        let goes_on = matches!(
            ended.stop,
            Some(
                StopReason::Waiting { .. }
                    | StopReason::TakenOver { .. }
                    | StopReason::Interrupted
                    | StopReason::Undecided { .. }
                    | StopReason::Refused { .. }
                    | StopReason::Unconfirmed { .. }
                    | StopReason::Mismatch { .. }
                    | StopReason::EditRejected { .. }
                    | StopReason::Leased(_)
            )
        );
        // A target that keeps the run from being given up would do so again, and that it did is not recorded.
        let is_kept = ended.is_given_up
            && matches!(ended.stop, Some(StopReason::Refused { .. } | StopReason::Unconfirmed { .. }));
        if goes_on && !is_kept {
            self.next = Some(step.command);
            // What became of the edit is recorded nowhere else.
            let told = self.hint.take_if(|_| step.hint.is_none() || is_edit_dropped(ended));
            let hints: Vec<String> = told.into_iter().chain(step.hint).collect();
            self.hint = Some(hints.join("\n      ")).filter(|hint| !hint.is_empty());
        }
        self
    }

    /// Returns the exit code of a run that has ended or stopped.
    pub fn exit_code_of(ended: &RunResult) -> u8 {
        match ended.status {
            RunStatus::Succeeded => 0,
            RunStatus::Waiting => WAITING,
            // Abandoning was asked for, so it is a success unless the clean-up failed.
            RunStatus::Abandoned if ended.cleanup.is_empty() => 0,
            _ => Self::from_run_result(ended, "").map_or(FAILED, |error| error.exit),
        }
    }

    /// Returns the error that ended a script.
    pub fn from_failure(failure: &Failure) -> Self {
        let fault = &failure.fault;
        let (message, hint) = match explain_unknown_function(&fault.message) {
            Some((message, hint)) => (message, hint),
            None => (fault.message.clone(), fault.hint.clone()),
        };
        Self {
            message,
            place: failure.place.clone(),
            hint,
            facts: list_fault_facts(fault),
            exit: FAILED,
            next: None,
        }
    }

    /// Returns why an input at the prompt gave no value; `run` is the session's.
    pub fn from_eval_error(unfinished: &EvalError, run: &str) -> Self {
        match unfinished {
            EvalError::Parse(error) => error.clone().into(),
            EvalError::Failed(failure) => Self::from_failure(failure),
            EvalError::Stopped(stop) => error_from_stop_of_session(stop, run),
        }
    }

    /// Returns what kept a session from ending well; nothing when it did. Of one that stopped, `next` is what its records say.
    pub fn from_session_result(ended: &RunResult, next: &NextStep) -> Option<Self> {
        let error = Self::from_run_result(ended, "")?;
        let Some(stop) = &ended.stop else { return Some(error) };
        Some(Self {
            hint: next.hint.clone().or_else(|| error_from_stop_of_session(stop, &ended.run).hint),
            next: Some(next.command.clone()),
            ..error
        })
    }
}

/// Returns what can be typed about a call of which nobody knows whether it took effect.
fn hint_at_undecided(run: &str, call: &str, may_be_made_again: bool) -> String {
    let call = quote_shell_word(call);
    let redo = if may_be_made_again { ", `redo` in its place makes it again," } else { "" };
    format!(
        "the run looks again, where the target keeps a trace of it, once it is gone on with; or look yourself and say what is \
         so: `redrill runs decide {run} {call} fail`{redo} and `done --id ID` or `done --result JSON` say that it was made; \
         while a request of it may still take effect, add `--anyway`"
    )
}

fn is_edit_dropped(ended: &RunResult) -> bool {
    matches!(ended.stop, Some(StopReason::EditRejected { is_dropped: true, .. }))
}

/// Returns the error of a session that stopped, without what would resume a run: a session is not resumed.
fn error_from_stop_of_session(stop: &StopReason, run: &str) -> CliError {
    let error = CliError { next: None, ..error_from_stop(stop, run, "") };
    match stop {
        StopReason::Undecided { .. } | StopReason::Mismatch { .. } | StopReason::EditRejected { .. } => {
            CliError { hint: None, ..error }
        }
        _ => error,
    }
}

fn error_from_stop(stop: &StopReason, run: &str, consent: &str) -> CliError {
    let resume = render_resume(run, consent);
    let stopped =
        |message: &str, exit| CliError::usage(message).with_exit(exit).with_next_command(resume.clone());
    match stop {
        StopReason::Waiting { reason, .. } => stopped(reason, WAITING),
        StopReason::TakenOver { by } => stopped(&format!("taken over by {by}"), INTERRUPTED),
        StopReason::Interrupted => stopped("interrupted", INTERRUPTED),
        StopReason::Undecided { call, reason } => {
            stopped(reason, UNDECIDED).with_hint(hint_at_undecided(run, call, true))
        }
        StopReason::Mismatch { message } => stopped(message, MISMATCH)
            .with_hint(hint_at_mismatch(run, consent))
            .with_next_command(format!("redrill runs show {run}")),
        StopReason::EditRejected { message, is_dropped } => stopped(message, MISMATCH)
            .with_hint(hint_at_rejected_edit(run, consent, *is_dropped))
            .with_next_command(if *is_dropped { resume } else { format!("redrill runs abandon {run}") }),
        StopReason::Unreadable(record) => stopped(&record.to_string(), MISMATCH)
            .with_hint(format!(
                "{}\n      or give the run up as it is: `redrill runs abandon {run} --leave`",
                record.hint()
            ))
            .with_next_command(format!("redrill runs show {run}")),
        StopReason::Unconfirmed { target } => {
            let (message, hint) = unconfirmed_message_and_hint(target);
            stopped(&message, REFUSED).with_hint(hint)
        }
        StopReason::Refused { message, hint } => stopped(message, REFUSED).with_hint(hint.clone()),
        StopReason::Leased(error) => CliError { next: Some(resume.clone()), ..CliError::from(error.clone()) },
        StopReason::Journal(error) => {
            CliError { next: Some(resume.clone()), exit: FAILED, ..CliError::from(error.clone()) }
        }
        StopReason::Abandoned => stopped("the run was given up", FAILED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::painter::Painter,
        journal::{self, ScriptError},
    };
    use serde_json::Value;

    fn ended_run(status: RunStatus, stop: Option<StopReason>) -> RunResult {
        RunResult {
            run: "abcd2345".into(),
            status,
            head: String::new(),
            value: Value::Null,
            failure: None,
            stop,
            cleanup: vec![],
            left_behind: vec![],
            is_given_up: false,
        }
    }

    fn unreadable_record() -> journal::UnreadableRecord {
        let (subject, what) = ("/now#0".to_owned(), "5 is no moment".to_owned());
        journal::UnreadableRecord { subject, what, version: "9.9.9".into() }
    }

    fn edit_rejected(is_dropped: bool) -> StopReason {
        StopReason::EditRejected { message: "ann rejected the edited text".into(), is_dropped }
    }

    #[test]
    fn whoever_rejected_an_edit_is_told_what_becomes_of_it() {
        for (is_dropped, said, next) in [
            (true, "the edited text is dropped, and nothing of it was done", "redrill resume abcd2345"),
            (false, "something of the edited text was done before", "redrill runs abandon abcd2345"),
        ] {
            let ended = ended_run(RunStatus::Interrupted, Some(edit_rejected(is_dropped)));
            let error = CliError::from_run_result(&ended, "").expect("is an error");
            assert!(error.hint.as_deref().is_some_and(|hint| hint.contains(said)), "{error:?}");
            assert_eq!(error.next.as_deref(), Some(next));
        }
    }

    #[test]
    fn what_goes_on_with_giving_up_is_no_resume() {
        let stopped = ended_run(RunStatus::Interrupted, Some(StopReason::Interrupted));
        let next = |ended: &RunResult| CliError::from_run_result(ended, "").and_then(|error| error.next);
        assert_eq!(next(&stopped).as_deref(), Some("redrill resume abcd2345"));
        let given_up = RunResult { is_given_up: true, ..stopped };
        assert_eq!(next(&given_up).as_deref(), Some("redrill runs abandon abcd2345"));
    }

    #[test]
    fn every_way_to_stop_has_its_exit_code_and_a_command_to_type_next() {
        let call = "/back up#0/backup::create#0".to_owned();
        let stops = [
            (RunStatus::Interrupted, StopReason::Interrupted, INTERRUPTED),
            (RunStatus::Undecided, StopReason::Undecided { call, reason: "no answer".into() }, UNDECIDED),
            (RunStatus::Interrupted, StopReason::Mismatch { message: "another".into() }, MISMATCH),
            (RunStatus::Interrupted, edit_rejected(true), MISMATCH),
            (RunStatus::Interrupted, edit_rejected(false), MISMATCH),
            (RunStatus::Interrupted, StopReason::Unreadable(unreadable_record()), MISMATCH),
            (
                RunStatus::Interrupted,
                StopReason::Refused { message: "no".into(), hint: "ask".into() },
                REFUSED,
            ),
        ];
        for (status, stop, exit) in stops {
            let ended = ended_run(status, Some(stop));
            assert_eq!(CliError::exit_code_of(&ended), exit, "{:?}", ended.stop);
            let text =
                CliError::from_run_result(&ended, "").expect("is an error").render_text(Painter::PLAIN);
            let next = text.lines().last().unwrap_or_default();
            assert!(next.starts_with("redrill ") && next.ends_with("abcd2345"), "{text}");
        }
    }

    #[test]
    fn ends_have_the_exit_code_of_what_they_came_to() {
        assert_eq!(CliError::exit_code_of(&ended_run(RunStatus::Succeeded, None)), 0);
        assert_eq!(CliError::exit_code_of(&ended_run(RunStatus::Abandoned, None)), 0);
        assert_eq!(CliError::exit_code_of(&ended_run(RunStatus::Waiting, None)), WAITING);
        let untidy = RunResult {
            cleanup: vec![Failure {
                fault: ScriptError {
                    hint: Some("remove it".into()),
                    left_behind: vec!["branch lab/x".into()],
                    ..ScriptError::new("TOOL", "the branch is still there")
                },
                place: None,
            }],
            ..ended_run(RunStatus::Failed, None)
        };
        assert_eq!(CliError::exit_code_of(&untidy), FAILED);
        let text = CliError::from_run_result(&untidy, "").expect("is an error").render_text(Painter::PLAIN);
        let said = "  clean-up failed: the branch is still there\n    TOOL\n    left behind: branch lab/x\n    hint: remove it";
        assert!(text.contains(said), "{text}");
    }
}
