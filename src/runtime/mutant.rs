//! Where the runtime is wrong on purpose.

use crate::{
    base::mutant::{Mutant, is_mutant},
    journal::Durability,
};

pub(super) fn durability_of_begin() -> Durability {
    if is_mutant(Mutant::BufferedBegin) { Durability::Buffered } else { Durability::Synced }
}

pub(super) fn ignores_evidence() -> bool {
    is_mutant(Mutant::BlindProbe)
}

pub(super) fn takes_new_key() -> bool {
    is_mutant(Mutant::NewKeyWhileOpen)
}

pub(super) fn skips_clean_up(was_ending: bool) -> bool {
    was_ending && is_mutant(Mutant::CleanedUpOnce)
}

pub(super) fn passes_frontier() -> bool {
    is_mutant(Mutant::NoEditBarrier)
}

pub(super) fn skips_edit_gate() -> bool {
    is_mutant(Mutant::NoEditGate)
}

pub(super) fn skips_quarantine() -> bool {
    is_mutant(Mutant::NoQuarantine)
}

pub(super) fn ignores_quarantine() -> bool {
    is_mutant(Mutant::SecondEffectUnderQuarantine)
}
