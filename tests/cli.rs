//! Wrong usage: the exit code, the message, and that nothing was done.

use crate::stage::{CliEnv, CommandOutput, snapshot};
use std::{
    process::Child,
    time::{Duration, Instant},
};

/// A runbook over the sandbox whose script is `script`.
fn runbook_text(needs: &str, script: &str) -> String {
    format!(
        "const RUNBOOK = #{{\n    title: \"Test\",\n    params: #{{\n        db: #{{ type: \"target\", preset: \"sandbox\", \
         help: \"the database\" }},\n        keep: #{{ type: \"bool\", preset: false, help: \"keep it\" }},\n        \
         since: #{{ type: \"time\", preset: \"2026-11-20T03:00:00Z\", help: \"since when\" }},\n        \
         token: #{{ type: \"secret\", preset: \"env:TOKEN\", help: \"a token\" }},\n    }},\n    needs: [{needs}],\n}};\n{script}\n"
    )
}

/// Makes sure that there is no run, and that no world was made.
fn assert_nothing_done(stage: &CliEnv) {
    assert_eq!(stage.run_cli(&["runs", "list", "-o", "json"]).parse_json(), serde_json::json!([]));
}

fn run_refused(script: &str, args: &[&str]) -> CommandOutput {
    let stage = CliEnv::new();
    stage.write_file("r.rhai", &runbook_text("\"backup.create\"", script));
    let done = stage.run_cli(&[&["run", "r.rhai"], args].concat());
    assert_nothing_done(&stage);
    done
}

const GOOD_SCRIPT: &str = "backup::create(params.db);";

