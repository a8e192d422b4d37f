//! Rehearsals from outside: what ships keeps every invariant, what is bad on purpose is caught by the right one.

use crate::env::{CliEnv, CommandOutput};
use serde_json::Value;
use std::collections::BTreeSet;

fn runbook_path(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// Rehearses, and holds what is true of every rehearsal: nothing is made, and the last line counts the others.
fn rehearse_runbook(path: &str, more: &[&str]) -> (CommandOutput, Vec<Value>) {
    let env = CliEnv::new();
    let runbook = runbook_path(path);
    let args: Vec<&str> =
        ["rehearse", &runbook, "-o", "json"].into_iter().chain(more.iter().copied()).collect();
    let done = env.run_cli(&args);
    assert!(!env.path(".redrill").exists(), "the state folder was made");
    let mut events = done.parse_events();
    let last = events.pop().unwrap();
    assert_eq!(last["event"], "rehearsal.finished", "{done}");
    assert_eq!(last["scenarios"], events.len(), "{done}");
    for (verdict, count) in
        [("converged", "converged"), ("stopped_safely", "stopped_safely"), ("violated", "violations")]
    {
        assert_eq!(last[count], events.iter().filter(|e| e["verdict"] == verdict).count(), "{done}");
    }
    (done, events)
}

#[test]
fn what_ships_keeps_every_invariant() {
    for path in [
        "runbooks/restore_to_branch.rhai",
        "runbooks/undo_dropped_table.rhai",
        "runbooks/restore_to_moment.rhai",
        "tests/good/every_change.rhai",
        "tests/good/approved_restore.rhai",
        "tests/good/back_and_forth.rhai",
        "tests/good/take_back.rhai",
        "tests/good/guarded_changes.rhai",
        "tests/good/approved_changes.rhai",
        "tests/good/side_by_side.rhai",
    ] {
        let (done, events) = rehearse_runbook(path, &["--seeds", "24"]);
        assert_eq!(done.code, 0, "{path}: {done}");
        let named =
            |part: &str| events.iter().filter(|e| e["scenario"].as_str().unwrap().starts_with(part)).count();
        assert!(named("crash:") >= 12 && named("api:") >= 25 && named("seed:") == 24, "{path}: {done}");
        for crash in events.iter().filter(|e| e["scenario"].as_str().unwrap().starts_with("crash:")) {
            assert_eq!(crash["verdict"], "converged", "{path}: a kill changed how it ended: {crash}");
        }
    }
}

#[test]
fn what_is_bad_is_caught_by_the_right_invariant() {
    for (path, invariants) in [
        ("tests/bad/forgotten_branch.rhai", &["left-over"][..]),
        ("tests/bad/unguarded_restore.rhai", &["guard"]),
        ("tests/bad/deleted_backup.rhai", &["guard"]),
        ("tests/bad/stretched_approval.rhai", &["guard"]),
        ("tests/bad/racing_branches.rhai", &["same-world"]),
        ("tests/bad/swallowed_failure.rhai", &["once", "same-world"]),
        ("tests/bad/broken_promise.rhai", &["author"]),
        ("tests/bad/never_well.rhai", &["ends-well"]),
        ("tests/bad/forgotten_replica.rhai", &["left-over"]),
        ("tests/bad/forgotten_setting.rhai", &["left-over"]),
        ("tests/bad/forgotten_tls.rhai", &["left-over"]),
        ("tests/bad/forgotten_pause.rhai", &["ends-well", "left-over"]),
    ] {
        let (done, events) = rehearse_runbook(path, &[]);
        assert_eq!(done.code, 1, "{path}: {done}");
        let broken: BTreeSet<&str> = events
            .iter()
            .flat_map(|e| e["breaches"].as_array().unwrap())
            .map(|breach| breach["invariant"].as_str().unwrap())
            .collect();
        assert_eq!(broken, invariants.iter().copied().collect(), "{path}: {done}");
    }
}

#[test]
fn what_is_left_is_told_with_what_to_do() {
    let path = runbook_path("tests/bad/forgotten_setting.rhai");
    let refused = ["rehearse", &path, "--only", "api:2:restore:refused"];
    let done = CliEnv::new().run_cli(&refused);
    let says = "left-over: the setting `work_mem` of `sandbox` is left changed, from no override to `1GB` by /db::config::set#0, at the end of a run that failed";
    let hint = "hint: `setting:work_mem`: undo it in a `defer` put before the change or directly after it; or, where it is to stay, name it in the header: `leaves: [\"setting:work_mem\"]`";
    assert!(done.code == 1 && done.stdout.contains(says) && done.stdout.contains(hint), "{done}");
    let done = CliEnv::new().run_cli(&[&refused[..], &["-o", "json"]].concat());
    let breach = &done.parse_events()[0]["breaches"][0];
    assert_eq!(breach["invariant"], "left-over", "{done}");
    let left = serde_json::json!({
        "target": "sandbox", "entry": "setting:work_mem", "before": null, "after": "1GB",
        "call": "/db::config::set#0", "ended": "failed",
    });
    assert_eq!(breach["left"], left, "{done}");
    assert_eq!(format!("hint: {}", breach["hint"].as_str().unwrap()), hint, "{done}");
}

#[test]
fn a_wrong_entry_of_leaves_is_found_by_check() {
    let env = CliEnv::new();
    env.write_file("r.rhai", "const RUNBOOK = #{ title: \"t\", leaves: [\"setings\"] };\n");
    let done = env.run_cli(&["check", "r.rhai"]);
    let says = ["error: `setings` in `leaves`", "did you mean `setting`?", "\"branch:NAME\"", "\"power\""];
    assert!(done.code == 2 && says.iter().all(|says| done.stderr.contains(says)), "{done}");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let runbook = runbook_path("tests/good/every_change.rhai");
    let several = ["--faults", "crash", "--seeds", "12", "--seed", "7"];
    let one = ["--only", "seed:7"];
    for (format, scenarios) in [("text", &several[..]), ("json", &several), ("text", &one), ("json", &one)] {
        let args = [&["rehearse", &runbook, "-o", format][..], scenarios].concat();
        let [first, second] = [(); 2].map(|()| CliEnv::new().run_cli(&args));
        assert_eq!(first.stdout, second.stdout);
        assert!(first.stderr.is_empty(), "{first}");
    }
}

#[test]
fn a_failing_scenario_prints_the_command_that_replays_it() {
    let path = runbook_path("tests/bad/forgotten_branch.rhai");
    let text = CliEnv::new().run_cli(&["rehearse", &path, "--faults", "api"]).stdout;
    let command = text.lines().find(|line| line.contains("--only api:2:query:refused")).unwrap().trim();
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let done = CliEnv::new().run_cli(&words);
    assert_eq!(done.code, 1, "{done}");
    assert!(done.stdout.contains("left-over: the branch `sandbox/forgotten` is left"), "{done}");
    assert!(done.stdout.contains("1 scenarios: 0 ✓ converged, 0 s stopped safely, 1 ✗ violated"), "{done}");
}

/// Rehearses one scenario, and returns its story as text.
fn tell_story(path: &str, scenario: &str) -> String {
    let done = CliEnv::new().run_cli(&["rehearse", &runbook_path(path), "--only", scenario]);
    let (verdict, story) = done.stdout.split_once("\n\nThe story of ").expect("a story below the verdict");
    assert!(verdict.lines().last().unwrap().starts_with("1 scenarios: "), "{done}");
    story.to_owned()
}

#[test]
fn the_story_of_a_scenario_shows_where_its_violation_comes_from() {
    insta::assert_snapshot!(tell_story("tests/bad/forgotten_branch.rhai", "api:2:query:refused"), @r#"
    api:2:query:refused

    process 1
        +0.0s  started
        +0.0s  sandbox is a small shop, simulated, as `sandbox`
        +0.0s  ▸ branch::create(sandbox, into: forgotten)  key j5l5jwv7j4
        +0.0s    written down {"sent_by":{"boot":"virtual","millis":1767225780000},"shape":"job","traces":null}
        +0.0s    accepted {"job":{"id":"branch-j5l5jwv7j4","kind":"branch"},"shape":"accepted"}
     +12m 00s  ✓ branch::create  12m 00s
     +12m 00s  !! refused at the request `query` of /db::query#0
     +12m 00s  ✗ db::query(sandbox/forgotten, sql: select count(*) as n from orders)  DENIED `query` was turned away: not allowed
     +12m 00s  ending
     +12m 00s  failed

      status      failed
      error       DENIED `query` was turned away: not allowed

    The world is not as the undisturbed run leaves it:
      sandbox/branches/forgotten
        undisturbed  nothing
        here         customers: 40 rows, d5944ac6; order_items: 241 rows, a824fbbc, secured; orders: 211 rows, 2a8c693f, secured
    "#);
}

#[test]
fn a_story_marks_the_kill_and_the_process_that_goes_on() {
    let story = tell_story("tests/good/approved_restore.rhai", "crash:2:after-begin");
    let lines: Vec<&str> = story.lines().map(str::trim).collect();
    let kill =
        "+0.0s  !! killed after the record `begin` of /approve#0; 1 record that was not on disk is lost";
    let place = lines.iter().position(|line| *line == kill).expect("the kill has its line");
    assert_eq!(lines[place - 1], "+0.0s  ✓ backup::list(sandbox)", "{story}");
    assert_eq!(lines[place + 1], "process 2, after process 1 was killed", "{story}");
    assert!(lines[place + 2].starts_with("+1m 00s  resumed by version "), "{story}");
    assert!(lines.contains(&"status      succeeded"), "{story}");
    assert_eq!(lines.last(), Some(&"The world is as the undisturbed run leaves it."), "{story}");
}

#[test]
fn a_request_before_the_run_is_told_before_it() {
    let story = tell_story("tests/bad/forgotten_branch.rhai", "api:0:identity:late");
    let lines: Vec<&str> = story.lines().map(str::trim).skip(2).take(3).collect();
    let fault = "+0.0s  !! answered late at the request `identity` of the run";
    assert_eq!(lines, ["process 1", fault, "+5.0s  started"], "{story}");
}

#[test]
fn a_program_reads_the_story_as_one_object() {
    let path = runbook_path("tests/bad/swallowed_failure.rhai");
    let done = CliEnv::new().run_cli(&["rehearse", &path, "--only", "api:1:mark:refused", "-o", "json"]);
    let events = done.parse_events();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["rehearsal.scenario", "rehearsal.story", "rehearsal.finished"], "{done}");
    let story = &events[1];
    let timeline = story["timeline"].as_array().unwrap();
    let kinds: Vec<&str> = timeline.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[..3], ["process", "started", "target"], "{done}");
    let place = kinds.iter().position(|kind| *kind == "fault").expect("there is a fault");
    assert_eq!((kinds[place - 1], kinds[place + 1]), ("accepted", "end"), "{done}");
    let fault = &timeline[place];
    assert_eq!(fault["what"], "refused");
    assert_eq!(fault["point"], "at the request `mark`");
    assert!(fault["call"].as_str().unwrap().ends_with("/backup::pitr::mark#0"), "{fault}");
    assert_eq!(story["status"], "succeeded");
    let missing =
        serde_json::json!([{"path": "sandbox/marks", "undisturbed": "before-deploy", "here": null}]);
    assert_eq!(story["differences"], missing);
}

