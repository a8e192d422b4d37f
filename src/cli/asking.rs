//! What a person is asked while a run moves: whether it may go on, and what becomes of a call that failed.

use crate::{
    base::terminal,
    runtime::{Answer, Choice, Question},
};

/// Who can be asked what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asking {
    /// Whether a person is there.
    person: bool,
    /// What becomes of a call that failed.
    failed: Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    Fails,
    Asks,
    Holds,
}

impl Asking {
    /// Returns who can be asked in a run of a runbook: with `hold` a call that failed is held without a question.
    pub(super) fn in_run(hold: bool) -> Self {
        let person = terminal::can_ask();
        let failed = match (hold, person) {
            (true, _) => Failed::Holds,
            (false, true) => Failed::Asks,
            (false, false) => Failed::Fails,
        };
        Self { person, failed }
    }

    /// Returns who can be asked where a call that failed is no surprise: a single operation, the prompt.
    pub(super) fn only_to_approve() -> Self {
        Self { person: terminal::can_ask(), failed: Failed::Fails }
    }

    /// Returns the same for a run whose events go to a program: a person is asked nothing.
    pub(super) fn of_program(self) -> Self {
        let failed = if self.failed == Failed::Holds { Failed::Holds } else { Failed::Fails };
        Self { person: false, failed }
    }

    /// Answers a question, after a person has where there is one.
    pub(super) fn ask(self, question: &Question) -> Option<Answer> {
        let choice = match question {
            Question::Approve { .. } if !self.person => return None,
            Question::Approve { message } => {
                terminal::say(message);
                chosen("Approve? [yes/no]", &[("yes", Choice::Approve), ("no", Choice::Reject)])?
            }
            Question::Failed { .. } if self.failed == Failed::Fails => return None,
            Question::Failed { .. } if self.failed == Failed::Holds => Choice::Hold,
            Question::Failed { call, op, message } => {
                terminal::say(&format!("`{op}` failed: {message}\n  {call}"));
                let choices = [("again", Choice::Again), ("hold", Choice::Hold), ("fail", Choice::Fail)];
                chosen("Try it `again`, `hold` everything as it is, or clean up and `fail`?", &choices)?
            }
        };
        Some(Answer { choice, by: person() })
    }
}

/// Asks until one of the words is typed; nothing when nobody types any more.
fn chosen(question: &str, choices: &[(&str, Choice)]) -> Option<Choice> {
    for _ in 0..5 {
        let typed = terminal::ask(question).ok()?.to_lowercase();
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == typed) {
            return Some(*choice);
        }
    }
    None
}

/// Returns who decides: the name that the system knows.
pub(super) fn person() -> String {
    let name = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|n| !n.is_empty()));
    name.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}
