//! Parameters that an edit adds or changes: what was approved and printed is what is done.

use crate::env::{CliEnv, CommandOutput, sandbox_runbook};

const NEEDS: &str = r#""backup.create", "db.change", "db.destroy", "branch.create""#;

/// Writes a runbook with one more parameter.
fn write_runbook(env: &CliEnv, script: &str, param: &str) {
    let text = sandbox_runbook(NEEDS, script);
    assert!(text.contains("params: #{"), "{text}");
    env.write_file("r.rhai", &text.replacen("params: #{", &format!("params: #{{ {param} "), 1));
}

fn env_with(script: &str) -> CliEnv {
    let env = CliEnv::new();
    write_runbook(&env, script, "");
    env
}

/// Runs a command that must end with an exit code.
fn expect_code(env: &CliEnv, command: &str, code: i32) -> CommandOutput {
    let done = env.run_cli(&command.split(' ').collect::<Vec<_>>());
    assert_eq!(done.code, code, "{command}: {done}");
    done
}

const GATED: &str = r#"let db = params.db; backup::create(db, #{ label: "a" }); approve("go?");"#;
const LABELLED: &str = r"backup::create(db, #{ label: params.lab });";

#[test]
fn a_parameter_of_an_edit_that_was_dropped_is_forgotten() {
    // Edited again while the run waits at a gate that it had before, approved or not; or after somebody said no to it.
    for (first, then, code) in
        [(None, None, 3), (Some("approve last"), None, 3), (None, Some("reject last"), 1)]
    {
        let env = env_with(GATED);
        expect_code(&env, "run r.rhai", 3);
        first.map(|first| expect_code(&env, first, 0));
        for (label, code) in [("wrong", 3), ("right", code)] {
            let param = format!("lab: #{{ type: \"string\", preset: \"{label}\" }},");
            write_runbook(&env, &format!("{GATED} {LABELLED}"), &param);
            expect_code(&env, "resume last --edited", code);
            then.filter(|_| label == "wrong").map(|then| expect_code(&env, then, 0));
        }
        let shown = env.run_cli(&["runs", "show", "last"]);
        assert!(shown.stdout.contains("lab=right"), "{shown}");
        let is_rejected = then.is_some();
        if !is_rejected {
            expect_code(&env, "approve last --resume", 0);
        }
        let made = env.run_cli(&["backup", "list", "-t", "sandbox", "-o", "json"]);
        assert_eq!(made.stdout.contains("\"right\""), !is_rejected, "a no stays one: {made}");
        assert!(!made.stdout.contains("\"wrong\""), "{made}");
    }
}

