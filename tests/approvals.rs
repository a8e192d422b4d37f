//! Runs that wait for a person: approvals, held calls, edited runbooks.

use crate::env::{CliEnv, sandbox_runbook, write_shop_target};
use redrill::{
    base::{
        clock::{Clock as _, SystemClock},
        moment::Span,
    },
    fake::{FakeServer, ServerOptions, WorldFile},
    journal::{Journal, Outcome, Quarantine, Record, RunStatus},
};
use serde_json::json;
use std::sync::Arc;

const APPROVAL_RUNBOOK: &str = r#"const RUNBOOK = #{ title: "approval", params: #{ db: #{ type: "target", preset: "sandbox" } }, needs: ["backup.create", "db.destroy"] };
let db = params.db;
backup::create(db, #{ label: "before" });
defer(|| backup::create(db, #{ label: "end" }));
approve("empty the orders?");
db::execute(db, "delete from order_items").rows_affected > 0
"#;

fn run_status(env: &CliEnv) -> String {
    env.list_runs()[0]["status"].as_str().unwrap().to_owned()
}

fn count_backups(env: &CliEnv) -> usize {
    let listed = env.run_cli(&["backup", "list", "-t", "sandbox", "-o", "json"]).parse_json();
    listed.as_array().unwrap().iter().filter(|b| b["label"] == "before" || b["label"] == "end").count()
}

#[test]
fn a_step_in_which_a_run_waits_has_neither_failed_nor_ended() {
    let env = CliEnv::new();
    env.write_file(
        "r.rhai",
        &sandbox_runbook(r#""backup.create""#, r#"step("outer", || step("inner", || approve("go?")));"#),
    );
    let waiting = env.run_cli(&["run", "r.rhai"]);
    assert_eq!(waiting.code, 3, "{waiting}");
    for step in ["inner", "outer"] {
        assert!(waiting.stderr.contains(&format!("… {step}")), "{waiting}");
    }
    assert!(!waiting.stderr.contains('✗'), "{waiting}");
    let events = env.run_cli(&["resume", "last", "-o", "json"]).stdout;
    assert_eq!(events.matches(r#""stopped":true"#).count(), 2, "{events}");
}

#[test]
fn a_decision_is_an_event_where_json_is_asked_for() {
    let env = CliEnv::new();
    env.write_file("r.rhai", APPROVAL_RUNBOOK);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    let decided = env.run_cli(&["approve", "last", "-o", "json"]);
    let (event, run) = (decided.parse_json(), env.list_runs()[0]["id"].clone());
    assert_eq!((&event["event"], &event["run"]), (&"approval.decided".into(), &run), "{decided}");
    assert_eq!(
        (&event["approval"], &event["decision"]),
        (&"/approve#0".into(), &"approved".into()),
        "{decided}"
    );
    assert_eq!(decided.stderr.lines().last(), event["next"].as_str(), "{decided}");
    let done = env.run_cli(&["reject", "last", "--resume", "-o", "json"]);
    let first = done.stdout.lines().next().unwrap_or_default();
    assert!(first.contains(r#""decision":"rejected""#) && first.contains(r#""next":null"#), "{done}");
}

#[test]
fn an_approval_suspends_the_run_and_is_given_from_outside() {
    let env = CliEnv::new();
    env.write_file("r.rhai", APPROVAL_RUNBOOK);
    // `--yes` gives no approval.
    let waiting = env.run_cli(&["run", "r.rhai", "--yes"]);
    assert_eq!((waiting.code, run_status(&env).as_str()), (3, "waiting"), "{waiting}");
    let next = waiting.stderr.lines().last().unwrap().to_owned();
    assert!(next.starts_with("redrill approve ") && next.ends_with(" --resume"), "{waiting}");
    for (args, on) in [(vec!["runs", "list"], "stderr"), (vec!["runs", "show", "last"], "stdout")] {
        let shown = env.run_cli(&args);
        let text = if on == "stderr" { &shown.stderr } else { &shown.stdout };
        for said in ["waits since 20", "empty the orders?", "whoever can write the state folder"] {
            assert!(text.contains(said), "{said}\n{shown}");
        }
        assert_eq!(shown.stderr.lines().last().map(str::trim), Some(next.as_str()), "{shown}");
    }
    assert_eq!(env.run_cli(&["resume", "last", "--yes"]).code, 3, "nobody has approved");
    let approved = env.run_cli(&["approve", "last"]);
    assert_eq!(approved.code, 0, "{approved}");
    assert!(approved.stderr.contains("approved /approve#0"), "{approved}");
    assert_eq!(env.run_cli(&["approve", "last"]).code, 2, "it was approved");
    let done = env.run_cli(&["resume", "last"]);
    assert_eq!((done.code, done.stdout.trim(), count_backups(&env)), (0, "true", 2), "{done}");
    let shown = env.run_cli(&["runs", "show", "last"]);
    assert!(shown.stdout.contains("decided approve by "), "{shown}");
    assert_eq!(env.run_cli(&["runs", "verify", "last"]).code, 0);
}

#[test]
fn approved_and_resumed_in_one_command() {
    let env = CliEnv::new();
    env.write_file("r.rhai", APPROVAL_RUNBOOK);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    let done = env.run_cli(&["approve", "last", "--resume", "-o", "json"]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(done.parse_events().last().unwrap()["status"], "succeeded");
    assert_eq!(env.run_cli(&["approve", "last"]).code, 2, "it is over");
}

#[test]
fn what_is_rejected_fails_and_cleans_up() {
    let env = CliEnv::new();
    env.write_file("r.rhai", APPROVAL_RUNBOOK);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    let done = env.run_cli(&["reject", "last", "--resume"]);
    assert_eq!((done.code, count_backups(&env)), (1, 2), "{done}");
    assert!(
        done.stderr.contains("rejected: empty the orders?") && done.stderr.contains("REJECTED"),
        "{done}"
    );
}

#[test]
fn an_approval_is_void_for_another_target() {
    let env = CliEnv::new();
    env.write_file("r.rhai", APPROVAL_RUNBOOK);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    assert_eq!(env.run_cli(&["approve", "last"]).code, 0);
    std::fs::remove_dir_all(env.path(".redrill/worlds")).unwrap();
    let done = env.run_cli(&["resume", "last"]);
    assert_eq!(done.code, 5, "{done}");
    assert!(done.stderr.contains("`sandbox` is not the one that the run began with"), "{done}");
    for said in ["recorded  ", "now       ", "redrill resume", "--edited`", "redrill runs abandon"] {
        assert!(done.stderr.contains(said), "{said}\n{done}");
    }
}

#[test]
fn a_failed_call_is_held_decided_about_and_done() {
    let env = CliEnv::new();
    env.write_file(
        "r.rhai",
        &APPROVAL_RUNBOOK.replace("approve(\"empty the orders?\");", "").replace("order_items", "later"),
    );
    let held = env.run_cli(&["run", "r.rhai", "--hold"]);
    assert_eq!((held.code, run_status(&env).as_str(), count_backups(&env)), (3, "waiting", 1), "{held}");
    let next = held.stderr.lines().last().unwrap().to_owned();
    assert!(next.starts_with("redrill runs decide ") && next.ends_with(" '/db::execute#0' redo"), "{held}");
    assert!(env.run_cli(&["runs", "list"]).stderr.contains("is held since 20"));
    assert_eq!(env.run_cli(&["resume", "last"]).code, 3, "nobody has decided");
    let decided =
        env.run_cli(&["runs", "decide", "last", "execute", "done", "--result", "{\"rows_affected\": 3}"]);
    assert_eq!(decided.code, 0, "{decided}");
    let done = env.run_cli(&["resume", "last", "--hold"]);
    assert_eq!((done.code, done.stdout.trim(), count_backups(&env)), (0, "true", 2), "{done}");
    // Without `--hold`, it cleans up and fails.
    let failed = env.run_cli(&["run", "r.rhai"]);
    assert_eq!((failed.code, count_backups(&env)), (1, 4), "{failed}");
}

#[test]
fn what_a_call_made_is_read_back_by_its_id() {
    let env = CliEnv::new();
    let script = r#"const RUNBOOK = #{ title: "b", params: #{}, needs: ["branch.create", "db.destroy"] };
        let made = branch::create("sandbox", #{ into: "drill" });
        db::execute("sandbox", "delete from nowhere");"#;
    env.write_file("r.rhai", script);
    let other = env.run_cli(&["branch", "create", "-t", "sandbox", "--into", "drill", "-o", "json"]);
    assert_eq!(other.code, 0, "{other}");
    let held = env.run_cli(&["run", "r.rhai", "--hold"]);
    assert_eq!(held.code, 3, "the name is taken: {held}");
    let decide = |id: &str| env.run_cli(&["runs", "decide", "last", "create", "done", "--id", id]);
    let refused = decide("branch-none");
    assert_eq!(refused.code, 2, "{refused}");
    assert!(refused.stderr.contains("`branch::list` shows nothing with the id `branch-none`"), "{refused}");
    let decided = decide(other.parse_json()["id"].as_str().unwrap());
    assert_eq!(decided.code, 0, "{decided}");
    let next = env.run_cli(&["resume", "last", "--hold"]);
    assert_eq!(next.code, 3, "it goes on to the next call: {next}");
    let unnamed = env.run_cli(&["runs", "decide", "last", "execute", "done", "--id", "1"]);
    assert_eq!(unnamed.code, 2, "{unnamed}");
    assert!(unnamed.stderr.contains("makes nothing that has an id"), "{unnamed}");
}

#[test]
fn an_edited_runbook_goes_on_where_it_matches() {
    let env = CliEnv::new();
    env.write_file("r.rhai", APPROVAL_RUNBOOK);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    env.write_file("r.rhai", &APPROVAL_RUNBOOK.replace("\"before\"", "\"prod\""));
    let wrong = env.run_cli(&["resume", "last", "--edited"]);
    assert_eq!(wrong.code, 5, "{wrong}");
    for said in [
        "/r.rhai (recorded)",
        "-backup::create(db, #{ label: \"before\" });",
        "+backup::create(db, #{ label: \"prod\" });",
        "the call /backup::create#0 is not the one that was recorded",
        "/r.rhai:3:9",
        "go on with the recorded source: `redrill resume ",
        "--edited`",
        "give it up and clean up: `redrill runs abandon ",
    ] {
        assert!(wrong.stderr.contains(said), "{said}\n{wrong}");
    }
    // The recorded source is still the one that a resume takes.
    assert_eq!(env.run_cli(&["resume", "last"]).code, 3);
    env.write_file(
        "r.rhai",
        &APPROVAL_RUNBOOK.replace("approve(", "import \"./lib\" as lib;\nlib::say();\napprove("),
    );
    env.write_file("lib.rhai", "fn say() { note(\"from the library\") }");
    let edited = env.run_cli(&["resume", "last", "--edited"]);
    assert_eq!(edited.code, 3, "{edited}");
    assert!(
        edited.stderr.contains("+++ ./lib (now)") && edited.stderr.contains("• from the library"),
        "{edited}"
    );
    // From here on the edited one is the run's own, files or not.
    std::fs::remove_file(env.path("lib.rhai")).unwrap();
    let done = env.run_cli(&["approve", "last", "--resume"]);
    assert_eq!(done.code, 0, "{done}");
    let shown = env.run_cli(&["runs", "show", "last"]);
    assert!(shown.stdout.contains("resumed with an edited runbook"), "{shown}");
    assert_eq!(env.run_cli(&["runs", "verify", "last"]).code, 0);
}

fn begin_record(call: &str) -> Record {
    let (call, op, key) = (call.to_owned(), "backup::create".to_owned(), "k".to_owned());
    Record::Begin { call, op, args: json!({}), key, at: "r.rhai:1:1".into() }
}

#[test]
fn nobody_decides_about_a_call_that_the_world_can_still_be_asked_about() {
    let undecided = |at_call: &str| Record::Stopped {
        status: RunStatus::Undecided,
        reason: "nobody knows".into(),
        mismatch: false,
        at_call: Some(at_call.to_owned()),
        unconfirmed: None,
    };
    let waiting = || Record::Stopped {
        status: RunStatus::Waiting,
        reason: "an approval".into(),
        mismatch: false,
        at_call: Some("/approve#0".into()),
        unconfirmed: None,
    };
    let (cut, unknown) = ("/parallel#0/0/backup::create#0", "/parallel#0/1/backup::create#0");
    for (records, about) in [
        (vec![begin_record(cut)], "the killed one"),
        (vec![begin_record(cut), waiting()], "one beside an approval"),
        (vec![begin_record(cut), begin_record(unknown), undecided(unknown)], "one beside an undecided one"),
    ] {
        let env = CliEnv::new();
        env.leave_run("0", records);
        let refused = env.run_cli(&["runs", "decide", "last", "/0/backup", "redo"]);
        assert_eq!(refused.code, 2, "{about}: {refused}");
        assert!(
            refused.stderr.contains("was cut short") && refused.stderr.contains("a resume looks for that"),
            "{refused}"
        );
        assert!(refused.stderr.lines().last().unwrap().starts_with("redrill resume "), "{refused}");
    }
    let env = CliEnv::new();
    env.leave_run("0", vec![begin_record(cut), begin_record(unknown), undecided(unknown)]);
    assert_eq!(env.run_cli(&["runs", "decide", "last", "backup", "redo"]).code, 0, "it is the only one");
}

#[test]
fn an_approval_that_was_not_asked_for_yet_is_none_that_the_run_waits_for() {
    let env = CliEnv::new();
    let (call, op, key) = ("/approve#0".to_owned(), "approve".to_owned(), "k".to_owned());
    let args = json!({"message": "go on?"});
    env.leave_run("0", vec![Record::Begin { call, op, args, key, at: "r.rhai:1:1".into() }]);
    for (given, said) in
        [(vec![], "waits for no approval"), (vec!["/approve#0"], "before it had asked for the approval")]
    {
        let refused = env.run_cli(&[vec!["approve", "last"], given].concat());
        assert_eq!(refused.code, 2, "{refused}");
        assert!(refused.stderr.contains(said) && !refused.stderr.contains("it waits for"), "{refused}");
        assert!(refused.stderr.lines().last().unwrap().starts_with("redrill resume "), "{refused}");
    }
}

#[test]
fn what_may_still_take_effect_is_decided_about_only_by_name_of_it_and_named_when_it_is_left() {
    let unknown = "/backup::create#0";
    let undecided = Record::Stopped {
        status: RunStatus::Undecided,
        reason: "nobody knows".into(),
        mismatch: false,
        at_call: Some(unknown.to_owned()),
        unconfirmed: None,
    };
    let env = CliEnv::new();
    env.leave_run("0", vec![begin_record(unknown), undecided]);
    let journal = Journal::open(&env.path(".redrill"), Arc::new(SystemClock)).unwrap();
    let run = env.list_runs()[0]["id"].as_str().unwrap().to_owned();
    let quarantine = |span| Quarantine {
        place: "somewhere".into(),
        part: None,
        run: run.clone(),
        call: unknown.into(),
        sent_by: SystemClock.uptime(),
        span,
    };
    for (span, said) in [(None, "nobody knows until when"), (Some(Span::from_secs(3600)), "until 20")] {
        journal.put_under_quarantine(&[quarantine(span)]).unwrap();
        let refused = env.run_cli(&["runs", "decide", "last", "backup", "redo"]);
        assert!(
            refused.code == 2 && refused.stderr.contains(&format!("may still take effect, {said}")),
            "{refused}"
        );
    }
    let decided = env.run_cli(&["runs", "decide", "last", "backup", "fail", "--anyway"]);
    assert_eq!(decided.code, 0, "{decided}");
    let shown = env.run_cli(&["runs", "show", "last"]);
    assert!(shown.stdout.contains(", with --anyway"), "{shown}");
    let left = env.run_cli(&["runs", "abandon", "last", "--leave"]);
    assert!(left.code == 0 && left.stderr.contains("asked for, which may still appear, until 20"), "{left}");
    assert_eq!(left.stderr.matches(unknown).count(), 1, "it is named once: {left}");

    // The run has ended: what stays of the call is its quarantine, and there is a way to end that.
    let records = |env: &CliEnv| env.run_cli(&["runs", "verify", "last", "-o", "json"]).stdout;
    let before = records(&env);
    for decision in [&["redo"][..], &["redo", "--anyway"], &["fail"]] {
        let refused = env.run_cli(&[&["runs", "decide", "last", "backup"], decision].concat());
        assert!(refused.code == 2 && !refused.stderr.contains("redrill resume"), "{refused}");
        let next = format!("redrill runs decide {run} '/backup::create#0' fail --anyway");
        assert!(refused.stderr.contains(&next), "{refused}");
    }
    let lifted = env.run_cli(&["runs", "decide", "last", "backup", "fail", "--anyway"]);
    assert!(lifted.code == 0 && lifted.stderr.contains("may still take effect, until 20"), "{lifted}");
    assert_eq!(journal.list_quarantines().unwrap(), []);
    assert_eq!(records(&env), before, "nothing else is recorded");
    let nothing = env.run_cli(&["runs", "decide", "last", "backup", "fail", "--anyway"]);
    assert!(nothing.code == 2 && nothing.stderr.contains("has ended"), "{nothing}");
    assert!(!nothing.stderr.contains("redrill resume"), "{nothing}");
}

#[test]
fn nobody_decides_about_a_failure_that_the_script_went_on_with() {
    let env = CliEnv::new();
    let fault = json!({"code": "REFUSED", "message": "no"});
    let (op, at) = ("backup::create".to_owned(), "r.rhai:1:1".to_owned());
    let end = Record::End { call: "/a#0".into(), op, args: json!({}), at, outcome: Outcome::Err(fault) };
    env.leave_run("0", vec![begin_record("/a#0"), end]);
    let refused = env.run_cli(&["runs", "decide", "last", "a#0", "redo"]);
    assert_eq!(refused.code, 2, "{refused}");
    assert!(refused.stderr.contains("no open call `a#0`"), "{refused}");
}

#[test]
fn the_command_that_is_printed_gives_one_approval_of_several() {
    let env = CliEnv::new();
    let approvals = (0..11).map(|n| format!("approve(\"gate {n}?\");")).collect::<Vec<_>>().join(" ");
    env.write_file(
        "r.rhai",
        &format!("const RUNBOOK = #{{ title: \"approvals\", params: #{{}}, needs: [] }};\nparallel([|| {{ {approvals} 1 }}, || {{ approve(\"other?\"); 2 }}])"),
    );
    let mut done = env.run_cli(&["run", "r.rhai"]);
    for _ in 0..12 {
        assert_eq!(done.code, 3, "{done}");
        let next = done.stderr.lines().last().unwrap().replace('\'', "");
        let words: Vec<&str> = next.split(' ').skip(1).collect();
        done = env.run_cli(&words);
    }
    assert_eq!((done.code, done.stdout.trim()), (0, "1\n2"), "{done}");
}

#[test]
fn an_edited_runbook_that_handles_a_held_error_goes_on_to_its_end() {
    let env = CliEnv::new();
    let script =
        APPROVAL_RUNBOOK.replace("approve(\"empty the orders?\");", "").replace("order_items", "later");
    env.write_file("r.rhai", &script);
    assert_eq!(env.run_cli(&["run", "r.rhai", "--hold"]).code, 3);
    let handled = script.replace(
        "db::execute(db, \"delete from later\").rows_affected > 0",
        "attempt(|| db::execute(db, \"delete from later\")).ok",
    );
    assert_ne!(handled, script);
    env.write_file("r.rhai", &handled);
    let done = env.run_cli(&["resume", "last", "--edited"]);
    assert_eq!((done.code, done.stdout.trim(), count_backups(&env)), (0, "false", 2), "{done}");
    assert!(!env.run_cli(&["runs", "show", "last"]).stdout.contains("open  "), "nothing is open");
}

#[test]
fn what_an_approval_cuts_short_beside_it_is_said_to_go_on() {
    // The pause takes longer than any test, and the approval comes when the platform says that it has begun.
    let text = "title = \"a slow one\"\npause_duration = \"9000h\"\n".into();
    let worlds = vec![WorldFile { name: "slow".into(), text }];
    let options = ServerOptions { worlds, per_minute: 100_000, ..ServerOptions::default() };
    let server = FakeServer::start(options).unwrap();
    let env = CliEnv::new();
    write_shop_target(&env, &server, &server.url());
    env.write_file(
        "r.rhai",
        r#"const RUNBOOK = #{ title: "beside", params: #{}, needs: ["project.change"] };
        parallel([
            || {
                let looks = 0;
                while project::get("shop").status == "healthy" {
                    looks += 1;
                    if looks == 2000 { fail("the pause never began"); }
                    sleep("20ms");
                }
                approve("go on?");
            },
            || project::pause("shop", #{ timeout: "9000h" }),
        ])"#,
    );
    let waiting = env.run_cli(&["run", "r.rhai"]);
    assert_eq!(waiting.code, 3, "{waiting}");
    let said = "may go on in the world: project::pause (/parallel#0/1/project::pause#0)";
    assert!(waiting.stderr.contains(said), "{waiting}");
    assert!(!waiting.stderr.contains("may go on in the world: approve"), "{waiting}");
    let shown = env.run_cli(&["runs", "show", "last"]);
    assert!(shown.stdout.contains("open  project::pause  "), "{shown}");
}

#[test]
fn a_sleep_says_until_when() {
    let env = CliEnv::new();
    env.write_file(
        "r.rhai",
        "const RUNBOOK = #{ title: \"s\", params: #{}, needs: [] }; sleep(\"1s\"); sleep(\"2s\");",
    );
    let done = env.run_cli(&["run", "r.rhai"]);
    assert_eq!(done.stderr.matches("… sleeps until 20").count(), 1, "the first is shorter by now: {done}");
    let events = env.run_cli(&["run", "r.rhai", "-o", "json"]).parse_events();
    assert!(
        events.iter().any(|e| e["event"] == "sleeping" && e["until"].is_string() && e.get("clock").is_none()),
        "{events:?}"
    );
}

#[test]
fn a_run_that_is_ending_takes_no_edit_and_says_what_to_type() {
    let env = CliEnv::new();
    let script = "defer(|| { approve(\"clean up?\"); });\nbackup::create(params.db);";
    env.write_file("r.rhai", &sandbox_runbook("\"backup.create\"", script));
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3, "it waits in its clean-up");
    let id = env.list_runs()[0]["id"].as_str().unwrap().to_owned();
    let effects = env.sandbox_effects();
    let edited = "defer(|| { });\nbackup::create(params.db);\nbackup::create(params.db);";
    env.write_file("r.rhai", &sandbox_runbook("\"backup.create\"", edited));
    let refused = env.run_cli(&["resume", "last", "--edited"]);
    assert_eq!(refused.code, 5, "{refused}");
    assert!(
        refused.stderr.contains("the run is ending: its clean-up goes on as it was recorded"),
        "{refused}"
    );
    assert!(refused.stderr.ends_with(&format!("redrill resume {id}\n")), "{refused}");
    assert_eq!(env.list_runs()[0]["status"], "waiting");
    let done = env.run_cli(&["approve", &id, "--resume"]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(env.sandbox_effects(), effects, "the edit did nothing");
}

#[test]
fn a_sleep_by_a_worlds_clock_says_whose_time_it_is() {
    let env = CliEnv::new();
    let script = "sleep(\"2s\"); let n = [0]; wait_until(#{ every: \"10ms\" }, || { n[0] += 1; n[0] > 1 });";
    env.write_file("r.rhai", &sandbox_runbook("\"db.read\"", &format!("db::health(params.db); {script}")));
    let done = env.run_cli(&["run", "r.rhai"]);
    let lines: Vec<&str> = done.stderr.lines().filter(|line| line.contains("until 20")).collect();
    assert_eq!(lines.len(), 2, "{done}");
    assert!(lines[0].ends_with(" of sandbox's clock"), "{done}");
    assert!(lines[1].contains(" of sandbox's clock at most, and asks every"), "{done}");
    let events = env.run_cli(&["run", "r.rhai", "-o", "json"]).parse_events();
    assert!(events.iter().any(|e| e["event"] == "sleeping" && e["clock"] == "sandbox"), "{events:?}");
}

#[test]
fn what_was_approved_goes_on_after_the_name_was_forgotten() {
    let env = CliEnv::new();
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n");
    env.write_file("r.rhai", &APPROVAL_RUNBOOK.replace("\"sandbox\"", "\"p\""));
    assert_eq!(env.run_cli(&["run", "r.rhai", "--confirm", "p"]).code, 3);
    let refused = env.run_cli(&["approve", "last", "--resume"]);
    assert_eq!(refused.code, 6, "{refused}");
    let next = refused.stderr.lines().last().unwrap();
    assert!(refused.stderr.contains("nothing was decided"), "{refused}");
    assert!(next.starts_with("redrill approve ") && next.ends_with(" --resume --confirm p"), "{refused}");
    let words: Vec<&str> = next.split(' ').skip(1).collect();
    assert_eq!(env.run_cli(&words).code, 0);
}

#[test]
fn a_resume_that_asks_for_a_word_more_keeps_the_others() {
    let env = CliEnv::new();
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n");
    env.write_file("r.rhai", &APPROVAL_RUNBOOK.replace("\"sandbox\"", "\"p\""));
    assert_eq!(env.run_cli(&["run", "r.rhai", "--confirm", "p"]).code, 3);
    let refused = env.run_cli(&["resume", "last", "--edited", "--hold"]);
    let next = refused.stderr.lines().last().unwrap();
    assert!(next.ends_with(" --edited --hold --confirm p"), "{refused}");
}

#[test]
fn an_ended_run_shows_its_error_as_when_it_ended() {
    let env = CliEnv::new();
    env.write_file("r.rhai", "const RUNBOOK = #{ title: \"f\", params: #{}, needs: [] };\nfail(\"no\");");
    let ended = env.run_cli(&["run", "r.rhai", "-o", "json"]);
    let again = env.run_cli(&["resume", "last", "-o", "json"]);
    let error = |done: &crate::env::CommandOutput| done.parse_events().last().unwrap()["error"].clone();
    assert_eq!(error(&ended)["message"], "no");
    let (ended, again) = (error(&ended), error(&again));
    assert_eq!((&ended["message"], &ended["place"]), (&again["message"], &again["place"]));
}

#[test]
fn an_approval_is_of_the_text_that_asked_for_it() {
    let env = CliEnv::new();
    env.write_file("r.rhai", APPROVAL_RUNBOOK);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    assert_eq!(env.run_cli(&["approve", "last"]).code, 0);
    env.write_file(
        "r.rhai",
        &APPROVAL_RUNBOOK.replace("delete from order_items", "delete from order_items where 1 = 1"),
    );
    let void = env.run_cli(&["resume", "last", "--edited"]);
    assert!(void.code == 3 && void.stderr.contains("what was decided before is void"), "{void}");
    assert_eq!(env.run_cli(&["resume", "last"]).code, 3, "nobody has approved of the edited text");
    let done = env.run_cli(&["approve", "last", "--resume"]);
    assert_eq!(done.code, 0, "the edited text is approved: {done}");
}
