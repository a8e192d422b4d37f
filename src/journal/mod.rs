//! What happened: the durable record of runs.
//!
//! - A run is a sequence of records. Records are added, never changed; what a run *is* (its status, what became of
//!   each call) is a fold over them, written once, in `fold`.
//! - A record that the fold refuses is not written.
//! - Records form one hash chain a run. It starts from the run's id, so records cannot be moved between runs.
//! - At most one process moves a run. It holds a lock on a file, which the system takes back when the process dies.
//! - After a failed write nothing more is written: what is on disk is then unknown, and only reading it again tells.
//!
//! A state folder holds `journal.db` (SQLite, write-ahead log, synced at every commit) and `runs/<id>.lock`.
//! The journal knows calls by name and values as JSON; what they mean is none of its business.

mod chain;
mod error;
mod fold;
mod lease;
mod lock;
mod prune;
mod record;
mod rows;
mod run;
mod schema;
mod store;
#[cfg(test)]
mod tests;

pub use chain::{Verified, digest};
pub use error::{Error, Holder};
pub use fold::{Illegal, Past};
pub use lease::{Lease, Mode};
pub use prune::Tombstone;
pub use record::{Durability, Entry, Git, NewRun, Outcome, Record, Source, Status, Summary};
pub use run::{Run, Witness};
pub use store::Journal;
