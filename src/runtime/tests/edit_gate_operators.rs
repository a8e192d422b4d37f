//! What operators do to a run that waits at the gate of an edited text: they set clocks, copy its state, and take it over.

use super::{
    edits::{assert_edit_rejected, resume_with_text},
    sequences::make_runtime,
    *,
};
use crate::{
    base::{
        clock::VirtualClock,
        moment::{Moment, Span},
    },
    journal::StateFolderConsent,
    runtime::OpenApproval,
};
use std::time::Duration;

const PASSED: &str = r#"
defer(|| backup::create(db, #{ label: "end" }));
approve("go on?");
backup::create(db, #{ label: "a" });
branch::list(db)
"#;

/// What an edit puts in.
const NEW: &str = "backup::create(db, #{ label: \"new\" });\nbranch::list(db)";

fn edited() -> String {
    PASSED.replace("branch::list(db)", NEW)
}

/// A run on a clock of its own that passed a gate, was killed, and waits at the gate of an edited text.
fn wait_at_edit_gate() -> (ScriptEnv, Arc<VirtualClock>) {
    let clock = Arc::new(VirtualClock::starting_at(Moment::parse("2026-11-20T12:00:00Z").expect("a moment")));
    let env = TestEnv::new();
    let runtime = make_runtime(&env, &clock, StateFolderConsent::default());
    let env = ScriptEnv { env, runtime };
    let listed = |event: &str| event.contains("call.started") && event.contains("branch::list");
    let dying = Arc::new(Listener { die_before: Some(listed), approves: true, ..Listener::default() });
    drop(env.try_run_script(PASSED, dying));
    assert_waits(&resume_with_text(&env, &edited(), &[]));
    (env, clock)
}

fn assert_waits(ended: &RunResult) {
    let Some(StopReason::Waiting { call, .. }) = &ended.stop else { panic!("{ended:?}") };
    assert!(call.starts_with("/approve_edit#"), "{call}");
}

/// Decides about the one gate at which the run waits.
fn decide_gate(env: &ScriptEnv, approves: bool) {
    let journal = env.runtime.open_journal().expect("a journal");
    let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
    let open = OpenApproval::list_open_approvals(&run.copy_fold()).expect("it reads");
    assert_eq!(open.len(), 1, "{open:?}");
    open[0].record_decision(&run, approves, "bob").expect("written");
}

fn resume(env: &ScriptEnv) -> RunResult {
    env.resume_run(Arc::default()).expect("it is driven")
}

/// Asserts that the run ends well, with the effects of the edited text, or of the recorded one.
fn assert_ends(env: &ScriptEnv, is_edited: bool) {
    let ended = resume(env);
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
    assert_eq!(env.list_effects().len(), if is_edited { 3 } else { 2 });
}

#[test]
fn a_clock_that_is_set_while_an_edit_waits_changes_nothing_about_it() {
    for minutes in [-180, -1, 60 * 24 * 30] {
        for approves in [true, false] {
            let (env, clock) = wait_at_edit_gate();
            clock.shift_wall_clock(Span::from_secs(minutes * 60));
            assert_waits(&resume(&env));
            decide_gate(&env, approves);
            clock.shift_wall_clock(Span::from_secs(-minutes * 60));
            if !approves {
                assert_edit_rejected("rejected", &resume(&env), "bob");
            }
            assert_ends(&env, approves);
        }
    }
}

#[test]
fn a_copy_of_a_run_whose_edit_waits_goes_on_where_it_is_taken_over() {
    for decides_before in [true, false] {
        for approves in [true, false] {
            let (mut env, clock) = wait_at_edit_gate();
            if decides_before {
                decide_gate(&env, approves);
            }
            env.runtime = make_runtime(&env.env, &clock, StateFolderConsent::default());
            env.env.copy_state();
            let refused = env.resume_run(Arc::default());
            assert!(
                matches!(refused, Err(Refusal::Journal(journal::Error::ElsewhereState { .. }))),
                "{refused:?}"
            );
            let consent =
                StateFolderConsent { adopt: true, by: "ann".into(), ..StateFolderConsent::default() };
            env.runtime = make_runtime(&env.env, &clock, consent);
            if !decides_before {
                assert_waits(&resume(&env));
                decide_gate(&env, approves);
            }
            if !approves {
                assert_edit_rejected("rejected", &resume(&env), "bob");
            }
            assert_ends(&env, approves);
        }
    }
}

#[test]
fn a_copy_of_a_run_whose_edit_waits_is_given_up_by_the_text_before() {
    let (mut env, clock) = wait_at_edit_gate();
    env.env.copy_state();
    let consent = StateFolderConsent { adopt: true, by: "ann".into(), ..StateFolderConsent::default() };
    env.runtime = make_runtime(&env.env, &clock, consent);
    let ended = env.abandon_run();
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Abandoned, 2), "{ended:?}");
}

/// A person who reads the question for so long that another process takes the run over.
struct SlowPerson {
    journal: Arc<journal::Journal>,
    run: String,
}

impl RunObserver for SlowPerson {
    fn on_event(&self, _: &Event<'_>) {}

    fn ask_person(&self, _: &Question, withdrawal: &Withdrawal) -> Option<Answer> {
        self.journal.request_stop(&self.run, "bob").expect("it is asked to stop");
        while !withdrawal.is_withdrawn() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // What is said to a question that is withdrawn is heard by nobody.
        Some(Answer { choice: Choice::Approve, by: "ann".into() })
    }
}

#[test]
fn a_run_that_is_taken_over_while_somebody_reads_about_its_edit_asks_again() {
    for approves in [true, false] {
        let (env, _) = wait_at_edit_gate();
        let journal = Arc::new(env.runtime.open_journal().expect("a journal"));
        let id = journal.resolve_run_id("last").expect("the run");
        let (run, runbook) = Runtime::acquire_run(&journal, &id).expect("it is free");
        let request = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon: false };
        let person = Arc::new(SlowPerson { journal: Arc::clone(&journal), run: id });
        let stopped = env.runtime.resume_run(journal, request, person).expect("it is driven");
        assert!(matches!(&stopped.stop, Some(StopReason::TakenOver { by }) if by == "bob"), "{stopped:?}");
        assert_eq!(env.list_effects().len(), 1, "nothing was approved");
        assert_waits(&resume(&env));
        decide_gate(&env, approves);
        if !approves {
            assert_edit_rejected("rejected", &resume(&env), "bob");
        }
        assert_ends(&env, approves);
    }
}
