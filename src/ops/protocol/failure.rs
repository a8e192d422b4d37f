//! Why an effect has no value, and the words for it.

use crate::{
    ops::{context::CallContext, evidence::Evidence},
    provider::{Code, Error, SideEffects, model::LandingLimit},
};

/// Why an effect has no value.
#[derive(Debug, Clone, PartialEq)]
pub enum EffectFailure {
    /// It failed, and the error says what it has changed.
    Failed(Error),
    /// Nobody knows whether it took effect.
    Undecided(String),
    /// It was never asked for, and nothing new is asked for any more.
    NeverAsked,
    /// What was recorded of it cannot be read.
    Unreadable(String),
}

impl From<Error> for EffectFailure {
    fn from(error: Error) -> Self {
        match error.code {
            Code::Unknown => EffectFailure::Undecided(error.message),
            _ => EffectFailure::Failed(error),
        }
    }
}

/// The result of an effect.
pub type EffectResult<T> = Result<T, EffectFailure>;

/// Returns the failure of a call whose evidence is of another shape than its effect.
pub(super) fn wrong_evidence_failure(evidence: &Evidence, shape: &str) -> EffectFailure {
    EffectFailure::Unreadable(format!("what was recorded of it is no {shape}: {evidence:?}"))
}

/// Returns the error of something that was asked for, got no answer, and has not happened: certainly, or as far as is assumed.
pub(super) fn never_landed_error(what: &str, landing: LandingLimit) -> Error {
    let proof = match landing {
        LandingLimit::Fenced(how) => how.to_owned(),
        LandingLimit::Bounded(span, _) => {
            format!("it was looked for until {span} after it was sent, in which it could still have come")
        }
        LandingLimit::Assumed(span) => {
            let look = "look whether it came after all before you ask again";
            let message = format!(
                "{what} was asked for, got no answer, and was not seen within {span}; that nothing comes later is \
                 assumed, because the platform does not say"
            );
            // Nobody has said that it changes nothing.
            return Error { side_effects: SideEffects::Unknown, ..Error::new(Code::Unavailable, message) }
                .with_hint(format!("{look}; `landing_time` of the target says how long is waited for it"));
        }
        LandingLimit::Unbounded => "it was decided so".to_owned(),
    };
    Error::new(Code::Unavailable, format!("{what} was asked for, got no answer, and did not happen: {proof}"))
        .with_hint("ask again")
}

/// Returns the error of a request that ended with `own` and is not seen: `own` itself, where it is an error of what redrill does
/// itself, and nothing of that can come later; else the one of a request without an answer.
pub(super) fn prefer_own_error(lost: Error, own: Error, landing: LandingLimit) -> Error {
    if own.code == Code::Internal && landing.cannot_land_late() { own } else { lost }
}

/// Returns the error of a request that changed nothing, after an earlier one of the call got no answer.
pub(super) fn refused_after_loss_error(lost: Error, refusal: Error) -> Error {
    join_loss(lost, "it was asked for again, and that request changed nothing", refusal)
}

/// Returns the error of something that could not be planned again, after a request of the call got no answer.
pub(super) fn unasked_after_loss_error(lost: Error, refusal: Error) -> Error {
    join_loss(lost, "it was not asked for again", refusal)
}

/// Joins the error of a lost request with what came after it. Where it is certain that the lost one did nothing, the
/// later error is the error of the call; else the lost one decides.
fn join_loss(lost: Error, told: &str, refusal: Error) -> Error {
    let message = format!("{}; {told}: {}", lost.message, refusal.message);
    if lost.side_effects == SideEffects::None {
        return Error { message, ..refusal };
    }
    let hints: Vec<_> = [lost.hint, refusal.hint].into_iter().flatten().collect();
    let hint = Some(hints.join("; ")).filter(|hint| !hint.is_empty());
    let side_effects =
        if refusal.side_effects == SideEffects::None { lost.side_effects } else { refusal.side_effects };
    Error { message, hint, side_effects, left_behind: refusal.left_behind, ..lost }
}

/// Refuses to ask for anything while calls are only settled. A quarantine that an earlier process began before it could
/// ask is ended.
pub(super) async fn refuse_when_only_settling(cx: &CallContext<'_>) -> EffectResult<()> {
    if !cx.settles_only {
        return Ok(());
    }
    if cx.recorded.is_none() && !cx.is_to_be_redone() {
        cx.host.lift_quarantines().await?;
    }
    Err(EffectFailure::NeverAsked)
}

/// Refuses a call whose effect may have been made before, without a record that is left: nobody can tell from what the
/// target keeps.
///
/// # Errors
/// [`EffectFailure::Undecided`].
pub(super) fn refuse_doubtful_call(cx: &CallContext<'_>) -> EffectResult<()> {
    if cx.is_doubtful {
        Err(doubtful_call_failure("the target keeps nothing by which it could be told"))
    } else {
        Ok(())
    }
}

/// Returns the failure of a call that could not be planned. What is refused because it was done before has not failed.
pub(super) fn planning_failure(cx: &CallContext<'_>, error: Error) -> EffectFailure {
    if cx.is_doubtful { doubtful_call_failure(&error.message) } else { error.into() }
}

/// Returns the failure of a call that may have been made before the journal was rolled back.
pub(super) fn doubtful_call_failure(why: &str) -> EffectFailure {
    EffectFailure::Undecided(format!(
        "the journal was rolled back, and the call may have been made before; {why}"
    ))
}
