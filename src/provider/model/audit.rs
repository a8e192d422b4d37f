//! Row-level security policies, and audits: their checks and findings.

use serde::{Deserialize, Serialize};

/// A row-level security policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The schema of its table.
    pub schema: String,
    pub table: String,
    pub name: String,
    /// `ALL`, `SELECT`, `INSERT`, `UPDATE`, `DELETE`.
    pub command: String,
    /// Whether it grants (`permissive`) or narrows.
    pub permissive: bool,
    /// Whom it is for.
    pub roles: Vec<String>,
    /// Its `USING` expression.
    pub using_expression: Option<String>,
    /// Its `WITH CHECK` expression.
    pub check_expression: Option<String>,
    /// Whether row-level security is switched on for the table; without it the policy does nothing.
    pub enabled: bool,
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingLevel {
    /// Fix it now.
    Error,
    /// Fix it soon.
    Warn,
    /// Good to know.
    Info,
}

/// Something the audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check that found it.
    pub check: String,
    /// How bad it is.
    pub level: FindingLevel,
    /// What it is about: `NETWORK`, `ROLES`, `RECOVERY`.
    pub category: String,
    /// The thing it is about.
    pub object: String,
    /// What is the matter.
    pub detail: String,
    /// How to mend it.
    pub fix: String,
}

impl Finding {
    /// Returns what makes two findings the same finding.
    pub fn fingerprint(&self) -> (&str, &str) {
        (&self.check, &self.object)
    }
}

/// The status of an audit check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// It ran and found nothing.
    Passed,
    /// It ran and found something.
    Failed,
    /// It could not run.
    Skipped,
    /// What it looks at is decided by where this is, not by the database.
    NotApplicable,
}

/// An audit check and its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCheck {
    pub check: String,
    /// The worst level it can find.
    pub level: FindingLevel,
    /// What became of it.
    pub status: CheckStatus,
    /// Why it did not run, or does not apply.
    pub reason: Option<String>,
}

/// The result of an audit: its findings, and every check with its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// What it found, worst first.
    pub findings: Vec<Finding>,
    /// Every check there is.
    pub checks: Vec<AuditCheck>,
}
