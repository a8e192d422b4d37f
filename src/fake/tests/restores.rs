//! Backups, recovery windows, and restores in place.

use super::TestClient;
use crate::fake::ServerOptions;
use serde_json::json;

const PROJECT: &str = "/v1/projects/{ref}";

#[tokio::test]
async fn a_restore_to_a_moment_takes_the_project_out_of_service_and_brings_it_back() {
    let api = TestClient::with_options(ServerOptions { speed: 1000, ..ServerOptions::default() });
    let reference = api.project_reference();
    assert_eq!(api.run_sql(&reference, "select count(*) as n from order_notes").await.0, 400, "dropped");
    let backups = api.get_json("/v1/projects/{ref}/database/backups").await;
    assert_eq!(backups["backups"], json!([]), "with the add-on there are no daily backups");
    let window = &backups["physical_backup_data"];
    let latest = window["latest_physical_backup_date_unix"].as_i64().expect("a number");
    let earliest = window["earliest_physical_backup_date_unix"].as_i64().expect("a number");
    let path = "/v1/projects/{ref}/database/backups/restore-pitr";
    for wrong in [latest + 5, earliest - 5, latest * 1000] {
        let refused =
            api.send_request("POST", path, Some(&json!({ "recovery_time_target_unix": wrong }))).await;
        assert_eq!(refused, (422, json!({ "message": "recovery time target is out of range" })), "{wrong}");
    }
    let (status, body) = api.send_request("POST", path, Some(&json!({ "timestamp": "now" }))).await;
    assert_eq!((status, &body["message"]), (400, &json!("recovery_time_target_unix: Required")));
    let half_an_hour_ago = api.server.platform.profile.now().0.as_second() - 1800;
    let body = json!({ "recovery_time_target_unix": half_an_hour_ago });
    assert_eq!(api.send_request("POST", path, Some(&body)).await.0, 201);
    assert_eq!(api.get_json(PROJECT).await["status"], "RESTORING");
    assert_eq!(api.run_sql(&reference, "select 1").await.0, 500, "nobody is let in");
    api.poll_until(PROJECT, |p| p["status"] == "ACTIVE_HEALTHY").await;
    // The platform reports the project healthy before it accepts connections.
    assert_eq!(api.run_sql(&reference, "select 1").await.0, 500);
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    assert_eq!(api.run_sql(&reference, "select count(*) as n from order_notes").await.1[0]["n"], 34);
    assert_eq!(api.count_effects("POST /v1/projects/{ref}/database/backups/restore-pitr"), 1);
    assert_eq!(api.count_effects("POST /v1/projects/{ref}/database/query"), 0, "looking has no effect");
}

#[tokio::test]
async fn a_daily_backup_is_restored_by_its_number() {
    let api = TestClient::with_options(ServerOptions { pitr: false, ..TestClient::fast_options() });
    let backups = api.get_json("/v1/projects/{ref}/database/backups").await;
    assert_eq!((&backups["pitr_enabled"], &backups["physical_backup_data"]), (&json!(false), &json!({})));
    let list = backups["backups"].as_array().expect("a list");
    assert_eq!((list.len(), &list[0]["status"]), (3, &json!("COMPLETED")));
    let path = "/v1/projects/{ref}/database/backups/restore";
    assert_eq!(api.send_request("POST", path, Some(&json!({ "id": 1 }))).await.0, 404);
    let (status, body) = api.send_request("POST", path, Some(&json!({ "id": list[2]["id"] }))).await;
    assert_eq!((status, body), (201, serde_json::Value::Null), "the body is empty");
    api.poll_until(PROJECT, |p| p["status"] == "ACTIVE_HEALTHY").await;
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    let rows = api.run_sql(&api.project_reference(), "select count(*) as n from orders").await.1;
    assert_eq!(rows[0]["n"], 180);
}

#[tokio::test]
async fn a_restore_point_is_one_and_no_list() {
    let api = TestClient::with_fast_clock();
    let path = "/v1/projects/{ref}/database/backups/restore-point";
    assert_eq!(api.send_request("GET", path, None).await.0, 404);
    let long = json!({ "name": "a name of more than twenty" });
    assert_eq!(api.send_request("POST", path, Some(&long)).await.0, 400);
    let (status, made) = api.send_request("POST", path, Some(&json!({ "name": "release" }))).await;
    assert_eq!((status, &made["status"]), (201, &json!("AVAILABLE")));
    assert_eq!(api.get_json(&format!("{path}?name=release")).await, made);
    let reference = api.project_reference();
    assert_eq!(api.run_sql(&reference, "delete from order_items").await.0, 201);
    let undo = "/v1/projects/{ref}/database/backups/undo";
    assert_eq!(api.send_request("POST", undo, Some(&json!({ "name": "release" }))).await.0, 201);
    api.poll_until(PROJECT, |p| p["status"] == "ACTIVE_HEALTHY").await;
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    let rows = api.run_sql(&reference, "select count(*) > 0 as is_back from order_items").await.1;
    assert_eq!(rows[0]["is_back"], 1);
}
