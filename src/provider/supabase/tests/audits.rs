//! Policies and the audit.

use super::{BRANCH, MockApi, MockReply, inside, project, row, windowed};
use crate::provider::{
    Provider as _, Security as _,
    model::{AuditReport, CheckStatus, FindingLevel},
    supabase::mock_api::REF,
};
use serde_json::json;

fn status(report: &AuditReport, name: &str) -> CheckStatus {
    report.checks.iter().find(|check| check.check == name).unwrap_or_else(|| panic!("no check {name}")).status
}

/// Serves a project in which much is open, below the reference that is asked.
fn open(seen: &super::ReceivedRequest) -> MockReply {
    let line = seen.line.replace(REF, "REF").replace(BRANCH, "REF");
    match line.as_str() {
        "GET /v1/projects/REF/branches" => {
            MockReply::from_json(200, &json!([row("drill", BRANCH, "FUNCTIONS_DEPLOYED")]))
        }
        "GET /v1/branches/REF" => inside("ACTIVE_HEALTHY"),
        "GET /v1/projects/REF" => super::described("ACTIVE_HEALTHY"),
        "GET /v1/projects/REF/advisors/security" => MockReply::from_json(410, &json!({ "message": "Gone" })),
        "POST /v2/projects/REF/advisors/run" => {
            let found = json!({ "name": "rls_disabled_in_public", "level": "ERROR", "categories": ["SECURITY"],
                "detail": "Table `public.orders` is public", "metadata": { "schema": "public", "name": "orders" } });
            MockReply::from_json(
                200,
                &json!({ "data": { "type": "project_advisors", "attributes": { "lints": [found] } } }),
            )
        }
        "GET /v1/projects/REF/network-restrictions" => {
            MockReply::from_json(200, &json!({ "entitlement": "allowed", "status": "stored", "config": {} }))
        }
        "GET /v1/projects/REF/ssl-enforcement" => MockReply::from_json(
            200,
            &json!({ "currentConfig": { "database": false }, "appliedSuccessfully": true }),
        ),
        "GET /v1/projects/REF/jit-access" => MockReply::from_json(
            200,
            &json!({ "state": "unavailable", "unavailableReason": "platform_unsupported" }),
        ),
        "POST /v1/projects/REF/network-bans/retrieve" => {
            MockReply::from_json(201, &json!({ "banned_ipv4_addresses": ["203.0.113.7"] }))
        }
        "POST /v1/projects/REF/database/query/read-only" => {
            let sql = seen.body["query"].as_str().unwrap_or_default();
            let rows = if sql.contains("has_table_privilege") {
                json!([{ "schema": "public", "name": "orders", "roles": "anon" }])
            } else if sql.contains("pg_policies") {
                json!([{ "schemaname": "public", "tablename": "orders", "policyname": "own", "permissive": "PERMISSIVE",
                    "roles": "{authenticated}", "cmd": "SELECT", "qual": "true", "with_check": null }])
            } else {
                json!([{ "nspname": "public", "relname": "orders" }])
            };
            MockReply::from_json(201, &rows)
        }
        _ => windowed(seen),
    }
}

#[tokio::test]
async fn an_audit_says_of_every_check_what_became_of_it() {
    let server = MockApi::serve_replies(open).await;
    let (project, _folder) = project(&server);
    let report = project.security().expect("security").audit().await.expect("a report");
    for failed in [
        "rls_disabled_in_public",
        "network_restrictions",
        "ssl_enforcement",
        "exposed_tables",
        "network_bans",
    ] {
        assert_eq!(status(&report, failed), CheckStatus::Failed, "{failed}");
        assert!(report.findings.iter().any(|finding| finding.check == failed), "{failed}");
    }
    assert_eq!(status(&report, "recovery"), CheckStatus::Passed);
    let jit = report.checks.iter().find(|check| check.check == "jit_access").expect("a check");
    assert_eq!(jit.status, CheckStatus::Skipped);
    assert!(jit.reason.as_deref().expect("a reason").contains("platform_unsupported"));
    assert_eq!(report.findings[0].level, FindingLevel::Error);
}

#[tokio::test]
async fn supabase_t24_a_branch_is_audited_by_its_own_reference_and_not_for_what_is_its_projects() {
    let server = MockApi::serve_replies(open).await;
    let (project, _folder) = project(&server);
    let branch = project.branches().expect("branches").open("drill").await.expect("opened");
    let report = branch.security().expect("security").audit().await.expect("a report");
    for name in ["recovery", "network_restrictions", "ssl_enforcement", "pitr_not_enabled"] {
        assert_eq!(status(&report, name), CheckStatus::NotApplicable, "{name}");
    }
    assert_eq!(status(&report, "exposed_tables"), CheckStatus::Failed);
    assert!(server.request_lines().contains(&format!("POST /v2/projects/{BRANCH}/advisors/run")));
    assert!(!server.request_lines().contains(&format!("POST /v2/projects/{REF}/advisors/run")));
}

#[tokio::test]
async fn advisors_that_cannot_be_asked_are_skipped_and_stop_nothing() {
    let server = MockApi::serve_replies(|seen| {
        if seen.line.contains("/advisors/") {
            return MockReply::from_json(403, &json!({ "message": "Forbidden resource" }));
        }
        open(seen)
    })
    .await;
    let (project, _folder) = project(&server);
    let report = project.security().expect("security").audit().await.expect("a report");
    assert_eq!(status(&report, "rls_disabled_in_public"), CheckStatus::Skipped);
    assert_eq!(status(&report, "ssl_enforcement"), CheckStatus::Failed);
}

#[tokio::test]
async fn policies_are_read_off_the_catalogs() {
    let server = MockApi::serve_replies(open).await;
    let (project, _folder) = project(&server);
    let policies = project.policies().await.expect("policies");
    assert_eq!(policies.len(), 1);
    assert_eq!((policies[0].name.as_str(), policies[0].enabled), ("own", true));
    assert_eq!(policies[0].roles, ["authenticated"]);
}
