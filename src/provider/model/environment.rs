//! The environment of a database: schedules, replicas, settings, and who may connect.

use super::job::CallKey;
use crate::base::moment::{Moment, Span};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::IpAddr;

/// How often a schedule takes a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frequency {
    /// Each day.
    Day,
    /// Each Monday.
    Week,
    /// The first of each month.
    Month,
}

/// A backup schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub id: String,
    /// The target it is of.
    pub target: String,
    pub every: Frequency,
    /// The time of day in UTC, `HH:MM`.
    pub at: String,
    /// How many days a backup of it is kept; unknown where the platform does not say.
    pub keep_days: Option<u32>,
    /// When it takes the next, where that can be known.
    pub next_at: Option<Moment>,
    /// What it takes: `simulated`, `base_backup`, `physical`.
    pub method: String,
    /// The key of the call that made it, where the platform keeps one.
    pub key: Option<CallKey>,
}

/// The options of a new schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRequest {
    pub every: Frequency,
    /// The time of day in UTC, `HH:MM`.
    pub at: String,
    /// How many days a backup of it is kept.
    pub keep_days: Option<u32>,
}

/// A read replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    pub id: String,
    /// The target it is of.
    pub target: String,
    /// Where it is, where places have names.
    pub region: Option<String>,
    /// `ready`, `preparing`, `failed`, or the platform's own word.
    pub status: String,
    pub host: Option<String>,
    pub port: Option<u16>,
    /// How far it is behind, where that can be known.
    pub lag: Option<Span>,
    /// The key of the call that made it, where the platform keeps one.
    pub key: Option<CallKey>,
}

/// The options of a new replica.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplicaRequest {
    /// Where to put it, where places have names.
    pub region: Option<String>,
}

/// A setting of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    pub name: String,
    /// What it was overridden with; null without an override.
    pub overridden: Value,
    /// What holds now; null where the platform does not say.
    pub effective: Value,
    /// Whether an override waits for a restart.
    pub pending_restart: bool,
}

/// The address ranges that may connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRestrictions {
    /// The ranges, as the platform shows them.
    pub ranges: Vec<AllowedRange>,
    /// Whether they are enforced, or only stored.
    pub applied: bool,
    /// What is not as it looks, one sentence each: an open range that makes the others void, a change under review.
    pub warnings: Vec<String>,
}

/// A range of addresses that may connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedRange {
    pub cidr: IpNet,
    /// `applied`, `stored` or `pending`.
    pub status: String,
}

/// A banned address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    pub address: IpAddr,
}

/// Whether connections without TLS are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SslEnforcement {
    /// Whether TLS is to be enforced.
    pub enforced: bool,
    /// Whether the platform has applied it already.
    pub applied: bool,
}

/// A paid add-on of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addon {
    /// What kind of thing: `pitr`, `compute_instance`.
    pub kind: String,
    /// Which of its variants: `pitr_7`.
    pub variant: String,
    /// The same for people.
    pub name: String,
}
