//! How long a request whose answer never came may still take effect.

use crate::base::moment::Span;
use std::fmt;

/// What a request does, as far as it decides how late it may take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectKind {
    /// Takes a backup.
    Backup,
    /// Deletes a backup.
    BackupDeletion,
    /// Restores in place.
    Restore,
    /// Makes a branch.
    Branch,
    /// Deletes a branch.
    BranchDeletion,
    /// Resets or promotes a branch.
    BranchWorkflow,
    /// Makes a restore point.
    RestorePoint,
    /// Makes or sets a schedule.
    Schedule,
    /// Removes a schedule.
    ScheduleDeletion,
    /// Makes a read replica.
    Replica,
    /// Removes a read replica.
    ReplicaDeletion,
    /// Overrides settings.
    Settings,
    /// Changes who may connect.
    Ranges,
    /// Lets addresses in again.
    Bans,
    /// Says whether TLS is enforced.
    Tls,
    /// Pauses, resumes or restarts.
    Power,
    /// Runs a statement that reached its commit.
    Statement,
}

impl EffectKind {
    /// Every kind, with its words for people, in the order of the table in the documents.
    pub const ALL: &[(EffectKind, &str)] = &[
        (EffectKind::Backup, "take a backup"),
        (EffectKind::BackupDeletion, "delete a backup"),
        (EffectKind::Restore, "restore in place"),
        (EffectKind::Branch, "make a branch"),
        (EffectKind::BranchDeletion, "delete a branch"),
        (EffectKind::BranchWorkflow, "reset or promote a branch"),
        (EffectKind::RestorePoint, "make a restore point"),
        (EffectKind::Schedule, "make or set a schedule"),
        (EffectKind::ScheduleDeletion, "delete a schedule"),
        (EffectKind::Replica, "make a replica"),
        (EffectKind::ReplicaDeletion, "delete a replica"),
        (EffectKind::Settings, "override settings"),
        (EffectKind::Ranges, "change the allowed ranges"),
        (EffectKind::Bans, "remove bans"),
        (EffectKind::Tls, "enforce TLS or not"),
        (EffectKind::Power, "pause, resume or restart"),
        (EffectKind::Statement, "commit a statement"),
    ];
}

/// What a provider states of a kind of request: until when it may still take effect once nobody waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LandingLimit {
    /// It cannot: when its process is gone or has given up, nothing of it is left. How that is so.
    Fenced(&'static str),
    /// Within this time after it was sent. Who says so.
    Bounded(Span, &'static str),
    /// Within this time after it was sent, as redrill assumes: the platform does not say.
    Assumed(Span),
    /// Nobody knows.
    Unbounded,
}

impl LandingLimit {
    /// Returns how long after it was sent a request may take effect: zero for one that cannot, `None` where nobody knows.
    pub fn max_delay(self) -> Option<Span> {
        match self {
            LandingLimit::Fenced(_) => Some(Span::ZERO),
            LandingLimit::Bounded(span, _) | LandingLimit::Assumed(span) => Some(span),
            LandingLimit::Unbounded => None,
        }
    }

    /// Returns whether the request cannot take effect any more once nobody waits for it.
    pub fn cannot_land_late(self) -> bool {
        matches!(self, LandingLimit::Fenced(_))
    }
}

impl fmt::Display for LandingLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LandingLimit::Fenced(how) => write!(f, "fenced: {how}"),
            LandingLimit::Bounded(span, source) => write!(f, "within {span}: {source}"),
            LandingLimit::Assumed(span) => write!(f, "assumed: within {span}"),
            LandingLimit::Unbounded => f.write_str("nobody knows"),
        }
    }
}
