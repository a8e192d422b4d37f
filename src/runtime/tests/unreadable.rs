//! What is recorded and does not read: the run stops, names the version that wrote it, and nothing is done.

use super::*;
use crate::{
    base::moment::Span,
    journal::{CallState, Durability, Journal, Outcome, RecordedOutcome, Run, UnreadableRecord},
};
use serde_json::json;

/// The version that writes what this one does not read.
const OTHER: &str = "9.9.9";

impl ScriptEnv {
    /// Begins a run as the other version does, with these records and no end.
    fn begin_as_other(&self, script: &str, params: Value, records: Vec<Record>) {
        let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}")).expect("it parses");
        let new = NewRun {
            runbook: "test.rhai".into(),
            title: "t".into(),
            params,
            sources: runbook.sources(),
            git: None,
            version: OTHER.into(),
            leases: vec![],
        };
        let run = self.runtime.open_journal().expect("a journal").create_run(&new).expect("a run");
        append_all(&run, records);
    }

    /// Kills a run before its `backup::create` takes effect, and takes it up as the other version, which adds records
    /// to that call.
    fn go_on_as_other(&self, records: impl FnOnce(String, Value) -> Vec<Record>) {
        let before = |heard: &str| heard.contains("call.started") && heard.contains("backup::create");
        let dying = Arc::new(Listener { die_before: Some(before), ..Listener::default() });
        assert!(self.try_run_script("backup::create(db)", dying).is_err(), "it was killed");
        let (_, run) = self.acquire_last_run();
        let Ok(CallState::Started { args, .. }) = run.call_state(CREATE) else { panic!("it was begun") };
        run.record_resume(OTHER, None).expect("written");
        append_all(&run, records(CREATE.into(), args));
    }

    fn acquire_last_run(&self) -> (Journal, Run) {
        let journal = self.runtime.open_journal().expect("a journal");
        let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
        (journal, run)
    }

    /// Returns what did not read at a resume, after which nothing is done and everything can still be shown.
    fn resume_to_unreadable(&self) -> UnreadableRecord {
        let ended = self.resume_run(Arc::default()).expect("it is driven");
        self.check_nothing_done(ended)
    }

    fn check_nothing_done(&self, ended: RunResult) -> UnreadableRecord {
        let Some(StopReason::Unreadable(record)) = ended.stop else { panic!("{ended:?}") };
        assert_eq!((record.version.as_str(), ended.status), (OTHER, RunStatus::Interrupted), "{record}");
        assert_eq!(self.list_effects(), Vec::<String>::new(), "{record}");
        let journal = self.runtime.open_journal().expect("a journal");
        let listed = journal.list_runs().expect("it lists").remove(0);
        assert!(listed.reason.is_some_and(|reason| reason.contains(OTHER)), "{record}");
        assert!(!journal.read_records(&listed.id).expect("they read").is_empty());
        record
    }
}

/// The call that [`ScriptEnv::go_on_as_other`] leaves begun.
const CREATE: &str = "/backup::create#0";

fn append_all(run: &Run, records: Vec<Record>) {
    for record in records {
        run.append_record(record, Durability::Synced).expect("written");
    }
}

fn sandbox_params() -> Value {
    json!({"db": {"$target": "sandbox"}})
}

fn end_record(call: &str, op: &str, args: Value, outcome: RecordedOutcome) -> Record {
    Record::End { call: call.into(), op: op.into(), args, at: "test".into(), outcome }
}

fn begin_approval() -> Record {
    let (call, op, args) = ("/approve#0".into(), "approve".into(), json!({"message": "go?"}));
    Record::Begin { call, op, args, key: "k".into(), at: "test".into() }
}

#[test]
fn a_recorded_time_or_list_that_does_not_read_is_not_made_anew() {
    let hour = Span::from_secs(3600);
    for (script, subject, record) in [
        ("now();", "/now#0", end_record("/now#0", "now", Value::Null, Outcome::Ok(json!(5)))),
        (
            "sleep(\"1h\");",
            "/sleep#0",
            end_record("/sleep#0", "sleep", json!(hour), Outcome::Ok(json!("tomorrow"))),
        ),
        (
            "each([1, 2], |x| backup::create(db));",
            "/each#0/failed#0",
            end_record("/each#0/failed#0", "failed", Value::Null, Outcome::Ok(json!({"begun": [0]}))),
        ),
    ] {
        let env = ScriptEnv::new();
        env.begin_as_other(&format!("{script} backup::create(db)"), sandbox_params(), vec![record]);
        assert_eq!(env.resume_to_unreadable().subject, subject);
    }
}

#[test]
fn an_approval_of_what_does_not_read_approves_nothing() {
    for (cover, decision) in [
        (json!({"hash": "h"}), None),
        (json!({"hash": "h", "targets": "sandbox"}), None),
        (json!("h"), None),
        (json!({"hash": "h", "targets": []}), Some(json!({"kind": "approve", "by": "ann"}))),
        (json!({"hash": "h", "targets": []}), Some(json!({"kind": "done", "result": 1}))),
    ] {
        let env = ScriptEnv::new();
        let call = "/approve#0".to_owned();
        let accepted = Record::Accepted { call: call.clone(), what: cover };
        let mut records = vec![begin_approval(), accepted];
        records.extend(decision.map(|decision| Record::Decided { call, decision, by: "ann".into() }));
        env.begin_as_other("approve(\"go?\"); backup::create(db)", sandbox_params(), records);
        assert_eq!(env.resume_to_unreadable().subject, "/approve#0");
    }
}

