//! The platform's own advisors: the first version of their address, or where that is gone the second.
//!
//! - Their names are open: one that is not known here is carried like the others.
//! - Findings about health mean that something was not looked at. What was not found then did not pass.

use super::OWN_CONFIGURATION;
use crate::provider::{
    Code, Error, Result,
    model::{AuditReport, Check, CheckStatus, Finding, Level},
    supabase::{Supabase, asking},
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

/// What the platform looks for, as far as it is about security, with the level that it gives.
const LINTS: &[(&str, Level)] = &[
    ("auth_users_exposed", Level::Error),
    ("policy_exists_rls_disabled", Level::Error),
    ("rls_enabled_no_policy", Level::Info),
    ("security_definer_view", Level::Error),
    ("function_search_path_mutable", Level::Warn),
    ("rls_disabled_in_public", Level::Error),
    ("extension_in_public", Level::Warn),
    ("rls_references_user_metadata", Level::Error),
    ("materialized_view_in_api", Level::Warn),
    ("foreign_table_in_api", Level::Warn),
    ("unsupported_reg_types", Level::Warn),
    ("auth_otp_long_expiry", Level::Warn),
    ("auth_otp_short_length", Level::Warn),
    ("ssl_not_enforced", Level::Warn),
    ("network_restrictions_not_set", Level::Warn),
    ("password_requirements_min_length", Level::Warn),
    ("pitr_not_enabled", Level::Warn),
    ("auth_leaked_password_protection", Level::Warn),
    ("auth_insufficient_mfa_options", Level::Warn),
    ("auth_password_policy_missing", Level::Warn),
    ("leaked_service_key", Level::Error),
    ("no_backup_admin", Level::Warn),
    ("vulnerable_postgres_version", Level::Warn),
];

/// What the platform finds on a branch that is the project's, and not the branch's.
const OF_THE_PROJECT: &[&str] =
    &["ssl_not_enforced", "network_restrictions_not_set", "pitr_not_enabled", "no_backup_admin"];

/// One finding of theirs.
#[derive(Debug, Deserialize)]
struct Lint {
    name: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    level: String,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    remediation: Option<String>,
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    cache_key: String,
}

impl Lint {
    fn is_about_health(&self) -> bool {
        self.categories.iter().any(|category| category == "HEALTH")
    }

    fn says(&self) -> &str {
        [&self.detail, &self.description, &self.title]
            .into_iter()
            .find(|text| !text.is_empty())
            .map_or(self.name.as_str(), String::as_str)
    }

    fn level(&self) -> Level {
        match self.level.as_str() {
            "ERROR" => Level::Error,
            "INFO" => Level::Info,
            // A word that is not known here is not made light of.
            _ => Level::Warn,
        }
    }

    fn object(&self) -> String {
        let of = |field: &str| self.metadata[field].as_str();
        match (of("schema"), of("name").or(of("entity"))) {
            (Some(schema), Some(name)) => format!("{schema}.{name}"),
            (None, Some(name)) => name.into(),
            _ if self.cache_key.is_empty() => self.name.clone(),
            _ => self.cache_key.clone(),
        }
    }

    fn finding(&self) -> Finding {
        let category = self.categories.first().cloned().unwrap_or_else(|| "SECURITY".into());
        super::finding(
            &self.name,
            self.level(),
            &category,
            &self.object(),
            self.says().to_owned(),
            self.remediation.as_deref().unwrap_or_default(),
        )
    }
}

impl Supabase {
    /// Returns what the platform's advisors say.
    pub(super) async fn advised(&self) -> AuditReport {
        match self.lints().await {
            Ok(lints) => report(&lints, self.branch.is_some()),
            Err(why) => {
                let why = format!("the platform's advisors could not be asked: {}", why.message);
                let skipped =
                    |(name, level): &(&str, Level)| check(name, *level, CheckStatus::Skipped, Some(&why));
                AuditReport { findings: Vec::new(), checks: LINTS.iter().map(skipped).collect() }
            }
        }
    }

    async fn lints(&self) -> Result<Vec<Lint>> {
        let first = format!("/v1/projects/{}/advisors/security", self.reference);
        let (mut answer, path) = match self.api.get(&first).await {
            Ok(answer) => (answer, first),
            Err(e) if is_gone(&e) => {
                let names: Vec<_> = LINTS.iter().map(|(name, _)| json!({ "name": name })).collect();
                let body =
                    json!({ "data": { "type": "project_advisors", "attributes": { "lints": names } } });
                let second = format!("/v2/projects/{}/advisors/run", self.reference);
                let mut answer = self.api.look(Method::POST, &second, Some(&body)).await?;
                (answer["data"]["attributes"].take(), second)
            }
            Err(e) => return Err(e),
        };
        asking::read(answer["lints"].take(), &path)
    }
}

/// Returns whether an address is not there any more.
fn is_gone(error: &Error) -> bool {
    // The second of the two is what is left of one that was taken away: 410.
    [Code::NotFound, Code::Unsupported].contains(&error.code)
}

fn check(name: &str, level: Level, status: CheckStatus, reason: Option<&str>) -> Check {
    Check { check: name.into(), level, status, reason: reason.map(str::to_owned) }
}

fn report(lints: &[Lint], is_branch: bool) -> AuditReport {
    let applies = |name: &str| !is_branch || !OF_THE_PROJECT.contains(&name);
    let blind: Vec<&Lint> = lints.iter().filter(|lint| lint.is_about_health()).collect();
    let found: Vec<&Lint> =
        lints.iter().filter(|lint| !lint.is_about_health() && applies(&lint.name)).collect();
    let not_audited = blind.first().map(|lint| format!("not audited: {}: {}", lint.name, lint.says()));
    let mut checks: Vec<Check> = LINTS
        .iter()
        .map(|(name, level)| {
            if !applies(name) {
                check(name, *level, CheckStatus::NotApplicable, Some(OWN_CONFIGURATION))
            } else if found.iter().any(|lint| lint.name == *name) {
                check(name, *level, CheckStatus::Failed, None)
            } else if let Some(why) = &not_audited {
                check(name, *level, CheckStatus::Skipped, Some(why))
            } else {
                check(name, *level, CheckStatus::Passed, None)
            }
        })
        .collect();
    for lint in &blind {
        // What keeps the rest from being looked at may hide the worst.
        checks.push(check(&lint.name, Level::Error, CheckStatus::Skipped, Some(lint.says())));
    }
    for lint in &found {
        if checks.iter().all(|check| check.check != lint.name) {
            checks.push(check(&lint.name, lint.level(), CheckStatus::Failed, None));
        }
    }
    AuditReport { findings: found.iter().map(|lint| lint.finding()).collect(), checks }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lint(name: &str, level: &str, category: &str) -> Lint {
        let lint = json!({
            "name": name, "title": "t", "level": level, "facing": "EXTERNAL", "categories": [category],
            "description": "d", "detail": "it is so", "remediation": "https://example.com/mend",
            "metadata": {"schema": "public", "name": "orders", "type": "table"}, "cache_key": "k",
        });
        serde_json::from_value(lint).expect("a lint")
    }

    fn status(report: &AuditReport, name: &str) -> CheckStatus {
        report.checks.iter().find(|check| check.check == name).expect("a check").status
    }

    #[test]
    fn supabase_t18_a_lint_that_is_not_known_is_carried() {
        let report = report(&[lint("sensitive_columns_exposed", "ERROR", "SECURITY")], false);
        assert_eq!(status(&report, "sensitive_columns_exposed"), CheckStatus::Failed);
        assert_eq!(report.findings[0].object, "public.orders");
        assert_eq!(status(&report, "rls_disabled_in_public"), CheckStatus::Passed);
    }

    #[test]
    fn supabase_t24_a_finding_about_health_is_not_a_pass() {
        for name in ["advisor_check_unavailable", "project_not_active", "db_not_reachable"] {
            let lints = [lint(name, "WARN", "HEALTH"), lint("extension_in_public", "WARN", "SECURITY")];
            let report = report(&lints, false);
            assert_eq!(status(&report, "rls_disabled_in_public"), CheckStatus::Skipped);
            assert_eq!(status(&report, "extension_in_public"), CheckStatus::Failed);
            assert_eq!(status(&report, name), CheckStatus::Skipped);
            assert!(report.checks.iter().all(|check| check.status != CheckStatus::Passed));
            assert!(report.findings.iter().all(|finding| finding.check != name));
        }
    }

    #[test]
    fn what_is_the_projects_does_not_apply_to_a_branch() {
        let lints = [lint("pitr_not_enabled", "WARN", "SECURITY")];
        let report = report(&lints, true);
        assert_eq!(status(&report, "pitr_not_enabled"), CheckStatus::NotApplicable);
        assert!(report.findings.is_empty());
    }
}
