//! `Remove`: something goes, by its own id.
//!
//! What exactly goes is recorded first. Removing it twice is removing it once, and once it is seen absent it is gone: an
//! id is never given again.

use super::{
    failure::{
        EffectFailure, EffectResult, never_landed_error, planning_failure, prefer_own_error,
        refuse_when_only_settling, refused_after_loss_error, wrong_evidence_failure,
    },
    planned_from::PlannedFrom,
    sending::{RequestAnswer, RequestTracker},
    watch::{Look, Watched, watch},
};
#[cfg(test)]
use crate::base::mutant::{Mutant, is_mutant};
use crate::{
    base::moment::Span,
    ops::{
        args::CallArgs,
        context::{CallContext, ElementValue},
        evidence::{Evidence, decode_part},
        thing::Thing,
    },
    provider::{
        Error, Provider, Result,
        model::{EffectKind, Progress},
    },
};
use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// How long, at most, something that was removed is waited for until it is seen to be gone.
const GONE_TIMEOUT: Span = Span::from_secs(300);

/// A removal.
#[async_trait]
pub(in crate::ops) trait RemoveEffect: Sync {
    /// What goes, as the call gives it back.
    type Gone: Serialize + DeserializeOwned + Send + Sync;

    /// What is removed, for messages: `the branch sandbox/look`.
    fn name_effect_for_messages(&self) -> String;
    /// What kind of request it is.
    fn kind(&self) -> EffectKind;
    /// The parts of the target that it removes.
    fn changed_things(&self) -> Vec<Thing>;
    /// Returns the id of what goes, which nothing else ever has.
    fn gone_id<'g>(&self, gone: &'g Self::Gone) -> &'g str;
    /// Finds out what exactly goes. Every refusal comes from here.
    async fn plan(&self) -> Result<Self::Gone>;
    /// Returns from what the last plan was made or refused: `None` where no call can have changed that just before.
    fn planned_from(&self) -> Option<PlannedFrom>;
    /// Looks whether any of it is still there, fresh.
    async fn is_any_left(&self, gone: &Self::Gone) -> Result<bool>;
    /// Asks for the removal.
    async fn send_request(&self, gone: &Self::Gone) -> Result<()>;
}

/// Takes a removal up where it is: begins it, or goes on with it.
pub(in crate::ops) async fn begin_or_continue_removal<E: RemoveEffect>(
    cx: &CallContext<'_>,
    args: &CallArgs,
    provider: &dyn Provider,
    effect: &E,
) -> EffectResult<Value> {
    let mut sending =
        RequestTracker::claim_when_free(cx, args, provider, (effect.kind(), effect.changed_things())).await?;
    let gone = match &cx.recorded {
        None => {
            refuse_when_only_settling(cx).await?;
            // What is there, by its own id, was not removed before.
            let plan = || effect.plan();
            let planned_from = |_: Option<&Error>| effect.planned_from().into_iter().collect();
            let subject = effect.name_effect_for_messages();
            let planned =
                sending.plan_from_current_looks(provider, &subject, args.timeout(), plan, planned_from).await;
            planned.map_err(|e| planning_failure(cx, sending.blame_earlier_attempt(e)))?
        }
        Some(Evidence::Remove { gone, sent_by }) => {
            sending.adopt_lost_request(sent_by).await?;
            decode_part(gone).map_err(EffectFailure::Unreadable)?
        }
        Some(other) => return Err(wrong_evidence_failure(other, "removal")),
    };
    let (things, id) = (effect.changed_things(), effect.gone_id(&gone));
    let absent: Vec<ElementValue> =
        things.iter().map(|thing| ElementValue::absent(thing.place.clone(), id)).collect();
    sending.values_before = things.into_iter().map(|thing| ElementValue::present(thing.place, id)).collect();
    if let Err(e) =
        sending.begin_stale_look_time(&effect.name_effect_for_messages(), &absent, args.timeout()).await
    {
        return Err(planning_failure(cx, e));
    }
    let removal = Removal { cx, provider, effect, gone: &gone, limit: args.timeout().min(GONE_TIMEOUT) };
    let removed = removal.remove_until_gone(&mut sending).await;
    sending.lift_quarantine_if_settled(removed).await.map(|()| json!(gone))
}

/// A removal on its way.
struct Removal<'a, E: RemoveEffect> {
    cx: &'a CallContext<'a>,
    provider: &'a dyn Provider,
    effect: &'a E,
    gone: &'a E::Gone,
    /// How long an answered removal is waited for.
    limit: Span,
}

