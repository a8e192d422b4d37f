//! What the platform keeps.

use super::{MockApi, MockReply, kept, key, project, windowed, writes};
use crate::provider::{
    Backups as _, Code, Provider as _, SideEffects,
    model::{BackupRequest, Restorable, TableEventQuery},
    supabase::mock_api::REF,
};
use serde_json::json;

fn daily(seen: &super::ReceivedRequest) -> MockReply {
    if seen.line == format!("GET /v1/projects/{REF}/database/backups") {
        let backups = [
            (5, false, "COMPLETED", "2026-11-17 01:00:00"),
            (6, true, "COMPLETED", "2026-11-18T01:00:00Z"),
            (7, true, "COMPLETED", "2026-11-19T01:00:00.5Z"),
            (8, true, "REWOUND", "2026-11-20T01:00:00Z"),
        ];
        return MockReply::from_json(200, &kept(false, &backups));
    }
    windowed(seen)
}

#[tokio::test]
async fn the_platforms_backups_say_what_they_are_good_for() {
    let server = MockApi::serve_replies(daily).await;
    let (project, _folder) = project(&server);
    let backups = project.list().await.expect("a list");
    let shown: Vec<_> =
        backups.iter().map(|b| (b.id.as_str(), b.method.as_str(), b.status.as_str())).collect();
    assert_eq!(
        shown,
        [
            ("platform-5", "logical", "completed"),
            ("platform-6", "physical", "completed"),
            ("platform-7", "physical", "completed"),
            ("platform-8", "physical", "rewound"),
        ]
    );
    let good: Vec<_> = backups.into_iter().map(|b| b.restorable).collect();
    let both = vec![Restorable::Branch, Restorable::InPlace];
    assert_eq!(good, [vec![], vec![Restorable::InPlace], both, vec![]]);
    assert_eq!(project.get("platform-6").await.expect("found").id, "platform-6");
    assert_eq!(project.get("platform-1").await.expect_err("none").code, Code::NotFound);
    assert_eq!(project.get("dump-1").await.expect_err("none").code, Code::NotFound);
}

#[tokio::test]
async fn nobody_deletes_or_reads_what_the_platform_keeps() {
    let server = MockApi::serve_replies(daily).await;
    let (project, _folder) = project(&server);
    for error in [
        project.plan_delete("platform-7").await.expect_err("cannot"),
        project.verify("platform-7").await.expect_err("cannot"),
        project
            .table_events(&TableEventQuery { table: None, event: None, since: None, until: None })
            .await
            .expect_err("cannot"),
    ] {
        assert_eq!(error.code, Code::Unsupported);
        assert!(error.hint.is_some(), "{error}");
    }
    assert_eq!(writes(&server), [""; 0]);
}

#[tokio::test]
async fn supabase_t11_a_window_of_moments_is_protection_without_a_single_daily_backup() {
    let server = MockApi::serve_replies(windowed).await;
    let (project, _folder) = project(&server);
    assert_eq!(project.list().await.expect("a list"), []);
    assert!(project.fetch_platform_backups().await.expect("kept").can_be_restored());
    let report = project.security().expect("security").audit().await.expect("a report");
    let recovery = report.checks.iter().find(|check| check.check == "recovery").expect("a check");
    assert_eq!(recovery.status, crate::provider::model::CheckStatus::Passed);
}

