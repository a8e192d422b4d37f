//! `…/advisors`: the findings of the world's audit, as the platform's lints.

use super::{
    options::BillingPlan,
    project::FakeProject,
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use crate::provider::model::{Finding, FindingLevel};
use serde_json::{Value, json};

/// The lints: name (also in the audit), title, and whether it is about performance.
const LINT_TABLE: &[(&str, &str, bool)] = &[
    ("policy_exists_rls_disabled", "Policy Exists RLS Disabled", false),
    ("rls_disabled_in_public", "RLS Disabled in Public", false),
    ("rls_enabled_no_policy", "RLS Enabled No Policy", false),
    ("rls_policy_always_true", "RLS Policy Always True", false),
    ("no_primary_key", "No Primary Key", true),
];

/// Runs the security lints.
pub(super) async fn get_security_lints(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    Ok(ApiResponse::json(200, json!({ "lints": collect_lints(request, &project, Some(false)).await? })))
}

/// Runs the performance lints.
pub(super) async fn get_performance_lints(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    Ok(ApiResponse::json(200, json!({ "lints": collect_lints(request, &project, Some(true)).await? })))
}

/// Runs the lints that the request names.
pub(super) async fn run_named_lints(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    let requested = request.body.pointer("/data/attributes/lints").and_then(Value::as_array);
    let Some(requested) = requested.filter(|_| request.body["data"]["type"] == "project_advisors") else {
        return Err(ApiResponse::error(400, "data.attributes.lints: Required"));
    };
    let is_requested = |lint: &Value| requested.iter().any(|a| a["name"] == lint["name"]);
    let lints: Vec<Value> =
        collect_lints(request, &project, None).await?.into_iter().filter(|lint| is_requested(lint)).collect();
    let data = json!({ "type": "project_advisors", "attributes": { "lints": lints } });
    Ok(ApiResponse::json(200, json!({ "data": data })).without_effect())
}

async fn collect_lints(
    request: &RoutedRequest,
    project: &FakeProject,
    wants_performance: Option<bool>,
) -> Result<Vec<Value>, ApiResponse> {
    let status = project.refresh_status().await;
    if status != "ACTIVE_HEALTHY" {
        // A project that was not audited gets a lint of its own: no lints would look like a pass.
        let detail = format!("the project is {status}");
        return Ok(vec![render_lint(
            "project_not_active",
            "Project Not Active",
            FindingLevel::Warn,
            "HEALTH",
            &detail,
            None,
        )]);
    }
    let database = project.as_provider()?;
    let report = database.security()?.audit().await?;
    let mut lints: Vec<Value> =
        report.findings.iter().filter_map(|finding| render_finding(finding, wants_performance)).collect();
    if wants_performance != Some(true) && !project.is_branch() {
        lints.extend(check_configuration(request, project).await);
    }
    Ok(lints)
}

fn render_finding(finding: &Finding, wants_performance: Option<bool>) -> Option<Value> {
    let (name, title, is_speed) = LINT_TABLE.iter().find(|(name, ..)| *name == finding.check)?;
    if wants_performance.is_some_and(|wants_performance| wants_performance != *is_speed) {
        return None;
    }
    let category = if *is_speed { "PERFORMANCE" } else { "SECURITY" };
    Some(render_lint(name, title, finding.level, category, &finding.detail, Some(&finding.object)))
}

/// Checks the project's configuration: recovery, TLS, network restrictions.
async fn check_configuration(request: &RoutedRequest, project: &FakeProject) -> Vec<Value> {
    let mut lints = Vec::new();
    let Ok(database) = project.as_provider() else { return lints };
    let mut found = |name, title, detail| {
        lints.push(render_lint(name, title, FindingLevel::Warn, "SECURITY", detail, None));
    };
    if !request.options().pitr || request.options().plan == BillingPlan::Free {
        found("pitr_not_enabled", "PITR Not Enabled", "the project cannot go back to a moment");
    }
    if let Ok(network) = database.network() {
        if network.ssl().await.is_ok_and(|ssl| !ssl.enforced) {
            found("ssl_not_enforced", "SSL Not Enforced", "connections without TLS are let in");
        }
        if network.allowed_ranges().await.is_ok_and(|a| a.ranges.iter().any(|r| r.cidr.prefix_len() == 0)) {
            found("network_restrictions_not_set", "No Network Restrictions", "everybody may connect");
        }
    }
    lints
}

fn render_lint(
    name: &str,
    title: &str,
    level: FindingLevel,
    category: &str,
    detail: &str,
    object: Option<&str>,
) -> Value {
    let level = match level {
        FindingLevel::Error => "ERROR",
        FindingLevel::Warn => "WARN",
        FindingLevel::Info => "INFO",
    };
    let (schema, table) = object.map_or(("", ""), |o| o.split_once('.').unwrap_or(("public", o)));
    let mut lint = json!({
        "name": name,
        "title": title,
        "level": level,
        "facing": "EXTERNAL",
        "categories": [category],
        "description": title,
        "detail": detail,
        "remediation": format!("https://supabase.com/docs/guides/database/database-linter?lint={name}"),
        "cache_key": object.map_or_else(|| name.to_owned(), |o| format!("{name}_{}", o.replace('.', "_"))),
    });
    if object.is_some() {
        lint["metadata"] = json!({ "schema": schema, "name": table, "type": "table" });
    }
    lint
}
