//! Branches, as rows and as projects.

use super::TestClient;
use serde_json::{Value, json};

const BRANCHES: &str = "/v1/projects/{ref}/branches";

#[tokio::test]
async fn the_first_branch_brings_one_for_production() {
    let api = TestClient::with_fast_clock();
    assert_eq!(api.get_json(BRANCHES).await, json!([]));
    let body = json!({ "branch_name": "drill", "with_data": true });
    let (status, made) = api.send_request("POST", BRANCHES, Some(&body)).await;
    assert_eq!((status, &made["status"]), (201, &json!("CREATING_PROJECT")));
    assert_eq!(api.send_request("POST", BRANCHES, Some(&body)).await.0, 409, "the name is taken");
    let list = api.get_json(BRANCHES).await;
    assert_eq!(
        (&list[0]["is_default"], &list[0]["project_ref"]),
        (&json!(true), &json!(api.project_reference()))
    );
    let own = made["project_ref"].as_str().expect("letters");
    assert_eq!(
        api.send_request("GET", &format!("/v1/projects/{own}"), None).await.0,
        404,
        "it is no project there"
    );
    let production = format!("/v1/branches/{}", api.project_reference());
    assert_eq!(api.send_request("DELETE", &production, None).await.0, 422, "production is safe");
    let path = format!("/v1/branches/{own}");
    api.poll_until(&path, |b| b["status"] == "ACTIVE_HEALTHY").await;
    api.poll_until(&format!("{BRANCHES}/drill"), |b| b["status"] == "FUNCTIONS_DEPLOYED").await;
    let detail = api.get_json(&path).await;
    assert!(detail["db_pass"].is_string() && detail["jwt_secret"].is_string(), "it tells its secrets");
    let rows = api.run_sql(own, "select count(*) as n from orders").await.1;
    assert_eq!(rows, json!([{ "n": 180 }]), "as the newest backup was");
    assert_eq!(api.send_request("DELETE", &path, None).await, (200, json!({ "message": "ok" })));
    assert_eq!(api.send_request("GET", &path, None).await.0, 404);
    assert_eq!(api.run_sql(own, "select 1").await.0, 404);
}

#[tokio::test]
async fn a_branch_that_was_just_made_is_not_found() {
    let api = TestClient::with_options(crate::fake::ServerOptions { speed: 20, ..Default::default() });
    let (_, made) = api.send_request("POST", BRANCHES, Some(&json!({ "branch_name": "new" }))).await;
    let path = format!("/v1/branches/{}", made["project_ref"].as_str().expect("letters"));
    assert_eq!(api.send_request("GET", &path, None).await.0, 404);
    let seen = api.poll_until(&path, |b| b["ref"] == made["project_ref"]).await;
    assert_eq!(seen["status"], "COMING_UP");
}

#[tokio::test]
async fn a_persistent_branch_is_not_deleted() {
    let api = TestClient::with_fast_clock();
    let (_, made) =
        api.send_request("POST", BRANCHES, Some(&json!({ "branch_name": "kept", "persistent": true }))).await;
    let path = format!("/v1/branches/{}", made["id"].as_str().expect("an id"));
    let refused = api.send_request("DELETE", &path, None).await;
    assert_eq!(refused, (422, json!({ "message": "Cannot delete persistent branch" })));
    assert_eq!(api.send_request("PATCH", &path, Some(&json!({ "persistent": false }))).await.0, 200);
    assert_eq!(api.send_request("DELETE", &format!("{path}?force=false"), None).await.0, 200);
    let shown = api.get_json(&format!("{BRANCHES}/kept")).await;
    assert!(shown["deletion_scheduled_at"].is_string(), "it has an hour");
    assert_eq!(api.send_request("POST", &format!("{path}/restore"), None).await.0, 200);
    assert_eq!(api.get_json(&format!("{BRANCHES}/kept")).await["deletion_scheduled_at"], Value::Null);
    assert_eq!(api.count_effects("DELETE /v1/branches/{branch_id_or_ref}"), 1);
}

#[tokio::test]
async fn a_reset_is_a_workflow() {
    let api = TestClient::with_fast_clock();
    let (_, made) = api.send_request("POST", BRANCHES, Some(&json!({ "branch_name": "again" }))).await;
    let own = made["project_ref"].as_str().expect("letters");
    api.poll_until(&format!("{BRANCHES}/again"), |b| b["status"] == "FUNCTIONS_DEPLOYED").await;
    assert_eq!(api.run_sql(own, "create table t (id integer primary key)").await.0, 201);
    let (status, begun) =
        api.send_request("POST", &format!("/v1/branches/{own}/reset"), Some(&json!({}))).await;
    assert_eq!((status, &begun["message"]), (201, &json!("ok")));
    let run = format!("/v1/projects/{{ref}}/actions/{}", begun["workflow_run_id"].as_str().expect("an id"));
    let is_over = |run: &Value| {
        run["run_steps"].as_array().is_some_and(|steps| steps.iter().all(|s| s["status"] == "EXITED"))
    };
    api.poll_until(&run, is_over).await;
    api.poll_until(&format!("{BRANCHES}/again"), |b| b["status"] == "FUNCTIONS_DEPLOYED").await;
    assert_eq!(api.run_sql(own, "select * from t").await.0, 400, "it is empty again");
}
