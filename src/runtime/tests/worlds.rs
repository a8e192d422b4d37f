//! The time of simulated worlds in a run, moments that are counted back from it, and fixtures.

use super::*;
use crate::{
    base::{
        clock::{Clock, SystemClock, VirtualClock},
        moment::{Moment, Span},
    },
    config::Config,
    provider::{OpenContext, sim::WorldDraft},
    runtime::{check::check_runbook, run_fixture},
};
use serde::Deserialize as _;
use serde_json::json;

/// Returns a runtime with two simulated targets, `sandbox` and `other`.
fn env_of_two_worlds() -> ScriptEnv {
    let env = TestEnv::new();
    let mut config = env.load_config();
    let other = TargetConfig { name: "other".into(), ..config.targets["sandbox"].clone() };
    config.targets.insert("other".into(), other);
    ScriptEnv { runtime: Runtime::new(config).expect("a runtime"), env }
}

fn lead(env: &ScriptEnv, target: &str) -> Span {
    let target = env.runtime.fleet.open_target(target).expect("it is a target");
    target.simulated_clock_lead().expect("it is read").expect("it is simulated")
}

fn read_moment(value: &Value) -> Moment {
    Moment::deserialize(value).expect("a moment")
}

#[test]
fn now_is_the_clock_of_the_worlds_that_the_run_is_on() {
    let env = ScriptEnv::new();
    let script = "let before = now(); let made = backup::create(db); let window = backup::pitr::window(db);
        #{ before: before, made: made.finished_at, latest: window.latest, after: now() }";
    let value = env.run_to_value(script);
    let moments = ["before", "made", "latest", "after"].map(|name| read_moment(&value[name]));
    assert!(moments.is_sorted(), "two clocks in one script: {value}");
    assert!(
        moments[3].duration_since(moments[0]) >= Span::from_secs(240),
        "a backup takes four minutes there"
    );
    // A later run, and a run that names the world in its text only, are on the same clock.
    let later = read_moment(&env.run_to_value("now()"));
    assert!(later >= moments[3], "{later} {value}");
    let text = "const RUNBOOK = #{ title: \"t\", params: #{}, needs: [\"db.read\"] }; db::health(\"sandbox\"); now()";
    let runbook = Runbook::from_text("t.rhai", text.into()).expect("it parses");
    let start = StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
    let ended = env.runtime.start_run(start, Arc::<Listener>::default()).expect("it begins");
    assert!(read_moment(&ended.value) >= later, "{ended:?}");
}

#[test]
fn now_is_the_machines_clock_without_a_target() {
    let env = ScriptEnv::new();
    env.run_to_value("backup::create(db)");
    let text = "const RUNBOOK = #{ title: \"t\", params: #{}, needs: [] }; now()";
    let runbook = Runbook::from_text("t.rhai", text.into()).expect("it parses");
    let start = StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
    let ended = env.runtime.start_run(start, Arc::<Listener>::default()).expect("it begins");
    assert!(read_moment(&ended.value) <= SystemClock.now(), "{ended:?}");
}

#[test]
fn a_wait_in_a_run_is_over_on_its_own_clock() {
    let env = ScriptEnv::new();
    // The backup takes four minutes there: the deadline is over, and it is asked once more.
    let script = "let n = 0; let done = attempt(|| wait_until(#{ timeout: \"1m\", every: \"1ms\" }, || { n += 1; backup::create(db); n > 3 }));
        #{ n: n, ok: done.ok }";
    assert_eq!(env.run_to_value(script), json!({ "n": 2, "ok": false }));
    let slept = env.run_to_value("let before = now(); sleep(\"20ms\"); (now() - before).seconds >= 0.02");
    assert_eq!(slept, json!(true));
}

#[test]
fn the_worlds_of_a_run_have_one_time() {
    let env = env_of_two_worlds();
    let script = "let made = backup::create(db); let mark = backup::pitr::mark(\"other\", \"then\"); mark.time >= made.finished_at";
    let ended = env.run_script(script);
    assert_eq!((ended.status, ended.value), (RunStatus::Succeeded, json!(true)));
    assert!(lead(&env, "sandbox") >= Span::from_secs(240));
    assert_eq!(lead(&env, "sandbox"), lead(&env, "other"), "the next run on both would be refused");
    assert_eq!(env.run_script("now(); db::health(\"other\").ok").status, RunStatus::Succeeded);
}

