//! Scripts, run for real on the sandbox: what a script can and cannot do, and what a crash leaves.

mod approvals;
mod crashes;
mod divergence;
mod edit_gate_operators;
mod edited_clean_up;
mod edited_forks;
mod edited_gates;
mod edits;
mod edits_on_trial;
mod forks;
mod left_behind;
mod lost_requests;
mod postgres;
mod quarantines;
mod sequences;
mod unreadable;
mod worlds;

use super::{
    VERSION,
    drive::{self, RunResult},
    events::Event,
    observer::{Answer, Choice, Question, RunObserver, Withdrawal},
    refusal::Refusal,
    run_context::RunContext,
    runbook::Runbook,
    runs::{ResumeRequest, Runtime, StartRequest},
    stop::StopReason,
};
use crate::{
    config::{Config, TargetConfig},
    journal::{self, NewRun, Record, RunStatus},
    testing::TestEnv,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// A runtime over a sandbox of its own.
struct ScriptEnv {
    env: TestEnv,
    runtime: Runtime,
}

/// Listens; from the event that it was told, it does what a kill does: the script's threads are gone, nothing is written.
#[derive(Default)]
struct Listener {
    heard: Mutex<Vec<String>>,
    count: AtomicUsize,
    die_at: Option<usize>,
    die_before: Option<fn(&str) -> bool>,
    is_dead: AtomicBool,
    /// Whether it approves what is asked.
    approves: bool,
}

impl RunObserver for Listener {
    fn on_event(&self, event: &Event<'_>) {
        let heard = serde_json::to_string(event).expect("an event is JSON");
        let dies = self.die_before.is_some_and(|before| before(&heard));
        self.is_dead.fetch_or(dies, Ordering::SeqCst);
        self.heard.lock().expect("no listener panics while it holds this").push(heard);
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        // Other threads of a killed process do not outlive it either.
        if self.die_at.is_some_and(|at| count >= at) || self.is_dead.load(Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("killed"));
        }
    }

    fn ask_person(&self, question: &Question, _: &Withdrawal) -> Option<Answer> {
        let is_gate = matches!(question, Question::Approval { .. });
        (self.approves && is_gate).then(|| Answer { choice: Choice::Approve, by: "ann".into() })
    }
}

impl Listener {
    /// The place of the first event that has `words` in it.
    fn event_index(&self, words: &str) -> usize {
        let heard = self.heard.lock().expect("heard");
        heard
            .iter()
            .position(|event| event.contains(words))
            .unwrap_or_else(|| panic!("no {words} in {heard:?}"))
    }
}

const HEADER: &str = r#"const RUNBOOK = #{ title: "t", params: #{ db: #{ type: "target", preset: "sandbox" } },
    needs: ["backup.create", "backup.destroy", "branch.create", "branch.destroy", "db.destroy", "security.read"] };
    let db = params.db;
"#;

impl ScriptEnv {
    fn new() -> Self {
        let env = TestEnv::new();
        let runtime = Runtime::new(env.load_config()).expect("a runtime");
        Self { env, runtime }
    }

    /// Runs a script under a header that allows everything.
    fn run_script(&self, script: &str) -> RunResult {
        self.try_run_script(script, Listener::default().into()).expect("the run begins")
    }

