//! What is printed where a target is protected, gone, or another by now.

use super::*;

#[test]
fn a_protected_target_is_named_in_what_is_printed() {
    let env = env_with(GATE);
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n");
    let refused = env.run_cli(&["run", "r.rhai", "-p", "db=p"]);
    assert_eq!(refused.code, 6, "{refused}");
    let waiting = type_line(&env, &next_line(&refused));
    assert_eq!(waiting.code, 3, "{waiting}");
    // The line without the name decides nothing.
    let bare = env.run_cli(&["approve", "last", "--resume"]);
    assert_eq!(bare.code, 6, "{bare}");
    assert_eq!(next_line(&bare), next_line(&waiting));
    assert_eq!(follow(&env, waiting), "succeeded");
}

#[test]
fn nothing_is_decided_about_a_target_that_is_gone_and_nothing_that_ends_the_run_is_printed() {
    let env = env_with(GATE);
    let config = "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\n";
    env.write_file("redrill.toml", config);
    assert_eq!(env.run_cli(&["run", "r.rhai", "-p", "db=p"]).code, 3);
    env.write_file("redrill.toml", "");
    for command in
        [&["approve", "last"][..], &["reject", "last"], &["approve", "last", "--resume"], &["resume", "last"]]
    {
        let refused = env.run_cli(command);
        assert!(refused.code == 2 && refused.stderr.contains("there is no target `p`"), "{refused}");
        assert!(refused.stderr.contains("configure it, and then `redrill "), "{refused}");
        assert!(next_line(&refused).starts_with(&format!("redrill {} ", command[0])), "{refused}");
    }
    let shown = env.run_cli(&["runs", "show", "last"]);
    assert!(!shown.stdout.contains("decided"), "{shown}");
    env.write_file("redrill.toml", config);
    assert_eq!(follow(&env, shown), "succeeded", "it waits as before");
    assert_eq!(env.run_cli(&["run", "r.rhai", "-p", "db=p"]).code, 3);
    env.write_file("redrill.toml", "");
    let abandoned = env.run_cli(&["runs", "abandon", "last"]);
    assert_eq!(follow(&env, abandoned), "abandoned", "there is a way to end it");
}

#[test]
fn a_gate_in_the_clean_up_whose_target_is_gone_does_not_keep_the_run_from_its_end() {
    let env = env_with(GATED_CLEAN_UP);
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\n");
    assert_eq!(env.run_cli(&["run", "r.rhai", "-p", "db=p"]).code, 3);
    assert_eq!(env.run_cli(&["runs", "abandon", "last"]).code, 3);
    env.write_file("redrill.toml", "");
    let refused = env.run_cli(&["runs", "abandon", "last"]);
    assert!(refused.code == 6 && next_line(&refused).ends_with(" --leave"), "{refused}");
    assert_eq!(follow(&env, refused), "abandoned");
}

#[test]
fn a_run_whose_world_was_begun_anew_is_ended_by_what_is_printed() {
    for (script, types_gate) in [(GATE, false), (GATED_CLEAN_UP, true)] {
        let env = env_with(&script.replace("approve(\"clean up?\"); ", ""));
        assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
        assert_eq!(env.run_cli(&["world", "reset", "-t", "sandbox", "--yes"]).code, 0);
        let listed = env.run_cli(&["runs", "list"]);
        let refused = type_line(&env, &next_line(&listed));
        assert!(refused.code == 5 && refused.stderr.contains("nothing was decided"), "{refused}");
        assert!(!env.run_cli(&["runs", "show", "last"]).stdout.contains("decided"));
        if types_gate {
            let abandoned = type_line(&env, &next_line(&refused));
            assert!(next_line(&abandoned).ends_with(" --leave"), "{abandoned}");
            let listed = env.run_cli(&["runs", "list"]);
            assert_eq!(next_line(&listed), next_line(&abandoned), "{listed}");
        }
        assert_eq!(follow(&env, refused), "abandoned");
    }
}

