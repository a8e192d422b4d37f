//! How a command can end other than well: what to say, what to do next, and the exit code.
//!
//! Every room's errors come together here and nowhere else.

use crate::{
    base::{ink::Ink, suggest},
    journal::{self, Status},
    ops::{self, spec::Op},
    provider,
    runtime::{Ended, Failure, Place, Refusal, Stop, Unfinished, check, flow::NATIVES, runbook},
};
use serde_json::Value;
use std::io;

/// The runbook failed.
pub const FAILED: u8 = 1;
/// Usage, configuration or check error: nothing was done.
pub const USAGE: u8 = 2;
/// The run waits for somebody.
pub const WAITING: u8 = 3;
/// Nobody knows whether a call took effect.
pub const UNDECIDED: u8 = 4;
/// What is asked or found is not what was recorded.
pub const MISMATCH: u8 = 5;
/// Refused by policy.
pub const REFUSED: u8 = 6;
/// A bug in redrill.
pub const BUG: u8 = 70;
/// Interrupted.
pub const INTERRUPTED: u8 = 130;

/// Why a command did not end well.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// What happened, to what.
    pub message: String,
    /// Where in a script.
    pub place: Option<Place>,
    /// What to do now.
    pub hint: Option<String>,
    /// What else there is to know, a line each.
    pub facts: Vec<String>,
    /// The exit code.
    pub exit: u8,
    /// The command to type next.
    pub next: Option<String>,
}

impl Trouble {
    /// Returns an error of usage: nothing was done.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, hint: None, facts: vec![], exit: USAGE, next: None }
    }

    /// Adds what to do now.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the exit code.
    #[must_use]
    pub fn exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }

    /// Adds the command to type next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Returns the error of an operation that was performed without a run.
    pub fn of_look(error: provider::Error) -> Self {
        let exit = match error.code {
            provider::Code::Invalid => USAGE,
            provider::Code::Internal => BUG,
            _ => FAILED,
        };
        Self { exit, ..error.into() }
    }

    /// Returns what kept a run from ending well; nothing when it did.
    pub fn of_ended(ended: &Ended) -> Option<Self> {
        let trouble = match (&ended.stop, &ended.failure) {
            (Some(stop), _) => of_stop(stop, &ended.run),
            (None, Some(failure)) => Self::of_failure(failure),
            (None, None) if ended.cleanup.is_empty() => return None,
            (None, None) => Self::usage("the clean-up failed").exit(FAILED),
        };
        let mut trouble = trouble;
        trouble.facts.extend(ended.cleanup.iter().map(|wrong| format!("clean-up failed: {wrong}")));
        if trouble.next.is_none() {
            trouble.next = Some(format!("redrill runs show {}", ended.run));
        }
        Some(trouble)
    }

    /// Returns the error that ended a script.
    pub fn of_failure(failure: &Failure) -> Self {
        let fault = &failure.fault;
        let text = |name: &str| fault[name].as_str();
        let message = text("message").unwrap_or("the runbook failed");
        let (message, hint) = match no_function(message) {
            Some((message, hint)) => (message, hint),
            None => (message.to_owned(), text("hint").map(str::to_owned)),
        };
        Self { message, place: failure.place.clone(), hint, facts: facts(fault), exit: FAILED, next: None }
    }

    /// Returns why an input at the prompt gave no value; `run` is the session's.
    pub fn of_unfinished(unfinished: &Unfinished, run: &str) -> Self {
        match unfinished {
            Unfinished::Parse(error) => error.clone().into(),
            Unfinished::Failed(failure) => Self::of_failure(failure),
            Unfinished::Stopped(stop) => of_stop(stop, run),
        }
    }

    /// Returns the text without the command to type next.
    pub fn body(&self, ink: Ink) -> String {
        let mut lines = vec![format!("{} {}", ink.red("error:"), self.message)];
        lines.extend(self.place.as_ref().map(pointed));
        lines.extend(self.facts.iter().map(|fact| format!("  {fact}")));
        lines.extend(self.hint.as_ref().map(|hint| format!("{} {hint}", ink.bold("hint:"))));
        lines.join("\n")
    }

    /// Returns the whole text; the command to type next is its last line.
    pub fn text(&self, ink: Ink) -> String {
        [Some(self.body(ink)), self.next.clone()].into_iter().flatten().collect::<Vec<_>>().join("\n")
    }
}

