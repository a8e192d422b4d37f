//! Effects that come later than their answers, reads that lag, and answers of another shape.

use super::TestClient;
use crate::{
    base::moment::Span,
    fake::{ServerOptions, faults::FaultRule, stale_reads::ReadRequest},
    provider::Provider as _,
};
use serde_json::{Value, json};
use std::time::Duration;

const SSL: &str = "/v1/projects/{ref}/ssl-enforcement";
const RANGES: &str = "/v1/projects/{ref}/network-restrictions";
const SETTINGS: &str = "/v1/projects/{ref}/config/database/postgres";
const BRANCHES: &str = "/v1/projects/{ref}/branches";

/// Starts a fast server with one rule for requests with this method and path.
fn serve_with_rule(method: &str, path: &str, fate: &str) -> TestClient {
    let path = path.replace("{ref}", "*");
    let text = format!("[[rule]]\nmethod = \"{method}\"\npath = \"{path}\"\nfate = {fate}\n");
    let faults = FaultRule::parse_rules(&text).expect("a rule");
    TestClient::with_options(ServerOptions { faults, ..TestClient::fast_options() })
}

fn ssl_body(enforced: bool) -> Value {
    json!({ "requestedConfig": { "database": enforced } })
}

fn is_enforced(shown: &Value) -> bool {
    shown["currentConfig"]["database"] == true
}

#[tokio::test]
async fn a_write_that_was_answered_504_lands_later() {
    let api = serve_with_rule("PUT", SSL, "{ lands-later = { after = \"300ms\", status = 504 } }");
    let effects = || api.count_effects(&format!("PUT {SSL}"));
    assert_eq!(api.send_request("PUT", SSL, Some(&ssl_body(true))).await.0, 504);
    assert!(!is_enforced(&api.get_json(SSL).await), "not yet");
    assert_eq!(effects(), 0, "what has not landed is not counted");
    api.poll_until(SSL, is_enforced).await;
    assert_eq!((effects(), api.server.ledger_entries()[0].answered), (1, false));
}

#[tokio::test]
async fn a_write_whose_connection_is_cut_lands_later() {
    let api = serve_with_rule("POST", BRANCHES, "{ lands-later = { after = \"300ms\" } }");
    let body = json!({ "branch_name": "drill" });
    let cut = api.build_request("POST", BRANCHES, Some(&body)).send().await;
    assert!(cut.is_err(), "{cut:?}");
    assert_eq!(api.get_json(BRANCHES).await, json!([]), "not yet");
    api.poll_until(BRANCHES, |list| list[1]["name"] == "drill").await;
    assert_eq!(api.count_effects(&format!("POST {BRANCHES}")), 1);
}

#[tokio::test]
async fn what_has_not_landed_never_does_once_the_server_is_gone() {
    let api = serve_with_rule("PUT", SSL, "{ lands-later = { after = \"200ms\", status = 504 } }");
    let world = api.server.root_project_world(&api.project_reference()).expect("a world");
    assert_eq!(api.send_request("PUT", SSL, Some(&ssl_body(true))).await.0, 504);
    drop(api);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!world.network().expect("a network").ssl().await.expect("a look").enforced);
}

#[tokio::test]
async fn a_write_is_answered_before_it_is_so() {
    let api = serve_with_rule("PUT", SSL, "{ acknowledged-later = { after = \"300ms\" } }");
    let (status, shown) = api.send_request("PUT", SSL, Some(&ssl_body(true))).await;
    assert_eq!((status, is_enforced(&shown)), (200, true), "as if it were so");
    assert!(!is_enforced(&api.get_json(SSL).await));
    assert_eq!(api.count_effects(&format!("PUT {SSL}")), 0);
    api.poll_until(SSL, is_enforced).await;
    assert_eq!(api.count_effects(&format!("PUT {SSL}")), 1);
    assert!(api.server.ledger_entries()[0].answered);
}

#[tokio::test]
async fn every_write_is_answered_early_as_it_is_answered_late() {
    let ranges =
        json!({ "add": { "dbAllowedCidrs": ["8.8.8.0/24"] }, "remove": { "dbAllowedCidrsV6": ["::/0"] } });
    let apply = json!({ "dbAllowedCidrs": ["10.0.0.0/8"], "dbAllowedCidrsV6": [] });
    let settings = json!({ "work_mem": "8MB", "restart_database": false });
    let schedule = json!({ "schedule_for": "04:00:00" });
    let bans = json!({ "ipv4_addresses": ["203.0.113.66"] });
    for (method, path, body, field) in [
        ("PATCH", RANGES, ranges, "config"),
        ("POST", "/v1/projects/{ref}/network-restrictions/apply", apply, "config"),
        ("PATCH", SETTINGS, settings.clone(), "work_mem"),
        ("PUT", SETTINGS, settings, "work_mem"),
        ("PATCH", "/v1/projects/{ref}/database/backups/schedule", schedule, "schedule_for"),
        ("DELETE", "/v1/projects/{ref}/network-bans", bans, "none"),
        ("POST", "/v1/projects/{ref}/pause", Value::Null, "none"),
    ] {
        let early = serve_with_rule(method, path, "{ acknowledged-later = { after = \"1h\" } }");
        let late = TestClient::with_fast_clock();
        let (status, before) = early.send_request(method, path, Some(&body)).await;
        let (expected, then) = late.send_request(method, path, Some(&body)).await;
        assert_eq!((status, &before[field]), (expected, &then[field]), "{method} {path}");
        assert!(early.server.ledger_entries().is_empty(), "{method} {path}");
    }
}

