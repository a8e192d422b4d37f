//! Operations as commands: what is typed, what is seen, and what is refused before anything is done.

use crate::env::{CliEnv, CommandOutput, sandbox_runbook};
use serde_json::json;

#[test]
fn settings_are_set_by_name_and_value() {
    let env = CliEnv::new();
    let set = ["db", "config", "set", "-t", "sandbox", "work_mem=8MB", "max_connections=120", "-o", "json"];
    let done = env.run_cli(&set);
    assert_eq!(done.code, 0, "{done}");
    let [connections, memory] = [0, 1].map(|n| done.parse_json()[n].clone());
    assert_eq!((&connections["overridden"], &connections["pending_restart"]), (&json!(120), &json!(true)));
    assert_eq!((&memory["effective"], &memory["before"]), (&json!("8MB"), &json!(null)));
    let back = ["db", "config", "set", "-t", "sandbox", "work_mem=", "max_connections=", "--restart"];
    assert_eq!(env.run_cli(&back).code, 0);
    let get =
        ["db", "config", "get", "-t", "sandbox", "--names", "work_mem", "jit,max_connections", "-o", "json"];
    let shown = env.run_cli(&get).parse_json();
    let effective: Vec<_> =
        shown.as_array().unwrap().iter().map(|s| s["effective"].as_str().unwrap()).collect();
    assert_eq!(effective, ["4MB", "on", "100"]);
    for (word, says) in [
        ("work_men=1MB", "did you mean `work_mem`?"),
        ("work_mem=1kB", "64kB"),
        ("work_mem", "is no setting"),
    ] {
        let refused = env.run_cli(&["db", "config", "set", "-t", "sandbox", word]);
        assert!(refused.code != 0 && refused.stderr.contains(says), "{refused}");
    }
}

#[test]
fn ranges_are_added_and_an_open_one_is_told_of() {
    let env = CliEnv::new();
    let listed =
        || env.run_cli(&["network", "restrictions", "list", "-t", "sandbox", "-o", "json"]).parse_json();
    assert_eq!(
        (listed()["open"].clone(), listed()["ranges"][1]["cidr"].clone()),
        (json!(true), json!("::/0"))
    );
    let add = ["network", "restrictions", "add", "-t", "sandbox", "203.0.113.0/24"];
    let added = env.run_cli(&add);
    assert!(added.code == 0 && added.stdout.contains("so `203.0.113.0/24` restricts nothing"), "{added}");
    assert_eq!(env.run_cli(&[&add[..], &["--exclusive"]].concat()).code, 0);
    assert_eq!((listed()["open"].clone(), listed()["ranges"].as_array().unwrap().len()), (json!(false), 1));
    for (wrong, says) in [
        ("203.0.113.7/24", "write `203.0.113.0/24`"),
        ("203.0.113.7", "write `203.0.113.7/32`"),
        ("::ffff:203.0.113.0/120", "write `203.0.113.0/24`"),
        ("everybody", "203.0.113.0/24"),
    ] {
        let refused = env.run_cli(&["network", "restrictions", "add", "-t", "sandbox", wrong]);
        assert!(refused.code == 2 && refused.stderr.contains(says), "{refused}");
    }
    let last = env.run_cli(&["network", "restrictions", "remove", "-t", "sandbox", "203.0.113.0/24"]);
    assert!(last.code == 1 && last.stderr.contains("no range would be left"), "{last}");
}

#[test]
fn a_request_that_only_looks_is_no_run_and_needs_no_more() {
    let env = CliEnv::new();
    let looked = env.run_cli(&["supabase", "api", "-t", "sandbox", "GET", "/world", "-o", "json"]);
    assert_eq!((looked.code, looked.parse_json()["title"].as_str()), (0, Some("a small shop")), "{looked}");
    assert_eq!(env.list_runs(), json!([]));
    let body = r#"{"pass": "1h"}"#;
    let sent = env.run_cli(&["supabase", "api", "-t", "sandbox", "POST", "/clock", "--body", body]);
    assert_eq!(sent.code, 0, "{sent}");
    let script = |method: &str| {
        format!(
            "const RUNBOOK = #{{ title: \"t\", needs: [\"supabase.read\"] }};\nsupabase::api(\"sandbox\", \"{method}\", \"/world\")\n"
        )
    };
    env.write_file("looks.rhai", &script("GET"));
    env.write_file("writes.rhai", &script("DELETE"));
    assert_eq!(env.run_cli(&["run", "looks.rhai"]).code, 0);
    let refused = env.run_cli(&["run", "writes.rhai"]);
    assert!(refused.code == 6 && refused.stderr.contains("supabase.destroy"), "{refused}");
}