/// Returns a place with its source line and a caret under the column.
pub fn pointed(place: &Place) -> String {
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

/// Says in other words that a function does not exist: the script language names neither what is meant nor that only
/// the arguments are wrong.
fn no_function(message: &str) -> Option<(String, Option<String>)> {
    let (name, arguments) = message.strip_prefix("Function not found: ")?.split_once(" (")?;
    let arguments = arguments.strip_suffix(')')?.replace("&str | ImmutableString | String", "string");
    let known: Vec<String> = ops::all().map(Op::path).chain(NATIVES.iter().map(|&n| n.to_owned())).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    if known.contains(&name) {
        return Some((format!("`{name}` does not take ({})", arguments.replace("i64", "int")), None));
    }
    let hint = suggest::nearest(name, known).map(|nearest| format!("did you mean `{nearest}`?"));
    // An operator or a function of the language: the arguments are what is wrong with it.
    hint.map(|hint| (format!("there is no function `{name}`"), Some(hint)))
}

/// Returns what a fault says beside its message: its code, whether anything changed, what is left behind.
fn facts(fault: &Value) -> Vec<String> {
    let mut facts = Vec::new();
    let operation = fault["operation"].as_str();
    let at = match (operation, fault["target"].as_str()) {
        (Some(operation), Some(target)) => format!(" · {operation} on {target}"),
        (Some(operation), None) => format!(" · {operation}"),
        _ => String::new(),
    };
    let changed = match (operation, fault["side_effects"].as_str()) {
        (Some(_), Some("none")) => " · nothing was changed by it",
        (Some(_), Some("some")) => " · something was changed",
        _ => "",
    };
    if let Some(code) = fault["code"].as_str() {
        facts.push(format!("{code}{at}{changed}"));
    }
    let left: Vec<&str> =
        fault["left_behind"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !left.is_empty() {
        facts.push(format!("left behind: {}", left.join(", ")));
    }
    facts
}

fn of_stop(stop: &Stop, run: &str) -> Trouble {
    let resume = format!("redrill resume {run}");
    let trouble = |message: &str, exit| Trouble::usage(message).exit(exit).next(resume.clone());
    match stop {
        Stop::Waiting { reason, next, .. } => trouble(reason, WAITING).next(next.clone()),
        Stop::TakenOver { by } => trouble(&format!("taken over by {by}"), INTERRUPTED),
        Stop::Interrupted => trouble("interrupted", INTERRUPTED),
        Stop::Undecided { call, reason } => trouble(reason, UNDECIDED).hint(format!(
            "`resume` asks the world again; or look yourself and say what is so with `redrill runs decide {run} {} done|fail|redo`",
            quoted(call)
        )),
        Stop::Mismatch { message } => trouble(message, MISMATCH)
            .hint(format!(
                "go on with the recorded source: `redrill resume {run}`\n      with the file as it is now: \
                 `redrill resume {run} --edited`\n      or give it up and clean up: `redrill runs abandon {run}`"
            ))
            .next(format!("redrill runs show {run}")),
        Stop::Refused { message, hint } => trouble(message, REFUSED).hint(hint.clone()),
        Stop::Leased(error) => Trouble { next: Some(resume.clone()), ..Trouble::from(error.clone()) },
        Stop::Journal(error) => Trouble { next: Some(resume.clone()), exit: FAILED, ..Trouble::from(error.clone()) },
        Stop::Abandoned => trouble("the run was given up", FAILED),
    }
}

/// Returns the exit code of a run that has ended or stopped.
pub fn of_ended(ended: &Ended) -> u8 {
    match ended.status {
        Status::Succeeded => 0,
        Status::Waiting => WAITING,
        // It was given up because somebody said so; that its clean-up failed is a failure.
        Status::Abandoned if ended.cleanup.is_empty() => 0,
        _ => Trouble::of_ended(ended).map_or(FAILED, |trouble| trouble.exit),
    }
}

/// Returns a word in the form in which a shell takes it as one.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl From<runbook::Error> for Trouble {
    fn from(error: runbook::Error) -> Self {
        Self { place: error.place, hint: error.hint, ..Self::usage(error.message) }
    }
}

impl From<provider::Error> for Trouble {
    fn from(error: provider::Error) -> Self {
        let mut facts = vec![error.code.as_str().to_owned()];
        if !error.left_behind.is_empty() {
            facts.push(format!("left behind: {}", error.left_behind.join(", ")));
        }
        Self { hint: error.hint, facts, ..Self::usage(error.message) }
    }
}

impl From<journal::Error> for Trouble {
    fn from(error: journal::Error) -> Self {
        let trouble = Self { hint: error.hint(), ..Self::usage(error.to_string()) };
        match &error {
            journal::Error::Leased { run, .. } => {
                trouble.exit(REFUSED).next(format!("redrill runs show {run}"))
            }
            journal::Error::Held { run, .. } | journal::Error::Taken { run } => {
                trouble.next(format!("redrill runs show {run}"))
            }
            journal::Error::NoSuchRun { .. } => trouble.next("redrill runs list"),
            _ => trouble,
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        let trouble = Self::usage(error.to_string());
        // `Other` is what the runtime says of a thread that panicked; the machine's own refusals have kinds.
        if error.kind() == io::ErrorKind::Other { trouble.exit(BUG) } else { trouble }
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Runbook(error) => error.into(),
            Refusal::Policy { message, hint, place } => {
                Self { place, ..Self::usage(message).hint(hint).exit(REFUSED) }
            }
            Refusal::Target(error) => Self::from(error).next("redrill targets check"),
            Refusal::Journal(error) => error.into(),
            Refusal::Machine(error) => error.into(),
        }
    }
}

impl From<&check::Finding> for Trouble {
    fn from(finding: &check::Finding) -> Self {
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
    use serde_json::json;

    fn ended(status: Status, stop: Option<Stop>) -> Ended {
        Ended {
            run: "abcd2345".into(),
            status,
            head: String::new(),
            value: Value::Null,
            failure: None,
            stop,
            cleanup: vec![],
            left_behind: vec![],
        }
    }

    #[test]
    fn every_way_to_stop_has_its_exit_code_and_a_command_to_type_next() {
        let call = "/back up#0/backup::create#0".to_owned();
        let stops = [
            (Status::Interrupted, Stop::Interrupted, INTERRUPTED),
            (Status::Undecided, Stop::Undecided { call, reason: "no answer".into() }, UNDECIDED),
            (Status::Interrupted, Stop::Mismatch { message: "another".into() }, MISMATCH),
            (Status::Interrupted, Stop::Refused { message: "no".into(), hint: "ask".into() }, REFUSED),
        ];
        for (status, stop, exit) in stops {
            let ended = ended(status, Some(stop));
            assert_eq!(of_ended(&ended), exit, "{:?}", ended.stop);
            let text = Trouble::of_ended(&ended).expect("is trouble").text(Ink::PLAIN);
            let next = text.lines().last().unwrap_or_default();
            assert!(next.starts_with("redrill ") && next.ends_with("abcd2345"), "{text}");
        }
    }

    #[test]
    fn ends_have_the_exit_code_of_what_they_came_to() {
        assert_eq!(of_ended(&ended(Status::Succeeded, None)), 0);
        assert_eq!(of_ended(&ended(Status::Abandoned, None)), 0);
        assert_eq!(of_ended(&ended(Status::Waiting, None)), WAITING);
        let untidy =
            Ended { cleanup: vec!["the branch is still there".into()], ..ended(Status::Failed, None) };
        assert_eq!(of_ended(&untidy), FAILED);
        let text = Trouble::of_ended(&untidy).expect("is trouble").text(Ink::PLAIN);
        assert!(text.contains("clean-up failed: the branch is still there"), "{text}");
    }

    #[test]
    fn a_refusal_has_the_exit_code_of_its_reason() {
        let refusals = [
            (Refusal::Policy { message: "no".into(), hint: "ask".into(), place: None }, REFUSED),
            (Refusal::Target(provider::Error::new(provider::Code::Unavailable, "silent")), USAGE),
            (Refusal::Journal(journal::Error::Taken { run: "abcd2345".into() }), USAGE),
            (Refusal::Machine(io::Error::other("a thread panicked")), BUG),
            (Refusal::Machine(io::ErrorKind::WouldBlock.into()), USAGE),
        ];
        for (refusal, exit) in refusals {
            let said = refusal.to_string();
            assert_eq!(Trouble::from(refusal).exit, exit, "{said}");
        }
    }

    #[test]
    fn a_caret_stands_under_its_column_also_after_a_tab() {
        let place = Place { file: "r.rhai".into(), line: 12, column: 3, text: "\t let".into() };
        assert_eq!(pointed(&place), "  --> r.rhai:12:3\n   |\n12 | \t let\n   | \t ^");
    }

    #[test]
    fn a_fault_says_whether_anything_changed_and_what_is_left() {
        let fault = json!({"code": "TOOL", "message": "it broke", "operation": "branch::create", "target": "lab",
            "side_effects": "some", "left_behind": ["branch lab/x"]});
        assert_eq!(
            facts(&fault),
            ["TOOL · branch::create on lab · something was changed", "left behind: branch lab/x"]
        );
    }

    #[test]
    fn a_wrong_function_and_a_wrong_argument_are_told_apart() {
        let text = "&str | ImmutableString | String";
        let (message, hint) =
            no_function(&format!("Function not found: backup::crate ({text})")).expect("known");
        assert_eq!(message, "there is no function `backup::crate`");
        assert_eq!(hint.as_deref(), Some("did you mean `backup::create`?"));
        let (message, _) = no_function(&format!("Function not found: ensure ({text}, i64)")).expect("known");
        assert_eq!(message, "`ensure` does not take (string, int)");
        assert_eq!(no_function("something else"), None);
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("backup-1"), "backup-1");
        assert_eq!(quoted("/back up#0"), "'/back up#0'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
