//! `parallel` and `each`: order, copies, errors, clean-up; and that no timing of threads changes where a replay comes to.

use super::*;
use serde_json::json;

#[test]
fn results_come_in_the_order_of_the_list() {
    let env = ScriptEnv::new();
    let script = "parallel([|| { sleep(\"30ms\"); 1 }, || 2, || { sleep(\"10ms\"); 3 }])";
    assert_eq!(env.run_to_value(script), json!([1, 2, 3]));
    assert_eq!(env.run_to_value("each([3, 1, 2], |x| x * 10)"), json!([30, 10, 20]));
    assert_eq!(env.run_to_value("let list = []; each(list, |x| x)"), json!([]));
    let nested = "each([1, 2], |x| parallel([|| x, || each([x, x], |y| x + y)]))";
    assert_eq!(env.run_to_value(nested), json!([[1, [2, 2]], [2, [4, 4]]]));
}

#[test]
fn every_branch_has_its_own_copy_of_what_it_captures() {
    let env = ScriptEnv::new();
    let script = "let n = [0]; let own = each([1, 2, 3], |x| { n.push(x); n }); [n, own]";
    assert_eq!(env.run_to_value(script), json!([[0], [[0, 1], [0, 2], [0, 3]]]));
    // A closure inside a closure shares, too.
    let script = "let n = [0]; let f = || n.len(); let all = []; all.pad(64, 0); \
        each(all, #{ limit: 16 }, |x| f.call()).reduce(|sum, one| sum + one, 0)";
    assert_eq!(env.run_to_value(script), json!(64));
}

#[test]
fn no_more_than_the_limit_go_on_at_once() {
    let env = ScriptEnv::new();
    let listener = Arc::new(Listener::default());
    let script = "each([1, 2, 3, 4, 5, 6], #{ limit: 2 }, |x| { step(\"s\", || sleep(\"5ms\")) })";
    env.try_run_script(script, Arc::clone(&listener)).expect("it runs");
    assert_eq!(listener.count_steps_at_once(), 2);
}

#[test]
fn the_first_error_of_the_list_is_raised_where_it_happened() {
    let env = ScriptEnv::new();
    let ended = env.run_script("each([1, 2, 3, 4], |x| {\n if x == 4 { fail(\"four\") }\n if x == 2 { sleep(\"20ms\"); fail(\"two\") }\n x })");
    let failure = ended.failure.expect("it fails");
    assert_eq!(failure.fault.message, "two");
    assert_eq!(failure.place.expect("a place").text.trim(), "if x == 2 { sleep(\"20ms\"); fail(\"two\") }");
    let collected = env.run_to_value(
        "each([1, 2], #{ on_error: \"collect\" }, |x| { ensure(x > 1, \"small\"); x }).map(|r| [r.ok, r.value, if r.ok { () } else { r.error.message }])",
    );
    assert_eq!(collected, json!([[false, null, "small"], [true, 2, null]]));
    assert!(
        env.run_to_failure("each([1], #{ on_error: \"stop\" }, |x| x)").contains("\"fail\" or \"collect\"")
    );
    assert!(env.run_to_failure("each([1], #{ limt: 2 }, |x| x)").contains("no option `limt`"));
    assert!(env.run_to_failure("parallel([1])").contains("a list of closures"));
}

#[test]
fn nothing_begins_after_a_failure() {
    let env = ScriptEnv::new();
    let script = "each([1, 2, 3], #{ limit: 1 }, |x| { backup::create(db, #{ label: `b${x}` }); ensure(x != 2, \"no\") })";
    assert_eq!(env.run_to_failure(script), "no");
    assert_eq!(env.list_effects().iter().filter(|e| *e == "backup.create").count(), 2);
}

#[test]
fn what_branches_defer_is_done_in_the_order_of_the_list() {
    for _ in 0..5 {
        let env = ScriptEnv::new();
        let listener = Arc::new(Listener::default());
        let script = "defer(|| note(\"first\")); each([3, 2, 1, 0], |x| { sleep(`${x * 3}ms`); defer(|| note(`item ${x}`)); }); \
            defer(|| note(\"last\"));";
        env.try_run_script(script, Arc::clone(&listener)).expect("it runs");
        let heard = listener.heard.lock().expect("heard").join("\n");
        let order = ["last", "item 0", "item 1", "item 2", "item 3", "first"];
        let order: Vec<_> = order.iter().map(|text| heard.find(&format!("\"text\":\"{text}\""))).collect();
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{heard}");
    }
}

#[test]
fn a_refusal_in_a_branch_stops_every_branch() {
    let env = ScriptEnv::new();
    for script in [
        "try { parallel([|| backup::list(db), || sleep(\"1h\")]) } catch { note(\"swallowed\") }",
        "each([1, 2], #{ on_error: \"collect\" }, |x| attempt(|| if x == 1 { backup::list(db) } else { sleep(\"1h\") }))",
        "attempt(|| parallel([|| { loop {} }, || backup::list(db)]))",
    ] {
        match env.without_rights(script) {
            Some(StopReason::Refused { .. }) => {}
            other => panic!("{script}: {other:?}"),
        }
    }
}

