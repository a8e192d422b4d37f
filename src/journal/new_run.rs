//! What a run is made from: its sources, its repository, the targets that it must hold.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// What a new run is created from.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The runbook's path or name, as it was given.
    pub runbook: String,
    pub title: String,
    /// The parameters; secrets by reference.
    pub params: Value,
    /// Every text it is made of.
    pub sources: Vec<Source>,
    /// The repository it lies in.
    pub git: Option<GitState>,
    /// The version of this program.
    pub version: String,
    /// The leases that it must have before it begins.
    pub leases: Vec<Lease>,
}

/// One text of which a run was made: the runbook itself, or a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its path or name.
    pub path: String,
    pub text: String,
}

/// The state of the runbook's repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitState {
    /// The commit that was checked out.
    pub commit: String,
    /// Whether there were changes beside it.
    pub dirty: bool,
}

/// A target that a run uses, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The target's identity, independent of its name.
    pub target: String,
    /// What the run calls it.
    pub name: String,
    /// How the run uses it.
    pub mode: LeaseMode,
}

/// How a run uses a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseMode {
    /// Other runs may use it too, if they share it.
    Shared,
    /// No other run may use it.
    Exclusive,
}

impl LeaseMode {
    /// Returns the word that is shown and stored.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            LeaseMode::Shared => "shared",
            LeaseMode::Exclusive => "exclusive",
        }
    }

    /// Returns the mode that a stored word means.
    pub(super) fn from_text(text: &str) -> LeaseMode {
        if text == "shared" { LeaseMode::Shared } else { LeaseMode::Exclusive }
    }
}

impl fmt::Display for LeaseMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
