//! What is found again after a crash, by what was written down before the platform was asked.

use super::{
    BRANCH, KEY, MockApi, MockReply, WINDOW, ask, ask_planned, at, described, inside, key, on_timeline,
    project, row, windowed, writes,
};
use crate::provider::{
    Backups as _, Code, Provider as _,
    model::{JobStatus, RecoveryTarget},
    supabase::mock_api::REF,
};
use serde_json::json;

/// Serves a project on which a request breaks off, and the branch list that says whether it took effect.
fn branches(took_effect: bool) -> impl Fn(&super::ReceivedRequest) -> MockReply {
    move |seen| match (seen.line.as_str(), seen.earlier) {
        (line, _) if line == format!("POST /v1/projects/{REF}/branches") => MockReply::without_answer(),
        // Late: not before the fourth look.
        (line, looks) if line == format!("GET /v1/projects/{REF}/branches") => {
            let name = format!("drill-rd{KEY}");
            let rows =
                if took_effect && looks > 3 { vec![row(&name, BRANCH, "CREATING_PROJECT")] } else { vec![] };
            MockReply::from_json(200, &json!(rows))
        }
        (line, _) if line.starts_with("GET /v1/branches/") => inside("COMING_UP"),
        _ => windowed(seen),
    }
}

#[tokio::test]
async fn a_branch_is_found_by_its_name_however_late_it_shows() {
    for took_effect in [true, false] {
        let server = MockApi::serve_replies(branches(took_effect)).await;
        let (project, _folder) = project(&server);
        let request = ask(None, RecoveryTarget::Latest, Some("drill"));
        let (traces, asked) = ask_planned(project.plan_restore(&request, &key()).await).await;
        assert_eq!(asked.expect_err("nobody knows").code, Code::Unknown);
        let mut found = None;
        for _ in 0..5 {
            found = project.find_job(&key(), Some(&traces)).await.expect("known");
        }
        assert_eq!(found.map(|job| job.id), took_effect.then(|| format!("drill-rd{KEY}")));
        assert_eq!(writes(&server).len(), 1);
    }
}

#[tokio::test]
async fn a_branch_that_there_is_by_the_name_of_this_call_is_its_own_however_late_the_list_shows_it() {
    let server = MockApi::serve_replies(|seen| match seen.line.as_str() {
        line if line == format!("POST /v1/projects/{REF}/branches") => {
            MockReply::from_json(409, &json!({ "message": "A branch of this name already exists" }))
        }
        line if line == format!("GET /v1/projects/{REF}/branches") => {
            let rows =
                if seen.earlier < 3 { vec![] } else { vec![row(&format!("drill-rd{KEY}"), BRANCH, "X")] };
            MockReply::from_json(200, &json!(rows))
        }
        line if line.starts_with("GET /v1/branches/") => inside("COMING_UP"),
        _ => windowed(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let job =
        project.restore(&ask(None, RecoveryTarget::Latest, Some("drill")), &key()).await.expect("taken");
    assert_eq!(job.id, format!("drill-rd{KEY}"));
    // Whoever waits looks on for as long as the list may lag behind, and not for ever.
    for _ in 0..2 {
        let unseen = project.poll_job(&job).await.expect_err("it is not listed");
        assert_eq!(unseen.code, Code::NotFound);
        assert!(unseen.message.contains("A branch of this name already exists"), "{unseen}");
    }
    let JobStatus::Running(progress) = project.poll_job(&job).await.expect("it is there") else {
        panic!("it comes up")
    };
    assert_eq!(progress.phase, "COMING_UP, X");
}

#[tokio::test]
async fn nothing_was_asked_where_nothing_was_written_down() {
    let server = MockApi::serve_replies(windowed).await;
    let (project, _folder) = project(&server);
    assert_eq!(project.find_job(&key(), None).await.expect("known"), None);
    assert_eq!(server.request_lines(), [""; 0]);
}

#[tokio::test]
async fn a_restore_is_found_by_its_status_and_by_its_traces_and_otherwise_by_nobody() {
    let asked = MockApi::serve_replies(|seen| match seen.line.as_str() {
        line if line.ends_with("/restore-pitr") => MockReply::without_answer(),
        _ => windowed(seen),
    })
    .await;
    let (project_then, _folder) = project(&asked);
    let request = ask(None, RecoveryTarget::Time(at(WINDOW.0)), None);
    let (traces, asked) = ask_planned(project_then.plan_restore(&request, &key()).await).await;
    assert_eq!(asked.expect_err("nobody knows").code, Code::Unknown);

    let restoring = MockApi::serve_replies(|seen| match seen.line.as_str() {
        line if line == format!("GET /v1/projects/{REF}") => described("RESTORING"),
        _ => windowed(seen),
    })
    .await;
    let (now, _folder) = project(&restoring);
    let job = now.find_job(&key(), Some(&traces)).await.expect("known").expect("under way");
    assert_eq!((job.kind.as_str(), &job.detail), ("restore", &traces["detail"]));

    let over = MockApi::serve_replies(|seen| {
        if seen.body["query"].as_str().is_some_and(|sql| sql.contains("pg_walfile_name")) {
            return on_timeline(2);
        }
        windowed(seen)
    })
    .await;
    let (now, _folder) = project(&over);
    let job = now.find_job(&key(), Some(&traces)).await.expect("known").expect("over");
    let restored = super::follow(&now, &job).await.expect("over");
    assert_eq!(restored["timeline"], 2);

    let unchanged = MockApi::serve_replies(windowed).await;
    let (now, _folder) = project(&unchanged);
    assert_eq!(now.find_job(&key(), Some(&traces)).await.expect_err("nobody").code, Code::Unknown);
    for server in [&restoring, &over, &unchanged] {
        assert_eq!(writes(server), [""; 0]);
    }
}
