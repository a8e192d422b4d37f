//! Evidence: what a call wrote down before it acted, by which another process can tell later what came of it.
//!
//! It is typed, and decoded once, when a call is taken up that was begun. What does not decode stops the run: a call that
//! went on by a default would act on what nobody recorded.

use crate::{
    base::clock::Uptime,
    provider::{
        Code, Error,
        model::{Job, SqlOutcome},
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{collections::BTreeMap, str::FromStr};

/// What a call wrote down, by the shape of its effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "shape", rename_all = "snake_case", deny_unknown_fields)]
pub enum Evidence {
    /// Elements of a thing are about to be set.
    Set { changes: ElementChanges, sent_by: Uptime },
    /// Something is about to be removed.
    Remove {
        /// What exactly goes, as its operation describes it.
        gone: Value,
        sent_by: Uptime,
    },
    /// Something is about to be made.
    Make {
        /// How it was before, where the platform keeps no key.
        before: Value,
        sent_by: Uptime,
    },
    /// A job is about to be asked for.
    Job {
        /// What the provider finds it by, where the platform keeps no key; null where it keeps one.
        traces: Value,
        sent_by: Uptime,
    },
    /// A job was accepted, and goes on.
    Accepted { job: Job },
    /// A statement has run and is about to be committed.
    Commit {
        /// What tells later whether it was.
        token: Value,
        /// What it did, once it is known to be committed and before its mark is removed from the target.
        #[serde(skip_serializing_if = "Option::is_none")]
        outcome: Option<SqlOutcome>,
    },
    /// A request is about to be sent of which nobody can know what came of it.
    Opaque { request: Value },
}

/// The elements that a call sets, by name, each as it was and as it is to be.
pub(super) type ElementChanges = BTreeMap<String, ElementChange>;

/// One element: a range, a setting, a switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElementChange {
    pub before: Value,
    pub wanted: Value,
}

impl Evidence {
    /// Decodes what the journal has of a call.
    ///
    /// # Errors
    /// Why it is not the evidence of any shape.
    pub fn decode(recorded: &Value) -> Result<Self, String> {
        Self::deserialize(recorded).map_err(|e| format!("its evidence cannot be read: {e}"))
    }
}

/// Decodes a part of an evidence that its operation describes.
///
/// # Errors
/// Why it is not what the operation writes.
pub(super) fn decode_part<T: DeserializeOwned>(part: &Value) -> Result<T, String> {
    T::deserialize(part).map_err(|e| format!("its evidence cannot be read: {e}"))
}

/// Reads the name of an element as what it names.
///
/// # Errors
/// [`Code::Internal`] for a name that another version wrote: what it does not read it cannot ask for.
pub(super) fn parse_element<T: FromStr>(name: &str) -> Result<T, Error> {
    name.parse().map_err(|_| unreadable_element_error(name))
}

/// Returns the error of a recorded element that another version wrote.
pub(super) fn unreadable_element_error(name: &str) -> Error {
    Error::new(Code::Internal, format!("the recorded element `{name}` cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn evidence_reads_back_as_it_was_and_nothing_else_reads() {
        let sent_by = Uptime { boot: "b".into(), millis: 5 };
        let change = ElementChange { before: json!(false), wanted: json!(true) };
        let set = Evidence::Set { changes: [("tls".to_owned(), change)].into(), sent_by };
        let recorded = serde_json::to_value(&set).expect("it serializes");
        assert_eq!(Evidence::decode(&recorded), Ok(set));
        let mut odd = vec![json!({}), json!(null), json!({"id": "nightly-1", "also": []})];
        for (name, value) in
            [("changes", json!([])), ("sent_by", json!(5)), ("shape", json!("sett")), ("x", json!(1))]
        {
            let mut one = recorded.clone();
            one[name] = value;
            odd.push(one);
        }
        for one in odd {
            let why = Evidence::decode(&one).expect_err("it is not what was written");
            assert!(why.starts_with("its evidence cannot be read: "), "{why}");
        }
    }
}
