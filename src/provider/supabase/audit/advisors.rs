//! The platform's own advisors, through the v1 endpoint, or v2 where v1 is gone.
//!
//! - The list of lints grows: an unknown one is reported like the others.
//! - A finding about health means that something was not audited. A check without a finding is then skipped, not
//!   passed.

use super::finding::{NOT_FOR_BRANCHES, build_finding};
use crate::provider::{
    Code, Error, Result,
    model::{AuditCheck, AuditReport, CheckStatus, Finding, FindingLevel},
    supabase::{project::Supabase, requests},
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

/// The platform's lints about security, with the platform's levels.
const KNOWN_LINTS: &[(&str, FindingLevel)] = &[
    ("auth_users_exposed", FindingLevel::Error),
    ("policy_exists_rls_disabled", FindingLevel::Error),
    ("rls_enabled_no_policy", FindingLevel::Info),
    ("security_definer_view", FindingLevel::Error),
    ("function_search_path_mutable", FindingLevel::Warn),
    ("rls_disabled_in_public", FindingLevel::Error),
    ("extension_in_public", FindingLevel::Warn),
    ("rls_references_user_metadata", FindingLevel::Error),
    ("materialized_view_in_api", FindingLevel::Warn),
    ("foreign_table_in_api", FindingLevel::Warn),
    ("unsupported_reg_types", FindingLevel::Warn),
    ("auth_otp_long_expiry", FindingLevel::Warn),
    ("auth_otp_short_length", FindingLevel::Warn),
    ("ssl_not_enforced", FindingLevel::Warn),
    ("network_restrictions_not_set", FindingLevel::Warn),
    ("password_requirements_min_length", FindingLevel::Warn),
    ("pitr_not_enabled", FindingLevel::Warn),
    ("auth_leaked_password_protection", FindingLevel::Warn),
    ("auth_insufficient_mfa_options", FindingLevel::Warn),
    ("auth_password_policy_missing", FindingLevel::Warn),
    ("leaked_service_key", FindingLevel::Error),
    ("no_backup_admin", FindingLevel::Warn),
    ("vulnerable_postgres_version", FindingLevel::Warn),
];

/// Lints reported for a branch that concern its project only.
const PROJECT_ONLY_LINTS: &[&str] =
    &["ssl_not_enforced", "network_restrictions_not_set", "pitr_not_enabled", "no_backup_admin"];

/// A finding of the advisors.
#[derive(Debug, Deserialize)]
struct Lint {
    name: String,
    #[serde(default)]
    title: String,
    level: String,
    /// What it is about; one about health means that something was not looked at.
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

#[derive(Deserialize)]
struct LintsAnswer {
    lints: Vec<Lint>,
}

impl Lint {
    fn is_about_health(&self) -> bool {
        self.categories.iter().any(|category| category == "HEALTH")
    }

    fn best_message(&self) -> &str {
        [&self.detail, &self.description, &self.title]
            .into_iter()
            .find(|text| !text.is_empty())
            .map_or(self.name.as_str(), String::as_str)
    }

    fn to_level(&self) -> FindingLevel {
        match self.level.as_str() {
            "ERROR" => FindingLevel::Error,
            "INFO" => FindingLevel::Info,
            // An unknown level counts as a warning.
            _ => FindingLevel::Warn,
        }
    }

    fn object_name(&self) -> String {
        let of = |field: &str| self.metadata[field].as_str();
        match (of("schema"), of("name").or(of("entity"))) {
            (Some(schema), Some(name)) => format!("{schema}.{name}"),
            (None, Some(name)) => name.into(),
            _ if self.cache_key.is_empty() => self.name.clone(),
            _ => self.cache_key.clone(),
        }
    }

    fn to_finding(&self) -> Finding {
        let category = self.categories.first().cloned().unwrap_or_else(|| "SECURITY".into());
        build_finding(
            &self.name,
            self.to_level(),
            &category,
            &self.object_name(),
            self.best_message().to_owned(),
            self.remediation.as_deref().unwrap_or_default(),
        )
    }
}

impl Supabase {
    /// Returns the report of the platform's advisors.
    pub(super) async fn run_advisors(&self) -> AuditReport {
        match self.fetch_security_lints().await {
            Ok(lints) => build_report(&lints, self.branch.is_some()),
            Err(why) => {
                let why = format!("the platform's advisors could not be asked: {}", why.message);
                let skipped = |(name, level): &(&str, FindingLevel)| {
                    build_check(name, *level, CheckStatus::Skipped, Some(&why))
                };
                AuditReport { findings: Vec::new(), checks: KNOWN_LINTS.iter().map(skipped).collect() }
            }
        }
    }

    async fn fetch_security_lints(&self) -> Result<Vec<Lint>> {
        let first = format!("/v1/projects/{}/advisors/security", self.reference);
        let (answer, path) = match self.api.get(&first).await {
            Ok(answer) => (answer, first),
            Err(e) if is_missing_endpoint(&e) => {
                let names: Vec<_> = KNOWN_LINTS.iter().map(|(name, _)| json!({ "name": name })).collect();
                let body =
                    json!({ "data": { "type": "project_advisors", "attributes": { "lints": names } } });
                let second = format!("/v2/projects/{}/advisors/run", self.reference);
                let mut answer = self.api.send_read(Method::POST, &second, Some(&body)).await?;
                (answer["data"]["attributes"].take(), second)
            }
            Err(e) => return Err(e),
        };
        requests::decode_answer::<LintsAnswer>(answer, &path).map(|answer| answer.lints)
    }
}

/// Returns whether the error means that the endpoint is gone.
fn is_missing_endpoint(error: &Error) -> bool {
    // 410, for an endpoint that was removed, is `Unsupported`.
    [Code::NotFound, Code::Unsupported].contains(&error.code)
}

fn build_check(name: &str, level: FindingLevel, status: CheckStatus, reason: Option<&str>) -> AuditCheck {
    AuditCheck { check: name.into(), level, status, reason: reason.map(str::to_owned) }
}

fn build_report(lints: &[Lint], is_branch: bool) -> AuditReport {
    let applies = |name: &str| !is_branch || !PROJECT_ONLY_LINTS.contains(&name);
    let health: Vec<&Lint> = lints.iter().filter(|lint| lint.is_about_health()).collect();
    let found: Vec<&Lint> =
        lints.iter().filter(|lint| !lint.is_about_health() && applies(&lint.name)).collect();
    let not_audited =
        health.first().map(|lint| format!("not audited: {}: {}", lint.name, lint.best_message()));
    let mut checks: Vec<AuditCheck> = KNOWN_LINTS
        .iter()
        .map(|(name, level)| {
            if !applies(name) {
                build_check(name, *level, CheckStatus::NotApplicable, Some(NOT_FOR_BRANCHES))
            } else if found.iter().any(|lint| lint.name == *name) {
                build_check(name, *level, CheckStatus::Failed, None)
            } else if let Some(why) = &not_audited {
                build_check(name, *level, CheckStatus::Skipped, Some(why))
            } else {
                build_check(name, *level, CheckStatus::Passed, None)
            }
        })
        .collect();
    for lint in &health {
        // Something that prevents the audit may hide the worst finding.
        checks.push(build_check(
            &lint.name,
            FindingLevel::Error,
            CheckStatus::Skipped,
            Some(lint.best_message()),
        ));
    }
    for lint in &found {
        if checks.iter().all(|check| check.check != lint.name) {
            checks.push(build_check(&lint.name, lint.to_level(), CheckStatus::Failed, None));
        }
    }
    AuditReport { findings: found.iter().map(|lint| lint.to_finding()).collect(), checks }
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
        let report = build_report(&[lint("sensitive_columns_exposed", "ERROR", "SECURITY")], false);
        assert_eq!(status(&report, "sensitive_columns_exposed"), CheckStatus::Failed);
        assert_eq!(report.findings[0].object, "public.orders");
        assert_eq!(status(&report, "rls_disabled_in_public"), CheckStatus::Passed);
    }

    #[test]
    fn supabase_t24_a_finding_about_health_is_not_a_pass() {
        for name in ["advisor_check_unavailable", "project_not_active", "db_not_reachable"] {
            let lints = [lint(name, "WARN", "HEALTH"), lint("extension_in_public", "WARN", "SECURITY")];
            let report = build_report(&lints, false);
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
        let report = build_report(&lints, true);
        assert_eq!(status(&report, "pitr_not_enabled"), CheckStatus::NotApplicable);
        assert!(report.findings.is_empty());
    }
}
