//! The events of a run, as observers hear them and as they are written as JSON.

use crate::{
    base::moment::{Moment, Span},
    provider::model::Progress,
};
use serde::Serialize;
use serde_json::Value;

/// An event of a run, reported as it happens.
#[derive(Debug, Serialize)]
#[serde(tag = "event")]
pub enum Event<'a> {
    /// A run was started.
    #[serde(rename = "run.started")]
    Started { run: &'a str, runbook: &'a str, title: &'a str },
    /// A parameter that was given as so long before now has its moment.
    #[serde(rename = "param.resolved")]
    Resolved {
        name: &'a str,
        moment: Moment,
        /// As it was given: `-30m`.
        given: &'a str,
    },
    /// A run was resumed.
    #[serde(rename = "run.resumed")]
    Resumed {
        run: &'a str,
        runbook: &'a str,
        title: &'a str,
        /// How long ago its last record was made.
        age: Span,
    },
    /// A step began.
    #[serde(rename = "step.started")]
    StepStarted { step: &'a str, name: &'a str },
    /// A step ended.
    #[serde(rename = "step.finished")]
    StepFinished {
        step: &'a str,
        name: &'a str,
        /// Whether it ended without an error.
        ok: bool,
        /// Whether the run stopped in it: it has neither failed nor ended, and a resume comes to it again.
        stopped: bool,
    },
    /// A call began.
    #[serde(rename = "call.started")]
    CallStarted {
        call: &'a str,
        op: &'a str,
        target: Option<&'a str>,
        /// Whether it changes anything.
        effect: bool,
    },
    /// A call ended.
    #[serde(rename = "call.finished")]
    CallFinished {
        call: &'a str,
        op: &'a str,
        /// Whether it succeeded.
        ok: bool,
        /// How long it took.
        seconds: f64,
        error: Option<&'a str>,
    },
    /// A call had ended before this process began; its recorded outcome was returned.
    #[serde(rename = "call.replayed")]
    CallReplayed { call: &'a str, op: &'a str },
    /// A call made progress.
    #[serde(rename = "call.progress")]
    Progress {
        call: &'a str,
        op: &'a str,
        /// How far the call is.
        progress: &'a Progress,
    },
    /// The columns of a query's rows, in the order of the query.
    #[serde(rename = "call.columns")]
    Columns { columns: &'a [String] },
    /// `retry` tries again.
    #[serde(rename = "retrying")]
    Retrying {
        attempt: u32,
        /// The most attempts.
        attempts: u32,
        message: &'a str,
        /// How long it waits before that.
        pause: Span,
    },
    /// `wait_until` waits.
    #[serde(rename = "waiting")]
    Waiting {
        step: &'a str,
        /// The end of the wait at the latest.
        until: Moment,
        /// The pause between two questions.
        every: Span,
        /// The target by whose world's clock the end is; nothing where it is the machine's.
        #[serde(skip_serializing_if = "Option::is_none")]
        clock: Option<&'a str>,
    },
    /// The runbook sleeps, for a second at least.
    #[serde(rename = "sleeping")]
    Sleeping {
        until: Moment,
        /// The target by whose world's clock that is; nothing where it is the machine's.
        #[serde(skip_serializing_if = "Option::is_none")]
        clock: Option<&'a str>,
    },
    /// The runbook notes something.
    #[serde(rename = "note")]
    Note { text: &'a str },
    /// The runbook measured something.
    #[serde(rename = "metric")]
    Metric { name: &'a str, value: &'a Value, unit: &'a str },
    /// The runbook keeps something for the report.
    #[serde(rename = "attached")]
    Attached { name: &'a str, value: &'a Value },
    /// The run is ending, and cleans up.
    #[serde(rename = "run.ending")]
    Ending {
        /// How many clean-ups are due.
        deferred: usize,
    },
}
