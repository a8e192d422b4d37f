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

const NEEDS: &str = r#"const RUNBOOK = #{ title: "t", needs: ["network.change", "backup.create", "backup.destroy", "db.change", "db.destroy", "branch.create", "supabase.destroy"] };
"#;

/// Lets a request of another run land at a part of the sandbox, or anywhere on it, within the next minute.
fn put_under_quarantine(env: &ScriptEnv, part: Option<&str>) {
    put_place_under_quarantine(env, "", part);
}

/// Lets one land there at the sandbox itself, or at what is `below` it: `/look`.
fn put_place_under_quarantine(env: &ScriptEnv, below: &str, part: Option<&str>) {
    let identity = env.env.open_target(SANDBOX).identity().now_or_never();
    let identity = identity.expect("at once").expect("an identity").id;
    let quarantine = Quarantine {
        place: format!("{identity}{below}"),
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
        r#"branch::create("sandbox", #{ into: "look", timeout: "20ms" })"#,
        r#"supabase::api("sandbox", "POST", "/clock", #{ body: #{ pass: "1h" }, timeout: "20ms" })"#,
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

#[test]
fn a_new_branch_and_a_raw_request_wait_for_no_part_of_their_target() {
    let env = ScriptEnv::new();
    put_under_quarantine(&env, Some("tls"));
    for call in [
        r#"branch::create("sandbox", #{ into: "look" })"#,
        r#"supabase::api("sandbox", "POST", "/clock", #{ body: #{ pass: "1h" } })"#,
    ] {
        assert_eq!(run_call(&env, call), None, "{call}");
    }
}

#[test]
fn what_changes_all_of_a_target_waits_for_a_lost_request_of_which_nobody_knows_what_it_does() {
    let env = ScriptEnv::new();
    put_under_quarantine(&env, Some("something"));
    let restore =
        r#"backup::pitr::restore("sandbox", #{ to: #{ time: now() - duration("1h") }, timeout: "20ms" })"#;
    assert_eq!(run_call(&env, restore).expect("it waits").code, "TIMEOUT");
    for call in [
        r#"db::execute("sandbox", "delete from order_items where order_id = 1")"#,
        r#"db::config::set("sandbox", #{ work_mem: "8MB" })"#,
        r#"supabase::api("sandbox", "POST", "/clock", #{ body: #{ pass: "1h" } })"#,
    ] {
        assert_eq!(run_call(&env, call), None, "{call}");
    }
}

#[test]
fn a_promotion_waits_for_what_may_still_change_its_branch() {
    let env = ScriptEnv::new();
    assert_eq!(run_call(&env, r#"branch::create("sandbox", #{ into: "look" })"#), None);
    put_place_under_quarantine(&env, "/look", Some("tls"));
    let promotion =
        |branch: &str| format!(r#"branch::promote("sandbox", "{branch}", #{{ timeout: "20ms" }})"#);
    let effects = env.list_effects();
    assert_eq!(run_call(&env, &promotion("look")).expect("it waits").code, "TIMEOUT");
    assert_eq!(env.list_effects(), effects, "nothing was asked for");
}

#[test]
fn who_gives_a_run_up_waits_for_no_other() {
    let env = ScriptEnv::new();
    let before = |heard: &str| heard.contains("call.started") && heard.contains("backup::create");
    let dying = Arc::new(Listener { die_before: Some(before), ..Listener::default() });
    assert!(env.try_run_script("backup::create(db)", dying).is_err(), "it was killed");
    put_under_quarantine(&env, None);
    let listener = Arc::new(Listener::default());
    let ended = env.take_up_run(Arc::clone(&listener), true).expect("it is taken up");
    assert_eq!(ended.status, RunStatus::Abandoned, "{ended:?}");
    let heard = listener.heard.lock().expect("heard").concat();
    assert!(!heard.contains("a request of restore#0 in the run other222"), "it waited");
}

/// Makes the quarantines unreadable as soon as a call has begun.
struct QuarantineBreaker(journal::Journal);

impl RunObserver for QuarantineBreaker {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::CallStarted { effect: true, .. } = event {
            self.0.hide_quarantines(true).expect("hidden");
        }
    }
}

/// The script would catch a failure of the call; what became of the call is asked by whoever resumes the run.
#[test]
fn a_journal_that_fails_inside_a_call_is_no_failure_of_the_call() {
    for script in [
        "attempt(|| backup::create(db)); 1",
        r#"attempt(|| db::execute(db, "vacuum", #{ transaction: false })); 1"#,
    ] {
        let env = ScriptEnv::new();
        let breaker = Arc::new(QuarantineBreaker(env.runtime.open_journal().expect("a journal")));
        let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}")).expect("it parses");
        let start = StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
        let ended = env.runtime.start_run(start, Arc::clone(&breaker) as Arc<dyn RunObserver>);
        let ended = ended.expect("it begins");
        assert!(matches!(ended.stop, Some(StopReason::Journal(_))), "{script}: {ended:?}");
        let records = breaker.0.read_records(&ended.run).expect("records");
        let is_end = |entry: &journal::JournalEntry| matches!(entry.record, Record::End { .. });
        assert!(!records.iter().any(is_end), "{script}: {records:?}");

        breaker.0.hide_quarantines(false).expect("shown again");
        let ended = env.resume_run(Arc::default()).expect("it is taken up");
        assert_eq!(ended.status, RunStatus::Succeeded, "{script}: {ended:?}");
        assert_eq!(env.list_effects().len(), 1, "{script}: {:?}", env.list_effects());
    }
}
