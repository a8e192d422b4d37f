//! The fold: from a run's records to where it stands.

use super::{
    APPROVE, Attempt, CallState, Conclusion, Decision, EDIT_GATE, FoldedCall, IllegalRecord, JournalEntry,
    Outcome, Record, RecordedOutcome, RunStatus, UnreadableRecord,
    editions::{AddedRecords, Editions},
    record_order::next_status,
};
use crate::base::moment::Moment;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Where a run stands, and why it stopped.
pub(super) type RunState = (Option<RunStatus>, Option<String>);

/// Something recorded, and the version of the program that wrote it.
#[derive(Debug, Clone, PartialEq)]
struct Versioned<T> {
    value: T,
    version: Arc<str>,
}

impl<T> Versioned<T> {
    /// Decodes what is recorded of `subject`.
    fn decode_with<U, E: ToString>(
        &self,
        subject: &str,
        decode: impl FnOnce(&T) -> Result<U, E>,
    ) -> Result<U, UnreadableRecord> {
        decode(&self.value).map_err(|why| unreadable_record_error(subject, why.to_string(), &self.version))
    }
}

/// Returns the error of a record of `subject` that does not read.
fn unreadable_record_error(subject: &str, what: String, version: &str) -> UnreadableRecord {
    UnreadableRecord { subject: subject.into(), what, version: version.into() }
}

/// A run as its records leave it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunFold {
    /// Where it stands; nothing before its first record.
    pub(super) status: Option<RunStatus>,
    pub(super) reason: Option<String>,
    /// The call at which it stopped.
    stopped_at: Option<String>,
    /// The protected target that nobody had named when it stopped.
    unconfirmed: Option<String>,
    /// Whether it was last taken up to be given up.
    is_given_up: bool,
    /// The version of the program that is writing: the one that started the run, or that resumed it last.
    version: Arc<str>,
    /// What it ends with, once it is ending.
    ending: Option<Versioned<RecordedOutcome>>,
    error: Option<Value>,
    left_behind: Vec<String>,
    /// The identity that each target name resolved to.
    targets: HashMap<String, Versioned<Value>>,
    calls: HashMap<String, FoldedCall>,
    /// How many records there are.
    records: u64,
    /// The record that says that the journal was rolled back.
    rolled_back_at: Option<u64>,
    pub(super) editions: Editions,
}

/// How a gate ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateEnd {
    /// Under another text than the one in force: whatever was decided then covers nothing that an edit has put in.
    UnderEarlierText,
    /// Under the text in force, and a person approved it.
    Approved,
    /// Under the text in force, rejected or without an answer, and the script went on.
    NotApproved,
}

impl RunFold {
    /// Folds records up to the first that does not fit, and returns why: a journal that was tampered with can still
    /// be shown.
    pub fn fold_until_illegal(entries: &[JournalEntry]) -> (Self, Option<IllegalRecord>) {
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
        // A decision is made about a stopped run and leaves it stopped, for the same reason; so does taking it over.
        if !matches!(record, Record::Decided { .. } | Record::Adopted { .. }) {
            self.reason = None;
            self.stopped_at = None;
            self.unconfirmed = None;
        }
        if let Record::Started { version, .. } | Record::Resumed { version, .. } = &record {
            self.version = version.as_str().into();
        }
        if let Record::Resumed { gives_up, .. } = &record {
            self.is_given_up = *gives_up;
        }
        self.follow_editions(&record);
        self.apply_to_run(&record);
        self.apply_to_call(record, at);
        Ok(())
    }

    /// Adds what a record says of the run.
    fn apply_to_run(&mut self, record: &Record) {
        match record {
            Record::Stopped { reason, at_call, unconfirmed, .. } => {
                self.reason = Some(reason.clone());
                self.stopped_at.clone_from(at_call);
                self.unconfirmed.clone_from(unconfirmed);
            }
            Record::Target { name, identity } => {
                let identity = self.tag_with_version(identity.clone());
                self.targets.insert(name.clone(), identity);
            }
            Record::Ending { outcome } => self.ending = Some(self.tag_with_version(outcome.clone())),
            Record::Finished { error, left_behind, .. } => {
                self.error.clone_from(error);
                self.left_behind.clone_from(left_behind);
            }
            Record::Adopted { rolled_back: true, .. } => self.rolled_back_at = Some(self.records),
            _ => {}
        }
    }

