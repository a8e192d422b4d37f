//! Read replicas, pause and resume.

use super::TestClient;
use crate::fake::ServerOptions;
use serde_json::{Value, json};

#[tokio::test]
async fn a_replica_is_found_by_what_is_new_in_a_list_that_lags() {
    let api = TestClient::with_options(ServerOptions { speed: 20, ..ServerOptions::default() });
    let setup = "/v1/projects/{ref}/read-replicas/setup";
    let docs = json!({ "region": "us-east-1" });
    let (status, said) = api.send_request("POST", setup, Some(&docs)).await;
    assert_eq!((status, &said["message"]), (400, &json!("read_replica_region: Required")));
    let body = json!({ "read_replica_region": "us-east-1" });
    assert_eq!(
        api.send_request("POST", setup, Some(&body)).await,
        (201, Value::Null),
        "it is not told its name"
    );
    let list = "/v1/organizations/redrill-practice/projects";
    let databases = |page: &Value| page["projects"][0]["databases"].as_array().expect("a list").clone();
    assert_eq!(databases(&api.get_json(list).await).len(), 1, "not yet");
    let page = api.poll_until(list, |page| databases(page).len() == 2).await;
    let replica = databases(&page)[1].clone();
    assert_eq!((&replica["type"], &replica["region"]), (&json!("READ_REPLICA"), &json!("us-east-1")));
    let now = json!({ "recovery_time_target_unix": api.server.platform.profile.now().0.as_second() - 1800 });
    let restore = "/v1/projects/{ref}/database/backups/restore-pitr";
    assert_eq!(api.send_request("POST", restore, Some(&now)).await.0, 400, "a replica is in the way");
    let remove = json!({ "database_identifier": replica["identifier"] });
    let path = "/v1/projects/{ref}/read-replicas/remove";
    assert_eq!(api.send_request("POST", path, Some(&remove)).await.0, 201);
    assert_eq!(api.send_request("POST", path, Some(&remove)).await.0, 404);
}

#[tokio::test]
async fn a_paused_project_comes_back_and_is_not_restored() {
    let api = TestClient::with_options(ServerOptions { speed: 200, ..ServerOptions::default() });
    let (project, restore) = ("/v1/projects/{ref}", "/v1/projects/{ref}/restore");
    let (status, said) = api.send_request("POST", restore, None).await;
    let message = "This project is no longer in a paused state, it is ACTIVE_HEALTHY";
    assert_eq!((status, &said["message"]), (400, &json!(message)));
    assert_eq!(api.send_request("POST", "/v1/projects/{ref}/pause", None).await, (200, Value::Null));
    assert_eq!(api.get_json(project).await["status"], "PAUSING");
    assert_eq!(api.send_request("POST", restore, None).await.0, 400, "it is PAUSING");
    api.poll_until(project, |p| p["status"] == "INACTIVE").await;
    assert_eq!(api.send_request("POST", restore, None).await.0, 200);
    assert_eq!(api.get_json(project).await["status"], "COMING_UP");
    api.poll_until(project, |p| p["status"] == "ACTIVE_HEALTHY").await;
}
