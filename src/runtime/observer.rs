//! The observer of a run: it hears what happens, and answers what only a person can answer.

use super::events::Event;

/// A question that only a person can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether the run may proceed.
    Approval {
        /// What is to be approved, in the words of the runbook.
        message: String,
    },
    /// Whether an edited script may do something new before, or without, what was done.
    Edit {
        /// What is missing and what would be new, a line each.
        difference: String,
    },
    /// How to handle a failed call whose error is about to end the run.
    FailedCall { call: String, op: String, message: String },
}

/// A person's answer to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub choice: Choice,
    pub by: String,
}

/// The choice in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The run may go on.
    Approve,
    /// The run may not go on.
    Reject,
    /// The call is performed again.
    Redo,
    /// The run stops and keeps everything; somebody decides later.
    Hold,
    /// The run cleans up and fails.
    Fail,
}

/// An observer of a run: it hears events and may answer questions.
pub trait RunObserver: Send + Sync {
    /// Receives an event.
    fn on_event(&self, event: &Event<'_>);

    /// Answers a question, or returns `None` when nobody is there to answer.
    fn ask_person(&self, _question: &Question) -> Option<Answer> {
        None
    }
}
