//! The record of a branch.

use super::copy::CopyRecord;
use crate::{
    base::moment::Moment,
    provider::{model::CallKey, postgres::sql::DatabaseAddress},
};
use serde::{Deserialize, Serialize};

/// The phase of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum BranchPhase {
    /// The backup is being copied.
    Copying,
    /// The server replays WAL.
    Replaying,
    /// Recovery is over, and proved.
    Ready,
    /// It is being removed.
    Removing,
}

/// The stored state of a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct BranchRecord {
    /// Its id, which no other branch ever has.
    pub id: String,
    pub name: String,
    /// The target it is of.
    pub target: String,
    /// The key of the call that made it.
    pub key: CallKey,
    /// The run that made it.
    pub run: Option<String>,
    /// Whether that run removes it.
    pub temporary: bool,
    /// When it was asked for.
    pub created_at: Moment,
    /// What it is a copy of, and how far that is.
    #[serde(flatten)]
    pub copy: CopyRecord,
    /// The port, which only names the socket.
    pub port: u16,
    pub phase: BranchPhase,
}

impl BranchRecord {
    /// Returns the address of its server, with the user and the database of its source.
    pub(in super::super) fn server_address(&self, source: &DatabaseAddress) -> DatabaseAddress {
        DatabaseAddress {
            host: self.copy.socket.display().to_string(),
            port: self.port,
            user: source.user.clone(),
            database: source.database.clone(),
            password: None,
        }
    }
}
