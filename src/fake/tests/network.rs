//! Network restrictions, bans and TLS.

use super::TestClient;
use crate::fake::ServerOptions;
use serde_json::{Value, json};

#[tokio::test]
async fn a_range_that_is_added_to_an_open_project_restricts_nothing() {
    let api = TestClient::with_options(ServerOptions { speed: 100, ..ServerOptions::default() });
    let path = "/v1/projects/{ref}/network-restrictions";
    let before = api.get_json(path).await;
    assert_eq!((&before["status"], &before["config"]["dbAllowedCidrs"]), (&json!("stored"), &json!([])));
    let add = json!({ "add": { "dbAllowedCidrs": ["8.8.8.0/24"] } });
    let (status, added) = api.send_request("PATCH", path, Some(&add)).await;
    assert_eq!((status, &added["status"]), (200, &json!("stored")), "it is applied later");
    let list = added["config"]["dbAllowedCidrs"].as_array().expect("one list for both families");
    assert!(list.contains(&json!({ "address": "0.0.0.0/0", "type": "v4" })), "it is open all the same");
    assert!(list.contains(&json!({ "address": "::/0", "type": "v6" })));
    let applied = api.poll_until(path, |r| r["status"] == "applied").await;
    assert_eq!(applied["config"]["dbAllowedCidrs"], json!(["0.0.0.0/0", "8.8.8.0/24"]), "texts, by family");
    assert_eq!(applied["old_config"], Value::Null);
    let all = json!({ "dbAllowedCidrs": ["10.0.0.0/8"], "dbAllowedCidrsV6": [] });
    let (status, replaced) = api.send_request("POST", &format!("{path}/apply"), Some(&all)).await;
    assert_eq!((status, &replaced["config"]["dbAllowedCidrs"]), (201, &json!(["10.0.0.0/8"])));
    assert_eq!(replaced["old_config"]["dbAllowedCidrsV6"], json!(["::/0"]));
    let wrong = json!({ "add": { "dbAllowedCidrs": ["everybody"] } });
    assert_eq!(api.send_request("PATCH", path, Some(&wrong)).await.0, 400);
    let review = json!({ "action": "apply", "requested_at": "2026-11-20T03:00:00Z" });
    assert_eq!(api.send_request("POST", &format!("{path}/review"), Some(&review)).await.0, 409);
}

#[tokio::test]
async fn an_open_project_is_shut_by_removing_what_lets_everybody_in() {
    let path = "/v1/projects/{ref}/network-restrictions";
    let open = json!({ "dbAllowedCidrs": ["0.0.0.0/0"], "dbAllowedCidrsV6": ["::/0"] });
    let only = json!({ "dbAllowedCidrs": ["203.0.113.0/24"], "dbAllowedCidrsV6": [] });
    for (method, path, body) in [
        ("PATCH", path.to_owned(), json!({ "add": only, "remove": open })),
        ("POST", format!("{path}/apply"), only.clone()),
    ] {
        let api = TestClient::with_fast_clock();
        assert!(api.send_request(method, &path, Some(&body)).await.0 < 300);
        let shown = api.get_json("/v1/projects/{ref}/network-restrictions").await;
        assert_eq!(shown["config"], only, "{method}");
    }
}

#[tokio::test]
async fn bans_are_lifted_by_a_body() {
    let api = TestClient::with_fast_clock();
    let path = "/v1/projects/{ref}/network-bans";
    let retrieve = format!("{path}/retrieve");
    let (status, bans) = api.send_request("POST", &retrieve, None).await;
    assert_eq!(status, 201);
    let first = bans["banned_ipv4_addresses"][0].clone();
    assert_eq!(api.send_request("DELETE", path, None).await.0, 400, "without a body");
    let body = json!({ "ipv4_addresses": [first] });
    assert_eq!(api.send_request("DELETE", path, Some(&body)).await, (200, Value::Null));
    let left = api.send_request("POST", &retrieve, None).await.1;
    assert!(!left["banned_ipv4_addresses"].as_array().expect("a list").contains(&first));
    assert_eq!(
        api.count_effects("POST /v1/projects/{ref}/network-bans/retrieve"),
        0,
        "looking has no effect"
    );
}

#[tokio::test]
async fn enforcing_tls_restarts_the_database() {
    let api = TestClient::with_options(ServerOptions { speed: 100, ..ServerOptions::default() });
    let path = "/v1/projects/{ref}/ssl-enforcement";
    let wanted = json!({ "requestedConfig": { "database": true } });
    let (status, requested) = api.send_request("PUT", path, Some(&wanted)).await;
    let expected = json!({ "currentConfig": { "database": true }, "appliedSuccessfully": false });
    assert_eq!((status, requested), (200, expected));
    assert_eq!(api.get_json("/v1/projects/{ref}").await["status"], "RESTARTING");
    assert_eq!(api.run_sql(&api.project_reference(), "select 1").await.0, 500);
    api.poll_until(path, |s| s["appliedSuccessfully"] == true).await;
}