#[test]
fn worlds_of_different_times_are_refused_before_anything_is_done() {
    let env = env_of_two_worlds();
    env.run_to_value("backup::create(db)");
    let refused = env.try_run_script("backup::create(\"other\")", Arc::default()).expect_err("it is refused");
    let Refusal::Runbook(error) = refused else { panic!("{refused:?}") };
    assert!(error.message.contains("`sandbox` and `other` have different times"), "{error:?}");
    assert_eq!(error.hint.as_deref(), Some("begin with fresh worlds: `redrill world reset -t sandbox`"));
    assert_eq!(lead(&env, "other"), Span::ZERO);
    assert_eq!(env.runtime.open_journal().expect("a journal").list_runs().expect("runs").len(), 1);
}

const TIMED: &str = r#"const RUNBOOK = #{ title: "t", params: #{ db: #{ type: "target", preset: "sandbox" },
    to: #{ type: "time" }, since: #{ type: "time", preset: "-1d" } }, needs: ["backup.create"] };
    backup::create(params.db); #{ to: params.to, since: params.since, now: now() }"#;

#[test]
fn a_moment_that_is_counted_back_is_fixed_once_when_the_run_starts() {
    let env = ScriptEnv::new();
    // The world is ahead of the machine, and the moment is counted by its clock.
    env.run_to_value("backup::create(db)");
    let runbook = || Runbook::from_text("test.rhai", TIMED.into()).expect("it parses");
    let params = BTreeMap::from([("to".to_owned(), "-30m".to_owned())]);
    let start = StartRequest { runbook: runbook(), params, confirmed: BTreeSet::new() };
    let before = env.runtime.read_target_time(&["sandbox".to_owned()]).expect("its time");
    assert!(
        before.duration_since(SystemClock.now()) > Span::from_secs(200),
        "a backup takes four minutes there"
    );
    let dying = |heard: &str| heard.contains("call.finished");
    let listener = Arc::new(Listener { die_before: Some(dying), ..Listener::default() });
    assert!(
        env.runtime.start_run(start, Arc::clone(&listener) as Arc<dyn RunObserver>).is_err(),
        "it was killed"
    );
    let resolved = listener.event_index("param.resolved");
    assert!(listener.heard.lock().expect("heard")[resolved].contains("\"since\""));
    let ended = env.resume_run(Arc::default()).expect("it resumes");
    let moment = |name: &str| read_moment(&ended.value[name]);
    let back = moment("to").duration_since(before.saturating_add(Span::from_secs(-1800)));
    assert!(back >= Span::ZERO && back < Span::from_secs(60), "{back}: {ended:?}");
    assert_eq!(moment("to").duration_since(moment("since")), Span::from_secs(86_400 - 1800));
    let journal = env.runtime.open_journal().expect("a journal");
    let run = journal.summarize_run(&ended.run).expect("the run");
    assert_eq!((&run.params["to"], &run.params["since"]), (&ended.value["to"], &ended.value["since"]));
}

#[test]
fn a_script_has_its_moments_fixed() {
    let env = ScriptEnv::new();
    let shapes = [
        "backup::pitr::restore(db, #{ to: #{ time: \"-30m\" }, into: \"b\" })",
        "backup::pitr::restore(db, #{ to: \"-30m\", into: \"b\" })",
        "backup::pitr::find(db, #{ after: \"-30m\" })",
    ];
    for script in shapes {
        let refused = env.try_run_script(script, Arc::default()).expect_err(script);
        let Refusal::Runbook(error) = refused else { panic!("{script}: {refused:?}") };
        assert!(error.message.contains("another moment at every resume"), "{script}: {error:?}");
        assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("-p to=-30m")), "{script}: {error:?}");
    }
    // What the check cannot see is refused where it stands.
    for script in [
        "let back = \"-30m\"; backup::pitr::restore(db, #{ to: #{ time: back }, into: \"b\" })",
        "moment(\"-30m\")",
    ] {
        assert!(env.run_to_failure(script).contains("another moment at every resume"), "{script}");
    }
    assert!(env.list_effects().is_empty());
}

