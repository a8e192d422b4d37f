//! What waits for a person: approvals, and calls that failed and are held.

use super::*;

/// Answers what it is told, in order, and then nothing.
pub(super) struct ScriptedPerson {
    answers: Mutex<Vec<Choice>>,
    asked: Mutex<Vec<Question>>,
}

impl ScriptedPerson {
    pub(super) fn with_answers(answers: &[Choice]) -> Arc<Self> {
        let answers = answers.iter().rev().copied().collect();
        Arc::new(Self { answers: Mutex::new(answers), asked: Mutex::default() })
    }

    /// Returns what was asked, in order.
    pub(super) fn list_questions(&self) -> Vec<Question> {
        self.asked.lock().expect("no answer panics").clone()
    }

    fn count_questions(&self) -> usize {
        self.asked.lock().expect("no answer panics").len()
    }
}

impl RunObserver for ScriptedPerson {
    fn on_event(&self, _: &Event<'_>) {}

    fn ask_person(&self, question: &Question, _: &Withdrawal) -> Option<Answer> {
        self.asked.lock().expect("no answer panics").push(question.clone());
        let choice = self.answers.lock().expect("no answer panics").pop()?;
        Some(Answer { choice, by: "ann".into() })
    }
}

impl ScriptEnv {
    pub(super) fn run_with_person(&self, script: &str, person: &Arc<ScriptedPerson>) -> RunResult {
        let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}")).expect("it parses");
        let start = StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
        self.runtime.start_run(start, Arc::clone(person) as Arc<dyn RunObserver>).expect("it begins")
    }

    fn resume_with(&self, person: &Arc<ScriptedPerson>) -> RunResult {
        let journal = Arc::new(self.runtime.open_journal().expect("a journal"));
        let id = journal.resolve_run_id("last").expect("the run");
        let (run, runbook) = Runtime::acquire_run(&journal, &id).expect("it is free");
        let resume = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon: false };
        self.runtime
            .resume_run(journal, resume, Arc::clone(person) as Arc<dyn RunObserver>)
            .expect("it is driven")
    }

    fn decide_open_call(&self, decision: Value) {
        let journal = self.runtime.open_journal().expect("a journal");
        let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
        let open = |call: &String| matches!(run.call_state(call), Ok(journal::CallState::Started { .. }));
        let call = run.call_names_below("/").into_iter().find(open).expect("an open call");
        let record = Record::Decided { call, decision, by: "bob".into() };
        run.append_record(record, journal::Durability::Synced).expect("written");
    }
}

