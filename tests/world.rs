//! Simulated worlds from outside: their clock, moments that are counted back from it, what is in them, a new beginning.

use crate::env::{CliEnv, CommandOutput, interrupt_child, shipped_runbook};
use serde_json::Value;

fn link_runbooks(env: &CliEnv) {
    env.link_path(&format!("{}/runbooks", env!("CARGO_MANIFEST_DIR")), "runbooks");
}

fn show_world(env: &CliEnv) -> Value {
    env.run_cli(&["world", "show", "-o", "json"]).parse_json()
}

fn assert_succeeded(done: &CommandOutput) {
    assert_eq!(done.code, 0, "{done}");
}

#[test]
fn a_moment_of_the_window_that_is_shown_can_be_restored_after_simulated_hours() {
    let env = CliEnv::new();
    link_runbooks(&env);
    // Simulated minutes pass in a restore.
    assert_succeeded(&env.run_cli(&["run", "runbooks/undo_dropped_table.rhai", "-p", "table=order_notes"]));
    assert_succeeded(&env.run_cli(&["db", "execute", "-t", "sandbox", "delete from order_items"]));
    let window = env.run_cli(&["backup", "pitr", "window", "-t", "sandbox", "-o", "json"]).parse_json();
    let latest = format!("to={}", window["latest"].as_str().unwrap());
    let done = env.run_cli(&["run", "runbooks/restore_to_moment.rhai", "-p", &latest]);
    assert_succeeded(&done);
}

#[test]
fn a_moment_is_given_as_so_long_ago() {
    let env = CliEnv::new();
    link_runbooks(&env);
    let done = env.run_cli(&["run", "runbooks/restore_to_moment.rhai", "-p", "to=-30m"]);
    assert_succeeded(&done);
    assert!(
        done.stderr.lines().any(|line| line.starts_with("to 20") && line.ends_with("Z (-30m)")),
        "{done}"
    );
    let recorded = env.run_cli(&["runs", "show", "last", "-o", "json"]).parse_json();
    assert!(recorded["params"]["to"].as_str().unwrap().ends_with('Z'), "{recorded}");
    for (words, said) in [
        (&["--to", "-30m", "--into", "a"][..], "(-30m)"),
        (&["--to=-1h", "--into", "b"], "(-1h)"),
        (&["--to", "time=-2h,inclusive=false", "--into", "c"], "(time=-2h,inclusive=false)"),
        (&["--into", "d", "--to", show_world(&env)["window"]["latest"].as_str().unwrap()], ""),
    ] {
        let done = env.run_cli(&[&["backup", "pitr", "restore", "-t", "sandbox"], words].concat());
        assert_succeeded(&done);
        assert!(done.stderr.contains(said), "{done}");
    }
    let found = |since: &str| {
        let words = ["backup", "pitr", "find", "-t", "sandbox", "-o", "json", "--after", since];
        let done = env.run_cli(&words);
        assert_succeeded(&done);
        done.parse_json().as_array().unwrap().len()
    };
    assert_eq!((found("-5d"), found("-1s")), (1, 0));
    for wrong in ["30m", "-soon", "2026-11-20T03:00:00", "-t"] {
        let done = env.run_cli(&["backup", "pitr", "restore", "-t", "sandbox", "--into", "x", "--to", wrong]);
        assert!(done.code == 2 && done.stderr.contains("hint:"), "{wrong}: {done}");
    }
}

