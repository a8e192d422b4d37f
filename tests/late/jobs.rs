//! Jobs that a platform accepts, of which something lands later, is shown late, or is somebody else's.

use super::*;

/// Settings may be asked for twice, a restart may not.
#[test]
fn a_server_is_restarted_once_and_by_a_request_of_its_own() {
    let later = "{ lands-later = { after = \"2s\", status = 504 } }";
    for (path, fate) in [("/nowhere", "{ status = 500 }"), ("/restart", later)] {
        let platform = FakePlatform::start_with_rule("POST", path, fate);
        let set = |restart| {
            platform.type_command(&format!("db config set -t shop max_connections=120 -o json{restart}"))
        };
        let waits = set("");
        assert_eq!((waits.code, &waits.parse_json()[0]["pending_restart"]), (0, &true.into()), "{waits}");
        let restarted = set(" --restart");
        let shown = restarted.parse_json();
        assert_eq!((restarted.code, &shown[0]["pending_restart"]), (0, &false.into()), "{restarted}");
        assert_eq!(shown[0]["effective"], 120, "{restarted}");
        // After a lost request the next change waits until that can come no more.
        assert!(path == "/restart" || set(" --restart").code == 0, "nothing waits");
        let entries = platform.server.ledger_entries();
        let restarts = entries.iter().filter(|entry| entry.endpoint.ends_with("/restart")).count();
        assert_eq!(restarts, 1, "{path}");
    }
}

#[test]
fn somebody_elses_branch_is_deleted_by_its_full_name_only() {
    let platform = FakePlatform::start_simulated("");
    let path = format!("/v1/projects/{}/branches", platform.server.list_root_references()[0]);
    let body = "{\"branch_name\":\"drill-production\",\"persistent\":true}";
    let theirs = ["supabase", "api", "-t", "shop", "POST", &path, "--body", body];
    let theirs = platform.env.run_cli(&theirs);
    assert_eq!(theirs.code, 0, "{theirs}");
    let count_deletions = || {
        let entries = platform.server.ledger_entries();
        entries.iter().filter(|e| e.method == "DELETE" && e.endpoint.contains("/branches/")).count()
    };
    for command in ["branch delete -t shop drill", "branch reset -t shop drill"] {
        let refused = platform.type_command(command);
        assert_ne!(refused.code, 0, "{refused}");
        assert!(refused.stderr.contains("`drill-production`"), "it says what to type: {refused}");
    }
    assert_eq!(count_deletions(), 0);
    let deleted = platform.type_command("branch delete -t shop drill-production");
    assert_eq!((deleted.code, count_deletions()), (0, 1), "{deleted}");
}

#[test]
fn a_promotion_whose_end_could_never_be_known_in_its_time_is_not_asked_for() {
    let platform = FakePlatform::start_simulated("");
    let made = platform.type_command("branch create -t shop --into drill");
    assert_eq!(made.code, 0, "{made}");
    let reset = platform.type_command("branch reset -t shop drill");
    assert_eq!(reset.code, 0, "{reset}");
    platform.set_landing_time("10m");
    let promoted = platform.type_command("branch promote -t shop drill --timeout 2s");
    assert_eq!(promoted.code, 1, "{promoted}");
    assert!(
        promoted.stderr.contains("was not asked for") && promoted.stderr.contains("more than 10m"),
        "{promoted}"
    );
    let entries = platform.server.ledger_entries();
    assert!(entries.iter().all(|entry| !entry.endpoint.ends_with("/merge")), "nothing was asked for");
}

/// What another command has changed right before is nothing on which the refusal rests.
#[test]
fn a_refusal_waits_for_no_change_that_has_nothing_to_do_with_it() {
    let platform = FakePlatform::start_simulated("");
    platform.set_landing_time("10m");
    let set = platform.type_command("network ssl set -t shop true");
    assert_eq!(set.code, 0, "{set}");
    for refused in [
        "backup restore -t shop nosuch --confirm shop --timeout 10s",
        "backup restore -t shop nosuch --into drill --timeout 10s",
        "branch reset -t shop nosuch --confirm shop/nosuch --timeout 10s",
    ] {
        let refused = platform.type_command(refused);
        assert_eq!(refused.code, 1, "{refused}");
        assert!(refused.stderr.contains("NOT_FOUND"), "{refused}");
    }
}