#[test]
fn an_abandoned_run_settles_every_branch() {
    let script = "parallel([|| { backup::restore(db, backup::list(db)[0], #{ into: \"a\", temporary: true }); sleep(\"0s\"); backup::create(db) }, \
        || { backup::restore(db, backup::list(db)[0], #{ into: \"b\", temporary: true }); try { backup::create(db) } catch { loop {} } }])";
    let calm = ScriptEnv::new();
    let listener = Arc::new(Listener::default());
    calm.try_run_script(script, Arc::clone(&listener)).expect("it runs");
    for die_at in (2..listener.count.load(Ordering::SeqCst)).step_by(2) {
        let env = ScriptEnv::new();
        let dying = Arc::new(Listener { die_at: Some(die_at), ..Listener::default() });
        if env.try_run_script(script, dying).is_ok() {
            // Threads that were quicker this time told less.
            continue;
        }
        let ended = env.abandon_run();
        // Killed after its last call, it has nothing left to give up.
        let over = matches!(ended.status, RunStatus::Abandoned | RunStatus::Succeeded);
        assert!(over && ended.cleanup.is_empty(), "killed at event {die_at}: {ended:?}");
        assert_eq!(env.run_to_value("branch::list(db)"), json!([]), "killed at event {die_at}");
    }
}

/// Everything that waits, repeats, branches or cleans up, in one script.
const FLOW: &str = r#"
    import "./lib" as lib;
    let made = measure("rto", || parallel([
        || step("left", || backup::create(db, #{ label: "left" })).label,
        || step("right", || { sleep("2ms"); lib::keep("right"); backup::create(db, #{ label: "right" }) }).label,
    ]));
    let n = 0;
    let third = retry(#{ attempts: 3, backoff: "1ms" }, || {
        n += 1;
        backup::list(db);
        if n < 3 { throw #{ code: "X", message: "not yet", retryable: true, side_effects: "none" } }
        n
    });
    let waited = wait_until(#{ timeout: "1m", every: "1ms" }, || backup::list(db).len() >= 2);
    for name in ["a", "b"] { defer(|| backup::create(db, #{ label: `end ${name}` })); }
    let copies = each(["x", "y", "z"], #{ limit: 2 }, |name| {
        let copy = backup::restore(db, backup::list(db)[0], #{ into: name, temporary: true });
        defer(|| note(`left ${name}`));
        db::execute(copy, "delete from order_items");
        db::query(copy, "select count(*) as n from order_items")[0].n
    });
    let failed = attempt(|| each([1, 2, 3, 4, 5], #{ limit: 2 }, |x| {
        defer(|| backup::create(db, #{ label: `of ${x}` }));
        ensure(x != 2, "two");
        backup::create(db, #{ label: `item ${x}` });
    }));
    [made, third, waited, copies, failed.error.message]
"#;

const LIBRARY: &str = r"
    fn said(name) { `kept ${name}` }
    fn keep(name) { defer(|| note(said(name))); }
";

/// What took effect, without what the timing of threads decides: the order of branches, and how many of those that may
/// begin before another fails have.
fn settled(env: &ScriptEnv) -> (Vec<String>, Value) {
    let mut effects = env.list_effects();
    effects.sort();
    let labels = env
        .run_to_value("let labels = backup::list(db).map(|b| b.label).filter(|l| l != () && l != \"nightly\"); labels.sort(); labels");
    (effects, labels)
}

#[test]
fn a_kill_at_any_point_of_any_flow_changes_nothing() {
    let calm = ScriptEnv::new();
    let listener = Arc::new(Listener::default());
    let undisturbed = calm.try_flow(Arc::clone(&listener)).expect("it runs");
    assert_eq!(undisturbed.status, RunStatus::Succeeded, "{undisturbed:?}");
    let events = listener.count.load(Ordering::SeqCst);
    assert!(events > 80, "{events} events are too few to be a test");
    let (step, first) = read_knob("REDRILL_EVENTS", 7);
    for die_at in (first..events).step_by(step) {
        let env = ScriptEnv::new();
        let dying = Arc::new(Listener { die_at: Some(die_at), ..Listener::default() });
        if env.try_flow(dying).is_ok() {
            continue;
        }
        let ended = env.resume_run(Listener::default().into()).expect("it resumes");
        assert_eq!(
            (ended.status, &ended.value),
            (undisturbed.status, &undisturbed.value),
            "killed at event {die_at}"
        );
        let (effects, labels) = settled(&env);
        let labels: Vec<&str> = labels.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        let unique: BTreeSet<&str> = labels.iter().copied().collect();
        assert_eq!(unique.len(), labels.len(), "killed at event {die_at}, twice: {labels:?}");
        for label in ["left", "right", "end a", "end b", "item 1", "of 1", "of 2"] {
            assert!(unique.contains(label), "killed at event {die_at}, lost `{label}`: {labels:?}");
        }
        // A branch that began also cleaned up; which of them began before the failure is up to the threads.
        for x in 3..=5 {
            let (item, of) = (format!("item {x}"), format!("of {x}"));
            assert_eq!(
                unique.contains(item.as_str()),
                unique.contains(of.as_str()),
                "killed at event {die_at}: {labels:?}"
            );
        }
        let count = |kind: &str| effects.iter().filter(|e| *e == kind).count();
        assert_eq!(
            (count("branch.delete"), count("sql.execute")),
            (3, 3),
            "killed at event {die_at}: {effects:?}"
        );
    }
}

impl ScriptEnv {
    fn try_flow(&self, listener: Arc<Listener>) -> Result<RunResult, Refusal> {
        let file = self.env.path("flow.rhai");
        std::fs::write(&file, format!("{HEADER}{FLOW}")).expect("written");
        std::fs::write(self.env.path("lib.rhai"), LIBRARY).expect("written");
        let runbook = Runbook::load_file(&file)?;
        self.runtime.start_run(
            StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() },
            listener,
        )
    }
}

/// Every how many-th event is the one, and which is the first: all of them, when the variable says `1`.
pub(super) fn read_knob(name: &str, preset: usize) -> (usize, usize) {
    let step = std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(preset).max(1);
    let first = usize::try_from(std::process::id()).unwrap_or_default() % step;
    (step, first + 1)
}