#[test]
fn a_world_shows_its_tables_its_clock_and_its_log() {
    let env = CliEnv::new();
    assert_eq!(show_world(&env)["ahead"], "0s");
    assert_succeeded(&env.run_cli(&["backup", "create", "-t", "sandbox", "--label", "mine"]));
    assert_succeeded(&env.run_cli(&["db", "execute", "-t", "sandbox", "delete from order_items"]));
    assert_succeeded(&env.run_cli(&["branch", "create", "-t", "sandbox", "--into", "copy"]));
    let world = show_world(&env);
    assert_eq!(world["tables"]["order_items"]["rows"], 0, "{world}");
    assert_eq!(world["tables"]["customers"]["rows"], 40, "{world}");
    assert_eq!(world["branches"][0]["name"], "copy", "{world}");
    assert!(
        world["ahead"].as_str().unwrap().starts_with("16m"),
        "four for the backup, twelve for the branch: {world}"
    );
    assert!(world["backups"].as_array().unwrap().iter().any(|backup| backup["label"] == "mine"), "{world}");
    let text = env.run_cli(&["world", "show", "-t", "sandbox"]).stdout;
    assert!(text.contains("order_items") && text.contains("16m"), "{text}");

    let log = |more: &[&str]| {
        let log = env.run_cli(&[&["world", "log", "-o", "json"], more].concat());
        assert_succeeded(&log);
        log.parse_json().as_array().unwrap().clone()
    };
    let all = log(&[]);
    let kinds: Vec<&str> = all[all.len() - 3..].iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["backup.create", "statement", "restore.branch"], "{all:?}");
    let times: Vec<&str> = all.iter().map(|line| line["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    // The branch took twelve minutes, by the world's own clock.
    assert!(log(&["--since", "-1m"]).is_empty());
    assert_eq!(log(&["--since", "-13m"]).len(), 2);
    let wrong = env.run_cli(&["world", "log", "--since", "yesterday"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("-2h"), "{wrong}");
}

#[test]
fn a_world_begins_anew_when_nobody_is_at_it() {
    let env = CliEnv::new();
    let id = show_world(&env)["id"].clone();
    let unasked = env.run_cli(&["world", "reset", "-t", "sandbox"]);
    assert_eq!(unasked.code, 2, "{unasked}");
    assert_eq!(unasked.stderr.lines().last(), Some("redrill world reset -t sandbox --yes"), "{unasked}");
    env.write_file(
        "r.rhai",
        "const RUNBOOK = #{ title: \"r\", params: #{ db: #{ type: \"target\", preset: \"sandbox\" } }, needs: [\"db.destroy\"] };
        db::execute(params.db, \"delete from order_items\"); sleep(\"10s\"); db::health(params.db);",
    );
    let child = env.start_until_calls(&["run", "r.rhai"], 1);
    let held = env.run_cli(&["world", "reset", "-t", "sandbox", "--yes"]);
    assert!(held.code == 6 && held.stderr.contains("is in use by the run"), "{held}");
    assert_eq!(show_world(&env)["id"], id);
    interrupt_child(&child);
    child.wait_with_output().unwrap();
    let run = env.list_runs()[0]["id"].clone();
    let reset = env.run_cli(&["world", "reset", "-t", "sandbox", "--yes", "-o", "json"]).parse_json();
    assert_eq!((&reset["removed"], &reset["stranded_runs"][0]), (&Value::Bool(true), &run), "{reset}");
    let again = env.run_cli(&["world", "reset", "-t", "sandbox", "--yes", "-o", "json"]).parse_json();
    assert_eq!(again["removed"], false, "{again}");
    let world = show_world(&env);
    assert!(world["id"] != id && world["tables"]["order_items"]["rows"] != 0, "{world}");
    // The run does not mistake the new world for the one it was in.
    assert_eq!(env.run_cli(&["resume", "last"]).code, 5);
}

#[test]
fn only_a_simulated_target_has_a_world() {
    let env = CliEnv::new();
    env.write_file(
        "redrill.toml",
        "[targets.prod]\nprovider = \"postgres\"\nhost = \"/nowhere\"\n\n[targets.shop]\nprovider = \"sim\"\nprotect = true\n\n\
         [targets.\"my shop\"]\nprovider = \"sim\"\n",
    );
    for command in [&["world", "show", "-t"][..], &["world", "log", "-t"], &["world", "reset", "--yes", "-t"]]
    {
        let real = env.run_cli(&[command, &["prod"]].concat());
        assert!(real.code == 2 && real.stderr.contains("is no simulated one"), "{real}");
        assert_eq!(env.run_cli(&[command, &["nobody"]].concat()).code, 2);
    }
    assert_succeeded(&env.run_cli(&["world", "show", "-t", "shop"]));
    let protected = env.run_cli(&["world", "reset", "-t", "shop", "--yes"]);
    assert_eq!(protected.code, 6, "{protected}");
    assert_eq!(
        protected.stderr.lines().last(),
        Some("redrill world reset -t shop --confirm shop"),
        "{protected}"
    );
    assert_succeeded(&env.run_cli(&["world", "reset", "-t", "shop", "--confirm", "shop"]));
    assert_succeeded(&env.run_cli(&["world", "show", "-t", "my shop"]));
    let unasked = env.run_cli(&["world", "reset", "-t", "my shop"]);
    assert_eq!(
        unasked.stderr.lines().last(),
        Some("redrill world reset -t 'my shop' --yes"),
        "it can be typed: {unasked}"
    );
}

#[test]
fn what_a_fixture_makes_is_shown_without_a_run() {
    let env = CliEnv::new();
    let runbook = shipped_runbook("undo_dropped_table");
    let shown = env.run_cli(&["world", "show", "--fixture", &runbook, "-p", "keep=false", "-o", "json"]);
    assert_succeeded(&shown);
    let world = shown.parse_json();
    assert!(
        world["tables"].get("order_items").is_none() && world["tables"].get("orders").is_some(),
        "{world}"
    );
    assert_eq!((&world["params"]["table"], &world["params"]["keep"]), (&"order_items".into(), &false.into()));
    assert_eq!(world["now"], "2026-01-01T00:00:00Z", "{world}");
    assert!(!env.path(".redrill").exists(), "the state folder was made");
}

#[test]
fn a_rehearsal_begins_as_its_fixture_says() {
    let env = CliEnv::new();
    env.write_file(
        "worlds/till.toml",
        "title = \"a till\"\n[[history]]\nat = \"-2h\"\nsql = [\"create table sales (id integer primary key)\", \"insert into sales values (1)\"]\n[[backups]]\nid = \"one\"\nat = \"-1h\"\n",
    );
    env.write_file(
        "r.rhai",
        "const RUNBOOK = #{ title: \"r\", params: #{ db: #{ type: \"target\", preset: \"sandbox\" }, to: #{ type: \"time\" } }, needs: [\"branch.create\", \"db.read\"] };
        let copy = backup::pitr::restore(params.db, #{ to: #{ time: params.to }, into: \"then\", temporary: true });
        ensure(db::query(copy, \"select count(*) as n from sales\")[0].n == 2, \"not as it was\");
        ensure(db::query(params.db, \"select count(*) as n from sales\")[0].n == 0, \"not as it is\");
        fn fixture() {
            world::load(\"sandbox\", \"worlds/till.toml\");
            world::sql(\"sandbox\", \"-20m\", \"insert into sales values (2)\");
            world::advance(\"sandbox\", \"30m\");
            world::sql(\"sandbox\", \"-5m\", \"delete from sales\");
            #{ to: \"-10m\" }
        }",
    );
    let done = env.run_cli(&["rehearse", "r.rhai", "--only", "undisturbed"]);
    assert_succeeded(&done);
    let time = "the rehearsal's now is 2026-01-01T00:30:00Z; to 2026-01-01T00:20:00Z (-10m)";
    assert!(done.stdout.contains(time), "{done}");
    let given = env.run_cli(&["rehearse", "r.rhai", "--only", "undisturbed", "-p", "to=-1m"]);
    assert!(given.code == 1 && given.stdout.contains("not as it was"), "what was given counts: {given}");
    let refused = env.run_cli(&["rehearse", "r.rhai", "-p", "to=2026-01-01T00:00"]);
    assert!(
        refused.code == 2 && refused.stderr.contains("the rehearsal's now is 2026-01-01T00:30:00Z"),
        "{refused}"
    );
    assert!(!env.path(".redrill").exists(), "the state folder was made");
}

#[test]
fn a_long_wait_is_a_few_polls_in_a_rehearsal() {
    let env = CliEnv::new();
    env.write_file(
        "r.rhai",
        "const RUNBOOK = #{ title: \"r\", params: #{ db: #{ type: \"target\", preset: \"sandbox\" } }, needs: [\"db.read\"] };
        let due = now() + \"110m\";
        wait_until(#{ timeout: \"2h\", every: \"5s\" }, || db::health(params.db).ok && now() > due);",
    );
    let done = env.run_cli(&["rehearse", "r.rhai", "--only", "undisturbed"]);
    assert_succeeded(&done);
    let polls = done.stdout.lines().filter(|line| line.contains("db::health(")).count();
    assert!((10..40).contains(&polls), "{polls} polls: {done}");
}

#[test]
fn an_invariant_that_does_not_end_is_stopped_and_judges_nothing() {
    let env = CliEnv::new();
    let header = "const RUNBOOK = #{ title: \"r\", params: #{ db: #{ type: \"target\", preset: \"sandbox\" } }, needs: [\"db.read\"] }; db::health(params.db);";
    for body in ["loop {}", "[2, 1].sort(|a, b| { loop {} }); true"] {
        env.write_file("r.rhai", &format!("{header} fn invariant(world) {{ {body} }}"));
        let done = env.run_cli(&["rehearse", "r.rhai"]);
        assert!(done.code == 2 && done.stderr.contains("the invariant did not end"), "{done}");
    }
}

#[test]
fn an_invariant_knows_the_constants_and_imports_of_its_runbook() {
    let env = CliEnv::new();
    env.write_file("lib.rhai", "fn most() { 500 }");
    env.write_file(
        "r.rhai",
        "import \"./lib\" as lib;
        const RUNBOOK = #{ title: \"r\", params: #{ db: #{ type: \"target\", preset: \"sandbox\" } }, needs: [\"db.read\"] };
        const FEWEST = 100 + 1;
        db::health(params.db);
        fn invariant(world) {
            let rows = world.targets.sandbox.tables.orders.rows;
            rows > global::FEWEST && rows < lib::most()
        }",
    );
    let done = env.run_cli(&["rehearse", "r.rhai", "--only", "undisturbed"]);
    assert_succeeded(&done);
}
