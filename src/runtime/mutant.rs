//! Deliberate faults of the runtime, for the tests that show that a rehearsal finds them.

use crate::journal::Durability;
use std::cell::Cell;

/// A deliberate fault of the runtime on one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A call takes effect before its begin is on disk.
    BufferedBegin,
    /// A call that was begun is made again without asking the target.
    BlindProbe,
    /// A run that was killed while it cleaned up does not clean up again.
    CleanedUpOnce,
}

thread_local! {
    static MUTANT: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Makes the runtime wrong on this thread, or right again.
pub(crate) fn set_mutant(mutant: Option<Mutant>) {
    MUTANT.set(mutant);
}

pub(super) fn begin_durability() -> Durability {
    if MUTANT.get() == Some(Mutant::BufferedBegin) { Durability::Buffered } else { Durability::Synced }
}

pub(super) fn is_probe_blind() -> bool {
    MUTANT.get() == Some(Mutant::BlindProbe)
}

pub(super) fn skips_clean_up(was_ending: bool) -> bool {
    was_ending && MUTANT.get() == Some(Mutant::CleanedUpOnce)
}