#[test]
fn what_cannot_be_rehearsed_says_so() {
    let env = CliEnv::new();
    env.write_file("redrill.toml", "[targets.orders]\nprovider = \"postgres\"\ndata_dir = \"/nowhere\"\n");
    let path = runbook_path("runbooks/restore_to_branch.rhai");
    for (args, says) in [
        (["-p", "db=orders"], "the target `orders` is real"),
        (["--only", "crash:3:after-efect"], "has no scenario `crash:3:after-efect`"),
        (["-p", "bd=sandbox"], "has no parameter `bd`"),
    ] {
        let done = env.run_cli(&[&["rehearse", &path][..], &args].concat());
        assert_eq!(done.code, 2, "{done}");
        assert!(done.stderr.contains(says) && done.stderr.contains("nothing was done"), "{done}");
    }
}

#[test]
fn a_story_says_what_operators_and_colleagues_do() {
    let path = "tests/good/every_change.rhai";
    for (scenario, tells) in [
        (
            "operator:4:after-effect:leave",
            &[
                "process 2, after process 1 was killed; it is given up as it is: `runs abandon --leave`",
                "left behind what /branch::create#0 asked for, which may still appear",
            ][..],
        ),
        (
            "operator:4:after-begin:clock-back",
            &[
                "process 2, after process 1 was killed; the clock is set 30 minutes back",
                "-25m 00s  resumed by version",
            ],
        ),
        (
            "operator:1:create:take-over",
            &[
                "!! taken over by another process, while its request was on its way, at the request `create` of /backup::create#0",
                "interrupted: taken over by another process",
                "process 2, after process 1 stopped",
            ],
        ),
        (
            "operator:1:create:decide-redo",
            &[
                "!! lost, and nothing answered after that, at the request `create` of /backup::create#0",
                "process 2, after process 1 stopped; where it is undecided or held, `runs decide … redo`",
            ],
        ),
        (
            "operator:1:create-held:decide-fail",
            &[
                "!! refused, and held by the person who is asked, at the request `create` of /backup::create#0",
                "process 2, after process 1 stopped; where it is undecided or held, `runs decide … fail`",
            ],
        ),
        (
            "api:23:allow:colleague-before",
            &[
                "!! served, and a colleague changed another element right before at the request `allow` of /network::restrictions::add#0",
                "sandbox/ranges",
            ],
        ),
        (
            "api:23:allow:sent-late",
            &[
                "!! held back and sent just within its time, no answer, and an effect after that at the request `allow` of /network::restrictions::add#0",
            ],
        ),
    ] {
        let story = tell_story(path, scenario);
        for line in tells {
            assert!(story.contains(line), "{line} in {story}");
        }
    }
}

