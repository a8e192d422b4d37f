use super::super::mock_api::{MockApi, MockReply, REF};
use super::*;
use crate::provider::Code;
use serde_json::Value;

const PATH: &str = "/v1/projects/abcdefghijklmnopqrst/network-restrictions";

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("a range")).collect()
}

/// Serves restrictions that are `said`; a `PATCH` gives its own shape, with what was recorded.
async fn served(said: Value) -> MockApi {
    MockApi::serve_replies(move |seen| {
        if seen.line.starts_with("GET") {
            MockReply::from_json(200, &said)
        } else {
            MockReply::from_json(
                200,
                &json!({"entitlement": "allowed", "status": "stored",
                    "config": {"dbAllowedCidrs": [{"address": "8.8.8.0/24", "type": "v4"},
                                                  {"address": "2001:db8::/32", "type": "v6"}]}}),
            )
        }
    })
    .await
}

fn applied(four: &[&str], six: &[&str]) -> Value {
    json!({"entitlement": "allowed", "status": "applied", "applied_at": "2026-11-01T00:00:00Z",
           "config": {"dbAllowedCidrs": four, "dbAllowedCidrsV6": six}})
}

async fn allowed(said: Value) -> NetworkRestrictions {
    served(said).await.project().allowed_ranges().await.expect("ranges")
}

#[tokio::test]
async fn supabase_t2_locking_down_adds_and_removes_in_one() {
    let server = served(applied(&["0.0.0.0/0"], &["::/0"])).await;
    let open = nets(&["0.0.0.0/0", "::/0"]);
    server.project().change_ranges(&nets(&["8.8.8.0/24", "2001:db8::/32"]), &open).await.expect("changed");
    let sent = server.received_requests().pop().expect("sent");
    assert_eq!(sent.line, format!("PATCH {PATH}"));
    assert_eq!(
        sent.body,
        json!({"add": {"dbAllowedCidrs": ["8.8.8.0/24"], "dbAllowedCidrsV6": ["2001:db8::/32"]},
               "remove": {"dbAllowedCidrs": ["0.0.0.0/0"], "dbAllowedCidrsV6": ["::/0"]}})
    );
    assert_eq!(server.request_lines().len(), 2, "one look, one change");
}

#[tokio::test]
async fn supabase_t1_the_list_is_never_replaced() {
    let server = MockApi::serve_replies(|seen| match seen.line.split(' ').next() {
        Some("GET") => MockReply::from_json(200, &applied(&["198.51.100.0/24"], &["2001:db8::/32"])),
        _ => MockReply::from_json(404, &json!({"message": "Cannot PATCH /v1/projects"})),
    })
    .await;
    let error =
        server.project().change_ranges(&nets(&["8.8.8.0/24"]), &[]).await.expect_err("it is not there");
    assert_eq!(error.code, Code::NotFound);
    assert!(
        server.request_lines().iter().all(|line| !line.contains("/apply")),
        "{:?}",
        server.request_lines()
    );
}

#[tokio::test]
async fn supabase_t3_both_shapes_are_read_and_a_change_is_not_known_to_be_applied() {
    let mut said = applied(&[], &["2001:db8::/32"]);
    said["config"]["dbAllowedCidrs"] = json!([{"address": "198.51.100.7/32", "type": "v4"}]);
    let server = served(said).await;
    let before = server.project().allowed_ranges().await.expect("ranges");
    let shown = |now: &NetworkRestrictions| now.ranges.iter().map(|r| r.cidr).collect::<Vec<_>>();
    assert_eq!(shown(&before), nets(&["198.51.100.7/32", "2001:db8::/32"]));
    assert!(before.applied && before.warnings.is_empty(), "{before:?}");
    let gone = nets(&["198.51.100.7/32"]);
    let after = server.project().change_ranges(&nets(&["8.8.8.0/24"]), &gone).await.expect("asked for");
    assert_eq!(shown(&after), nets(&["2001:db8::/32", "8.8.8.0/24"]));
    assert!(!after.applied);
}

