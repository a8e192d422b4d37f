//! Restores in place.

use super::{
    MockApi, MockReply, WINDOW, ask, ask_planned, at, described, follow, kept, key, no_database, on_timeline,
    organization, project, windowed, writes,
};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Backups as _, Code, Provider as _,
        model::{Job, JobStatus, RecoveryTarget},
        supabase::{mock_api::REF, project::Supabase},
    },
};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

fn backups() -> String {
    format!("/v1/projects/{REF}/database/backups")
}

#[tokio::test]
async fn supabase_t7_zero_and_what_is_out_of_the_window_is_refused_before_anything_is_sent() {
    let server = MockApi::serve_replies(windowed).await;
    let (project, _folder) = project(&server);
    let refused = async |unix| {
        let request = ask(None, RecoveryTarget::Time(at(unix)), None);
        project.restore(&request, &key()).await.expect_err("refused").code
    };
    assert_eq!(refused(0).await, Code::Invalid);
    assert_eq!(refused(-1).await, Code::Invalid);
    assert_eq!(refused(WINDOW.0 - 1).await, Code::TargetBeforeWindow);
    assert_eq!(refused(WINDOW.1 + 1).await, Code::TargetAfterWindow);
    // Milliseconds taken for seconds are far behind the end of any window.
    assert_eq!(refused(WINDOW.1 * 100).await, Code::TargetAfterWindow);
    assert_eq!(writes(&server), [""; 0]);
}