fn load_runbook(body: &str) -> Runbook {
    let header = r#"const RUNBOOK = #{ title: "t", params: #{ db: #{ type: "target", preset: "sandbox" },
        to: #{ type: "time", preset: "-1h" }, n: #{ type: "int", preset: 1 }, q: #{ type: "string", preset: "x" } }, needs: ["db.read"] };"#;
    Runbook::from_text("t.rhai", format!("{header} db::health(params.db);\n{body}")).expect("it parses")
}

fn draft_sandbox(config: &Config) -> BTreeMap<String, WorldDraft> {
    let begun = Moment::parse("2026-11-20T12:00:00Z").expect("a moment");
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(begun));
    let target = &config.targets["sandbox"];
    let opening = OpenContext {
        target,
        base: &config.base,
        file: config.file.as_deref(),
        state: &config.state,
        clock: &clock,
    };
    BTreeMap::from([("sandbox".to_owned(), WorldDraft::from_config(&opening, "w").expect("a world"))])
}

/// Calls a fixture on a fresh sandbox.
fn call_fixture(body: &str) -> Result<(WorldDraft, BTreeMap<String, String>), Refusal> {
    let mut drafts = draft_sandbox(&TestEnv::new().load_config());
    let params = run_fixture(&load_runbook(body), &mut drafts)?;
    Ok((drafts.remove("sandbox").expect("it is given back"), params))
}

