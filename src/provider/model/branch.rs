//! Branches, and what promoting one carries over.

use super::job::CallKey;
use crate::base::{moment::Moment, value};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// What names it under its target.
    pub name: String,
    /// Unique for ever: a later branch of the same name has another.
    pub id: String,
    /// The target it is of.
    pub target: String,
    /// `ready`, `preparing`, `failed`, `stopped`.
    pub status: String,
    /// When it was asked for.
    pub created_at: Moment,
    /// The backup it was made from.
    pub backup: Option<String>,
    /// The last transaction that is in, where that is known.
    pub reached: Option<Moment>,
    pub timeline: Option<u32>,
    /// What of the target could not be searched for where to stop, as a sentence; `None` when all was.
    #[serde(default)]
    pub unseen: Option<String>,
    /// How to connect: a socket folder or an address.
    pub host: Option<String>,
    pub port: Option<u16>,
    /// Whether the run that made it removes it.
    pub temporary: bool,
    /// The run that made it.
    pub run: Option<String>,
    /// The key of the call that made it.
    pub key: Option<CallKey>,
}

impl Branch {
    /// Returns the branch as a handle.
    pub fn to_handle(&self) -> Value {
        value::tag_value(value::BRANCH_TAG, serde_json::to_value(self).unwrap_or_default())
    }
}

/// The result of promoting a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionOutcome {
    pub target: String,
    pub branch: String,
    /// What was carried over, in a word: `data`, `migrations`.
    pub carried: String,
}
