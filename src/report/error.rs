//! The error of a command: the message, what to do next, and the exit code.
//!
//! The errors of all rooms are turned into it here and nowhere else.

use super::{
    exit_code::{BUG, FAILED, INTERRUPTED, MISMATCH, REFUSED, UNDECIDED, USAGE, WAITING},
    next_step::{NextStep, hint_at_lost_cleanup},
};
use crate::{
    base::{
        painter::Painter,
        shell::{command_line_with, locate_command, locate_quoted_commands, quote_shell_word},
        suggest,
    },
    journal::{self, Failure, PlaceDoubt, RunStatus, ScriptError, SideEffects, SourceLocation},
    ops::{self, spec::Operation},
    provider,
    runtime::{EvalError, NATIVES, Refusal, RunResult, RunbookError, StopReason, check},
};
use std::io;

/// Why a command did not end well.
#[derive(Debug, Clone, PartialEq)]
pub struct CliError {
    /// What happened, to what.
    pub message: String,
    /// Where in a script.
    pub place: Option<SourceLocation>,
    /// What to do now.
    pub hint: Option<String>,
    /// What else there is to know, a line each.
    pub facts: Vec<String>,
    pub exit: u8,
    /// The command to type next.
    pub next: Option<String>,
}

impl CliError {
    /// Returns an error of usage: nothing was done.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, hint: None, facts: vec![], exit: USAGE, next: None }
    }

    /// Adds what to do now.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the exit code.
    #[must_use]
    pub fn with_exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }

    /// Adds the command to type next.
    #[must_use]
    pub fn with_next_command(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Returns the error of an operation that was performed without a run.
    pub fn from_provider_error(error: provider::Error) -> Self {
        let exit = match error.code {
            provider::Code::Invalid => USAGE,
            provider::Code::Internal => BUG,
            _ => FAILED,
        };
        Self { exit, ..error.into() }
    }

    /// Returns what kept a run from ending well; nothing when it did.
    pub fn from_run_result(ended: &RunResult) -> Option<Self> {
        let mut error = match (&ended.stop, &ended.failure) {
            (Some(stop), _) => error_from_stop(stop, &ended.run),
            (None, Some(failure)) => Self::from_failure(failure),
            (None, None) if ended.cleanup.is_empty() => return None,
            (None, None) => Self::usage("the clean-up failed").with_exit(FAILED),
        };
        error.facts.extend(ended.cleanup.iter().map(|wrong| format!("clean-up failed: {wrong}")));
        let run = &ended.run;
        match (&ended.stop, ended.is_given_up) {
            // The same would be met again: only its records can still end the run.
            (Some(StopReason::Mismatch { .. }), true) => {
                error.next = Some(format!("redrill runs abandon {run} --leave"));
                error.hint = Some(hint_at_lost_cleanup(run));
            }
            (Some(StopReason::Refused { hint, .. }), true) => {
                error.next = Some(format!("redrill runs abandon {run} --leave"));
                error.hint = Some(format!(
                    "{hint}, with `redrill runs abandon {run}`\n      or end it as it is, without clean-up"
                ));
            }
            (Some(StopReason::Unreadable(_)), true) => {
                error.next = Some(format!("redrill runs abandon {run} --leave"));
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
                    | StopReason::Mismatch { .. }
                    | StopReason::Leased(_)
            )
        );
        // Whoever gives a run up comes to its clean-up, and a gate there is one like any other.
        let is_at_gate = matches!(ended.stop, Some(StopReason::Waiting { .. }));
        if goes_on && ended.is_given_up && step.is_decision {
            self.hint = step.hint.map(|hint| {
                let run = &ended.run;
                format!(
                    "{hint}\n      once it is decided, `redrill runs abandon {run}` goes on to give the run up; as it is, \
                     without clean-up: `redrill runs abandon {run} --leave`"
                )
            });
            self.next = Some(step.command);
        } else if goes_on && (is_at_gate || !ended.is_given_up) {
            self.next = Some(step.command);
            self.hint = step.hint.or(self.hint);
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
            _ => Self::from_run_result(ended).map_or(FAILED, |error| error.exit),
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
            facts: fault_facts(fault),
            exit: FAILED,
            next: None,
        }
    }

    /// Returns why an input at the prompt gave no value; `run` is the session's.
    pub fn from_eval_error(unfinished: &EvalError, run: &str) -> Self {
        match unfinished {
            EvalError::Parse(error) => error.clone().into(),
            EvalError::Failed(failure) => Self::from_failure(failure),
            EvalError::Stopped(stop) => error_from_stop(stop, run),
        }
    }

    /// Returns what to do now, with commands that find the configuration and the state of this one.
    pub fn located_hint(&self) -> Option<String> {
        self.hint.as_deref().map(locate_quoted_commands)
    }

    /// Returns the command to type next, so that it finds the configuration and the state of this one.
    pub fn located_next(&self) -> Option<String> {
        self.next.as_deref().map(locate_command)
    }

    /// Returns the text without the command to type next.
    pub fn render_body(&self, ink: Painter) -> String {
        let mut lines = vec![format!("{} {}", ink.red("error:"), self.message)];
        lines.extend(self.place.as_ref().map(render_place));
        lines.extend(self.facts.iter().map(|fact| format!("  {fact}")));
        lines.extend(self.located_hint().map(|hint| format!("{} {hint}", ink.bold("hint:"))));
        lines.join("\n")
    }

    /// Returns the whole text; the command to type next is its last line.
    pub fn render_text(&self, ink: Painter) -> String {
        [Some(self.render_body(ink)), self.located_next()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Returns a place with its source line and a caret under the column.
pub fn render_place(place: &SourceLocation) -> String {
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    // A tab is as wide in the line of the caret as in the line above it.
    let before: String =
        place.text.chars().take(place.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    format!(
        "{margin}--> {}:{}:{}\n{margin} |\n{number} | {}\n{margin} | {before}^",
        place.file, place.line, place.column, place.text
    )
}

/// Rewords the script engine's "function not found", which suggests no name and does not say when only
/// the arguments are wrong.
fn explain_unknown_function(message: &str) -> Option<(String, Option<String>)> {
    let (name, arguments) = message.strip_prefix("Function not found: ")?.split_once(" (")?;
    let arguments = arguments.strip_suffix(')')?.replace("&str | ImmutableString | String", "string");
    let known: Vec<String> = ops::all_operations()
        .map(Operation::path)
        .chain(NATIVES.iter().map(|native| native.name.to_owned()))
        .collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    if known.contains(&name) {
        return Some((format!("`{name}` does not take ({})", arguments.replace("i64", "int")), None));
    }
    let hint = suggest::nearest_name(name, known).map(|nearest| format!("did you mean `{nearest}`?"));
    // An operator or a function of the language: the arguments are what is wrong with it.
    hint.map(|hint| (format!("there is no function `{name}`"), Some(hint)))
}

/// Returns what a fault says beside its message: its code, whether anything changed, what is left behind.
fn fault_facts(fault: &ScriptError) -> Vec<String> {
    let mut facts = Vec::new();
    let operation = fault.operation.as_deref();
    let at = match (operation, fault.target.as_deref()) {
        (Some(operation), Some(target)) => format!(" · {operation} on {target}"),
        (Some(operation), None) => format!(" · {operation}"),
        _ => String::new(),
    };
    let changed = match (operation, fault.side_effects) {
        (Some(_), SideEffects::None) => " · nothing was changed by it",
        (Some(_), SideEffects::Some) => " · something was changed",
        (Some(_), SideEffects::Unknown) => " · nothing is seen of it yet, and it may still come",
        (None, _) => "",
    };
    if !fault.code.is_empty() {
        facts.push(format!("{}{at}{changed}", fault.code));
    }
    if !fault.left_behind.is_empty() {
        facts.push(format!("left behind: {}", fault.left_behind.join(", ")));
    }
    facts
}

fn error_from_stop(stop: &StopReason, run: &str) -> CliError {
    let resume = format!("redrill resume {run}");
    let stopped =
        |message: &str, exit| CliError::usage(message).with_exit(exit).with_next_command(resume.clone());
    match stop {
        StopReason::Waiting { reason, .. } => stopped(reason, WAITING),
        StopReason::TakenOver { by } => stopped(&format!("taken over by {by}"), INTERRUPTED),
        StopReason::Interrupted => stopped("interrupted", INTERRUPTED),
        StopReason::Undecided { call, reason } => stopped(reason, UNDECIDED).with_hint(format!(
            "`resume` looks again where the target keeps a trace of it; or look yourself and say what is so: `redrill runs decide {run} {} redo` \
             makes it again, and `fail` and `done` stand in place of `redo`; while a request of it may still take \
             effect, add `--anyway`",
            quote_shell_word(call)
        )),
        StopReason::Mismatch { message } => stopped(message, MISMATCH)
            .with_hint(format!(
                "go on with the recorded source: `redrill resume {run}`\n      with the file, once it asks for what was \
                 recorded: `redrill resume {run} --edited`\n      or give it up and clean up: `redrill runs abandon {run}`"
            ))
            .with_next_command(format!("redrill runs show {run}")),
        StopReason::Unreadable(record) => stopped(&record.to_string(), MISMATCH)
            .with_hint(format!(
                "{}\n      or give the run up as it is: `redrill runs abandon {run} --leave`",
                record.hint()
            ))
            .with_next_command(format!("redrill runs show {run}")),
        StopReason::Refused { message, hint } => stopped(message, REFUSED).with_hint(hint.clone()),
        StopReason::Leased(error) => CliError { next: Some(resume.clone()), ..CliError::from(error.clone()) },
        StopReason::Journal(error) => CliError { next: Some(resume.clone()), exit: FAILED, ..CliError::from(error.clone()) },
        StopReason::Abandoned => stopped("the run was given up", FAILED),
    }
}

impl From<RunbookError> for CliError {
    fn from(error: RunbookError) -> Self {
        Self { place: error.place, hint: error.hint, ..Self::usage(error.message) }
    }
}

impl From<provider::Error> for CliError {
    fn from(error: provider::Error) -> Self {
        let mut facts = vec![error.code.as_str().to_owned()];
        if !error.left_behind.is_empty() {
            facts.push(format!("left behind: {}", error.left_behind.join(", ")));
        }
        Self { hint: error.hint, facts, ..Self::usage(error.message) }
    }
}

impl From<journal::Error> for CliError {
    fn from(error: journal::Error) -> Self {
        let shown = Self { hint: error.hint(), ..Self::usage(error.to_string()) };
        match &error {
            journal::Error::Leased { run, .. } => {
                shown.with_exit(REFUSED).with_next_command(format!("redrill runs show {run}"))
            }
            journal::Error::Held { run, .. } | journal::Error::HeldByUnknown { run } => {
                shown.with_next_command(format!("redrill runs show {run}"))
            }
            journal::Error::UnreadableRecord(_) | journal::Error::JournalGone { .. } => {
                shown.with_exit(MISMATCH)
            }
            journal::Error::ElsewhereState { doubt, .. } if !matches!(doubt, PlaceDoubt::Unreadable(_)) => {
                shown.with_exit(MISMATCH).with_next_command(command_line_with("--adopt"))
            }
            journal::Error::ElsewhereState { .. } | journal::Error::RolledBack { .. } => {
                let is_adopted = std::env::args().any(|word| word == "--adopt");
                let more = if is_adopted { "--rolled-back" } else { "--adopt --rolled-back" };
                shown.with_exit(MISMATCH).with_next_command(command_line_with(more))
            }
            journal::Error::Broken { run, is_linked: true, .. } => {
                shown.with_next_command(format!("redrill runs abandon {run} --leave"))
            }
            journal::Error::Broken { run, is_linked: false, .. } => {
                shown.with_next_command(format!("redrill runs prune {run}"))
            }
            journal::Error::SharedFileSystem { .. } => {
                shown.with_next_command(command_line_with("--state-unsafe"))
            }
            journal::Error::NoSuchRun { .. } => shown.with_next_command("redrill runs list"),
            _ => shown,
        }
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        let shown = Self::usage(error.to_string());
        // `Other` is what the runtime says of a thread that panicked; the machine's own refusals have kinds.
        if error.kind() == io::ErrorKind::Other { shown.with_exit(BUG) } else { shown }
    }
}

impl From<Refusal> for CliError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Runbook(error) => error.into(),
            Refusal::Policy { message, hint, place } => {
                Self { place, ..Self::usage(message).with_hint(hint).with_exit(REFUSED) }
            }
            Refusal::Target(error) => Self::from(error).with_next_command("redrill targets check"),
            Refusal::Journal(error) => error.into(),
            Refusal::Io(error) => error.into(),
        }
    }
}

impl From<&check::CheckFinding> for CliError {
    fn from(finding: &check::CheckFinding) -> Self {
        Self {
            place: finding.place.clone(),
            hint: finding.hint.clone(),
            ..Self::usage(finding.message.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn a_state_that_is_refused_says_how_it_is_taken_over() {
        let state = std::path::PathBuf::from(".redrill");
        let (host, doubt) = ("here".to_owned(), journal::PlaceDoubt::Copied);
        let lost = vec![journal::LostRun { run: "abcd2345".into(), known: Some(7), found: 3 }];
        let refusals = [
            (
                journal::Error::ElsewhereState { state: state.clone(), host, doubt, written: None },
                MISMATCH,
                "--adopt",
            ),
            (journal::Error::RolledBack { state: state.clone(), lost }, MISMATCH, "--adopt --rolled-back"),
            (journal::Error::SharedFileSystem { state, kind: "NFS" }, USAGE, "--state-unsafe"),
        ];
        for (refusal, exit, more) in refusals {
            let error = CliError::from(refusal);
            assert_eq!(error.exit, exit, "{error:?}");
            let next = error.next.as_deref().unwrap_or_default();
            assert!(next.starts_with("redrill ") && next.ends_with(more), "{error:?}");
        }
    }

    #[test]
    fn what_goes_on_with_giving_up_is_no_resume() {
        let stopped = ended_run(RunStatus::Interrupted, Some(StopReason::Interrupted));
        let next = |ended: &RunResult| CliError::from_run_result(ended).and_then(|error| error.next);
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
            let text = CliError::from_run_result(&ended).expect("is an error").render_text(Painter::PLAIN);
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
            cleanup: vec!["the branch is still there".into()],
            ..ended_run(RunStatus::Failed, None)
        };
        assert_eq!(CliError::exit_code_of(&untidy), FAILED);
        let text = CliError::from_run_result(&untidy).expect("is an error").render_text(Painter::PLAIN);
        assert!(text.contains("clean-up failed: the branch is still there"), "{text}");
    }

    #[test]
    fn a_refusal_has_the_exit_code_of_its_reason() {
        let refusals = [
            (Refusal::Policy { message: "no".into(), hint: "ask".into(), place: None }, REFUSED),
            (Refusal::Target(provider::Error::new(provider::Code::Unavailable, "silent")), USAGE),
            (Refusal::Journal(journal::Error::HeldByUnknown { run: "abcd2345".into() }), USAGE),
            (Refusal::from(unreadable_record()), MISMATCH),
            (Refusal::Io(io::Error::other("a thread panicked")), BUG),
            (Refusal::Io(io::ErrorKind::WouldBlock.into()), USAGE),
        ];
        for (refusal, exit) in refusals {
            let said = refusal.to_string();
            assert_eq!(CliError::from(refusal).exit, exit, "{said}");
        }
    }

    #[test]
    fn a_caret_stands_under_its_column_also_after_a_tab() {
        let place = SourceLocation { file: "r.rhai".into(), line: 12, column: 3, text: "\t let".into() };
        assert_eq!(render_place(&place), "  --> r.rhai:12:3\n   |\n12 | \t let\n   | \t ^");
    }

    #[test]
    fn a_fault_says_whether_anything_changed_and_what_is_left() {
        let fault = ScriptError {
            operation: Some("branch::create".into()),
            target: Some("lab".into()),
            side_effects: SideEffects::Some,
            left_behind: vec!["branch lab/x".into()],
            ..ScriptError::new("TOOL", "it broke")
        };
        assert_eq!(
            fault_facts(&fault),
            ["TOOL · branch::create on lab · something was changed", "left behind: branch lab/x"]
        );
    }

    #[test]
    fn a_wrong_function_and_a_wrong_argument_are_told_apart() {
        let text = "&str | ImmutableString | String";
        let (message, hint) =
            explain_unknown_function(&format!("Function not found: backup::crate ({text})")).expect("known");
        assert_eq!(message, "there is no function `backup::crate`");
        assert_eq!(hint.as_deref(), Some("did you mean `backup::create`?"));
        let (message, _) =
            explain_unknown_function(&format!("Function not found: ensure ({text}, i64)")).expect("known");
        assert_eq!(message, "`ensure` does not take (string, int)");
        assert_eq!(explain_unknown_function("something else"), None);
    }
}