#[test]
fn somebody_elses_replica_is_not_taken_for_one_that_may_still_come() {
    let fate = "{ lands-later = { after = \"4s\", status = 504 } }";
    let platform = FakePlatform::start_with_rule("POST", "/read-replicas/setup", fate);
    platform.set_landing_time("8s");
    let done = thread::scope(|scope| {
        let ours = scope.spawn(|| platform.type_command("db replicas create -t shop"));
        thread::sleep(Duration::from_secs(1));
        let body = "{\"read_replica_region\":\"eu-central-1\"}";
        let path = format!("/v1/projects/{}/read-replicas/setup", platform.server.list_root_references()[0]);
        let theirs = ["--state", "theirs", "supabase", "api", "-t", "shop", "POST", &path, "--body", body];
        let theirs = platform.env.run_cli(&theirs);
        assert_eq!(theirs.code, 0, "{theirs}");
        ours.join().unwrap()
    });
    platform.wait_for_late_effect();
    assert_eq!(done.code, 4, "two came, and nobody knows which is whose: {done}");
}

/// Whoever restarts or pauses the project takes it through the statuses of a restore, and restores nothing.
#[test]
fn what_somebody_else_does_to_a_project_is_not_taken_for_a_restore_that_comes_later() {
    let fates =
        ["{ acknowledged-later = { after = \"6s\" } }", "{ lands-later = { after = \"6s\", status = 504 } }"];
    thread::scope(|scope| {
        for fate in fates {
            scope.spawn(move || play_restore_beside_a_colleague(fate));
        }
    });
}