    /// Adds what a record says of a call.
    fn apply_to_call(&mut self, record: Record, at: Moment) {
        match record {
            Record::Begin { call, op, args, key, .. } => {
                let attempt = Attempt { key: Some(key), began_at: Some(at), ..Attempt::default() };
                self.start_attempt(call, op, args, attempt);
            }
            Record::End { call, op, args, outcome, .. } => {
                if !self.calls.contains_key(&call) {
                    self.start_attempt(call.clone(), op, args, Attempt::default());
                }
                let (edition, last) = (self.editions.in_force, self.records);
                self.update_call(&call, |c| {
                    // What was held had ended before: the script has gone by that since.
                    if !c.is_held() {
                        (c.edition, c.last) = (edition, last);
                    }
                    c.decision = None;
                    c.update_last_attempt(|attempt| {
                        attempt.outcome = Some(outcome);
                        attempt.ended_at = Some(at);
                    });
                });
            }
            Record::Accepted { call, what } => {
                let edition = self.editions.in_force;
                self.update_call(&call, |c| c.accept(what, at, edition));
            }
            Record::Decided { call, decision, .. } => {
                self.update_call(&call, |c| c.decision = Some(decision));
            }
            _ => {}
        }
    }

    /// Follows which edition of the sources is in force, and forgets what is dropped with one.
    fn follow_editions(&mut self, record: &Record) {
        let call = record.call_name().and_then(|name| self.calls.get(name));
        let is_first = match record {
            Record::Target { name, .. } => !self.targets.contains_key(name),
            _ => call.is_none(),
        };
        let before = self.editions.in_force;
        let dropped = self.editions.apply_and_take_dropped(record, call, is_first);
        self.forget_dropped(before, dropped);
    }

    /// Forgets what is dropped with an edition, where another one than `before` is in force now. With an edition that
    /// is dropped goes its gate, and a gate of an earlier text that it asked about anew is withdrawn as before. With one that
    /// is only replaced goes its gate while that is open: one that is over counts again once the replacing edition is dropped.
    fn forget_dropped(&mut self, before: u32, dropped: Option<AddedRecords>) {
        if self.editions.in_force != before {
            self.calls.retain(|_, call| call.op != EDIT_GATE || !call.is_open());
        }
        if let Some(dropped) = dropped {
            let is_its_gate = |call: &FoldedCall| call.op == EDIT_GATE && call.edition == before;
            self.calls.retain(|name, call| !dropped.calls.contains(name) && !is_its_gate(call));
            self.targets.retain(|name, _| !dropped.targets.contains(name));
            self.calls.extend(dropped.asked_anew);
        }
    }

    fn start_attempt(&mut self, name: String, op: String, args: Value, attempt: Attempt) {
        let mut attempts = self.calls.remove(&name).map_or_else(Vec::new, |call| call.attempts);
        attempts.push(attempt);
        let (order, version) = (self.records, Arc::clone(&self.version));
        let edition = self.editions.in_force;
        self.calls.insert(
            name,
            FoldedCall { op, args, attempts, decision: None, version, order, last: order, edition },
        );
    }

    fn update_call(&mut self, name: &str, change: impl FnOnce(&mut FoldedCall)) {
        if let Some(call) = self.calls.get_mut(name) {
            call.version = Arc::clone(&self.version);
            change(call);
        }
    }

    fn tag_with_version<T>(&self, value: T) -> Versioned<T> {
        Versioned { value, version: Arc::clone(&self.version) }
    }

    /// Returns where the run stands; nothing before its first record.
    pub fn status(&self) -> Option<RunStatus> {
        self.status
    }

    /// Returns the edition of the sources in force: 0 is the original, higher ones are edits.
    pub fn source_edition(&self) -> u32 {
        self.editions.in_force
    }

    /// Returns the edition of the sources by which the run is given up: the one in force, or the one before it while nothing
    /// has taken effect under that.
    pub fn edition_to_give_up(&self) -> u32 {
        self.editions.without_trial()
    }

    /// Drops the edition in force, with what was recorded under it, if nothing has taken effect under it: a run that is
    /// given up goes by the text before.
    pub fn drop_trial_edition(&mut self) {
        let before = self.editions.in_force;
        let dropped = self.editions.drop_trial_edition();
        self.forget_dropped(before, dropped);
    }

    /// Returns whether the run stopped at a mismatch that a resume meets again.
    pub fn is_stopped_at_mismatch(&self) -> bool {
        self.editions.is_stopped_at_mismatch
    }

