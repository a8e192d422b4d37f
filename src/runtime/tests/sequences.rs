//! Random sequences of what operators, kills, edits, copies of the state and clocks do to one run: nothing happens twice,
//! the world agrees with the journal, and some command ends the run.
//!
//! `REDRILL_SEQUENCES` says how many sequences are played, `REDRILL_SEED` with which seed.

use super::*;
use crate::{
    base::clock::{Clock, VirtualClock},
    base::moment::{Moment, Span},
    journal::{APPROVE, Decision, Outcome, StateFolderConsent},
    provider::{OpenContext, sim::Sim},
    runtime::{DecidableCall, OpenApproval, end_as_abandoned, is_gate},
};
use proptest::{
    prelude::*,
    test_runner::{Config as ProptestConfig, RngAlgorithm, TestRng, TestRunner},
};
use std::{
    fmt::Debug,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// How many sequences are played unless more are asked for.
const FEW_SEQUENCES: u32 = 24;

const SCRIPT: &str = r#"
step("one", || backup::create(db, #{ label: "a" }));
let copy = backup::restore(db, "nightly-1", #{ into: "tmp", temporary: true });
defer(|| backup::create(db, #{ label: "end" }));
approve("go on?");
parallel([
    || backup::create(db, #{ label: "p" }),
    || db::execute(db, "update orders set id = id where id = 1"),
]);
sleep("2m");
each([1, 2, 3], #{ limit: 2 }, |i| backup::create(db, #{ label: `e${i}` }));
backup::create(db, #{ label: "c" });
branch::list(db).len()
"#;

/// What an edit puts in the place of what.
const EDITS: &[(&str, &str)] = &[
    ("", ""),
    ("step(\"one\"", "branch::list(db); note(\"read\"); step(\"one\""),
    ("branch::list(db).len()", "backup::create(db, #{ label: \"z\" }).label"),
    ("approve(\"go on?\");", ""),
    ("approve(\"go on?\");", "approve(\"really?\");"),
    ("approve(", "backup::create(db, #{ label: \"y\" }); approve("),
    ("sleep(\"2m\");", "sleep(\"2m\"); db::execute(db, \"update orders set id = id where id = 2\");"),
    ("\"one\"", "\"uno\""),
    ("    || backup::create(db, #{ label: \"p\" }),\n", ""),
    ("label: \"end\"", "label: \"fine\""),
    ("defer(|| backup::create(db, #{ label: \"end\" }));", ""),
    ("label: \"a\"", "label: \"aa\""),
    ("branch::list(db).len()", "db::execute(db, \"delete from nowhere\")"),
    ("[1, 2, 3]", "[1, 2, 3, 4]"),
    ("[1, 2, 3]", "[1]"),
    ("limit: 2", "limit: 1"),
    ("sleep(\"2m\");", ""),
];

/// Something that happens to the run.
#[derive(Debug, Clone)]
enum Act {
    /// A process takes the run up: with an edited script, or with the recorded one.
    Resume { edit: Option<usize>, process: Process },
    /// A process gives the run up.
    Abandon { process: Process },
    /// The run is given up, and no target is touched.
    Leave,
    /// Somebody decides about the gate at which it waits.
    DecideGate { approves: bool },
    /// Somebody decides about the call of which nobody knows, or that is held.
    DecideCall { redo: bool },
    /// The clock of the machine is set.
    StepClock { minutes: i64 },
    /// The state folder is copied, and the copy is taken over.
    Copy,
}

/// A process, and the person in front of it.
#[derive(Debug, Clone, Copy)]
struct Process {
    /// The event at which it is killed.
    dies_at: Option<usize>,
    /// Whether the person allows an edit; nothing where nobody is.
    allows_edit: Option<bool>,
    holds_failures: bool,
}

/// Counts events, dies, and answers.
struct ProcessObserver {
    process: Process,
    listener: Listener,
}

impl RunObserver for ProcessObserver {
    fn on_event(&self, event: &Event<'_>) {
        self.listener.on_event(event);
    }

    fn ask_person(&self, question: &Question, _: &Withdrawal) -> Option<Answer> {
        let choice = match question {
            Question::Edit { .. } if self.process.allows_edit? => Choice::Approve,
            Question::Edit { .. } => Choice::Reject,
            Question::FailedCall { .. } if self.process.holds_failures => Choice::Hold,
            _ => return None,
        };
        Some(Answer { choice, by: "ann".into() })
    }
}

impl Process {
    /// A process that nothing befalls, with a person who allows everything.
    const CALM: Self = Self { dies_at: None, allows_edit: Some(true), holds_failures: false };

    fn observer(self) -> Arc<dyn RunObserver> {
        let listener = Listener { die_at: self.dies_at, ..Listener::default() };
        Arc::new(ProcessObserver { process: self, listener })
    }
}

fn any_process() -> impl Strategy<Value = Process> {
    (prop::option::weighted(0.5, 0_usize..40), any::<Option<bool>>(), any::<bool>())
        .prop_map(|(dies_at, allows_edit, holds_failures)| Process { dies_at, allows_edit, holds_failures })
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => any_process().prop_map(|process| Act::Resume { edit: None, process }),
        6 => (0..EDITS.len(), any_process()).prop_map(|(edit, process)| Act::Resume { edit: Some(edit), process }),
        2 => any_process().prop_map(|process| Act::Abandon { process }),
        1 => Just(Act::Leave),
        4 => prop::bool::weighted(0.8).prop_map(|approves| Act::DecideGate { approves }),
        2 => any::<bool>().prop_map(|redo| Act::DecideCall { redo }),
        2 => (-200_i64..200).prop_map(|minutes| Act::StepClock { minutes }),
        2 => Just(Act::Copy),
    ]
}

/// One run, its world, and the clock of its machine.
struct Sequence {
    env: ScriptEnv,
    clock: Arc<VirtualClock>,
    id: String,
}

impl Sequence {
    /// Starts the run in a process.
    fn start(process: Process) -> Self {
        let env = TestEnv::new();
        let clock =
            Arc::new(VirtualClock::starting_at(Moment::parse("2026-11-20T12:00:00Z").expect("a moment")));
        let runtime = make_runtime(&env, &clock, StateFolderConsent::default());
        let env = ScriptEnv { env, runtime };
        let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{SCRIPT}")).expect("it parses");
        let start = StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
        // Killed at the first event, which is this thread's own.
        drop(catch_unwind(AssertUnwindSafe(|| env.runtime.start_run(start, process.observer()))));
        let id = env.runtime.open_journal().expect("a journal").resolve_run_id("last").expect("the run");
        Self { env, clock, id }
    }

    fn journal(&self) -> Arc<journal::Journal> {
        Arc::new(self.env.runtime.open_journal().expect("a journal"))
    }

    fn status(&self) -> RunStatus {
        self.journal().summarize_run(&self.id).expect("a run").status
    }

    fn records(&self) -> Vec<Record> {
        let entries = self.journal().read_records(&self.id).expect("its records");
        entries.into_iter().map(|entry| entry.record).collect()
    }

    /// Plays one act. What is refused changes nothing.
    fn play(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Copy => return self.copy_state(),
            Act::Resume { edit, process } => return self.resume(*edit, *process),
            Act::Abandon { process } => drop(self.take_up(None, true, *process)),
            Act::Leave => drop(end_as_abandoned(&self.journal(), &self.id)),
            Act::DecideGate { approves } => drop(self.decide_gate(*approves)),
            Act::DecideCall { redo } => drop(self.decide_call(*redo)),
            Act::StepClock { minutes } => self.clock.shift_wall_clock(Span::from_secs(minutes * 60)),
        }
        Ok(())
    }

    /// Copies the state, and takes the copy over; checks that nothing acts there before.
    fn copy_state(&mut self) -> Result<(), String> {
        // The process of before is gone, and has no file open.
        self.env.runtime = make_runtime(&self.env.env, &self.clock, StateFolderConsent::default());
        self.env.env.copy_state();
        let before = (self.effects(), self.records());
        let refused = self.take_up(None, false, Process::CALM);
        let is_refused = matches!(refused, Err(Refusal::Journal(journal::Error::ElsewhereState { .. })));
        let is_same = (self.effects(), self.records()) == before;
        fails(!is_refused || !is_same, "a copy that nobody took over acts", &refused.map(|run| run.stop))?;
        let consent = StateFolderConsent { adopt: true, by: "ann".into(), ..StateFolderConsent::default() };
        let adopter = make_runtime(&self.env.env, &self.clock, consent);
        let taken = adopter.open_journal().and_then(|journal| journal.acquire_run(&self.id).map(drop));
        let is_told =
            self.status().is_final() || matches!(self.records().last(), Some(Record::Adopted { .. }));
        fails(taken.is_err() || !is_told, "a copy cannot be taken over", &taken)
    }

    /// Resumes the run, and checks that a script which does not match does nothing new.
    fn resume(&self, edit: Option<usize>, process: Process) -> Result<(), String> {
        let count_allowed =
            || self.records().iter().filter(|record| matches!(record, Record::EditAllowed { .. })).count();
        let (effects, allowed) = (self.effects().len(), count_allowed());
        let resumed = self.take_up(edit, false, process);
        let is_mismatch = matches!(&resumed, Ok(RunResult { stop: Some(StopReason::Mismatch { .. }), .. }));
        let is_new = self.effects().len() > effects && count_allowed() == allowed;
        fails(
            is_mismatch && is_new,
            "a script that does not match did something",
            &resumed.map(|run| run.stop),
        )
    }

    fn take_up(&self, edit: Option<usize>, abandon: bool, process: Process) -> Result<RunResult, Refusal> {
        let journal = self.journal();
        let acquired = if abandon {
            Runtime::acquire_run_to_abandon(&journal, &self.id)
        } else {
            Runtime::acquire_run(&journal, &self.id)
        };
        let (run, recorded) = acquired?;
        if run.status().is_final() {
            return Err(std::io::Error::other("the run has ended").into());
        }
        let edited = |(from, to): (&str, &str)| {
            let text = if from.is_empty() { SCRIPT.to_owned() } else { SCRIPT.replacen(from, to, 1) };
            Runbook::from_text("test.rhai", format!("{HEADER}{text}")).expect("it parses")
        };
        let runbook = edit.map_or(recorded, |edit| edited(EDITS[edit]));
        let resume = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon };
        let resumed = catch_unwind(AssertUnwindSafe(|| {
            self.env.runtime.resume_run(journal, resume, process.observer())
        }));
        resumed.unwrap_or_else(|_| Err(std::io::Error::other("killed at its first event").into()))
    }

    fn decide_gate(&self, approves: bool) -> Option<()> {
        let journal = self.journal();
        let run = journal.acquire_run(&self.id).ok().filter(|run| !run.status().is_final())?;
        for approval in OpenApproval::list_open_approvals(&run.copy_fold()).expect("it reads") {
            approval.record_decision(&run, approves, "bob").expect("written");
        }
        Some(())
    }

    fn decide_call(&self, redo: bool) -> Option<()> {
        let call = DecidableCall::acquire(&self.journal(), &self.id, "/", false).ok()?;
        let decision = if redo { Decision::Redo { error: None } } else { Decision::Fail { error: None } };
        call.record_decision(&self.journal(), &decision, "bob".into()).ok()
    }

    /// Returns what took effect: the key, the kind and what it was done to.
    fn effects(&self) -> Vec<(Option<String>, String, String)> {
        let config = self.env.env.load_config();
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let (base, state) = (config.base.as_path(), config.state.as_path());
        let opening =
            OpenContext { target: &config.targets["sandbox"], base, file: None, state, clock: &clock };
        let rows = Sim::open(&opening).expect("the world opens").effect_log().expect("its log");
        rows.into_iter().map(|row| (row.key.map(|key| key.0), row.kind, row.what)).collect()
    }

    /// Checks that nothing happened twice, and that the world and the journal agree.
    fn check(&self) -> Result<(), String> {
        let (effects, records) = (self.effects(), self.records());
        for (at, (_, kind, what)) in effects.iter().enumerate() {
            let again = effects[..at].iter().any(|(_, k, w)| (k, w) == (kind, what));
            fails(again, "twice", &(kind, what))?;
        }
        let begun: BTreeMap<&str, &str> = records
            .iter()
            .filter_map(|record| match record {
                Record::Begin { call, key, op, .. } if !is_gate(op) => Some((key.as_str(), call.as_str())),
                _ => None,
            })
            .collect();
        for (key, kind, what) in &effects {
            // What is removed carries no key.
            let is_known = key.as_deref().is_none_or(|key| begun.contains_key(key));
            fails(!is_known, "nobody asked for it", &(kind, what))?;
        }
        for (key, call) in begun {
            let done = records.iter().any(|record| {
                matches!(record, Record::End { call: ended, outcome: Outcome::Ok(_), .. } if ended == call)
            });
            let is_there = effects.iter().any(|(k, ..)| k.as_deref() == Some(key));
            let done = done && !call.contains("branch::delete");
            fails(done && !is_there, "recorded and not there", &call)?;
        }
        self.journal().verify_run(&self.id, None).map(drop).map_err(|e| e.to_string())
    }

    /// Checks that nothing behind the gate has happened before somebody gave it, once it was asked for.
    fn check_gate(&self) -> Result<(), String> {
        let records = self.records();
        let asked = records.iter().any(|record| matches!(record, Record::Begin { op, .. } if op == APPROVE));
        let is_given = |record: &Record| match record {
            Record::End { op, outcome, .. } => op == APPROVE && matches!(outcome, Outcome::Ok(_)),
            Record::EditAllowed { .. } => true,
            _ => false,
        };
        let effects = self.effects();
        let behind =
            effects.iter().find(|(_, _, what)| ["p", "e1", "e2", "e3", "c"].contains(&what.as_str()));
        fails(asked && !records.iter().any(is_given) && behind.is_some(), "the gate was passed", &behind)
    }

    /// Does what an operator does who wants an end, and checks that there is one.
    fn finish(&self) -> Result<(), String> {
        for _ in 0..12 {
            if self.status().is_final() {
                return self.check_end();
            }
            self.decide_gate(true);
            self.decide_call(false);
            let ended = self.take_up(None, false, Process::CALM).map_err(|e| e.to_string())?;
            if matches!(ended.stop, Some(StopReason::Mismatch { .. })) {
                let given_up = self.take_up(None, true, Process::CALM).map_err(|e| e.to_string())?;
                fails(!given_up.status.is_final(), "it cannot be given up", &given_up)?;
            }
            self.check()?;
        }
        Err(format!("no end comes: {:?}", self.records().last()))
    }

    /// Checks that what the run had to remove is gone, and what it had deferred is done, or both are named.
    fn check_end(&self) -> Result<(), String> {
        let (effects, records) = (self.effects(), self.records());
        let Some(Record::Finished { left_behind, .. }) = records.last() else { return Err("no end".into()) };
        let named = left_behind.join(", ");
        let count =
            |kind: &str, what: &str| effects.iter().filter(|(_, k, w)| k == kind && w.contains(what)).count();
        let is_left = count("restore.branch", "tmp") > count("branch.delete", "tmp");
        fails(is_left && !named.contains("tmp"), "the branch is left and not named", left_behind)?;
        let allowed = records.iter().any(|record| matches!(record, Record::EditAllowed { missing, .. } if missing.iter().any(|name| name.contains("defer"))));
        // What was recorded under an edit that was dropped is no record of the run's.
        let entries = self.journal().read_records(&self.id).expect("its records");
        let (fold, _) = journal::RunFold::fold_until_illegal(&entries);
        let deferred = fold.calls().any(|(_, call)| call.op == "defer");
        let undone = deferred && count("backup.create", "end") + count("backup.create", "fine") == 0;
        fails(undone && !allowed && !named.contains("defer"), "clean-up is lost and not named", left_behind)
    }
}

/// Returns the runtime of a new process.
pub(super) fn make_runtime(env: &TestEnv, clock: &Arc<VirtualClock>, consent: StateFolderConsent) -> Runtime {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Runtime::with_clock(env.load_config(), clock).expect("a runtime").with_consent(consent)
}

/// Returns what is wrong, if it is.
fn fails(is_wrong: bool, what: &str, about: &dyn Debug) -> Result<(), String> {
    if is_wrong { Err(format!("{what}: {about:?}")) } else { Ok(()) }
}

/// Plays a sequence, and returns what was wrong.
fn play_sequence(first: Process, acts: &[Act]) -> Result<(), String> {
    let mut sequence = Sequence::start(first);
    for act in acts {
        let open = sequence.status();
        let played = sequence.play(act).and_then(|()| sequence.check()).and_then(|()| sequence.check_gate());
        played.map_err(|why| format!("after {act:?}, {open}: {why}"))?;
    }
    sequence.finish()
}

#[test]
fn whatever_is_done_to_a_run_something_ends_it_and_nothing_happens_twice() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cases = variable("REDRILL_SEQUENCES").map_or(FEW_SEQUENCES, |n| u32::try_from(n).expect("a count"));
    let seed = variable("REDRILL_SEED")
        .unwrap_or_else(|| u64::try_from(jiff::Timestamp::now().as_millisecond()).expect("after 1970"));
    crate::base::terminal::print_message(&format!("REDRILL_SEED={seed} REDRILL_SEQUENCES={cases}"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let played = runner.run(&(any_process(), prop::collection::vec(any_act(), 1..10)), |(first, acts)| {
        play_sequence(first, &acts).map_err(TestCaseError::fail)
    });
    if let Err(why) = played {
        panic!("REDRILL_SEED={seed}: {why}");
    }
}
