//! Answers of another shape with a status of success: no read takes one for a fact.

use super::{
    BRANCH, MockApi, MockReply, ReceivedRequest, answered, healthy, inside, kept, key, organization, project,
    row, windowed,
};
use crate::provider::{
    Code, Provider as _,
    model::{CheckStatus, JobStatus},
    supabase::{mock_api::REF, project::Supabase, sql::statements},
};
use serde_json::{Value, json};
use std::{
    fmt::Debug,
    sync::atomic::{AtomicBool, Ordering},
};

/// What is answered instead.
const ODD: &[&str] = &["{}", "null", "[]", "[{}]", "\"text\"", "<html><title>Sign in</title></html>", ""];

/// Every read: its name, the end of the endpoint that it needs, and the odd answers that its documents allow.
const READS: &[(&str, &str, &[&str])] = &[
    ("project", "/projects/REF", &[]),
    ("ready", "/projects/REF", &[]),
    ("ready", "/health?services=db", &[]),
    ("ready", "/query/read-only", &[]),
    ("health", "/query/read-only", &[]),
    ("health", "/readonly", &[]),
    ("backups", "/database/backups", &[]),
    ("window", "/database/backups", &[]),
    ("schedules", "/backups/schedule", &[]),
    ("branches", "/projects/REF/branches", &["[]"]),
    ("branch", "/projects/REF/branches", &["[]"]),
    ("branch", "/v1/branches/bbbbbbbbbbbbbbbbbbbb", &[]),
    ("reset", "/actions?limit=50", &["[]"]),
    ("restrictions", "/network-restrictions", &[]),
    ("bans", "/network-bans/retrieve", &[]),
    ("ssl", "/ssl-enforcement", &[]),
    // A project without overrides.
    ("overrides", "/config/database/postgres", &["{}"]),
    ("port", "/query/read-only", &[]),
    ("replicas", "/projects/REF", &[]),
    ("replicas", "/organizations/acme/projects?limit=100&offset=0", &[]),
    ("addons", "/billing/addons", &[]),
    // A query without rows.
    ("policies", "/query/read-only", &["[]"]),
    ("query", "/query/read-only", &[]),
    ("show", "/query/read-only", &["[]", "[{}]"]),
    ("restore point", "/restore-point?name=p", &[]),
    ("ssl_enforcement", "/ssl-enforcement", &[]),
    ("network_restrictions", "/network-restrictions", &[]),
    ("network_bans", "/network-bans/retrieve", &[]),
    ("recovery", "/database/backups", &[]),
    ("jit_access", "/jit-access", &[]),
    ("rls_disabled_in_public", "/advisors/security", &[]),
];

/// Answers as the platform does, to whatever is read here.
fn answer_well(seen: &ReceivedRequest) -> MockReply {
    let sql = seen.body["query"].as_str().unwrap_or_default();
    let ok = |body: Value| MockReply::from_json(200, &body);
    let line = seen.line.replace(REF, "REF");
    let (_, path) = line.split_once(' ').expect("a path");
    match path.strip_prefix("/v1/projects/REF").unwrap_or(path) {
        "/readonly" => ok(json!({"enabled": false, "override_enabled": false, "override_active_until": ""})),
        "/database/backups" => ok(kept(true, &[(7, true, "COMPLETED", "2026-11-20T01:00:00Z")])),
        "/database/backups/schedule" => ok(json!({"schedule_for": "03:00:00", "updated_at": "x"})),
        "/database/backups/restore-point?name=p" => {
            ok(json!({"name": "p", "status": "AVAILABLE", "completed_on": null}))
        }
        "/branches" => ok(json!([row("drill", BRANCH, "FUNCTIONS_DEPLOYED")])),
        "/v1/branches/bbbbbbbbbbbbbbbbbbbb" => inside("ACTIVE_HEALTHY"),
        "/v1/branches/bbbbbbbbbbbbbbbbbbbb/reset" => ok(json!({"workflow_run_id": "w", "message": "ok"})),
        "/actions?limit=50" => ok(json!([{"id": "old", "branch_id": "b", "run_steps": []}])),
        "/network-restrictions" => ok(json!({
            "entitlement": "allowed", "status": "applied", "applied_at": "2026-11-01T00:00:00Z",
            "config": {"dbAllowedCidrs": ["203.0.113.0/24"], "dbAllowedCidrsV6": ["2001:db8::/32"]},
        })),
        "/network-bans/retrieve" => ok(json!({"banned_ipv4_addresses": []})),
        "/ssl-enforcement" => ok(json!({"currentConfig": {"database": true}, "appliedSuccessfully": true})),
        "/config/database/postgres" => ok(json!({"work_mem": "8MB"})),
        "/billing/addons" => ok(json!({"selected_addons": [], "available_addons": []})),
        "/jit-access" => ok(json!({"state": "disabled"})),
        "/advisors/security" => ok(json!({"lints": []})),
        "/v1/organizations/acme/projects?limit=100&offset=0" => ok(organization(&[])),
        "/health?services=db" => healthy(),
        "/database/query/read-only" if sql.contains("pg_is_in_recovery") => {
            ok(statements::wrap_answer_row(&json!({"in_recovery": false})))
        }
        "/database/query/read-only" if sql.contains("pg_settings") => {
            ok(statements::wrap_answer_row(&json!({"port": {"setting": "5432", "pending_restart": false}})))
        }
        "/database/query/read-only"
            if sql.contains("json_object_keys(row_to_json(redrill)) with") && !sql.contains("'rows'") =>
        {
            ok(statements::wrap_answer_row(&json!(["one"])))
        }
        "/database/query/read-only" if sql.contains("'rows'") => ok(statements::wrap_answer_row(
            &json!({"columns": ["one"], "types": [[23, null, null]], "rows": [["1"]]}),
        )),
        "/database/query/read-only" => answered(seen),
        _ => windowed(seen),
    }
}

