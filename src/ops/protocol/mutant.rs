//! Where the protocol is wrong on purpose.

use crate::base::mutant::{Mutant, is_mutant};

pub(super) fn looks_once() -> bool {
    is_mutant(Mutant::LooksOnce)
}

pub(super) fn forgets_lost_job() -> bool {
    is_mutant(Mutant::NewKeyWhileOpen)
}

pub(super) fn believes_answer() -> bool {
    is_mutant(Mutant::AnswerBelieved)
}
