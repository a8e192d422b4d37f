//! What stands around a database: schedules, replicas, settings, and who may connect.

use super::Key;
use crate::base::moment::{Moment, Span};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::IpAddr;

/// How often a schedule comes round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// Each day.
    Day,
    /// Each Monday.
    Week,
    /// The first of each month.
    Month,
}

/// Backups that are taken by the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// What names it.
    pub id: String,
    /// The target it is of.
    pub target: String,
    /// How often.
    pub every: Every,
    /// The time of day in UTC, `HH:MM`.
    pub at: String,
    /// How many days a backup of it is kept; unknown where the platform does not say.
    pub keep_days: Option<u32>,
    /// When it takes the next, where that can be known.
    pub next_at: Option<Moment>,
    /// What it takes: `simulated`, `base_backup`, `physical`.
    pub method: String,
    /// The key of the call that made it, where the platform keeps one.
    pub key: Option<Key>,
}

/// What is asked of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRequest {
    /// How often.
    pub every: Every,
    /// The time of day in UTC, `HH:MM`.
    pub at: String,
    /// How many days a backup of it is kept.
    pub keep_days: Option<u32>,
}

/// A read replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// What names it.
    pub id: String,
    /// The target it is of.
    pub target: String,
    /// Where it is, where places have names.
    pub region: Option<String>,
    /// `ready`, `preparing`, `failed`, or the platform's own word.
    pub status: String,
    /// How to connect.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// How far it is behind, where that can be known.
    pub lag: Option<Span>,
    /// The key of the call that made it, where the platform keeps one.
    pub key: Option<Key>,
}

/// What is asked of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplicaRequest {
    /// Where to put it, where places have names.
    pub region: Option<String>,
}

/// A setting of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// What it was overridden with; null without an override.
    pub overridden: Value,
    /// What holds now; null where the platform does not say.
    pub effective: Value,
    /// Whether an override waits for a restart.
    pub pending_restart: bool,
}

/// Who may connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// The ranges, as the platform shows them.
    pub ranges: Vec<Range>,
    /// Whether they are enforced, or only stored.
    pub applied: bool,
    /// What is not as it looks, one sentence each: an open range that makes the others void, a change under review.
    pub warnings: Vec<String>,
}

/// A range of addresses that may connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The range.
    pub cidr: IpNet,
    /// `applied`, `stored` or `pending`.
    pub status: String,
}

/// An address that is shut out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// The address.
    pub address: IpAddr,
}

/// Whether connections without TLS are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ssl {
    /// Whether they are to be.
    pub enforced: bool,
    /// Whether that is so already.
    pub applied: bool,
}

/// What was booked besides the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addon {
    /// What kind of thing: `pitr`, `compute_instance`.
    pub kind: String,
    /// Which of its variants: `pitr_7`.
    pub variant: String,
    /// The same for people.
    pub name: String,
}

/// What a promotion came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    /// The target.
    pub target: String,
    /// The branch.
    pub branch: String,
    /// What was carried over, in a word: `data`, `migrations`.
    pub carried: String,
}