#[test]
fn a_story_says_which_statement_was_edited_and_what_came_of_it() {
    let removed = "the statement of line 11 is taken out: `approve(`${nightly.label} replaces what is in the database n…`; `resume --edited`";
    for (scenario, tells) in [
        (
            "operator:2:gate:edit-remove-11",
            &[
                removed,
                "interrupted: the edited script comes to something new before it has asked for what was done",
                "status      succeeded",
            ][..],
        ),
        (
            "operator:2:gate:edit-add-11-approved",
            &[
                "after process 1 stopped; what it waits for is approved, then a note is put in at line 11, before `approve(",
                "decided approve by the rehearsal\n  +1m 00s  ✓ approve",
                "status      succeeded",
            ],
        ),
        (
            "operator:2:gate:reject",
            &["!! rejected after the record `accepted` of /approve#0", "status      failed"],
        ),
        (
            "operator:2:gate:approve-late",
            &["after process 1 stopped; after three days, `approve`", "status      succeeded"],
        ),
    ] {
        let story = tell_story("tests/good/approved_restore.rhai", scenario);
        for line in tells {
            assert!(story.contains(line), "{line} in {story}");
        }
    }
}

#[test]
fn an_invariant_that_takes_all_memory_is_stopped() {
    let env = CliEnv::new();
    let text = "const RUNBOOK = #{ title: \"t\", params: #{}, needs: [] };\nfn invariant(w) { let a = \"x\"; loop { a += a; } }\n1\n";
    env.write_file("r.rhai", text);
    let stopped = env.run_cli(&["rehearse", "r.rhai"]);
    assert!(stopped.code == 2 && stopped.stderr.contains("the invariant did not end"), "{stopped}");
}

#[test]
fn a_runbook_that_does_not_end_is_stopped_with_a_verdict() {
    let env = CliEnv::new();
    env.write_file("r.rhai", "const RUNBOOK = #{ title: \"t\", params: #{}, needs: [] };\nloop { }\n");
    let stopped = env.run_cli(&["rehearse", "r.rhai", "--seeds", "5"]);
    let says = [
        "✗ undisturbed",
        "ends: one process of the run computed 20000000 steps without coming to an end",
        "hint: bound every loop",
        "1 scenarios: 0 ✓ converged, 0 s stopped safely, 1 ✗ violated",
    ];
    assert!(stopped.code == 1 && says.iter().all(|says| stopped.stdout.contains(says)), "{stopped}");
}