/// A call that was cut short, on a target that is another by now: giving the run up meets that before it is ending.
#[test]
fn a_run_that_cannot_be_given_up_on_its_target_is_ended_as_it_is() {
    let env = CliEnv::new();
    let identity = json!({ "id": "sim:gone", "description": "the world of before" });
    let args = json!({ "target": { "$target": "sandbox" }, "label": "a" });
    let (call, op, key) = ("/backup::create#0".to_owned(), "backup::create".to_owned(), "k".to_owned());
    env.leave_run(
        "0",
        vec![
            Record::Target { name: "sandbox".into(), identity },
            Record::Begin { call, op, args, key, at: "r.rhai:1:1".into() },
        ],
    );
    let refused = env.run_cli(&["runs", "abandon", "last"]);
    assert!(refused.code == 5 && next_line(&refused).ends_with(" --leave"), "{refused}");
    for args in [["runs", "list"].as_slice(), &["runs", "show", "last"]] {
        let shown = env.run_cli(args);
        assert_eq!(next_line(&shown), next_line(&refused), "{shown}");
    }
    assert_eq!(follow(&env, refused), "abandoned");
}

#[test]
fn a_branch_whose_target_has_another_name_is_left_behind_and_told() {
    let env = env_with(r#"branch::create(params.db, #{ into: "tmp", temporary: true }); approve("go on?")"#);
    let target = |name: &str| format!("[targets.{name}]\nprovider = \"sim\"\nworld = \"sandbox\"\n");
    env.write_file("redrill.toml", &target("p"));
    assert_eq!(env.run_cli(&["run", "r.rhai", "-p", "db=p"]).code, 3);
    env.write_file("redrill.toml", &target("q"));
    let refused = env.run_cli(&["resume", "last"]);
    assert!(next_line(&refused).starts_with("redrill resume "), "{refused}");
    let line = refused.stderr.split('`').find(|part| part.starts_with("redrill runs abandon "));
    let abandoned = type_line(&env, line.expect("it is hinted at"));
    assert_eq!(abandoned.code, 1, "{abandoned}");
    assert_eq!(env.list_runs()[0]["left_behind"], json!(["branch p/tmp"]), "{abandoned}");
    env.write_file("redrill.toml", &target("p"));
    let there = env.run_cli(&["branch", "list", "-t", "p", "-o", "json"]);
    assert_eq!(there.parse_json()[0]["name"], "tmp", "{there}");
}

#[test]
fn a_protected_target_that_the_text_does_not_name_is_named_in_what_is_printed() {
    let env = env_with(
        r#"backup::create("sandbox", #{ label: "a" }); db::execute(target(params.name), "update orders set id = id")"#,
    );
    let text = sandbox_runbook(NEEDS, "");
    let header = r#"name: #{ type: "string", preset: "p" }"#;
    assert!(text.contains("params: #{"), "{text}");
    let script = std::fs::read_to_string(env.path("r.rhai")).unwrap();
    env.write_file("r.rhai", &script.replacen("params: #{", &format!("params: #{{ {header},"), 1));
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n");
    let refused = env.run_cli(&["run", "r.rhai"]);
    assert!(refused.code == 6 && next_line(&refused).ends_with(" --confirm p"), "{refused}");
    let listed = env.run_cli(&["runs", "list"]);
    assert_eq!(next_line(&listed), next_line(&refused));
    let bare = env.run_cli(&["resume", "last"]);
    assert!(bare.code == 6 && next_line(&bare).ends_with(" --confirm p"), "{bare}");
    assert_eq!(follow(&env, bare), "succeeded");
}

#[test]
fn a_protected_target_that_an_edit_adds_is_named_in_what_is_printed() {
    let env = env_with("let db = params.db; backup::create(db); approve(\"go on?\");");
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n");
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    let edited = "let db = params.db; backup::create(db); approve(\"go on?\"); db::execute(params.other, \"update orders set id = id\");";
    env.write_file(
        "r.rhai",
        &with_param(&sandbox_runbook(NEEDS, edited), "other: #{ type: \"target\", preset: \"p\" }"),
    );
    let refused = env.run_cli(&["resume", "last", "--edited"]);
    assert!(refused.code == 6 && next_line(&refused).ends_with(" --edited --confirm p"), "{refused}");
    let waiting = type_line(&env, &next_line(&refused));
    assert!(waiting.code == 3 && next_line(&waiting).ends_with(" --resume --confirm p"), "{waiting}");
    assert_eq!(follow(&env, waiting), "succeeded");
}
