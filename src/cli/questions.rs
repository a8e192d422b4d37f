//! Questions to a person during a run: approvals, and what to do about a call that failed.

use crate::{
    base::terminal,
    runtime::{Answer, Choice, Question},
};

/// Which questions are put to a person, and which are answered without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QuestionPolicy {
    /// Whether a person can be asked.
    person: bool,
    /// What to do about a call that failed.
    failed: FailurePolicy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailurePolicy {
    Fail,
    Ask,
    Hold,
}

impl QuestionPolicy {
    /// Returns the policy for a runbook: with `hold`, a failed call is held without a question.
    pub(super) fn for_run(hold: bool) -> Self {
        let person = terminal::can_prompt();
        let failed = match (hold, person) {
            (true, _) => FailurePolicy::Hold,
            (false, true) => FailurePolicy::Ask,
            (false, false) => FailurePolicy::Fail,
        };
        Self { person, failed }
    }

    /// Returns the policy for a single operation and for the prompt: only approvals are asked.
    pub(super) fn approvals_only() -> Self {
        Self { person: terminal::can_prompt(), failed: FailurePolicy::Fail }
    }

    /// Returns the same policy for a run whose events go to a program: nobody is asked.
    pub(super) fn without_person(self) -> Self {
        let failed =
            if self.failed == FailurePolicy::Hold { FailurePolicy::Hold } else { FailurePolicy::Fail };
        Self { person: false, failed }
    }

    /// Returns the answer to a question, from a person or by policy; `None` leaves it open.
    pub(super) fn answer_question(self, question: &Question) -> Option<Answer> {
        let choice = match question {
            Question::Approval { .. } if !self.person => return None,
            Question::Approval { message } => {
                terminal::print_message(message);
                read_choice("Approve? [yes/no]", &[("yes", Choice::Approve), ("no", Choice::Reject)])?
            }
            Question::Edit { .. } if !self.person => return None,
            Question::Edit { difference } => {
                terminal::print_message(difference);
                let choices = [("yes", Choice::Approve), ("no", Choice::Reject)];
                read_choice("Do what is new now, although that is missing? [yes/no]", &choices)?
            }
            Question::FailedCall { .. } if self.failed == FailurePolicy::Fail => return None,
            Question::FailedCall { .. } if self.failed == FailurePolicy::Hold => Choice::Hold,
            Question::FailedCall { call, op, message } => {
                terminal::print_message(&format!("`{op}` failed: {message}\n  {call}"));
                let choices = [("again", Choice::Redo), ("hold", Choice::Hold), ("fail", Choice::Fail)];
                read_choice("Try it `again`, `hold` everything as it is, or clean up and `fail`?", &choices)?
            }
        };
        Some(Answer { choice, by: current_user() })
    }
}

/// Asks until one of the words is typed, five times at most; `None` at the end of input.
fn read_choice(question: &str, choices: &[(&str, Choice)]) -> Option<Choice> {
    for _ in 0..5 {
        let typed = terminal::prompt_line(question).ok()?.to_lowercase();
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == typed) {
            return Some(*choice);
        }
    }
    None
}

/// Returns the name of the user who decides, as the system knows it.
pub(super) fn current_user() -> String {
    let name = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|n| !n.is_empty()));
    name.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}
