//! What waits for a person: approvals, and calls that failed and are held.

use super::*;

/// Answers what it is told, in order, and then nothing.
pub(super) struct Person {
    answers: Mutex<Vec<Choice>>,
    asked: Mutex<Vec<Question>>,
}

impl Person {
    pub(super) fn who_says(answers: &[Choice]) -> Arc<Self> {
        let answers = answers.iter().rev().copied().collect();
        Arc::new(Self { answers: Mutex::new(answers), asked: Mutex::default() })
    }

    fn asked(&self) -> usize {
        self.asked.lock().expect("no answer panics").len()
    }
}

impl Watch for Person {
    fn event(&self, _: &Event<'_>) {}

    fn ask(&self, question: &Question) -> Option<Answer> {
        self.asked.lock().expect("no answer panics").push(question.clone());
        let choice = self.answers.lock().expect("no answer panics").pop()?;
        Some(Answer { choice, by: "ann".into() })
    }
}

impl Stage {
    fn with(&self, script: &str, person: &Arc<Person>) -> Ended {
        let runbook = Runbook::of_text("test.rhai", format!("{HEADER}{script}")).expect("it parses");
        let start = Start { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
        self.world.start(start, Arc::clone(person) as Arc<dyn Watch>).expect("it begins")
    }

    fn resume_with(&self, person: &Arc<Person>) -> Ended {
        let journal = Arc::new(self.world.journal().expect("a journal"));
        let id = journal.resolve("last").expect("the run");
        let (run, runbook, params) = World::take(&journal, &id).expect("it is free");
        let resume = Resume { run, runbook, params, confirmed: BTreeSet::new(), abandon: false };
        self.world.resume(journal, resume, Arc::clone(person) as Arc<dyn Watch>).expect("it is driven")
    }

    fn decide(&self, decision: Value) {
        let journal = self.world.journal().expect("a journal");
        let run = journal.take(&journal.resolve("last").expect("the run")).expect("it is free");
        let open = |call: &String| matches!(run.past(call), journal::Past::Begun { .. });
        let call = run.calls_below("/").into_iter().find(open).expect("an open call");
        let record = Record::Decided { call, decision, by: "bob".into() };
        run.append(record, journal::Durability::Now).expect("written");
    }
}

const GATE: &str = r#"
    backup::create(db, #{ label: "before" });
    defer(|| backup::create(db, #{ label: "end" }));
    approve("delete everything?");
    db::execute(db, "delete from order_items")
"#;

#[test]
fn a_person_who_is_there_approves_or_rejects() {
    let stage = Stage::new();
    let ended = stage.with(GATE, &Person::who_says(&[Choice::Approve]));
    assert_eq!(ended.status, Status::Succeeded, "{ended:?}");
    let stage = Stage::new();
    let ended = stage.with(GATE, &Person::who_says(&[Choice::Reject]));
    let fault = ended.failure.expect("it fails").fault;
    assert_eq!(
        (fault["code"].as_str(), fault["message"].as_str()),
        (Some("REJECTED"), Some("ann rejected: delete everything?"))
    );
    assert_eq!(stage.effects(), ["backup.create", "backup.create"], "it cleaned up, and changed nothing");
}

#[test]
fn where_nobody_is_the_run_waits_and_says_for_what() {
    let stage = Stage::new();
    let nobody = Person::who_says(&[]);
    for _ in 0..2 {
        let ended = if nobody.asked() == 0 { stage.with(GATE, &nobody) } else { stage.resume_with(&nobody) };
        assert_eq!(ended.status, Status::Waiting, "{ended:?}");
        let Some(Stop::Waiting { reason, next, .. }) = ended.stop else { panic!("{:?}", ended.stop) };
        assert!(reason.starts_with("waits since 20") && reason.contains("delete everything?"), "{reason}");
        assert!(reason.contains(&next) && next.starts_with("redrill approve "), "{reason}");
    }
    assert_eq!(stage.effects(), ["backup.create"], "nothing is done or cleaned up while it waits");
    let ended = stage.resume_with(&Person::who_says(&[Choice::Approve]));
    assert_eq!(ended.status, Status::Succeeded, "{ended:?}");
}

#[test]
fn an_approval_of_something_else_is_void() {
    for (edited, said) in [
        (GATE.replace("delete everything?", "delete a little?"), "delete a little?"),
        (GATE.to_owned(), "what was approved at /approve#0 is not what is asked now"),
    ] {
        let stage = Stage::new();
        stage.with(GATE, &Person::who_says(&[]));
        stage.decide(serde_json::json!({"kind": "approve", "hash": "of something else", "by": "bob"}));
        let ended = stage.resume_as(&edited);
        let Some(Stop::Mismatch { message }) = ended.stop else { panic!("{ended:?}") };
        assert!(message.contains(said), "{message}");
        assert_eq!(stage.effects(), ["backup.create"]);
    }
}

#[test]
fn a_gate_in_a_branch_stops_the_others_until_it_opens() {
    let stage = Stage::new();
    let script = "parallel([|| { approve(\"left?\"); backup::create(db, #{ label: \"left\" }).label }, \
        || { sleep(\"5ms\"); backup::create(db, #{ label: \"right\" }).label }, || { approve(\"third?\"); 3 }])";
    assert_eq!(stage.with(script, &Person::who_says(&[])).status, Status::Waiting);
    let ended = stage.resume_with(&Person::who_says(&[Choice::Approve, Choice::Approve]));
    assert_eq!(ended.value, serde_json::json!(["left", "right", 3]), "{ended:?}");
    assert_eq!(stage.effects(), ["backup.create", "backup.create"]);
}

/// Fails until there is a table of that name.
const FAILING: &str = r#"
    backup::create(db, #{ label: "before" });
    defer(|| backup::create(db, #{ label: "end" }));
    db::execute(db, "insert into later values (1)").rows_affected
"#;

#[test]
fn a_call_that_failed_is_tried_again_where_a_person_says_so() {
    let stage = Stage::new();
    let person = Person::who_says(&[Choice::Again, Choice::Again, Choice::Fail]);
    let ended = stage.with(FAILING, &person);
    assert_eq!((ended.status, person.asked()), (Status::Failed, 3), "{ended:?}");
    assert_eq!(stage.effects(), ["backup.create", "backup.create"], "{ended:?}");
    assert_eq!(ended.failure.expect("it fails").fault["code"], "SQL", "its error stays its error");
}

#[test]
fn a_call_that_is_held_waits_until_somebody_decides() {
    let stage = Stage::new();
    let ended = stage.with(FAILING, &Person::who_says(&[Choice::Hold]));
    let Some(Stop::Waiting { reason, next, .. }) = ended.stop else { panic!("{ended:?}") };
    assert!(reason.starts_with("is held since 20") && reason.contains(&next), "{reason}");
    assert!(next.ends_with("'/db::execute#0' redo"), "{next}");
    // Nobody has decided: it waits on, and cleans nothing up.
    assert_eq!(stage.resume_with(&Person::who_says(&[])).status, Status::Waiting);
    assert_eq!(stage.effects(), ["backup.create"]);
    let ended = stage.resume_with(&Person::who_says(&[Choice::Fail]));
    assert_eq!(ended.status, Status::Failed, "{ended:?}");
    assert_eq!(stage.effects(), ["backup.create", "backup.create"]);
}

#[test]
fn a_held_call_that_is_decided_goes_on() {
    for (decision, status) in [
        (serde_json::json!({"kind": "redo"}), Status::Failed),
        (serde_json::json!({"kind": "fail"}), Status::Failed),
        (serde_json::json!({"kind": "done", "result": {"rows_affected": 7}}), Status::Succeeded),
    ] {
        let stage = Stage::new();
        stage.with(FAILING, &Person::who_says(&[Choice::Hold]));
        stage.decide(decision.clone());
        // What was decided is not asked again; what failed once more is.
        let person = Person::who_says(&[]);
        let ended = stage.resume_with(&person);
        assert_eq!(ended.status, status, "{decision}: {ended:?}");
        assert_eq!(person.asked(), usize::from(decision["kind"] == "redo"), "{decision}");
        if status == Status::Succeeded {
            assert_eq!(ended.value, 7);
        }
    }
}

#[test]
fn an_error_that_the_script_handles_is_nobodys_to_decide() {
    let stage = Stage::new();
    let person = Person::who_says(&[]);
    let script =
        "let r = attempt(|| backup::get(db, \"nope\")); try { backup::get(db, \"no\") } catch { } r.ok";
    assert_eq!((stage.with(script, &person).value, person.asked()), (false.into(), 0));
    assert_eq!(stage.with("fail(\"on purpose\")", &person).status, Status::Failed);
    assert_eq!(person.asked(), 0, "what the script raises itself is no call that failed");
}

#[test]
fn a_held_run_that_is_abandoned_cleans_up() {
    let stage = Stage::new();
    stage.with(FAILING, &Person::who_says(&[Choice::Hold]));
    let ended = stage.abandon();
    assert_eq!(ended.status, Status::Abandoned, "{ended:?}");
    assert_eq!(stage.effects(), ["backup.create", "backup.create"]);
}

#[test]
fn branches_that_a_failure_held_up_begin_when_it_is_decided_to_be_none() {
    let stage = Stage::new();
    let script = "each([1, 2, 3], #{ limit: 1 }, |x| if x == 1 { db::execute(db, \"insert into later values (1)\").rows_affected } \
        else { backup::create(db, #{ label: `${x}` }); x })";
    assert_eq!(stage.with(script, &Person::who_says(&[Choice::Hold])).status, Status::Waiting);
    assert!(stage.effects().is_empty());
    let journal = stage.world.journal().expect("a journal");
    let run = journal.take(&journal.resolve("last").expect("the run")).expect("it is free");
    let decision = serde_json::json!({"kind": "done", "result": {"rows_affected": 9}});
    let record = Record::Decided { call: "/each#0/0/db::execute#0".into(), decision, by: "bob".into() };
    run.append(record, journal::Durability::Now).expect("written");
    drop((run, journal));
    let ended = stage.resume_with(&Person::who_says(&[]));
    assert_eq!(ended.value, serde_json::json!([9, 2, 3]), "{ended:?}");
}

#[test]
fn a_gate_beside_another_is_named_in_what_opens_it() {
    let stage = Stage::new();
    let script = "parallel([|| approve(\"left?\"), || approve(\"right?\")])";
    let ended = stage.with(script, &Person::who_says(&[]));
    let Some(Stop::Waiting { call, reason, next }) = ended.stop else { panic!("{ended:?}") };
    assert!(next.contains(&format!(" '{call}' --resume")), "{next}");
    assert!(reason.contains(&format!("redrill reject {} '{call}'", ended.run)), "{reason}");
}