#[test]
fn an_unknown_parameter_is_refused() {
    snapshot!(run_refused(GOOD_SCRIPT, &["-p", "kep=true"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: r.rhai has no parameter `kep`
      nothing was done
    hint: did you mean `keep`?
    ");
}

#[test]
fn a_parameter_of_the_wrong_type_is_refused() {
    snapshot!(run_refused(GOOD_SCRIPT, &["-p", "keep=perhaps"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: the parameter `keep`: expected bool, found `perhaps`
      nothing was done
    hint: write `true` or `false`
    ");
}

#[test]
fn a_naive_time_is_refused() {
    snapshot!(run_refused(GOOD_SCRIPT, &["-p", "since=2026-11-20T03:00:00"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: the parameter `since`: `2026-11-20T03:00:00` has no time zone
      nothing was done
    hint: write the zone: `[moment]` for UTC, or an offset such as `+02:00`
    ");
}

#[test]
fn a_secret_by_value_is_refused_and_not_repeated() {
    let done = run_refused(GOOD_SCRIPT, &["-p", "token=hunter2"]);
    assert!(!done.to_string().contains("hunter2"), "{done}");
    snapshot!(done, @"
    exit 2
    ---- stdout
    ---- stderr
    error: the parameter `token`: a secret is given as a reference, never as its value
      nothing was done
    hint: write `env:NAME` or `file:PATH`
    ");
}

#[test]
fn an_unknown_target_is_refused() {
    snapshot!(run_refused(GOOD_SCRIPT, &["-p", "db=sandbix"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: the parameter `db`: there is no target `sandbix`
      nothing was done
    hint: did you mean `sandbox`?
    ");
}

#[test]
fn a_lab_that_is_not_up_is_refused_with_how_to_bring_it_up() {
    snapshot!(run_refused(GOOD_SCRIPT, &["-p", "db=lab"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: the parameter `db`: there is no target `lab`
      nothing was done
    hint: bring the lab up with `redrill lab up`
    ");
}

#[test]
fn an_unknown_operation_is_refused() {
    snapshot!(run_refused("let x = 1;\nbackup::crate(params.db);", &[]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: there is no operation `backup::crate`
      --> r.rhai:12:9
       |
    12 | backup::crate(params.db);
       |         ^
      nothing was done
    hint: did you mean `backup::create`?
    redrill check r.rhai
    ");
}

#[test]
fn an_unknown_option_is_refused() {
    snapshot!(run_refused("backup::create(params.db, #{ lable: \"x\" });", &[]), @r#"
    exit 2
    ---- stdout
    ---- stderr
    error: `backup::create` has no option `lable`
      --> r.rhai:11:9
       |
    11 | backup::create(params.db, #{ lable: "x" });
       |         ^
      nothing was done
    hint: did you mean `label`?
    redrill check r.rhai
    "#);
}

#[test]
fn a_missing_right_is_refused_by_policy() {
    snapshot!(run_refused("backup::create(params.db);\ndb::execute(params.db, \"delete from orders\");", &[]), @r#"
    exit 6
    ---- stdout
    ---- stderr
    error: `db::execute` needs `db.destroy`, and `needs` does not have it
      --> r.rhai:12:5
       |
    12 | db::execute(params.db, "delete from orders");
       |     ^
      nothing was done
    hint: add "db.destroy" to `needs` in the header
    redrill check r.rhai
    "#);
}

#[test]
fn a_script_that_does_not_parse_is_refused() {
    snapshot!(run_refused("let x = ;", &[]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: Unexpected ';'
      --> r.rhai:11:9
       |
    11 | let x = ;
       |         ^
      nothing was done
    redrill check r.rhai
    ");
}

#[test]
fn a_runbook_that_is_not_there_is_refused() {
    let stage = CliEnv::new();
    snapshot!(stage.run_cli(&["run", "nowhere.rhai"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: the runbook nowhere.rhai cannot be read: No such file or directory (os error 2)
      nothing was done
    hint: name a `.rhai` file; those that come with redrill are in `runbooks/`
    ");
}

#[test]
fn a_refusal_is_one_line_of_json_too() {
    let done = run_refused(GOOD_SCRIPT, &["-p", "keep=perhaps", "-o", "json"]);
    assert_eq!(done.code, 2, "{done}");
    let events = done.parse_events();
    assert_eq!(events.len(), 1, "{done}");
    assert_eq!(events[0]["event"], "run.refused");
    assert_eq!(events[0]["exit"], 2);
    assert_eq!(events[0]["error"]["message"], "the parameter `keep`: expected bool, found `perhaps`");
}

#[test]
fn check_shows_every_finding_and_warnings_do_not_fail() {
    let stage = CliEnv::new();
    stage.write_file("warned.rhai", &runbook_text("\"backup.create\", \"db.read\"", GOOD_SCRIPT));
    stage.write_file(
        "wrong.rhai",
        &runbook_text("\"backup.create\"", "backup::crate(params.db);\nbackup::create(params.bd);"),
    );
    snapshot!(stage.run_cli(&["check", "warned.rhai"]), @"
    exit 0
    ---- stdout
    ---- stderr
    warning: `db.read` in `needs` is never used
     --> warned.rhai
    hint: take it out

    1 runbook checked: 0 errors, 1 warning
    ");
    snapshot!(stage.run_cli(&["check", "warned.rhai", "wrong.rhai"]), @"
    exit 2
    ---- stdout
    ---- stderr
    warning: `db.read` in `needs` is never used
     --> warned.rhai
    hint: take it out

    error: there is no operation `backup::crate`
      --> wrong.rhai:11:9
       |
    11 | backup::crate(params.db);
       |         ^
    hint: did you mean `backup::create`?

    error: the header has no parameter `bd`
      --> wrong.rhai:12:23
       |
    12 | backup::create(params.bd);
       |                       ^
    hint: did you mean `db`?

    2 runbooks checked: 2 errors, 1 warning
    ");
    let found = stage.run_cli(&["check", "wrong.rhai", "-o", "json"]).parse_json();
    assert_eq!(found[0]["severity"], "error", "{found}");
    assert_eq!(found[0]["place"]["line"], 11, "{found}");
    assert_nothing_done(&stage);
}

#[test]
fn an_operation_wants_its_target_and_what_else_it_needs() {
    let stage = CliEnv::new();
    snapshot!(stage.run_cli(&["backup", "list"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: no target was given
    hint: name one: `-t sandbox`
    ");
    snapshot!(stage.run_cli(&["backup", "lsit", "-t", "sandbox"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: unrecognized subcommand 'lsit'

      tip: a similar subcommand exists: 'list'

    Usage: redrill backup [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    snapshot!(stage.run_cli(&["backup", "create", "-t", "sandbix"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: there is no target `sandbix`
    hint: did you mean `sandbox`?
    redrill targets list
    ");
    snapshot!(stage.run_cli(&["branch", "create", "-t", "sandbox", "--into", "x", "--temporary"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: `--temporary` makes no sense here: the run ends with this command, and the branch with it
    hint: leave it out, and remove the branch with `redrill branch delete` when you are done
    ");
    snapshot!(stage.run_cli(&["backup", "pitr", "restore", "-t", "sandbox", "--to", "time=2026-11-20T03:00:00"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: `to` of `backup pitr restore`: `2026-11-20T03:00:00` has no time zone
    hint: write the zone: `[moment]` for UTC, or an offset such as `+02:00`
    ");
    snapshot!(stage.run_cli(&["backup", "pitr", "restore", "-t", "sandbox", "--to", "tiem=1"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: `to` of `backup pitr restore`: a recovery point has no `tiem`
    hint: did you mean `time`?
    ");
    assert_nothing_done(&stage);
}

#[test]
fn a_time_outside_of_the_window_fails_and_changes_nothing() {
    let stage = CliEnv::new();
    let restore =
        ["backup", "pitr", "restore", "-t", "sandbox", "--into", "x", "--to", "time=2020-01-01T00:00:00Z"];
    let done = stage.run_cli(&restore);
    assert_eq!(done.code, 1, "{done}");
    for said in ["TARGET_BEFORE_WINDOW", "nothing was changed", "the window goes from", "redrill runs show"] {
        assert!(done.stderr.contains(said), "{said}\n{done}");
    }
    assert_eq!(
        stage.run_cli(&["branch", "list", "-t", "sandbox", "-o", "json"]).parse_json(),
        serde_json::json!([])
    );
}

#[test]
fn an_unknown_key_in_the_configuration_is_refused() {
    let stage = CliEnv::new();
    stage.write_file("redrill.toml", "[target.shop]\nprovider = \"sim\"\n");
    snapshot!(stage.run_cli(&["targets", "list"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: [folder]/redrill.toml: TOML parse error at line 1, column 2
      |
    1 | [target.shop]
      |  ^^^^^^
    unknown field `target`, expected `targets`
    hint: did you mean `targets`?
    ");
    stage.write_file("redrill.toml", "[targets.shop]\nprovider = \"postgres\"\ndat_dir = \"/nowhere\"\n");
    snapshot!(stage.run_cli(&["backup", "list", "-t", "shop"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: the settings of target `shop`: unknown field `dat_dir`, expected one of `data_dir`, `host`, `port`, `user`, `database`, `password`, `backup_dir`, `archive_dir`, `engine`, `bin_dir`
      INVALID
    hint: did you mean `data_dir`?
    ");
    stage.write_file("redrill.toml", "[targets.shop]\nprovider = \"sym\"\n");
    snapshot!(stage.run_cli(&["backup", "create", "-t", "shop"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: target `shop` wants the provider `sym`
      INVALID
      nothing was done
    hint: did you mean `sim`?
    redrill targets check
    ");
    assert_nothing_done(&stage);
}

#[test]
fn an_unknown_key_in_a_world_is_refused() {
    let stage = CliEnv::new();
    stage.write_file("redrill.toml", "[targets.shop]\nprovider = \"sim\"\nworld = \"shop.toml\"\n");
    stage.write_file("shop.toml", "tilte = \"a shop\"\n");
    let done = stage.run_cli(&["backup", "create", "-t", "shop"]);
    assert_eq!(done.code, 2, "{done}");
    assert!(done.stderr.contains("`tilte`") && done.stderr.contains("shop.toml"), "{done}");
    assert_nothing_done(&stage);
}

#[test]
fn a_state_folder_that_cannot_be_written_is_refused() {
    let stage = CliEnv::new();
    stage.write_file("file", "");
    snapshot!(stage.run_cli(&["--state", "file/state", "backup", "create", "-t", "sandbox"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: the world of `sandbox` cannot be made in [folder]/file/state/worlds: Not a directory (os error 20)
      UNAVAILABLE
      nothing was done
    hint: choose another state folder with `--state`
    redrill targets check
    ");
}

#[test]
fn a_journal_of_a_newer_version_is_refused() {
    let stage = CliEnv::new();
    assert_eq!(stage.run_cli(&["backup", "create", "-t", "sandbox"]).code, 0);
    let db = rusqlite::Connection::open(stage.path(".redrill/journal.db")).unwrap();
    db.pragma_update(None, "user_version", 999).unwrap();
    drop(db);
    snapshot!(stage.run_cli(&["runs", "list"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: `[folder]/.redrill/journal.db` has schema version 999, and this redrill knows versions up to 2
    hint: use the newer redrill, or another folder with `--state`; nothing was changed
    ");
    let done = stage.run_cli(&["backup", "create", "-t", "sandbox"]);
    assert_eq!(done.code, 2, "{done}");
}

#[test]
fn a_protected_target_wants_its_name() {
    let stage = CliEnv::new();
    stage.write_file(
        "redrill.toml",
        "[targets.prod]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n",
    );
    snapshot!(stage.run_cli(&["db", "execute", "-t", "prod", "delete from orders where id = 1"]), @"
    exit 6
    ---- stdout
    ---- stderr
    error: the target `prod` is protected, and this may change it
      nothing was done
    hint: name it: `--confirm prod`
    redrill db execute -t prod 'delete from orders where id = 1' --confirm prod
    ");
    assert_nothing_done(&stage);
    let wrong = ["db", "execute", "-t", "prod", "delete from orders where id = 1", "--confirm", "sandbox"];
    assert_eq!(stage.run_cli(&wrong).code, 6);
    // A backup changes nothing that is there.
    assert_eq!(stage.run_cli(&["backup", "create", "-t", "prod"]).code, 0);
    let named = ["db", "execute", "-t", "prod", "delete from orders where id = 1", "--confirm", "prod"];
    snapshot!(stage.run_cli(&named), @"
    exit 1
    ---- stdout
    ---- stderr
    db execute  run [run]
    ✗ db::execute prod  [time]  the database refused the statement: FOREIGN KEY constraint failed
    error: the database refused the statement: FOREIGN KEY constraint failed
      SQL · db::execute on prod · nothing was changed by it
    failed  run [run]  head [head]
    redrill runs show [run]
    ");
}

#[test]
fn the_whole_of_a_run_as_text() {
    let stage = CliEnv::new();
    let script = "let b = step(\"back up\", || backup::create(params.db, #{ label: \"x\" }));\nnote(`made ${b.label}`);\n\
        metric(\"rows\", 3, \"rows\");\n#{ b: 1, a: \"text\" }";
    stage.write_file("r.rhai", &runbook_text("\"backup.create\"", script));
    snapshot!(stage.run_cli(&["run", "r.rhai"]), @"
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
    stage.write_file(
        "r.rhai",
        &runbook_text("\"backup.create\"", "step(\"look\", || ensure(1 > 2, \"one is not more\"));"),
    );
    snapshot!(stage.run_cli(&["run", "r.rhai"]), @r#"
    exit 1
    ---- stdout
    ---- stderr
    Test  run [run]
    ▸ look
    ✗ look  [time]
    error: one is not more
      --> r.rhai:11:17
       |
    11 | step("look", || ensure(1 > 2, "one is not more"));
       |                 ^
      ENSURE
    failed  run [run]  head [head]
    redrill runs show [run]
    "#);
    snapshot!(stage.run_cli(&["resume", "last"]), @"
    exit 1
    ---- stdout
    ---- stderr
    the run [run] failed at [moment]: there is nothing to resume
    redrill runs show [run]
    ");
    snapshot!(stage.run_cli(&["runs", "abandon", "last"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: the run `[run]` has ended as failed
    redrill runs show [run]
    ");
}

#[test]
fn the_whole_of_a_run_as_json() {
    let stage = CliEnv::new();
    stage.write_file("r.rhai", &runbook_text("\"backup.create\"", "backup::create(params.db); [1, \"a\"]"));
    let done = stage.run_cli(&["run", "r.rhai", "-o", "json"]);
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
    let runs = stage.run_cli(&["runs", "list", "-o", "json"]).parse_json();
    assert_eq!(runs[0]["id"], last["run"]);
    assert_eq!(runs[0]["calls"], 1);
    let shown = stage.run_cli(&["runs", "show", "last", "-o", "json"]).parse_json();
    assert_eq!(shown["records"].as_array().unwrap().last().unwrap()["hash"], last["head"]);
}

#[test]
fn a_head_is_verified() {
    let stage = CliEnv::new();
    let done = stage.run_cli(&["backup", "create", "-t", "sandbox", "-o", "json"]);
    let head = done.stderr.trim().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(stage.run_cli(&["runs", "verify", "last", "--head", &head]).code, 0);
    assert_eq!(stage.run_cli(&["runs", "verify", "last", "--head", "0123456789abcdef"]).code, 1);
    assert_eq!(stage.run_cli(&["runs", "verify", "last", "--head", "01"]).code, 1);
    assert_eq!(stage.run_cli(&["runs", "verify", "nothing"]).code, 2);
}

#[test]
fn data_comes_in_every_format() {
    let stage = CliEnv::new();
    let query = [
        "db",
        "query",
        "-t",
        "sandbox",
        "select 2 as b, 'x,y' as a union all select 3, null order by 1",
        "-o",
    ];
    let written = |format| stage.run_cli(&[&query[..], &[format]].concat());
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
    snapshot!(stage.run_cli(&["branch", "list", "-t", "sandbox"]), @"
    exit 0
    ---- stdout
    ---- stderr
    there are none
    ");
    snapshot!(stage.run_cli(&["branch", "list", "-t", "sandbox", "-o", "json"]), @"
    exit 0
    ---- stdout
    []
    ---- stderr
    ");
}

/// A runbook that makes a backup, waits for `seconds`, and changes a row.
fn write_sleeper(stage: &CliEnv, seconds: u32) {
    let script = format!(
        "step(\"one\", || backup::create(params.db));\nsleep(\"{seconds}s\");\n\
         step(\"two\", || db::execute(params.db, \"update customers set name = 'x' where id = 1\"));"
    );
    stage.write_file("r.rhai", &runbook_text("\"backup.create\", \"db.destroy\"", &script));
}

/// Starts the sleeper and returns it while it sleeps.
fn start_sleeper(stage: &CliEnv, seconds: u32) -> Child {
    write_sleeper(stage, seconds);
    let child = stage.start_cli(&["run", "r.rhai"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while stage.run_cli(&["runs", "list", "-o", "json"]).parse_json()[0]["calls"] != 2 {
        assert!(Instant::now() < deadline, "it does not fall asleep");
    }
    child
}

fn send_interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

#[test]
fn an_interrupted_run_says_how_to_go_on_and_goes_on() {
    let stage = CliEnv::new();
    let child = start_sleeper(&stage, 2);
    send_interrupt(&child);
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
    snapshot!(stage.run_cli(&["resume", "last"]), @"
    exit 0
    ---- stdout
    rows_affected  1
    ---- stderr
    Test  run [run], last record [time] ago
    ▸ one
      · backup::create (done before)
    ✓ one  [time]
    ▸ two
      ✓ db::execute sandbox  [time]
    ✓ two  [time]
    succeeded  run [run]  head [head]
    ");
    snapshot!(stage.run_cli(&["resume", "last"]), @"
    exit 0
    ---- stdout
    ---- stderr
    the run [run] succeeded at [moment]: there is nothing to resume
    ");
}

#[test]
fn a_run_that_a_process_moves_is_left_alone_and_so_is_its_target() {
    let stage = CliEnv::new();
    let child = start_sleeper(&stage, 60);
    let second = stage.run_cli(&["resume", "last"]);
    assert_eq!(second.code, 2, "{second}");
    assert!(
        second.stderr.contains("is held by process") && second.stderr.contains("nothing was done"),
        "{second}"
    );
    let rival =
        stage.run_cli(&["db", "execute", "-t", "sandbox", "delete from order_items where order_id = 1"]);
    assert_eq!(rival.code, 6, "{rival}");
    assert!(rival.stderr.contains("`sandbox` is in use by the run"), "{rival}");
    send_interrupt(&child);
    assert_eq!(CommandOutput::from(child.wait_with_output().unwrap()).code, 130);
}

#[test]
fn an_interrupted_run_ends_with_a_line_of_json() {
    let stage = CliEnv::new();
    write_sleeper(&stage, 60);
    let child = stage.start_cli(&["run", "r.rhai", "-o", "json"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while stage.run_cli(&["runs", "list", "-o", "json"]).parse_json()[0]["calls"] != 2 {
        assert!(Instant::now() < deadline, "it does not fall asleep");
    }
    send_interrupt(&child);
    let done = CommandOutput::from(child.wait_with_output().unwrap());
    assert_eq!(done.code, 130, "{done}");
    let last = done.parse_events().pop().unwrap();
    assert_eq!((&last["event"], &last["reason"]), (&"run.stopped".into(), &"interrupted".into()));
    assert_eq!(last["resume"], format!("redrill resume {}", last["run"].as_str().unwrap()));
}

#[test]
fn a_run_that_was_given_up_begins_nothing() {
    let stage = CliEnv::new();
    let child = start_sleeper(&stage, 1);
    send_interrupt(&child);
    child.wait_with_output().unwrap();
    let done = stage.run_cli(&["runs", "abandon", "last"]);
    assert_eq!(done.code, 0, "{done}");
    let runs = stage.run_cli(&["runs", "list", "-o", "json"]).parse_json();
    assert_eq!(runs[0]["status"], "abandoned");
    let name = ["db", "query", "-t", "sandbox", "select name from customers where id = 1", "-o", "json"];
    assert_eq!(stage.run_cli(&name).parse_json()[0]["name"], "Customer 1");
}

#[test]
fn a_target_that_is_another_one_now_is_a_mismatch() {
    let stage = CliEnv::new();
    let child = start_sleeper(&stage, 1);
    send_interrupt(&child);
    child.wait_with_output().unwrap();
    std::fs::remove_dir_all(stage.path(".redrill/worlds")).unwrap();
    let done = stage.run_cli(&["resume", "last"]);
    assert_eq!(done.code, 5, "{done}");
    assert!(done.stderr.contains("is not the one that the run began with"), "{done}");
    assert_eq!(stage.run_cli(&["runs", "list", "-o", "json"]).parse_json()[0]["status"], "interrupted");
}

#[test]
fn a_person_decides_about_a_call_that_failed() {
    let stage = CliEnv::new();
    let script = "db::execute(params.db, \"delete from nowhere\").rows_affected";
    stage.write_file("r.rhai", &runbook_text("\"db.destroy\"", script));
    assert_eq!(stage.run_cli(&["run", "r.rhai", "--hold"]).code, 3);
    snapshot!(stage.run_cli(&["runs", "decide", "last", "backup", "redo"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: the run `[run]` has no open call `backup`
    hint: open are '/db::execute#0'
    ");
    snapshot!(stage.run_cli(&["runs", "decide", "last", "execute", "done"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: `done` does not say what the call came to
    hint: add `--id` with the id of what it made, or `--result` with what it gave back
    ");
    snapshot!(stage.run_cli(&["runs", "decide", "last", "execute", "done", "--result", "{\"rows\": 7}"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: `--result` has `rows`, which `db::execute` does not give back
    hint: `db::execute` gives back rows_affected
    ");
    snapshot!(stage.run_cli(&["runs", "decide", "last", "execute", "done", "--result", "{\"rows_affected\": 7}"]), @"
    exit 0
    ---- stdout
    ---- stderr
    decided about db::execute (/db::execute#0); the run goes on with
    redrill resume [run]
    ");
    let done = stage.run_cli(&["resume", "last"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "7\n"), "{done}");
    assert_eq!(stage.run_cli(&["runs", "decide", "last", "execute", "redo"]).code, 2);
    assert_eq!(stage.run_cli(&["runs", "verify", "last"]).code, 0);
}

#[test]
fn an_answer_that_is_not_well_is_no_success() {
    let stage = CliEnv::new();
    stage.write_file("redrill.toml", "[targets.hurt]\nprovider = \"sim\"\nworld = \"hurt.toml\"\n");
    let world = "title = \"hurt\"\nretention = \"7d\"\n[[history]]\nat = \"-2d\"\nsql = \"create table t (id integer primary key)\"\n\
        [[backups]]\nid = \"b\"\nat = \"-1d\"\ndamaged = true\n";
    stage.write_file("hurt.toml", world);
    let done = stage.run_cli(&["backup", "verify", "-t", "hurt", "b"]);
    assert_eq!(done.code, 1, "{done}");
    assert!(done.stdout.contains("false"), "{done}");
    assert_eq!(stage.run_cli(&["db", "health", "-t", "hurt"]).code, 0);
}

#[test]
fn a_run_whose_target_is_another_one_now_can_be_left() {
    let stage = CliEnv::new();
    let child = start_sleeper(&stage, 1);
    send_interrupt(&child);
    child.wait_with_output().unwrap();
    std::fs::remove_dir_all(stage.path(".redrill/worlds")).unwrap();
    let done = stage.run_cli(&["runs", "abandon", "last", "--leave"]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(stage.run_cli(&["runs", "list", "-o", "json"]).parse_json()[0]["status"], "abandoned");
    assert_eq!(stage.run_cli(&["runs", "verify", "last"]).code, 0);
    assert_eq!(stage.run_cli(&["runs", "abandon", "last", "--leave"]).code, 2);
}
