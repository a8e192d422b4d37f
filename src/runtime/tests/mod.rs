//! Scripts, run for real on the sandbox: what a script can and cannot do, and what a crash leaves.

mod approvals;
mod attempts;
mod claims;
mod crashes;
mod divergence;
mod edit_gate_operators;
mod edited_clean_up;
mod edited_forks;
mod edited_gates;
mod edited_holds;
mod edits;
mod edits_on_trial;
mod ends;
mod forks;
mod language;
mod left_behind;
mod lost_requests;
mod postgres;
mod quarantines;
mod sequences;
mod unreadable;
mod withdrawn_gates;
mod worlds;

use super::{
    VERSION,
    end_run::RunResult,
    evaluate,
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
    /// Returns how many steps were at work at once at most.
    fn count_steps_at_once(&self) -> i32 {
        let (mut now, mut most) = (0, 0);
        for event in self.heard.lock().expect("heard").iter() {
            now += i32::from(event.contains("step.started")) - i32::from(event.contains("step.finished"));
            most = most.max(now);
        }
        most
    }

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
        let (run, _) = Runtime::acquire_run(&journal, &journal.resolve_run_id("last")?)?;
        let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}"))?;
        let resume = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon: false };
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
        let (run, runbook) = acquired?;
        let resume = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon };
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
        let context = RunContext::new(self.runtime.prepare_run_setup(journal, run, Some(vec![]), listener));
        evaluate::run_on_thread(&self.runtime.tokio, &context, runbook, params).expect("it is driven").stop
    }
}
