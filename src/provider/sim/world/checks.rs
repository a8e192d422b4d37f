//! The checks of an audit whose outcome follows from the database.

use crate::provider::model::FindingLevel;

/// A check whose outcome follows from the database.
#[derive(Clone, Copy)]
pub(super) enum DerivedCheck {
    /// A table has policies, and its row-level security is off.
    PolicyWithoutRls,
    /// A policy lets every row through.
    PolicyAlwaysTrue,
    /// No backup can be restored.
    NoUsableBackup,
    /// A table has no primary key.
    NoPrimaryKey,
}

impl DerivedCheck {
    /// Every such check, in the order of a report.
    pub(super) const ALL: &[Self] =
        &[Self::PolicyWithoutRls, Self::PolicyAlwaysTrue, Self::NoUsableBackup, Self::NoPrimaryKey];

    /// Returns its name in a report.
    pub(in crate::provider::sim) fn id(self) -> &'static str {
        match self {
            Self::PolicyWithoutRls => "policy_exists_rls_disabled",
            Self::PolicyAlwaysTrue => "rls_policy_always_true",
            Self::NoUsableBackup => "no_usable_backup",
            Self::NoPrimaryKey => "no_primary_key",
        }
    }

    /// Returns the level of what it finds.
    pub(super) fn level(self) -> FindingLevel {
        match self {
            Self::PolicyWithoutRls | Self::NoUsableBackup => FindingLevel::Error,
            Self::PolicyAlwaysTrue => FindingLevel::Warn,
            Self::NoPrimaryKey => FindingLevel::Info,
        }
    }

    /// Returns what it is about.
    pub(super) fn category(self) -> &'static str {
        match self {
            Self::PolicyWithoutRls | Self::PolicyAlwaysTrue => "RLS",
            Self::NoUsableBackup | Self::NoPrimaryKey => "RECOVERY",
        }
    }

    /// Returns whether it applies to a branch, which has no backups of its own.
    pub(super) fn applies_to_branch(self) -> bool {
        !matches!(self, Self::NoUsableBackup)
    }
}

/// Returns whether a check follows from the database, so that no world file may answer it.
pub(super) fn is_derived_check(id: &str) -> bool {
    DerivedCheck::ALL.iter().any(|check| check.id() == id)
}
