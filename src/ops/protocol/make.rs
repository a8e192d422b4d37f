//! `Make`: something comes to be that was not there, in one request.
//!
//! It is found by the call's key, or, where the platform keeps none, as what was not there before.

use super::{
    failure::{
        EffectFailure, EffectResult, never_landed_error, prefer_own_error, refuse_doubtful_call,
        refuse_when_only_settling, refused_after_loss_error, wrong_evidence_failure,
    },
    sending::{RequestAnswer, RequestTracker},
    watch::find_within,
};
#[cfg(test)]
use crate::base::mutant::{Mutant, is_mutant};
use crate::{
    base::moment::Span,
    ops::{args::CallArgs, context::CallContext, evidence::Evidence, thing::Thing},
    provider::{Error, Provider, Result, SideEffects, model::EffectKind},
};
use async_trait::async_trait;
use serde_json::Value;

/// How long, at most, something that was made is waited for until it is seen.
const SEEN_TIMEOUT: Span = Span::from_secs(300);

/// Something that is made at once.
#[async_trait]
pub(in crate::ops) trait MakeEffect: Sync {
    /// What is made, for messages: `the schedule`.
    fn name_effect_for_messages(&self) -> String;
    /// What kind of request it is.
    fn kind(&self) -> EffectKind;
    /// The parts of the target that it changes.
    fn changed_things(&self) -> Vec<Thing>;
    /// Returns how it was before; null where the platform keeps a key. Every refusal comes from here, and none of them rests on
    /// what other calls of a state folder change there, but for whether the target is on.
    async fn plan(&self) -> Result<Value>;
    /// Looks for what the call has made, fresh.
    async fn find(&self, before: &Value) -> Result<Option<Value>>;
    /// Asks for it, and returns what the answer says was made.
    async fn send_request(&self) -> Result<Value>;
}

/// Makes something that is made at once: begins it, or goes on with what was begun.
pub(in crate::ops) async fn begin_or_continue_make(
    cx: &CallContext<'_>,
    args: &CallArgs,
    provider: &dyn Provider,
    effect: &dyn MakeEffect,
) -> EffectResult<Value> {
    refuse_doubtful_call(cx)?;
    let mut sending =
        RequestTracker::claim_when_free(cx, args, provider, (effect.kind(), effect.changed_things())).await?;
    let before = match &cx.recorded {
        None => {
            refuse_when_only_settling(cx).await?;
            let subject = effect.name_effect_for_messages();
            let planned = sending
                .plan_from_current_looks(provider, &subject, args.timeout(), || effect.plan(), |_| Vec::new())
                .await;
            planned.map_err(|e| sending.blame_earlier_attempt(e))?
        }
        Some(Evidence::Make { before, sent_by }) => {
            sending.adopt_lost_request(sent_by).await?;
            before.clone()
        }
        Some(other) => return Err(wrong_evidence_failure(other, "making")),
    };
    let making = Making { cx, provider, effect, before, limit: args.timeout().min(SEEN_TIMEOUT) };
    let made = making.find_or_make(&mut sending).await;
    if let Ok(made) = &made {
        sending.note_making(made);
    }
    sending.lift_quarantine_if_settled(made).await
}

/// Something on its way to be made.
struct Making<'a> {
    cx: &'a CallContext<'a>,
    provider: &'a dyn Provider,
    effect: &'a dyn MakeEffect,
    before: Value,
    /// How long it is waited for once it was answered.
    limit: Span,
}

impl Making<'_> {
    async fn find_or_make(&self, sending: &mut RequestTracker<'_>) -> EffectResult<Value> {
        let lost = never_landed_error(&self.effect.name_effect_for_messages(), sending.landing);
        if sending.has_lost_request() {
            // What an earlier process asked for must not land beside what is asked for now.
            match self.await_lost_making(sending, lost.clone()).await {
                Err(EffectFailure::Failed(_)) if !self.cx.settles_only => {}
                found => return found,
            }
        }
        let evidence = |sent_by| Evidence::Make { before: self.before.clone(), sent_by };
        match sending.record_and_send(evidence, self.effect.send_request()).await? {
            #[cfg(test)]
            RequestAnswer::Answered(made) if is_mutant(Mutant::MakeAnswerBelieved) => Ok(made),
            RequestAnswer::Answered(_) => match self.wait_until_made_is_seen().await? {
                Some(made) => Ok(made),
                None => Err(self.unseen_making_error(sending).into()),
            },
            // It was looked for above, as far as it was asked for before.
            RequestAnswer::Refused(why) if sending.has_lost_request() => {
                Err(refused_after_loss_error(lost, why).into())
            }
            RequestAnswer::Refused(why) => Err(why.into()),
            RequestAnswer::Lost(own) => {
                let why = prefer_own_error(lost, own, sending.landing);
                self.await_lost_making(sending, why).await
            }
        }
    }

    /// Looks for what was made until it is seen, after its request was answered; `None` when the time for that is over.
    async fn wait_until_made_is_seen(&self) -> EffectResult<Option<Value>> {
        let find = || self.effect.find(&self.before);
        find_within(self.cx, self.provider, self.limit, &self.effect.name_effect_for_messages(), find).await
    }

    /// Looks for what a lost request makes until that cannot land any more; `why` is the error where it did not.
    async fn await_lost_making(&self, sending: &RequestTracker<'_>, why: Error) -> EffectResult<Value> {
        let find = || self.effect.find(&self.before);
        sending.await_lost_result(self.provider, &self.effect.name_effect_for_messages(), why, find).await
    }

    /// Returns the error of what was answered and is not seen. It names it as left behind only while it may still
    /// appear.
    fn unseen_making_error(&self, sending: &RequestTracker<'_>) -> Error {
        let what = self.effect.name_effect_for_messages();
        let mut error =
            sending.unapplied_error(format!("{what} was asked for and answered, and is not there"));
        if error.side_effects != SideEffects::None {
            error.left_behind.push(format!("{what}, which may still appear"));
        }
        error
    }
}
