//! Runs as a person sees them: their text and JSON, interrupted, decided about, given up.

use crate::env::{CliEnv, CommandOutput, interrupt_child, sandbox_runbook, snapshot};
use std::process::Child;

#[test]
fn the_whole_of_a_run_as_text() {
    let env = CliEnv::new();
    let script = "let b = step(\"back up\", || backup::create(params.db, #{ label: \"x\" }));\nnote(`made ${b.label}`);\n\
        metric(\"rows\", 3, \"rows\");\n#{ b: 1, a: \"text\" }";
    env.write_file("r.rhai", &sandbox_runbook("\"backup.create\"", script));
    snapshot!(env.run_cli(&["run", "r.rhai"]), @"
    exit 0
    ---- stdout
    a  text
    b  1
    ---- stderr
    Test  run [run]
    ▸ back up
      ✓ backup::create sandbox  [time]
    ✓ back up  [time]
    • made x
    • rows: 3 rows
    succeeded  run [run]  head [head]
    ");
    env.write_file(
        "r.rhai",
        &sandbox_runbook("\"backup.create\"", "step(\"look\", || ensure(1 > 2, \"one is not more\"));"),
    );
    snapshot!(env.run_cli(&["run", "r.rhai"]), @r#"
    exit 1
    ---- stdout
    ---- stderr
    Test  run [run]
    ▸ look
    ✗ look  [time]
    error: one is not more
      --> [folder]/r.rhai:11:17
       |
    11 | step("look", || ensure(1 > 2, "one is not more"));
       |                 ^
      ENSURE
    failed  run [run]  head [head]
    redrill runs show [run]
    "#);
    snapshot!(env.run_cli(&["resume", "last"]), @"
    exit 1
    ---- stdout
    ---- stderr
    the run [run] failed at [moment]: there is nothing to resume
    redrill runs show [run]
    ");
    snapshot!(env.run_cli(&["runs", "abandon", "last"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: the run `[run]` has ended as failed
    redrill runs show [run]
    ");
}

#[test]
fn the_whole_of_a_run_as_json() {
    let env = CliEnv::new();
    env.write_file("r.rhai", &sandbox_runbook("\"backup.create\"", "backup::create(params.db); [1, \"a\"]"));
    let done = env.run_cli(&["run", "r.rhai", "-o", "json"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done}");
    let events = done.parse_events();
    let names: Vec<_> =
        events.iter().map(|e| e["event"].as_str().unwrap()).filter(|e| *e != "call.progress").collect();
    assert_eq!(names, ["run.started", "call.started", "call.finished", "run.finished"]);
    let last = events.last().unwrap();
    assert_eq!(last["run"], events[0]["run"]);
    assert_eq!(last["status"], "succeeded");
    assert_eq!(last["value"], serde_json::json!([1, "a"]));
    assert_eq!(last["left_behind"], serde_json::json!([]));
    let runs = env.list_runs();
    assert_eq!(runs[0]["id"], last["run"]);
    assert_eq!(runs[0]["calls"], 1);
    let shown = env.run_cli(&["runs", "show", "last", "-o", "json"]).parse_json();
    assert_eq!(shown["records"].as_array().unwrap().last().unwrap()["hash"], last["head"]);
}

#[test]
fn a_head_is_verified() {
    let env = CliEnv::new();
    let done = env.run_cli(&["backup", "create", "-t", "sandbox", "-o", "json"]);
    let head = done.stderr.trim().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(env.run_cli(&["runs", "verify", "last", "--head", &head]).code, 0);
    assert_eq!(env.run_cli(&["runs", "verify", "last", "--head", "0123456789abcdef"]).code, 1);
    assert_eq!(env.run_cli(&["runs", "verify", "last", "--head", "01"]).code, 1);
    assert_eq!(env.run_cli(&["runs", "verify", "nothing"]).code, 2);
}

#[test]
fn data_comes_in_every_format() {
    let env = CliEnv::new();
    let query = [
        "db",
        "query",
        "-t",
        "sandbox",
        "select 2 as b, 'x,y' as a union all select 3, null order by 1",
        "-o",
    ];
    let written = |format| env.run_cli(&[&query[..], &[format]].concat());
    snapshot!(written("table"), @"
    exit 0
    ---- stdout
    b  a
    2  x,y
    3
    ---- stderr
    ");
    snapshot!(written("json"), @r#"
    exit 0
    ---- stdout
    [{"a":"x,y","b":2},{"a":null,"b":3}]
    ---- stderr
    "#);
    snapshot!(written("yaml"), @"
    exit 0
    ---- stdout
    - a: x,y
      b: 2
    - a: null
      b: 3
    ---- stderr
    ");
    snapshot!(written("csv"), @r#"
    exit 0
    ---- stdout
    b,a
    2,"x,y"
    3,
    ---- stderr
    "#);
    snapshot!(env.run_cli(&["branch", "list", "-t", "sandbox"]), @"
    exit 0
    ---- stdout
    ---- stderr
    there are none
    ");
    snapshot!(env.run_cli(&["branch", "list", "-t", "sandbox", "-o", "json"]), @"
    exit 0
    ---- stdout
    []
    ---- stderr
    ");
}

/// A runbook that makes a backup, waits for `seconds`, and changes a row.
fn write_sleeper(env: &CliEnv, seconds: u32) {
    let script = format!(
        "step(\"one\", || backup::create(params.db));\nsleep(\"{seconds}s\");\n\
         step(\"two\", || db::execute(params.db, \"update customers set name = 'x' where id = 1\"));"
    );
    env.write_file("r.rhai", &sandbox_runbook("\"backup.create\", \"db.destroy\"", &script));
}

/// Starts the sleeper and returns it while it sleeps.
fn start_sleeper(env: &CliEnv, seconds: u32) -> Child {
    write_sleeper(env, seconds);
    env.start_until_calls(&["run", "r.rhai"], 2)
}

#[test]
fn an_interrupted_run_says_how_to_go_on_and_goes_on() {
    let env = CliEnv::new();
    let child = start_sleeper(&env, 5);
    interrupt_child(&child);
    snapshot!(CommandOutput::from(child.wait_with_output().unwrap()), @"
    exit 130
    ---- stdout
    ---- stderr
    Test  run [run]
    ▸ one
      ✓ backup::create sandbox  [time]
    ✓ one  [time]
    error: interrupted
    interrupted  run [run]  head [head]
    redrill resume [run]
    ");
    snapshot!(env.run_cli(&["resume", "last"]), @"
    exit 0
    ---- stdout
    rows_affected  1
    ---- stderr
    Test  run [run], last record [time] old
    ▸ one
      · backup::create (done before)
    ✓ one  [time]
    ▸ two
      ✓ db::execute sandbox  [time]
    ✓ two  [time]
    succeeded  run [run]  head [head]
    ");
    snapshot!(env.run_cli(&["resume", "last"]), @"
    exit 0
    ---- stdout
    ---- stderr
    the run [run] succeeded at [moment]: there is nothing to resume
    ");
}

#[test]
fn a_run_that_a_process_moves_is_left_alone_and_so_is_its_target() {
    let env = CliEnv::new();
    let child = start_sleeper(&env, 60);
    let second = env.run_cli(&["resume", "last"]);
    assert_eq!(second.code, 2, "{second}");
    assert!(
        second.stderr.contains("is held by process") && second.stderr.contains("nothing was done"),
        "{second}"
    );
    let rival =
        env.run_cli(&["db", "execute", "-t", "sandbox", "delete from order_items where order_id = 1"]);
    assert_eq!(rival.code, 6, "{rival}");
    assert!(rival.stderr.contains("`sandbox` is in use by the run"), "{rival}");
    interrupt_child(&child);
    assert_eq!(CommandOutput::from(child.wait_with_output().unwrap()).code, 130);
}

#[test]
fn an_interrupted_run_ends_with_a_line_of_json() {
    let env = CliEnv::new();
    write_sleeper(&env, 60);
    let child = env.start_until_calls(&["run", "r.rhai", "-o", "json"], 2);
    interrupt_child(&child);
    let done = CommandOutput::from(child.wait_with_output().unwrap());
    assert_eq!(done.code, 130, "{done}");
    let last = done.parse_events().pop().unwrap();
    assert_eq!((&last["event"], &last["reason"]), (&"run.stopped".into(), &"interrupted".into()));
    assert_eq!(last["resume"], format!("redrill resume {}", last["run"].as_str().unwrap()));
}

#[test]
fn a_run_that_was_given_up_begins_nothing() {
    let env = CliEnv::new();
    let child = start_sleeper(&env, 600);
    interrupt_child(&child);
    child.wait_with_output().unwrap();
    let done = env.run_cli(&["runs", "abandon", "last"]);
    assert_eq!(done.code, 0, "{done}");
    let runs = env.list_runs();
    assert_eq!(runs[0]["status"], "abandoned");
    let name = ["db", "query", "-t", "sandbox", "select name from customers where id = 1", "-o", "json"];
    assert_eq!(env.run_cli(&name).parse_json()[0]["name"], "Customer 1");
}

#[test]
fn a_target_that_is_another_one_now_is_a_mismatch() {
    let env = CliEnv::new();
    let child = start_sleeper(&env, 10);
    interrupt_child(&child);
    child.wait_with_output().unwrap();
    std::fs::remove_dir_all(env.path(".redrill/worlds")).unwrap();
    let done = env.run_cli(&["resume", "last"]);
    assert_eq!(done.code, 5, "{done}");
    assert!(done.stderr.contains("is not the one that the run began with"), "{done}");
    assert_eq!(env.list_runs()[0]["status"], "interrupted");
}

#[test]
fn a_person_decides_about_a_call_that_failed() {
    let env = CliEnv::new();
    let script = "db::execute(params.db, \"delete from nowhere\").rows_affected";
    env.write_file("r.rhai", &sandbox_runbook("\"db.destroy\"", script));
    assert_eq!(env.run_cli(&["run", "r.rhai", "--hold"]).code, 3);
    snapshot!(env.run_cli(&["runs", "decide", "last", "backup", "redo"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: the run `[run]` has no open call `backup`; nothing was decided
    hint: open are '/db::execute#0'
    redrill runs show [run]
    ");
    snapshot!(env.run_cli(&["runs", "decide", "last", "execute", "done"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: `done` does not say what the call came to
    hint: add `--id` with the id of what it made, or `--result` with what it gave back
    ");
    snapshot!(env.run_cli(&["runs", "decide", "last", "execute", "done", "--result", "{\"rows\": 7}"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: `--result` has `rows`, which `db::execute` does not give back
    hint: `db::execute` gives back rows_affected
    ");
    snapshot!(env.run_cli(&["runs", "decide", "last", "execute", "done", "--result", "{\"rows_affected\": 7}"]), @"
    exit 0
    ---- stdout
    ---- stderr
    decided about db::execute (/db::execute#0); the run goes on with
    redrill resume [run]
    ");
    let done = env.run_cli(&["resume", "last"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "7\n"), "{done}");
    assert_eq!(env.run_cli(&["runs", "decide", "last", "execute", "redo"]).code, 2);
    assert_eq!(env.run_cli(&["runs", "verify", "last"]).code, 0);
}

#[test]
fn an_answer_that_is_not_well_is_no_success() {
    let env = CliEnv::new();
    env.write_file("redrill.toml", "[targets.hurt]\nprovider = \"sim\"\nworld = \"hurt.toml\"\n");
    let world = "title = \"hurt\"\nretention = \"7d\"\n[[history]]\nat = \"-2d\"\nsql = \"create table t (id integer primary key)\"\n\
        [[backups]]\nid = \"b\"\nat = \"-1d\"\ndamaged = true\n";
    env.write_file("hurt.toml", world);
    let done = env.run_cli(&["backup", "verify", "-t", "hurt", "b"]);
    assert_eq!(done.code, 1, "{done}");
    assert!(done.stdout.contains("false"), "{done}");
    assert_eq!(env.run_cli(&["db", "health", "-t", "hurt"]).code, 0);
}

#[test]
fn a_run_whose_target_is_another_one_now_can_be_left() {
    let env = CliEnv::new();
    let child = start_sleeper(&env, 10);
    interrupt_child(&child);
    child.wait_with_output().unwrap();
    std::fs::remove_dir_all(env.path(".redrill/worlds")).unwrap();
    let done = env.run_cli(&["runs", "abandon", "last", "--leave"]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(env.list_runs()[0]["status"], "abandoned");
    assert_eq!(env.run_cli(&["runs", "verify", "last"]).code, 0);
    assert_eq!(env.run_cli(&["runs", "abandon", "last", "--leave"]).code, 2);
}

#[test]
fn a_command_that_fails_has_its_error_as_json_where_its_result_would_be() {
    let env = CliEnv::new();
    let failed = env.run_cli(&["db", "execute", "-t", "sandbox", "nonsense", "-o", "json"]);
    assert_eq!(failed.code, 1, "{failed}");
    let said = failed.parse_json();
    assert_eq!((&said["event"], &said["status"]), (&"run.finished".into(), &"failed".into()));
    assert_eq!((&said["error"]["code"], &said["error"]["side_effects"]), (&"SQL".into(), &"none".into()));
    let refused =
        env.run_cli(&["db", "execute", "-t", "sandbox", "commit", "--confirm", "nothing", "-o", "json"]);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.parse_json()["event"].is_string(), "{refused}");
}

#[test]
fn a_run_that_is_left_names_what_it_leaves() {
    let env = CliEnv::new();
    let script = r#"const RUNBOOK = #{ title: "t", params: #{ db: #{ type: "target", preset: "sandbox" } },
        needs: ["branch.create", "branch.destroy"] };
    branch::create(params.db, #{ into: "gone" });
    branch::delete(params.db, "gone");
    branch::create(params.db, #{ into: "copy", temporary: true });
    defer(|| note("the end"));
    sleep("10m");
    "#;
    env.write_file("r.rhai", script);
    let child = env.start_until_calls(&["run", "r.rhai"], 4);
    interrupt_child(&child);
    child.wait_with_output().unwrap();
    let done = env.run_cli(&["runs", "abandon", "last", "--leave"]);
    let says = "given up; left behind: branch sandbox/copy, what `defer(||note(\"the end\"))` would have undone (/defer#0)";
    assert!(done.code == 0 && done.stderr.contains(says), "{done}");
    let left = &env.list_runs()[0]["left_behind"];
    assert_eq!(left[0], "branch sandbox/copy", "{left}");
}

/// The memory of a whole process is measured, so this runs in processes of its own.
#[test]
fn a_script_that_takes_all_memory_is_stopped() {
    let env = CliEnv::new();
    let many = "let big = \"\"; big.pad(1000000, 'x'); let list = []; loop { list.push(big + list.len()); }";
    for script in ["let s = \"x\"; loop { s += s; }", many] {
        env.write_file("r.rhai", &sandbox_runbook("", script));
        let said = env.run_cli(&["run", "r.rhai"]).to_string();
        assert!(said.contains("exit 1") && said.contains("takes more than 1024 MiB of memory"), "{said}");
    }
}

#[test]
fn clean_up_that_failed_is_told_with_all_that_is_known_of_it() {
    let env = CliEnv::new();
    let script =
        "let db = params.db; defer(|| backup::get(db, \"nope\")); ensure(params.keep, \"the cause\");";
    env.write_file("r.rhai", &sandbox_runbook("\"backup.read\"", script));
    for (args, has_cause) in [(&["run", "r.rhai"][..], true), (&["run", "r.rhai", "-p", "keep=true"], false)]
    {
        let failed = env.run_cli(args);
        let shown = env.run_cli(&["runs", "show", "last"]);
        assert_eq!(failed.code, 1, "{failed}");
        for told in [&failed.stderr, &shown.stdout] {
            for said in [
                "clean-up failed: ",
                "/r.rhai:",
                "NOT_FOUND · backup::get on sandbox",
                "left behind: ",
                "hint: ",
            ] {
                assert!(told.contains(said), "{said}: {told}");
            }
            assert_eq!(told.contains("the cause"), has_cause, "{told}");
        }
        let ended = env.run_cli(&["resume", "last", "-o", "json"]).parse_json();
        let live = env.run_cli(&[args, &["-o", "json"]].concat());
        let live = live.parse_events().pop().unwrap();
        for event in [&live, &ended] {
            let error = &event["cleanup_errors"][0];
            assert_eq!(
                (&error["code"], &error["side_effects"]),
                (&"NOT_FOUND".into(), &"none".into()),
                "{event}"
            );
            assert!(error["hint"].is_string() && error["left_behind"][0].is_string(), "{event}");
            assert_eq!(event["cleanup"][0], error["message"], "{event}");
            assert_eq!(event["error"].is_null(), !has_cause, "{event}");
        }
        let recorded = env.run_cli(&["runs", "show", "last", "-o", "json"]).parse_json();
        assert_eq!(recorded["error"]["cleanup_errors"][0]["fault"]["code"], "NOT_FOUND", "{recorded}");
    }
}
