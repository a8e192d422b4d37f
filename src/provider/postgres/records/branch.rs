//! The record of a branch.

use super::recovery_plan::RecoveryPlan;
use crate::{
    base::moment::Moment,
    provider::{host::process::TrackedProcess, model::CallKey, postgres::sql::DatabaseAddress},
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

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
    /// The cluster that it is a copy of.
    pub system_identifier: String,
    /// From which backup it starts, and where it stops.
    pub recovery: RecoveryPlan,
    /// The folder that holds everything of it and nothing else.
    pub folder: PathBuf,
    /// The folder of its socket.
    pub socket: PathBuf,
    /// The port, which only names the socket.
    pub port: u16,
    pub phase: BranchPhase,
    /// The process that works on it.
    pub child: Option<TrackedProcess>,
    /// How often the copy was started, and in later phases the server.
    pub starts: u32,
    /// The time of the last transaction that it has.
    pub reached: Option<Moment>,
    /// The timeline it is on.
    pub timeline: Option<u32>,
}

impl BranchRecord {
    /// Returns the address of its server, with the user and the database of its source.
    pub(in super::super) fn address(&self, source: &DatabaseAddress) -> DatabaseAddress {
        DatabaseAddress {
            host: self.socket.display().to_string(),
            port: self.port,
            user: source.user.clone(),
            database: source.database.clone(),
            password: None,
        }
    }

    /// Returns the data folder.
    pub(in super::super) fn data_folder(&self) -> PathBuf {
        self.folder.join("files/data")
    }

    /// Returns the log of the server's latest start for recovery.
    pub(in super::super) fn recovery_log_path(&self) -> PathBuf {
        self.folder.join(format!("server-{}.log", self.starts))
    }
}
