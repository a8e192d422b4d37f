//! Deliberate faults of the program, for the tests that show that a rehearsal finds them.

use std::cell::Cell;

/// A deliberate fault on one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A call takes effect before its begin is on disk.
    BufferedBegin,
    /// A call that was begun is made again without asking the target.
    BlindProbe,
    /// A run that was killed while it cleaned up does not clean up again.
    CleanedUpOnce,
    /// The first look after a loss is believed, though the request may still land.
    LooksOnce,
    /// A new attempt has a new key, though the one before it is not known to have failed.
    NewKeyWhileOpen,
    /// A thing is not in quarantine while a request may still land on it.
    NoQuarantine,
    /// A second effect on a thing in quarantine does not wait.
    SecondEffectUnderQuarantine,
    /// The answer to a change is believed without a look at what it says.
    SetAnswerBelieved,
    /// The answer to a making is believed.
    MakeAnswerBelieved,
    /// The answer to a removal is believed.
    RemoveAnswerBelieved,
    /// A job that was accepted is believed to be done.
    JobAnswerBelieved,
    /// A commit that got no answer is believed to be done.
    CommitAnswerBelieved,
    /// A look that shows what was so before is taken for the landing of an answered request.
    LookTakenForLanding,
    /// A look that may lag behind is believed about a lost request.
    LaggingLookBelieved,
    /// A look that may show what was before the last change says that an answered request was done.
    PastValueBelieved,
    /// A call is planned from a look that may show what was before another call's change.
    PlanningLookBelieved,
    /// The time in which a lost request may land is counted from its record, not from when it may have been sent.
    BoundFromRecord,
    /// The whole list is compared, not the elements that the effect touches.
    WholeListCompared,
    /// An edited script does something new before it has asked for all that was done.
    NoEditBarrier,
    /// What an edited script does behind a gate that was passed before is not approved.
    NoEditGate,
}

/// The faults of the protocol of effects, but for the one that a runbook of its own shows.
pub(crate) const PROTOCOL_MUTANTS: [Mutant; 14] = [
    Mutant::LooksOnce,
    Mutant::NewKeyWhileOpen,
    Mutant::NoQuarantine,
    Mutant::SecondEffectUnderQuarantine,
    Mutant::SetAnswerBelieved,
    Mutant::MakeAnswerBelieved,
    Mutant::RemoveAnswerBelieved,
    Mutant::JobAnswerBelieved,
    Mutant::CommitAnswerBelieved,
    Mutant::LookTakenForLanding,
    Mutant::LaggingLookBelieved,
    Mutant::PastValueBelieved,
    Mutant::BoundFromRecord,
    Mutant::WholeListCompared,
];

thread_local! {
    static MUTANT: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Makes the program wrong on this thread, or right again.
pub(crate) fn set_mutant(mutant: Option<Mutant>) {
    MUTANT.set(mutant);
}

/// Returns whether the program is wrong in this way on this thread.
pub(crate) fn is_mutant(mutant: Mutant) -> bool {
    MUTANT.get() == Some(mutant)
}
