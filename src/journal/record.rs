//! What can be written down about a run.
//!
//! The JSON of a record is what is hashed and kept. Fields may be added later (an older reader skips them);
//! none is renamed, removed or given another meaning without a new schema version.

use super::Lease;
use crate::base::moment::Moment;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// How an asked-for thing came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done; this is what came back.
    Ok(Value),
    /// It failed; this is the error.
    Err(Value),
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A process is moving it.
    Running,
    /// It stopped until somebody approves or decides.
    Waiting,
    /// It stopped at a call of which nobody knows whether it took effect.
    Undecided,
    /// It stopped, or its process died, and it can go on.
    Interrupted,
    /// It ended well.
    Succeeded,
    /// It ended with an error.
    Failed,
    /// It was given up.
    Abandoned,
}

impl Status {
    /// Returns the word that is shown and stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Waiting => "waiting",
            Status::Undecided => "undecided",
            Status::Interrupted => "interrupted",
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Abandoned => "abandoned",
        }
    }

    /// Returns whether the run has ended: nothing is ever added to it again.
    pub const fn is_final(self) -> bool {
        matches!(self, Status::Succeeded | Status::Failed | Status::Abandoned)
    }

    /// Returns whether the run has stopped and can go on.
    pub const fn is_stopped(self) -> bool {
        matches!(self, Status::Waiting | Status::Undecided | Status::Interrupted)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state of the runbook's repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// The commit that was checked out.
    pub commit: String,
    /// Whether there were changes beside it.
    pub dirty: bool,
}

/// One text of which a run was made: the runbook itself, or a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its path or name.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// What there is to say about a run before its first record.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The runbook's path or name, as it was given.
    pub runbook: String,
    /// Its title.
    pub title: String,
    /// The parameters; secrets by reference.
    pub params: Value,
    /// Every text it is made of.
    pub sources: Vec<Source>,
    /// The repository it lies in.
    pub git: Option<Git>,
    /// The version of this program.
    pub version: String,
    /// The targets that it must have before it begins.
    pub leases: Vec<Lease>,
}

/// One thing that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// The run was made. The first record, and only the first.
    Started {
        /// The runbook's path or name, as it was given.
        runbook: String,
        /// Its title.
        title: String,
        /// The hash over its sources; see [`super::digest`].
        digest: String,
        /// The parameters.
        params: Value,
        /// The version of the program.
        version: String,
        /// The repository.
        git: Option<Git>,
    },
    /// A process took the run up again.
    Resumed {
        /// The version of that program.
        version: String,
        /// Whether it goes on with sources other than the recorded ones.
        edited: bool,
        /// The hash over those, when it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// Who a name turned out to be at its first use.
    Target {
        /// The name.
        name: String,
        /// Who it is.
        identity: Value,
    },
    /// A call is about to take effect.
    Begin {
        /// The call's name within the run.
        call: String,
        /// What is done.
        op: String,
        /// With what.
        args: Value,
        /// The key by which what it makes can be found again.
        key: String,
        /// Where it stands: `file:line:column`. For people only.
        at: String,
    },
    /// What a begun call was given to wait on.
    Accepted {
        /// The call.
        call: String,
        /// A job, a process, something to ask about.
        what: Value,
    },
    /// A call is over. A call without effect has only this.
    End {
        /// The call.
        call: String,
        /// What was done.
        op: String,
        /// With what.
        args: Value,
        /// Where it stands. For people only.
        at: String,
        /// What came of it.
        outcome: Outcome,
    },
    /// Somebody decided about a call that was begun, or that failed (which opens it again).
    Decided {
        /// The call.
        call: String,
        /// What was decided.
        decision: Value,
        /// By whom.
        by: String,
    },
    /// The run is ending; what follows is clean-up.
    Ending {
        /// What it ends with.
        outcome: Outcome,
    },
    /// The run ended. The last record.
    Finished {
        /// Succeeded, failed or abandoned.
        status: Status,
        /// Why, unless it succeeded.
        error: Option<Value>,
        /// What was made and is still there, by name.
        left_behind: Vec<String>,
    },
    /// The run stopped and can go on.
    Stopped {
        /// Waiting, undecided or interrupted.
        status: Status,
        /// For what, or why.
        reason: String,
        /// Whether what was asked is not what was recorded: an edited text that does not match is dropped.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        mismatch: bool,
        /// The call of which nobody knows, or which waits for somebody; older journals have it in the reason only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_call: Option<String>,
    },
}

