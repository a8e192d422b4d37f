//! The security audit: the platform's advisors, and our own checks over other endpoints.
//!
//! - A check that could not run is skipped with its reason, and never a pass.
//! - Checks of project-level configuration do not apply to a branch.

mod advisors;
mod exposed_tables;
mod finding;
mod own_checks;

use super::project::Supabase;
use crate::provider::{
    Code, Result,
    model::{AuditCheck, AuditReport, CheckStatus},
};
use finding::NOT_FOR_BRANCHES;
use own_checks::OWN_CHECKS;

impl Supabase {
    /// Runs every check of the advisors and of our own.
    ///
    /// # Errors
    /// [`Code::Denied`] for a token that may not read the project, and what else the API says: nothing was audited
    /// then.
    pub(super) async fn run_audit(&self) -> Result<AuditReport> {
        // A token that cannot read the project cannot audit it either.
        self.check_project_exists().await?;
        let mut report = self.run_advisors().await;
        for spec in OWN_CHECKS {
            let status = if self.branch.is_some() && !spec.on_branch {
                (CheckStatus::NotApplicable, Some(NOT_FOR_BRANCHES.into()))
            } else {
                match self.run_own_check(spec.id).await {
                    Ok(found) if found.is_empty() => (CheckStatus::Passed, None),
                    Ok(found) => {
                        report.findings.extend(found);
                        (CheckStatus::Failed, None)
                    }
                    Err(reason) => (CheckStatus::Skipped, Some(reason)),
                }
            };
            report.checks.push(AuditCheck {
                check: spec.id.into(),
                level: spec.level,
                status: status.0,
                reason: status.1,
            });
        }
        report.findings.sort_by(|a, b| {
            (a.level, &a.category, &a.check, &a.object).cmp(&(b.level, &b.category, &b.check, &b.object))
        });
        Ok(report)
    }

    /// Checks that the project exists; a branch is not always found among the projects.
    async fn check_project_exists(&self) -> Result<()> {
        match self.fetch_project_details().await {
            Err(e) if e.code == Code::NotFound && self.branch.is_some() => {
                self.fetch_branch_details(&self.reference).await.map(drop)
            }
            details => details.map(drop),
        }
    }
}
