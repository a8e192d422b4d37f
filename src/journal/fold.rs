//! The fold: from a run's records to where it stands. The only place that knows which record may follow which.

use super::{Outcome, Record, Status, rows::Standing};
use serde_json::Value;
use std::collections::HashMap;

/// Why a record does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// The first record is not `started`.
    #[error("`{0}` before the run was started")]
    BeforeStart(&'static str),
    /// The run was started already.
    #[error("`started` a second time")]
    StartedTwice,
    /// The run has ended.
    #[error("`{0}` after the run ended as {1}")]
    AfterEnd(&'static str, Status),
    /// The run has stopped, and nobody has taken it up again.
    #[error("`{0}` while the run is {1} and not resumed")]
    WhileStopped(&'static str, Status),
    /// A status that this record cannot bring.
    #[error("`{0}` cannot make a run {1}")]
    WrongStatus(&'static str, Status),
    /// The call was not begun, or is over.
    #[error("`{0}` for the call `{1}`, which is not begun")]
    NotBegun(&'static str, String),
    /// The call was begun, and nobody decided that it may be begun again.
    #[error("the call `{0}` was begun before")]
    BegunTwice(String),
    /// The call is over.
    #[error("`{0}` for the call `{1}`, which is over")]
    Over(&'static str, String),
    /// Written down, it would not read back as what it is: a value is nested too deep.
    #[error(
        "`{0}` holds a value that would not read back as it is (nested more than a hundred levels deep?)"
    )]
    Unreadable(&'static str),
    /// The call that ends is not the one that was begun.
    #[error("the call `{0}` was begun with another operation or other arguments")]
    Another(String),
}

/// What the journal knows of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Past {
    /// Nothing.
    Nothing,
    /// It was begun, or opened again by a decision, and is not over.
    Begun {
        /// What was done.
        op: String,
        /// With what.
        args: Value,
        /// The key of the last attempt; empty for a call without effect that was opened again.
        key: String,
        /// What the last attempt was given to wait on.
        accepted: Option<Value>,
        /// What somebody decided since.
        decision: Option<Value>,
    },
    /// It is over.
    Ended {
        /// What was done.
        op: String,
        /// With what.
        args: Value,
        /// What came of it.
        outcome: Outcome,
    },
}

/// A call, folded.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    op: String,
    args: Value,
    key: String,
    attempts: u32,
    accepted: Option<Value>,
    decision: Option<Value>,
    outcome: Option<Outcome>,
}

/// Returns where a run stands after `record`, given where it stood and what was known of the record's call.
///
/// # Errors
/// Why the record does not fit. Nothing may be written then.
pub(super) fn next(status: Option<Status>, call: Option<&Call>, record: &Record) -> Result<Status, Illegal> {
    let kind = record.kind();
    let status = match (status, record) {
        (None, Record::Started { .. }) => return Ok(Status::Running),
        (None, _) => return Err(Illegal::BeforeStart(kind)),
        (Some(_), Record::Started { .. }) => return Err(Illegal::StartedTwice),
        (Some(ended), _) if ended.is_final() => return Err(Illegal::AfterEnd(kind, ended)),
        (Some(status), _) => status,
    };
    match record {
        // Also from `Running`: the process that ran it may have died without a word.
        Record::Resumed { .. } => return Ok(Status::Running),
        Record::Finished { status: Status::Abandoned, .. } => return Ok(Status::Abandoned),
        Record::Decided { call: name, .. } => return decidable(name, call).map(|()| status),
        _ if status.is_stopped() => return Err(Illegal::WhileStopped(kind, status)),
        _ => {}
    }
    match record {
        Record::Finished { status: to, .. } if to.is_final() => Ok(*to),
        Record::Stopped { status: to, .. } if to.is_stopped() => Ok(*to),
        Record::Finished { status: to, .. } | Record::Stopped { status: to, .. } => {
            Err(Illegal::WrongStatus(kind, *to))
        }
        Record::Begin { call: name, .. } => beginnable(name, call).map(|()| status),
        Record::Accepted { call: name, .. } => open(kind, name, call).map(|()| status),
        Record::End { call: name, op, args, .. } => endable(name, op, args, call).map(|()| status),
        _ => Ok(status),
    }
}

/// Checks that somebody may decide about a call: it is begun, or it failed.
fn decidable(name: &str, call: Option<&Call>) -> Result<(), Illegal> {
    match call {
        None => Err(Illegal::NotBegun("decided", name.into())),
        Some(Call { outcome: Some(Outcome::Ok(_)), .. }) => Err(Illegal::Over("decided", name.into())),
        Some(_) => Ok(()),
    }
}

/// Checks that a call may be begun: it is new, or somebody decided that it is done again.
fn beginnable(name: &str, call: Option<&Call>) -> Result<(), Illegal> {
    match call {
        Some(Call { outcome: Some(_), .. }) => Err(Illegal::Over("begin", name.into())),
        Some(Call { decision: None, .. }) => Err(Illegal::BegunTwice(name.into())),
        None | Some(_) => Ok(()),
    }
}

/// Checks that a call is begun and not over.
fn open(kind: &'static str, name: &str, call: Option<&Call>) -> Result<(), Illegal> {
    match call {
        None => Err(Illegal::NotBegun(kind, name.into())),
        Some(Call { outcome: Some(_), .. }) => Err(Illegal::Over(kind, name.into())),
        Some(_) => Ok(()),
    }
}

/// Checks that a call may end: it is not over, and if it was begun then as this very call.
fn endable(name: &str, op: &str, args: &Value, call: Option<&Call>) -> Result<(), Illegal> {
    match call {
        Some(Call { outcome: Some(_), .. }) => Err(Illegal::Over("end", name.into())),
        Some(begun) if begun.op != op || begun.args != *args => Err(Illegal::Another(name.into())),
        None | Some(_) => Ok(()),
    }
}

/// A run, folded.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fold {
    /// Where it stands; nothing before its first record.
    pub(super) status: Option<Status>,
    /// Why it stopped.
    pub(super) reason: Option<String>,
    /// What it ends with, once it is ending.
    pub(super) ending: Option<Outcome>,
    /// Who each name turned out to be.
    pub(super) targets: HashMap<String, Value>,
    calls: HashMap<String, Call>,
    /// Which of its texts the run is made of: 0 is the first, others are edited ones.
    pub(super) edition: u32,
    /// The one before, until something takes effect under an edited one: a text that does not match is dropped.
    before: u32,
    /// The newest text there is.
    pub(super) newest: u32,
}

impl Fold {
    /// Adds a record.
    ///
    /// # Errors
    /// Why it does not fit; the fold is then what it was.
    pub(super) fn add(&mut self, record: Record) -> Result<(), Illegal> {
        let call = record.call().and_then(|name| self.calls.get(name));
        self.status = Some(next(self.status, call, &record)?);
        // A decision is made about a stopped run and leaves it stopped, for the same reason.
        if !matches!(record, Record::Decided { .. }) {
            self.reason = None;
        }
        match &record {
            Record::Resumed { digest: Some(_), .. } => {
                self.newest += 1;
                self.before = self.edition;
                self.edition = self.newest;
            }
            Record::Begin { .. } | Record::Ending { .. } => self.before = self.edition,
            Record::Stopped { mismatch: true, .. } => self.edition = self.before,
            _ => {}
        }
        match record {
            Record::Stopped { reason, .. } => self.reason = Some(reason),
            Record::Target { name, identity } => drop(self.targets.insert(name, identity)),
            Record::Ending { outcome } => self.ending = Some(outcome),
            Record::Begin { call, op, args, key, .. } => self.begin(call, op, args, key),
            Record::End { call, op, args, outcome, .. } => self.end(call, op, args, outcome),
            Record::Accepted { call, what } => self.change(&call, |c| c.accepted = Some(what)),
            Record::Decided { call, decision, .. } => self.change(&call, |c| {
                c.decision = Some(decision);
                c.outcome = None;
            }),
            Record::Started { .. } | Record::Resumed { .. } | Record::Finished { .. } => {}
        }
        Ok(())
    }

    /// Returns the calls that were begun and are not over, by name.
    pub(super) fn open_calls(&self) -> Vec<String> {
        let open = self.calls.iter().filter(|(_, call)| call.outcome.is_none());
        let mut names: Vec<String> = open.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    fn begin(&mut self, name: String, op: String, args: Value, key: String) {
        let attempts = self.attempts(&name) + 1;
        self.calls.insert(name, Call { key, attempts, ..Call::new(op, args) });
    }

    fn end(&mut self, name: String, op: String, args: Value, outcome: Outcome) {
        let call = self.calls.entry(name).or_insert_with(|| Call::new(op, args));
        call.decision = None;
        call.outcome = Some(outcome);
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Call)) {
        if let Some(call) = self.calls.get_mut(name) {
            change(call);
        }
    }

    /// Returns what is known of a call.
    pub(super) fn past(&self, name: &str) -> Past {
        let Some(Call { op, args, key, accepted, decision, outcome, .. }) = self.calls.get(name).cloned()
        else {
            return Past::Nothing;
        };
        match outcome {
            Some(outcome) => Past::Ended { op, args, outcome },
            None => Past::Begun { op, args, key, accepted, decision },
        }
    }

    /// Returns where the run stands and why it stopped.
    pub(super) fn standing(&self) -> Standing {
        (self.status, self.reason.clone())
    }

    /// Returns how often a call was begun.
    pub(super) fn attempts(&self, name: &str) -> u32 {
        self.calls.get(name).map_or(0, |call| call.attempts)
    }

    /// Returns the names of the calls that begin with `path`, in no order.
    pub(super) fn calls_below(&self, path: &str) -> Vec<String> {
        self.calls.keys().filter(|name| name.starts_with(path)).cloned().collect()
    }

    /// Returns the names of the calls that were about to take effect, in no order.
    pub(super) fn begun(&self) -> Vec<String> {
        self.calls.iter().filter(|(_, call)| call.attempts > 0).map(|(name, _)| name.clone()).collect()
    }

    /// Returns how many calls there are.
    pub(super) fn calls(&self) -> u64 {
        self.calls.len() as u64
    }
}

impl Call {
    fn new(op: String, args: Value) -> Call {
        Call { op, args, key: String::new(), attempts: 0, accepted: None, decision: None, outcome: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OPEN: [Status; 4] = [Status::Running, Status::Waiting, Status::Undecided, Status::Interrupted];
    const FINAL: [Status; 3] = [Status::Succeeded, Status::Failed, Status::Abandoned];

    fn started() -> Record {
        let (runbook, title, digest, version) = ("a.rhai".into(), "A".into(), "0".into(), "1".into());
        Record::Started { runbook, title, digest, params: json!({}), version, git: None }
    }
    fn resumed() -> Record {
        Record::Resumed { version: "1".into(), edited: false, digest: None }
    }
    fn begin(key: &str) -> Record {
        let (call, op) = ("a".into(), "load".into());
        Record::Begin { call, op, args: json!([1]), key: key.into(), at: "1:1".into() }
    }
    fn accepted() -> Record {
        Record::Accepted { call: "a".into(), what: json!({"job": 7}) }
    }
    fn end(outcome: Outcome) -> Record {
        let (call, op) = ("a".into(), "load".into());
        Record::End { call, op, args: json!([1]), at: "1:1".into(), outcome }
    }
    fn decided() -> Record {
        Record::Decided { call: "a".into(), decision: json!("redo"), by: "ann".into() }
    }
    fn ending() -> Record {
        Record::Ending { outcome: Outcome::Ok(json!(null)) }
    }
    fn finished(status: Status) -> Record {
        Record::Finished { status, error: None, left_behind: Vec::new() }
    }
    fn stopped(status: Status) -> Record {
        Record::Stopped { status, reason: "a signal".into(), mismatch: false, at_call: None }
    }
    fn ok() -> Outcome {
        Outcome::Ok(json!(1))
    }
    fn err() -> Outcome {
        Outcome::Err(json!({"code": "X"}))
    }

    fn fold(records: &[Record]) -> Fold {
        let mut fold = Fold::default();
        for record in records {
            fold.add(record.clone()).expect("legal");
        }
        fold
    }
    /// Adds the last record to a fold of the others, which must be legal.
    fn last(records: &[Record]) -> Result<Fold, Illegal> {
        let (last, others) = records.split_last().expect("not empty");
        let mut fold = fold(others);
        let before = fold.clone();
        let added = fold.add(last.clone());
        assert!(added.is_ok() || fold == before, "a refused record left a trace");
        added.map(|()| fold)
    }

    #[test]
    fn a_run_is_started_once_and_first() {
        assert_eq!(next(None, None, &started()), Ok(Status::Running));
        assert_eq!(next(None, None, &resumed()), Err(Illegal::BeforeStart("resumed")));
        assert_eq!(next(Some(Status::Running), None, &started()), Err(Illegal::StartedTwice));
    }

    #[test]
    fn nothing_follows_the_end() {
        for status in FINAL {
            for record in [resumed(), begin("k"), end(ok()), ending(), decided(), finished(Status::Abandoned)]
            {
                let refused = Err(Illegal::AfterEnd(record.kind(), status));
                assert_eq!(next(Some(status), None, &record), refused);
            }
        }
    }

    #[test]
    fn a_stopped_run_is_resumed_decided_about_or_abandoned_and_nothing_else() {
        for status in OPEN.into_iter().filter(|s| s.is_stopped()) {
            assert_eq!(next(Some(status), None, &resumed()), Ok(Status::Running));
            assert_eq!(next(Some(status), None, &finished(Status::Abandoned)), Ok(Status::Abandoned));
            for record in
                [begin("k"), end(ok()), ending(), finished(Status::Failed), stopped(Status::Waiting)]
            {
                let refused = Err(Illegal::WhileStopped(record.kind(), status));
                assert_eq!(next(Some(status), None, &record), refused);
            }
            let records = [started(), begin("k"), stopped(status), decided()];
            assert_eq!(
                last(&records).map(|fold| fold.standing()),
                Ok((Some(status), Some("a signal".into())))
            );
        }
    }

    #[test]
    fn a_run_stops_and_ends_with_a_status_of_that_sort() {
        for status in OPEN.into_iter().chain(FINAL) {
            let (stop, finish) = (stopped(status), finished(status));
            let now = Some(Status::Running);
            assert_eq!(next(now, None, &stop).is_ok(), status.is_stopped());
            assert_eq!(next(now, None, &finish).is_ok(), status.is_final());
        }
    }

    #[test]
    fn a_killed_run_is_resumed_without_having_stopped() {
        assert_eq!(next(Some(Status::Running), None, &resumed()), Ok(Status::Running));
    }

    #[test]
    fn a_call_is_begun_once_accepted_while_open_and_ended_once() {
        let not_begun = |kind| Err(Illegal::NotBegun(kind, "a".into()));
        let over = |kind| Err(Illegal::Over(kind, "a".into()));
        let begun_twice = Err(Illegal::BegunTwice("a".into()));
        assert_eq!(last(&[started(), accepted()]).map(drop), not_begun("accepted"));
        assert_eq!(last(&[started(), decided()]).map(drop), not_begun("decided"));
        assert_eq!(last(&[started(), begin("k"), begin("k")]).map(drop), begun_twice);
        for done in [ok(), err()] {
            for more in [begin("k"), accepted(), end(ok())] {
                assert_eq!(last(&[started(), end(done.clone()), more.clone()]).map(drop), over(more.kind()));
            }
        }
        assert_eq!(last(&[started(), end(ok()), decided()]).map(drop), over("decided"));
    }

    #[test]
    fn a_call_ends_as_what_was_begun() {
        let mut other = end(ok());
        if let Record::End { args, .. } = &mut other {
            *args = json!([2]);
        }
        assert_eq!(last(&[started(), begin("k"), other]).map(drop), Err(Illegal::Another("a".into())));
    }

    #[test]
    fn the_past_of_a_call_follows_its_records() {
        let (op, args) = (String::from("load"), json!([1]));
        let begun = |key: &str, accepted: Option<Value>, decision: Option<Value>| Past::Begun {
            op: op.clone(),
            args: args.clone(),
            key: key.into(),
            accepted,
            decision,
        };
        let ended = |outcome| Past::Ended { op: op.clone(), args: args.clone(), outcome };
        let (job, redo) = (Some(json!({"job": 7})), Some(json!("redo")));
        let mut fold = fold(&[started()]);
        for (record, past, attempts) in [
            (resumed(), Past::Nothing, 0),
            (begin("k1"), begun("k1", None, None), 1),
            (accepted(), begun("k1", job.clone(), None), 1),
            (decided(), begun("k1", job.clone(), redo.clone()), 1),
            (begin("k2"), begun("k2", None, None), 2),
            (accepted(), begun("k2", job.clone(), None), 2),
            (end(err()), ended(err()), 2),
            (decided(), begun("k2", job, redo), 2),
            (end(ok()), ended(ok()), 2),
        ] {
            fold.add(record).expect("legal");
            assert_eq!((fold.past("a"), fold.attempts("a"), fold.past("b")), (past, attempts, Past::Nothing));
        }
        assert_eq!(fold.calls(), 1);
    }

    #[test]
    fn a_reason_lasts_until_the_run_goes_on() {
        let waiting = fold(&[started(), stopped(Status::Waiting)]);
        assert_eq!(waiting.standing(), (Some(Status::Waiting), Some("a signal".into())));
        let going = fold(&[started(), stopped(Status::Waiting), resumed()]);
        assert_eq!(going.standing(), (Some(Status::Running), None));
    }
}
