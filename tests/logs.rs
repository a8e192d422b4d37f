//! What `-v`, `-vv` and `REDRILL_LOG` show: what redrill does, and no secret.

use crate::env::{CliEnv, TOKEN, write_shop_target};
use redrill::fake::{FakeServer, ServerOptions};

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
