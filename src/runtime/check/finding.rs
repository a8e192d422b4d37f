//! What a check finds.

use crate::journal::SourceLocation;

/// A problem that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckFinding {
    /// How bad it is.
    pub severity: Severity,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    pub place: Option<SourceLocation>,
}

/// How bad a finding of a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The runbook would be refused, or would fail where this stands.
    Error,
    /// A right that the header does not give: the runbook would be refused.
    Policy,
    /// It would run; somebody should look.
    Warning,
}
