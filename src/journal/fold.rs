//! The fold: from a run's records to where it stands. The only place that knows which record may follow which.

use super::{JournalEntry, Outcome, Record, RunStatus, rows::RunState};
use crate::base::moment::Moment;
use serde_json::Value;
use std::collections::HashMap;

/// Why a record may not follow the records before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalRecord {
    /// The first record is not `started`.
    #[error("`{0}` before the run was started")]
    BeforeStart(&'static str),
    /// The run was started already.
    #[error("`started` a second time")]
    StartedTwice,
    /// The run has ended.
    #[error("`{0}` after the run ended as {1}")]
    AfterEnd(&'static str, RunStatus),
    /// The run has stopped and has not been resumed.
    #[error("`{0}` while the run is {1} and not resumed")]
    WhileStopped(&'static str, RunStatus),
    /// A status that this record cannot bring.
    #[error("`{0}` cannot make a run {1}")]
    WrongStatus(&'static str, RunStatus),
    /// The call was not begun, or is over.
    #[error("`{0}` for the call `{1}`, which is not begun")]
    CallNotStarted(&'static str, String),
    /// The call was begun before, and nobody decided to redo it.
    #[error("the call `{0}` was begun before")]
    CallStartedTwice(String),
    /// The call is over.
    #[error("`{0}` for the call `{1}`, which is over")]
    CallFinished(&'static str, String),
    /// The record would not read back as itself: a value is nested too deeply.
    #[error(
        "`{0}` holds a value that would not read back as it is (nested more than a hundred levels deep?)"
    )]
    Unreadable(&'static str),
    /// The call that ends is not the one that was begun.
    #[error("the call `{0}` was begun with another operation or other arguments")]
    CallMismatch(String),
}

/// The state of a call, folded from its records.
#[derive(Debug, Clone, PartialEq)]
pub enum CallState {
    /// The journal has no record of it.
    NotStarted,
    /// It was begun, or reopened by a decision, and has not finished.
    Started {
        op: String,
        args: Value,
        /// The key of the last attempt; empty for a call without effect that was opened again.
        key: String,
        /// What the last attempt was given to wait on.
        accepted: Option<Value>,
        /// What somebody decided since.
        decision: Option<Value>,
    },
    /// It is over.
    Finished {
        op: String,
        args: Value,
        /// What came of it.
        outcome: Outcome,
    },
}

/// A call as its records leave it.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedCall {
    pub op: String,
    pub args: Value,
    /// Every attempt, in order. There is one at least.
    pub attempts: Vec<Attempt>,
    /// What somebody decided since the last attempt began or ended.
    pub decision: Option<Value>,
    /// The number of the record at which it last began, or at which it ended if it never did.
    order: u64,
}

/// One attempt at a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attempt {
    /// The key by which what it makes can be found again; nothing for a call without effect, which only ends.
    pub key: Option<String>,
    pub began_at: Option<Moment>,
    /// What it was given to wait on.
    pub accepted: Option<Value>,
    pub outcome: Option<Outcome>,
    pub ended_at: Option<Moment>,
}

/// Returns where a run stands after `record`, given where it stood and what was known of the record's call.
///
/// # Errors
/// Why the record does not fit. Nothing may be written then.
pub(super) fn next_status(
    status: Option<RunStatus>,
    call: Option<&FoldedCall>,
    record: &Record,
) -> Result<RunStatus, IllegalRecord> {
    let kind = record.kind();
    let status = match (status, record) {
        (None, Record::Started { .. }) => return Ok(RunStatus::Running),
        (None, _) => return Err(IllegalRecord::BeforeStart(kind)),
        (Some(_), Record::Started { .. }) => return Err(IllegalRecord::StartedTwice),
        (Some(ended), _) if ended.is_final() => return Err(IllegalRecord::AfterEnd(kind, ended)),
        (Some(status), _) => status,
    };
    match record {
        // Also from `Running`: the process may have died without recording a stop.
        Record::Resumed { .. } => return Ok(RunStatus::Running),
        Record::Finished { status: RunStatus::Abandoned, .. } => return Ok(RunStatus::Abandoned),
        Record::Decided { call: name, .. } => return check_decidable(name, call).map(|()| status),
        _ if status.is_stopped() => return Err(IllegalRecord::WhileStopped(kind, status)),
        _ => {}
    }
    match record {
        Record::Finished { status: to, .. } if to.is_final() => Ok(*to),
        Record::Stopped { status: to, .. } if to.is_stopped() => Ok(*to),
        Record::Finished { status: to, .. } | Record::Stopped { status: to, .. } => {
            Err(IllegalRecord::WrongStatus(kind, *to))
        }
        Record::Begin { call: name, .. } => check_startable(name, call).map(|()| status),
        Record::Accepted { call: name, .. } => check_open(kind, name, call).map(|()| status),
        Record::End { call: name, op, args, .. } => check_endable(name, op, args, call).map(|()| status),
        _ => Ok(status),
    }
}

/// Checks that somebody may decide about a call: it is begun, or it failed.
fn check_decidable(name: &str, call: Option<&FoldedCall>) -> Result<(), IllegalRecord> {
    match call {
        None => Err(IllegalRecord::CallNotStarted("decided", name.into())),
        Some(call) if matches!(call.outcome(), Some(Outcome::Ok(_))) => {
            Err(IllegalRecord::CallFinished("decided", name.into()))
        }
        Some(_) => Ok(()),
    }
}

/// Checks that a call may be begun: it is new, or somebody decided that it is done again.
fn check_startable(name: &str, call: Option<&FoldedCall>) -> Result<(), IllegalRecord> {
    match call {
        Some(call) if !call.is_open() => Err(IllegalRecord::CallFinished("begin", name.into())),
        Some(FoldedCall { decision: None, .. }) => Err(IllegalRecord::CallStartedTwice(name.into())),
        None | Some(_) => Ok(()),
    }
}

/// Checks that a call is begun and not over.
fn check_open(kind: &'static str, name: &str, call: Option<&FoldedCall>) -> Result<(), IllegalRecord> {
    match call {
        None => Err(IllegalRecord::CallNotStarted(kind, name.into())),
        Some(call) if !call.is_open() => Err(IllegalRecord::CallFinished(kind, name.into())),
        Some(_) => Ok(()),
    }
}

/// Checks that a call may end: it is not over, and if it was begun then as this very call.
fn check_endable(name: &str, op: &str, args: &Value, call: Option<&FoldedCall>) -> Result<(), IllegalRecord> {
    match call {
        Some(call) if !call.is_open() => Err(IllegalRecord::CallFinished("end", name.into())),
        Some(begun) if begun.op != op || begun.args != *args => Err(IllegalRecord::CallMismatch(name.into())),
        None | Some(_) => Ok(()),
    }
}

/// A run as its records leave it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunFold {
    /// Where it stands; nothing before its first record.
    pub(super) status: Option<RunStatus>,
    pub(super) reason: Option<String>,
    /// The call at which it stopped.
    stopped_at: Option<String>,
    /// What it ends with, once it is ending.
    pub(super) ending: Option<Outcome>,
    error: Option<Value>,
    left_behind: Vec<String>,
    /// The identity that each target name resolved to.
    pub(super) targets: HashMap<String, Value>,
    calls: HashMap<String, FoldedCall>,
    /// How many records there are.
    records: u64,
    /// The edition of the sources in force: 0 is the original, higher ones are edits.
    pub(super) edition: u32,
    /// The edition to fall back to if the edited one does not match; moves on once something takes effect.
    before: u32,
    /// The newest text there is.
    pub(super) newest: u32,
}

impl RunFold {
    /// Folds records up to the first that does not fit, and returns why: a journal that was tampered with can still
    /// be shown.
    pub fn from_entries(entries: &[JournalEntry]) -> (Self, Option<IllegalRecord>) {
        let mut fold = Self::default();
        let illegal = entries.iter().find_map(|entry| fold.apply_entry(entry).err());
        (fold, illegal)
    }

    /// Adds an entry of the journal.
    ///
    /// # Errors
    /// Why it does not fit; the fold is then what it was.
    pub fn apply_entry(&mut self, entry: &JournalEntry) -> Result<(), IllegalRecord> {
        self.apply_record(entry.record.clone(), entry.at)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// Why it does not fit; the fold is then what it was.
    pub(super) fn apply_record(&mut self, record: Record, at: Moment) -> Result<(), IllegalRecord> {
        let call = record.call_name().and_then(|name| self.calls.get(name));
        self.status = Some(next_status(self.status, call, &record)?);
        self.records += 1;
        // A decision is made about a stopped run and leaves it stopped, for the same reason.
        if !matches!(record, Record::Decided { .. }) {
            self.reason = None;
            self.stopped_at = None;
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
            Record::Stopped { reason, at_call, .. } => {
                self.reason = Some(reason);
                self.stopped_at = at_call;
            }
            Record::Target { name, identity } => drop(self.targets.insert(name, identity)),
            Record::Ending { outcome } => self.ending = Some(outcome),
            Record::Begin { call, op, args, key, .. } => {
                let attempt = Attempt { key: Some(key), began_at: Some(at), ..Attempt::default() };
                self.start_attempt(call, op, args, attempt);
            }
            Record::End { call, op, args, outcome, .. } => {
                if !self.calls.contains_key(&call) {
                    self.start_attempt(call.clone(), op, args, Attempt::default());
                }
                self.update_call(&call, |c| {
                    c.decision = None;
                    c.update_attempt(|attempt| {
                        attempt.outcome = Some(outcome);
                        attempt.ended_at = Some(at);
                    });
                });
            }
            Record::Accepted { call, what } => {
                self.update_call(&call, |c| c.update_attempt(|attempt| attempt.accepted = Some(what)));
            }
            Record::Decided { call, decision, .. } => {
                self.update_call(&call, |c| c.decision = Some(decision));
            }
            Record::Finished { error, left_behind, .. } => {
                self.error = error;
                self.left_behind = left_behind;
            }
            Record::Started { .. } | Record::Resumed { .. } => {}
        }
        Ok(())
    }

    fn start_attempt(&mut self, name: String, op: String, args: Value, attempt: Attempt) {
        let mut attempts = self.calls.remove(&name).map_or_else(Vec::new, |call| call.attempts);
        attempts.push(attempt);
        self.calls.insert(name, FoldedCall { op, args, attempts, decision: None, order: self.records });
    }

    fn update_call(&mut self, name: &str, change: impl FnOnce(&mut FoldedCall)) {
        if let Some(call) = self.calls.get_mut(name) {
            change(call);
        }
    }

    /// Returns where the run stands; nothing before its first record.
    pub fn status(&self) -> Option<RunStatus> {
        self.status
    }

    /// Returns why the run has stopped, while it has.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Returns the error that the run ended with.
    pub fn error(&self) -> Option<&Value> {
        self.error.as_ref()
    }

    /// Returns what the run made and left, by name, once it has ended.
    pub fn left_behind(&self) -> &[String] {
        &self.left_behind
    }

    /// Returns a call by its name.
    pub fn call(&self, name: &str) -> Option<&FoldedCall> {
        self.calls.get(name)
    }

    /// Returns every call with its name, in the order in which they last began.
    pub fn calls(&self) -> impl Iterator<Item = (&str, &FoldedCall)> {
        let mut calls: Vec<_> = self.calls.iter().map(|(name, call)| (name.as_str(), call)).collect();
        calls.sort_by_key(|(_, call)| call.order);
        calls.into_iter()
    }

    /// Returns the calls that were begun, or opened again by a decision, and are not over.
    pub fn open_calls(&self) -> impl Iterator<Item = (&str, &FoldedCall)> {
        self.calls().filter(|(_, call)| call.is_open())
    }

    /// Returns the calls that somebody can decide about: those that are held, or decided about already, and the one of
    /// which the run stopped because nobody knows. The world has not been asked yet about a call that was cut short,
    /// and the script has gone on with a failure that nobody held.
    pub fn decidable_calls(&self) -> impl Iterator<Item = (&str, &FoldedCall)> {
        let is_unknown = |name: &str| {
            self.status == Some(RunStatus::Undecided)
                && self.stopped_at.as_ref().is_none_or(|unknown| unknown == name)
        };
        self.open_calls().filter(move |(name, call)| call.decision.is_some() || is_unknown(name))
    }

    /// Returns what is known of a call.
    pub(super) fn call_state(&self, name: &str) -> CallState {
        let Some(call) = self.calls.get(name) else { return CallState::NotStarted };
        let (op, args) = (call.op.clone(), call.args.clone());
        if let Some(outcome) = call.outcome() {
            return CallState::Finished { op, args, outcome: outcome.clone() };
        }
        let Attempt { key, accepted, .. } = call.attempts.last().cloned().unwrap_or_default();
        let key = key.unwrap_or_default();
        CallState::Started { op, args, key, accepted, decision: call.decision.clone() }
    }

    /// Returns where the run stands and why it stopped.
    pub(super) fn run_state(&self) -> RunState {
        (self.status, self.reason.clone())
    }

    /// Returns how often a call was begun.
    pub(super) fn count_attempts(&self, name: &str) -> u32 {
        self.calls.get(name).map_or(0, FoldedCall::count_begins)
    }

    /// Returns the names of the calls that begin with `path`, in no order.
    pub(super) fn call_names_below(&self, path: &str) -> Vec<String> {
        self.calls.keys().filter(|name| name.starts_with(path)).cloned().collect()
    }

    /// Returns the names of the calls that were about to take effect, in no order.
    pub(super) fn started_calls(&self) -> Vec<String> {
        let started = self.calls.iter().filter(|(_, call)| call.count_begins() > 0);
        started.map(|(name, _)| name.clone()).collect()
    }

    /// Returns how many calls there are.
    pub(super) fn count_calls(&self) -> u64 {
        self.calls.len() as u64
    }
}

impl FoldedCall {
    /// Returns whether the call is not over: its attempt goes on, or a decision has opened it again.
    pub fn is_open(&self) -> bool {
        self.outcome().is_none()
    }

    /// Returns what came of the call, once it is over.
    pub fn outcome(&self) -> Option<&Outcome> {
        if self.decision.is_some() {
            return None;
        }
        self.attempts.last()?.outcome.as_ref()
    }

    /// Returns when the last attempt began, while it has not ended.
    pub fn running_since(&self) -> Option<Moment> {
        self.attempts.last().filter(|attempt| attempt.ended_at.is_none())?.began_at
    }

    /// Returns when the call last began or ended.
    pub(super) fn changed_at(&self) -> Option<Moment> {
        let last = self.attempts.last()?;
        last.ended_at.or(last.began_at)
    }

    /// Returns how often the call was begun: an attempt without a key only ended.
    fn count_begins(&self) -> u32 {
        let begins = self.attempts.iter().filter(|attempt| attempt.key.is_some()).count();
        u32::try_from(begins).unwrap_or(u32::MAX)
    }

    fn update_attempt(&mut self, change: impl FnOnce(&mut Attempt)) {
        if let Some(attempt) = self.attempts.last_mut() {
            change(attempt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const AT: Moment = Moment(jiff::Timestamp::UNIX_EPOCH);
    const OPEN: [RunStatus; 4] =
        [RunStatus::Running, RunStatus::Waiting, RunStatus::Undecided, RunStatus::Interrupted];
    const FINAL: [RunStatus; 3] = [RunStatus::Succeeded, RunStatus::Failed, RunStatus::Abandoned];

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
    fn finished(status: RunStatus) -> Record {
        Record::Finished { status, error: None, left_behind: Vec::new() }
    }
    fn stopped(status: RunStatus) -> Record {
        Record::Stopped { status, reason: "a signal".into(), mismatch: false, at_call: None }
    }
    fn ok() -> Outcome {
        Outcome::Ok(json!(1))
    }
    fn err() -> Outcome {
        Outcome::Err(json!({"code": "X"}))
    }

    fn fold(records: &[Record]) -> RunFold {
        let mut fold = RunFold::default();
        for record in records {
            fold.apply_record(record.clone(), AT).expect("legal");
        }
        fold
    }
    /// Adds the last record to a fold of the others, which must be legal.
    fn last(records: &[Record]) -> Result<RunFold, IllegalRecord> {
        let (last, others) = records.split_last().expect("not empty");
        let mut fold = fold(others);
        let before = fold.clone();
        let added = fold.apply_record(last.clone(), AT);
        assert!(added.is_ok() || fold == before, "a refused record left a trace");
        added.map(|()| fold)
    }

    #[test]
    fn a_run_is_started_once_and_first() {
        assert_eq!(next_status(None, None, &started()), Ok(RunStatus::Running));
        assert_eq!(next_status(None, None, &resumed()), Err(IllegalRecord::BeforeStart("resumed")));
        assert_eq!(next_status(Some(RunStatus::Running), None, &started()), Err(IllegalRecord::StartedTwice));
    }

    #[test]
    fn nothing_follows_the_end() {
        for status in FINAL {
            for record in
                [resumed(), begin("k"), end(ok()), ending(), decided(), finished(RunStatus::Abandoned)]
            {
                let refused = Err(IllegalRecord::AfterEnd(record.kind(), status));
                assert_eq!(next_status(Some(status), None, &record), refused);
            }
        }
    }

    #[test]
    fn a_stopped_run_is_resumed_decided_about_or_abandoned_and_nothing_else() {
        for status in OPEN.into_iter().filter(|s| s.is_stopped()) {
            assert_eq!(next_status(Some(status), None, &resumed()), Ok(RunStatus::Running));
            assert_eq!(
                next_status(Some(status), None, &finished(RunStatus::Abandoned)),
                Ok(RunStatus::Abandoned)
            );
            for record in
                [begin("k"), end(ok()), ending(), finished(RunStatus::Failed), stopped(RunStatus::Waiting)]
            {
                let refused = Err(IllegalRecord::WhileStopped(record.kind(), status));
                assert_eq!(next_status(Some(status), None, &record), refused);
            }
            let records = [started(), begin("k"), stopped(status), decided()];
            assert_eq!(
                last(&records).map(|fold| fold.run_state()),
                Ok((Some(status), Some("a signal".into())))
            );
        }
    }

    #[test]
    fn a_run_stops_and_ends_with_a_status_of_that_sort() {
        for status in OPEN.into_iter().chain(FINAL) {
            let (stop, finish) = (stopped(status), finished(status));
            let now = Some(RunStatus::Running);
            assert_eq!(next_status(now, None, &stop).is_ok(), status.is_stopped());
            assert_eq!(next_status(now, None, &finish).is_ok(), status.is_final());
        }
    }

    #[test]
    fn a_killed_run_is_resumed_without_having_stopped() {
        assert_eq!(next_status(Some(RunStatus::Running), None, &resumed()), Ok(RunStatus::Running));
    }

    #[test]
    fn a_call_is_begun_once_accepted_while_open_and_ended_once() {
        let not_begun = |kind| Err(IllegalRecord::CallNotStarted(kind, "a".into()));
        let over = |kind| Err(IllegalRecord::CallFinished(kind, "a".into()));
        let begun_twice = Err(IllegalRecord::CallStartedTwice("a".into()));
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
        assert_eq!(
            last(&[started(), begin("k"), other]).map(drop),
            Err(IllegalRecord::CallMismatch("a".into()))
        );
    }

    #[test]
    fn the_past_of_a_call_follows_its_records() {
        let (op, args) = (String::from("load"), json!([1]));
        let begun = |key: &str, accepted: Option<Value>, decision: Option<Value>| CallState::Started {
            op: op.clone(),
            args: args.clone(),
            key: key.into(),
            accepted,
            decision,
        };
        let ended = |outcome| CallState::Finished { op: op.clone(), args: args.clone(), outcome };
        let (job, redo) = (Some(json!({"job": 7})), Some(json!("redo")));
        let mut fold = fold(&[started()]);
        for (record, past, attempts) in [
            (resumed(), CallState::NotStarted, 0),
            (begin("k1"), begun("k1", None, None), 1),
            (accepted(), begun("k1", job.clone(), None), 1),
            (decided(), begun("k1", job.clone(), redo.clone()), 1),
            (begin("k2"), begun("k2", None, None), 2),
            (accepted(), begun("k2", job.clone(), None), 2),
            (end(err()), ended(err()), 2),
            (decided(), begun("k2", job, redo), 2),
            (end(ok()), ended(ok()), 2),
        ] {
            fold.apply_record(record, AT).expect("legal");
            assert_eq!(
                (fold.call_state("a"), fold.count_attempts("a"), fold.call_state("b")),
                (past, attempts, CallState::NotStarted)
            );
        }
        assert_eq!(fold.count_calls(), 1);
    }

    #[test]
    fn a_reason_lasts_until_the_run_goes_on() {
        let waiting = fold(&[started(), stopped(RunStatus::Waiting)]);
        assert_eq!(waiting.run_state(), (Some(RunStatus::Waiting), Some("a signal".into())));
        let going = fold(&[started(), stopped(RunStatus::Waiting), resumed()]);
        assert_eq!(going.run_state(), (Some(RunStatus::Running), None));
    }

    fn entry(second: i64, record: Record) -> JournalEntry {
        let at = Moment(jiff::Timestamp::constant(second, 0));
        JournalEntry { seq: second.unsigned_abs(), at, record, hash: String::new() }
    }

    fn fold_entries(records: &[Record]) -> RunFold {
        let entries: Vec<_> =
            (1..).zip(records.iter().cloned()).map(|(n, record)| entry(n, record)).collect();
        let (fold, illegal) = RunFold::from_entries(&entries);
        assert_eq!(illegal, None);
        fold
    }

    #[test]
    fn every_attempt_keeps_its_key_its_times_and_its_outcome() {
        let fold = fold_entries(&[started(), begin("k1"), end(err()), decided(), begin("k2"), end(ok())]);
        let call = fold.call("a").expect("is known");
        let at = |second| Some(Moment(jiff::Timestamp::constant(second, 0)));
        let attempt = |key: &str, began, ended, outcome| Attempt {
            key: Some(key.into()),
            began_at: at(began),
            accepted: None,
            outcome: Some(outcome),
            ended_at: at(ended),
        };
        assert_eq!(call.attempts, [attempt("k1", 2, 3, err()), attempt("k2", 5, 6, ok())]);
        assert_eq!((call.outcome(), call.running_since(), call.changed_at()), (Some(&ok()), None, at(6)));
    }

    #[test]
    fn a_call_that_a_decision_ends_has_had_one_attempt() {
        let fold = fold_entries(&[started(), begin("k"), end(err()), decided(), end(ok())]);
        let call = fold.call("a").expect("is known");
        assert_eq!((call.attempts.len(), call.outcome()), (1, Some(&ok())));
    }

    #[test]
    fn who_can_decide_about_which_call() {
        let decidable = |records: &[Record]| fold_entries(records).decidable_calls().count();
        let open = |records: &[Record]| fold_entries(records).open_calls().count();
        let stopped_at = |call: &str| Record::Stopped {
            status: RunStatus::Undecided,
            reason: "nobody knows".into(),
            mismatch: false,
            at_call: Some(call.into()),
        };
        let cut_short = [started(), begin("k")];
        assert_eq!((open(&cut_short), decidable(&cut_short)), (1, 0));
        for (more, count) in [
            (&[stopped(RunStatus::Undecided)][..], 1),
            (&[stopped_at("a")], 1),
            (&[stopped_at("b")], 0),
            (&[stopped_at("a"), resumed()], 0),
            (&[decided()], 1),
            (&[end(err())], 0),
            (&[end(err()), decided()], 1),
        ] {
            assert_eq!(decidable(&[&cut_short[..], more].concat()), count, "{more:?}");
        }
        let held_read = [started(), end(err()), decided()];
        assert_eq!((open(&held_read), decidable(&held_read)), (1, 1));
    }

    #[test]
    fn an_illegal_record_is_told_and_what_was_before_it_stays() {
        let entries = [entry(1, started()), entry(2, begin("k")), entry(3, begin("k")), entry(4, end(ok()))];
        let (fold, illegal) = RunFold::from_entries(&entries);
        assert_eq!(illegal, Some(IllegalRecord::CallStartedTwice("a".into())));
        assert_eq!(fold, RunFold::from_entries(&entries[..2]).0);
    }

    #[test]
    fn the_error_and_what_is_left_come_from_the_last_record() {
        let (error, left_behind) = (json!({"code": "X"}), vec!["branch a/b".to_owned()]);
        let finished = Record::Finished {
            status: RunStatus::Failed,
            error: Some(error.clone()),
            left_behind: left_behind.clone(),
        };
        let fold = fold_entries(&[started(), finished]);
        assert_eq!((fold.error(), fold.left_behind()), (Some(&error), &left_behind[..]));
    }
}
