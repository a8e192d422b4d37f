//! What is recorded of a run: its records, its status, its summary.
//!
//! The JSON of a record is what is hashed and stored. Fields may be added later (an older reader skips them);
//! none is renamed, removed or given another meaning without a new schema version.

use super::{GitState, PlaceNote, ScriptError};
use crate::base::moment::Moment;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<E = ScriptError> {
    /// It was done; this is what came back.
    Ok(Value),
    /// It failed; this is the error.
    Err(E),
}

/// How a call, or the run, ended, as it is stored. It is decoded where it is asked for: what nobody asks for need not
/// read, and what is hashed is the stored text.
pub type RecordedOutcome = Outcome<Value>;

impl Outcome {
    /// Returns the outcome as it is recorded.
    pub fn to_recorded(&self) -> RecordedOutcome {
        match self {
            Outcome::Ok(value) => Outcome::Ok(value.clone()),
            Outcome::Err(error) => Outcome::Err(error.to_json()),
        }
    }
}

impl RecordedOutcome {
    /// Reads the outcome of a call.
    ///
    /// # Errors
    /// Why its error does not read.
    pub fn decode(&self) -> Result<Outcome, String> {
        match self {
            Outcome::Ok(value) => Ok(Outcome::Ok(value.clone())),
            Outcome::Err(error) => ScriptError::decode(error).map(Outcome::Err),
        }
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// A process is executing it.
    Running,
    /// It stopped until somebody approves or decides.
    Waiting,
    /// It stopped at a call that may or may not have taken effect.
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

impl RunStatus {
    /// Returns the word that is shown and stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            RunStatus::Running => "running",
            RunStatus::Waiting => "waiting",
            RunStatus::Undecided => "undecided",
            RunStatus::Interrupted => "interrupted",
            RunStatus::Succeeded => "succeeded",
            RunStatus::Failed => "failed",
            RunStatus::Abandoned => "abandoned",
        }
    }

    /// Returns whether the run has ended: nothing is ever added to it again.
    pub const fn is_final(self) -> bool {
        matches!(self, RunStatus::Succeeded | RunStatus::Failed | RunStatus::Abandoned)
    }

    /// Returns whether the run has stopped and can go on.
    pub const fn is_stopped(self) -> bool {
        matches!(self, RunStatus::Waiting | RunStatus::Undecided | RunStatus::Interrupted)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// The run was made. The first record, and only the first.
    Started {
        /// The runbook's path or name, as it was given.
        runbook: String,
        title: String,
        /// The hash over its sources; see [`super::digest_sources`].
        digest: String,
        params: Value,
        /// The version of the program.
        version: String,
        git: Option<GitState>,
    },
    /// A process resumed the run.
    Resumed {
        /// The version of that program.
        version: String,
        /// Whether it goes on with sources other than the recorded ones.
        edited: bool,
        /// The hash over those, when it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
        /// Whether it is taken up to be given up: an edition under which nothing has taken effect is dropped with that.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        gives_up: bool,
        /// The parameters that those sources have and the run was not given, with the presets that hold from then on.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        params: Map<String, Value>,
    },
    /// A target name was resolved to an identity, at its first use.
    Target { name: String, identity: Value },
    /// A call is about to take effect.
    Begin {
        /// The call's name within the run.
        call: String,
        op: String,
        args: Value,
        /// The key by which what it makes can be found again.
        key: String,
        /// The script position, `file:line:column`. For people only.
        at: String,
    },
    /// What a begun call was given to wait on.
    Accepted {
        call: String,
        /// A job, a process, or something else that can be asked about.
        what: Value,
    },
    /// A call is over. A call without effect has only this.
    End {
        call: String,
        op: String,
        args: Value,
        /// The script position. For people only.
        at: String,
        /// What came of it.
        outcome: RecordedOutcome,
    },
    /// Somebody decided about a call that was begun, or that failed; a decision opens a failed call again.
    Decided {
        call: String,
        /// A [`super::Decision`].
        decision: Value,
        by: String,
    },
    /// Somebody allowed the edition in force to do something new before, or without, what the run had done.
    EditAllowed {
        /// The calls and clean-up that the script had not asked for, by name.
        missing: Vec<String>,
        by: String,
    },
    /// The edition in force has asked, after all, for what somebody allowed it not to ask for first: the next edition has to
    /// ask for it again before it does anything new.
    EditReached {
        /// The call or clean-up, by name.
        name: String,
    },
    /// Somebody took over the state folder, and with it this run.
    Adopted {
        by: String,
        /// Where it acted before, if that was written down.
        from: Option<Box<PlaceNote>>,
        to: Box<PlaceNote>,
        /// Whether the journal was rolled back: what was done after the record before this one may not be recorded.
        rolled_back: bool,
    },
    /// The run is ending; what follows is clean-up.
    Ending {
        /// What it ends with, a [`super::Conclusion`].
        outcome: RecordedOutcome,
    },
    /// The run ended. The last record.
    Finished {
        /// Succeeded, failed or abandoned.
        status: RunStatus,
        /// Why, unless it succeeded; a [`super::RunError`].
        error: Option<Value>,
        /// What was made and is still there, by name.
        left_behind: Vec<String>,
    },
    /// The run stopped and can go on.
    Stopped {
        /// Waiting, undecided or interrupted.
        status: RunStatus,
        /// For what, or why.
        reason: String,
        /// Whether the run asked for something other than what was recorded: edited sources that do not match are dropped.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        mismatch: bool,
        /// The call whose outcome is unknown, or that waits for somebody; older journals name it in the reason only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_call: Option<String>,
        /// The protected target that it was about to use, and that nobody had named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unconfirmed: Option<String>,
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
            Record::EditAllowed { .. } => "edit_allowed",
            Record::EditReached { .. } => "edit_reached",
            Record::Adopted { .. } => "adopted",
            Record::Ending { .. } => "ending",
            Record::Finished { .. } => "finished",
            Record::Stopped { .. } => "stopped",
        }
    }

