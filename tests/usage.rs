//! What is refused before a run: the exit code, the message, and that nothing was done.

use crate::env::{CliEnv, CommandOutput, sandbox_runbook, snapshot};

/// Makes sure that there is no run, and that no world was made.
fn assert_nothing_done(env: &CliEnv) {
    assert_eq!(env.list_runs(), serde_json::json!([]));
}

fn run_refused(script: &str, args: &[&str]) -> CommandOutput {
    let env = CliEnv::new();
    env.write_file("r.rhai", &sandbox_runbook("\"backup.create\"", script));
    let done = env.run_cli(&[&["run", "r.rhai"], args].concat());
    assert_nothing_done(&env);
    done
}

const GOOD_SCRIPT: &str = "backup::create(params.db);";

#[test]
fn an_unknown_parameter_is_refused() {
    snapshot!(run_refused(GOOD_SCRIPT, &["-p", "kep=true"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: [folder]/r.rhai has no parameter `kep`
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
      --> [folder]/r.rhai:12:9
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
      --> [folder]/r.rhai:11:9
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
      --> [folder]/r.rhai:12:5
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
      --> [folder]/r.rhai:11:9
       |
    11 | let x = ;
       |         ^
      nothing was done
    redrill check r.rhai
    ");
}

#[test]
fn a_runbook_that_is_not_there_is_refused() {
    let env = CliEnv::new();
    snapshot!(env.run_cli(&["run", "nowhere.rhai"]), @"
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
    let env = CliEnv::new();
    env.write_file("warned.rhai", &sandbox_runbook("\"backup.create\", \"db.read\"", GOOD_SCRIPT));
    env.write_file(
        "wrong.rhai",
        &sandbox_runbook("\"backup.create\"", "backup::crate(params.db);\nbackup::create(params.bd);"),
    );
    snapshot!(env.run_cli(&["check", "warned.rhai"]), @"
    exit 0
    ---- stdout
    ---- stderr
    warning: `db.read` in `needs` is never used
     --> warned.rhai
    hint: take it out

    1 runbook checked: 0 errors, 1 warning
    ");
    snapshot!(env.run_cli(&["check", "warned.rhai", "wrong.rhai"]), @"
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
    let found = env.run_cli(&["check", "wrong.rhai", "-o", "json"]).parse_json();
    assert_eq!(found[0]["severity"], "error", "{found}");
    assert_eq!(found[0]["place"]["line"], 11, "{found}");
    assert_nothing_done(&env);
}

#[test]
fn an_operation_wants_its_target_and_what_else_it_needs() {
    let env = CliEnv::new();
    snapshot!(env.run_cli(&["backup", "list"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: no target was given
    hint: name one: `-t sandbox`
    ");
    snapshot!(env.run_cli(&["backup", "lsit", "-t", "sandbox"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: unrecognized subcommand 'lsit'

      tip: a similar subcommand exists: 'list'

    Usage: redrill backup [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    snapshot!(env.run_cli(&["backup", "create", "-t", "sandbix"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: there is no target `sandbix`
    hint: did you mean `sandbox`?
    redrill targets list
    ");
    snapshot!(env.run_cli(&["branch", "create", "-t", "sandbox", "--into", "x", "--temporary"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: `--temporary` makes no sense here: the run ends with this command, and the branch with it
    hint: leave it out, and remove the branch when you are done: `redrill branch delete NAME -t TARGET`
    ");
    snapshot!(env.run_cli(&["backup", "pitr", "restore", "-t", "sandbox", "--to", "time=2026-11-20T03:00:00"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: `to` of `backup pitr restore`: `2026-11-20T03:00:00` has no time zone
    hint: write the zone: `[moment]` for UTC, or an offset such as `+02:00`
    ");
    snapshot!(env.run_cli(&["backup", "pitr", "restore", "-t", "sandbox", "--to", "tiem=1"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: `to` of `backup pitr restore`: a recovery point has no `tiem`
    hint: did you mean `time`?
    ");
    assert_nothing_done(&env);
}

#[test]
fn a_time_outside_of_the_window_fails_and_changes_nothing() {
    let env = CliEnv::new();
    let restore =
        ["backup", "pitr", "restore", "-t", "sandbox", "--into", "x", "--to", "time=2020-01-01T00:00:00Z"];
    let done = env.run_cli(&restore);
    assert_eq!(done.code, 1, "{done}");
    for said in ["TARGET_BEFORE_WINDOW", "nothing was changed", "the window goes from", "redrill runs show"] {
        assert!(done.stderr.contains(said), "{said}\n{done}");
    }
    assert_eq!(
        env.run_cli(&["branch", "list", "-t", "sandbox", "-o", "json"]).parse_json(),
        serde_json::json!([])
    );
}

#[test]
fn an_unknown_key_in_the_configuration_is_refused() {
    let env = CliEnv::new();
    env.write_file("redrill.toml", "[target.shop]\nprovider = \"sim\"\n");
    snapshot!(env.run_cli(&["targets", "list"]), @"
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
    env.write_file("redrill.toml", "[targets.shop]\nprovider = \"postgres\"\ndat_dir = \"/nowhere\"\n");
    snapshot!(env.run_cli(&["backup", "list", "-t", "shop"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: the settings of target `shop`: unknown field `dat_dir`, expected one of `data_dir`, `host`, `port`, `user`, `database`, `password`, `backup_dir`, `archive_dir`, `engine`, `bin_dir`
      INVALID
    hint: did you mean `data_dir`?
    ");
    env.write_file("redrill.toml", "[targets.shop]\nprovider = \"sym\"\n");
    snapshot!(env.run_cli(&["backup", "create", "-t", "shop"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: target `shop` wants the provider `sym`
      INVALID
      nothing was done
    hint: did you mean `sim`?
    redrill targets check
    ");
    assert_nothing_done(&env);
}

#[test]
fn an_unknown_key_in_a_world_is_refused() {
    let env = CliEnv::new();
    env.write_file("redrill.toml", "[targets.shop]\nprovider = \"sim\"\nworld = \"shop.toml\"\n");
    env.write_file("shop.toml", "tilte = \"a shop\"\n");
    let done = env.run_cli(&["backup", "create", "-t", "shop"]);
    assert_eq!(done.code, 2, "{done}");
    assert!(done.stderr.contains("`tilte`") && done.stderr.contains("shop.toml"), "{done}");
    assert_nothing_done(&env);
}

#[test]
fn a_state_folder_that_cannot_be_written_is_refused() {
    let env = CliEnv::new();
    env.write_file("file", "");
    snapshot!(env.run_cli(&["--state", "file/state", "backup", "create", "-t", "sandbox"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: the world of `sandbox` cannot be made in [folder]/file/state/worlds: Not a directory (os error 20)
      UNAVAILABLE
      nothing was done
    hint: choose another state folder with `--state`
    redrill targets check --state file/state
    ");
}

#[test]
fn a_journal_of_a_newer_version_is_refused() {
    let env = CliEnv::new();
    assert_eq!(env.run_cli(&["backup", "create", "-t", "sandbox"]).code, 0);
    let db = rusqlite::Connection::open(env.path(".redrill/journal.db")).unwrap();
    db.pragma_update(None, "user_version", 999).unwrap();
    drop(db);
    snapshot!(env.run_cli(&["runs", "list"]), @"
    exit 2
    ---- stdout
    ---- stderr
    error: `[folder]/.redrill/journal.db` has schema version 999, and this redrill knows versions up to 6
    hint: use the newer redrill, or another folder with `--state`; nothing was changed
    ");
    let done = env.run_cli(&["backup", "create", "-t", "sandbox"]);
    assert_eq!(done.code, 2, "{done}");
}

#[test]
fn a_protected_target_wants_its_name() {
    let env = CliEnv::new();
    env.write_file(
        "redrill.toml",
        "[targets.prod]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n",
    );
    snapshot!(env.run_cli(&["db", "execute", "-t", "prod", "delete from orders where id = 1"]), @"
    exit 6
    ---- stdout
    ---- stderr
    error: the target `prod` is protected, and this may change it
      nothing was done
    hint: name it: `--confirm prod`
    redrill db execute -t prod 'delete from orders where id = 1' --confirm prod
    ");
    assert_nothing_done(&env);
    let wrong = ["db", "execute", "-t", "prod", "delete from orders where id = 1", "--confirm", "sandbox"];
    assert_eq!(env.run_cli(&wrong).code, 6);
    // A backup changes nothing that is there.
    assert_eq!(env.run_cli(&["backup", "create", "-t", "prod"]).code, 0);
    let named = ["db", "execute", "-t", "prod", "delete from orders where id = 1", "--confirm", "prod"];
    snapshot!(env.run_cli(&named), @"
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
fn a_moment_that_nobody_can_mean_is_refused_with_the_range() {
    let env = CliEnv::new();
    env.write_file("r.rhai", &sandbox_runbook("\"backup.create\"", "backup::create(params.db);"));
    for moment in ["-99999999h", "1969-12-31T23:59:59Z", "9999-01-01T00:00:00Z"] {
        let param = format!("since={moment}");
        let point = format!("time={moment}");
        for args in [
            &["run", "r.rhai", "-p", &param][..],
            &["backup", "pitr", "restore", "-t", "sandbox", "--into", "x", "--to", moment],
            &["backup", "pitr", "restore", "-t", "sandbox", "--into", "x", "--to", &point],
            &["world", "log", "-t", "sandbox", "--since", moment],
        ] {
            let refused = env.run_cli(args);
            assert_eq!(refused.code, 2, "{args:?}: {refused}");
            let range = "is not between 1970-01-01T00:00:00Z and 2999-12-31T23:59:59Z";
            assert!(refused.stderr.contains(range), "{args:?}: {refused}");
        }
    }
    assert_eq!(env.list_runs(), serde_json::json!([]), "nothing was begun");
}

#[test]
fn a_result_that_cannot_be_written_is_no_success_and_a_closed_pipe_is_quiet() {
    let env = CliEnv::new();
    for args in [
        &["backup", "list", "-t", "sandbox", "-o", "json"][..],
        &["backup", "create", "-t", "sandbox", "-o", "json"],
        &["runs", "verify", "last"],
        &["runs", "list"],
        &["--help"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = env.run_cli_onto(args, full.into());
        assert_eq!(done.code, 74, "{args:?}: {done}");
        assert!(done.stderr.contains("not everything could be written to stdout: "), "{args:?}: {done}");
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let done = env.run_cli_onto(args, write.into());
        assert_eq!(done.code, 0, "{args:?}: {done}");
    }
}