#[tokio::test]
async fn supabase_the_answer_to_a_write_proves_nothing_and_is_not_read() {
    for body in ["null", "[]", "{}", "<html>", ""] {
        let server = MockApi::serve_replies(move |seen| match seen.line.split(' ').next() {
            Some("GET") => MockReply::from_json(200, &applied(&["198.51.100.0/24"], &[])),
            _ => MockReply::from_text(200, body),
        })
        .await;
        let project = server.project();
        project.change_ranges(&nets(&["8.8.8.0/24"]), &[]).await.expect(body);
        assert!(!project.set_ssl_enforcement(true).await.expect(body).applied);
        project.unban(&["203.0.113.66".parse().expect("an address")]).await.expect(body);
    }
}

#[tokio::test]
async fn supabase_t4_ipv4_alone_is_warned_of_and_mapped_addresses_are_ipv4() {
    let only_four = allowed(applied(&["198.51.100.0/24"], &[])).await;
    assert!(only_four.warnings.iter().any(|w| w.contains("IPv6")), "{only_four:?}");
    let private = allowed(applied(&["10.1.0.0/16"], &["fd00::/8"])).await;
    assert!(
        private.warnings.iter().any(|w| w.contains("`10.1.0.0/16`, `fd00::/8` is a private range")),
        "{private:?}"
    );
    assert!(allowed(applied(&["0.0.0.0/0"], &["::/0"])).await.warnings.is_empty());
    let server = served(applied(&["198.51.100.0/24"], &["2001:db8::/32"])).await;
    server.project().change_ranges(&nets(&["::ffff:192.0.2.0/120"]), &[]).await.expect("changed");
    let sent = server.received_requests().pop().expect("sent").body;
    assert_eq!(sent["add"], json!({"dbAllowedCidrs": ["192.0.2.0/24"], "dbAllowedCidrsV6": []}));
}

#[tokio::test]
async fn supabase_t5_stored_is_not_enforced_and_never_applied_is_open() {
    let never = allowed(json!({"entitlement": "allowed", "status": "stored", "config": {}})).await;
    assert_eq!((never.ranges.len(), never.applied), (0, false));
    assert!(never.warnings[0].contains("everybody may connect"), "{never:?}");
    let stored = allowed(
        json!({"entitlement": "allowed", "status": "stored", "applied_at": "2026-11-01T00:00:00Z",
               "config": {"dbAllowedCidrs": ["198.51.100.0/24", "203.0.113.0/24"], "dbAllowedCidrsV6": ["::/0"]},
               "old_config": {"dbAllowedCidrs": ["198.51.100.0/24"], "dbAllowedCidrsV6": ["::/0"]}}),
    )
    .await;
    let statuses: Vec<_> = stored.ranges.iter().map(|r| r.status.as_str()).collect();
    assert_eq!((statuses, stored.applied), (vec!["applied", "stored", "applied"], false));
    assert!(stored.warnings[0].contains("not enforced yet"), "{stored:?}");
}

#[tokio::test]
async fn supabase_t5_what_holds_until_a_list_is_enforced_is_said() {
    let stored = |old: Value| {
        json!({"entitlement": "allowed", "status": "stored", "old_config": old,
               "config": {"dbAllowedCidrs": ["203.0.113.0/24"], "dbAllowedCidrsV6": ["2001:db8::/32"]}})
    };
    for (old, said) in [
        (json!({}), "the ranges are stored and not enforced yet: everybody may connect until they are"),
        (
            json!({"dbAllowedCidrs": ["0.0.0.0/0"], "dbAllowedCidrsV6": ["::/0"]}),
            "the ranges are stored and not enforced yet: until they are, `0.0.0.0/0`, `::/0` may still connect",
        ),
        (json!({"dbAllowedCidrs": ["203.0.113.0/24"]}), "the ranges are stored and not enforced yet"),
    ] {
        assert_eq!(allowed(stored(old)).await.warnings[0], said);
    }
}

