//! Kills at every event of scripts that wait for people, and kills of what is being recovered from.

use super::{branches::knob, gates::Person, *};

/// Hears events like a listener, dies like one, and says yes to everything that it is asked.
struct Willing {
    listener: Listener,
    person: Arc<Person>,
}

impl Willing {
    fn until(die_at: Option<usize>, answers: &[Choice]) -> Arc<Self> {
        let listener = Listener { die_at, ..Listener::default() };
        Arc::new(Self { listener, person: Person::who_says(answers) })
    }
}

impl Watch for Willing {
    fn event(&self, event: &Event<'_>) {
        self.listener.event(event);
    }

    fn ask(&self, question: &Question) -> Option<Answer> {
        self.person.ask(question)
    }
}

impl Stage {
    fn start_with(&self, script: &str, watch: Arc<dyn Watch>) -> Result<Ended, Refusal> {
        let runbook = Runbook::of_text("test.rhai", format!("{HEADER}{script}"))?;
        self.world.start(Start { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() }, watch)
    }

    fn go_on_with(&self, watch: Arc<dyn Watch>) -> Result<Ended, Refusal> {
        let journal = Arc::new(self.world.journal()?);
        let (run, runbook, params) = World::take(&journal, &journal.resolve("last")?)?;
        let resume = Resume { run, runbook, params, confirmed: BTreeSet::new(), abandon: false };
        self.world.resume(journal, resume, watch)
    }
}

/// Dies at every event in turn, before and after what is asked; the effects and the end are those of a calm run.
fn dies_everywhere(script: &str, answers: &[Choice], status: Status) {
    let calm = Stage::new();
    let willing = Willing::until(None, answers);
    let undisturbed = calm.start_with(script, Arc::clone(&willing) as Arc<dyn Watch>).expect("it runs");
    assert_eq!(undisturbed.status, status, "{undisturbed:?}");
    let effects = |stage: &Stage| {
        let mut effects = stage.effects();
        effects.sort();
        effects
    };
    let (step, first) = knob("REDRILL_EVENTS", 3);
    for die_at in (first..willing.listener.count.load(Ordering::SeqCst)).step_by(step) {
        let stage = Stage::new();
        if stage.start_with(script, Willing::until(Some(die_at), answers)).is_ok() {
            continue;
        }
        // Whoever resumes it may be asked once more, and says the last thing that was said.
        let last = *answers.last().expect("an answer");
        let ended = stage.go_on_with(Willing::until(None, &[last; 4])).expect("it resumes");
        assert_eq!((ended.status, &ended.value), (status, &undisturbed.value), "killed at event {die_at}");
        assert_eq!(effects(&stage), effects(&calm), "killed at event {die_at}");
    }
}

#[test]
fn a_kill_around_a_gate_changes_nothing() {
    let script = r#"
        backup::create(db, #{ label: "before" });
        defer(|| backup::create(db, #{ label: "end" }));
        parallel([|| { approve("go?"); backup::create(db, #{ label: "gate" }).label }, || { sleep("1ms"); backup::create(db).status }])
    "#;
    dies_everywhere(script, &[Choice::Approve], Status::Succeeded);
    let script = r#"
        backup::create(db);
        on_failure(|| backup::create(db, #{ label: "end" }));
        approve("go?");
        backup::create(db, #{ label: "never" })
    "#;
    dies_everywhere(script, &[Choice::Reject], Status::Failed);
}

#[test]
fn a_kill_around_a_failed_call_changes_nothing() {
    let script = r#"
        backup::create(db);
        defer(|| backup::create(db, #{ label: "end" }));
        db::execute(db, "insert into later values (1)")
    "#;
    dies_everywhere(script, &[Choice::Again, Choice::Fail], Status::Failed);
}

/// The second kill comes while the first is being recovered from, in scripts that go side by side.
#[test]
fn two_kills_of_branches_change_nothing_either() {
    let script = r#"
        let copies = each(["x", "y", "z"], #{ limit: 2 }, |name| {
            let copy = backup::restore(db, backup::list(db)[0], #{ into: name, temporary: true });
            db::execute(copy, "delete from order_items where order_id = 1").rows_affected
        });
        attempt(|| parallel([|| backup::create(db, #{ label: "l" }), || fail("no")]));
        copies
    "#;
    let calm = Stage::new();
    let undisturbed = calm.run(script);
    let sorted = |mut effects: Vec<String>| {
        effects.sort();
        effects
    };
    for (first, second) in (2..40).step_by(5).flat_map(|a| [(a, 1), (a, 3), (a, 8), (a, 14)]) {
        let stage = Stage::new();
        let dying = |at| Arc::new(Listener { die_at: Some(at), ..Listener::default() });
        let killed = stage.try_run(script, dying(first)).is_err();
        let again = killed && stage.resume(dying(second)).is_err();
        let ended = if again { stage.resume(Arc::default()).map(Some) } else { Ok(None) };
        if let Some(ended) = ended.expect("it resumes") {
            assert_eq!(
                (ended.status, &ended.value),
                (Status::Succeeded, &undisturbed.value),
                "{first}, {second}"
            );
        }
        assert_eq!(sorted(stage.effects()), sorted(calm.effects()), "killed at {first}, then at {second}");
    }
}
