//! `Job`: work that the platform accepts and goes on with.
//!
//! It is found by the call's key, or, where the platform keeps none, by its traces, which the provider wrote down before
//! it asked. A job that was accepted is recorded and waited for, by whichever process is there. Nobody knows when it takes
//! effect, so its things are under quarantine until it is seen to be done, or to have failed, or was cancelled.

use super::{
    failure::{
        EffectFailure, EffectResult, doubtful_call_failure, never_landed_error, planning_failure,
        prefer_own_error, refuse_when_only_settling, refused_after_loss_error, unasked_after_loss_error,
        wrong_evidence_failure,
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
        evidence::Evidence,
        job_watch::{JobWatch, OtherEnd},
        thing::Thing,
    },
    provider::{
        Code, Error, PlannedJob, Provider, Result,
        model::{EffectKind, GivenUpJob, Job, Progress, RecordedJob, UndoneJob},
    },
};
use async_trait::async_trait;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

/// Work that is asked for.
#[async_trait]
pub(in crate::ops) trait JobEffect: Sync {
    /// What is asked for, for messages: `the backup`.
    fn name_effect_for_messages(&self) -> String;
    /// What kind of request it is.
    fn kind(&self) -> EffectKind;
    /// The parts of the target that it changes; none for a new thing that only its key names.
    fn changed_things(&self) -> Vec<Thing>;
    /// Returns whether it is found by what is new where the platform keeps no key. Somebody else's is new, too, so that is
    /// conclusive only when ours can land no more.
    fn is_found_by_difference(&self) -> bool {
        false
    }
    /// Returns whether a job that was accepted says which thing is its own. Where it does not, somebody else's could be taken
    /// for it until ours must be there, and one that was made right before where a look does not show it yet.
    fn does_job_name_its_own(&self) -> bool {
        true
    }
    /// Returns whether it makes something with an id of its own.
    fn makes_something(&self) -> bool {
        matches!(self.kind(), EffectKind::Backup | EffectKind::Branch | EffectKind::Replica)
    }
    /// Returns what the job switches, if the target may have been before what the job makes of it. A look that lags behind calls
    /// it done then, so that what one shows says nothing of a lost request until that can land no more.
    fn switched_state(&self) -> Option<StateSwitch> {
        None
    }
    /// Returns whether what this machine does for it is undone where its run is given up, and not brought to its end.
    fn is_undone_when_given_up(&self) -> bool {
        false
    }
    /// Plans it. Every refusal that can be known comes from here.
    async fn plan(&self) -> Result<PlannedJob<'_>>;
    /// Returns what a refusal of the last plan rests on, beside whether the target is on: nothing that other calls change, if
    /// nothing is said.
    fn refused_from(&self, _refusal: &Error) -> Vec<PlannedFrom> {
        Vec::new()
    }
}

/// A state of the target that a job switches from one value to the other.
pub(in crate::ops) struct StateSwitch {
    pub(in crate::ops) before: ElementValue,
    pub(in crate::ops) wanted: ElementValue,
}

/// Takes a job up where it is: asks for it, or goes on with it.
pub(in crate::ops) async fn begin_or_continue_job(
    cx: &CallContext<'_>,
    args: &CallArgs,
    provider: &dyn Provider,
    effect: &dyn JobEffect,
) -> EffectResult<Value> {
    let mut sending =
        RequestTracker::claim_when_free(cx, args, provider, (effect.kind(), effect.changed_things())).await?;
    if !effect.does_job_name_its_own() {
        sending.note_addition();
    }
    if let Some(StateSwitch { before, wanted }) = effect.switched_state() {
        sending.values_before.push(before);
        let subject = effect.name_effect_for_messages();
        let stale = sending.begin_stale_look_time(&subject, &[wanted], args.timeout()).await;
        stale.map_err(|e| planning_failure(cx, e))?;
    }
    let request = JobRequest { cx, provider, effect, timeout: args.timeout() };
    let settled = request.resolve_to_end(&mut sending).await;
    if let Ok(made) = &settled
        && effect.makes_something()
    {
        sending.note_making(made);
    }
    sending.lift_quarantine_if_settled(settled).await
}