    /// Returns whether the run was last taken up to be given up.
    pub fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    /// Returns why the run has stopped, while it has.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Returns the error that the run ended with, as it was recorded.
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

    /// Returns the calls of which the run stopped undecided, that nobody has decided about, and of which the target
    /// cannot say more than it has: the journal was rolled back.
    pub fn doubtful_undecided_calls(&self) -> impl Iterator<Item = (&str, &FoldedCall)> {
        let is_undecided = self.status == Some(RunStatus::Undecided);
        let open = self.decidable_calls().filter(move |(_, call)| is_undecided && call.decision.is_none());
        open.filter(|(name, _)| self.is_call_doubtful(name))
    }

    /// Returns whether somebody has said that the journal was rolled back: what the run did may not be recorded.
    pub fn is_rolled_back(&self) -> bool {
        self.rolled_back_at.is_some()
    }

    /// Returns whether some attempt at a call had this key.
    pub(super) fn is_call_key_recorded(&self, key: &str) -> bool {
        let has = |attempt: &Attempt| attempt.key.as_deref() == Some(key);
        self.calls.values().any(|call| call.attempts.iter().any(has))
    }

    /// Returns what is known of a call.
    ///
    /// # Errors
    /// Its outcome, or what was decided about it, does not read.
    pub fn call_state(&self, name: &str) -> Result<CallState, UnreadableRecord> {
        let known = self.calls.get(name).and_then(|call| Some((call, call.attempts.last()?)));
        let Some((call, last)) = known else { return Ok(CallState::NotStarted) };
        let (op, args) = (call.op.clone(), call.args.clone());
        let to_unreadable = |what| unreadable_record_error(name, what, &call.version);
        if let Some(outcome) = call.outcome() {
            let outcome = outcome.decode().map_err(to_unreadable)?;
            return Ok(CallState::Finished { op, args, outcome });
        }
        let decision = call.decision.as_ref().map(Decision::decode).transpose().map_err(to_unreadable)?;
        Ok(CallState::Started { op, args, key: last.key.clone(), accepted: last.accepted.clone(), decision })
    }

    /// Returns whether an effect of a call may have been made without a record of it: the journal was rolled back, and since
    /// then the call has neither written down what it asks for nor been begun anew by a decision.
    pub(super) fn is_call_doubtful(&self, name: &str) -> bool {
        let Some(rolled_back_at) = self.rolled_back_at else { return false };
        self.calls.get(name).is_none_or(|call| {
            let is_first = call.count_begins() < 2;
            let has_asked = call.attempts.last().is_some_and(|attempt| attempt.accepted.is_some());
            call.order < rolled_back_at || is_first && !has_asked
        })
    }

    /// Returns the error of a call whose recorded value does not read.
    pub fn unreadable_call_error(&self, name: &str, what: String) -> UnreadableRecord {
        let version = self.calls.get(name).map_or(&self.version, |call| &call.version);
        unreadable_record_error(name, what, version)
    }

    /// Returns whether a call was made as this operation with these arguments.
    pub(super) fn matches_call(&self, name: &str, op: &str, args: &Value) -> bool {
        self.calls.get(name).is_some_and(|call| call.op == op && call.args == *args)
    }

    /// Returns whether it is recorded what the run ends with.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Returns what the run ends with, once that has been recorded.
    ///
    /// # Errors
    /// It does not read.
    pub(super) fn conclusion(&self) -> Result<Option<Conclusion>, UnreadableRecord> {
        let decode = |ending: &Versioned<_>| ending.decode_with("the end of the run", Conclusion::decode);
        self.ending.as_ref().map(decode).transpose()
    }

    /// Returns the call at which the run stopped, where it stopped at one.
    pub fn stopped_at(&self) -> Option<&str> {
        self.stopped_at.as_deref()
    }

    /// Returns the `given` parameters of a run, with those that the edition in force has added.
    pub fn complete_params(&self, given: &Value) -> Value {
        add_params(given, &self.editions.params)
    }

    /// Returns the `given` parameters of a run, with those that were added before the edition on trial: neither the
    /// text before it nor one that takes its place knows of its own.
    pub fn complete_params_without_trial(&self, given: &Value) -> Value {
        add_params(given, self.editions.params_without_trial())
    }