#[test]
fn a_run_is_given_up_with_the_parameters_of_the_text_before() {
    let script = r#"let db = params.db; note(`parameters: ${params}`); db::config::set(db, #{ work_mem: "64MB" });
        defer(|| db::config::set(db, #{ work_mem: "4MB" })); approve("go?");"#;
    let env = env_with(script);
    expect_code(&env, "run r.rhai", 3);
    write_runbook(&env, &format!("{script} {LABELLED}"), "lab: #{ type: \"string\", preset: \"x\" },");
    expect_code(&env, "resume last --edited", 3);
    let abandoned = expect_code(&env, "runs abandon last", 0);
    assert!(!abandoned.stderr.contains("left behind"), "{abandoned}");
    let set = env.run_cli(&["db", "config", "get", "-t", "sandbox", "--names", "work_mem", "-o", "json"]);
    assert!(set.stdout.contains("4MB"), "{set}");
}

#[test]
fn a_parameter_whose_type_is_edited_is_refused_before_anything_is_done() {
    for (given, edited) in [
        ("mode: #{ type: \"string\", preset: \"-30m\" },", "mode: #{ type: \"time\" },"),
        (
            "mode: #{ type: \"string\", preset: \"wipe\" },",
            "mode: #{ type: \"choice\", choices: [\"keep\", \"look\"] },",
        ),
        ("mode: #{ type: \"int\", preset: 5 },", "mode: #{ type: \"string\" },"),
    ] {
        let env = CliEnv::new();
        write_runbook(&env, GATED, given);
        expect_code(&env, "run r.rhai", 3);
        write_runbook(&env, GATED, edited);
        let refused = expect_code(&env, "resume last --edited", 2);
        assert!(refused.stderr.contains("the parameter `mode` is"), "{refused}");
        expect_code(&env, "approve last --resume", 0);
    }
    // What fits both stays.
    let env = CliEnv::new();
    write_runbook(
        &env,
        GATED,
        "mode: #{ type: \"choice\", choices: [\"keep\", \"look\"], preset: \"keep\" },",
    );
    expect_code(&env, "run r.rhai", 3);
    write_runbook(&env, GATED, "mode: #{ type: \"string\" },");
    expect_code(&env, "resume last --edited", 3);
}

#[test]
fn an_approval_covers_the_target_of_a_branch_that_a_parameter_names() {
    let env = CliEnv::new();
    env.write_file("redrill.toml", "[targets.w]\nprovider = \"sim\"\n");
    write_runbook(&env, r#"approve("drop it?"); db::execute(params.db, "drop table order_items");"#, "");
    expect_code(&env, "branch create -t w --into copy", 0);
    expect_code(&env, "run r.rhai -p db=w/copy", 3);
    let id = env.list_runs()[0]["id"].as_str().unwrap().to_owned();
    expect_code(&env, "world reset -t w --yes", 0);
    expect_code(&env, "branch create -t w --into copy", 0);
    let refused = expect_code(&env, &format!("approve {id} --resume"), 5);
    assert!(refused.stderr.contains("is not the one that the run began with"), "{refused}");
}

#[test]
fn the_gate_that_is_printed_is_the_one_whose_question_is_printed() {
    let env = env_with(
        r#"parallel([|| { backup::create(params.db); approve("A: keep") }, || approve("B: DROP")]);"#,
    );
    let mut stopped = expect_code(&env, "run r.rhai", 3);
    for _ in 0..12 {
        let asks_for_keep = stopped.stderr.contains(": A: keep");
        let line = stopped.stderr.lines().last().unwrap_or_default();
        // With one gate, there is nothing to choose.
        if line.contains("/parallel#0/") {
            assert_eq!(asks_for_keep, line.contains("/parallel#0/0/"), "{stopped}");
        }
        stopped = expect_code(&env, "resume last", 3);
    }
}

#[test]
fn a_changed_preset_is_said_to_change_nothing_where_the_run_has_a_value() {
    let params = |lab: &str, since: &str, key: &str| {
        format!(
            "lab: #{{ type: \"string\", preset: \"{lab}\" }}, back: #{{ type: \"time\", preset: \"{since}\" }}, \
             key: #{{ type: \"secret\", preset: \"env:{key}\" }}, same: #{{ type: \"int\", preset: 1 }},"
        )
    };
    let env = CliEnv::new();
    write_runbook(&env, &format!("{GATED} {LABELLED}"), &params("old", "-30m", "OLD_KEY"));
    expect_code(&env, "run r.rhai -p same=2", 3);
    write_runbook(&env, &format!("{GATED} {LABELLED} note(\"x\");"), &params("new", "-60m", "NEW_KEY"));
    let edited = expect_code(&env, "resume last --edited", 3);
    let lines: Vec<&str> = edited.stderr.lines().filter(|line| line.starts_with("the parameter `")).collect();
    assert_eq!(lines.len(), 3, "{edited}");
    assert!(
        lines[0].starts_with("the parameter `back` stays `20") && lines[0].contains("`-60m`"),
        "{edited}"
    );
    assert!(lines[1].contains("`key` stays as the run") && !lines[1].contains("KEY"), "{edited}");
    assert!(lines[2].contains("`lab` stays `old` as") && lines[2].contains("preset `new` is"), "{edited}");
    // The preset that it has by now is no news.
    let again = expect_code(&env, "resume last --edited", 3);
    assert!(!again.stderr.contains("the parameter `"), "{again}");
}

/// What is deferred, and captures all parameters.
const UNDOES: &str = r#"let db = params.db; backup::create(db); db::config::set(db, #{ work_mem: "64MB" });
    defer(|| db::config::set(params.db, #{ work_mem: "4MB" }));"#;

#[test]
fn an_added_parameter_is_no_other_clean_up_where_all_of_them_are_captured() {
    let env = env_with(&format!("{UNDOES} approve(\"go?\");"));
    expect_code(&env, "run r.rhai", 3);
    let lab = "lab: #{ type: \"string\", preset: \"x\" },";
    let more = "more: #{ type: \"int\", preset: 1 },";
    // A second clean-up, recorded with one parameter more, meets one with two more.
    let script =
        format!("{UNDOES} approve(\"go?\"); {LABELLED} defer(|| note(params.lab)); approve(\"and?\");");
    write_runbook(&env, &script, lab);
    expect_code(&env, "resume last --edited", 3);
    expect_code(&env, "approve last --resume", 3);
    write_runbook(&env, &script, &format!("{lab} {more}"));
    expect_code(&env, "resume last --edited", 3);
    expect_code(&env, "resume last", 3);
    let done = expect_code(&env, "approve last --resume", 0);
    assert!(!done.stderr.contains("left behind"), "{done}");
    let set = env.run_cli(&["db", "config", "get", "-t", "sandbox", "--names", "work_mem", "-o", "json"]);
    assert!(set.stdout.contains("4MB"), "{set}");
}

#[test]
fn a_removed_or_changed_parameter_is_another_clean_up_where_all_of_them_are_captured() {
    let lab = |preset: &str| format!("lab: #{{ type: \"string\", preset: \"{preset}\" }},");
    let env = CliEnv::new();
    let script = format!("{UNDOES} approve(\"go?\");");
    write_runbook(&env, &script, &lab("x"));
    expect_code(&env, "run r.rhai", 3);
    for change in ["params + #{ lab: \"y\" }", "params; params.remove(\"lab\")", "params + #{ more: 1 }"] {
        let own = UNDOES.replace("defer(||", &format!("let params = {change}; defer(||"));
        write_runbook(&env, &format!("{own} approve(\"go?\");"), &lab("x"));
        let stopped = expect_code(&env, "resume last --edited", 5);
        assert!(stopped.stderr.contains("defer"), "{stopped}");
    }
    // A run keeps what it was given: where only the header has it no more, the clean-up does what it did.
    write_runbook(&env, &script, "");
    expect_code(&env, "resume last --edited", 3);
}