/// A job on its way to be accepted.
struct JobRequest<'a> {
    cx: &'a CallContext<'a>,
    provider: &'a dyn Provider,
    effect: &'a dyn JobEffect,
    /// How long the call may take.
    timeout: Span,
}

impl JobRequest<'_> {
    /// Brings the call to its end: what was asked for is there only when the job is done.
    async fn resolve_to_end(&self, sending: &mut RequestTracker<'_>) -> EffectResult<Value> {
        let job = self.find_or_send(sending).await?;
        self.undo_when_given_up(&job).await?;
        #[cfg(test)]
        if is_mutant(Mutant::JobAnswerBelieved) {
            return Ok(json!(job));
        }
        #[cfg(test)]
        if super::mutant::believes_lagging_look() {
            let watch = JobWatch::new(sending.landing, self.timeout, OtherEnd::None);
            return Ok(self.cx.wait_for_job_or_cancel(self.provider, &job, self.timeout, watch).await?);
        }
        let other_end = if !self.effect.does_job_name_its_own() {
            OtherEnd::SomebodyElses(sending.time_until_landed())
        } else if self.effect.switched_state().is_some() {
            let stale_look_time = sending.stale_look_time_left();
            OtherEnd::Earlier { landing_time: sending.time_until_landed(), stale_look_time }
        } else {
            OtherEnd::None
        };
        let watch = JobWatch::new(sending.landing, self.timeout, other_end);
        Ok(self.cx.wait_for_job_or_cancel(self.provider, &job, self.timeout, watch).await?)
    }

    /// Returns the job of this call: the one that was accepted or is found, else the one that is asked for now.
    async fn find_or_send(&self, sending: &mut RequestTracker<'_>) -> EffectResult<Job> {
        let lost = never_landed_error(&self.effect.name_effect_for_messages(), sending.landing);
        let traces = match &self.cx.recorded {
            Some(Evidence::Accepted { job }) => {
                self.check_recorded_job(RecordedJob::Accepted(job))?;
                sending.adopt_accepted_job().await?;
                // A target that cannot be asked about the job does not end the call.
                self.find_job_once(None).await?;
                return Ok(job.clone());
            }
            Some(Evidence::Job { traces, sent_by }) => {
                if !traces.is_null() {
                    self.check_recorded_job(RecordedJob::Planned(traces))?;
                }
                sending.adopt_lost_request(sent_by).await?;
                traces.clone()
            }
            Some(other) => return Err(wrong_evidence_failure(other, "job")),
            None => Value::Null,
        };
        if self.cx.is_doubtful {
            return self.find_or_send_in_doubt(sending, &traces, lost).await;
        }
        if self.cx.is_taken_up {
            // What an earlier process asked for must not land beside what is asked for now.
            match self.await_lost_job(sending, &traces, lost.clone()).await {
                Err(EffectFailure::Failed(_)) if !self.cx.settles_only => {
                    return self.send_unless_landed(sending, lost).await;
                }
                Err(EffectFailure::Failed(_)) if self.cx.recorded.is_none() => {
                    return Err(EffectFailure::NeverAsked);
                }
                found => return found,
            }
        }
        refuse_when_only_settling(self.cx).await?;
        self.send_and_await(sending, lost).await
    }

    /// Undoes what this machine does for a call whose run is given up, where that is wanted; a job that is done, or is the
    /// platform's, goes on to its end.
    async fn undo_when_given_up(&self, job: &Job) -> EffectResult<()> {
        if !(self.cx.settles_only && self.effect.is_undone_when_given_up()) {
            return Ok(());
        }
        let what = self.effect.name_effect_for_messages();
        let given_up = self.provider.give_job_up(job).await.map_err(|e| {
            EffectFailure::Undecided(format!("{what} is given up, and could not be undone: {}", e.message))
        })?;
        let GivenUpJob::Undone(UndoneJob { side_effects, left_behind }) = given_up else { return Ok(()) };
        let error = Error::new(Code::Unavailable, format!("{what} was given up with its run, and is undone"));
        Err(Error { side_effects, left_behind, ..error }.into())
    }

    /// Checks that what was recorded of the job reads: by a record that does not, nothing is asked or cancelled.
    fn check_recorded_job(&self, recorded: RecordedJob<'_>) -> EffectResult<()> {
        self.provider.check_recorded_job(recorded).map_err(|e| EffectFailure::Unreadable(e.message))
    }

    /// Asks for a job that was looked for and is not there. Where a request of it got no answer, a refusal says nothing of
    /// that one.
    async fn send_unless_landed(&self, sending: &mut RequestTracker<'_>, lost: Error) -> EffectResult<Job> {
        let had_lost_request = sending.has_lost_request();
        let planned = match self.plan(sending).await {
            Err(EffectFailure::Failed(why)) if had_lost_request => {
                return Err(unasked_after_loss_error(lost, why).into());
            }
            planned => planned?,
        };
        match self.send_planned(sending, planned, lost.clone()).await {
            Err(EffectFailure::Failed(why)) if had_lost_request && why != lost => {
                Err(refused_after_loss_error(lost, why).into())
            }
            asked => asked,
        }
    }

    async fn send_and_await(&self, sending: &mut RequestTracker<'_>, lost: Error) -> EffectResult<Job> {
        let planned = self.plan(sending).await?;
        self.send_planned(sending, planned, lost).await
    }

    /// Plans the job. One whose end the call could never know within its time is refused. What is told from others by what was there before
    /// is planned when a look must show them.
    async fn plan(&self, sending: &mut RequestTracker<'_>) -> EffectResult<PlannedJob<'_>> {
        if !self.effect.does_job_name_its_own() {
            let subject = self.effect.name_effect_for_messages();
            let current = sending.wait_until_list_is_current(self.provider, &subject, self.timeout).await;
            current.map_err(|e| sending.blame_earlier_attempt(e))?;
        }
        let (subject, plan) = (self.effect.name_effect_for_messages(), || self.effect.plan());
        let refused_from = |refusal: Option<&Error>| {
            refusal.map_or_else(Vec::new, |refusal| self.effect.refused_from(refusal))
        };
        let planned =
            sending.plan_from_current_looks(self.provider, &subject, self.timeout, plan, refused_from).await;
        let planned = planned.and_then(|planned| match planned.believed_after {
            lag if lag >= self.timeout && lag > Span::ZERO => Err(self.unknowable_error(lag)),
            _ => Ok(planned),
        });
        Ok(planned.map_err(|e| sending.blame_earlier_attempt(e))?)
    }

    fn unknowable_error(&self, lag: Span) -> Error {
        let what = format!(
            "{} was not asked for: how it ended is known when it was shown alike for {lag}, for which the call has no time",
            self.effect.name_effect_for_messages()
        );
        Error::new(Code::Invalid, what).with_hint(format!("give it more than {lag} with `timeout:`"))
    }

    async fn send_planned(
        &self,
        sending: &mut RequestTracker<'_>,
        planned: PlannedJob<'_>,
        lost: Error,
    ) -> EffectResult<Job> {
        let PlannedJob { traces, request, .. } = planned;
        let answer = if sending.landing.cannot_land_late() {
            // What was begun is found by its key, and nothing of it can come later: there is nothing to write down.
            sending.send_unrecorded(request).await
        } else {
            let evidence = |sent_by| Evidence::Job { traces: traces.clone(), sent_by };
            sending.record_and_send(evidence, request).await?
        };
        match answer {
            RequestAnswer::Answered(job) => self.record_accepted_job(sending, job).await,
            RequestAnswer::Refused(why) => {
                let why = sending.blame_earlier_attempt(why);
                self.confirm_refused_job(sending, &traces, why).await
            }
            RequestAnswer::Lost(own) => {
                let why = prefer_own_error(lost, own, sending.landing);
                self.await_lost_job(sending, &traces, why).await
            }
        }
    }

    /// Concludes a job that was refused, perhaps because the target is so already. A look may still show what was before
    /// somebody else's change, so it counts as accepted only when it is so until none can lag so far behind.
    async fn confirm_refused_job(
        &self,
        sending: &mut RequestTracker<'_>,
        traces: &Value,
        why: Error,
    ) -> EffectResult<Job> {
        let bound = sending.landing.max_delay().filter(|bound| *bound <= self.timeout);
        let may_be_so = self.effect.switched_state().is_some() && why.code.may_mean_already_so();
        let Some(bound) = bound.filter(|_| may_be_so && !sending.landing.cannot_land_late()) else {
            return Err(why.into());
        };
        let refused_at = self.cx.fleet.clock().uptime();
        let traces = Some(traces).filter(|traces| !traces.is_null());
        let look = || async {
            let found = self.provider.find_job(self.cx.key, traces).await?;
            let phase = format!("looking whether {} was done before", self.effect.name_effect_for_messages());
            Ok(match found {
                None => Look::Seen(None),
                job => Look::NotYet(job, Progress::with_phase(phase)),
            })
        };
        match watch(self.cx, self.provider, bound, look).await {
            Ok(Watched::TimeUp(Some(job))) => {
                sending.count_refusal_as_answer(refused_at);
                self.record_accepted_job(sending, job).await
            }
            // The request changed nothing, whatever the looks show.
            _ => Err(why.into()),
        }
    }

    /// Looks for a lost job until it cannot land any more, and records it; `why` is the error of one that did not.
    async fn await_lost_job(
        &self,
        sending: &mut RequestTracker<'_>,
        traces: &Value,
        why: Error,
    ) -> EffectResult<Job> {
        let traces = Some(traces).filter(|traces| !traces.is_null());
        let looking = &*sending;
        let find = || async {
            if self.may_look_mislead() && !looking.is_past_landing() {
                return Ok(None);
            }
            self.provider.find_job(self.cx.key, traces).await
        };
        let job = looking
            .await_lost_result(self.provider, &self.effect.name_effect_for_messages(), why, find)
            .await?;
        self.record_accepted_job(sending, job).await
    }

    /// Returns whether a look may show something else than a lost request of this call, while that may land.
    fn may_look_mislead(&self) -> bool {
        #[cfg(test)]
        if super::mutant::believes_lagging_look() {
            return false;
        }
        self.effect.is_found_by_difference() || self.effect.switched_state().is_some()
    }

    /// Puts the things of a job that goes on under quarantine until its end, then records the job.
    async fn record_accepted_job(&self, sending: &mut RequestTracker<'_>, job: Job) -> EffectResult<Job> {
        sending.quarantine_until_settled().await?;
        self.cx.host.record_evidence(&Evidence::Accepted { job: job.clone() }).await?;
        Ok(job)
    }

    /// Finds the job of a call that may have been made before the journal was rolled back. Not found, it is asked for only
    /// where it makes something that its key would have found, and whose request can land no more.
    async fn find_or_send_in_doubt(
        &self,
        sending: &mut RequestTracker<'_>,
        traces: &Value,
        lost: Error,
    ) -> EffectResult<Job> {
        let traces = Some(traces).filter(|traces| !traces.is_null());
        if let Some(job) = self.find_job_once(traces).await? {
            return self.record_accepted_job(sending, job).await;
        }
        if !self.effect.makes_something()
            || self.effect.is_found_by_difference()
            || !sending.landing.cannot_land_late()
        {
            return Err(doubtful_call_failure(&format!(
                "{} is not found now",
                self.effect.name_effect_for_messages()
            )));
        }
        refuse_when_only_settling(self.cx).await?;
        self.send_and_await(sending, lost).await
    }

    async fn find_job_once(&self, traces: Option<&Value>) -> EffectResult<Option<Job>> {
        self.provider.find_job(self.cx.key, traces).await.map_err(|e| EffectFailure::Undecided(e.message))
    }
}
