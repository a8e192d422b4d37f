//! Authorization, rate limits and fault rules.

use super::TestClient;
use crate::{
    base::moment::Span,
    fake::{
        ServerOptions,
        faults::{FaultAction, FaultRule},
    },
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test]
async fn nobody_is_let_in_without_a_token() {
    let api = TestClient::with_fast_clock();
    let url = format!("{}/v1/projects", api.server.url());
    for request in [api.client.get(&url), api.client.get(&url).bearer_auth("eyJhbGciOi")] {
        let answer = request.send().await.expect("answered");
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.text().await.expect("read"), r#"{"message":"Unauthorized"}"#);
    }
    assert_eq!(api.send_request("GET", "/v1/projects/{ref}/backups", None).await.0, 404, "no such endpoint");
    assert_eq!(api.send_request("GET", "/v1/projects/short", None).await.0, 400);
    assert_eq!(api.send_request("GET", "/v1/projects/aaaaaaaaaaaaaaaaaaaa", None).await.0, 404);
}

#[tokio::test]
async fn the_limit_is_counted_for_an_endpoint_and_a_project() {
    let api =
        TestClient::with_options(ServerOptions { per_minute: 3, projects: 2, ..TestClient::fast_options() });
    let other = api.server.list_root_references().remove(1);
    for left in ["2", "1", "0"] {
        let answer = api.build_request("GET", "/v1/projects/{ref}", None).send().await.expect("answered");
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        assert_eq!(
            (header("X-RateLimit-Limit"), header("X-RateLimit-Remaining").as_str()),
            ("3".into(), left)
        );
        let reset: u64 = header("X-RateLimit-Reset").parse().expect("seconds");
        assert!((55..=60).contains(&reset), "{reset}");
    }
    let (status, body) = api.send_request("GET", "/v1/projects/{ref}", None).await;
    assert_eq!((status, body), (429, json!({ "message": "ThrottlerException: Too Many Requests" })));
    assert_eq!(api.send_request("GET", &format!("/v1/projects/{other}"), None).await.0, 200);
    assert_eq!(api.send_request("GET", "/v1/projects/{ref}/jit-access", None).await.0, 200);
}

#[tokio::test]
async fn what_goes_wrong_is_what_was_asked_for() {
    let api = TestClient::with_fast_clock();
    let branches = "POST /v1/projects/{ref}/branches";
    let ask = async |name: &str| {
        let body = json!({ "branch_name": name });
        let request = api.build_request("POST", "/v1/projects/{ref}/branches", Some(&body));
        request.timeout(Duration::from_millis(400)).send().await.map(|answer| answer.status().as_u16())
    };
    let rule = |nth, fate| FaultRule {
        method: Some("POST".into()),
        path: "/v1/projects/*/branches".into(),
        nth: Some(nth),
        fate,
    };
    for (name, fate, answer, effects) in [
        ("a", FaultAction::CutBefore, None, 0),
        ("b", FaultAction::CutAfter, None, 1),
        ("c", FaultAction::SilentBefore, None, 1),
        ("d", FaultAction::SilentAfter, None, 2),
        ("e", FaultAction::Status(500), Some(500), 2),
        ("f", FaultAction::StatusAfter(502), Some(502), 3),
        ("g", FaultAction::Late(Span::from_millis(100)), Some(201), 4),
    ] {
        api.server.add_fault(rule(1, fate));
        let begun = Instant::now();
        assert_eq!(ask(name).await.ok(), answer, "{fate:?}");
        assert_eq!(api.count_effects(branches), effects, "{fate:?}");
        if let FaultAction::Late(span) = fate {
            assert!(begun.elapsed() >= span.to_std());
        }
    }
    let log = api.server.ledger_entries();
    let answered: Vec<bool> = log.iter().map(|entry| entry.answered).collect();
    assert_eq!(answered, [false, false, false, true]);
    assert_eq!(api.count_effects(branches), 4);
    let page = api.get_json("/_fake/log").await;
    assert_eq!(page["counts"][branches], 4);
    assert_eq!(page["effects"][0]["body"], json!({ "branch_name": "b" }));
}

#[tokio::test]
async fn a_server_that_is_dropped_is_gone() {
    let api = TestClient::with_fast_clock();
    let url = api.server.url();
    drop(api.server);
    assert!(api.client.get(url).send().await.is_err());
}

#[tokio::test]
async fn a_plan_that_is_too_small_is_said() {
    let api = TestClient::with_options(ServerOptions {
        plan: crate::fake::BillingPlan::Free,
        ..TestClient::fast_options()
    });
    let branch = json!({ "branch_name": "a" });
    assert_eq!(api.send_request("POST", "/v1/projects/{ref}/branches", Some(&branch)).await.0, 402);
    let schedule = api.send_request("GET", "/v1/projects/{ref}/database/backups/schedule", None).await;
    assert_eq!(schedule, (402, json!({ "message": "Feature requires a higher plan" })));
    let entitled = api.get_json("/v1/organizations/redrill-practice/entitlements").await;
    let list = entitled["entitlements"].as_array().expect("a list");
    let replicas: Vec<&Value> =
        list.iter().filter(|e| e["feature"]["key"] == "instances.read_replicas").collect();
    assert_eq!(replicas[0]["hasAccess"], false);
}

#[tokio::test]
async fn without_postgresql_a_login_says_what_is_missing() {
    let desk = TestClient::with_fast_clock();
    let (status, said) = desk
        .send_request("POST", "/v1/projects/{ref}/cli/login-role", Some(&json!({ "read_only": true })))
        .await;
    assert_eq!(status, 500);
    assert!(said["message"].as_str().expect("a text").contains("--postgres"));
}
