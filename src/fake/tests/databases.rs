//! The real PostgreSQL behind a project.

use super::Desk;
use crate::{fake::Options, provider::postgres::stand_in};
use serde_json::{Value, json};
use std::{path::Path, process::Command, time::Duration};

/// Runs a program of PostgreSQL against the door of a project.
async fn run(desk: &Desk, reference: &str, read_only: bool, program: &str, args: &[&str]) -> String {
    let body = json!({ "read_only": read_only });
    let (status, login) =
        desk.ask("POST", &format!("/v1/projects/{reference}/cli/login-role"), Some(&body)).await;
    assert_eq!((status, &login["ttl_seconds"]), (201, &json!(300)), "{login}");
    let door = desk.get(&format!("/v1/projects/{reference}/config/database/pooler")).await;
    let text = |of: &Value| of.as_str().expect("a text").to_owned();
    let mut command = Command::new(stand_in::programs().expect("installed").join(program));
    command.env("PGPASSWORD", text(&login["password"])).args(["-U", &text(&login["role"])]);
    let role = text(&login["role"]);
    let become_role = role.strip_prefix("cli_login_").expect("a temporary role").to_owned();
    command.args(["-h", &text(&door[0]["db_host"]), "-d", "postgres"]).args(args);
    if program != "psql" {
        command.args(["--role", &become_role]);
    }
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn a_dump_is_real_and_fills_a_branch() {
    if !stand_in::is_installed_or_skip() {
        return;
    }
    let desk = Desk::of(Options { postgres: true, ..Desk::quickly() });
    let source = desk.project();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dump").display().to_string();
    run(&desk, &source, true, "pg_dump", &["-Fc", "-f", &file, "-n", "public"]).await;
    assert!(Path::new(&file).is_file());
    let (_, made) =
        desk.ask("POST", "/v1/projects/{ref}/branches", Some(&json!({ "branch_name": "drill" }))).await;
    let branch = made["project_ref"].as_str().expect("letters").to_owned();
    desk.until("/v1/projects/{ref}/branches/drill", |b| b["status"] == "FUNCTIONS_DEPLOYED").await;
    run(&desk, &branch, false, "pg_restore", &["--no-owner", "--clean", "--if-exists", &file]).await;
    let counts =
        "select (select count(*) from orders) as orders, (select sum(quantity) from order_items) as items,
                  (select count(*) from pg_policies) as policies";
    let (status, rows) = desk.query(&branch, counts).await;
    let items = desk.query(&source, "select sum(quantity) as n from order_items").await.1[0]["n"].clone();
    // A sum is a numeric, and comes as a text.
    let expected = json!([{ "orders": 211, "items": items.to_string(), "policies": 3 }]);
    assert_eq!((status, rows), (201, expected));
    let gone = desk.query(&branch, "select * from order_notes").await;
    assert!(gone.1["message"].as_str().expect("a text").contains("ERROR:  42P01"), "{}", gone.1);
    assert_eq!(desk.query(&source, "select count(*) as n from orders").await.1[0]["n"], 211);
    assert_eq!(desk.query(&branch, "delete from order_items").await.0, 201);
    assert_eq!(desk.counts("POST /v1/projects/{ref}/database/query"), 1, "only what wrote");
    let door = desk.get(&format!("/v1/projects/{branch}/config/database/pooler")).await;
    let socket = door[0]["db_host"].as_str().expect("a folder").to_owned();
    assert!(Path::new(&socket).is_dir());
    drop(desk);
    assert!(!Path::new(&socket).exists(), "nothing is left");
}

#[tokio::test]
async fn a_request_that_has_arrived_is_served_though_its_sender_is_gone() {
    if !stand_in::is_installed_or_skip() {
        return;
    }
    let desk = Desk::of(Options { postgres: true, ..Desk::quickly() });
    let body = json!({ "read_only": true });
    // Making the cluster takes longer than this one waits.
    let request = desk.request("POST", "/v1/projects/{ref}/cli/login-role", Some(&body));
    assert!(request.timeout(Duration::from_millis(50)).send().await.is_err());
    desk.until("/_fake/log", |log| log["effects"][0]["endpoint"] == "/v1/projects/{ref}/cli/login-role")
        .await;
    let sql = ["-c", "select 1"];
    assert!(run(&desk, &desk.project(), true, "psql", &sql).await.contains('1'));
}

#[tokio::test]
async fn without_it_a_login_says_what_is_missing() {
    let desk = Desk::quick();
    let (status, said) =
        desk.ask("POST", "/v1/projects/{ref}/cli/login-role", Some(&json!({ "read_only": true }))).await;
    assert_eq!(status, 500);
    assert!(said["message"].as_str().expect("a text").contains("--postgres"));
}
