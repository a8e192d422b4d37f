//! A target: its identity, and its entry in `project list`.

use serde::{Deserialize, Serialize};

/// The identity of a target. Two targets are the same exactly when their `id` is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Unique over all platforms: `postgres:<system identifier>:<data folder>`, `sim:<world id>`.
    pub id: String,
    /// The same for people.
    pub description: String,
}

impl Identity {
    /// Returns the description, with the id where that of another one reads the same.
    pub fn describe_beside(&self, other: &Identity) -> String {
        let Self { id, description } = self;
        if *description == other.description { format!("{description} ({id})") } else { description.clone() }
    }
}

/// A target as an item of `project list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    pub name: String,
    /// The kind of provider.
    pub provider: String,
    /// `healthy`, or what is the matter in a word.
    pub status: String,
    /// The server's version, where it is known.
    pub version: Option<String>,
    /// Who it really is, for people.
    pub identity: String,
    /// Whether it asks for its name before a change.
    pub protect: bool,
}