#[test]
fn what_is_around_a_protected_database_is_protected() {
    let env = CliEnv::new();
    env.write_file("redrill.toml", "[targets.prod]\nprovider = \"sim\"\nprotect = true\n");
    for change in [
        &["network", "ssl", "set", "-t", "prod", "true"][..],
        &["db", "config", "set", "-t", "prod", "jit=off"],
        &["project", "pause", "-t", "prod"],
        &["supabase", "api", "-t", "prod", "POST", "/clock", "--body", "{}"],
    ] {
        let refused = env.run_cli(change);
        assert!(refused.code == 6 && refused.stderr.contains("--confirm prod"), "{refused}");
    }
    assert_eq!(env.run_cli(&["network", "ssl", "set", "-t", "prod", "true", "--confirm", "prod"]).code, 0);
    assert_eq!(
        env.run_cli(&["db", "replicas", "create", "-t", "prod"]).code,
        0,
        "what only adds is not guarded"
    );
}

#[test]
fn a_schedule_is_made_listed_and_deleted() {
    let env = CliEnv::new();
    let create =
        ["backup", "schedule", "create", "-t", "sandbox", "--at", "3:00", "--keep-days", "7", "-o", "json"];
    let made = env.run_cli(&create).parse_json();
    assert_eq!((made["at"].as_str(), made["keep_days"].as_i64()), (Some("03:00"), Some(7)));
    let pass = ["supabase", "api", "-t", "sandbox", "POST", "/clock", "--body", r#"{"pass": "26h"}"#];
    assert_eq!(env.run_cli(&pass).code, 0);
    let backups = env.run_cli(&["backup", "list", "-t", "sandbox", "-o", "json"]).parse_json();
    assert!(backups.as_array().unwrap().iter().any(|b| b["label"] == "scheduled"), "{backups}");
    let id = made["id"].as_str().unwrap();
    assert_eq!(env.run_cli(&["backup", "schedule", "delete", "-t", "sandbox", id]).code, 0);
    let gone = env.run_cli(&["backup", "schedule", "delete", "-t", "sandbox", id]);
    assert!(gone.code == 1 && gone.stderr.contains("there is no schedule"), "{gone}");
    let late = env.run_cli(&["backup", "schedule", "create", "-t", "sandbox", "--at", "25:00"]);
    assert!(late.code == 2 && late.stderr.contains("write a time of day in UTC"), "{late}");
}

/// Nobody needs to know what a shell makes of a name: what is printed is typed as it is.
#[test]
fn a_name_to_confirm_is_quoted_for_the_shell() {
    const NAME: &str = "it's mine";
    const QUOTED: &str = r"--confirm 'it'\''s mine'";
    let env = CliEnv::new();
    let target = format!("[targets.\"{NAME}\"]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n");
    env.write_file("redrill.toml", &target);
    let script = r#"approve("go on?"); db::execute(params.db, "delete from order_items where order_id = 1")"#;
    let runbook = sandbox_runbook("\"db.destroy\"", script).replace("\"sandbox\"", &format!("\"{NAME}\""));
    env.write_file("r.rhai", &runbook);
    let last_line = |refused: &CommandOutput| refused.stderr.lines().last().unwrap_or_default().to_owned();
    let is_quoted = |refused: &CommandOutput| {
        let mut hints = refused.stderr.lines().filter(|line| line.contains("name it:"));
        last_line(refused).ends_with(QUOTED) && hints.all(|hint| hint.contains(QUOTED))
    };
    let mut wrong = Vec::new();
    for (refused, code) in [
        (&["db", "execute", "-t", NAME, "delete from order_items where order_id = 2"][..], 0),
        (&["run", "r.rhai"], 3),
        (&["approve", "last", "--resume"], 0),
    ] {
        let refused = env.run_cli(refused);
        assert_eq!(refused.code, 6, "{refused}");
        let done = env.type_into_shell(&last_line(&refused));
        if done.code != code || !is_quoted(&refused) {
            wrong.push(format!("{refused}\n{done}"));
        }
    }
    assert_eq!(env.run_cli(&["run", "r.rhai", "--confirm", NAME]).code, 3);
    for refused in [&["resume", "last", "--hold"][..], &["world", "reset", "-t", NAME, "--yes"]] {
        let refused = env.run_cli(refused);
        if refused.code != 6 || !is_quoted(&refused) {
            wrong.push(refused.to_string());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