    /// Returns the call that the record is about.
    pub fn call_name(&self) -> Option<&str> {
        match self {
            Record::Begin { call, .. }
            | Record::Accepted { call, .. }
            | Record::End { call, .. }
            | Record::Decided { call, .. } => Some(call),
            _ => None,
        }
    }

    /// Returns the text that is hashed and stored: JSON with sorted keys and no spaces.
    ///
    /// # Errors
    /// None for records made of JSON values; serde's type allows for one.
    pub(super) fn to_canonical_json(&self) -> Result<String, serde_json::Error> {
        // Through `Value`, whose maps are sorted; the fields of a struct are not.
        serde_json::to_string(&serde_json::to_value(self)?)
    }
}

/// When a record must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Written with the next record that is, in the same transaction and before it. A crash may lose it.
    Buffered,
    /// Written when `append` returns, together with every earlier record: a kill of the process loses none of them, and a
    /// power cut may, until the next synced record.
    Written,
    /// On disk when `append` returns, together with every earlier record.
    Synced,
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalEntry {
    /// Its number in the run, from 1.
    pub seq: u64,
    /// When it was added.
    pub at: Moment,
    pub record: Record,
    /// The hash of it and of every record before it, 64 hex digits.
    pub hash: String,
}

/// A run in one line of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    pub id: String,
    /// The runbook's path or name, as it was given.
    pub runbook: String,
    pub title: String,
    /// Where it stands. `Interrupted` when its process died.
    pub status: RunStatus,
    pub reason: Option<String>,
    /// The error it ended with, as it was recorded: what does not read is still shown.
    pub error: Option<Value>,
    /// When it was made.
    pub started_at: Moment,
    pub finished_at: Option<Moment>,
    /// The time of its last record.
    pub last_at: Moment,
    /// How many calls it has made.
    pub calls: u64,
    /// What was made and is still there, by name.
    pub left_behind: Vec<String>,
    pub params: Value,
    /// The version of the program that made it.
    pub version: String,
}

/// What stays of a run that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    pub run: String,
    /// The runbook's path or name, as it was given.
    pub runbook: String,
    pub status: RunStatus,
    /// How many records it had.
    pub records: u64,
    /// The hash of the last one.
    pub head: String,
    /// When it was removed.
    pub pruned_at: Moment,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    #[test]
    fn the_kept_text_has_sorted_keys_all_the_way_down() {
        let record = Record::Accepted { call: "a".into(), what: json!({"z": 1, "a": {"y": 2, "b": 3}}) };
        assert_eq!(
            record.to_canonical_json().expect("text"),
            r#"{"call":"a","kind":"accepted","what":{"a":{"b":3,"y":2},"z":1}}"#
        );
    }

    #[test]
    fn a_field_that_came_later_is_skipped() {
        let text = r#"{"kind":"resumed","version":"2","edited":true,"from":"elsewhere"}"#;
        let read: Record = serde_json::from_str(text).expect("reads");
        assert_eq!(
            read,
            Record::Resumed {
                version: "2".into(),
                edited: true,
                digest: None,
                gives_up: false,
                params: Map::new()
            }
        );
    }

    #[test]
    fn a_record_without_its_optional_fields_reads() {
        let text = r#"{"kind":"finished","status":"failed","left_behind":[]}"#;
        let read: Record = serde_json::from_str(text).expect("reads");
        assert_eq!(
            read,
            Record::Finished { status: RunStatus::Failed, error: None, left_behind: Vec::new() }
        );
    }

    #[test]
    fn the_word_for_a_status_is_the_one_that_is_stored() {
        for status in [RunStatus::Running, RunStatus::Undecided, RunStatus::Abandoned] {
            assert_eq!(serde_json::to_value(status).expect("serializes"), json!(status.as_str()));
        }
    }

    proptest::proptest! {
        #[test]
        fn a_float_reads_back_as_itself(x in proptest::num::f64::NORMAL) {
            let record = Record::Accepted { call: "a".into(), what: json!(x) };
            let text = record.to_canonical_json().expect("text");
            proptest::prop_assert_eq!(serde_json::from_str::<Record>(&text).expect("reads"), record);
        }
    }
}
