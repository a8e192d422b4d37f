//! Branches.

use super::{
    BRANCH, KEY, MockApi, MockReply, ask, ask_planned, follow, inside, kept, key, main_row, project, row,
    windowed, writes,
};
use crate::provider::{
    Backups as _, Code, Provider as _,
    model::{JobStatus, RecoveryTarget},
    supabase::mock_api::REF,
};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};

fn name() -> String {
    format!("drill-rd{KEY}")
}

fn list() -> String {
    format!("GET /v1/projects/{REF}/branches")
}

#[tokio::test]
async fn supabase_t15_a_persistent_branch_is_made_transient_and_then_deleted() {
    let server = MockApi::serve_replies(|seen| match seen.line.as_str() {
        line if line == list() => {
            let mut kept = row("staging", BRANCH, "FUNCTIONS_DEPLOYED");
            kept["persistent"] = true.into();
            let rows = if seen.earlier < 1 { vec![main_row(), kept] } else { vec![main_row()] };
            MockReply::from_json(200, &json!(rows))
        }
        line if line == format!("PATCH /v1/branches/{BRANCH}") => {
            MockReply::from_json(200, &row("staging", BRANCH, "FUNCTIONS_DEPLOYED"))
        }
        line if line == format!("DELETE /v1/branches/{BRANCH}") && seen.earlier < 2 => {
            MockReply::from_json(200, &json!({ "message": "ok" }))
        }
        _ => windowed(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    project.branches().expect("branches").delete("staging", BRANCH).await.expect("deleted");
    assert_eq!(
        writes(&server),
        [format!("PATCH /v1/branches/{BRANCH}"), format!("DELETE /v1/branches/{BRANCH}")]
    );
    let patch =
        server.received_requests().into_iter().find(|seen| seen.line.starts_with("PATCH")).expect("sent");
    assert_eq!(patch.body, json!({ "persistent": false }));
    let delete = async || project.branches().expect("branches").delete("staging", BRANCH).await;
    delete().await.expect("a list without it may lag behind");
    delete().await.expect("gone is no error");
    assert_eq!(writes(&server).last(), Some(&format!("DELETE /v1/branches/{BRANCH}")));
}

#[tokio::test]
async fn supabase_t16_the_project_itself_is_no_branch_and_is_never_deleted() {
    let server = MockApi::serve_replies(|seen| match seen.line.as_str() {
        line if line == list() => {
            MockReply::from_json(200, &json!([main_row(), row("a", BRANCH, "FUNCTIONS_DEPLOYED")]))
        }
        line if line == format!("GET /v1/branches/{BRANCH}") => inside("ACTIVE_HEALTHY"),
        _ => windowed(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let names: Vec<_> = project.list_branches().await;
    assert_eq!(names, ["a"]);
    assert_eq!(
        project.branches().expect("branches").get("main").await.expect_err("none").code,
        Code::NotFound
    );
    let error = project.branches().expect("branches").delete("main", REF).await.expect_err("refused");
    assert_eq!(error.code, Code::Refused);
    let mut main = project.branches().expect("branches").get("a").await.expect("a branch");
    main.id = REF.into();
    for asked in [
        project.branches().expect("branches").reset(&main, &key()).await,
        project.branches().expect("branches").promote(&main, &key()).await,
    ] {
        assert_eq!(asked.expect_err("refused").code, Code::NotFound);
    }
    assert_eq!(writes(&server), [""; 0]);
}

impl super::Supabase {
    async fn list_branches(&self) -> Vec<String> {
        let listed = self.branches().expect("branches").list().await.expect("a list");
        listed.into_iter().map(|branch| branch.name).collect()
    }
}

/// Serves a project whose latest backup is number 7 and whose branch is made of it, a look at a time.
fn with_data(seen: &super::ReceivedRequest) -> MockReply {
    match (seen.line.as_str(), seen.earlier) {
        (line, _) if line == format!("GET /v1/projects/{REF}/database/backups") => MockReply::from_json(
            200,
            &kept(
                false,
                &[
                    (6, true, "COMPLETED", "2026-11-18T01:00:00Z"),
                    (7, true, "COMPLETED", "2026-11-19T01:00:00Z"),
                ],
            ),
        ),
        (line, _) if line == format!("POST /v1/projects/{REF}/branches") => {
            MockReply::from_json(201, &row(&name(), BRANCH, "CREATING_PROJECT"))
        }
        (line, looks) if line == list() => {
            // Before it is asked for, and once after, it is not in the list.
            let workflow = if looks < 5 { "CREATING_PROJECT" } else { "MIGRATIONS_PASSED" };
            let rows = if looks < 2 { vec![] } else { vec![main_row(), row(&name(), BRANCH, workflow)] };
            MockReply::from_json(200, &json!(rows))
        }
        (line, looks) if line == format!("GET /v1/branches/{BRANCH}") => match looks {
            0 => MockReply::from_json(404, &json!({ "message": "Branch not found" })),
            1 | 2 => inside("COMING_UP"),
            _ => inside("ACTIVE_HEALTHY"),
        },
        (line, looks) if line == format!("POST /v1/projects/{BRANCH}/database/query/read-only") => {
            if looks < 2 {
                return MockReply::from_json(400, &json!({ "message": "connection refused" }));
            }
            MockReply::from_json(201, &json!([{ "one": 1 }]))
        }
        _ => windowed(seen),
    }
}

#[tokio::test]
async fn supabase_t17_a_branch_that_is_not_found_yet_is_preparing_and_its_secrets_are_read_by_nobody() {
    let server = MockApi::serve_replies(with_data).await;
    let (project, _folder) = project(&server);
    let request = ask(Some("platform-7"), RecoveryTarget::BackupEnd, Some("drill"));
    let (traces, job) = ask_planned(project.plan_restore(&request, &key()).await).await;
    let job = job.expect("accepted");
    let made = follow(&project, &job).await.expect("ready");
    let branch = &made["$branch"];
    assert_eq!((&branch["name"], &branch["id"]), (&json!(name()), &json!(BRANCH)));
    assert_eq!((&branch["backup"], &branch["run"]), (&json!("platform-7"), &json!("r1")));
    assert_eq!((&branch["temporary"], &branch["key"]), (&json!(true), &json!(KEY)));
    let asked = server
        .received_requests()
        .into_iter()
        .find(|seen| seen.line.starts_with("POST") && seen.line.ends_with("/branches"));
    assert_eq!(asked.expect("asked").body, json!({ "branch_name": name(), "with_data": true }));
    assert_eq!(writes(&server).len(), 1);
    for text in [made.to_string(), json!(job).to_string(), traces.to_string()] {
        assert!(!text.contains("the password") && !text.contains("the secret"), "{text}");
    }
}

#[tokio::test]
async fn supabase_t17_a_secret_is_not_in_the_error_of_an_answer_that_cannot_be_read() {
    let server = MockApi::serve_replies(|seen| match seen.line.as_str() {
        line if line == list() => MockReply::from_json(200, &json!([row("a", BRANCH, "FUNCTIONS_DEPLOYED")])),
        line if line.starts_with("GET /v1/branches/") => {
            MockReply::from_json(200, &json!({ "status": "UP", "db_host": "h", "db_port": "the password" }))
        }
        _ => windowed(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let error = project.branches().expect("branches").get("a").await.expect_err("unreadable");
    assert!(!error.message.contains("the password"), "{}", error.message);
}

#[tokio::test]
async fn only_the_latest_backup_goes_into_a_branch() {
    let server = MockApi::serve_replies(with_data).await;
    let (project, _folder) = project(&server);
    let refused = async |backup, at| {
        let request = ask(backup, at, Some("drill"));
        project.restore(&request, &key()).await.expect_err("refused")
    };
    let error = refused(Some("platform-6"), RecoveryTarget::BackupEnd).await;
    assert_eq!(error.code, Code::Unsupported);
    assert!(error.hint.expect("the nearest").contains("platform-7"));
    let error = refused(None, RecoveryTarget::Time(super::at(super::WINDOW.0))).await;
    assert_eq!(error.code, Code::Unsupported);
    assert!(error.hint.expect("the nearest").contains("pitr"));
    assert_eq!(refused(Some("platform-9"), RecoveryTarget::BackupEnd).await.code, Code::NotFound);
    assert_eq!(writes(&server), [""; 0]);
}

#[tokio::test]
async fn a_branch_that_a_newer_backup_may_be_in_is_removed_and_refused() {
    let replies = |seen: &super::ReceivedRequest| match (seen.line.as_str(), seen.earlier) {
        (line, 1..) if line == format!("GET /v1/projects/{REF}/database/backups") => {
            MockReply::from_json(200, &kept(false, &[(8, true, "COMPLETED", "2026-11-20T03:01:00Z")]))
        }
        (line, _) if line == format!("DELETE /v1/branches/{BRANCH}") => {
            MockReply::from_json(200, &json!({ "message": "ok" }))
        }
        _ => with_data(seen),
    };
    for stays in [false, true] {
        let was_removed = AtomicBool::new(false);
        let server = MockApi::serve_replies(move |seen| {
            if seen.line.starts_with("DELETE") {
                was_removed.store(true, Ordering::Relaxed);
            }
            if seen.line == list() && was_removed.load(Ordering::Relaxed) && !stays {
                return MockReply::from_json(200, &json!([main_row()]));
            }
            replies(seen)
        })
        .await;
        let (project, _folder) = project(&server);
        let request = ask(Some("platform-7"), RecoveryTarget::BackupEnd, Some("drill"));
        let job = project.restore(&request, &key()).await.expect("accepted");
        let error = follow(&project, &job).await.expect_err("refused");
        assert_eq!(error.code, Code::Refused);
        let left_behind = if stays { vec![format!("branch prod/{}", name())] } else { vec![] };
        assert_eq!(error.left_behind, left_behind, "{error:?}");
        assert_eq!(writes(&server).last().expect("a write"), &format!("DELETE /v1/branches/{BRANCH}"));
    }
}

#[tokio::test]
async fn a_branch_whose_migrations_failed_is_removed() {
    let server = MockApi::serve_replies(|seen| match (seen.line.as_str(), seen.earlier) {
        (line, 3..) if line == list() => {
            MockReply::from_json(200, &json!([row(&name(), BRANCH, "MIGRATIONS_FAILED")]))
        }
        (line, _) if line == format!("DELETE /v1/branches/{BRANCH}") => {
            MockReply::from_json(422, &json!({ "message": "Cannot delete it now" }))
        }
        _ => with_data(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let request = ask(Some("platform-7"), RecoveryTarget::BackupEnd, Some("drill"));
    let job = project.restore(&request, &key()).await.expect("accepted");
    let error = follow(&project, &job).await.expect_err("failed");
    assert!(error.message.contains("MIGRATIONS_FAILED"), "{}", error.message);
    assert_eq!(error.left_behind, [format!("branch prod/{}", name())]);
}

#[tokio::test]
async fn a_failed_branch_that_somebody_else_has_deleted_is_not_left_behind() {
    let server = MockApi::serve_replies(|seen| match (seen.line.as_str(), seen.earlier) {
        (line, 3) if line == list() => {
            MockReply::from_json(200, &json!([row(&name(), BRANCH, "MIGRATIONS_FAILED")]))
        }
        (line, 4..) if line == list() => MockReply::from_json(200, &json!([main_row()])),
        _ => with_data(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let request = ask(Some("platform-7"), RecoveryTarget::BackupEnd, Some("drill"));
    let job = project.restore(&request, &key()).await.expect("accepted");
    let error = follow(&project, &job).await.expect_err("failed");
    assert!(error.message.contains("MIGRATIONS_FAILED") && error.left_behind.is_empty(), "{error:?}");
    assert_eq!(writes(&server).len(), 1);
}

#[tokio::test]
async fn a_branch_has_a_name_with_and_without_its_key() {
    let server = MockApi::serve_replies(|seen| match seen.line.as_str() {
        line if line == list() => MockReply::from_json(
            200,
            &json!([
                row(&name(), BRANCH, "FUNCTIONS_DEPLOYED"),
                row("drill-two", "cccccccccccccccccccc", "X")
            ]),
        ),
        line if line.starts_with("GET /v1/branches/") => inside("INACTIVE"),
        _ => windowed(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let branches = project.branches().expect("branches");
    assert_eq!(branches.get("drill").await.expect("found").name, name());
    let branch = branches.get(&name()).await.expect("found");
    assert_eq!((branch.status.as_str(), branch.host.as_deref()), ("stopped", Some("db.branch.example.com")));
    let open = branches.open("drill").await.expect("opened");
    assert_eq!(open.branches().err().expect("none of its own").code, Code::Unsupported);
    assert_eq!(branches.get("dril").await.expect_err("none").code, Code::NotFound);
}

#[tokio::test]
async fn a_branch_whose_name_only_ends_as_a_key_does_goes_by_its_full_name() {
    // A colleague's, and one that was made before keys were marked.
    for full in ["drill-production", "drill-regression", "drill-abcdefgh23"] {
        let server = MockApi::serve_replies(move |seen| match seen.line.as_str() {
            line if line == list() => {
                MockReply::from_json(200, &json!([main_row(), row(full, BRANCH, "FUNCTIONS_DEPLOYED")]))
            }
            line if line.starts_with("GET /v1/branches/") => inside("ACTIVE_HEALTHY"),
            _ => windowed(seen),
        })
        .await;
        let (project, _folder) = project(&server);
        let branches = project.branches().expect("branches");
        let refused = branches.get("drill").await.expect_err("its name was not given");
        assert_eq!(refused.code, Code::NotFound, "{full}");
        assert!(refused.hint.expect("what to type").contains(&format!("`{full}`")));
        assert_eq!(branches.open("drill").await.err().expect("nor opened").code, Code::NotFound, "{full}");
        let branch = branches.get(full).await.expect("found");
        assert_eq!((branch.id.as_str(), branch.key), (BRANCH, None));
    }
}

#[tokio::test]
async fn a_name_by_which_several_go_is_nobodys() {
    for theirs in ["drill", "drill-rdhgfedcba32"] {
        let server = MockApi::serve_replies(move |seen| match seen.line.as_str() {
            line if line == list() => {
                let rows = [row(&name(), BRANCH, "X"), row(theirs, "cccccccccccccccccccc", "X")];
                MockReply::from_json(200, &json!(rows))
            }
            line if line.starts_with("GET /v1/branches/") => inside("ACTIVE_HEALTHY"),
            _ => windowed(seen),
        })
        .await;
        let (project, _folder) = project(&server);
        let branches = project.branches().expect("branches");
        let refused = branches.get("drill").await.expect_err("either may be meant");
        assert_eq!(refused.code, Code::Conflict);
        assert!(refused.message.contains(&name()) && refused.message.contains(theirs), "{refused}");
        assert_eq!(branches.get(&name()).await.expect("its full name").id, BRANCH);
    }
}

#[tokio::test]
async fn no_branch_is_made_under_a_name_by_which_somebody_elses_goes() {
    let server = MockApi::serve_replies(|seen| match seen.line.as_str() {
        line if line == list() => MockReply::from_json(200, &json!([row("drill", BRANCH, "X")])),
        _ => with_data(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let request = ask(Some("platform-7"), RecoveryTarget::BackupEnd, Some("drill"));
    let refused = project.restore(&request, &key()).await.expect_err("refused");
    assert_eq!((refused.code, refused.retryable), (Code::Conflict, false));
    assert_eq!(writes(&server), [""; 0]);
}

/// Serves a branch whose workflow is run.
fn workflow(seen: &super::ReceivedRequest) -> MockReply {
    let steps = |status: &str| {
        json!({ "id": "run-2", "branch_id": "11111111-1111-4111-8111-111111111111",
        "run_steps": [{ "name": "clone", "status": "EXITED" }, { "name": "migrate", "status": status }] })
    };
    match seen.line.as_str() {
        line if line == list() => {
            MockReply::from_json(200, &json!([main_row(), row(&name(), BRANCH, "FUNCTIONS_DEPLOYED")]))
        }
        line if line == format!("GET /v1/branches/{BRANCH}") => inside("ACTIVE_HEALTHY"),
        line if line.ends_with("/actions?limit=50") => {
            let begun = if seen.earlier == 0 { vec![] } else { vec![steps("RUNNING")] };
            MockReply::from_json(200, &json!(begun))
        }
        line if line.ends_with("/actions/run-2") => {
            MockReply::from_json(200, &steps(if seen.earlier < 2 { "RUNNING" } else { "EXITED" }))
        }
        line if line.starts_with(&format!("POST /v1/branches/{BRANCH}/")) => {
            MockReply::from_json(201, &json!({ "workflow_run_id": "run-2", "message": "ok" }))
        }
        line if line.starts_with(&format!("POST /v1/projects/{BRANCH}/")) => {
            MockReply::from_json(201, &json!([{ "one": 1 }]))
        }
        _ => windowed(seen),
    }
}

#[tokio::test]
async fn a_workflow_that_is_not_shown_or_has_no_step_yet_is_not_over() {
    let server = MockApi::serve_replies(|seen| match (seen.line.as_str(), seen.earlier) {
        (line, 0) if line.ends_with("/actions/run-2") => {
            MockReply::from_json(404, &json!({ "message": "Action run not found" }))
        }
        (line, 1) if line.ends_with("/actions/run-2") => {
            MockReply::from_json(200, &json!({ "id": "run-2", "branch_id": null, "run_steps": [] }))
        }
        _ => workflow(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let branches = project.branches().expect("branches");
    let branch = branches.get("drill").await.expect("a branch");
    let job = branches.reset(&branch, &key()).await.expect("accepted");
    for wanted in ["does not show the workflow `run-2`", "accepted, and not begun"] {
        match project.poll_job(&job).await.expect("a look") {
            JobStatus::Running(progress) => assert!(progress.phase.contains(wanted), "{progress:?}"),
            over => panic!("{wanted}: {over:?}"),
        }
    }
    follow(&project, &job).await.expect("done");
}

#[tokio::test]
async fn how_a_workflow_ended_is_shown_by_a_list_that_may_lag_behind() {
    // Its steps have exited, and the first look still shows how the branch was before.
    for (kind, before, after) in [
        ("promote", "FUNCTIONS_DEPLOYED", "MIGRATIONS_FAILED"),
        ("reset", "MIGRATIONS_FAILED", "FUNCTIONS_DEPLOYED"),
    ] {
        let server = MockApi::serve_replies(move |seen| match seen.line.as_str() {
            line if line == list() => {
                let status = if seen.earlier < 3 { before } else { after };
                MockReply::from_json(200, &json!([main_row(), row(&name(), BRANCH, status)]))
            }
            line if line.ends_with("/actions/run-2") => MockReply::from_json(
                200,
                &json!({ "id": "run-2", "run_steps": [{ "name": "migrate", "status": "EXITED" }] }),
            ),
            _ => workflow(seen),
        })
        .await;
        let (project, _folder) = project(&server);
        let branches = project.branches().expect("branches");
        let branch = branches.get("drill").await.expect("a branch");
        let asked = match kind {
            "reset" => branches.reset(&branch, &key()).await,
            _ => branches.promote(&branch, &key()).await,
        };
        let job = asked.expect("accepted");
        for status in [before, after] {
            let JobStatus::Lagging(end, lag) = project.poll_job(&job).await.expect("a look") else {
                panic!("{kind}: one look at a list that may lag behind is believed")
            };
            assert_eq!(lag, project.landing_time);
            assert_eq!(
                matches!(*end, JobStatus::Failed(_)),
                status == "MIGRATIONS_FAILED",
                "{kind} {status}"
            );
        }
    }
}

#[tokio::test]
async fn of_two_new_workflows_nobody_knows_which_is_ours() {
    let run =
        |id: &str| json!({ "id": id, "branch_id": "11111111-1111-4111-8111-111111111111", "run_steps": [] });
    let server = MockApi::serve_replies(move |seen| match (seen.line.as_str(), seen.earlier) {
        (line, 1..) if line.ends_with("/actions?limit=50") => {
            MockReply::from_json(200, &json!([run("run-3"), run("run-2")]))
        }
        _ => workflow(seen),
    })
    .await;
    let (project, _folder) = project(&server);
    let branches = project.branches().expect("branches");
    let branch = branches.get("drill").await.expect("a branch");
    let key = key();
    let (traces, _) = ask_planned(branches.plan_reset(&branch, &key).await).await;
    let error = project.find_job(&key, Some(&traces)).await.expect_err("nobody knows");
    assert_eq!(error.code, Code::Unknown);
    assert!(error.message.contains("`run-3`, `run-2`"), "{error}");
}

#[tokio::test]
async fn a_reset_and_a_promotion_are_workflows_and_a_new_one_may_be_somebody_elses() {
    for kind in ["reset", "promote"] {
        let server = MockApi::serve_replies(workflow).await;
        let (project, _folder) = project(&server);
        let branches = project.branches().expect("branches");
        let branch = branches.get("drill").await.expect("a branch");
        let key = key();
        let planned = match kind {
            "reset" => branches.plan_reset(&branch, &key).await,
            _ => branches.plan_promotion(&branch, &key).await,
        };
        let (traces, job) = ask_planned(planned).await;
        let job = job.expect("accepted");
        let error = project.find_job(&key, Some(&traces)).await.expect_err("nobody knows");
        assert_eq!(error.code, Code::Unknown);
        assert!(error.message.contains("`run-2` was not shown before, and may be it"), "{error}");
        let value: Value = follow(&project, &job).await.expect("done");
        match kind {
            "reset" => assert_eq!(value["$branch"]["id"], BRANCH),
            _ => assert_eq!((&value["branch"], &value["carried"]), (&json!(name()), &json!("migrations"))),
        }
        let verb = if kind == "reset" { "reset" } else { "merge" };
        assert_eq!(writes(&server), [format!("POST /v1/branches/{BRANCH}/{verb}")]);
    }
}