#[tokio::test]
async fn supabase_t5_a_change_under_review_is_shown_as_pending_and_not_changed_again() {
    let mut said = applied(&["0.0.0.0/0"], &["::/0"]);
    said["pending_config"] = json!({"dbAllowedCidrs": ["203.0.113.0/24"], "dbAllowedCidrsV6": []});
    said["pending_requested_at"] = json!("2026-11-19T00:00:00Z");
    let server = served(said).await;
    let now = server.project().allowed_ranges().await.expect("ranges");
    assert_eq!((now.ranges[2].status.as_str(), now.applied), ("pending", false));
    let error = server.project().change_ranges(&nets(&["8.8.8.0/24"]), &[]).await.expect_err("under review");
    assert_eq!(error.code, Code::Refused);
    assert!(
        error.message.contains("2026-11-19T00:00:00Z") && error.hint.expect("a hint").contains("/review")
    );
    assert!(server.request_lines().iter().all(|line| line.starts_with("GET")));
}

#[tokio::test]
async fn supabase_adding_to_an_open_project_sends_what_was_asked_for_and_nothing_else() {
    let never = json!({"entitlement": "allowed", "status": "stored", "config": {}});
    let server = served(never).await;
    server.project().change_ranges(&nets(&["8.8.8.0/24"]), &[]).await.expect("changed");
    let sent = server.received_requests().pop().expect("sent").body;
    let nothing = json!({"dbAllowedCidrs": [], "dbAllowedCidrsV6": []});
    assert_eq!(
        sent,
        json!({"add": {"dbAllowedCidrs": ["8.8.8.0/24"], "dbAllowedCidrsV6": []}, "remove": nothing})
    );
    let server = served(applied(&["8.8.8.0/24"], &["::/0"])).await;
    server.project().change_ranges(&nets(&["8.8.8.0/24"]), &[]).await.expect("there already");
    let sent = server.received_requests().pop().expect("a look may lag behind");
    assert_eq!(sent.body["add"]["dbAllowedCidrs"], json!(["8.8.8.0/24"]));
    server.project().change_ranges(&[], &[]).await.expect("nothing");
    assert_eq!(server.request_lines().len(), 3, "nothing is asked for, nothing sent");
}

#[tokio::test]
async fn supabase_t22_without_the_plan_nothing_is_sent() {
    let mut said = applied(&[], &[]);
    said["entitlement"] = json!("disallowed");
    let server = served(said).await;
    let error = server.project().change_ranges(&nets(&["8.8.8.0/24"]), &[]).await.expect_err("no plan");
    assert!(error.code == Code::Unsupported && error.message.contains("Pro plan"), "{error}");
    assert_eq!(server.request_lines().len(), 1);
}

#[tokio::test]
async fn supabase_t14_unbanning_is_a_delete_with_a_body_and_looking_is_a_post() {
    let server = MockApi::serve_replies(|seen| {
        if seen.line.starts_with("POST") {
            MockReply::from_json(201, &json!({"banned_ipv4_addresses": ["203.0.113.66", "2001:db8::66"]}))
        } else {
            MockReply::from_text(200, "")
        }
    })
    .await;
    let bans = server.project().bans().await.expect("bans");
    let addresses: Vec<IpAddr> = bans.iter().map(|ban| ban.address).collect();
    server.project().unban(&addresses).await.expect("let in");
    server.project().unban(&[]).await.expect("nobody");
    let seen = server.received_requests();
    assert_eq!(
        server.request_lines(),
        [
            format!("POST /v1/projects/{REF}/network-bans/retrieve"),
            format!("DELETE /v1/projects/{REF}/network-bans")
        ]
    );
    let body = json!({"ipv4_addresses": ["203.0.113.66", "2001:db8::66"], "requester_ip": false});
    assert_eq!(seen[1].body, body);
    assert!(seen[1].headers.contains_key("content-length"));
}

#[tokio::test]
async fn supabase_t20_ssl_is_told_and_asked_at_its_real_path() {
    let server = MockApi::serve_replies(|seen| {
        let wanted = seen.body["requestedConfig"]["database"] == true;
        MockReply::from_json(
            200,
            &json!({"currentConfig": {"database": wanted}, "appliedSuccessfully": !wanted}),
        )
    })
    .await;
    assert_eq!(server.project().ssl().await, Ok(SslEnforcement { enforced: false, applied: true }));
    assert_eq!(
        server.project().set_ssl_enforcement(true).await,
        Ok(SslEnforcement { enforced: true, applied: false })
    );
    assert_eq!(server.request_lines()[1], format!("PUT /v1/projects/{REF}/ssl-enforcement"));
}
