//! Jobs: what a call asked for and the platform goes on with, and the key that names the call there.

use crate::{
    base::moment::Span,
    provider::error::{Code, Error, Result, SideEffects},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// The identity of one call on a platform: ten base32 characters, the same at every resume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallKey(pub String);

/// What comes before a key at the end of a name. A key alone could be a word: `production` has ten characters, too.
const KEY_MARK: &str = "-rd";
/// How many characters a key has.
const KEY_CHARS: usize = 10;

impl CallKey {
    /// Returns `name` with the key at its end, for platforms that keep no labels: `drill-rdkhp4j6vle3`.
    pub fn append_key_to_name(&self, name: &str) -> String {
        format!("{name}{KEY_MARK}{self}")
    }

    /// Returns a name without the key at its end, and the key. A name that only ends as a key does has none.
    pub fn split_name_and_key(full: &str) -> Option<(&str, CallKey)> {
        let (name, key) = full.rsplit_once(KEY_MARK)?;
        let is_key = key.len() == KEY_CHARS && key.chars().all(|c| matches!(c, 'a'..='z' | '2'..='7'));
        (is_key && !name.is_empty()).then(|| (name, CallKey(key.into())))
    }
}

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Work that the platform has accepted and goes on with by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What it is, in the provider's words: `backup`, `branch`, `restore`.
    pub kind: String,
    /// What the provider finds it by.
    pub id: String,
    /// Whatever else the provider needs to go on with it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

/// What was recorded of a job.
#[derive(Debug, Clone, Copy)]
pub enum RecordedJob<'a> {
    /// It is about to be asked for: by what it is found.
    Planned(&'a Value),
    /// It was accepted.
    Accepted(&'a Job),
}

/// What came of a job that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenUpJob {
    /// Nothing is left of it but what is named.
    Undone(UndoneJob),
    /// It had been done already, and stays so.
    Done,
    /// It is the platform's, and goes on there.
    OfPlatform,
}

/// What a job that was undone has changed meanwhile, and what of it stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UndoneJob {
    pub side_effects: SideEffects,
    pub left_behind: Vec<String>,
}

/// A restore in place that was begun and is neither done nor undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedRestore {
    pub job: Job,
    /// The run that asked for it.
    pub run: Option<String>,
}

/// The state of a job when it was polled.
#[derive(Debug, Clone, PartialEq)]
pub enum JobStatus {
    /// Still going on.
    Running(Progress),
    /// Not seen to have begun: what is shown may be from before the job.
    NotBegun(Progress),
    /// Finished without an error; with its value, handles tagged.
    Done(Value),
    /// It has failed, as the platform says: an error of the look itself is none of these.
    Failed(Error),
    /// It is shown as over by something that may lag behind by this much, also to before the job: that counts when looks have
    /// shown it alike for as long.
    Lagging(Box<JobStatus>, Span),
}

impl JobStatus {
    /// Returns the status of a job that this machine works on: whatever its poll fails with, the job has failed with. An error
    /// of the look itself, and a job that is gone, stay errors.
    ///
    /// # Errors
    /// As described.
    pub fn treat_poll_error_as_failure(polled: Result<Self>) -> Result<Self> {
        match polled {
            Err(e) if !e.code.is_look_failure() && !matches!(e.code, Code::NotFound | Code::Denied) => {
                Ok(Self::Failed(e))
            }
            polled => polled,
        }
    }
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Progress {
    /// What it is doing now: `copying`, `replaying WAL`.
    pub phase: String,
    /// How much is done, in `unit`.
    pub done: Option<u64>,
    /// How much there is, in `unit`.
    pub total: Option<u64>,
    /// What is counted: `bytes`, `segments`.
    pub unit: &'static str,
    /// When another look is worth it, where the provider knows.
    #[serde(skip)]
    pub again_in: Option<Span>,
}

impl Progress {
    /// Returns a phase whose length is not known.
    pub fn with_phase(phase: impl Into<String>) -> Self {
        Self { phase: phase.into(), ..Self::default() }
    }

    /// Returns `done` of `total` bytes.
    pub fn with_bytes(phase: impl Into<String>, done: u64, total: Option<u64>) -> Self {
        Self { phase: phase.into(), done: Some(done), total, unit: "bytes", again_in: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_at_the_end_of_a_name_is_told_from_a_word_there() {
        let key = CallKey("khp4j6vle3".into());
        let full = key.append_key_to_name("drill-production");
        assert_eq!(CallKey::split_name_and_key(&full), Some(("drill-production", key)));
        let words = ["drill-production", "drill-regression", "deployment", "drill-khp4j6vle3"];
        let odd = ["drill-rdKHP4J6VLE3", "drill-rdkhp4j6vle1", "drill-rdkhp4j6vle", "-rdkhp4j6vle3"];
        for name in words.into_iter().chain(odd) {
            assert_eq!(CallKey::split_name_and_key(name), None, "{name}");
        }
    }
}
