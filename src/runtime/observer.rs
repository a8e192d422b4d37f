//! The observer of a run: it hears what happens, and answers what only a person can answer.

use super::events::Event;
use crate::{base::moment::Moment, journal::Failure};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

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
    /// Whether to look on for a request that got no answer. It is looked for meanwhile.
    LostRequest {
        call: String,
        op: String,
        /// What was asked for.
        subject: String,
        /// When it can land no more.
        until: Moment,
    },
}

/// Whether a question still stands: what becomes of it when its answer is not wanted any more.
#[derive(Debug, Clone, Default)]
pub struct Withdrawal(Arc<AtomicBool>);

impl Withdrawal {
    /// Withdraws the question.
    pub fn withdraw(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Returns whether the question was withdrawn.
    pub fn is_withdrawn(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
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
    /// The lost request is looked for until it can land no more.
    Wait,
    /// The run stops, and looks on when it is resumed.
    Stop,
}

/// An observer of a run: it hears events and may answer questions.
pub trait RunObserver: Send + Sync {
    /// Receives an event.
    fn on_event(&self, event: &Event<'_>);

    /// Answers a question, or returns `None` when nobody is there to answer, or it was withdrawn.
    fn ask_person(&self, _question: &Question, _withdrawal: &Withdrawal) -> Option<Answer> {
        None
    }

    /// Hears of a clean-up that the script deferred under a name, and that failed: the records keep its message alone.
    fn on_failed_clean_up(&self, _name: &str, _failure: &Failure) {}

    /// Hears of every step that the script computes, so that whoever has a limit can stop a run that makes no calls.
    fn on_step(&self) {}

    /// Returns in which order the forks of a `parallel` or `each` at this path begin, if not in that of the list. It is
    /// asked where the script lets several run at once, so that nothing may depend on their order.
    fn choose_fork_order(&self, _path: &str) -> Option<ForkOrder> {
        None
    }
}

/// An order in which forks begin, other than that of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForkOrder {
    /// The reverse.
    LastFirst,
    /// That of the list, but for the fork of this number, which begins behind all others.
    OneLast(usize),
}

impl ForkOrder {
    /// Returns which of the forks that may begin does so next.
    pub(super) fn choose_next(self, waiting: &BTreeSet<usize>) -> Option<usize> {
        match self {
            Self::LastFirst => waiting.last().copied(),
            Self::OneLast(last) => {
                waiting.iter().find(|index| **index != last).or_else(|| waiting.first()).copied()
            }
        }
    }
}