fn play_restore_beside_a_colleague(fate: &str) {
    let platform = FakePlatform::start_with_rule("POST", "/database/backups/restore-pitr", fate);
    platform.set_landing_time("10s");
    platform.env.write_file(
        "back.rhai",
        r#"const RUNBOOK = #{ title: "Back", needs: ["backup.destroy"] };
        let latest = backup::pitr::window("shop").latest;
        backup::pitr::restore("shop", #{ to: #{ time: latest - "10m" } });
        "#,
    );
    let reference = &platform.server.list_root_references()[0];
    let (restart, pause) =
        (format!("/v1/projects/{reference}/restart"), format!("/v1/projects/{reference}/pause"));
    let unpause = format!("/v1/projects/{reference}/restore");
    let done = thread::scope(|scope| {
        let ours = scope.spawn(|| platform.type_command("run back.rhai --yes"));
        for path in [&restart, &pause, &unpause] {
            thread::sleep(Duration::from_secs(1));
            let theirs = ["--state", "theirs", "supabase", "api", "-t", "shop", "POST", path];
            let theirs = platform.env.run_cli(&theirs);
            assert_eq!(theirs.code, 0, "{theirs}");
        }
        let early = platform.server.ledger_entries();
        assert!(
            early.iter().all(|entry| !entry.endpoint.ends_with("restore-pitr")),
            "too slow for this test"
        );
        ours.join().unwrap()
    });
    assert_eq!(done.code, 0, "{fate}: {done}");
    let log = platform.server.ledger_entries();
    let restores = log.iter().filter(|entry| entry.endpoint.ends_with("/restore-pitr")).count();
    assert_eq!(restores, 1, "{fate}: it is over when it has happened: {done}");
}

/// Writes rules by which the list of branches shows what was there before, from one look of the project's on.
fn write_lagging_lists(from: u32) -> Vec<String> {
    let rule = |nth| write_rule("GET", "/v1/projects/*/branches", Some(nth), "{ stale = \"10m\" }");
    (from..from + 400).map(rule).collect()
}

#[test]
fn one_odd_answer_to_a_look_ends_no_accepted_restore() {
    // Four looks are the plan's.
    let rule = write_rule("GET", "/v1/projects/*", Some(5), "{ status = 400 }");
    let platform = FakePlatform::start_with_rules(&[rule]);
    let done = platform.type_command("backup pitr restore -t shop --to -20m --confirm shop -v");
    assert_eq!(done.code, 0, "{done}");
    assert!(done.stderr.contains("poll: no answer"), "it was looked at: {done}");
}

#[test]
fn a_branch_that_a_lagging_list_hides_is_neither_given_up_as_gone_nor_made_again() {
    let platform = FakePlatform::start_with_rules(&write_lagging_lists(2));
    platform.env.write_file(
        "again.rhai",
        r#"const RUNBOOK = #{ title: "Again", needs: ["branch.create"] };
        retry(#{ attempts: 2 }, || branch::create("shop", #{ into: "drill", temporary: true, timeout: "2s" }));
        "#,
    );
    let done = platform.type_command("run again.rhai");
    assert_eq!((done.code, platform.count_branches_made()), (4, 1), "{done}");
}

#[test]
fn a_temporary_branch_that_a_lagging_list_hides_is_removed_at_the_end() {
    let platform = FakePlatform::start_with_rules(&write_lagging_lists(40));
    platform.env.write_file(
        "drill.rhai",
        r#"const RUNBOOK = #{ title: "Drill", needs: ["branch.create"] };
        branch::create("shop", #{ into: "drill", temporary: true });
        wait_until(#{ timeout: "1m", every: "1ms" }, || branch::list("shop").len() == 0);
        "#,
    );
    let done = platform.type_command("run drill.rhai");
    assert_eq!(done.code, 0, "{done}");
    let log = platform.server.ledger_entries();
    let removed = log.iter().filter(|entry| entry.method == "DELETE").count();
    assert_eq!(removed, 1, "{done}");
}

/// A pause cannot be stopped: nobody waits for it any more, and it comes all the same.
#[test]
fn an_accepted_job_keeps_its_target_until_it_is_settled_or_decided_about() {
    let platform = start_with_late_pause();
    let change = "network ssl set -t shop true --timeout 1s";
    for command in ["project pause -t shop --timeout 2s", "run pause.rhai --yes"] {
        let paused = platform.type_command(command);
        assert_eq!(paused.code, 4, "{paused}");
        assert!(paused.stderr.contains("may still be at work"), "{paused}");
        let run = platform.env.list_runs()[0]["id"].as_str().unwrap().to_owned();
        let waits = platform.type_command(change);
        assert_eq!(waits.code, 1, "{waits}");
        assert!(waits.stderr.contains(&format!("`redrill resume {run}`")), "{waits}");
        let looked_again = platform.type_command(&format!("resume {run}"));
        assert_eq!(looked_again.code, 4, "{looked_again}");

        let left = platform.type_command(&format!("runs abandon {run} --leave"));
        assert!(left.stderr.contains("which may still appear, nobody knows until when"), "{left}");
        let waits = platform.type_command(change);
        assert_eq!(waits.code, 1, "{waits}");
        assert!(!waits.stderr.contains(&format!("redrill resume {run}")), "the run has ended: {waits}");
        let (_, way_out) = waits.stderr.split_once("`redrill runs decide ").expect("it is printed");
        let (way_out, _) = way_out.split_once('`').expect("it ends");
        let lifted = platform.type_command(&format!("runs decide {}", way_out.replace('\'', "")));
        assert_eq!(lifted.code, 0, "{lifted}");
        let changed = platform.type_command(change);
        assert_eq!(changed.code, 0, "{changed}");
    }
}

#[test]
fn a_decision_about_an_accepted_job_gives_its_target_back() {
    let platform = start_with_late_pause();
    let paused = platform.type_command("run pause.rhai --yes");
    assert_eq!(paused.code, 4, "{paused}");
    let run = platform.env.list_runs()[0]["id"].as_str().unwrap().to_owned();
    let decided = platform.type_command(&format!("runs decide {run} pause fail --anyway"));
    assert_eq!(decided.code, 0, "{decided}");
    let resumed = platform.type_command(&format!("resume {run}"));
    assert_eq!(resumed.code, 0, "the script goes on with the failure: {resumed}");
    let changed = platform.type_command("network ssl set -t shop true --timeout 1s");
    assert_eq!(changed.code, 0, "{changed}");
}

/// Starts a platform that accepts a pause and begins it an hour later, with a runbook that goes on without it.
fn start_with_late_pause() -> FakePlatform {
    let fate = "{ acknowledged-later = { after = \"1h\" } }";
    let rule = write_rule("POST", "/v1/projects/*/pause", None, fate);
    let platform = FakePlatform::start_with_rules(&[rule]);
    platform.env.write_file(
        "pause.rhai",
        r#"const RUNBOOK = #{ title: "Pause", needs: ["project.change"] };
        attempt(|| project::pause("shop", #{ timeout: "2s" }));
        "#,
    );
    platform
}
