//! A request for every endpoint, in an order in which each finds what it needs.

/// A request.
pub struct Example {
    pub method: &'static str,
    /// The endpoint; its places are filled with what earlier answers gave.
    pub path: &'static str,
    /// What stands behind the question mark.
    pub query: &'static str,
    /// The body; empty for none.
    pub body: &'static str,
    /// The status that is expected.
    pub status: u16,
    /// What is kept of the answer: the name of a place, and where it is.
    pub keep: &'static [(&'static str, &'static str)],
    /// Whether the request is as the documents want it.
    pub is_well_formed: bool,
}

const fn request_without_body(method: &'static str, path: &'static str, status: u16) -> Example {
    Example { method, path, query: "", body: "", status, keep: &[], is_well_formed: true }
}

const fn request_with_body(
    method: &'static str,
    path: &'static str,
    body: &'static str,
    status: u16,
) -> Example {
    Example { body, ..request_without_body(method, path, status) }
}

/// Every request, in order.
pub const EXAMPLES: &[Example] = &[
    request_without_body("GET", "/v1/projects", 200),
    request_without_body("GET", "/v1/projects/{ref}", 200),
    request_without_body("GET", "/v1/organizations", 200),
    request_without_body("GET", "/v1/organizations/{slug}", 200),
    request_without_body("GET", "/v1/organizations/{slug}/entitlements", 200),
    Example {
        query: "limit=10&offset=0",
        ..request_without_body("GET", "/v1/organizations/{slug}/projects", 200)
    },
    Example {
        query: "services=auth&services=db",
        ..request_without_body("GET", "/v1/projects/{ref}/health", 200)
    },
    // The documents want one at a time; the API takes a list with commas too.
    Example {
        query: "services=auth,db,rest",
        is_well_formed: false,
        ..request_without_body("GET", "/v1/projects/{ref}/health", 200)
    },
    Example { is_well_formed: false, ..request_without_body("GET", "/v1/projects/{ref}/health", 400) },
    request_with_body("POST", "/v1/projects/{ref}/database/query", r#"{"query": "select 1 as one"}"#, 201),
    request_with_body(
        "POST",
        "/v1/projects/{ref}/database/query/read-only",
        r#"{"query": "select 1 as one"}"#,
        201,
    ),
    request_with_body("POST", "/v1/projects/{ref}/database/query", r#"{"query": "select nothing"}"#, 400),
    request_without_body("GET", "/v1/projects/{ref}/database/backups", 200),
    request_with_body("POST", "/v1/projects/{ref}/database/backups/restore", r#"{"id": 1}"#, 404),
    request_with_body(
        "POST",
        "/v1/projects/{ref}/database/backups/restore-pitr",
        r#"{"recovery_time_target_unix": 1}"#,
        422,
    ),
    request_with_body(
        "POST",
        "/v1/projects/{ref}/database/backups/restore-point",
        r#"{"name": "before"}"#,
        201,
    ),
    Example {
        query: "name=before",
        ..request_without_body("GET", "/v1/projects/{ref}/database/backups/restore-point", 200)
    },
    request_with_body(
        "PATCH",
        "/v1/projects/{ref}/database/backups/schedule",
        r#"{"schedule_for": "03:00:00"}"#,
        200,
    ),
    Example {
        is_well_formed: false,
        ..request_with_body(
            "PATCH",
            "/v1/projects/{ref}/database/backups/schedule",
            r#"{"schedule_for": "noon"}"#,
            400,
        )
    },
    request_without_body("GET", "/v1/projects/{ref}/database/backups/schedule", 200),
    Example {
        keep: &[("branch_id_or_ref", "/project_ref"), ("name", "/name")],
        ..request_with_body(
            "POST",
            "/v1/projects/{ref}/branches",
            r#"{"branch_name": "one", "with_data": true}"#,
            201,
        )
    },
    request_with_body("POST", "/v1/projects/{ref}/branches", r#"{"branch_name": "one"}"#, 409),
    request_with_body(
        "POST",
        "/v2/projects/{ref}/branches",
        r#"{"data": {"type": "branch", "attributes": {"name": "two", "persistent": true}}}"#,
        201,
    ),
    request_without_body("GET", "/v1/projects/{ref}/branches", 200),
    request_without_body("GET", "/v1/projects/{ref}/branches/{name}", 200),
    request_without_body("GET", "/v1/branches/{branch_id_or_ref}", 200),
    request_with_body("PATCH", "/v1/branches/{branch_id_or_ref}", r#"{"persistent": true}"#, 200),
    request_without_body("DELETE", "/v1/branches/{branch_id_or_ref}", 422),
    request_with_body("PATCH", "/v1/branches/{branch_id_or_ref}", r#"{"persistent": false}"#, 200),
    Example {
        keep: &[("run_id", "/workflow_run_id")],
        ..request_with_body("POST", "/v1/branches/{branch_id_or_ref}/reset", "{}", 201)
    },
    Example { query: "limit=10", ..request_without_body("GET", "/v1/projects/{ref}/actions", 200) },
    request_without_body("GET", "/v1/projects/{ref}/actions/{run_id}", 200),
    request_without_body("GET", "/v1/projects/{ref}/actions/{run_id}/logs", 200),
    request_with_body("POST", "/v1/branches/{branch_id_or_ref}/merge", "{}", 201),
    request_with_body("POST", "/v1/branches/{branch_id_or_ref}/push", "{}", 201),
    Example {
        query: "force=false",
        ..request_without_body("DELETE", "/v1/branches/{branch_id_or_ref}", 200)
    },
    request_without_body("POST", "/v1/branches/{branch_id_or_ref}/restore", 200),
    request_without_body("DELETE", "/v1/branches/{branch_id_or_ref}", 200),
    request_without_body("GET", "/v1/branches/{branch_id_or_ref}", 404),
    request_without_body("DELETE", "/v1/projects/{ref}/branches", 200),
    request_without_body("GET", "/v1/projects/{ref}/network-restrictions", 200),
    request_with_body(
        "PATCH",
        "/v1/projects/{ref}/network-restrictions",
        r#"{"add": {"dbAllowedCidrs": ["8.8.8.0/24"]}, "remove": {"dbAllowedCidrs": ["0.0.0.0/0"]}}"#,
        200,
    ),
    request_with_body(
        "POST",
        "/v1/projects/{ref}/network-restrictions/apply",
        r#"{"dbAllowedCidrs": ["8.8.8.0/24"], "dbAllowedCidrsV6": ["2001:db8::/32"]}"#,
        201,
    ),
    request_with_body(
        "POST",
        "/v1/projects/{ref}/network-restrictions/review",
        r#"{"action": "apply", "requested_at": "2026-11-20T03:00:00Z"}"#,
        409,
    ),
    request_without_body("GET", "/v1/projects/{ref}/network-restrictions", 200),
    request_without_body("POST", "/v1/projects/{ref}/network-bans/retrieve", 201),
    request_without_body("POST", "/v1/projects/{ref}/network-bans/retrieve/enriched", 201),
    request_with_body(
        "DELETE",
        "/v1/projects/{ref}/network-bans",
        r#"{"ipv4_addresses": ["203.0.113.9"]}"#,
        200,
    ),
    request_without_body("GET", "/v1/projects/{ref}/ssl-enforcement", 200),
    request_with_body(
        "PUT",
        "/v1/projects/{ref}/ssl-enforcement",
        r#"{"requestedConfig": {"database": true}}"#,
        200,
    ),
    request_with_body("PUT", "/v1/projects/{ref}/config/database/postgres", r#"{"work_mem": "8MB"}"#, 200),
    request_without_body("GET", "/v1/projects/{ref}/config/database/postgres", 200),
    request_with_body(
        "PATCH",
        "/v1/projects/{ref}/config/database/postgres",
        r#"{"max_connections": 90, "restart_database": false}"#,
        200,
    ),
    request_without_body("GET", "/v1/projects/{ref}/config/database/pooler", 200),
    request_with_body(
        "PATCH",
        "/v1/projects/{ref}/config/database/pooler",
        r#"{"pool_mode": "session"}"#,
        200,
    ),
    request_with_body(
        "POST",
        "/v1/projects/{ref}/read-replicas/setup",
        r#"{"read_replica_region": "us-east-1"}"#,
        201,
    ),
    Example {
        keep: &[("replica", "/projects/0/databases/1/identifier")],
        ..request_without_body("GET", "/v1/organizations/{slug}/projects", 200)
    },
    request_with_body(
        "POST",
        "/v1/projects/{ref}/read-replicas/remove",
        r#"{"database_identifier": "{replica}"}"#,
        201,
    ),
    request_without_body("GET", "/v1/projects/{ref}/billing/addons", 200),
    request_with_body("POST", "/v1/projects/{ref}/cli/login-role", r#"{"read_only": true}"#, 500),
    request_without_body("DELETE", "/v1/projects/{ref}/cli/login-role", 200),
    request_without_body("GET", "/v1/projects/{ref}/advisors/security", 200),
    request_without_body("GET", "/v1/projects/{ref}/advisors/performance", 200),
    request_with_body(
        "POST",
        "/v2/projects/{ref}/advisors/run",
        r#"{"data": {"type": "project_advisors", "attributes": {"lints": [{"name": "policy_exists_rls_disabled"}]}}}"#,
        200,
    ),
    request_without_body("GET", "/v1/projects/{ref}/postgrest", 200),
    request_without_body("GET", "/v1/projects/{ref}/database/jit/list", 200),
    request_without_body("GET", "/v1/projects/{ref}/jit-access", 200),
    request_with_body("PUT", "/v1/projects/{ref}/jit-access", r#"{"state": "enabled"}"#, 200),
    request_without_body("GET", "/v1/projects/{ref}/readonly", 200),
    request_without_body("POST", "/v1/projects/{ref}/restart", 200),
    request_with_body("POST", "/v1/projects/{ref}/database/backups/undo", r#"{"name": "before"}"#, 201),
    request_without_body("GET", "/v1/projects/{ref}/restore", 200),
    request_without_body("POST", "/v1/projects/{ref}/restore", 400),
    request_without_body("POST", "/v1/projects/{ref}/pause", 200),
    request_without_body("POST", "/v1/projects/{ref}/restore", 200),
];
