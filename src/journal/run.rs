//! A run that this process holds: the state of its calls, and the only way to append to it.

use super::{
    CallState, Conclusion, Durability, Error, FoldedCall, GateEnd, Record, RunStatus, UnreadableRecord,
    chain::Chain,
    fold::RunFold,
    record_queue::{EditedSources, RecordQueue, RunWriter},
};
use crate::base::moment::Moment;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// One run, held by this process until this is dropped.
pub struct Run {
    id: String,
    last_at: Moment,
    pub(super) records: RecordQueue,
}

impl Run {
    /// Returns the run of a fully replayed chain.
    pub(super) fn from_chain(writer: RunWriter, chain: Chain) -> Run {
        Run {
            id: chain.tail.run.clone(),
            last_at: chain.last_at,
            records: RecordQueue::from_chain(writer, chain),
        }
    }

    /// Returns the run's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns what is known of a call, records of this process included.
    ///
    /// # Errors
    /// What is recorded of it does not read.
    pub fn call_state(&self, call: &str) -> Result<CallState, UnreadableRecord> {
        self.read_fold(|fold| fold.call_state(call))
    }

    /// Returns the error of a call whose recorded value does not read as what it must be.
    pub fn unreadable_call_error(&self, call: &str, what: String) -> UnreadableRecord {
        self.read_fold(|fold| fold.unreadable_call_error(call, what))
    }

    /// Returns a call as its records leave it, if there are any.
    pub fn recorded_call(&self, call: &str) -> Option<FoldedCall> {
        self.read_fold(|fold| fold.call(call).cloned())
    }

    /// Returns whether there is a record of a call.
    pub fn is_recorded(&self, call: &str) -> bool {
        self.read_fold(|fold| fold.call(call).is_some())
    }

    /// Returns whether a call was made as this operation with these arguments.
    pub fn matches_call(&self, call: &str, op: &str, args: &Value) -> bool {
        self.read_fold(|fold| fold.matches_call(call, op, args))
    }

    /// Returns the number of the record at which a call ended, or at which it began if it has not ended; 0 where there
    /// is none.
    pub fn record_number_of_call(&self, call: &str) -> u64 {
        self.read_fold(|fold| fold.record_number_of_call(call))
    }

    /// Returns whether a call was recorded before the record number `order`, and after all that somebody allowed the edited
    /// sources not to ask for: what is allowed to be missing goes on to be what came of it.
    pub fn is_older_than_record(&self, call: &str, order: u64) -> bool {
        self.read_fold(|fold| fold.is_older_than_record(call, order))
    }

    /// Returns how often a call was begun.
    pub fn count_attempts(&self, call: &str) -> u32 {
        self.read_fold(|fold| fold.count_attempts(call))
    }

    /// Returns the names of all calls that begin with `path`, in no order.
    pub fn call_names_below(&self, path: &str) -> Vec<String> {
        self.read_fold(|fold| fold.call_names_below(path))
    }

    /// Returns the names of the calls that last began, or were made, after another one, in no order.
    pub fn call_names_begun_after(&self, call: &str) -> Vec<String> {
        self.read_fold(|fold| fold.call_names_begun_after(call))
    }

    /// Returns the calls that were begun and are not over, by name.
    pub fn open_calls(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.read_fold(|fold| fold.open_calls().map(|(name, _)| name.to_owned()).collect());
        names.sort();
        names
    }

    /// Returns when a call last began, was accepted or ended, records of this process included.
    pub fn call_last_changed_at(&self, call: &str) -> Option<Moment> {
        self.read_fold(|fold| fold.call(call)?.last_changed_at())
    }

    /// Returns whether an effect of a call may have been made and the journal does not know of it: it was rolled back.
    pub fn is_call_doubtful(&self, call: &str) -> bool {
        self.read_fold(|fold| fold.is_call_doubtful(call))
    }

    /// Returns whether somebody has said that the journal was rolled back: what the run did may not be recorded.
    pub fn is_rolled_back(&self) -> bool {
        self.read_fold(RunFold::is_rolled_back)
    }

    /// Returns whether some attempt at a call had this key.
    pub fn is_call_key_recorded(&self, key: &str) -> bool {
        self.read_fold(|fold| fold.is_call_key_recorded(key))
    }

    /// Returns the identity that a target name resolved to at its first use in this run.
    ///
    /// # Errors
    /// What is recorded does not read as one.
    pub fn target_identity<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, UnreadableRecord> {
        self.read_fold(|fold| fold.target_identity(name))
    }

    /// Returns the identity of every target name that this run has used.
    ///
    /// # Errors
    /// What is recorded of one of them does not read.
    pub fn target_identities<T: DeserializeOwned>(&self) -> Result<BTreeMap<String, T>, UnreadableRecord> {
        self.read_fold(|fold| {
            let named =
                |name: &str| Some(fold.target_identity(name).transpose()?.map(|who| (name.to_owned(), who)));
            fold.target_names().filter_map(named).collect()
        })
    }

    /// Returns the names of the targets that this run has used, and of the protected one at which it stopped because
    /// nobody had named it; in no order.
    pub fn targets_come_to(&self) -> Vec<String> {
        self.read_fold(|fold| fold.targets_come_to().map(str::to_owned).collect())
    }