/// Reads one thing: what it shows, or why it cannot be read.
async fn read(project: &Supabase, name: &str) -> Result<String, String> {
    fn shown<T: Debug>(result: crate::provider::Result<T>) -> Result<String, String> {
        match result {
            Ok(value) => Ok(format!("{value:?}")),
            Err(e) if e.code == Code::Unavailable => Err(e.message),
            Err(e) => Ok(format!("an error that is taken for certain: {e:?}")),
        }
    }
    let branches = || project.branches().expect("branches");
    match name {
        "project" => shown(project.project().await),
        "ready" => match project.lifecycle().expect("it can").check_ready().await {
            Ok(JobStatus::Running(progress)) => Err(progress.phase),
            ready => shown(ready),
        },
        "health" => match project.sql().expect("sql").health().await {
            Ok(health) if !health.ok => Err(health.status),
            health => shown(health),
        },
        "backups" => shown(project.backups().expect("backups").list().await),
        "window" => shown(project.backups().expect("backups").recovery_window().await),
        "schedules" => shown(project.schedules().expect("schedules").list().await),
        "branches" => shown(branches().list().await),
        "branch" => shown(branches().get("drill").await),
        "reset" => {
            let branch = row_branch();
            shown(branches().reset(&branch, &key()).await)
        }
        "restrictions" => shown(project.network().expect("network").allowed_ranges().await),
        "bans" => shown(project.network().expect("network").bans().await),
        "ssl" => shown(project.network().expect("network").ssl().await),
        "overrides" => shown(project.settings().expect("settings").get(&[]).await),
        "port" => shown(project.settings().expect("settings").get(&["port".into()]).await),
        "replicas" => shown(project.replicas().expect("replicas").list().await),
        "addons" => shown(project.lifecycle().expect("it can").addons().await),
        "policies" => shown(project.security().expect("security").policies().await),
        "query" => shown(query(project, "select 1 as one").await),
        "show" => shown(query(project, "show work_mem").await),
        "restore point" => shown(project.fetch_restore_point("p").await),
        check => {
            let report = project.security().expect("security").audit().await.expect("a report");
            let check = report.checks.iter().find(|one| one.check == check).expect("it is a check");
            match check.status {
                CheckStatus::Skipped => Err(check.reason.clone().unwrap_or_default()),
                status => Ok(format!("{status:?}")),
            }
        }
    }
}

fn row_branch() -> crate::provider::model::Branch {
    let row: super::super::branches::BranchRow =
        serde_json::from_value(row("drill", BRANCH, "FUNCTIONS_DEPLOYED")).expect("a row");
    row.to_branch("prod", None).expect("a branch")
}

async fn query(project: &Supabase, sql: &str) -> crate::provider::Result<crate::provider::model::Rows> {
    project.sql().expect("sql").query(sql, crate::base::moment::Span::from_secs(30)).await
}

/// Serves the platform with another answer at one endpoint.
async fn serve_odd(endpoint: &'static str, odd: &'static str) -> MockApi {
    MockApi::serve_replies(move |seen| {
        let is_meant = seen.line.replace(REF, "REF").ends_with(endpoint);
        if is_meant { MockReply::from_text(200, odd) } else { answer_well(seen) }
    })
    .await
}

