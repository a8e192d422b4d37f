//! The record of a copy: what a branch and a restore in place write down alike of the backup that is laid down for them
//! and recovered.

use super::recovery_plan::RecoveryPlan;
use crate::{
    base::moment::Moment,
    provider::host::process::{self, TrackedProcess},
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The stored state of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct CopyRecord {
    /// The cluster that it is a copy of.
    pub system_identifier: String,
    /// From which backup it starts, and where it stops.
    pub recovery: RecoveryPlan,
    /// The folder that holds everything of it and nothing else.
    pub folder: PathBuf,
    /// The folder of the socket of the server that recovers it.
    pub socket: PathBuf,
    /// The process that works on it.
    pub child: Option<TrackedProcess>,
    /// How often the copying was started, and in later phases the server.
    pub starts: u32,
    /// The time of the last transaction that it has.
    pub reached: Option<Moment>,
    /// The timeline it is on.
    pub timeline: Option<u32>,
}

impl CopyRecord {
    /// Returns the record of a copy that nothing was done for yet.
    pub(in super::super) fn new(
        system_identifier: String,
        recovery: RecoveryPlan,
        folder: PathBuf,
        socket: PathBuf,
    ) -> Self {
        Self {
            system_identifier,
            recovery,
            folder,
            socket,
            child: None,
            starts: 0,
            reached: None,
            timeline: None,
        }
    }

    /// Returns the folder of the copied files.
    pub(in super::super) fn files_folder(&self) -> PathBuf {
        self.folder.join("files")
    }

    /// Returns the data folder among the copied files.
    pub(in super::super) fn data_folder(&self) -> PathBuf {
        self.folder.join("files/data")
    }

    /// Returns the log of the server's latest start for recovery.
    pub(in super::super) fn recovery_log_path(&self) -> PathBuf {
        self.folder.join(format!("server-{}.log", self.starts))
    }

    /// Returns whether the machine was booted since a process was last started for it.
    pub(in super::super) fn is_of_other_boot(&self) -> bool {
        self.child.as_ref().is_some_and(|child| child.boot != process::read_boot_id())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BranchRecord, RestoreRecord};
    use serde_json::{Map, Value, json};

    /// What every version has written of a copy, beside what else is in the record that it is part of.
    fn written_copy(rest: Value) -> Map<String, Value> {
        let copy = json!({
            "system_identifier": "7552345678901234567",
            "recovery": {
                "backup": "b1", "stop": "backup_end", "inclusive": true, "timeline": 1, "archive": "/wal",
                "unseen": null
            },
            "folder": "/copies/k1",
            "socket": "/tmp/s1",
            "child": { "pid": 7, "started": 18_446_744_073_709_551_615_u64, "boot": "boot" },
            "starts": 2,
            "reached": { "$moment": "2026-11-20T12:00:00Z" },
            "timeline": 3,
        });
        let parts = [copy, rest].into_iter().filter_map(|part| part.as_object().cloned());
        parts.flatten().collect()
    }

    #[test]
    fn records_of_earlier_versions_are_read_and_written_alike() {
        let branch = written_copy(json!({
            "id": "k1", "name": "drill", "target": "lab", "key": "k1", "run": null, "temporary": false,
            "created_at": { "$moment": "2026-11-20T12:00:00Z" }, "port": 5432, "phase": "replaying"
        }));
        let read: BranchRecord = serde_json::from_value(branch.clone().into()).expect("it reads");
        assert_eq!((read.copy.starts, read.copy.timeline), (2, Some(3)));
        assert!(read.copy.is_of_other_boot());
        assert_eq!(json!(read), Value::from(branch));
        let mut restore = written_copy(json!({
            "key": "k1", "target": "lab", "run": "r", "created_at": { "$moment": "2026-11-20T12:00:00Z" }, "data": "/data",
            "aside": "/data.before", "options": [], "configuration": [], "log": "/log", "ran": true, "running": false,
            "phase": "replaying", "failure": null, "stuck": null
        }));
        let read: RestoreRecord = serde_json::from_value(restore.clone().into()).expect("it reads");
        assert_eq!(read.copy.folder.to_str(), Some("/copies/k1"));
        // Nobody reads it any more.
        restore.remove("stuck");
        assert_eq!(json!(read), Value::from(restore));
    }
}
