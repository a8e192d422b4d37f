//! Whose run: a state folder acts in one place.
//!
//! A copied folder would do again what the other copy does, and one that was put back from an older copy what it has
//! done already. Both are told before anything acts:
//!
//! - The *place* of a state is the inode, the birth time and the file system of the file `place` in it. Whatever copies
//!   files makes others; a move within a file system makes none. Host and path word the message and decide nothing. The
//!   note in the file is in the journal too, so that neither of them goes anywhere alone.
//! - Beside the lock of each run is the number of its last record that is on disk, written after the sync and never
//!   synced itself: it may lag behind the journal, and is never ahead of it. A journal that has less was rolled back.
//!
//! A person takes such a state over, which is recorded in the journal and in every open run. A run that was rolled back
//! makes no effect of which it is not known whether it was made before.

mod adopt;
mod consent;
mod doubt;
mod file_system;
mod gate;
mod identity;
mod rows;
mod synced;

pub use consent::{Adoption, StateFolderConsent};
pub use doubt::{LostRun, PlaceDoubt};
pub use file_system::name_if_shared_file_system;
pub use identity::{PlaceNote, StatePlace};
pub(super) use synced::{SyncedNumber, list_runs_with_traces, remove_synced_number};
