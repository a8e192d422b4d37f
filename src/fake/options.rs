//! The options of a server.

use super::faults::FaultRule;
use crate::provider::sim::SANDBOX;

/// The options of a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The port on loopback; 0 picks a free one.
    pub port: u16,
    /// The worlds behind the projects, one or more.
    pub worlds: Vec<WorldFile>,
    /// How many projects there are; they take the worlds in turn.
    pub projects: usize,
    /// The plan that the organization is on.
    pub plan: BillingPlan,
    /// Whether the projects have point-in-time recovery, which replaces daily backups.
    pub pitr: bool,
    /// The factor by which the platform's durations are shortened.
    pub speed: u32,
    /// The rate limit: requests a minute for one token, endpoint and project.
    pub per_minute: u32,
    /// Whether projects get a real PostgreSQL cluster on demand.
    pub postgres: bool,
    pub faults: Vec<FaultRule>,
}

/// A world file: its name and its text.
#[derive(Debug, Clone)]
pub struct WorldFile {
    /// The name of the project.
    pub name: String,
    pub text: String,
}

/// The billing plan of the organization; features that it lacks are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BillingPlan {
    /// No branches, no replicas, no restrictions.
    Free,
    /// Branches, replicas, restrictions, recovery; backups for 7 days.
    Pro,
    /// As `Pro`, with backups for 14 days.
    Team,
    /// Also a backup schedule and restore points; backups for 30 days.
    Enterprise,
}

impl BillingPlan {
    /// Every plan, the smallest first.
    pub const ALL: &[BillingPlan] =
        &[BillingPlan::Free, BillingPlan::Pro, BillingPlan::Team, BillingPlan::Enterprise];

    /// Returns the plan's name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            BillingPlan::Free => "free",
            BillingPlan::Pro => "pro",
            BillingPlan::Team => "team",
            BillingPlan::Enterprise => "enterprise",
        }
    }

    /// Returns how many days a daily backup is kept.
    pub(super) const fn retention_days(self) -> u32 {
        match self {
            BillingPlan::Free => 0,
            BillingPlan::Pro => 7,
            BillingPlan::Team => 14,
            BillingPlan::Enterprise => 30,
        }
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            port: 0,
            worlds: vec![WorldFile { name: "sandbox".into(), text: SANDBOX.into() }],
            projects: 1,
            plan: BillingPlan::Enterprise,
            pitr: true,
            speed: 1,
            per_minute: 120,
            postgres: false,
            faults: Vec::new(),
        }
    }
}
