//! Questions to a person during a run: approvals, what to do about a call that failed, and whether to look on for a lost
//! request.

use crate::{
    base::terminal::{self, Prompt, WithdrawalCheck},
    runtime::{Answer, Choice, Question, Withdrawal},
};
use std::sync::Arc;

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
    pub(super) fn without_asking_anyone(self) -> Self {
        let failed =
            if self.failed == FailurePolicy::Hold { FailurePolicy::Hold } else { FailurePolicy::Fail };
        Self { person: false, failed }
    }

    /// Returns the answer to a question, from a person or by policy; `None` leaves it open.
    pub(super) fn answer_question(self, question: &Question, withdrawal: &Withdrawal) -> Option<Answer> {
        let choice = match question {
            Question::FailedCall { .. } if self.failed == FailurePolicy::Fail => return None,
            Question::FailedCall { .. } if self.failed == FailurePolicy::Hold => Choice::Hold,
            _ if !self.person => return None,
            question => ask_at_terminal(question, withdrawal)?,
        };
        Some(Answer { choice, by: current_user() })
    }
}

/// Puts a question to the person at the terminal; `None` when nothing is typed that answers it, or it is withdrawn.
fn ask_at_terminal(question: &Question, withdrawal: &Withdrawal) -> Option<Choice> {
    let (told, asked, choices): (_, _, &[_]) = match question {
        Question::Approval { message } => (
            message.clone(),
            "Approve? [yes/no]".to_owned(),
            &[("yes", Choice::Approve), ("no", Choice::Reject)],
        ),
        Question::Edit { difference } => (
            difference.clone(),
            "Do what is new now, although that is missing? [yes/no]".to_owned(),
            &[("yes", Choice::Approve), ("no", Choice::Reject)],
        ),
        Question::FailedCall { call, op, message } => (
            format!("`{op}` failed: {message}\n  {call}"),
            "Try it `again`, `hold` everything as it is, or clean up and `fail`?".to_owned(),
            &[("again", Choice::Redo), ("hold", Choice::Hold), ("fail", Choice::Fail)],
        ),
        Question::LostRequest { call, op, subject, until } => (
            format!(
                "`{op}` got no answer: {subject} may still come until {until}, and is looked for meanwhile\n  {call}"
            ),
            format!("[w]ait until {until} · [s]top, resume looks on"),
            &[("w", Choice::Wait), ("wait", Choice::Wait), ("s", Choice::Stop), ("stop", Choice::Stop)],
        ),
    };
    let prompt = Prompt::wait_for_turn();
    if withdrawal.is_withdrawn() {
        return None;
    }
    terminal::print_message(&told);
    ask_until_choice_typed(&prompt, &asked, choices, withdrawal)
}

/// Asks until one of the words is typed, five times at most; `None` at the end of input.
fn ask_until_choice_typed(
    prompt: &Prompt,
    question: &str,
    choices: &[(&str, Choice)],
    withdrawal: &Withdrawal,
) -> Option<Choice> {
    let standing = withdrawal.clone();
    let is_withdrawn: Arc<WithdrawalCheck> = Arc::new(move || standing.is_withdrawn());
    for _ in 0..5 {
        let typed = prompt.read_line(question, &is_withdrawn).ok()??.to_lowercase();
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