    fn try_run_script(&self, script: &str, listener: Arc<Listener>) -> Result<RunResult, Refusal> {
        let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}"))?;
        self.runtime.start_run(
            StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() },
            listener,
        )
    }

    fn resume_run(&self, listener: Arc<Listener>) -> Result<RunResult, Refusal> {
        self.take_up_run(listener, false)
    }

    fn abandon_run(&self) -> RunResult {
        self.take_up_run(Arc::default(), true).expect("it is taken up")
    }

    /// Goes on with another script than the one that was recorded.
    fn resume_as(&self, script: &str) -> RunResult {
        self.try_resume_as(script, Arc::default()).expect("it is driven")
    }

    fn try_resume_as(&self, script: &str, listener: Arc<Listener>) -> Result<RunResult, Refusal> {
        let journal = Arc::new(self.runtime.open_journal()?);
        let (run, _, params) = Runtime::acquire_run(&journal, &journal.resolve_run_id("last")?)?;
        let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}"))?;
        let resume = ResumeRequest { run, runbook, params, confirmed: BTreeSet::new(), abandon: false };
        self.runtime.resume_run(journal, resume, listener)
    }

    fn take_up_run(&self, listener: Arc<Listener>, abandon: bool) -> Result<RunResult, Refusal> {
        let journal = Arc::new(self.runtime.open_journal()?);
        let id = journal.resolve_run_id("last")?;
        let acquired = if abandon {
            Runtime::acquire_run_to_abandon(&journal, &id)
        } else {
            Runtime::acquire_run(&journal, &id)
        };
        let (run, runbook, params) = acquired?;
        let resume = ResumeRequest { run, runbook, params, confirmed: BTreeSet::new(), abandon };
        self.runtime.resume_run(journal, resume, listener)
    }

    /// Returns the kinds of what took effect, in order.
    fn list_effects(&self) -> Vec<String> {
        self.env.sandbox_effects()
    }

    fn run_to_value(&self, script: &str) -> Value {
        let ended = self.run_script(script);
        assert!(ended.failure.is_none() && ended.stop.is_none(), "{script}: {ended:?}");
        ended.value
    }

    /// Runs a script that must fail, and returns the message of its error.
    fn run_to_failure(&self, script: &str) -> String {
        let ended = self.run_script(script);
        let failure = ended.failure.unwrap_or_else(|| panic!("{script} did not fail: {:?}", ended.value));
        failure.fault.message
    }

    /// Runs a script without any right, past the check that would refuse it, and returns why it stopped.
    fn without_rights(&self, script: &str) -> Option<StopReason> {
        let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}")).expect("it parses");
        let params = self.runtime.resolve_params(&runbook, &BTreeMap::new()).expect("its parameters").values;
        let journal = Arc::new(self.runtime.open_journal().expect("a journal"));
        let run = journal
            .create_run(&NewRun {
                runbook: "test.rhai".into(),
                title: "t".into(),
                params: params.clone(),
                sources: runbook.sources(),
                git: None,
                version: VERSION.into(),
                leases: vec![],
            })
            .expect("a run");
        let listener = Arc::new(Listener::default());
        let context = RunContext::new(self.runtime.setup_run(journal, run, Some(vec![]), listener));
        drive::run_on_thread(&self.runtime.tokio, &context, runbook, params).expect("it is driven").stop
    }
}

#[test]
fn a_refusal_cannot_be_swallowed() {
    let env = ScriptEnv::new();
    for shape in [
        "try { H } catch { note(\"swallowed\") }",
        "fn f() { backup::list(\"sandbox\") } try { f() } catch { note(\"swallowed\") }",
        "try { step(\"s\", || H) } catch { note(\"swallowed\") }",
        "try { [1].map(|x| H) } catch { note(\"swallowed\") }",
        "try { [1].for_each(|| H) } catch { note(\"swallowed\") }",
        "try { [1, 2].filter(|x| H == 1) } catch { note(\"swallowed\") }",
        "try { [1, 2].sort(|a, b| H) } catch { note(\"swallowed\") }",
        "try { [1, 2].reduce(|a, b| H, 0) } catch { note(\"swallowed\") }",
        "attempt(|| H); retry(#{ attempts: 5 }, || H)",
        "wait_until(#{ timeout: \"1s\" }, || { try { H } catch { false } })",
    ] {
        let script = shape.replace('H', "backup::list(db)");
        match env.without_rights(&script) {
            Some(StopReason::Refused { .. }) => {}
            other => panic!("{script}: {other:?}"),
        }
    }
}

#[test]
fn a_name_to_confirm_is_quoted_where_a_run_is_refused() {
    let (_, hint) = super::permit::unconfirmed_message("it's mine");
    assert!(hint.contains(r"`--confirm 'it'\''s mine'`"), "{hint}");
}

#[test]
fn an_endless_loop_is_interrupted() {
    let env = ScriptEnv::new();
    for script in ["loop {}", "sleep(\"1h\")", "wait_until(#{ timeout: \"1h\", every: \"1h\" }, || false)"] {
        let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}")).expect("it parses");
        let params = env.runtime.resolve_params(&runbook, &BTreeMap::new()).expect("its parameters").values;
        let journal = Arc::new(env.runtime.open_journal().expect("a journal"));
        let new = NewRun {
            runbook: "test.rhai".into(),
            title: "t".into(),
            params: params.clone(),
            sources: runbook.sources(),
            git: None,
            version: VERSION.into(),
            leases: vec![],
        };
        let run = journal.create_run(&new).expect("a run");
        let context =
            RunContext::new(env.runtime.setup_run(journal, run, None, Arc::new(Listener::default())));
        let other = Arc::clone(&context);
        let interrupter = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            drop(other.stopper.stop_run(StopReason::Interrupted));
        });
        let ended =
            drive::run_on_thread(&env.runtime.tokio, &context, runbook, params).expect("it is driven");
        interrupter.join().expect("the interrupter");
        assert!(matches!(ended.stop, Some(StopReason::Interrupted)), "{script}: {ended:?}");
        assert_eq!(ended.status, RunStatus::Interrupted);
    }
}