#[test]
fn an_approval_that_was_killed_before_anybody_could_see_it_is_asked_anew() {
    let env = ScriptEnv::new();
    let script = "approve(\"go?\"); backup::create(db).label";
    env.begin_as_other(script, sandbox_params(), vec![begin_approval()]);
    let ended = env.resume_run(Arc::default()).expect("it is driven");
    assert_eq!(ended.status, RunStatus::Waiting, "{ended:?}");
    let (_, run) = env.acquire_last_run();
    let state = run.call_state("/approve#0");
    let Ok(CallState::Started { accepted: Some(cover), .. }) = state else { panic!("{state:?}") };
    assert_eq!(cover["targets"], json!(["sandbox"]), "what it covers is recorded now");
}

#[test]
fn a_decision_that_does_not_read_decides_nothing() {
    for decision in [
        json!("redo"),
        json!({"kind": "undo"}),
        json!({"kind": "hold", "error": 5}),
        json!({"kind": "fail", "error": {"code": "X"}}),
        json!({"kind": "done"}),
        json!({"kind": "approve", "hash": "h", "by": "ann"}),
    ] {
        let env = ScriptEnv::new();
        let decided = |call, _| vec![Record::Decided { call, decision: decision.clone(), by: "ann".into() }];
        env.go_on_as_other(decided);
        assert_eq!(env.resume_to_unreadable().subject, CREATE, "{decision}");
    }
}

#[test]
fn an_error_that_does_not_read_reaches_no_script() {
    for error in [json!("it broke"), json!({"code": "X", "message": "m"}), json!(null)] {
        let env = ScriptEnv::new();
        let outcome = Outcome::Err(error.clone());
        env.go_on_as_other(|call, args| vec![end_record(&call, "backup::create", args, outcome)]);
        assert_eq!(env.resume_to_unreadable().subject, CREATE, "{error}");
    }
}

#[test]
fn a_run_that_ends_as_nobody_can_read_is_not_given_up() {
    for error in [json!({"fault": {"code": "X"}}), json!("given up"), json!({"fault": 5, "place": null})] {
        let env = ScriptEnv::new();
        let ending = Record::Ending { outcome: Outcome::Err(error) };
        env.begin_as_other("backup::create(db)", sandbox_params(), vec![ending]);
        assert_eq!(env.resume_to_unreadable().subject, "the end of the run");
    }
}

#[test]
fn a_branch_that_does_not_read_is_not_left_in_silence() {
    let env = ScriptEnv::new();
    let script = "branch::create(db, #{ into: \"x\", temporary: true });";
    let before = |heard: &str| heard.contains("call.started") && heard.contains("branch::create");
    let dying = Arc::new(Listener { die_before: Some(before), ..Listener::default() });
    assert!(env.try_run_script(script, dying).is_err(), "it was killed");
    let (journal, run) = env.acquire_last_run();
    let call = "/branch::create#0";
    let Ok(CallState::Started { args, .. }) = run.call_state(call) else { panic!("it was begun") };
    run.record_resume(OTHER, None).expect("written");
    let outcome = Outcome::Ok(json!({"$branch": {"name": 7}}));
    append_all(&run, vec![end_record(call, "branch::create", args, outcome)]);
    drop((journal, run));
    assert_eq!(env.resume_to_unreadable().subject, call);
}

#[test]
fn a_target_or_parameters_that_do_not_read_keep_a_run_from_being_resumed() {
    let target = Record::Target { name: "sandbox".into(), identity: json!({"id": 5}) };
    for (params, record, subject) in
        [(sandbox_params(), Some(target), "the target `sandbox`"), (json!("db"), None, "the parameters")]
    {
        let env = ScriptEnv::new();
        env.begin_as_other("backup::create(db)", params, record.into_iter().collect());
        match env.resume_run(Arc::default()) {
            Err(Refusal::Journal(journal::Error::UnreadableRecord(record))) => {
                assert_eq!((record.subject.as_str(), record.version.as_str()), (subject, OTHER));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(env.list_effects(), Vec::<String>::new());
        let journal = env.runtime.open_journal().expect("a journal");
        assert_eq!(journal.list_runs().expect("it lists").len(), 1);
    }
}

#[test]
fn a_call_of_a_session_that_does_not_read_is_not_passed_over() {
    for (op, args) in [("backup::shred", json!({})), ("backup::create", json!({"target": 5}))] {
        let env = ScriptEnv::new();
        let begin =
            Record::Begin { call: "/x#0".into(), op: op.into(), args, key: "k".into(), at: "test".into() };
        env.begin_as_other("()", sandbox_params(), vec![begin]);
        let journal = Arc::new(env.runtime.open_journal().expect("a journal"));
        let id = journal.resolve_run_id("last").expect("the run");
        let ended = env.runtime.abandon_by_records(journal, &id, BTreeSet::new(), Arc::<Listener>::default());
        assert_eq!(env.check_nothing_done(ended.expect("it is driven")).subject, "/x#0", "{op}");
    }
}
