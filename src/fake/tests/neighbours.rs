//! Network restrictions, bans, TLS, settings, replicas, the backup schedule, pause and resume.

use super::TestClient;
use crate::fake::ServerOptions;
use serde_json::{Value, json};

#[tokio::test]
async fn a_range_that_is_added_to_an_open_project_restricts_nothing() {
    let desk = TestClient::with_options(ServerOptions { speed: 100, ..ServerOptions::default() });
    let path = "/v1/projects/{ref}/network-restrictions";
    let before = desk.get_json(path).await;
    assert_eq!((&before["status"], &before["config"]["dbAllowedCidrs"]), (&json!("stored"), &json!([])));
    let add = json!({ "add": { "dbAllowedCidrs": ["8.8.8.0/24"] } });
    let (status, added) = desk.send_request("PATCH", path, Some(&add)).await;
    assert_eq!((status, &added["status"]), (200, &json!("stored")), "it is applied later");
    let list = added["config"]["dbAllowedCidrs"].as_array().expect("one list for both families");
    assert!(list.contains(&json!({ "address": "0.0.0.0/0", "type": "v4" })), "it is open all the same");
    assert!(list.contains(&json!({ "address": "::/0", "type": "v6" })));
    let applied = desk.poll_until(path, |r| r["status"] == "applied").await;
    assert_eq!(applied["config"]["dbAllowedCidrs"], json!(["0.0.0.0/0", "8.8.8.0/24"]), "texts, by family");
    assert_eq!(applied["old_config"], Value::Null);
    let all = json!({ "dbAllowedCidrs": ["10.0.0.0/8"], "dbAllowedCidrsV6": [] });
    let (status, replaced) = desk.send_request("POST", &format!("{path}/apply"), Some(&all)).await;
    assert_eq!((status, &replaced["config"]["dbAllowedCidrs"]), (201, &json!(["10.0.0.0/8"])));
    assert_eq!(replaced["old_config"]["dbAllowedCidrsV6"], json!(["::/0"]));
    let wrong = json!({ "add": { "dbAllowedCidrs": ["everybody"] } });
    assert_eq!(desk.send_request("PATCH", path, Some(&wrong)).await.0, 400);
    let review = json!({ "action": "apply", "requested_at": "2026-11-20T03:00:00Z" });
    assert_eq!(desk.send_request("POST", &format!("{path}/review"), Some(&review)).await.0, 409);
}

#[tokio::test]
async fn bans_are_lifted_by_a_body() {
    let desk = TestClient::with_fast_clock();
    let path = "/v1/projects/{ref}/network-bans";
    let retrieve = format!("{path}/retrieve");
    let (status, bans) = desk.send_request("POST", &retrieve, None).await;
    assert_eq!(status, 201);
    let first = bans["banned_ipv4_addresses"][0].clone();
    assert_eq!(desk.send_request("DELETE", path, None).await.0, 400, "without a body");
    let body = json!({ "ipv4_addresses": [first] });
    assert_eq!(desk.send_request("DELETE", path, Some(&body)).await, (200, Value::Null));
    let left = desk.send_request("POST", &retrieve, None).await.1;
    assert!(!left["banned_ipv4_addresses"].as_array().expect("a list").contains(&first));
    assert_eq!(
        desk.count_effects("POST /v1/projects/{ref}/network-bans/retrieve"),
        0,
        "looking has no effect"
    );
}

#[tokio::test]
async fn enforcing_tls_restarts_the_database() {
    let desk = TestClient::with_options(ServerOptions { speed: 100, ..ServerOptions::default() });
    let path = "/v1/projects/{ref}/ssl-enforcement";
    let wanted = json!({ "requestedConfig": { "database": true } });
    let (status, asked) = desk.send_request("PUT", path, Some(&wanted)).await;
    let expected = json!({ "currentConfig": { "database": true }, "appliedSuccessfully": false });
    assert_eq!((status, asked), (200, expected));
    assert_eq!(desk.get_json("/v1/projects/{ref}").await["status"], "RESTARTING");
    assert_eq!(desk.run_sql(&desk.project_reference(), "select 1").await.0, 500);
    desk.poll_until(path, |s| s["appliedSuccessfully"] == true).await;
}

