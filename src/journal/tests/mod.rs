//! The journal, tested through its public face.

mod fold;
mod lease;
mod place;
mod run;
mod store;
mod unfit;
mod verify;

use super::{
    Journal, JournalEntry, NewRun, Outcome, Record, RecordObserver, RecordedOutcome, Run, Source,
    StateFolderConsent, schema,
};
use crate::base::{
    clock::Clock,
    moment::{Moment, Span},
};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// A clock that moves on by a second whenever it is read.
struct TickingClock(Mutex<Moment>);

#[async_trait::async_trait]
impl Clock for TickingClock {
    fn now(&self) -> Moment {
        let mut now = self.0.lock().expect("not poisoned");
        *now = now.saturating_add(Span::from_secs(1));
        *now
    }
    async fn sleep(&self, span: Span) {
        let mut now = self.0.lock().expect("not poisoned");
        *now = now.saturating_add(span);
    }
}

/// An observer that does nothing.
pub(super) struct SilentObserver;

impl RecordObserver for SilentObserver {
    fn before_append(&self, _: &Record) {}
    fn after_append(&self, _: &Record) {}
}

/// Returns a clock that starts at noon.
pub(super) fn ticking_clock() -> Arc<dyn Clock> {
    clock_from("12:00:00")
}

/// Returns a clock that starts at a time of the day of all tests.
fn clock_from(time: &str) -> Arc<dyn Clock> {
    Arc::new(TickingClock(Mutex::new(moment_at(time))))
}

/// Returns a moment of the day of all tests.
fn moment_at(time: &str) -> Moment {
    Moment::parse(&format!("2026-11-20T{time}Z")).expect("a moment")
}

/// A state folder with a journal.
pub(super) struct TestJournal {
    pub(super) folder: TempDir,
    pub(super) journal: Journal,
}

impl TestJournal {
    pub(super) fn new() -> TestJournal {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(folder.path(), clock_from("11:59:59")).expect("opens");
        // Writing the place down takes the first second.
        journal.check_or_adopt_place().expect("a place of its own");
        TestJournal { folder, journal }
    }

    /// Makes a run.
    pub(super) fn create_run(&self) -> Run {
        self.journal.create_run(&new_run()).expect("made")
    }

    /// Returns another connection to the same file, as another process would have.
    pub(super) fn second_connection(&self) -> Connection {
        Connection::open(schema::journal_path(self.folder.path())).expect("opens")
    }

    /// Returns what another connection sees of a run.
    pub(super) fn read_records(&self, id: &str) -> Vec<JournalEntry> {
        let other =
            Journal::open_if_exists(self.folder.path(), ticking_clock(), StateFolderConsent::default())
                .expect("opens")
                .expect("is there");
        other.read_records(id).expect("reads")
    }

    /// Returns the kinds of records that another connection sees.
    pub(super) fn record_kinds(&self, id: &str) -> Vec<&'static str> {
        self.read_records(id).iter().map(|entry| entry.record.kind()).collect()
    }
}

pub(super) fn new_run() -> NewRun {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    NewRun {
        runbook: "drill.rhai".into(),
        title: "A drill".into(),
        params: json!({"db": "sandbox"}),
        sources: vec![source("drill.rhai", "let x = 1;"), source("lib/a.rhai", "fn a() { 1 }")],
        git: None,
        version: "0.2.0".into(),
        leases: vec![],
    }
}

pub(super) fn ok_outcome<E>(value: impl Into<Value>) -> Outcome<E> {
    Outcome::Ok(value.into())
}

pub(super) fn begin_record(call: &str) -> Record {
    let (op, key, at) = ("load".into(), format!("key-{call}"), "drill.rhai:1:1".into());
    Record::Begin { call: call.into(), op, args: json!({"n": 1}), key, at }
}

pub(super) fn accepted_record(call: &str) -> Record {
    Record::Accepted { call: call.into(), what: json!({"job": 7}) }
}

pub(super) fn end_record(call: &str, outcome: RecordedOutcome) -> Record {
    let (op, at) = ("load".into(), "drill.rhai:1:1".into());
    Record::End { call: call.into(), op, args: json!({"n": 1}), at, outcome }
}
