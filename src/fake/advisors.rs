//! The advisors: what the world's own audit finds, in the platform's words.

use super::{
    call::{Answer, Call, Outcome},
    options::Plan,
    project::Project,
};
use crate::provider::model::{Finding, Level};
use serde_json::{Value, json};

/// What the advisors know, by its name in an audit: its name here, its title, and whether it is about speed.
const KNOWN: &[(&str, &str, bool)] = &[
    ("policy_exists_rls_disabled", "Policy Exists RLS Disabled", false),
    ("rls_disabled_in_public", "RLS Disabled in Public", false),
    ("rls_enabled_no_policy", "RLS Enabled No Policy", false),
    ("rls_policy_always_true", "RLS Policy Always True", false),
    ("no_primary_key", "No Primary Key", true),
];

/// Runs those that are about security.
pub(super) async fn security(call: &Call) -> Outcome {
    let project = call.project()?;
    Ok(Answer::json(200, json!({ "lints": lints(call, &project, Some(false)).await? })))
}

/// Runs those that are about speed.
pub(super) async fn performance(call: &Call) -> Outcome {
    let project = call.project()?;
    Ok(Answer::json(200, json!({ "lints": lints(call, &project, Some(true)).await? })))
}

/// Runs those that are named.
pub(super) async fn run(call: &Call) -> Outcome {
    let project = call.project()?;
    let asked = call.body.pointer("/data/attributes/lints").and_then(Value::as_array);
    let Some(asked) = asked.filter(|_| call.body["data"]["type"] == "project_advisors") else {
        return Err(Answer::message(400, "data.attributes.lints: Required"));
    };
    let is_asked = |lint: &Value| asked.iter().any(|a| a["name"] == lint["name"]);
    let lints: Vec<Value> =
        lints(call, &project, None).await?.into_iter().filter(|lint| is_asked(lint)).collect();
    let data = json!({ "type": "project_advisors", "attributes": { "lints": lints } });
    Ok(Answer::json(200, json!({ "data": data })).looked())
}

async fn lints(call: &Call, project: &Project, speed: Option<bool>) -> Result<Vec<Value>, Answer> {
    let status = project.status(&call.platform).await;
    if status != "ACTIVE_HEALTHY" {
        // What was not looked at is said to be so, and is no pass.
        let detail = format!("the project is {status}");
        return Ok(vec![lint(
            "project_not_active",
            "Project Not Active",
            Level::Warn,
            "HEALTH",
            &detail,
            None,
        )]);
    }
    let database = project.database()?;
    let report = database.security()?.audit().await?;
    let mut lints: Vec<Value> =
        report.findings.iter().filter_map(|finding| of_finding(finding, speed)).collect();
    if speed != Some(true) && !project.is_branch() {
        lints.extend(of_platform(call, project).await);
    }
    Ok(lints)
}

fn of_finding(finding: &Finding, speed: Option<bool>) -> Option<Value> {
    let (name, title, is_speed) = KNOWN.iter().find(|(name, ..)| *name == finding.check)?;
    if speed.is_some_and(|speed| speed != *is_speed) {
        return None;
    }
    let category = if *is_speed { "PERFORMANCE" } else { "SECURITY" };
    Some(lint(name, title, finding.level, category, &finding.detail, Some(&finding.object)))
}

/// Returns what is found without the database.
async fn of_platform(call: &Call, project: &Project) -> Vec<Value> {
    let mut lints = Vec::new();
    let Ok(database) = project.database() else { return lints };
    let mut found = |name, title, detail| {
        lints.push(lint(name, title, Level::Warn, "SECURITY", detail, None));
    };
    if !call.platform.options.pitr || call.platform.options.plan == Plan::Free {
        found("pitr_not_enabled", "PITR Not Enabled", "the project cannot go back to a moment");
    }
    if let Ok(network) = database.network() {
        if network.ssl().await.is_ok_and(|ssl| !ssl.enforced) {
            found("ssl_not_enforced", "SSL Not Enforced", "connections without TLS are let in");
        }
        if network.allowed().await.is_ok_and(|a| a.ranges.iter().any(|r| r.cidr.prefix_len() == 0)) {
            found("network_restrictions_not_set", "No Network Restrictions", "everybody may connect");
        }
    }
    lints
}

fn lint(name: &str, title: &str, level: Level, category: &str, detail: &str, object: Option<&str>) -> Value {
    let level = match level {
        Level::Error => "ERROR",
        Level::Warn => "WARN",
        Level::Info => "INFO",
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