    /// Returns the name of every target that this run has used, in no order.
    pub fn target_names(&self) -> Vec<String> {
        self.read_fold(|fold| fold.target_names().map(str::to_owned).collect())
    }

    /// Returns whether it is recorded what the run ends with.
    pub fn is_ending(&self) -> bool {
        self.read_fold(RunFold::is_ending)
    }

    /// Returns what the run ends with, once that has been recorded.
    ///
    /// # Errors
    /// It does not read.
    pub fn conclusion(&self) -> Result<Option<Conclusion>, UnreadableRecord> {
        self.read_fold(RunFold::conclusion)
    }

    /// Returns where the run stands. A run whose process died reads `Running` until it is resumed.
    pub fn status(&self) -> RunStatus {
        // A held run has its first record, and with it a status.
        self.read_fold(|fold| fold.status.unwrap_or(RunStatus::Running))
    }

    /// Returns the hash of the last record that was added: 64 hex digits, of which 16 are enough to show.
    pub fn head_hash(&self) -> String {
        self.records.read_chain(|chain| chain.tail.hash.clone())
    }

    /// Returns the time of the last record that was on disk when the run was taken.
    pub fn last_record_before_acquisition(&self) -> Moment {
        self.last_at
    }

    /// Returns the names of the calls that were begun at least once, in no order.
    pub fn call_names_ever_begun(&self) -> Vec<String> {
        self.read_fold(RunFold::call_names_ever_begun)
    }

    /// Returns the names of the calls of one operation, in no order.
    pub fn call_names_of_operation(&self, op: &str) -> Vec<String> {
        self.read_fold(|fold| fold.call_names_of_operation(op))
    }

    /// Returns whether a gate was withdrawn under another text than the one in force.
    pub fn is_gate_withdrawn_under_other_text(&self, name: &str) -> bool {
        self.read_fold(|fold| fold.is_gate_withdrawn_under_other_text(name))
    }

    /// Returns the script's own gates that are over, in the order of their names, each with how it ended; not those that were
    /// withdrawn, about which nobody was asked.
    pub fn ended_gates(&self) -> BTreeMap<String, GateEnd> {
        self.read_fold(RunFold::ended_gates)
    }

    /// Returns the names of the calls and clean-up that somebody allowed to be missing, and that no text has asked for
    /// since.
    pub fn names_allowed_missing(&self) -> BTreeSet<String> {
        self.read_fold(RunFold::names_allowed_missing)
    }

    /// Returns the `given` parameters of the run, with those that its edited sources have added.
    pub fn complete_params(&self, given: &Value) -> Value {
        self.read_fold(|fold| fold.complete_params(given))
    }

    /// Returns the names of the parameters that editions of the sources have added to those that the run was given, the first
    /// edition first; also those of editions that were dropped.
    pub fn param_names_of_editions(&self) -> Vec<BTreeSet<String>> {
        self.read_fold(|fold| fold.editions.param_names.clone())
    }

    /// Returns the edition of the sources in force: 0 is the original, higher ones are edits.
    pub fn source_edition(&self) -> u32 {
        self.read_fold(|fold| fold.editions.in_force)
    }

    /// Returns the edition of the sources by which the run is given up: see [`super::RunFold::edition_to_give_up`].
    pub fn edition_to_give_up(&self) -> u32 {
        self.read_fold(RunFold::edition_to_give_up)
    }

    /// Records that this process takes the run up to give it up, with the edition of [`Run::edition_to_give_up`].
    ///
    /// # Errors
    /// As [`Run::append_record`].
    pub fn record_giving_up(&self, version: &str) -> Result<(), Error> {
        let (version, digest, params) = (version.to_owned(), None, Map::new());
        let resumed = Record::Resumed { version, edited: false, digest, gives_up: true, params };
        self.append_record(resumed, Durability::Synced)
    }

    /// Records that this process resumes the run: with the sources that it has, or with edited ones, which are stored.
    ///
    /// # Errors
    /// As [`Run::append_record`].
    pub fn record_resume(&self, version: &str, edited: Option<EditedSources>) -> Result<(), Error> {
        self.records.record_resume(version, edited)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`Error::Illegal`] when it does not fit where the run stands; [`Error::WriteFailed`] when it (or, earlier,
    /// another record) could not be written.
    pub fn append_record(&self, record: Record, durability: Durability) -> Result<(), Error> {
        self.records.append_record(record, durability)
    }

    /// Syncs every record that was added and is not synced; returns at once when there is none.
    ///
    /// # Errors
    /// [`Error::WriteFailed`].
    pub fn sync_records(&self) -> Result<(), Error> {
        self.records.sync_records()
    }

    /// Writes every record that was added and is not written; returns at once when there is none. A power cut may lose
    /// them.
    ///
    /// # Errors
    /// [`Error::WriteFailed`].
    pub fn write_records_unsynced(&self) -> Result<(), Error> {
        self.records.write_records_unsynced()
    }

    /// Returns the run as its records leave it, those that are not yet written included.
    pub fn copy_fold(&self) -> RunFold {
        self.read_fold(RunFold::clone)
    }

    /// Reads what the records say of the run, those that are not yet written included.
    fn read_fold<T>(&self, read: impl FnOnce(&RunFold) -> T) -> T {
        self.records.read_chain(|chain| read(&chain.fold))
    }
}
