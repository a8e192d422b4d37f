//! Settings, and the backup schedule.

use super::TestClient;
use serde_json::json;

#[tokio::test]
async fn settings_are_overrides_and_a_put_replaces_them() {
    let api = TestClient::with_fast_clock();
    let path = "/v1/projects/{ref}/config/database/postgres";
    let keep = json!({ "work_mem": "8MB", "max_connections": 80, "restart_database": false });
    assert_eq!(api.send_request("PATCH", path, Some(&keep)).await.0, 200);
    let shown = api.get_json(path).await;
    assert_eq!((&shown["work_mem"], &shown["max_connections"]), (&json!("8MB"), &json!(80)));
    let (_, put) = api.send_request("PUT", path, Some(&json!({ "statement_timeout": "5s" }))).await;
    assert_eq!(put, json!({ "statement_timeout": "5s" }), "what is not named is gone");
    for wrong in [json!({ "wal_buffers": "8MB" }), json!({ "max_connections": "80" })] {
        assert_eq!(api.send_request("PATCH", path, Some(&wrong)).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn the_schedule_is_one_and_changes_three_times_a_day() {
    let api = TestClient::with_fast_clock();
    let path = "/v1/projects/{ref}/database/backups/schedule";
    assert_eq!(api.get_json(path).await["schedule_for"], "00:00:00");
    for at in ["04:00:00", "05:00", "06:30:15"] {
        assert_eq!(
            api.send_request("PATCH", path, Some(&json!({ "schedule_for": at }))).await.0,
            200,
            "{at}"
        );
    }
    assert_eq!(api.get_json(path).await["schedule_for"], "06:30:00");
    assert_eq!(api.send_request("PATCH", path, Some(&json!({ "schedule_for": "07:00:00" }))).await.0, 400);
    assert_eq!(api.send_request("PATCH", path, Some(&json!({ "schedule_for": "24:00:00" }))).await.0, 400);
}
