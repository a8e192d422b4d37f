//! Calls at things at which a request of another call may still land.

use super::*;
use crate::{
    base::{
        clock::{Clock as _, SystemClock},
        moment::Span,
    },
    config::SANDBOX,
    journal::Quarantine,
};
use futures_util::FutureExt as _;

const NEEDS: &str = r#"const RUNBOOK = #{ title: "t", needs: ["network.change", "backup.create", "backup.destroy", "db.change", "db.destroy"] };
"#;

/// Lets a request of another run land at a part of the sandbox, or anywhere on it, within the next minute.
fn put_under_quarantine(env: &ScriptEnv, part: Option<&str>) {
    let identity = env.env.open_target(SANDBOX).identity().now_or_never();
    let quarantine = Quarantine {
        place: identity.expect("at once").expect("an identity").id,
        part: part.map(str::to_owned),
        run: "other222".into(),
        call: "restore#0".into(),
        sent_by: SystemClock.uptime(),
        span: Some(Span::from_secs(60)),
    };
    env.runtime.open_journal().expect("a journal").put_under_quarantine(&[quarantine]).expect("written");
}

/// Runs one call that may take a short time only, and returns its error, if it fails.
fn run_call(env: &ScriptEnv, call: &str) -> Option<journal::ScriptError> {
    let runbook = Runbook::from_text("t.rhai", format!("{NEEDS}{call};")).expect("a runbook");
    let start = StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
    let ended = env.runtime.start_run(start, Arc::<Listener>::default()).expect("it begins");
    ended.failure.map(|failure| failure.fault)
}

#[test]
fn what_may_still_overwrite_a_target_is_waited_for_by_every_effect_there() {
    let env = ScriptEnv::new();
    put_under_quarantine(&env, None);
    for call in [
        r#"db::execute("sandbox", "delete from order_items", #{ timeout: "20ms" })"#,
        r#"db::execute("sandbox", "vacuum", #{ transaction: false, timeout: "20ms" })"#,
        r#"db::config::set("sandbox", #{ work_mem: "8MB" }, #{ timeout: "20ms" })"#,
        r#"network::ssl::set("sandbox", true, #{ timeout: "20ms" })"#,
        r#"backup::create("sandbox", #{ timeout: "20ms" })"#,
        r#"backup::pitr::restore("sandbox", #{ to: #{ time: now() - duration("1h") }, timeout: "20ms" })"#,
    ] {
        let error = run_call(&env, call).expect(call);
        assert_eq!((error.code.as_str(), error.side_effects), ("TIMEOUT", journal::SideEffects::None));
        assert!(error.message.starts_with("nothing was asked for, because its time was over"), "{error:?}");
        assert!(error.hint.expect("a hint").contains("`redrill resume other222`"));
    }
    assert_eq!(env.list_effects(), Vec::<String>::new());
}

#[test]
fn what_may_still_change_a_part_is_waited_for_there_and_by_what_changes_everything() {
    let env = ScriptEnv::new();
    put_under_quarantine(&env, Some("tls"));
    for call in [
        r#"network::ssl::set("sandbox", true, #{ timeout: "20ms" })"#,
        r#"backup::pitr::restore("sandbox", #{ to: #{ time: now() - duration("1h") }, timeout: "20ms" })"#,
    ] {
        assert_eq!(run_call(&env, call).expect(call).code, "TIMEOUT");
    }
    for call in [
        r#"db::execute("sandbox", "delete from order_items where order_id = 1")"#,
        r#"db::config::set("sandbox", #{ work_mem: "8MB" })"#,
        r#"backup::create("sandbox")"#,
    ] {
        assert_eq!(run_call(&env, call), None, "{call}");
    }
}