impl Record {
    /// Returns the record's `kind`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Record::Started { .. } => "started",
            Record::Resumed { .. } => "resumed",
            Record::Target { .. } => "target",
            Record::Begin { .. } => "begin",
            Record::Accepted { .. } => "accepted",
            Record::End { .. } => "end",
            Record::Decided { .. } => "decided",
            Record::Ending { .. } => "ending",
            Record::Finished { .. } => "finished",
            Record::Stopped { .. } => "stopped",
        }
    }

    /// Returns the call that the record is about.
    pub fn call(&self) -> Option<&str> {
        match self {
            Record::Begin { call, .. }
            | Record::Accepted { call, .. }
            | Record::End { call, .. }
            | Record::Decided { call, .. } => Some(call),
            _ => None,
        }
    }

    /// Returns the text that is hashed and kept: JSON with sorted keys and no spaces.
    ///
    /// # Errors
    /// None for records made of JSON values; serde's type allows for one.
    pub(super) fn canonical(&self) -> Result<String, serde_json::Error> {
        // Through `Value`, whose maps are sorted; the fields of a struct are not.
        serde_json::to_string(&serde_json::to_value(self)?)
    }
}

/// When a record must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// With the next record that must be, in the same transaction and before it. A crash may lose it.
    Rides,
    /// When `append` returns, together with every earlier record.
    Now,
}

/// A record as it was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its number in the run, from 1.
    pub seq: u64,
    /// When it was added.
    pub at: Moment,
    /// What happened.
    pub record: Record,
    /// The hash of it and of every record before it, 64 hex digits.
    pub hash: String,
}

/// A run at a glance.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The run.
    pub id: String,
    /// The runbook's path or name, as it was given.
    pub runbook: String,
    /// Its title.
    pub title: String,
    /// Where it stands. `Interrupted` when its process died.
    pub status: Status,
    /// Why it stopped.
    pub reason: Option<String>,
    /// The error it ended with.
    pub error: Option<Value>,
    /// When it was made.
    pub started_at: Moment,
    /// When it ended.
    pub finished_at: Option<Moment>,
    /// The time of its last record.
    pub last_at: Moment,
    /// How many calls it has made.
    pub calls: u64,
    /// What was made and is still there, by name.
    pub left_behind: Vec<String>,
    /// The parameters.
    pub params: Value,
    /// The version of the program that made it.
    pub version: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_kept_text_has_sorted_keys_all_the_way_down() {
        let record = Record::Accepted { call: "a".into(), what: json!({"z": 1, "a": {"y": 2, "b": 3}}) };
        assert_eq!(
            record.canonical().expect("text"),
            r#"{"call":"a","kind":"accepted","what":{"a":{"b":3,"y":2},"z":1}}"#
        );
    }

    #[test]
    fn a_field_that_came_later_is_skipped() {
        let text = r#"{"kind":"resumed","version":"2","edited":true,"from":"elsewhere"}"#;
        let read: Record = serde_json::from_str(text).expect("reads");
        assert_eq!(read, Record::Resumed { version: "2".into(), edited: true, digest: None });
    }

    #[test]
    fn a_record_without_its_optional_fields_reads() {
        let text = r#"{"kind":"finished","status":"failed","left_behind":[]}"#;
        let read: Record = serde_json::from_str(text).expect("reads");
        assert_eq!(read, Record::Finished { status: Status::Failed, error: None, left_behind: Vec::new() });
    }

    #[test]
    fn the_word_for_a_status_is_the_one_that_is_stored() {
        for status in [Status::Running, Status::Undecided, Status::Abandoned] {
            assert_eq!(serde_json::to_value(status).expect("serializes"), json!(status.as_str()));
        }
    }

    proptest::proptest! {
        #[test]
        fn a_float_reads_back_as_itself(x in proptest::num::f64::NORMAL) {
            let record = Record::Accepted { call: "a".into(), what: json!(x) };
            let text = record.canonical().expect("text");
            proptest::prop_assert_eq!(serde_json::from_str::<Record>(&text).expect("reads"), record);
        }
    }
}
