//! Scripts on a real PostgreSQL.
//!
//! The windows of every call: dead before the effect, after it and before its record, while what was accepted goes on, and
//! after its record. Each time somebody resumes, and the world has every effect once.
//!
//! `REDRILL_WINDOWS=1` tries every record; without it, every nineteenth, beginning at another one each time.

use super::{super::script_runner::RunResources, Listener, forks::read_knob};
use crate::{
    base::{
        clock::{Clock, SystemClock},
        moment::Span,
    },
    config::{Config, LAB},
    journal::{Journal, Record, RecordObserver, RunStatus},
    runtime::{Event, RunObserver, Runbook, Runtime, ScriptRunner, StartRequest},
    testing::{Kept, TestEnv, TestLab},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
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

    /// Runs a script on the lab.
    fn run_script(&self, script: &str) -> Value {
        run_script_on("lab", self.lab.env.load_config(), script)
    }

    /// Runs a script and lets it die at one record; resumes it to its end. Returns where it died, if it did.
    fn die_once(&self, script: &str, at: usize) -> Option<String> {
        let runbook = Runbook::from_text("windows.rhai", script.to_owned()).expect("it parses");
        let (given, now) = (BTreeMap::new(), SystemClock.now());
        let params =
            ScriptRunner::check_and_resolve_params(&runbook, &given, &self.lab.env.load_config(), now)
                .expect("it may run")
                .values;
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
                Ok(_) => Some(runner.resume_run(&resources, RUN, &runbook)),
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

/// Runs a script to its end on a target, and returns its value.
fn run_script_on(target: &str, config: Config, script: &str) -> Value {
    let header = format!(
        r#"const RUNBOOK = #{{ title: "t", params: #{{ db: #{{ type: "target", preset: "{target}" }} }},
        needs: ["backup.create", "backup.destroy", "branch.create", "branch.destroy", "db.change",
            "db.destroy", "project.read"] }};
        let db = params.db;"#
    );
    let runbook = Runbook::from_text("t.rhai", format!("{header}\n{script}")).expect("it parses");
    let request = StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
    let runtime = Runtime::new(config).expect("a runtime");
    let run = runtime.start_run(request, Arc::<Listener>::default()).expect("it may run");
    assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
    run.value
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

/// Last week's drill went back to a restore point in place; this week's name is the same.
const DRILL_OF_EVERY_WEEK: &str = r#"
    db::execute(db, "create table dm (id integer not null)");
    backup::create(db, #{ label: "dm" });
    db::execute(db, "insert into dm values (1)");
    let first = backup::pitr::mark(db, "before-deploy");
    db::execute(db, "insert into dm values (2)");
    backup::pitr::restore(db, #{ to: #{ name: "before-deploy" } });
    project::wait_ready(db);
    db::execute(db, "insert into dm values (30)");
    let again = attempt(|| backup::pitr::mark(db, "before-deploy")).error;
    let second = backup::pitr::mark(db, "before-next-deploy");
    db::execute(db, "insert into dm values (31)");
    let seen = [again.code, again.side_effects, first.timeline, second.timeline];
    for to in [first, second, #{ name: "before-deploy" }, #{ lsn: second.lsn, timeline: second.timeline }] {
        let copy = backup::pitr::restore(db, #{ to: to, into: "dupmark" });
        seen.push(db::query(copy, "select id from dm order by id").map(|row| row.id));
        branch::delete(db, copy);
    }
    backup::pitr::restore(db, #{ to: second });
    project::wait_ready(db);
    seen.push(db::query(db, "select id from dm order by id").map(|row| row.id));
    seen
"#;

/// The simulator and a cluster do and refuse the same.
#[test]
fn a_mark_of_the_last_timeline_is_never_taken_for_todays() {
    let wanted = json!(["CONFLICT", "none", 1, 2, [1], [1, 30], [1], [1, 30], [1, 30]]);
    let env = TestEnv::new();
    assert_eq!(run_script_on("sandbox", env.load_config(), DRILL_OF_EVERY_WEEK), wanted);
    let Some(lab) = LabEnv::start_lab() else { return };
    assert_eq!(lab.run_script(DRILL_OF_EVERY_WEEK), wanted);
}

/// A name, a place and a transaction that two places of the history have, the newer of them not archived yet.
#[test]
fn what_is_in_two_places_of_the_history_is_refused() {
    let script = r#"
        fn into(db, name, to) {
            let r = attempt(|| backup::pitr::restore(db, #{ to: to, into: name, temporary: true }));
            if r.ok { db::query(r.value, "select id from dm2 order by id").map(|row| row.id) } else { r.error.code }
        }
        db::execute(db, "create table dm2 (id integer)");
        backup::create(db, #{ label: "y0" });
        db::execute(db, "insert into dm2 values (1)");
        let weekly = backup::pitr::mark(db, "weekly");
        backup::create(db, #{ label: "y1" });
        db::execute(db, "insert into dm2 values (2)");
        // Somebody else makes one of this name, without redrill.
        db::execute(db, "select pg_create_restore_point('weekly')");
        let seen = [into(db, "same-timeline", #{ name: "weekly" }), into(db, "the-first", weekly)];
        seen.push(attempt(|| backup::pitr::restore(db, #{ to: #{ name: "weekly" } })).error.code);
        let fork = backup::pitr::mark(db, "fork");
        // The timeline that is left goes on far enough to have every place that the next one has.
        for i in 0..6 {
            db::execute(db, `insert into dm2 values (${100 + i})`);
            db::execute(db, "select pg_switch_wal()");
        }
        backup::create(db, #{ label: "y2" });
        backup::pitr::restore(db, #{ to: fork });
        project::wait_ready(db);
        db::execute(db, "insert into dm2 values (50)");
        let xid = db::query(db, "select xmin::text as x from dm2 where id = 50")[0].x;
        let place = db::query(db, "select pg_current_wal_lsn()::text as lsn")[0].lsn;
        db::execute(db, "insert into dm2 values (51)");
        seen.push(into(db, "by-lsn", #{ lsn: place }));
        seen.push(into(db, "by-xid", #{ xid: xid }));
        let after = backup::pitr::mark(db, "after-fork");
        db::execute(db, "insert into dm2 values (52)");
        seen.push(into(db, "by-name", #{ name: "after-fork" }));
        seen.push(into(db, "by-mark", after));
        seen
    "#;
    let Some(lab) = LabEnv::start_lab() else { return };
    let wanted = json!([
        "REFUSED",
        [1],
        "REFUSED",
        "AMBIGUOUS_TIMELINE",
        "AMBIGUOUS_TIMELINE",
        [1, 2, 50, 51],
        [1, 2, 50, 51]
    ]);
    assert_eq!(lab.run_script(script), wanted);
}

#[test]
fn the_time_of_a_call_ends_what_a_server_does_not_answer() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let tokio = tokio.expect("a runtime");
    let Some(lab) = tokio.block_on(TestLab::start_lab()) else { return };
    let (tunnel, config) = tokio.block_on(lab.open_tunnel());
    let script = r#"
        let error = attempt(|| db::config::set(db, #{ work_mem: "8MB" }, #{ timeout: "2s" })).error;
        [error.code, error.side_effects, error.message.contains("within 2s")]
    "#;
    tunnel.keep(Kept::Request("from pg_settings"));
    assert_eq!(run_script_on(LAB, config.clone(), script), json!(["TIMEOUT", "none", true]));
    tokio.block_on(tunnel.release());
    // A read has no more time than its call.
    tunnel.keep(Kept::Request("from pg_settings"));
    let script = r#"attempt(|| db::config::get(db, #{ timeout: "2s" })).error.code"#;
    assert_eq!(run_script_on(LAB, config.clone(), script), json!("TIMEOUT"));
}
