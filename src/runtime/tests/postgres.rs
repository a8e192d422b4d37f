//! The windows of every call on a real PostgreSQL: dead before the effect, after it and before its record, while what
//! was accepted goes on, and after its record. Each time somebody resumes, and the world has every effect once.
//!
//! `REDRILL_WINDOWS=1` tries every record; without it, every nineteenth, beginning at another one each time.

use super::{super::script_runner::RunResources, forks::read_knob};
use crate::{
    base::{
        clock::{Clock, SystemClock},
        moment::Span,
    },
    journal::{Journal, Record, RecordObserver, RunStatus},
    runtime::{Event, RunObserver, Runbook, ScriptRunner},
    testing::TestLab,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

const RUN: &str = "windows";

/// Dies before or after a record, by its place among all records before and after which it could.
struct CrashAtRecord {
    passed: AtomicUsize,
    die_at: AtomicUsize,
    records: Mutex<Vec<String>>,
}

impl CrashAtRecord {
    fn new(die_at: usize) -> Arc<Self> {
        let (passed, records) = (AtomicUsize::default(), Mutex::default());
        Arc::new(Self { passed, die_at: die_at.into(), records })
    }

    fn visit_record(&self, when: &str, record: &Record) {
        let at = self.passed.fetch_add(1, Ordering::SeqCst);
        if at == self.die_at.load(Ordering::SeqCst) {
            let told = format!("{when} `{}` of {}", record.kind(), record.call_name().unwrap_or("the run"));
            self.records.lock().expect("nobody dies while holding it").push(told);
            std::panic::resume_unwind(Box::new("killed"));
        }
    }
}

impl RecordObserver for CrashAtRecord {
    fn before_append(&self, record: &Record) {
        self.visit_record("before", record);
    }

    fn after_append(&self, record: &Record) {
        self.visit_record("after", record);
    }
}

impl RunObserver for CrashAtRecord {
    fn on_event(&self, _: &Event<'_>) {}
}

/// A lab, and what a script does to it.
struct LabEnv {
    lab: TestLab,
    tokio: tokio::runtime::Runtime,
}

impl LabEnv {
    fn start_lab() -> Option<Self> {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let lab = tokio.block_on(TestLab::start_lab())?;
        Some(Self { lab, tokio })
    }

    /// Returns the number that a query gives.
    fn query_number(&self, sql: &str) -> i64 {
        let lab = self.lab.open_target();
        let rows =
            self.tokio.block_on(lab.sql().expect("SQL").query(sql, Span::from_secs(10))).expect("rows");
        rows.rows[0].values().next().and_then(serde_json::Value::as_i64).expect("a number")
    }

    /// Returns how many backups and branches there are.
    fn count_created(&self) -> (usize, usize) {
        let lab = self.lab.open_target();
        let backups = self.tokio.block_on(lab.backups().expect("backups").list()).expect("lists");
        let branches = self.tokio.block_on(lab.branches().expect("branches").list()).expect("lists");
        (backups.len(), branches.len())
    }

    /// Runs a script and lets it die at one record; resumes it to its end. Returns where it died, if it did.
    fn die_once(&self, script: &str, at: usize) -> Option<String> {
        let runbook = Runbook::from_text("windows.rhai", script.to_owned()).expect("it parses");
        let params = ScriptRunner::admit_runbook(&runbook, &BTreeMap::new(), &self.lab.env.load_config())
            .expect("it may run");
        let mut runner = ScriptRunner::new(&runbook, params).expect("an engine");
        let reaper = CrashAtRecord::new(at);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let observer = Arc::clone(&reaper) as Arc<dyn RecordObserver>;
        let journal = Arc::new(Journal::open_in_memory(clock, observer, &Arc::default()).expect("a journal"));
        let resources = RunResources {
            fleet: Arc::new(self.lab.env.open_fleet()),
            journal,
            watch: Arc::clone(&reaper) as Arc<dyn RunObserver>,
            stop_requester: Arc::default(),
        };
        if runner.start_run(&resources, RUN).expect("it may run").is_err() {
            reaper.die_at.store(usize::MAX, Ordering::SeqCst);
            let resumed = match resources.journal.summarize_run(RUN) {
                Ok(run) if run.status.is_final() => None,
                Ok(_) => Some(runner.resume_run(&resources, RUN)),
                Err(_) => Some(runner.start_run(&resources, RUN)),
            };
            drop(resumed.transpose().expect("it may go on"));
        }
        let died = reaper.records.lock().expect("nobody dies while holding it").pop();
        let run = resources.journal.summarize_run(RUN).expect("there is a run");
        assert_eq!(run.status, RunStatus::Succeeded, "died {died:?}: {:?}", run.error);
        died
    }
}

/// Lets a script die at one record after the other, and looks at the world each time.
fn every_window(script: &str, look: impl Fn(&LabEnv, &str)) {
    let Some(windows) = LabEnv::start_lab() else { return };
    windows.die_once(script, usize::MAX);
    look(&windows, "undisturbed");
    let (step, first) = read_knob("REDRILL_WINDOWS", 19);
    for at in (first..).step_by(step) {
        let Some(died) = windows.die_once(script, at) else { break };
        look(&windows, &died);
    }
}

#[test]
fn every_window_of_what_makes_changes_and_removes() {
    let script = r#"
        const RUNBOOK = #{ title: "w", params: #{ db: #{ type: "target", preset: "lab" } },
            needs: ["backup.create", "backup.destroy", "branch.create", "branch.destroy", "db.destroy"] };
        let db = params.db;
        db::execute(db, "create table if not exists seen (n int)");
        let taken = backup::create(db);
        db::execute(db, "insert into seen values (1)");
        backup::pitr::mark(db, "w");
        let copy = backup::restore(db, taken, #{ into: "w" });
        db::execute(copy, "insert into seen values (2)");
        ensure(db::query(copy, "select count(*) as n from seen where n = 2")[0].n == 1, "done twice in the branch");
        branch::delete(db, copy);
        backup::delete(db, taken);
    "#;
    let runs = std::cell::Cell::new(0);
    every_window(script, |windows, died| {
        runs.set(runs.get() + 1);
        assert_eq!(windows.count_created(), (0, 0), "died {died}");
        assert_eq!(windows.query_number("select count(*) as n from seen"), runs.get(), "died {died}");
    });
}

#[test]
fn every_window_of_a_restore_in_place() {
    let script = r#"
        const RUNBOOK = #{ title: "w", params: #{ db: #{ type: "target", preset: "lab" } },
            needs: ["backup.create", "backup.destroy", "db.destroy"] };
        let db = params.db;
        db::execute(db, "create table if not exists seen (n int)");
        let taken = backup::create(db);
        db::execute(db, "insert into seen values (1)");
        backup::restore(db, taken);
        backup::delete(db, taken);
    "#;
    every_window(script, |windows, died| {
        assert_eq!(windows.count_created(), (0, 0), "died {died}");
        assert_eq!(windows.query_number("select count(*) as n from seen"), 0, "died {died}");
    });
}
