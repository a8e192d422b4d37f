//! What happened: the durable record of runs.
//!
//! - A run is a sequence of records. Records are added, never changed; what a run *is* (its status, what became of
//!   each call) is a fold over them, written once, in `fold`.
//! - A record that the fold refuses is not written.
//! - Records form one hash chain a run. It starts from the run's id, so records cannot be moved between runs.
//! - At most one process drives a run. It holds a file lock, which the system releases if the process dies.
//! - After a failed write nothing more is written: what is on disk is unknown until it is read again.
//!
//! A state folder holds `journal.db` (SQLite, write-ahead log, synced at every commit), `place`, and for each run
//! `runs/<id>.lock` and `runs/<id>.synced`.
//! The journal knows calls by name and values as JSON, and does not interpret them. What it writes of itself (errors,
//! decisions, how a run ends) is typed: it is decoded once, when it is asked for, and what does not read is an
//! [`UnreadableRecord`] and never a default.

mod chain;
mod claim;
mod conclusion;
mod create;
mod decision;
mod editions;
mod error;
mod fold;
mod folded_call;
mod holder;
mod lease;
mod lock;
mod new_run;
mod past_value;
mod place;
mod prune;
mod quarantine;
mod record;
mod record_order;
mod record_queue;
mod rows;
mod run;
mod schema;
mod script_error;
mod store;
#[cfg(test)]
mod tests;
mod unfit_run;
mod unreadable;

pub use chain::{VerifiedChain, digest_sources};
pub use claim::Claim;
pub use conclusion::{Conclusion, RunError};
pub use decision::Decision;
pub use editions::{APPROVE, EDIT_GATE};
pub use error::Error;
pub use fold::{GateEnd, RunFold};
pub use folded_call::{Attempt, CallState, FoldedCall};
pub use holder::Holder;
pub use new_run::{GitState, Lease, LeaseMode, NewRun, Source};
pub use past_value::PastValue;
pub use place::{
    Adoption, LostRun, PlaceDoubt, PlaceNote, StateFolderConsent, StatePlace, name_if_shared_file_system,
};
pub use quarantine::{Quarantine, describe_landing_end};
pub use record::{
    Durability, JournalEntry, Outcome, Record, RecordedOutcome, RunStatus, RunSummary, Tombstone,
};
pub use record_order::IllegalRecord;
pub use record_queue::{EditedSources, RecordObserver};
pub use run::Run;
pub use script_error::{Failure, ScriptError, SideEffects, SourceLocation};
pub use store::Journal;
pub use unfit_run::UnfitRun;
pub use unreadable::UnreadableRecord;
