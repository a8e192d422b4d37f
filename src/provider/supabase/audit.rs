//! The audit: the platform's advisors, and what nobody but we put together from its other answers.
//!
//! - A check that could not run is skipped with its reason, and never a pass.
//! - What is decided by where a branch is, and not by its database, does not apply there.

mod advisors;
mod exposure;
mod own;

use super::Supabase;
use crate::provider::{
    Code, Result,
    model::{AuditReport, Check, CheckStatus, Finding, Level},
};

/// Why a check says nothing of a branch.
const OWN_CONFIGURATION: &str = "a branch has a configuration of its own, and not that of its project";

/// What a check found; the inner error is why it could not run.
type Found = Result<Vec<Finding>, String>;

/// Returns one finding.
fn finding(check: &str, level: Level, category: &str, object: &str, detail: String, fix: &str) -> Finding {
    Finding {
        check: check.into(),
        level,
        category: category.into(),
        object: object.into(),
        detail,
        fix: fix.into(),
    }
}

impl Supabase {
    /// Runs every check there is.
    ///
    /// # Errors
    /// [`Code::Denied`] for a token that is good for nothing, and when the platform is away: then nothing was looked at.
    pub(super) async fn audited(&self) -> Result<AuditReport> {
        // Who cannot be told who the project is can be told nothing.
        self.described_or_inside().await?;
        let mut report = self.advised().await;
        for spec in own::SPECS {
            let status = if self.branch.is_some() && !spec.on_branch {
                (CheckStatus::NotApplicable, Some(OWN_CONFIGURATION.into()))
            } else {
                match self.own_check(spec.id).await {
                    Ok(found) if found.is_empty() => (CheckStatus::Passed, None),
                    Ok(found) => {
                        report.findings.extend(found);
                        (CheckStatus::Failed, None)
                    }
                    Err(reason) => (CheckStatus::Skipped, Some(reason)),
                }
            };
            report.checks.push(Check {
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

    /// Asks after the project; a branch is not always found among the projects.
    async fn described_or_inside(&self) -> Result<()> {
        match self.described().await {
            Err(e) if e.code == Code::NotFound && self.branch.is_some() => {
                self.inside(&self.reference).await.map(drop)
            }
            asked => asked.map(drop),
        }
    }
}
