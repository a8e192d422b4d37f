//! A check of the audit, as the lists of checks hold it.

use crate::provider::model::FindingLevel;

/// One check.
pub(super) struct CheckSpec {
    pub id: &'static str,
    /// The highest level of its findings; a row's own `level` may be lower.
    pub level: FindingLevel,
    pub category: &'static str,
    /// Why it does not apply to a branch, whose isolation sets what it would check.
    pub on_branch: Option<&'static str>,
    /// The first major version that has what it reads.
    pub since_version: u32,
    /// The predefined role without whose rights the server leaves rows out.
    pub needs: Option<&'static str>,
    /// Returns one row per finding: `object`, `detail`, and optionally its own `level` and `fix`.
    pub sql: &'static str,
    pub fix: &'static str,
}

/// The defaults of an entry. 13 is the oldest version with `wal_status` in `pg_replication_slots`.
pub(super) const DEFAULT_CHECK: CheckSpec = CheckSpec {
    id: "",
    level: FindingLevel::Warn,
    category: "",
    on_branch: None,
    since_version: 13,
    needs: None,
    sql: "",
    fix: "",
};

/// Why a check of the configuration does not apply to a branch.
pub(super) const OWN_CONFIGURATION: &str = "a branch has a configuration of its own";
