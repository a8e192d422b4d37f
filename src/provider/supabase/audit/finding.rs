//! What a check found, and how one finding is made.

use crate::provider::model::{Finding, FindingLevel};

/// Why a check does not apply to a branch.
pub(super) const NOT_FOR_BRANCHES: &str =
    "a branch has a configuration of its own, and not that of its project";

/// The findings of a check; the error is why it could not run.
pub(super) type CheckOutcome = Result<Vec<Finding>, String>;

/// Returns one finding.
pub(super) fn build_finding(
    check: &str,
    level: FindingLevel,
    category: &str,
    object: &str,
    detail: String,
    fix: &str,
) -> Finding {
    Finding {
        check: check.into(),
        level,
        category: category.into(),
        object: object.into(),
        detail,
        fix: fix.into(),
    }
}