#[tokio::test]
async fn settings_are_overrides_and_a_put_replaces_them() {
    let desk = TestClient::with_fast_clock();
    let path = "/v1/projects/{ref}/config/database/postgres";
    let keep = json!({ "work_mem": "8MB", "max_connections": 80, "restart_database": false });
    assert_eq!(desk.send_request("PATCH", path, Some(&keep)).await.0, 200);
    let shown = desk.get_json(path).await;
    assert_eq!((&shown["work_mem"], &shown["max_connections"]), (&json!("8MB"), &json!(80)));
    let (_, put) = desk.send_request("PUT", path, Some(&json!({ "statement_timeout": "5s" }))).await;
    assert_eq!(put, json!({ "statement_timeout": "5s" }), "what is not named is gone");
    for wrong in [json!({ "wal_buffers": "8MB" }), json!({ "max_connections": "80" })] {
        assert_eq!(desk.send_request("PATCH", path, Some(&wrong)).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_replica_is_found_by_what_is_new_in_a_list_that_lags() {
    let desk = TestClient::with_options(ServerOptions { speed: 20, ..ServerOptions::default() });
    let setup = "/v1/projects/{ref}/read-replicas/setup";
    let docs = json!({ "region": "us-east-1" });
    let (status, said) = desk.send_request("POST", setup, Some(&docs)).await;
    assert_eq!((status, &said["message"]), (400, &json!("read_replica_region: Required")));
    let asked = json!({ "read_replica_region": "us-east-1" });
    assert_eq!(
        desk.send_request("POST", setup, Some(&asked)).await,
        (201, Value::Null),
        "it is not told its name"
    );
    let list = "/v1/organizations/redrill-practice/projects";
    let databases = |page: &Value| page["projects"][0]["databases"].as_array().expect("a list").clone();
    assert_eq!(databases(&desk.get_json(list).await).len(), 1, "not yet");
    let page = desk.poll_until(list, |page| databases(page).len() == 2).await;
    let replica = databases(&page)[1].clone();
    assert_eq!((&replica["type"], &replica["region"]), (&json!("READ_REPLICA"), &json!("us-east-1")));
    let now = json!({ "recovery_time_target_unix": desk.server.platform.profile.now().0.as_second() - 1800 });
    let restore = "/v1/projects/{ref}/database/backups/restore-pitr";
    assert_eq!(desk.send_request("POST", restore, Some(&now)).await.0, 400, "a replica is in the way");
    let remove = json!({ "database_identifier": replica["identifier"] });
    let path = "/v1/projects/{ref}/read-replicas/remove";
    assert_eq!(desk.send_request("POST", path, Some(&remove)).await.0, 201);
    assert_eq!(desk.send_request("POST", path, Some(&remove)).await.0, 404);
}

#[tokio::test]
async fn the_schedule_is_one_and_changes_three_times_a_day() {
    let desk = TestClient::with_fast_clock();
    let path = "/v1/projects/{ref}/database/backups/schedule";
    assert_eq!(desk.get_json(path).await["schedule_for"], "00:00:00");
    for at in ["04:00:00", "05:00", "06:30:15"] {
        assert_eq!(
            desk.send_request("PATCH", path, Some(&json!({ "schedule_for": at }))).await.0,
            200,
            "{at}"
        );
    }
    assert_eq!(desk.get_json(path).await["schedule_for"], "06:30:00");
    assert_eq!(desk.send_request("PATCH", path, Some(&json!({ "schedule_for": "07:00:00" }))).await.0, 400);
    assert_eq!(desk.send_request("PATCH", path, Some(&json!({ "schedule_for": "24:00:00" }))).await.0, 400);
}

#[tokio::test]
async fn a_paused_project_comes_back_and_is_not_restored() {
    let desk = TestClient::with_options(ServerOptions { speed: 200, ..ServerOptions::default() });
    let (project, restore) = ("/v1/projects/{ref}", "/v1/projects/{ref}/restore");
    let (status, said) = desk.send_request("POST", restore, None).await;
    let message = "This project is no longer in a paused state, it is ACTIVE_HEALTHY";
    assert_eq!((status, &said["message"]), (400, &json!(message)));
    assert_eq!(desk.send_request("POST", "/v1/projects/{ref}/pause", None).await, (200, Value::Null));
    assert_eq!(desk.get_json(project).await["status"], "PAUSING");
    assert_eq!(desk.send_request("POST", restore, None).await.0, 400, "it is PAUSING");
    desk.poll_until(project, |p| p["status"] == "INACTIVE").await;
    assert_eq!(desk.send_request("POST", restore, None).await.0, 200);
    assert_eq!(desk.get_json(project).await["status"], "COMING_UP");
    desk.poll_until(project, |p| p["status"] == "ACTIVE_HEALTHY").await;
}