    /// Returns whether `given` names a call: it is the name of the call, or a part of it where no call has `given` for
    /// its whole name.
    pub fn is_named(&self, given: &str, call: &str) -> bool {
        call == given || self.call(given).is_none() && call.contains(given)
    }

    /// Returns the names of the targets that the run has used, and of the protected one at which it stopped because
    /// nobody had named it; in no order.
    pub fn targets_come_to(&self) -> impl Iterator<Item = &str> {
        self.target_names().chain(self.unconfirmed.as_deref())
    }

    /// Returns the names of the targets that the run has used, in no order.
    pub fn target_names(&self) -> impl Iterator<Item = &str> {
        self.targets.keys().map(String::as_str)
    }

    /// Returns the identity that a target name resolved to.
    ///
    /// # Errors
    /// It does not read.
    pub fn target_identity<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, UnreadableRecord> {
        let subject = format!("the target `{name}`");
        let decode = |who: &Versioned<Value>| who.decode_with(&subject, |value| T::deserialize(value));
        self.targets.get(name).map(decode).transpose()
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

    /// Returns the names of the calls that last began, or were made, after another one, in no order. What only looked or was
    /// noted counts where the text was the same: an edit may have put it before.
    pub(super) fn call_names_begun_after(&self, name: &str) -> Vec<String> {
        let Some(call) = self.calls.get(name) else { return Vec::new() };
        let is_later = |other: &FoldedCall| {
            other.order > call.order && (other.edition == call.edition || other.may_have_effect())
        };
        let later = self.calls.iter().filter(|(_, other)| is_later(other));
        later.map(|(name, _)| name.clone()).collect()
    }

    /// Returns the number of the record at which a call ended, or at which it began if it has not ended; 0 where there
    /// is none.
    pub(super) fn record_number_of_call(&self, name: &str) -> u64 {
        self.calls.get(name).map_or(0, |call| call.last)
    }

    /// Returns whether a call was recorded before the record number `order`, and after all that was allowed to be missing:
    /// what led to that stays as it was.
    pub(super) fn is_older_than_record(&self, name: &str, order: u64) -> bool {
        let own = self.record_number_of_call(name);
        own < order
            && self.editions.allowance.names.iter().all(|missing| self.record_number_of_call(missing) < own)
    }

    /// Returns the names of the calls that were about to take effect, in no order.
    pub(super) fn call_names_ever_begun(&self) -> Vec<String> {
        let started = self.calls.iter().filter(|(_, call)| call.may_have_effect());
        started.map(|(name, _)| name.clone()).collect()
    }

    /// Returns whether a gate was withdrawn under another text than the one in force: what it was withdrawn for may not fail
    /// under this one, which asks about it then.
    pub(super) fn is_gate_withdrawn_under_other_text(&self, name: &str) -> bool {
        self.call(name).is_some_and(|gate| gate.is_withdrawn() && gate.edition != self.editions.in_force)
    }

    /// Returns the script's own gates that are over, in the order of their names, each with how it ended; not those that were
    /// withdrawn, about which nobody was asked.
    pub fn ended_gates(&self) -> BTreeMap<String, GateEnd> {
        let is_over = |call: &FoldedCall| !call.is_open() && !call.is_withdrawn();
        let ended = self.calls.iter().filter(|(_, call)| call.op == APPROVE && is_over(call));
        let end_of = |call: &FoldedCall| match call.outcome() {
            _ if call.edition != self.editions.in_force => GateEnd::UnderEarlierText,
            Some(Outcome::Ok(_)) => GateEnd::Approved,
            _ => GateEnd::NotApproved,
        };
        ended.map(|(name, call)| (name.clone(), end_of(call))).collect()
    }

    /// Returns the names of the calls of one operation, in no order.
    pub(super) fn call_names_of_operation(&self, op: &str) -> Vec<String> {
        self.calls.iter().filter(|(_, call)| call.op == op).map(|(name, _)| name.clone()).collect()
    }

    /// Returns the names of the calls and clean-up that somebody allowed to be missing, and that no text has asked for
    /// since.
    pub(super) fn names_allowed_missing(&self) -> BTreeSet<String> {
        self.editions.allowance.missing()
    }

    /// Returns how many calls there are.
    pub(super) fn count_calls(&self) -> u64 {
        self.calls.len() as u64
    }
}

fn add_params(given: &Value, added: &Map<String, Value>) -> Value {
    let mut params = given.clone();
    if let Some(params) = params.as_object_mut() {
        params.extend(added.clone());
    }
    params
}