#[tokio::test]
async fn a_restore_point_has_a_short_name_and_is_made_once() {
    let point =
        |status: &str| json!({ "name": "before", "status": status, "completed_on": "2026-11-20T03:00:05Z" });
    let server = MockApi::serve_replies(move |seen| match (seen.line.as_str(), seen.earlier) {
        (line, 0 | 1) if line.ends_with("/restore-point?name=before") => {
            MockReply::from_json(404, &json!({ "message": "Restore point not found" }))
        }
        (line, 2) if line.ends_with("/restore-point?name=before") => {
            MockReply::from_json(200, &point("PENDING"))
        }
        (line, _) if line.ends_with("/restore-point?name=before") => {
            MockReply::from_json(200, &point("AVAILABLE"))
        }
        (line, _) if line.starts_with("POST") && line.ends_with("/restore-point") => {
            MockReply::from_json(201, &point("PENDING"))
        }
        _ => windowed(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let long = "a name that is longer than that";
    assert_eq!(project.create_restore_point(long, &key()).await.expect_err("too long").code, Code::Invalid);
    let plan = project.plan_restore_point("before").await.expect("the name is free");
    project.create_restore_point("before", &key()).await.expect("asked for");
    let seen = async || project.find_restore_point_made_since_plan("before", &plan).await.expect("a look");
    assert_eq!(seen().await, None, "it is pending");
    let mark = seen().await.expect("made");
    assert_eq!(mark.time.to_string(), "2026-11-20T03:00:05Z");
    assert_eq!(project.create_restore_point("before", &key()).await.expect_err("taken").code, Code::Conflict);
    assert_eq!(project.find_restore_point("before", &key()).await.expect_err("whose").code, Code::Unknown);
    assert_eq!(project.find_restore_point("other", &key()).await.expect("known"), None);
    assert_eq!(writes(&server).len(), 1);
}

#[tokio::test]
async fn a_server_that_is_newer_than_every_program_here_says_what_to_install() {
    let server = MockApi::serve_replies(|seen| match seen.line.as_str() {
        line if line == format!("GET /v1/projects/{REF}") => MockReply::from_json(
            200,
            &json!({ "ref": REF, "name": "shop", "region": "eu-central-1", "status": "ACTIVE_HEALTHY",
                "database": { "host": "db.example.com", "version": "99.1.0.001" } }),
        ),
        _ => windowed(seen),
    })
    .await;
    let (target, _folder) = project(&server);
    let error = target.create(&BackupRequest::default(), &key()).await.expect_err("refused");
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.hint.expect("a hint").contains("postgresql-client-99"));
    assert_eq!(writes(&server), [""; 0]);
}

#[tokio::test]
async fn an_earlier_restore_point_that_a_look_has_not_shown_is_not_the_one_that_was_asked_for() {
    // The database's time with the plan is 03:00:00.5.
    for (completed_on, found) in [
        (json!("2026-11-20T03:00:00Z"), Ok(None)),
        (json!("2026-11-20T02:00:00Z"), Ok(None)),
        (json!("2026-11-20T03:00:01Z"), Err(Code::Unknown)),
        (json!(null), Err(Code::Unknown)),
        (json!("2026-11-20T03:00:02Z"), Ok(Some("2026-11-20T03:00:02Z".to_owned()))),
    ] {
        let shown = completed_on.clone();
        let server = MockApi::serve_replies(move |seen| match (seen.line.as_str(), seen.earlier) {
            (line, 0 | 1) if line.ends_with("/restore-point?name=before") => {
                MockReply::from_json(404, &json!({ "message": "Restore point not found" }))
            }
            (line, _) if line.ends_with("/restore-point?name=before") => MockReply::from_json(
                200,
                &json!({ "name": "before", "status": "AVAILABLE", "completed_on": shown }),
            ),
            (line, _) if line.starts_with("POST") && line.ends_with("/restore-point") => {
                MockReply::without_answer()
            }
            _ => windowed(seen),
        })
        .await;
        let (project, _folder) = project(&server);
        let plan = project.plan_restore_point("before").await.expect("no look shows it");
        let asked = project.create_restore_point("before", &key()).await;
        assert_eq!(asked.expect_err("nobody knows").code, Code::Unknown);
        let looked = project.find_restore_point_made_since_plan("before", &plan).await;
        let looked = looked.map(|point| point.map(|point| point.time.to_string())).map_err(|e| e.code);
        assert_eq!(looked, found, "{completed_on}");
    }
    let unread = json!({ "name_was_free": true, "other": 1 });
    let server = MockApi::serve_replies(windowed).await;
    let (project, _folder) = project(&server);
    let looked = project.find_restore_point_made_since_plan("before", &unread).await;
    assert_eq!(looked.expect_err("it was not recorded so").code, Code::Unknown);
}

#[tokio::test]
async fn a_restore_point_that_was_not_made_keeps_its_name_and_is_named() {
    let server = MockApi::serve_replies(|seen| {
        if seen.line.ends_with("/restore-point?name=before") {
            MockReply::from_json(200, &json!({ "name": "before", "status": "FAILED", "completed_on": null }))
        } else {
            windowed(seen)
        }
    })
    .await;
    let (project, _folder) = project(&server);
    let plan = json!({ "name_was_free": true });
    let error = project.find_restore_point_made_since_plan("before", &plan).await.expect_err("it has failed");
    assert_eq!((error.code, error.side_effects), (Code::Tool, SideEffects::Some), "{error:?}");
    assert_eq!(error.left_behind, ["restore point before"]);
}
