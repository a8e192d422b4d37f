//! Kills at every event of scripts that wait for people, and kills of what is being recovered from.

use super::{approvals::ScriptedPerson, forks::read_knob, *};

/// Hears events like a listener, dies like one, and says yes to everything that it is asked.
struct CrashingPerson {
    listener: Listener,
    person: Arc<ScriptedPerson>,
}

impl CrashingPerson {
    fn dying_at(die_at: Option<usize>, answers: &[Choice]) -> Arc<Self> {
        let listener = Listener { die_at, ..Listener::default() };
        Arc::new(Self { listener, person: ScriptedPerson::with_answers(answers) })
    }
}

impl RunObserver for CrashingPerson {
    fn on_event(&self, event: &Event<'_>) {
        self.listener.on_event(event);
    }

    fn ask_person(&self, question: &Question, withdrawal: &Withdrawal) -> Option<Answer> {
        self.person.ask_person(question, withdrawal)
    }
}

impl ScriptEnv {
    fn start_with(&self, script: &str, watch: Arc<dyn RunObserver>) -> Result<RunResult, Refusal> {
        let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}"))?;
        self.runtime
            .start_run(StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() }, watch)
    }

    fn resume_with_observer(&self, watch: Arc<dyn RunObserver>) -> Result<RunResult, Refusal> {
        let journal = Arc::new(self.runtime.open_journal()?);
        let (run, runbook) = Runtime::acquire_run(&journal, &journal.resolve_run_id("last")?)?;
        let resume = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon: false };
        self.runtime.resume_run(journal, resume, watch)
    }
}

/// Dies at every event in turn, before and after what is asked; the effects and the end are those of a calm run.
fn assert_survives_every_crash(script: &str, answers: &[Choice], status: RunStatus) {
    let calm = ScriptEnv::new();
    let willing = CrashingPerson::dying_at(None, answers);
    let undisturbed = calm.start_with(script, Arc::clone(&willing) as Arc<dyn RunObserver>).expect("it runs");
    assert_eq!(undisturbed.status, status, "{undisturbed:?}");
    let effects = |env: &ScriptEnv| {
        let mut effects = env.list_effects();
        effects.sort();
        effects
    };
    let (step, first) = read_knob("REDRILL_EVENTS", 3);
    for die_at in (first..willing.listener.count.load(Ordering::SeqCst)).step_by(step) {
        let env = ScriptEnv::new();
        if env.start_with(script, CrashingPerson::dying_at(Some(die_at), answers)).is_ok() {
            continue;
        }
        // Whoever resumes it may be asked once more, and says the last thing that was said.
        let last = *answers.last().expect("an answer");
        let ended = env.resume_with_observer(CrashingPerson::dying_at(None, &[last; 4])).expect("it resumes");
        assert_eq!((ended.status, &ended.value), (status, &undisturbed.value), "killed at event {die_at}");
        assert_eq!(effects(&env), effects(&calm), "killed at event {die_at}");
    }
}

#[test]
fn a_kill_around_a_gate_changes_nothing() {
    let script = r#"
        backup::create(db, #{ label: "before" });
        defer(|| backup::create(db, #{ label: "end" }));
        parallel([|| { approve("go?"); backup::create(db, #{ label: "gate" }).label }, || { sleep("1ms"); backup::create(db).status }])
    "#;
    assert_survives_every_crash(script, &[Choice::Approve], RunStatus::Succeeded);
    let script = r#"
        backup::create(db);
        on_failure(|| backup::create(db, #{ label: "end" }));
        approve("go?");
        backup::create(db, #{ label: "never" })
    "#;
    assert_survives_every_crash(script, &[Choice::Reject], RunStatus::Failed);
}

#[test]
fn a_kill_around_a_failed_call_changes_nothing() {
    let script = r#"
        backup::create(db);
        defer(|| backup::create(db, #{ label: "end" }));
        db::execute(db, "insert into later values (1)")
    "#;
    assert_survives_every_crash(script, &[Choice::Redo, Choice::Fail], RunStatus::Failed);
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
    let calm = ScriptEnv::new();
    let undisturbed = calm.run_script(script);
    let sorted = |mut effects: Vec<String>| {
        effects.sort();
        effects
    };
    for (first, second) in (2..40).step_by(5).flat_map(|a| [(a, 1), (a, 3), (a, 8), (a, 14)]) {
        let env = ScriptEnv::new();
        let dying = |at| Arc::new(Listener { die_at: Some(at), ..Listener::default() });
        let killed = env.try_run_script(script, dying(first)).is_err();
        let again = killed && env.resume_run(dying(second)).is_err();
        let ended = if again { env.resume_run(Arc::default()).map(Some) } else { Ok(None) };
        if let Some(ended) = ended.expect("it resumes") {
            assert_eq!(
                (ended.status, &ended.value),
                (RunStatus::Succeeded, &undisturbed.value),
                "{first}, {second}"
            );
        }
        assert_eq!(
            sorted(env.list_effects()),
            sorted(calm.list_effects()),
            "killed at {first}, then at {second}"
        );
    }
}