#[test]
fn a_fixture_prepares_worlds_and_returns_parameters() {
    let body = "const MANY = 2 * 3; let later = MANY; const LATER = later;
        fn fixture() {
            world::sql(\"sandbox\", \"-10m\", \"delete from order_items where line = 1\");
            let seen = world::look(\"sandbox\").tables.order_items.rows;
            world::advance(\"sandbox\", \"2h\");
            world::sql(\"sandbox\", \"-1m\", \"delete from order_items\");
            #{ n: global::MANY, to: \"-5m\" }
        }";
    let (draft, params) = call_fixture(body).expect("it is called");
    assert_eq!(params, BTreeMap::from([("n".into(), "6".into()), ("to".into(), "-5m".into())]));
    let world = draft.open_world(draft.now()).expect("it is made");
    let shown = world.overview_for_people().expect("it is shown");
    assert_eq!(shown["tables"]["order_items"]["rows"], 0, "{shown}");
    let lines = world.read_log(None).expect("its log");
    assert_eq!(lines.last().expect("a line").what, "delete from order_items");
    assert!(lines.is_sorted_by_key(|line| line.at));
    let last = lines.last().expect("a line").at;
    assert_eq!(draft.now().duration_since(last), Span::from_secs(60));
}

#[test]
fn a_fixture_that_is_wrong_says_what_and_where() {
    for (statement, wrong) in [
        ("world::sql(\"sandbx\", \"-1m\", \"delete from orders\")", "no simulated target `sandbx`"),
        ("world::sql(\"sandbox\", \"-1m\", \"delete from nothing\")", "no such table"),
        ("world::sql(\"sandbox\", \"2999-01-01T00:00:00Z\", \"delete from orders\")", "is still to come"),
        ("world::sql(\"sandbox\", \"2026-01-01T00:00\", \"delete from orders\")", "no time zone"),
        ("world::sql(\"sandbox\", 5, \"delete from orders\")", "expected a moment"),
        ("world::advance(\"sandbox\", \"-2h\")", "time does not pass by"),
        ("world::load(\"sandbox\", \"../world.toml\")", "leads out of the runbook's folder"),
        ("world::load(\"sandbox\", \"no-such-world.toml\")", "cannot be read"),
        ("#{ m: 1 }", "no parameter of t.rhai"),
        ("#{ n: [1] }", "returned `[1]` for `n`: expected int, found `[1]`"),
        ("#{ q: 7 }", "returned `7` for `q`: expected string, found `7`"),
        ("#{ q: true }", "for `q`: expected string, found `true`"),
        ("#{ q: moment(\"2026-01-01T00:00:00Z\") }", "for `q`: expected string"),
        ("#{ n: 7.0 }", "for `n`: expected int"),
        ("#{ n: \"seven\" }", "for `n`: expected int, found `seven`"),
        ("#{ to: 7 }", "for `to`: expected time, found `7`"),
        ("#{ to: duration(\"1h\") }", "for `to`: expected time"),
        ("#{ to: \"9999-01-01T00:00:00Z\" }", "is not between 1970-01-01T00:00:00Z and 2999-12-31T23:59:59Z"),
        ("#{ db: 7 }", "for `db`: expected target, found `7`"),
        (
            "world::sql(\"sandbox\", \"-99999999h\", \"delete from orders\")",
            "is not between 1970-01-01T00:00:00Z",
        ),
        (
            "world::sql(\"sandbox\", moment(\"1969-01-01T00:00:00Z\"), \"delete from orders\")",
            "is not between",
        ),
        ("world::advance(\"sandbox\", \"99999999h\")", "is not between"),
        ("7", "which is no map"),
        ("loop {}", "the fixture did not end"),
        ("[2, 1].sort(|a, b| { loop {} }); #{}", "the fixture did not end"),
        ("[1].map(|x| now())", "sees no operations"),
        ("[1].map(|x| db::health(\"sandbox\"))", "sees no operations"),
    ] {
        let refused = call_fixture(&format!("fn fixture() {{ {statement} }}")).expect_err(statement);
        let Refusal::Runbook(error) = refused else { panic!("{statement}: {refused:?}") };
        assert!(error.message.contains(wrong), "{statement}: {error:?}");
    }
}

#[test]
fn what_a_fixture_returns_is_of_the_parameters_type_or_reads_as_it() {
    let body =
        "fn fixture() { #{ n: \"7\", q: \"7\", to: moment(\"2026-11-20T11:00:00Z\"), db: \"sandbox\" } }";
    let (_, params) = call_fixture(body).expect("it is called");
    let expected = [("db", "sandbox"), ("n", "7"), ("q", "7"), ("to", "2026-11-20T11:00:00Z")];
    assert_eq!(params, expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into());
}

#[test]
fn a_check_knows_fixtures() {
    for (body, wrong) in [
        ("fn fixture(world) { #{} }", "`fixture` takes 1"),
        ("fn fixture() { db::health(\"sandbox\"); #{} }", "`db::health` works in a run"),
        ("fn fixture() { note(\"x\"); #{} }", "`note` works in a run"),
        ("fn fixture() { #{ m: 1 } }", "the fixture returns `m`"),
        ("fn fixture() { return #{ tp: \"-1m\" }; }", "the fixture returns `tp`"),
        ("fn fixture() { world::sqll(\"sandbox\", \"-1m\", \"x\") }", "no function `world::sqll`"),
        ("fn fixture() { world::sql(\"sandbox\") }", "takes 3 arguments"),
        ("world::advance(\"sandbox\", \"1h\");", "prepares a world"),
    ] {
        let found = check_runbook(&load_runbook(body));
        let messages: Vec<&str> = found.iter().map(|finding| finding.message.as_str()).collect();
        assert!(matches!(messages[..], [only] if only.contains(wrong)), "{body}: {messages:?}");
        assert!(found[0].hint.is_some() || wrong == "takes 3 arguments", "{found:?}");
    }
    let good = "fn helper(t) { world::look(t).tables.orders.rows } fn fixture() { #{ n: helper(\"sandbox\"), to: \"-1m\" } }";
    assert_eq!(check_runbook(&load_runbook(good)), []);
}

#[test]
fn a_run_never_calls_its_fixture_and_prepares_no_world() {
    let env = ScriptEnv::new();
    env.run_to_value("fn fixture() { fail(\"it was called\") } 1");
    let failure = env.run_to_failure("[1].map(|x| world::advance(\"sandbox\", \"1h\"))");
    assert!(failure.contains("works in `fn fixture()` only"), "{failure}");
}
