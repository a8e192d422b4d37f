//! `Set`: elements of a thing get other values.
//!
//! Each element is recorded as it was and as it is to be. A look then shows each as wanted, as before, or with a third
//! value. What is as before is asked for again: setting twice is setting once. A third value is somebody else's, and no
//! more is known. Elements that the call does not touch are nobody's business here.

use super::{
    elements::{ElementsStanding, SetLook, describe_elements},
    failure::{
        EffectFailure, EffectResult, doubtful_call_failure, never_landed_error, planning_failure,
        prefer_own_error, refuse_when_only_settling, refused_after_loss_error, wrong_evidence_failure,
    },
    sending::{RequestAnswer, RequestTracker},
    set_effect::{LookAfter, SeenChange, SetEffect, SetRequest, look_progress},
    watch::Look,
};
#[cfg(test)]
use crate::base::mutant::{Mutant, is_mutant};
use crate::{
    base::{clock::Stopwatch, moment::Span},
    ops::{
        args::CallArgs,
        context::{CallContext, ElementValue},
        evidence::{ElementChange, ElementChanges, Evidence},
        thing::{Thing, ThingPart},
    },
    provider::{Code, Error, Provider},
};
use serde_json::Value;

/// How long, at most, an answered change is waited for until it is seen.
const APPLY_TIMEOUT: Span = Span::from_secs(300);
/// Takes a change up where it is: begins it, or goes on with it.
pub(in crate::ops) async fn begin_or_continue_set(
    cx: &CallContext<'_>,
    args: &CallArgs,
    provider: &dyn Provider,
    effect: &dyn SetEffect,
) -> EffectResult<Value> {
    let mut sending =
        RequestTracker::claim_when_free(cx, args, provider, (effect.kind(), effect.changed_things())).await?;
    let mut set = SetRequest {
        cx,
        provider,
        effect,
        changes: ElementChanges::new(),
        limit: args.timeout().min(APPLY_TIMEOUT),
        timeout: args.timeout(),
    };
    if let Some(value) = set.plan_or_take_up(&mut sending).await? {
        return Ok(value);
    }
    let value = if cx.is_doubtful {
        set.conclude_without_request().await
    } else {
        set.continue_or_request_change(&mut sending).await
    };
    sending.doubt_landing_at(set.list_unproven_things());
    sending.lift_quarantine_if_settled(value).await
}