#[tokio::test]
async fn supabase_no_read_takes_an_odd_answer_for_a_fact() {
    let mut wrong = Vec::new();
    for (name, endpoint, documented) in READS {
        let good = MockApi::serve_replies(answer_well).await;
        let (well, _folder) = project(&good);
        if let Err(why) = read(&well, name).await {
            wrong.push(format!("{name} cannot be read at all: {why}"));
        }
        for odd in ODD.iter().filter(|odd| !documented.contains(odd)) {
            let server = serve_odd(endpoint, odd).await;
            let (target, _folder) = project(&server);
            if let Ok(shown) = read(&target, name).await {
                wrong.push(format!("{name} with {odd} at {endpoint} shows {shown}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn supabase_a_field_that_decides_is_named_when_it_is_missing_or_odd() {
    for (name, endpoint, odd, said) in [
        ("ssl", "/ssl-enforcement", r#"{"currentConfig":{}}"#, "`currentConfig.database` is missing"),
        (
            "ssl",
            "/ssl-enforcement",
            r#"{"currentConfig":{"database":"yes"},"appliedSuccessfully":true}"#,
            "`currentConfig.database` is not a boolean",
        ),
        ("restrictions", "/network-restrictions", r#"{"status":"applied"}"#, "`entitlement` is missing"),
        (
            "restrictions",
            "/network-restrictions",
            r#"{"entitlement":"allowed","status":"applied","config":{}}"#,
            "`config.dbAllowedCidrs` is missing",
        ),
        (
            "restrictions",
            "/network-restrictions",
            r#"{"entitlement":"allowed","status":"applied","config":{"dbAllowedCidrs":["everywhere"]}}"#,
            "`everywhere` is no range of addresses",
        ),
        ("bans", "/network-bans/retrieve", "{}", "`banned_ipv4_addresses` is missing"),
        ("backups", "/database/backups", "{}", "`pitr_enabled` is missing"),
        ("schedules", "/backups/schedule", r#"{"schedule_for":"soon"}"#, "`schedule_for` is `soon`"),
        (
            "replicas",
            "/organizations/acme/projects?limit=100&offset=0",
            r#"{"projects":[{"ref":"abcdefghijklmnopqrst"}]}"#,
            "`databases` of the project is missing",
        ),
        (
            "overrides",
            "/config/database/postgres",
            r#"{"error":{"code":1}}"#,
            "`error` is no value of a setting",
        ),
        ("overrides", "/config/database/postgres", "null", "it is null"),
        ("query", "/query/read-only", "[{}]", "it has no row with a column `answer`"),
    ] {
        let server = serve_odd(endpoint, odd).await;
        let (target, _folder) = project(&server);
        let why = read(&target, name).await.expect_err(odd);
        assert!(why.contains("cannot be read") && why.contains(said), "{name} with {odd}: {why}");
    }
}

#[tokio::test]
async fn supabase_a_workflow_without_a_number_is_looked_for() {
    for odd in ["{}", "null", "[]", "<html>", r#"{"workflow_run_id":""}"#] {
        let server = serve_odd("/reset", odd).await;
        let (target, _folder) = project(&server);
        let branches = target.branches().expect("branches");
        let error = branches.reset(&row_branch(), &key()).await.expect_err(odd);
        assert_eq!(error.code, Code::Unknown, "{odd}: {error}");
    }
}

#[tokio::test]
async fn supabase_a_look_that_fails_after_a_write_is_no_refusal_of_it() {
    let serve = || {
        let has_written = AtomicBool::new(false);
        MockApi::serve_replies(move |seen| {
            let is_look = seen.line.starts_with("GET ");
            if !is_look {
                has_written.store(true, Ordering::SeqCst);
                return MockReply::from_text(201, "");
            }
            if has_written.load(Ordering::SeqCst) {
                return MockReply::from_text(200, "<html>");
            }
            if seen.line.contains("/organizations/") {
                let replica = json!({"identifier": "r", "type": "READ_REPLICA", "region": "x", "status": "ACTIVE_HEALTHY"});
                return MockReply::from_json(200, &organization(&[replica]));
            }
            answer_well(seen)
        })
    };
    let server = serve().await;
    let (target, _folder) = project(&server);
    target.replicas().expect("replicas").delete("r").await.expect("it was accepted");
    let server = serve().await;
    let (target, _folder) = project(&server);
    target.branches().expect("branches").delete("drill", BRANCH).await.expect("it was accepted");
    let server = serve().await;
    let (target, _folder) = project(&server);
    target.backups().expect("backups").create_restore_point("q", &key()).await.expect("it was accepted");
}