#[test]
fn different_types_do_not_compare() {
    let env = ScriptEnv::new();
    for (script, wrong) in [
        ("1 < \"2\"", "different types"),
        ("() < 1", "different types"),
        ("now() > 5", "different types"),
        ("\"1\" == 1", "different types"),
        ("[] >= #{}", "different types"),
    ] {
        let message = env.run_to_failure(script);
        assert!(message.contains(wrong), "{script}: {message}");
    }
    for script in [
        "1 < 2.5",
        "() == ()",
        "params.db != ()",
        "\"a\" < \"b\"",
        "now() <= now()",
        "duration(\"90s\") == duration(\"1m 30s\")",
    ] {
        assert_eq!(env.run_to_value(script), Value::Bool(true), "{script}");
    }
}

#[test]
fn the_sandbox_of_the_language_is_closed() {
    let env = ScriptEnv::new();
    for (script, wrong) in [
        ("eval(\"1\")", "eval"),
        ("timestamp()", "there is no function `timestamp`"),
        ("fn now() { 1 } now()", "hides redrill's own"),
        ("fn invariant() { false }", "a rehearsal gives it the world"),
        ("backup::lits(db)", "there is no operation `backup::lits`"),
        ("backup::create(db, #{ lable: \"x\" })", "has no option `lable`"),
        ("params.bd", "no parameter `bd`"),
        ("restor(db)", "there is no function `restor`"),
    ] {
        match env.try_run_script(script, Listener::default().into()) {
            Err(refusal) => assert!(refusal.to_string().contains(wrong), "{script}: {refusal}"),
            Ok(ended) => panic!("{script} ran: {ended:?}"),
        }
    }
    assert!(
        env.runtime.open_journal().expect("a journal").list_runs().expect("its runs").is_empty(),
        "a refusal left a run"
    );
}

#[test]
fn the_header_is_read_without_running_anything() {
    let env = ScriptEnv::new();
    for (header, wrong) in [
        ("1", "no header"),
        ("let RUNBOOK = #{ title: \"t\" };", "not a literal constant"),
        ("const RUNBOOK = #{ title: backup::list(\"sandbox\") };", "not a literal constant"),
        ("const RUNBOOK = #{ title: \"t\", parms: #{} };", "unknown field `parms`"),
        (
            "const RUNBOOK = #{ title: \"t\", params: #{ n: #{ type: \"int\", \"default\": 1 } } };",
            "unknown field `default`",
        ),
        (
            "const RUNBOOK = #{ title: \"t\", params: #{ n: #{ type: \"number\" } } };",
            "unknown type `number`",
        ),
        (
            "const RUNBOOK = #{ title: \"t\", params: #{ n: #{ type: \"int\", preset: \"x\" } } };",
            "the preset of `n`",
        ),
        ("const RUNBOOK = #{ title: \"t\", needs: [\"backups.create\"] };", "is no right"),
        ("const RUNBOOK = #{ title: \"t\", needs: [\"backup.make\"] };", "is no right"),
        ("const RUNBOOK = #{ title: \"t\", leaves: [\"brench\"] };", "is nothing that a run may leave"),
        ("const RUNBOOK = #{ title: \"t\", leaves: \"branch\" };", "expected a sequence"),
    ] {
        let error = Runbook::from_text("t.rhai", header.into()).map(drop).expect_err(header);
        assert!(error.message.contains(wrong), "{header}: {error:?}");
    }
    assert!(env.list_effects().is_empty());
}

#[test]
fn parameters_are_checked_before_anything_runs() {
    let env = ScriptEnv::new();
    let runbook = Runbook::from_text(
        "t.rhai",
        r#"const RUNBOOK = #{ title: "t", params: #{
            n: #{ type: "int", preset: 3 }, at: #{ type: "time", preset: "2026-11-20T03:00:00Z" }, db: #{ type: "target", preset: "sandbox" },
            net: #{ type: "cidr", preset: "10.1.2.3/8" }, how: #{ type: "choice", choices: ["fast", "safe"], preset: "safe" },
            key: #{ type: "secret", preset: "env:HOME" }, wait: #{ type: "duration", preset: "45m" }, must: #{ type: "bool" } } };"#
            .into(),
    )
    .expect("it parses");
    let given = |pairs: &[(&str, &str)]| {
        let words = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        env.runtime.resolve_params(&runbook, &words).map(|params| params.values)
    };
    for (pairs, wrong) in [
        (&[][..], "`must` is missing"),
        (&[("must", "yes")], "expected bool"),
        (&[("must", "true"), ("n", "three")], "expected int"),
        (&[("must", "true"), ("mist", "1")], "no parameter `mist`"),
        (&[("must", "true"), ("at", "2026-11-20T03:00:00")], "no time zone"),
        (&[("must", "true"), ("db", "sandbx")], "no target `sandbx`"),
        (&[("must", "true"), ("how", "faste")], "expected choice"),
        (&[("must", "true"), ("net", "10.0.0.0/64")], "expected cidr"),
        (&[("must", "true"), ("key", "hunter2")], "a secret is given as a reference"),
    ] {
        let Err(Refusal::Runbook(error)) = given(pairs) else { panic!("{wrong}") };
        assert!(error.message.contains(wrong), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "a secret's value was repeated");
        assert!(error.hint.is_some(), "{error:?}");
    }
    let values = given(&[("must", "true"), ("n", "7")]).expect("they are right");
    assert_eq!((values["n"].clone(), values["net"].clone()), (7.into(), "10.0.0.0/8".into()));
    assert_eq!(values["key"], serde_json::json!({"$secret": "env:HOME"}));
}

