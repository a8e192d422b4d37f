//! Our own checks: what the advisors leave out, or see from one side only.

use super::finding::{CheckOutcome, build_finding};
use crate::provider::{
    Network as _,
    model::{Finding, FindingLevel},
    supabase::project::Supabase,
};
use serde_json::Value;

/// One of our checks.
pub(super) struct OwnCheck {
    /// The check's id.
    pub id: &'static str,
    /// The worst it can find.
    pub level: FindingLevel,
    /// Whether it applies to a branch.
    pub on_branch: bool,
}

/// Every check of ours.
pub(super) const OWN_CHECKS: &[OwnCheck] = &[
    OwnCheck { id: "recovery", level: FindingLevel::Error, on_branch: false },
    OwnCheck { id: "exposed_tables", level: FindingLevel::Error, on_branch: true },
    OwnCheck { id: "network_restrictions", level: FindingLevel::Warn, on_branch: false },
    OwnCheck { id: "ssl_enforcement", level: FindingLevel::Warn, on_branch: false },
    OwnCheck { id: "jit_access", level: FindingLevel::Warn, on_branch: false },
    OwnCheck { id: "network_bans", level: FindingLevel::Info, on_branch: false },
];

impl Supabase {
    /// Runs one of our checks.
    pub(super) async fn run_own_check(&self, id: &str) -> CheckOutcome {
        match id {
            "recovery" => self.check_recovery().await,
            "exposed_tables" => self.check_exposed_tables().await,
            "network_restrictions" => self.check_restrictions().await,
            "ssl_enforcement" => self.check_ssl().await,
            "jit_access" => self.check_jit_access().await,
            "network_bans" => self.check_bans().await,
            other => Err(format!("there is no check `{other}`")),
        }
    }

    async fn fetch_for_check(&self, path: &str) -> Result<Value, String> {
        self.get_project_resource(path).await.map_err(|e| e.message)
    }

    /// Checks that the project can be restored. With point-in-time recovery there are no daily backups, so an empty
    /// list alone is no finding.
    async fn check_recovery(&self) -> CheckOutcome {
        let platform = self.fetch_platform_backups().await.map_err(|e| e.message)?;
        if platform.can_be_restored() {
            return Ok(Vec::new());
        }
        let detail = "the platform keeps neither a complete backup nor a window of moments";
        let fix = "book backups or the add-on `pitr_7`, and until then take dumps with `backup::create`";
        Ok(vec![build_finding(
            "recovery",
            FindingLevel::Error,
            "RECOVERY",
            &self.reference,
            detail.into(),
            fix,
        )])
    }

    /// Checks the network restrictions, which hold for the database and its pooler only. Stored ranges are not
    /// enforced, a list that was never applied is open, and a change under review is not enforced yet.
    async fn check_restrictions(&self) -> CheckOutcome {
        let restrictions = self.fetch_restrictions().await.map_err(|e| e.message)?;
        let found = |detail: &str, fix: &str| {
            build_finding(
                "network_restrictions",
                FindingLevel::Warn,
                "NETWORK",
                &self.reference,
                detail.into(),
                fix,
            )
        };
        let mut findings: Vec<Finding> = Vec::new();
        if restrictions.admits_everybody() {
            findings.push(found(
                "any address may connect to the database and its pooler",
                "add the ranges that need it with `network::restrictions::add`, and remove `0.0.0.0/0` and `::/0`",
            ));
        } else if !restrictions.is_applied() {
            findings.push(found(
                "the restrictions are stored and not enforced",
                "wait until they are applied, and set them again when that does not happen",
            ));
        }
        if restrictions.is_under_review() {
            findings.push(found(
                "a change of the restrictions waits for its review and is not enforced",
                "review it in the dashboard",
            ));
        }
        Ok(findings)
    }

    async fn check_ssl(&self) -> CheckOutcome {
        let ssl = self.ssl().await.map_err(|e| e.message)?;
        let detail = match (ssl.enforced, ssl.applied) {
            (true, true) => return Ok(Vec::new()),
            (true, false) => "that connections use TLS was asked for and is not applied",
            (false, _) => "the database takes connections without TLS",
        };
        let fix = "enforce TLS; the database restarts for it";
        Ok(vec![build_finding(
            "ssl_enforcement",
            FindingLevel::Warn,
            "NETWORK",
            &self.reference,
            detail.into(),
            fix,
        )])
    }

    async fn check_jit_access(&self) -> CheckOutcome {
        let state = self.fetch_for_check("/jit-access").await?;
        match state["state"].as_str() {
            Some("enabled") => {}
            Some("disabled") => return Ok(Vec::new()),
            Some("unavailable") => {
                let why = state["unavailableReason"].as_str().unwrap_or("no reason given");
                return Err(format!("access on demand is unavailable: {why}"));
            }
            _ => return Err("the platform does not say whether access on demand is on".into()),
        }
        let listed = self.fetch_for_check("/database/jit/list").await?;
        let unlisted = || "the platform does not list who may log in on demand".to_owned();
        let mut endless = Vec::new();
        for user in listed.as_array().or_else(|| listed["items"].as_array()).ok_or_else(unlisted)? {
            let who = user["user_id"].as_str().unwrap_or("somebody");
            for role in user["user_roles"].as_array().ok_or_else(unlisted)? {
                if role["expires_at"].is_null() && role["branches_only"] != true {
                    endless.push(format!("{who}:{}", role["role"].as_str().unwrap_or("a role")));
                }
            }
        }
        let fix = "give the grant an end, or take it away";
        Ok(endless
            .into_iter()
            .map(|who| {
                let detail = format!("`{who}` may log in on demand for ever");
                build_finding("jit_access", FindingLevel::Warn, "ROLES", &who, detail, fix)
            })
            .collect())
    }

    async fn check_bans(&self) -> CheckOutcome {
        let banned = self.fetch_banned_addresses().await.map_err(|e| e.message)?;
        let fix = "see who tries to log in from there; `network::bans::remove` lets an address in again";
        Ok(banned
            .iter()
            .map(|address| {
                let detail = format!("`{address}` is shut out after failed attempts to log in");
                build_finding(
                    "network_bans",
                    FindingLevel::Info,
                    "NETWORK",
                    &address.to_string(),
                    detail,
                    fix,
                )
            })
            .collect())
    }
}