#[tokio::test]
async fn a_stale_read_is_as_it_was_before_the_write() {
    let api = serve_with_rule("GET", SSL, "{ stale = \"600ms\" }");
    assert_eq!(api.send_request("PUT", SSL, Some(&ssl_body(true))).await.0, 200);
    assert!(!is_enforced(&api.get_json(SSL).await), "old, though nobody has read it before");
    api.poll_until(SSL, is_enforced).await;
    let retrieve = "/v1/projects/{ref}/network-bans/retrieve";
    let api = serve_with_rule("POST", retrieve, "{ stale = \"600ms\" }");
    let body = json!({ "ipv4_addresses": ["203.0.113.66"] });
    let before = api.send_request("POST", retrieve, None).await;
    assert_eq!(api.send_request("DELETE", "/v1/projects/{ref}/network-bans", Some(&body)).await.0, 200);
    assert_eq!(api.send_request("POST", retrieve, None).await, before, "a read that is posted lags too");
}

#[tokio::test]
async fn a_read_with_parameters_or_a_body_lags_too() {
    let project = "/v1/projects/{ref}";
    let (points, replicas) =
        (format!("{project}/database/backups/restore-point"), "/v1/organizations/*/projects".to_owned());
    let api = serve_with_rule("GET", &points, "{ stale = \"1h\" }");
    let point = format!("{points}?name=release");
    assert_eq!(api.send_request("GET", &point, None).await.0, 404);
    let made = api.send_request("POST", &points, Some(&json!({ "name": "release" }))).await;
    assert_eq!(made.0, 201, "{made:?}");
    assert_eq!(api.send_request("GET", &point, None).await.0, 404, "as it was before the write");

    let api = serve_with_rule("GET", &replicas, "{ stale = \"1h\" }");
    let slug = api.get_json(project).await["organization_slug"].as_str().expect("a slug").to_owned();
    let page = format!("/v1/organizations/{slug}/projects?limit=100&offset=0");
    let before = api.get_json(&page).await;
    let body = json!({ "read_replica_region": "eu-west-1" });
    let setup = api.send_request("POST", &format!("{project}/read-replicas/setup"), Some(&body)).await;
    assert!(setup.0 < 300, "{setup:?}");
    assert_eq!(api.get_json(&page).await, before);
}

#[tokio::test]
async fn a_refused_write_makes_no_read_stale() {
    let api = serve_with_rule("GET", SETTINGS, "{ stale = \"1h\" }");
    assert_eq!(api.send_request("PATCH", SETTINGS, Some(&json!({ "wal_buffers": "8MB" }))).await.0, 400);
    let reference = api.project_reference();
    let path = SETTINGS.replace("{ref}", &reference);
    let day = Span::from_secs(86_400);
    let read = ReadRequest::new("GET", &path, &[], &Value::Null);
    let stale = || api.server.platform.stale_reads.find_earlier_answer(&read, day);
    assert!(stale().is_none());
    assert_eq!(api.send_request("PATCH", SETTINGS, Some(&json!({ "work_mem": "8MB" }))).await.0, 200);
    assert!(stale().is_some());
}

#[tokio::test]
async fn the_first_part_of_a_request_takes_effect() {
    let api = serve_with_rule("PATCH", RANGES, "\"partial\"");
    let body =
        json!({ "add": { "dbAllowedCidrs": ["8.8.8.0/24"] }, "remove": { "dbAllowedCidrs": ["0.0.0.0/0"] } });
    let (status, shown) = api.send_request("PATCH", RANGES, Some(&body)).await;
    let list = shown["config"]["dbAllowedCidrs"].as_array().expect("a list");
    let has = |range: &str| list.contains(&json!({ "address": range, "type": "v4" }));
    assert_eq!((status, has("8.8.8.0/24"), has("0.0.0.0/0")), (200, true, true));
    let api = serve_with_rule("PATCH", SETTINGS, "\"partial\"");
    let body = json!({ "max_connections": 80, "restart_database": false, "work_mem": "8MB" });
    assert_eq!(api.send_request("PATCH", SETTINGS, Some(&body)).await.0, 200);
    let shown = api.get_json(SETTINGS).await;
    assert_eq!((&shown["max_connections"], shown.get("work_mem")), (&json!(80), None));
}

#[tokio::test]
async fn an_answer_may_have_another_shape() {
    for (odd, text) in [("null", "null"), ("[]", "[]"), ("{}", "{}"), ("text/html", "<html>")] {
        let api = serve_with_rule("PUT", SSL, &format!("{{ odd = \"{odd}\" }}"));
        let answer = api.build_request("PUT", SSL, Some(&ssl_body(true))).send().await.expect("answered");
        assert_eq!(answer.status(), 200);
        let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
        assert_eq!(kind.starts_with("text/html"), odd == "text/html", "{kind}");
        assert!(answer.text().await.expect("read").starts_with(text), "{odd}");
        assert!(is_enforced(&api.get_json(SSL).await), "it has taken effect");
    }
}
