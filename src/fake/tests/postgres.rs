//! The real PostgreSQL behind a project.

use super::TestClient;
use crate::{fake::ServerOptions, provider::postgres::platform_cluster, testing};
use serde_json::{Value, json};
use std::{path::Path, process::Command, time::Duration};

/// Runs a PostgreSQL program as a temporary login role of a project.
async fn run_program(
    api: &TestClient,
    reference: &str,
    read_only: bool,
    program: &str,
    args: &[&str],
) -> String {
    let body = json!({ "read_only": read_only });
    let (status, login) =
        api.send_request("POST", &format!("/v1/projects/{reference}/cli/login-role"), Some(&body)).await;
    assert_eq!((status, &login["ttl_seconds"]), (201, &json!(300)), "{login}");
    let pooler = api.get_json(&format!("/v1/projects/{reference}/config/database/pooler")).await;
    let text = |of: &Value| of.as_str().expect("a text").to_owned();
    let mut command = Command::new(platform_cluster::programs_folder().expect("installed").join(program));
    command.env("PGPASSWORD", text(&login["password"])).args(["-U", &text(&login["role"])]);
    let role = text(&login["role"]);
    let become_role = role.strip_prefix("cli_login_").expect("a temporary role").to_owned();
    command.args(["-h", &text(&pooler[0]["db_host"]), "-d", "postgres"]).args(args);
    if program != "psql" {
        command.args(["--role", &become_role]);
    }
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn a_dump_is_real_and_fills_a_branch() {
    if !testing::postgres_or_skip() {
        return;
    }
    let api = TestClient::with_options(ServerOptions { postgres: true, ..TestClient::fast_options() });
    let source = api.project_reference();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dump").display().to_string();
    run_program(&api, &source, true, "pg_dump", &["-Fc", "-f", &file, "-n", "public"]).await;
    assert!(Path::new(&file).is_file());
    let (_, made) = api
        .send_request("POST", "/v1/projects/{ref}/branches", Some(&json!({ "branch_name": "drill" })))
        .await;
    let branch = made["project_ref"].as_str().expect("letters").to_owned();
    api.poll_until("/v1/projects/{ref}/branches/drill", |b| b["status"] == "FUNCTIONS_DEPLOYED").await;
    run_program(&api, &branch, false, "pg_restore", &["--no-owner", "--clean", "--if-exists", &file]).await;
    let counts =
        "select (select count(*) from orders) as orders, (select sum(quantity) from order_items) as items,
                  (select count(*) from pg_policies) as policies";
    let (status, rows) = api.run_sql(&branch, counts).await;
    let items = api.run_sql(&source, "select sum(quantity) as n from order_items").await.1[0]["n"].clone();
    // A sum is a numeric, which the API returns as a string.
    let expected = json!([{ "orders": 211, "items": items.to_string(), "policies": 3 }]);
    assert_eq!((status, rows), (201, expected));
    let gone = api.run_sql(&branch, "select * from order_notes").await;
    assert!(gone.1["message"].as_str().expect("a text").contains("ERROR:  42P01"), "{}", gone.1);
    assert_eq!(api.run_sql(&source, "select count(*) as n from orders").await.1[0]["n"], 211);
    assert_eq!(api.run_sql(&branch, "delete from order_items").await.0, 201);
    assert_eq!(api.count_effects("POST /v1/projects/{ref}/database/query"), 1, "only what wrote");
    let pooler = api.get_json(&format!("/v1/projects/{branch}/config/database/pooler")).await;
    let socket = pooler[0]["db_host"].as_str().expect("a folder").to_owned();
    assert!(Path::new(&socket).is_dir());
    drop(api);
    assert!(!Path::new(&socket).exists(), "nothing is left");
}

#[tokio::test]
async fn a_request_that_has_arrived_is_served_though_its_sender_is_gone() {
    if !testing::postgres_or_skip() {
        return;
    }
    let api = TestClient::with_options(ServerOptions { postgres: true, ..TestClient::fast_options() });
    let body = json!({ "read_only": true });
    // Creating the cluster takes longer than this client waits.
    let request = api.build_request("POST", "/v1/projects/{ref}/cli/login-role", Some(&body));
    assert!(request.timeout(Duration::from_millis(50)).send().await.is_err());
    api.poll_until("/_fake/log", |log| log["effects"][0]["endpoint"] == "/v1/projects/{ref}/cli/login-role")
        .await;
    let sql = ["-c", "select 1"];
    assert!(run_program(&api, &api.project_reference(), true, "psql", &sql).await.contains('1'));
}