#[test]
fn what_is_deferred_keeps_its_values_and_runs_backwards() {
    let env = ScriptEnv::new();
    let listener = Arc::new(Listener::default());
    let script = r#"for name in ["a", "b", "c"] { defer(|| note(name)); } on_failure(|| note("never"));"#;
    env.try_run_script(script, Arc::clone(&listener)).expect("it runs");
    let heard = listener.heard.lock().expect("heard").join("\n");
    let order: Vec<_> =
        ["\"text\":\"c\"", "\"text\":\"b\"", "\"text\":\"a\""].iter().map(|n| heard.find(n)).collect();
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{heard}");
    assert!(!heard.contains("never"));
}

#[test]
fn a_failed_clean_up_fails_the_run_and_hides_no_error() {
    let env = ScriptEnv::new();
    let ended = env.run_script("defer(|| fail(\"left open\")); 1");
    assert_eq!((ended.status, ended.cleanup), (RunStatus::Failed, vec!["left open".to_owned()]));
    assert_eq!(ended.left_behind, ["what `defer(||fail(\"left open\"))` would have undone (/defer#0)"]);
    let ended = env
        .run_script("defer(|| fail(\"left open\")); on_failure(|| note(\"was here\")); fail(\"the cause\")");
    assert_eq!(ended.failure.expect("a failure").fault.message, "the cause");
}

#[test]
fn errors_are_one_map() {
    let env = ScriptEnv::new();
    let error = env.run_to_value("let r = attempt(|| backup::get(db, \"nope\")); r.error");
    assert_eq!(
        (error["code"].as_str(), error["operation"].as_str()),
        (Some("NOT_FOUND"), Some("backup::get"))
    );
    assert_eq!((error["side_effects"].as_str(), error["target"].as_str()), (Some("none"), Some("sandbox")));
    for (script, code) in [
        ("let c = (); try { ensure(false, \"no\") } catch (e) { c = e.code } c", "ENSURE"),
        ("let c = (); try { let a = [1]; a[5] } catch (e) { c = error(e).code } c", "SCRIPT"),
        ("let c = (); try { throw \"x\" } catch (e) { c = error(e).code } c", "THROWN"),
        ("let five = 5; attempt(|| backup::create(db, #{ label: five })).error.code", "INVALID"),
    ] {
        assert_eq!(env.run_to_value(script), Value::from(code), "{script}");
    }
    let own = "#{ code: 5, message: \"m\", hint: [1], side_effects: \"perhaps\", target: db, call_name: (), more: #{ a: 1 } }";
    assert_eq!(
        env.run_to_value(&format!("attempt(|| {{ throw {own} }}).error")),
        serde_json::json!({"code": 5, "message": "m", "hint": [1], "retryable": false, "side_effects": "perhaps",
            "operation": null, "target": {"$target": "sandbox"}, "left_behind": [], "call_name": null, "more": {"a": 1}}),
        "what a script throws keeps its own fields"
    );
    let ended = env.run_script("\n\nfail(\"here\")");
    let place = ended.failure.expect("a failure").place.expect("a place");
    assert_eq!((place.file.as_str(), place.text.as_str()), ("test.rhai", "fail(\"here\")"));
}

#[test]
fn only_what_may_be_repeated_is() {
    let env = ScriptEnv::new();
    let tries = |error: &str| {
        env.run_to_value(&format!(
        "let n = 0; attempt(|| retry(#{{ attempts: 3, backoff: \"1ms\" }}, || {{ n += 1; throw #{{ code: \"X\", message: \"m\", {error} }} }})); n"
    ))
    };
    assert_eq!(tries("retryable: true, side_effects: \"none\""), 3);
    assert_eq!(tries("retryable: true, side_effects: \"some\""), 1);
    assert_eq!(tries("retryable: false, side_effects: \"none\""), 1);
    // What is of another type permits nothing.
    assert_eq!(tries("retryable: true, side_effects: \"perhaps\""), 1);
    assert_eq!(tries("retryable: true, side_effects: ()"), 1);
    assert_eq!(tries("retryable: 1, side_effects: \"none\""), 1);
}

