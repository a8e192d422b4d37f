//! Read replicas.

use super::{MockApi, MockReply, ask_planned, follow, key, organization, project, windowed, writes};
use crate::provider::{Code, Provider as _, model::ReplicaRequest, supabase::mock_api::REF};
use serde_json::{Value, json};

fn database(identifier: &str, kind: &str, region: &str, status: &str) -> Value {
    json!({ "identifier": identifier, "type": kind, "region": region, "status": status })
}

fn primary() -> Value {
    database(REF, "PRIMARY", "eu-central-1", "ACTIVE_HEALTHY")
}

/// Serves a project that gets a replica, on the second page of a large organization.
fn growing(last: &'static str) -> impl Fn(&super::ReceivedRequest) -> MockReply {
    move |seen| match seen.line.as_str() {
        line if line.contains("/organizations/acme/projects?limit=100&offset=0") => {
            let others: Vec<_> =
                (0..100).map(|n| json!({ "ref": format!("other{n}"), "databases": [] })).collect();
            MockReply::from_json(
                200,
                &json!({ "projects": others, "pagination": { "count": 101, "limit": 100, "offset": 0 } }),
            )
        }
        line if line.contains("/organizations/acme/projects?limit=100&offset=100") => {
            let old = database("old", "READ_REPLICA", "us-west-1", "ACTIVE_HEALTHY");
            let status = if seen.earlier < 5 { "INIT_READ_REPLICA" } else { last };
            let new = database("new", "READ_REPLICA", "us-west-1", status);
            let mut page = match seen.earlier {
                0 | 1 => organization(&[primary(), old]),
                _ => organization(&[primary(), old, new]),
            };
            page["pagination"] = json!({ "count": 101, "limit": 100, "offset": 100 });
            MockReply::from_json(200, &page)
        }
        line if line.starts_with("POST ") && line.contains("/read-replicas/") => {
            MockReply::from_text(201, "")
        }
        _ => windowed(seen),
    }
}

#[tokio::test]
async fn supabase_t20_a_replica_is_asked_for_as_the_schema_says_and_found_by_difference() {
    let server = MockApi::serve_replies(growing("ACTIVE_HEALTHY")).await;
    let (project, _folder) = project(&server);
    let request = ReplicaRequest { region: Some("us-west-1".into()) };
    let replicas = project.replicas().expect("replicas");
    let (traces, job) = ask_planned(replicas.plan_create(&request, &key()).await).await;
    let job = job.expect("accepted");
    let sent =
        server.received_requests().into_iter().find(|seen| seen.line.ends_with("/setup")).expect("sent");
    assert_eq!(sent.body, json!({ "read_replica_region": "us-west-1" }));
    assert_eq!(traces["detail"]["before"], json!(["old"]));
    let find = async || project.find_job(&key(), Some(&traces)).await;
    assert_eq!(find().await.expect_err("it may still come").code, Code::Unknown);
    let found = find().await.expect("known").expect("it came");
    assert_eq!(found, job);
    let replica = follow(&project, &job).await.expect("ready");
    assert_eq!((&replica["id"], &replica["status"]), (&json!("new"), &json!("ready")));
    assert_eq!(writes(&server).len(), 1);
}

#[tokio::test]
async fn a_replica_that_failed_is_removed() {
    let server = MockApi::serve_replies(growing("INIT_READ_REPLICA_FAILED")).await;
    let (project, _folder) = project(&server);
    let request = ReplicaRequest { region: Some("us-west-1".into()) };
    let job = project.replicas().expect("replicas").create(&request, &key()).await.expect("accepted");
    let error = follow(&project, &job).await.expect_err("failed");
    assert!(error.message.contains("INIT_READ_REPLICA_FAILED"), "{}", error.message);
    assert_eq!(error.left_behind, ["replica new"], "the list shows it on");
    let removed =
        server.received_requests().into_iter().find(|seen| seen.line.ends_with("/remove")).expect("removed");
    assert_eq!(removed.body, json!({ "database_identifier": "new" }));
}

#[tokio::test]
async fn a_replica_that_did_not_come_and_one_of_two_that_came_are_known_to_nobody() {
    let new = |name| database(name, "READ_REPLICA", "eu-central-1", "COMING_UP");
    for came in [vec![], vec![new("a"), new("b")]] {
        let server = MockApi::serve_replies(move |seen| match seen.line.as_str() {
            line if line.contains("/organizations/") => {
                let list = if seen.earlier == 0 { vec![primary()] } else { came.clone() };
                MockReply::from_json(200, &organization(&list))
            }
            line if line.ends_with("/setup") => MockReply::without_answer(),
            _ => windowed(seen),
        })
        .await;
        let (project, _folder) = project(&server);
        let request = ReplicaRequest::default();
        let replicas = project.replicas().expect("replicas");
        let (traces, asked) = ask_planned(replicas.plan_create(&request, &key()).await).await;
        assert_eq!(asked.expect_err("nobody knows").code, Code::Unknown);
        let found = project.find_job(&key(), Some(&traces)).await;
        assert_eq!(found.expect_err("nor later").code, Code::Unknown);
        assert_eq!(writes(&server).len(), 1);
    }
}

#[tokio::test]
async fn a_replica_is_removed_by_its_id_and_one_that_is_gone_is_no_error() {
    let server = MockApi::serve_replies(|seen| match seen.line.as_str() {
        line if line.contains("/organizations/") => {
            let old = database("old", "READ_REPLICA", "us-west-1", "GOING_DOWN");
            MockReply::from_json(
                200,
                &organization(&if seen.earlier < 1 { vec![primary(), old] } else { vec![primary()] }),
            )
        }
        line if line.ends_with("/remove") && seen.earlier < 2 => MockReply::from_text(201, ""),
        _ => windowed(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let replicas = project.replicas().expect("replicas");
    assert_eq!(replicas.list().await.expect("a list")[0].status, "going_down");
    replicas.delete("old").await.expect("accepted");
    replicas.delete("old").await.expect("a list without it may lag behind");
    replicas.delete("old").await.expect("gone is no error");
    assert_eq!(writes(&server).len(), 3);
}