const APPROVAL_SCRIPT: &str = r#"
    backup::create(db, #{ label: "before" });
    defer(|| backup::create(db, #{ label: "end" }));
    approve("delete everything?");
    db::execute(db, "delete from order_items")
"#;

#[test]
fn a_person_who_is_there_approves_or_rejects() {
    let env = ScriptEnv::new();
    let ended = env.run_with_person(APPROVAL_SCRIPT, &ScriptedPerson::with_answers(&[Choice::Approve]));
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
    let env = ScriptEnv::new();
    let ended = env.run_with_person(APPROVAL_SCRIPT, &ScriptedPerson::with_answers(&[Choice::Reject]));
    let fault = ended.failure.expect("it fails").fault;
    assert_eq!(
        (fault.code.as_str(), fault.message.as_str()),
        ("REJECTED", "ann rejected: delete everything?")
    );
    assert_eq!(env.list_effects(), ["backup.create", "backup.create"], "it cleaned up, and changed nothing");
}

#[test]
fn where_nobody_is_the_run_waits_and_says_for_what() {
    let env = ScriptEnv::new();
    let nobody = ScriptedPerson::with_answers(&[]);
    for _ in 0..2 {
        let ended = if nobody.count_questions() == 0 {
            env.run_with_person(APPROVAL_SCRIPT, &nobody)
        } else {
            env.resume_with(&nobody)
        };
        assert_eq!(ended.status, RunStatus::Waiting, "{ended:?}");
        let Some(StopReason::Waiting { call, reason }) = ended.stop else { panic!("{:?}", ended.stop) };
        assert!(reason.starts_with("waits since 20") && reason.contains("delete everything?"), "{reason}");
        assert_eq!(call, "/approve#0");
    }
    assert_eq!(env.list_effects(), ["backup.create"], "nothing is done or cleaned up while it waits");
    let ended = env.resume_with(&ScriptedPerson::with_answers(&[Choice::Approve]));
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
}

#[test]
fn an_approval_of_something_else_is_void() {
    let approved_of_something_else = || {
        let env = ScriptEnv::new();
        env.run_with_person(APPROVAL_SCRIPT, &ScriptedPerson::with_answers(&[]));
        env.decide_open_call(
            serde_json::json!({"kind": "approve", "hash": "of something else", "by": "bob"}),
        );
        env
    };
    let env = approved_of_something_else();
    let ended = env.resume_as(&APPROVAL_SCRIPT.replace("delete everything?", "delete a little?"));
    let Some(StopReason::Mismatch { message }) = ended.stop else { panic!("{ended:?}") };
    assert!(message.contains("delete a little?"), "{message}");
    assert_eq!(env.list_effects(), ["backup.create"]);
    let env = approved_of_something_else();
    // Whoever comes later is told the same: it is asked anew.
    for _ in 0..2 {
        let ended = env.resume_as(APPROVAL_SCRIPT);
        let Some(StopReason::Waiting { reason, .. }) = ended.stop else { panic!("{ended:?}") };
        assert!(reason.contains("what was decided before is void"), "{reason}");
        assert_eq!(env.list_effects(), ["backup.create"]);
    }
    let ended = env.resume_with(&ScriptedPerson::with_answers(&[Choice::Approve]));
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
}

#[test]
fn a_gate_in_a_branch_stops_the_others_until_it_opens() {
    let env = ScriptEnv::new();
    let script = "parallel([|| { approve(\"left?\"); backup::create(db, #{ label: \"left\" }).label }, \
        || { sleep(\"5ms\"); backup::create(db, #{ label: \"right\" }).label }, || { approve(\"third?\"); 3 }])";
    assert_eq!(env.run_with_person(script, &ScriptedPerson::with_answers(&[])).status, RunStatus::Waiting);
    let ended = env.resume_with(&ScriptedPerson::with_answers(&[Choice::Approve, Choice::Approve]));
    assert_eq!(ended.value, serde_json::json!(["left", "right", 3]), "{ended:?}");
    assert_eq!(env.list_effects(), ["backup.create", "backup.create"]);
}

/// Fails until there is a table of that name.
const FAILING: &str = r#"
    backup::create(db, #{ label: "before" });
    defer(|| backup::create(db, #{ label: "end" }));
    db::execute(db, "insert into later values (1)").rows_affected
"#;

#[test]
fn a_call_that_failed_is_tried_again_where_a_person_says_so() {
    let env = ScriptEnv::new();
    let person = ScriptedPerson::with_answers(&[Choice::Redo, Choice::Redo, Choice::Fail]);
    let ended = env.run_with_person(FAILING, &person);
    assert_eq!((ended.status, person.count_questions()), (RunStatus::Failed, 3), "{ended:?}");
    assert_eq!(env.list_effects(), ["backup.create", "backup.create"], "{ended:?}");
    assert_eq!(ended.failure.expect("it fails").fault.code, "SQL", "its error stays its error");
}

#[test]
fn a_call_that_is_held_waits_until_somebody_decides() {
    let env = ScriptEnv::new();
    let ended = env.run_with_person(FAILING, &ScriptedPerson::with_answers(&[Choice::Hold]));
    let Some(StopReason::Waiting { call, reason }) = ended.stop else { panic!("{ended:?}") };
    assert!(reason.starts_with("is held since 20") && reason.contains(&call), "{reason}");
    // Nobody has decided: it waits on, and cleans nothing up.
    assert_eq!(env.resume_with(&ScriptedPerson::with_answers(&[])).status, RunStatus::Waiting);
    assert_eq!(env.list_effects(), ["backup.create"]);
    let ended = env.resume_with(&ScriptedPerson::with_answers(&[Choice::Fail]));
    assert_eq!(ended.status, RunStatus::Failed, "{ended:?}");
    assert_eq!(env.list_effects(), ["backup.create", "backup.create"]);
}

#[test]
fn a_held_call_that_is_decided_goes_on() {
    for (decision, status) in [
        (serde_json::json!({"kind": "redo"}), RunStatus::Failed),
        (serde_json::json!({"kind": "fail"}), RunStatus::Failed),
        (serde_json::json!({"kind": "done", "result": {"rows_affected": 7}}), RunStatus::Succeeded),
    ] {
        let env = ScriptEnv::new();
        env.run_with_person(FAILING, &ScriptedPerson::with_answers(&[Choice::Hold]));
        env.decide_open_call(decision.clone());
        // What was decided is not asked again; what failed once more is.
        let person = ScriptedPerson::with_answers(&[]);
        let ended = env.resume_with(&person);
        assert_eq!(ended.status, status, "{decision}: {ended:?}");
        assert_eq!(person.count_questions(), usize::from(decision["kind"] == "redo"), "{decision}");
        if status == RunStatus::Succeeded {
            assert_eq!(ended.value, 7);
        }
    }
}

#[test]
fn an_error_that_the_script_handles_is_nobodys_to_decide() {
    let env = ScriptEnv::new();
    let person = ScriptedPerson::with_answers(&[]);
    let script =
        "let r = attempt(|| backup::get(db, \"nope\")); try { backup::get(db, \"no\") } catch { } r.ok";
    assert_eq!((env.run_with_person(script, &person).value, person.count_questions()), (false.into(), 0));
    assert_eq!(env.run_with_person("fail(\"on purpose\")", &person).status, RunStatus::Failed);
    assert_eq!(person.count_questions(), 0, "what the script raises itself is no call that failed");
}

#[test]
fn a_held_run_that_is_abandoned_cleans_up() {
    let env = ScriptEnv::new();
    env.run_with_person(FAILING, &ScriptedPerson::with_answers(&[Choice::Hold]));
    let ended = env.abandon_run();
    assert_eq!(ended.status, RunStatus::Abandoned, "{ended:?}");
    assert_eq!(env.list_effects(), ["backup.create", "backup.create"]);
}

#[test]
fn branches_that_a_failure_held_up_begin_when_it_is_decided_to_be_none() {
    let env = ScriptEnv::new();
    let script = "each([1, 2, 3], #{ limit: 1 }, |x| if x == 1 { db::execute(db, \"insert into later values (1)\").rows_affected } \
        else { backup::create(db, #{ label: `${x}` }); x })";
    assert_eq!(
        env.run_with_person(script, &ScriptedPerson::with_answers(&[Choice::Hold])).status,
        RunStatus::Waiting
    );
    assert!(env.list_effects().is_empty());
    let journal = env.runtime.open_journal().expect("a journal");
    let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
    let decision = serde_json::json!({"kind": "done", "result": {"rows_affected": 9}});
    let record = Record::Decided { call: "/each#0/0/db::execute#0".into(), decision, by: "bob".into() };
    run.append_record(record, journal::Durability::Synced).expect("written");
    drop((run, journal));
    let ended = env.resume_with(&ScriptedPerson::with_answers(&[]));
    assert_eq!(ended.value, serde_json::json!([9, 2, 3]), "{ended:?}");
}

const TWO_GATES: &str = r#"
    defer(|| backup::create(db, #{ label: "end" }));
    parallel([
        || { approve("left?"); backup::create(db, #{ label: "left" }) },
        || { sleep("30ms"); approve("right?"); backup::create(db, #{ label: "right" }) },
        || { sleep("30ms"); each([1, 2], |x| approve(`deep ${x}?`)) },
    ]);
"#;

#[test]
fn nobody_is_asked_beside_a_gate_that_was_rejected() {
    let env = ScriptEnv::new();
    let person = ScriptedPerson::with_answers(&[Choice::Reject]);
    let ended = env.run_with_person(TWO_GATES, &person);
    assert_eq!((ended.status, person.count_questions()), (RunStatus::Failed, 1), "{ended:?}");
    assert!(ended.failure.expect("it fails").fault.message.contains("ann rejected: "));
    assert_eq!(env.list_effects(), ["backup.create"], "it cleaned up, and nothing else was done");
}

#[test]
fn a_run_whose_gate_was_rejected_while_it_waited_ends_and_waits_at_no_other() {
    for _ in 0..12 {
        let env = ScriptEnv::new();
        let nobody = ScriptedPerson::with_answers(&[]);
        assert_eq!(env.run_with_person(TWO_GATES, &nobody).status, RunStatus::Waiting);
        let journal = env.runtime.open_journal().expect("a journal");
        let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
        for gate in crate::runtime::OpenApproval::list_open_approvals(&run.copy_fold()).expect("it reads") {
            gate.record_decision(&run, false, "bob").expect("written");
        }
        drop((run, journal));
        let ended = env.resume_with(&nobody);
        assert_eq!((ended.status, nobody.count_questions()), (RunStatus::Failed, 1), "{ended:?}");
        assert_eq!(env.list_effects(), ["backup.create"], "it cleaned up, and nothing else was done");
    }
}

/// Rejects one gate, and approves all others, in whatever order the branches come to them.
struct Rejecting {
    gate: &'static str,
    asked: Mutex<BTreeSet<String>>,
}

impl RunObserver for Rejecting {
    fn on_event(&self, _: &Event<'_>) {}

    fn ask_person(&self, question: &Question, _: &Withdrawal) -> Option<Answer> {
        let Question::Approval { message } = question else { return None };
        self.asked.lock().expect("no answer panics").insert(message.clone());
        let choice = if message == self.gate { Choice::Reject } else { Choice::Approve };
        Some(Answer { choice, by: "ann".into() })
    }
}

/// Runs a script whose gate `gate` is rejected; returns its value and what was asked.
fn run_with_rejection(script: &str, gate: &'static str) -> (Value, Vec<String>) {
    let env = ScriptEnv::new();
    let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}")).expect("it parses");
    let start = StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
    let person = Arc::new(Rejecting { gate, asked: Mutex::default() });
    let ended = env.runtime.start_run(start, Arc::clone(&person) as Arc<dyn RunObserver>).expect("it begins");
    assert_eq!(ended.status, RunStatus::Succeeded, "{script}: {ended:?}");
    let asked = person.asked.lock().expect("no answer panics").iter().cloned().collect();
    (ended.value, asked)
}

#[test]
fn a_rejection_that_its_branch_handles_leaves_the_other_gates() {
    for script in [
        "parallel([|| attempt(|| approve(\"left?\")).ok, || { sleep(\"30ms\"); approve(\"right?\"); 2 }])",
        "parallel([|| { try { approve(\"left?\") } catch { }; sleep(\"1ms\"); false }, || { approve(\"right?\"); 2 }])",
        "parallel([|| attempt(|| each([1], |x| approve(\"left?\"))).ok, || { sleep(\"30ms\"); approve(\"right?\"); 2 }])",
        "each([\"left\", \"right\"], #{ on_error: \"collect\" }, |x| approve(`${x}?`)).map(|r| if r.ok { 2 } else { false })",
    ] {
        let (value, asked) = run_with_rejection(script, "left?");
        assert_eq!((value, asked), (serde_json::json!([false, 2]), vec!["left?".into(), "right?".into()]));
    }
}

#[test]
fn a_gate_beside_a_rejection_stands_where_the_rejection_is_handled_before_it_comes_there() {
    // Handled only behind the inner branches: the gates in there are withdrawn, the one outside is not.
    let script = r#"parallel([
        || attempt(|| parallel([|| approve("one?"), || { sleep("30ms"); approve("two?") }])).ok,
        || { sleep("60ms"); approve("three?"); 3 },
    ])"#;
    let (value, asked) = run_with_rejection(script, "one?");
    assert_eq!(value, serde_json::json!([false, 3]), "{asked:?}");
    assert!(asked.contains(&"three?".to_owned()), "{asked:?}");
}