impl<E: RemoveEffect> Removal<'_, E> {
    /// Removes what is still there: asks twice at most, the second time when the first got no answer and it is still there.
    async fn remove_until_gone(&self, sending: &mut RequestTracker<'_>) -> EffectResult<()> {
        let lost = never_landed_error(
            &format!("the removal of {}", self.effect.name_effect_for_messages()),
            sending.landing,
        );
        if sending.has_lost_request()
            && sending.is_past_landing()
            && self.wait_until_removed(Span::ZERO).await?
        {
            return Ok(());
        }
        if self.cx.settles_only {
            return self.await_lost_removal(sending, lost).await;
        }
        for is_second in [false, true] {
            let evidence = |sent_by| Evidence::Remove { gone: json!(self.gone), sent_by };
            match sending.record_and_send(evidence, self.effect.send_request(self.gone)).await? {
                #[cfg(test)]
                RequestAnswer::Answered(()) if is_mutant(Mutant::RemoveAnswerBelieved) => {
                    return Ok(());
                }
                RequestAnswer::Answered(()) if self.wait_until_seen_gone(sending).await? => return Ok(()),
                RequestAnswer::Answered(()) => return Err(self.unapplied_error(sending).into()),
                RequestAnswer::Refused(why) if sending.has_lost_request() => {
                    return self.await_lost_removal(sending, refused_after_loss_error(lost, why)).await;
                }
                RequestAnswer::Refused(why) => return Err(why.into()),
                RequestAnswer::Lost(own) if is_second || sending.is_past_landing() => {
                    let why = prefer_own_error(lost, own, sending.landing);
                    return self.await_lost_removal(sending, why).await;
                }
                // That it is not seen says nothing of the request: a look may lag behind. Twice is once.
                RequestAnswer::Lost(_) => {}
            }
        }
        self.await_lost_removal(sending, lost).await
    }

    /// Looks until a lost removal cannot land any more; `why` is the error of one that did not.
    async fn await_lost_removal(&self, sending: &RequestTracker<'_>, why: Error) -> EffectResult<()> {
        let subject = format!("the removal of {}", self.effect.name_effect_for_messages());
        let look = || async {
            Ok(match self.look().await? {
                Look::Seen(gone) if !sending.is_past_landing() => {
                    let phase = format!("waiting until {subject} can come no more");
                    Look::NotYet(gone, Progress::with_phase(phase))
                }
                look => look,
            })
        };
        let is_gone = sending.watch_lost_request(self.provider, &subject, look).await?;
        if is_gone { Ok(()) } else { Err(sending.never_landed_failure(why)) }
    }

    /// Waits until an answered removal is seen, by a look that cannot show what was before it was made.
    async fn wait_until_seen_gone(&self, sending: &RequestTracker<'_>) -> EffectResult<bool> {
        let look = || async {
            Ok(match self.look().await? {
                Look::Seen(gone) if sending.stale_look_time_left() > Span::ZERO => {
                    let subject = self.effect.name_effect_for_messages();
                    let phase = format!("waiting until no look can show what was before {subject} was made");
                    Look::NotYet(gone, Progress::with_phase(phase))
                }
                look => look,
            })
        };
        self.watch_until_seen(self.limit.max(sending.stale_look_time_left()), look).await
    }

    /// Looks whether it is gone.
    async fn look(&self) -> Result<Look<bool>> {
        if !self.effect.is_any_left(self.gone).await? {
            return Ok(Look::Seen(true));
        }
        let phase = format!("waiting until {} is gone", self.effect.name_effect_for_messages());
        Ok(Look::NotYet(false, Progress::with_phase(phase)))
    }

    /// Looks until nothing of it is left, for `limit` at most; returns whether nothing is.
    async fn wait_until_removed(&self, limit: Span) -> EffectResult<bool> {
        self.watch_until_seen(limit, || self.look()).await
    }

    async fn watch_until_seen<F: Future<Output = Result<Look<bool>>>>(
        &self,
        limit: Span,
        look: impl FnMut() -> F,
    ) -> EffectResult<bool> {
        match watch(self.cx, self.provider, limit, look).await {
            Ok(Watched::Seen(gone) | Watched::TimeUp(gone)) => Ok(gone),
            Err(e) => Err(EffectFailure::Undecided(format!(
                "whether {} is still there cannot be looked at: {e}",
                self.effect.name_effect_for_messages()
            ))),
        }
    }

    fn unapplied_error(&self, sending: &RequestTracker<'_>) -> Error {
        sending.unapplied_error(format!(
            "the removal of {} was answered, and it is still there",
            self.effect.name_effect_for_messages()
        ))
    }
}
