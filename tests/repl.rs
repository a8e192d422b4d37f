//! The prompt, as a program feeds it.

use crate::env::{CliEnv, snapshot};

#[test]
fn statements_are_read_and_values_written() {
    let env = CliEnv::new();
    let input = "let b = backup::create(db, #{\n    label: \"x\",\n});\nb.label\n1 + 1\nans * 3\ndb::query(db, \"select 2 as b, 1 as a\")\n";
    let done = env.run_cli_with_input(&["repl", "-t", "sandbox"], input);
    snapshot!(done, @"
    exit 0
    ---- stdout
    x
    2
    6
    b  a
    2  1
    ---- stderr
    ✓ backup::create sandbox  [time]
    ✓ db::query sandbox  [time]
    ");
    let runs = env.list_runs();
    assert_eq!((&runs[0]["runbook"], &runs[0]["status"]), (&"repl".into(), &"succeeded".into()));
}

#[test]
fn the_first_error_ends_it() {
    let env = CliEnv::new();
    snapshot!(env.run_cli_with_input(&["repl"], "1\nbackup::crate(\"sandbox\")\n2\n"), @r#"
    exit 1
    ---- stdout
    1
    ---- stderr
    error: there is no function `backup::crate`
     --> repl:1:9
      |
    1 | backup::crate("sandbox")
      |         ^
      SCRIPT
    hint: did you mean `backup::create`?
    "#);
    snapshot!(env.run_cli_with_input(&["repl"], "let x = \n"), @"
    exit 1
    ---- stdout
    ---- stderr
    error: Script is incomplete
     --> repl:1:8
      |
    1 | let x =
      |        ^
    ");
    snapshot!(env.run_cli_with_input(&["repl"], "fail(\"no\")\n"), @r#"
    exit 1
    ---- stdout
    ---- stderr
    error: no
     --> repl:1:1
      |
    1 | fail("no")
      | ^
      FAILED
    "#);
    snapshot!(env.run_cli_with_input(&["repl", "-t", "sandbix"], "1\n"), @"
    exit 2
    ---- stdout
    ---- stderr
    error: there is no target `sandbix`
      NOT_FOUND
    hint: did you mean `sandbox`?
    redrill targets check
    ");
}

#[test]
fn a_branch_that_is_temporary_goes_with_the_session() {
    let env = CliEnv::new();
    let input = "let b = branch::create(\"sandbox\", #{ into: \"look\", temporary: true });\nbranch::list(\"sandbox\").len()\n";
    let done = env.run_cli_with_input(&["repl"], input);
    assert_eq!((done.code, done.stdout.as_str()), (0, "1\n"), "{done}");
    assert_eq!(
        env.run_cli(&["branch", "list", "-t", "sandbox", "-o", "json"]).parse_json(),
        serde_json::json!([])
    );
}