#[test]
fn a_wait_that_nobody_watched_asks_once_more() {
    let env = ScriptEnv::new();
    assert_eq!(env.run_to_value("let n = 0; wait_until(#{ timeout: \"0s\" }, || { n += 1; n == 1 }); n"), 1);
    assert!(
        env.run_to_failure("wait_until(#{ timeout: \"20ms\", every: \"5ms\" }, || false)")
            .contains("did not come")
    );
    assert!(env.run_to_failure("wait_until(#{ timout: \"20ms\" }, || false)").contains("no option `timout`"));
}

#[test]
fn values_are_the_same_live_and_replayed() {
    let env = ScriptEnv::new();
    assert!(env.run_to_failure("attach(\"f\", || 1)").contains("cannot be kept"));
    assert!(env.run_to_failure("attach(\"f\", #{ \"$branch\": 1 })").contains("may not start with `$`"));
    let floats = env.run_to_value("let x = 0.1 + 0.2; attach(\"x\", x); [x, 3.0, 'c', \"t\", (), true, now() - now() <= duration(\"0s\")]");
    assert_eq!(
        floats.as_array().expect("an array")[1..4],
        [Value::from(3.0), Value::from("c"), Value::from("t")]
    );
}

const DRILL: &str = r#"
    let taken = step("back up", || backup::create(db, #{ label: "drill" }));
    defer(|| note("cleaned"));
    let copy = step("restore", || backup::restore(db, taken, #{ into: "drill", temporary: true }));
    let first = db::query(copy, "select count(*) as n from orders")[0].n;
    db::execute(copy, "delete from order_items");
    let mark = backup::pitr::mark(db, "here");
    let other = branch::create(db, #{ into: "other" });
    branch::delete(db, other);
    first
"#;

/// Dies at every event of a run in turn, and resumes: each effect takes effect exactly once, and the end is the same.
#[test]
fn a_kill_at_any_point_changes_nothing() {
    let calm = ScriptEnv::new();
    let listener = Arc::new(Listener::default());
    let undisturbed = calm.try_run_script(DRILL, Arc::clone(&listener)).expect("it runs");
    assert_eq!(undisturbed.status, RunStatus::Succeeded, "{undisturbed:?}");
    let events = listener.count.load(Ordering::SeqCst);
    assert!(events > 30, "{events} events are too few to be a test");
    for die_at in 1..events {
        let env = ScriptEnv::new();
        let listener = Arc::new(Listener { die_at: Some(die_at), ..Listener::default() });
        env.try_run_script(DRILL, listener).map(drop).expect_err("it is killed");
        let ended = env.resume_run(Listener::default().into()).expect("it resumes");
        assert_eq!(
            (ended.status, &ended.value),
            (undisturbed.status, &undisturbed.value),
            "killed at event {die_at}"
        );
        assert_eq!(env.list_effects(), calm.list_effects(), "killed at event {die_at}");
    }
}

/// The second kill comes while the first is being recovered from.
#[test]
fn two_kills_change_nothing_either() {
    let calm = ScriptEnv::new();
    calm.run_script(DRILL);
    for (first, second) in (4..44).step_by(6).flat_map(|a| [(a, 1), (a, 2), (a, 4), (a, 9)]) {
        let env = ScriptEnv::new();
        let dying = |at| Arc::new(Listener { die_at: Some(at), ..Listener::default() });
        drop(env.try_run_script(DRILL, dying(first)));
        let ended = env.resume_run(dying(second)).or_else(|_| env.resume_run(Listener::default().into()));
        let ended = ended.or_else(|_| env.resume_run(Listener::default().into()));
        drop(ended);
        assert_eq!(env.list_effects(), calm.list_effects(), "killed at {first}, then at {second}");
    }
}

#[test]
fn another_argument_after_a_crash_is_a_mismatch() {
    let env = ScriptEnv::new();
    // What the script asks depends on the world outside the run: the state folder has a file, or not.
    let listener = Arc::new(Listener { die_at: Some(6), ..Listener::default() });
    drop(env.try_run_script(
        "backup::create(db, #{ label: \"a\" }); backup::create(db, #{ label: \"b\" });",
        listener,
    ));
    let journal = Arc::new(env.runtime.open_journal().expect("a journal"));
    let (run, _, params) = Runtime::acquire_run(&journal, &journal.resolve_run_id("last").expect("the run"))
        .expect("it is free");
    let edited = format!("{HEADER}backup::create(db, #{{ label: \"z\" }});");
    let runbook = Runbook::from_text("test.rhai", edited).expect("it parses");
    let resume = ResumeRequest { run, runbook, params, confirmed: BTreeSet::new(), abandon: false };
    let before = env.list_effects();
    let ended = env.runtime.resume_run(journal, resume, Arc::new(Listener::default())).expect("it is driven");
    match ended.stop {
        Some(StopReason::Mismatch { message }) => {
            assert!(message.contains("\"a\"") && message.contains("\"z\""), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((env.list_effects(), ended.status), (before, RunStatus::Interrupted));
}

#[test]
fn an_abandoned_run_begins_nothing_and_cleans_up() {
    let env = ScriptEnv::new();
    let listener = Arc::new(Listener::default());
    env.try_run_script(DRILL, Arc::clone(&listener)).expect("it runs");
    let begun = listener
        .heard
        .lock()
        .expect("heard")
        .iter()
        .position(|e| e.contains("call.started") && e.contains("branch::create"));
    let env = ScriptEnv::new();
    drop(env.try_run_script(DRILL, Arc::new(Listener { die_at: begun, ..Listener::default() })));
    let journal = Arc::new(env.runtime.open_journal().expect("a journal"));
    let (run, runbook, params) =
        Runtime::acquire_run(&journal, &journal.resolve_run_id("last").expect("the run"))
            .expect("it is free");
    let resume = ResumeRequest { run, runbook, params, confirmed: BTreeSet::new(), abandon: true };
    let ended = env.runtime.resume_run(journal, resume, Arc::new(Listener::default())).expect("it is driven");
    assert_eq!(ended.status, RunStatus::Abandoned, "{ended:?}");
    let effects = env.list_effects();
    assert!(effects.iter().any(|e| e == "branch.delete"), "the temporary branch is still there: {effects:?}");
}

/// What a run ended with is what it stays with: a resume in the middle of the clean-up begins nothing new.
#[test]
fn a_run_that_was_ending_ends_the_same_way() {
    let script = "defer(|| { note(\"one\"); db::execute(db, \"delete from order_items\"); note(\"two\"); });
        backup::create(db); fail(\"the cause\"); backup::create(db);";
    let calm = ScriptEnv::new();
    let listener = Arc::new(Listener::default());
    let undisturbed = calm.try_run_script(script, Arc::clone(&listener)).expect("it runs");
    let ending = listener.event_index("run.ending");
    for die_at in ending..listener.count.load(Ordering::SeqCst) {
        let env = ScriptEnv::new();
        drop(env.try_run_script(script, Arc::new(Listener { die_at: Some(die_at), ..Listener::default() })));
        let ended = env.resume_run(Listener::default().into()).expect("it resumes");
        assert_eq!(ended.failure.map(|f| f.fault), undisturbed.failure.clone().map(|f| f.fault), "{die_at}");
        assert_eq!(env.list_effects(), calm.list_effects(), "killed at {die_at}");
    }
}

#[test]
fn an_abandoned_run_that_was_killed_stays_abandoned() {
    let env = ScriptEnv::new();
    let script =
        "defer(|| { note(\"one\"); note(\"two\"); }); backup::create(db); sleep(\"1h\"); backup::create(db);";
    let listener = Arc::new(Listener::default());
    drop(env.try_run_script(script, Arc::new(Listener { die_at: Some(10), ..Listener::default() })));
    let effects = env.list_effects();
    let abandon = |listener: Arc<Listener>| {
        let journal = Arc::new(env.runtime.open_journal().expect("a journal"));
        let (run, runbook, params) =
            Runtime::acquire_run(&journal, &journal.resolve_run_id("last").expect("the run"))
                .expect("it is free");
        let resume = ResumeRequest { run, runbook, params, confirmed: BTreeSet::new(), abandon: true };
        env.runtime.resume_run(journal, resume, listener)
    };
    drop(abandon(Arc::new(Listener { die_at: Some(3), ..Listener::default() })));
    let ended = env.resume_run(Arc::clone(&listener)).expect("it is taken up");
    assert_eq!((ended.status, env.list_effects()), (RunStatus::Abandoned, effects), "{ended:?}");
}

#[test]
fn no_step_has_the_path_of_the_clean_up() {
    let env = ScriptEnv::new();
    let ended = env.run_script(
        "defer(|| db::execute(db, \"delete from order_items where line = 1\")); step(\"end\", || step(\"defer\", || db::execute(db, \"delete from order_items where line = 2\")));",
    );
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
    assert_eq!(env.list_effects().len(), 2);
}

#[test]
fn what_clean_up_defers_is_done_too() {
    let env = ScriptEnv::new();
    let ended = env.run_script(
        "defer(|| { let b = branch::create(db, #{ into: \"late\", temporary: true }); defer(|| db::execute(db, \"delete from order_items\")); });",
    );
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
    let effects = env.list_effects();
    assert!(
        effects.contains(&"branch.delete".into()) && effects.contains(&"sql.execute".into()),
        "{effects:?}"
    );
}

#[test]
fn what_changed_something_is_not_repeated() {
    let env = ScriptEnv::new();
    let script =
        "let n = 0; attempt(|| retry(#{ attempts: 3, backoff: \"1ms\" }, || { n += 1; backup::create(db);
        throw #{ code: \"X\", message: \"m\", retryable: true, side_effects: \"none\" } })); n";
    assert_eq!(env.run_to_value(script), 1);
    assert_eq!(env.list_effects(), ["backup.create"]);
}

#[test]
fn what_failed_half_done_beside_another_failure_is_not_repeated() {
    let env = ScriptEnv::new();
    // The first branch's error may be repeated, and is the one that is raised; the second branch left something.
    let script = "retry(#{ attempts: 3, backoff: \"1ms\" }, || parallel([
        || { sleep(\"200ms\"); throw #{ code: \"X\", message: \"m\", retryable: true, side_effects: \"none\" } },
        || { backup::restore(db, backup::list(db)[0], #{ into: \"half\" }) }]))";
    let restores = |heard: &str| heard.contains("call.started") && heard.contains("backup::restore");
    let dying = Arc::new(Listener { die_before: Some(restores), ..Listener::default() });
    assert!(env.try_run_script(script, dying).is_err(), "it was killed");
    let journal = env.runtime.open_journal().expect("a journal");
    let id = journal.resolve_run_id("last").expect("the run");
    let run = journal.acquire_run(&id).expect("it is free");
    let call = "/retry#0/attempt#0/parallel#0/1/backup::restore#0".to_owned();
    let Ok(journal::CallState::Started { op, args, .. }) = run.call_state(&call) else {
        panic!("it was begun")
    };
    let fault = serde_json::json!({ "code": "TIMEOUT", "message": "half done", "side_effects": "some", "retryable": true });
    let end = Record::End { call, op, args, at: "test".into(), outcome: journal::Outcome::Err(fault) };
    run.append_record(end, journal::Durability::Synced).expect("written");
    drop(run);
    let ended = env.resume_run(Arc::default()).expect("it is driven");
    assert_eq!(ended.status, RunStatus::Failed, "{ended:?}");
    let again = journal.acquire_run(&id).expect("it is free").call_names_below("/retry#0/attempt#1/");
    assert_eq!(again, Vec::<String>::new(), "it was tried again");
}

#[test]
fn a_branch_that_the_script_removed_is_not_removed_again() {
    let env = ScriptEnv::new();
    let listener = Arc::new(Listener::default());
    let script = "let b = branch::create(db, #{ into: \"x\", temporary: true }); branch::delete(db, b);";
    let ended = env.try_run_script(script, Arc::clone(&listener)).expect("it runs");
    assert_eq!(ended.status, RunStatus::Succeeded);
    let heard = listener.heard.lock().expect("heard").join("\n");
    assert_eq!(heard.matches("call.started").count(), 2, "{heard}");
}

/// A target that did not answer is an outcome like any other: the script that went on without it goes the same way.
#[test]
fn a_target_that_did_not_answer_is_not_asked_again() {
    let env = ScriptEnv::new();
    let far = |provider: &str, settings: &[(&str, &str)]| {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        TargetConfig { name: "far".into(), provider: provider.into(), protect: false, tags: vec![], settings }
    };
    let open = |target: TargetConfig| {
        let mut config = Config::clone(&env.runtime.config);
        config.targets.insert("far".into(), target);
        Runtime::new(config).expect("a runtime")
    };
    let down = open(far("postgres", &[("host", "/nowhere"), ("user", "x"), ("database", "x")]));
    let script = "let r = attempt(|| db::execute(\"far\", \"delete from orders\")); backup::create(db); note(\"here\"); note(\"there\"); r.ok";
    let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}")).expect("it parses");
    let start = StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
    let calm = Arc::new(Listener::default());
    let all = env.try_run_script("backup::create(db); note(\"here\"); note(\"there\");", Arc::clone(&calm));
    drop(all);
    let die_at = Some(calm.event_index("here") + 1);
    drop(down.start_run(start, Arc::new(Listener { die_at, ..Listener::default() })));
    let up = open(far("sim", &[("world", "sandbox")]));
    let journal = Arc::new(up.open_journal().expect("a journal"));
    let (run, runbook, params) =
        Runtime::acquire_run(&journal, &journal.resolve_run_id("last").expect("the run")).expect("free");
    let resume = ResumeRequest { run, runbook, params, confirmed: BTreeSet::new(), abandon: false };
    let ended = up.resume_run(journal, resume, Arc::new(Listener::default())).expect("it is driven");
    assert_eq!((ended.status, ended.value), (RunStatus::Succeeded, Value::Bool(false)));
}

/// Of a call that was begun nobody knows anything while its target does not answer: the run stops, and can go on.
#[test]
fn a_begun_call_whose_target_is_away_waits_for_it() {
    let env = ScriptEnv::new();
    let open = |provider: &str, settings: &[(&str, &str)]| {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let far = TargetConfig {
            name: "far".into(),
            provider: provider.into(),
            protect: false,
            tags: vec![],
            settings,
        };
        let mut config = Config::clone(&env.runtime.config);
        config.targets.insert("far".into(), far);
        Runtime::new(config).expect("a runtime")
    };
    let script = "backup::create(\"far\"); retry(#{ attempts: 3, backoff: \"1ms\" }, || db::execute(\"far\", \"delete from order_items\")).rows_affected";
    let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}")).expect("it parses");
    let there = open("sim", &[("world", "sandbox")]);
    let start = StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
    // Dead once the call is begun and before it takes effect: when it is said to have started.
    let die_at = Some(2);
    drop(there.start_run(start, Arc::new(Listener { die_at, ..Listener::default() })));
    let resume = |runtime: &Runtime| {
        let journal = Arc::new(runtime.open_journal().expect("a journal"));
        let id = journal.resolve_run_id("last").expect("the run");
        let (run, runbook, params) = Runtime::acquire_run(&journal, &id).expect("it is free");
        let resume = ResumeRequest { run, runbook, params, confirmed: BTreeSet::new(), abandon: false };
        runtime.resume_run(journal, resume, Arc::new(Listener::default()))
    };
    for _ in 0..2 {
        match resume(&open("postgres", &[("host", "/nowhere"), ("user", "x"), ("database", "x")])) {
            Ok(ended) => assert_eq!(ended.status, RunStatus::Undecided, "{ended:?}"),
            // What was leased is asked for before anything is done; that is no end either.
            Err(refusal) => assert!(matches!(refusal, Refusal::Target(_)), "{refusal:?}"),
        }
    }
    let ended = resume(&there).expect("it is driven");
    assert_eq!((ended.status, &ended.value), (RunStatus::Succeeded, &Value::from(241)), "{ended:?}");
}

#[test]
fn a_long_list_is_built_in_the_time_that_its_items_take() {
    let env = ScriptEnv::new();
    // With a look at every item at every change this takes hours.
    let script = "let list = []; for i in 0..1000001 { list.push(i); } list.len()";
    assert_eq!(env.run_to_value(script), 1_000_001);
}

#[test]
fn what_would_be_huge_in_one_step_is_refused() {
    let env = ScriptEnv::new();
    for script in ["[].pad(1000000000, 0)", "\"\".pad(1000000000, 'x')", "blob(1000000000)"] {
        let said = env.run_to_failure(script);
        assert!(said.contains("a length of 1000000000 is too large"), "{script}: {said}");
    }
    let script = "let text = \"a\"; text.pad(4, \"xy\"); let list = [1]; list.pad(3, 0); [text, list]";
    assert_eq!(env.run_to_value(script), serde_json::json!(["axyx", [1, 0, 0]]));
}

#[test]
fn a_value_that_would_not_read_back_is_an_error_of_the_script() {
    let env = ScriptEnv::new();
    let nested = "let v = 1; for i in 0..DEPTH { v = [v]; } attach(\"v\", v); 1";
    assert_eq!(env.run_to_value(&nested.replace("DEPTH", "96")), 1);
    let said = env.run_to_failure(&nested.replace("DEPTH", "97"));
    assert!(said.contains("nested more than 96 levels deep"), "{said}");
}

#[test]
fn a_check_warns_of_what_may_stay_and_nothing_can_leave() {
    let warnings = |leaves: &str, script: &str| {
        let text = format!(
            "const RUNBOOK = #{{ title: \"t\", needs: [\"branch.create\", \"db.change\", \"network.change\"], leaves: [{leaves}] }};\n{script}"
        );
        let runbook = Runbook::from_text("t.rhai", text).expect("it parses");
        let found = super::check::check_runbook(&runbook);
        let about_leaves = found.into_iter().filter(|finding| finding.message.contains("in `leaves`"));
        about_leaves.map(|finding| (finding.severity, finding.message)).collect::<Vec<_>>()
    };
    let left = "step(\"s\", || { branch::create(\"sandbox\", #{ into: \"x\" }); });
        fn f() { db::config::set(\"sandbox\", #{ work_mem: \"8MB\" }) }";
    assert_eq!(warnings("\"branch\", \"branch:x\", \"setting:work_mem\"", left), []);
    let idle = warnings("\"branch:x\", \"tls\", \"schedule:04:00\"", left);
    let named: Vec<_> =
        idle.iter().map(|(_, message)| message.split('`').nth(1).unwrap_or_default()).collect();
    assert_eq!(named, ["tls", "schedule:04:00"], "{idle:?}");
    assert!(idle.iter().all(|(severity, _)| *severity == super::check::Severity::Warning));
    assert_eq!(warnings("\"tls\"", "supabase::api(\"sandbox\", \"PUT\", \"/x\")"), [], "it can do anything");
}