impl SetRequest<'_> {
    /// Plans the change, or takes over what an earlier process wrote down of it. Returns the value of a change of which nothing is
    /// to be asked.
    async fn plan_or_take_up(&mut self, sending: &mut RequestTracker<'_>) -> EffectResult<Option<Value>> {
        match &self.cx.recorded {
            None => {
                refuse_when_only_settling(self.cx).await?;
                if let Some(value) = self.plan_unless_done(sending).await? {
                    return Ok(Some(value));
                }
            }
            Some(Evidence::Set { changes, .. }) if changes.is_empty() => {
                return Err(EffectFailure::Unreadable("its evidence names no element".into()));
            }
            Some(Evidence::Set { changes, sent_by }) => {
                self.changes.clone_from(changes);
                sending.adopt_lost_request(sent_by).await?;
            }
            Some(other) => return Err(wrong_evidence_failure(other, "change of elements")),
        }
        sending.values_before =
            self.list_values(|change| (change.before != change.wanted).then(|| change.before.clone()));
        let wanted = self.list_values(|change| Some(change.wanted.clone()));
        let stale =
            sending.begin_stale_look_time(self.effect.name_effect_for_messages(), &wanted, self.timeout);
        stale.await.map_err(|e| planning_failure(self.cx, e))?;
        Ok(None)
    }

    /// Plans the change, and returns its value where it is certain that all of it is done already.
    async fn plan_unless_done(&mut self, sending: &mut RequestTracker<'_>) -> EffectResult<Option<Value>> {
        self.plan(sending).await?;
        #[cfg(test)]
        super::mutant::note_planned_list(self.effect).await?;
        // Where a look may lag behind, only asking makes certain what it calls done already.
        if !sending.landing.cannot_land_late() {
            return self.confirm_elements_not_requested(sending).await;
        }
        if self.is_change_needed() {
            return Ok(None);
        }
        let seen = self.watch_until_wanted(Span::ZERO, LookAfter::Nothing).await?;
        let is_done = seen.standing == ElementsStanding::AsWanted;
        Ok(is_done.then(|| self.effect.result(&self.changes, seen.look)))
    }

    /// Plans the change, as the elements are now.
    async fn plan(&mut self, sending: &mut RequestTracker<'_>) -> EffectResult<()> {
        let (subject, effect) = (self.effect.name_effect_for_messages(), self.effect);
        let plan = || effect.plan();
        let planned_from = |_: Option<&Error>| effect.planned_from().into_iter().collect();
        let planned =
            sending.plan_from_current_looks(self.provider, subject, self.timeout, plan, planned_from).await;
        self.changes = planned.map_err(|e| planning_failure(self.cx, sending.blame_earlier_attempt(e)))?;
        Ok(())
    }

    /// Returns whether any element was seen to be other than wanted.
    fn is_change_needed(&self) -> bool {
        self.changes.values().any(|change| change.before != change.wanted)
    }

    /// Returns the things at which a look cannot tell whether an answered request has landed: an element was as wanted before,
    /// and is so whether it has or not.
    fn list_unproven_things(&self) -> Vec<Thing> {
        let unasked = self.effect.list_elements_not_requested(&self.changes);
        let is_unproven = |(name, change): &(&String, &ElementChange)| {
            change.before == change.wanted && !unasked.contains(name)
        };
        let names: Vec<&str> =
            self.changes.iter().filter(is_unproven).map(|(name, _)| name.as_str()).collect();
        if names.is_empty() { Vec::new() } else { self.effect.things_of(&names) }
    }

    /// Returns a value of each element of which something is asked.
    fn list_values(&self, value: impl Fn(&ElementChange) -> Option<Value>) -> Vec<ElementValue> {
        let unasked = self.effect.list_elements_not_requested(&self.changes);
        let asked = self.changes.iter().filter(|(name, _)| !unasked.contains(name));
        let list = |(name, change): (&String, &ElementChange)| {
            let value = |thing: Thing| ElementValue {
                element: match thing.part {
                    ThingPart::Named(part) => format!("{part}/{name}"),
                    ThingPart::Whole | ThingPart::Rows => name.clone(),
                },
                place: thing.place,
                value: value(change),
            };
            self.effect.things_of(&[name]).into_iter().map(value).collect::<Vec<_>>()
        };
        asked.flat_map(list).collect()
    }

    /// Returns the value of a change that holds, and asks for nothing: whether it was made before, and changed since, nobody
    /// knows.
    async fn conclude_without_request(&self) -> EffectResult<Value> {
        let seen = self.watch_until_wanted(Span::ZERO, LookAfter::Loss).await?;
        match seen.standing {
            ElementsStanding::AsWanted => Ok(self.effect.result(&self.changes, seen.look)),
            _ => Err(doubtful_call_failure("it does not hold now, and may have been changed since")),
        }
    }

    /// Makes certain that the elements which are not asked for are as wanted: one look that may lag behind does not
    /// prove it. What is seen to be otherwise is planned anew. Returns the value of the change when nothing is left to
    /// ask for.
    async fn confirm_elements_not_requested(
        &mut self,
        sending: &mut RequestTracker<'_>,
    ) -> EffectResult<Option<Value>> {
        let cx = self.cx;
        let stopwatch = Stopwatch::start(cx.fleet.clock().as_ref());
        loop {
            let unasked = self.effect.list_elements_not_requested(&self.changes);
            if unasked.is_empty() {
                return Ok(None);
            }
            let bound = sending.landing.max_delay().unwrap_or(self.timeout);
            if stopwatch.remaining_of(self.timeout) < bound {
                let error = sending.blame_earlier_attempt(self.too_little_time_error(&unasked, bound));
                return Err(planning_failure(cx, error));
            }
            let held = self.look_until_lag_is_over(sending, &unasked).await;
            let held = held.map_err(|e| planning_failure(cx, sending.blame_earlier_attempt(e)))?;
            if let Some(seen) = held {
                let is_all = unasked.len() == self.changes.len();
                if is_all && seen.standing == ElementsStanding::AsWanted {
                    return Ok(Some(self.effect.result(&self.changes, seen.look)));
                }
                // What is asked for beside it may have changed meanwhile.
                self.plan(sending).await?;
                if self.effect.list_elements_not_requested(&self.changes) == unasked {
                    return Ok(None);
                }
            } else {
                self.plan(sending).await?;
            }
        }
    }

    /// Returns the error of a change for which the call's time is too short to know whether it is to be asked for.
    fn too_little_time_error(&self, names: &[String], bound: Span) -> Error {
        let message = format!(
            "{} was not asked for: a look calls {} done already, and may lag behind for {bound}, for which the call has no time",
            self.effect.name_effect_for_messages(),
            names.join(", ")
        );
        Error::new(Code::Timeout, message).with_hint("give it more with `timeout:`")
    }

    /// Goes on with what an earlier process asked for, else asks.
    async fn continue_or_request_change(&self, sending: &mut RequestTracker<'_>) -> EffectResult<Value> {
        if sending.has_lost_request()
            && let Some(value) = self.resolve_begun_change(sending).await?
        {
            return Ok(value);
        }
        self.request_until_seen(sending).await
    }

    /// Looks what became of a change that was begun: its value, or nothing when it is to be asked for again.
    async fn resolve_begun_change(&self, sending: &RequestTracker<'_>) -> EffectResult<Option<Value>> {
        if self.cx.settles_only {
            let lost = never_landed_error(self.effect.name_effect_for_messages(), sending.landing);
            return self.await_lost_change(sending, lost).await.map(Some);
        }
        let mut seen = self.watch_until_wanted(Span::ZERO, LookAfter::Loss).await?;
        if seen.standing == ElementsStanding::Changed {
            // A look may still show what was before the last change but one.
            seen = self.watch_until_wanted(sending.look_limit(), LookAfter::Loss).await?;
        }
        match seen.standing {
            ElementsStanding::AsBefore | ElementsStanding::InPart => Ok(None),
            ElementsStanding::AsWanted | ElementsStanding::Unapplied if may_look_still_lag(sending) => {
                Ok(None)
            }
            _ => self.conclude_lost_change(seen, sending).await.map(Some),
        }
    }

    /// Asks for the change until it is seen: twice at most, the second time when the first got no answer and is not seen.
    async fn request_until_seen(&self, sending: &mut RequestTracker<'_>) -> EffectResult<Value> {
        let never_landed = never_landed_error(self.effect.name_effect_for_messages(), sending.landing);
        let mut why = never_landed.clone();
        for is_second in [false, true] {
            let evidence = |sent_by| Evidence::Set { changes: self.changes.clone(), sent_by };
            match sending.record_and_send(evidence, self.effect.send_request(&self.changes)).await? {
                RequestAnswer::Answered(()) => return self.await_applied(sending).await,
                RequestAnswer::Refused(refusal) if sending.has_lost_request() => {
                    let why = refused_after_loss_error(never_landed, refusal);
                    return self.await_lost_change(sending, why).await;
                }
                RequestAnswer::Refused(refusal) if self.is_change_needed() => return Err(refusal.into()),
                RequestAnswer::Refused(refusal) => {
                    return self.confirm_refused_change(sending, refusal).await;
                }
                RequestAnswer::Lost(own) => {
                    why = prefer_own_error(never_landed.clone(), own, sending.landing);
                    let seen = self.watch_until_wanted(sending.look_limit(), LookAfter::Loss).await?;
                    match seen.standing {
                        ElementsStanding::AsBefore if sending.is_past_landing() => break,
                        ElementsStanding::AsBefore | ElementsStanding::InPart if is_second => break,
                        // What is half done is finished, also where nothing of the first can come any more.
                        ElementsStanding::AsBefore | ElementsStanding::InPart => {}
                        ElementsStanding::AsWanted | ElementsStanding::Unapplied
                            if may_look_still_lag(sending) => {}
                        _ => return self.conclude_lost_change(seen, sending).await,
                    }
                }
            }
        }
        self.await_lost_change(sending, why).await
    }

    /// Concludes a change that a look called done and that was refused, perhaps for that. A look may still show what was before
    /// somebody else's change, so it counts as done only when it holds until none can lag so far behind.
    async fn confirm_refused_change(&self, sending: &RequestTracker<'_>, why: Error) -> EffectResult<Value> {
        if !why.code.may_mean_already_so() {
            return Err(why.into());
        }
        let all: Vec<_> = self.changes.keys().cloned().collect();
        match self.look_until_lag_is_over(sending, &all).await {
            Ok(Some(seen)) if seen.standing == ElementsStanding::AsWanted => {
                Ok(self.effect.result(&self.changes, seen.look))
            }
            // The request changed nothing, whatever the looks show.
            _ => Err(why.into()),
        }
    }

    /// Looks for a lost change until it cannot land any more; `why` is the error of one that did not.
    async fn await_lost_change(&self, sending: &RequestTracker<'_>, why: Error) -> EffectResult<Value> {
        let look = || async {
            Ok(match self.look(LookAfter::Loss).await? {
                Look::Seen(seen) if may_look_still_lag(sending) => {
                    Look::NotYet(seen, look_progress("waiting until what was lost can come no more"))
                }
                look => look,
            })
        };
        let seen =
            sending.watch_lost_request(self.provider, self.effect.name_effect_for_messages(), look).await?;
        match seen.standing {
            ElementsStanding::AsBefore => Err(sending.never_landed_failure(why)),
            _ => self.conclude_lost_change(seen, sending).await,
        }
    }

    /// Waits until an answered change is seen to hold.
    async fn await_applied(&self, sending: &RequestTracker<'_>) -> EffectResult<Value> {
        #[cfg(test)]
        if is_mutant(Mutant::SetAnswerBelieved) {
            return Ok(self.effect.result(&self.changes, self.effect.look(&self.changes).await?));
        }
        let look = || async {
            Ok(match self.look(LookAfter::Answer).await? {
                Look::Seen(seen) if sending.stale_look_time_left() > Span::ZERO => Look::NotYet(
                    seen,
                    look_progress("waiting until no look can show what was before the last change"),
                ),
                look => look,
            })
        };
        let seen = self.watch_until_seen(self.limit.max(sending.stale_look_time_left()), look).await?;
        match seen.standing {
            ElementsStanding::AsWanted => Ok(self.effect.result(&self.changes, seen.look)),
            _ => Err(self.unapplied_error(&seen, sending).into()),
        }
    }

    /// Concludes from how its elements stand what became of a change whose answer was lost.
    async fn conclude_lost_change(
        &self,
        seen: SeenChange,
        sending: &RequestTracker<'_>,
    ) -> EffectResult<Value> {
        match seen.standing {
            ElementsStanding::AsWanted => Ok(self.effect.result(&self.changes, seen.look)),
            ElementsStanding::Unapplied => self.await_applied(sending).await,
            ElementsStanding::AsBefore | ElementsStanding::InPart => {
                Err(self.unapplied_error(&seen, sending).into())
            }
            ElementsStanding::Changed => Err(self.changed_by_others_failure(&seen.look)),
        }
    }

    /// Returns the error of a change that was asked for, and is not there as wanted.
    fn unapplied_error(&self, seen: &SeenChange, sending: &RequestTracker<'_>) -> Error {
        let look = &seen.look;
        let why = look.unapplied.as_ref().map_or_else(String::new, |doing| format!(" ({doing})"));
        let message = format!(
            "{} was asked for and is not as wanted{why}: {}",
            self.effect.name_effect_for_messages(),
            describe_elements(&self.changes, look)
        );
        let error = sending.unapplied_error(message);
        // What is as before may still change; what is not is changed.
        if seen.standing == ElementsStanding::AsBefore { error } else { error.with_side_effects() }
    }

    /// Returns the failure of a change of which nobody knows: an element is neither as before nor as wanted.
    fn changed_by_others_failure(&self, look: &SetLook) -> EffectFailure {
        EffectFailure::Undecided(format!(
            "{} is neither as before nor as wanted: {}",
            self.effect.name_effect_for_messages(),
            describe_elements(&self.changes, look)
        ))
    }
}

/// Returns whether a look that shows a change as wanted says nothing of its lost request yet. The look may lag behind
/// as far as a request may take to land, and the request was sent later than anything was planned.
fn may_look_still_lag(sending: &RequestTracker<'_>) -> bool {
    #[cfg(test)]
    if super::mutant::believes_lagging_look() {
        return false;
    }
    !sending.is_past_landing()
}