#[tokio::test]
async fn supabase_t7_a_moment_is_sent_in_whole_seconds_that_do_not_go_beyond_it() {
    let server = MockApi::serve_replies(|seen| match seen.line.as_str() {
        line if line.ends_with("/restore-pitr") => MockReply::from_json(201, &serde_json::Value::Null),
        _ => windowed(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let target = at(WINDOW.0 + 60).saturating_add(Span::from_millis(999));
    let request = ask(None, RecoveryTarget::Time(target), None);
    let (traces, job) = ask_planned(project.plan_restore(&request, &key()).await).await;
    let job = job.expect("accepted");
    let sent = server
        .received_requests()
        .into_iter()
        .find(|seen| seen.line.ends_with("/restore-pitr"))
        .expect("sent");
    assert_eq!(sent.body, json!({ "recovery_time_target_unix": WINDOW.0 + 60 }));
    assert_eq!(traces["detail"], job.detail);
    let half = ask(None, RecoveryTarget::Time(target), None);
    let half = crate::provider::model::RestoreRequest {
        to: crate::provider::model::RecoveryPoint { inclusive: false, ..half.to.clone() },
        ..half
    };
    let error = project.restore(&half, &key()).await.expect_err("not taken");
    assert_eq!(error.code, Code::Unsupported);
}

#[tokio::test]
async fn supabase_t8_a_window_that_lags_is_said_to_be_idle_and_not_short() {
    let server = MockApi::serve_replies(windowed).await;
    server.clock.advance_by(Span::from_secs(3600));
    let (project, _folder) = project(&server);
    let window = project.recovery_window().await.expect("a window");
    assert_eq!(window.latest, Some(at(WINDOW.1)));
    assert!(window.warnings.iter().any(|warning| warning.contains("idle")), "{:?}", window.warnings);
    let soon = at(WINDOW.1 + 120);
    let error =
        project.restore(&ask(None, RecoveryTarget::Time(soon), None), &key()).await.expect_err("refused");
    assert_eq!(error.code, Code::TargetAfterWindow);
    assert!(error.hint.expect("a hint").contains("nothing that was written is missing"));
}

/// Asks for a restore to the end of the window of a project that shows `statuses`, one a look, the first of them to both
/// looks of the plan, and that is on `timelines`, one a query. Its status stays the last one, and its timeline, too.
async fn restore_seen_as(
    statuses: &'static [&'static str],
    timelines: &'static [Option<u32>],
) -> (MockApi, Supabase, TempDir, Job) {
    let asked = AtomicUsize::new(0);
    let server = MockApi::serve_replies(move |seen| {
        let about = seen.line.replace(REF, "REF");
        let sql = seen.body["query"].as_str().unwrap_or_default();
        match about.as_str() {
            "POST /v1/projects/REF/database/backups/restore-pitr" => MockReply::from_text(201, "{}"),
            "GET /v1/projects/REF" => {
                described(statuses[seen.earlier.saturating_sub(1).min(statuses.len() - 1)])
            }
            _ if sql.contains("pg_walfile_name") => {
                let asked = asked.fetch_add(1, Ordering::SeqCst);
                timelines[asked.min(timelines.len() - 1)].map_or_else(no_database, on_timeline)
            }
            _ => windowed(seen),
        }
    })
    .await;
    let (project, folder) = project(&server);
    let request = ask(None, RecoveryTarget::Time(at(WINDOW.1)), None);
    let job = project.restore(&request, &key()).await.expect("accepted");
    (server, project, folder, job)
}

/// Returns the phase of a job that is not over.
async fn phase(project: &Supabase, job: &Job) -> String {
    match project.poll_job(job).await.expect("a look") {
        JobStatus::Running(progress) => progress.phase,
        over => panic!("over: {over:?}"),
    }
}

/// Healthy for a moment, away, back, and not answering at once.
#[tokio::test]
async fn supabase_t9_a_restore_is_over_when_the_project_answers_on_another_timeline() {
    let (server, project, _folder, job) = restore_seen_as(
        &["ACTIVE_HEALTHY", "ACTIVE_HEALTHY", "RESTORING", "RESTORING", "ACTIVE_HEALTHY"],
        &[Some(1), Some(1), None, Some(2)],
    )
    .await;
    assert!(phase(&project, &job).await.contains("not begun"));
    for wanted in ["RESTORING since", "RESTORING since", "does not say its timeline"] {
        let shown = phase(&project, &job).await;
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    let restored = follow(&project, &job).await.expect("restored");
    assert_eq!((&restored["target"], &restored["timeline"]), (&json!("prod"), &json!(2)));
    assert_eq!(restored["reached"]["$moment"], at(WINDOW.1).to_string());
    assert_eq!(writes(&server).len(), 1);
}

#[tokio::test]
async fn supabase_whoever_restarts_or_pauses_a_project_neither_ends_a_restore_nor_fails_it() {
    let (_server, project, _folder, job) = restore_seen_as(
        &[
            "ACTIVE_HEALTHY",
            "RESTARTING",
            "ACTIVE_HEALTHY",
            "PAUSING",
            "INACTIVE",
            "RESTORING",
            "ACTIVE_HEALTHY",
        ],
        &[Some(1), Some(1), Some(1), Some(2)],
    )
    .await;
    for wanted in [
        "RESTARTING since",
        "that was no restore",
        "somebody pauses",
        "INACTIVE since",
        "RESTORING since",
        "that was no restore",
    ] {
        let shown = phase(&project, &job).await;
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    assert_eq!(follow(&project, &job).await.expect("it came after all")["timeline"], 2);
}

#[tokio::test]
async fn supabase_of_a_database_that_did_not_answer_before_the_platforms_word_is_taken() {
    let (_server, project, _folder, job) =
        restore_seen_as(&["ACTIVE_UNHEALTHY", "RESTORING", "ACTIVE_HEALTHY"], &[None, Some(2)]).await;
    assert_eq!(follow(&project, &job).await.expect("restored")["timeline"], 2);
    // Whoever pauses and resumes it takes it through the same word.
    let (_server, project, _folder, job) =
        restore_seen_as(&["ACTIVE_UNHEALTHY", "INACTIVE", "RESTORING", "ACTIVE_HEALTHY"], &[None, Some(2)])
            .await;
    for _ in 0..2 {
        phase(&project, &job).await;
    }
    assert!(phase(&project, &job).await.contains("nothing tells whether"));
}

#[tokio::test]
async fn supabase_t9_a_restore_that_failed_says_what_was_seen_and_what_support_will_ask() {
    let server = MockApi::serve_replies(|seen| match (seen.line.as_str(), seen.earlier) {
        (line, _) if line.ends_with("/restore-pitr") => MockReply::from_text(201, ""),
        (line, 2) if line == format!("GET /v1/projects/{REF}") => described("RESTORING"),
        (line, 3..) if line == format!("GET /v1/projects/{REF}") => described("RESTORE_FAILED"),
        _ => windowed(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let request = ask(None, RecoveryTarget::Time(at(WINDOW.0)), None);
    let job = project.restore(&request, &key()).await.expect("accepted");
    let error = follow(&project, &job).await.expect_err("failed");
    assert_eq!((error.code, error.side_effects), (Code::Tool, crate::provider::SideEffects::Some));
    let hint = error.hint.expect("a hint");
    assert!(hint.contains("RESTORING from") && hint.contains(REF), "{hint}");
    assert_eq!(project.cancel(&job).await.expect_err("cannot").code, Code::Unsupported);
}

/// Returns the end that a look shows which may be from before the restore.
async fn possibly_stale_end(project: &Supabase, job: &Job) -> JobStatus {
    match project.poll_job(job).await.expect("a look") {
        JobStatus::Lagging(end, lag) if lag == project.landing_time => *end,
        other => panic!("one look at what may lag behind is believed: {other:?}"),
    }
}

#[tokio::test]
async fn supabase_one_look_that_shows_a_restore_as_failed_may_be_from_before_it() {
    let statuses = &["ACTIVE_HEALTHY", "RESTORE_FAILED", "RESTORING", "ACTIVE_HEALTHY"];
    let (_server, project, _folder, job) = restore_seen_as(statuses, &[Some(1), Some(2)]).await;
    assert!(matches!(possibly_stale_end(&project, &job).await, JobStatus::Failed(_)));
    assert!(phase(&project, &job).await.contains("RESTORING since"));
    let restored = project.poll_job(&job).await.expect("a look");
    assert!(matches!(restored, JobStatus::Done(_)), "its database says so itself: {restored:?}");
    let (request, key) = (ask(None, RecoveryTarget::Time(at(WINDOW.1)), None), key());
    let planned = project.plan_restore(&request, &key).await.expect("planned");
    assert_eq!(planned.believed_after, project.landing_time);
}

/// It came back from something else shortly before, and its database does not answer yet.
#[tokio::test]
async fn supabase_a_status_that_is_all_there_is_may_be_from_before_the_restore() {
    let statuses = &["ACTIVE_UNHEALTHY", "RESTORING", "ACTIVE_HEALTHY"];
    let (_server, project, _folder, job) = restore_seen_as(statuses, &[None, Some(1)]).await;
    assert!(phase(&project, &job).await.contains("RESTORING since"));
    assert!(matches!(possibly_stale_end(&project, &job).await, JobStatus::Done(_)));
}

#[tokio::test]
async fn supabase_t9_a_stuck_restore_says_so() {
    let server = MockApi::serve_replies(|seen| match (seen.line.as_str(), seen.earlier) {
        (line, _) if line.ends_with("/restore-pitr") => MockReply::from_text(201, ""),
        (line, 2..) if line == format!("GET /v1/projects/{REF}") => described("RESTORING"),
        _ => windowed(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let request = ask(None, RecoveryTarget::Time(at(WINDOW.0)), None);
    let job = project.restore(&request, &key()).await.expect("accepted");
    project.poll_job(&job).await.expect("a look");
    server.clock.advance_by(Span::from_secs(9 * 3600));
    let JobStatus::Running(progress) = project.poll_job(&job).await.expect("a look") else {
        panic!("not over")
    };
    assert!(progress.phase.contains("stuck") && progress.phase.contains("support"), "{progress:?}");
}

#[tokio::test]
async fn supabase_t10_nothing_is_restored_while_there_are_replicas_or_slots() {
    let replica = json!({
        "identifier": "abcdefghijklmnopqrst-rr-us-west-1-abcde", "type": "READ_REPLICA", "region": "us-west-1",
        "status": "ACTIVE_HEALTHY",
    });
    let server = MockApi::serve_replies(move |seen| {
        if seen.line.contains("/organizations/") {
            return MockReply::from_json(200, &organization(std::slice::from_ref(&replica)));
        }
        windowed(seen)
    })
    .await;
    let (target, _folder) = project(&server);
    let request = ask(None, RecoveryTarget::Time(at(WINDOW.0)), None);
    let error = target.restore(&request, &key()).await.expect_err("refused");
    assert_eq!(error.code, Code::Refused);
    assert!(error.message.contains("rr-us-west-1"), "{}", error.message);
    assert_eq!(writes(&server), [""; 0]);

    let server = MockApi::serve_replies(|seen| {
        if seen.body["query"].as_str().is_some_and(|sql| sql.contains("pg_replication_slots")) {
            return MockReply::from_json(201, &json!([{ "name": "warehouse" }]));
        }
        windowed(seen)
    })
    .await;
    let (target, _folder) = project(&server);
    let error = target.restore(&request, &key()).await.expect_err("refused");
    assert!(error.message.contains("warehouse"), "{}", error.message);
    assert_eq!(writes(&server), [""; 0]);
}

#[tokio::test]
async fn supabase_t12_a_backup_is_restored_with_the_one_of_three_restores_that_restores_data() {
    let list =
        [(7, true, "COMPLETED", "2026-11-19T01:00:00Z"), (8, false, "COMPLETED", "2026-11-20T01:00:00Z")];
    let server = MockApi::serve_replies(move |seen| match seen.line.as_str() {
        line if line == format!("GET {}", backups()) => MockReply::from_json(200, &kept(false, &list)),
        line if line == format!("POST {}/restore", backups()) => MockReply::from_text(201, ""),
        _ => windowed(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let restore = async |id| project.restore(&ask(Some(id), RecoveryTarget::BackupEnd, None), &key()).await;
    let job = restore("platform-7").await.expect("accepted");
    assert_eq!(writes(&server), [format!("POST {}/restore", backups())]);
    assert_eq!(server.received_requests().last().expect("a request").body, json!({ "id": 7 }));
    assert_eq!(job.kind, "restore");
    assert_eq!(restore("platform-8").await.expect_err("a logical one").code, Code::Unsupported);
    assert_eq!(restore("platform-9").await.expect_err("none").code, Code::NotFound);
    let moment = Moment::parse("2026-11-19T02:00:00Z").expect("a moment");
    let none =
        project.restore(&ask(None, RecoveryTarget::Time(moment), None), &key()).await.expect_err("no window");
    assert_eq!(none.code, Code::Refused);
    assert_eq!(writes(&server).len(), 1);
}

#[tokio::test]
async fn a_restore_that_was_not_answered_is_not_sent_again() {
    let server = MockApi::serve_replies(|seen| match seen.line.as_str() {
        line if line.ends_with("/restore-pitr") => MockReply::without_answer(),
        _ => windowed(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let request = ask(None, RecoveryTarget::Time(at(WINDOW.0)), None);
    let (traces, asked) = ask_planned(project.plan_restore(&request, &key()).await).await;
    assert_eq!(asked.expect_err("nobody knows").code, Code::Unknown);
    let found = project.find_job(&key(), Some(&traces)).await.expect_err("nor later");
    assert_eq!(found.code, Code::Unknown);
    assert_eq!(writes(&server).len(), 1);
}
