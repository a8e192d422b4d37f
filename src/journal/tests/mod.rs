//! The journal as those see it who use it.

mod lease;
mod run;
mod store;
mod verify;

use super::{Entry, Journal, NewRun, Outcome, Record, Run, Source, Witness, schema};
use crate::base::{
    clock::Clock,
    moment::{Moment, Span},
};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// A clock that goes on by a second whenever it is looked at.
struct Ticking(Mutex<Moment>);

#[async_trait::async_trait]
impl Clock for Ticking {
    fn now(&self) -> Moment {
        let mut now = self.0.lock().expect("not poisoned");
        *now = now.plus(Span::seconds(1));
        *now
    }
    async fn sleep(&self, span: Span) {
        let mut now = self.0.lock().expect("not poisoned");
        *now = now.plus(span);
    }
}

/// Whoever listens to nothing.
pub(super) struct Deaf;

impl Witness for Deaf {
    fn adding(&self, _: &Record) {}
    fn added(&self, _: &Record) {}
}

/// Returns a clock that starts at noon.
pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(Ticking(Mutex::new(at("12:00:00"))))
}

/// Returns a moment of the day of all tests.
fn at(time: &str) -> Moment {
    Moment::parse(&format!("2026-11-20T{time}Z")).expect("a moment")
}

/// A state folder with a journal.
pub(super) struct Stage {
    pub(super) folder: TempDir,
    pub(super) journal: Journal,
}

impl Stage {
    pub(super) fn new() -> Stage {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(folder.path(), clock()).expect("opens");
        Stage { folder, journal }
    }

    /// Makes a run.
    pub(super) fn run(&self) -> Run {
        self.journal.create(&new_run()).expect("made")
    }

    /// Returns another connection to the same file, as another process would have.
    pub(super) fn other(&self) -> Connection {
        Connection::open(schema::file(self.folder.path())).expect("opens")
    }

    /// Returns what another connection sees of a run.
    pub(super) fn records(&self, id: &str) -> Vec<Entry> {
        let other = Journal::peek(self.folder.path(), clock()).expect("opens").expect("is there");
        other.records(id).expect("reads")
    }

    /// Returns the kinds of records that another connection sees.
    pub(super) fn kinds(&self, id: &str) -> Vec<&'static str> {
        self.records(id).iter().map(|entry| entry.record.kind()).collect()
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
        version: "0.1.0".into(),
        leases: vec![],
    }
}

pub(super) fn ok(value: impl Into<Value>) -> Outcome {
    Outcome::Ok(value.into())
}

pub(super) fn begin(call: &str) -> Record {
    let (op, key, at) = ("load".into(), format!("key-{call}"), "drill.rhai:1:1".into());
    Record::Begin { call: call.into(), op, args: json!({"n": 1}), key, at }
}

pub(super) fn accepted(call: &str) -> Record {
    Record::Accepted { call: call.into(), what: json!({"job": 7}) }
}

pub(super) fn end(call: &str, outcome: Outcome) -> Record {
    let (op, at) = ("load".into(), "drill.rhai:1:1".into());
    Record::End { call: call.into(), op, args: json!({"n": 1}), at, outcome }
}
