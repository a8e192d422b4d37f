//! What a server is started with.

use super::faults::Rule;
use crate::provider::sim::SANDBOX;

/// How a server is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port on loopback; 0 is any that is free.
    pub port: u16,
    /// The worlds behind the projects, one or more.
    pub worlds: Vec<World>,
    /// How many projects there are; they take the worlds in turn.
    pub projects: usize,
    /// The plan that the organization is on.
    pub plan: Plan,
    /// Whether the projects have the add-on for going back to a moment, which stops their daily backups.
    pub pitr: bool,
    /// By how much what takes time is shortened.
    pub speed: u32,
    /// How many requests a minute are served for one endpoint and project.
    pub per_minute: u32,
    /// Whether there is a real PostgreSQL behind it.
    pub postgres: bool,
    /// What goes wrong.
    pub faults: Vec<Rule>,
}

/// A world file: what it is called, and what is in it.
#[derive(Debug, Clone)]
pub struct World {
    /// The name of the project.
    pub name: String,
    /// The text.
    pub text: String,
}

/// A plan: what it lacks is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plan {
    /// No branches, no replicas, no restrictions.
    Free,
    /// What most have.
    Pro,
    /// The same for more people.
    Team,
    /// With a schedule for backups, and restore points.
    Enterprise,
}

impl Plan {
    /// Every plan, the smallest first.
    pub const ALL: &[Plan] = &[Plan::Free, Plan::Pro, Plan::Team, Plan::Enterprise];

    /// Returns the plan's name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Plan::Free => "free",
            Plan::Pro => "pro",
            Plan::Team => "team",
            Plan::Enterprise => "enterprise",
        }
    }

    /// Returns how many days a daily backup is kept.
    pub(super) const fn retention_days(self) -> u32 {
        match self {
            Plan::Free => 0,
            Plan::Pro => 7,
            Plan::Team => 14,
            Plan::Enterprise => 30,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            worlds: vec![World { name: "sandbox".into(), text: SANDBOX.into() }],
            projects: 1,
            plan: Plan::Enterprise,
            pitr: true,
            speed: 1,
            per_minute: 120,
            postgres: false,
            faults: Vec::new(),
        }
    }
}
