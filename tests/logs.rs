//! What `-v`, `-vv` and `REDRILL_LOG` show: what redrill does, and no secret.

use crate::env::{CliEnv, TOKEN, write_shop_target};
use redrill::fake::{FakeServer, ServerOptions};
use std::{fs, os::unix::fs::PermissionsExt as _};

#[test]
fn a_log_says_more_the_more_is_asked_for() {
    let env = CliEnv::new();
    let logged = |more: &[&str]| env.run_cli(&[&["backup", "create", "-t", "sandbox"], more].concat()).stderr;
    let quiet = logged(&[]);
    assert!(!quiet.contains("effect begins"), "{quiet}");
    let some = logged(&["-v"]);
    assert!(some.contains("effect begins") && !some.contains("records written"), "{some}");
    let more = logged(&["-vv"]);
    assert!(more.contains("records written") && more.contains("poll: done"), "{more}");
}

#[test]
fn a_log_shows_requests_and_no_secret() {
    let fast = ServerOptions { speed: 1000, per_minute: 100_000, ..ServerOptions::default() };
    let server = FakeServer::start(fast).unwrap();
    let env = CliEnv::new();
    write_shop_target(&env, &server, &server.url());
    let set = ["db", "config", "set", "-t", "shop", "work_mem=8MB"];
    let done = env.run_cli_with_variables(&set, &[("REDRILL_LOG", "trace")]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(
        done.stderr.contains("request") && done.stderr.contains("config/database/postgres"),
        "{}",
        done.stderr
    );
    assert!(!done.stderr.contains(TOKEN) && !done.stderr.contains("Bearer"), "{}", done.stderr);
}

#[test]
fn a_log_shows_programs_and_not_what_they_say() {
    let fast = ServerOptions { speed: 1000, per_minute: 100_000, ..ServerOptions::default() };
    let server = FakeServer::start(fast).unwrap();
    let env = CliEnv::new();
    write_shop_target(&env, &server, &server.url());
    // Without a token in the configuration, the keyring's program is asked.
    let config = fs::read_to_string(env.path("redrill.toml")).unwrap();
    let lines: Vec<&str> = config.lines().filter(|line| !line.starts_with("token")).collect();
    env.write_file("redrill.toml", &lines.join("\n"));
    env.write_file(".git/HEAD", "");
    env.write_file(
        "r.rhai",
        "const RUNBOOK = #{ title: \"r\", params: #{}, needs: [\"project.read\"] };\nproject::get(\"shop\")",
    );
    let token = format!("echo {TOKEN}");
    for (name, script) in [("git", "exit 3"), ("secret-tool", token.as_str())] {
        let program = format!("bin/{name}");
        env.write_file(&program, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(env.path(&program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", env.path("bin").display());
    let variables = [("REDRILL_LOG", "trace"), ("PATH", path.as_str())];
    let done = env.run_cli_with_variables(&["run", "r.rhai"], &variables);
    assert_eq!(done.code, 0, "{done}");
    for (program, status) in [("git", 3), ("secret-tool", 0)] {
        let said = format!("program has ended program=\"{program}\" status=exit status: {status} took=");
        assert!(done.stderr.contains(&said), "{said}\n{done}");
    }
    let lines: Vec<&str> = done.stderr.lines().filter(|line| line.contains("program has ended")).collect();
    assert!(!lines.join("\n").contains("lookup"), "an argument: {lines:?}");
    assert!(!done.stderr.contains(TOKEN), "{done}");
}
