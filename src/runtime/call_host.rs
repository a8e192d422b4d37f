//! The host of a call, as its operation sees it: what is recorded of it, and the things that it claims.
//!
//! Two calls at one thing are made one after the other: who is there has claimed it, and where a request may still land it is
//! under quarantine.

use super::{
    decision::ask_on_own_thread,
    events::Event,
    hosted_call::HostedCall,
    observer::{Choice, Question},
    thing_claims::{journal_part, wait_and_claim_things},
};
use crate::{
    base::{
        clock::Uptime,
        moment::{Moment, Span},
    },
    journal::{self, PastValue, Quarantine, Record},
    ops::spec::{CallHost, ElementValue, Evidence, Thing, ThingClaim},
    provider::{
        Code, Error, Result,
        model::{Identity, Progress},
    },
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;

#[async_trait]
impl CallHost for HostedCall<'_> {
    fn report_progress(&self, progress: &Progress) {
        self.context.emit_event(&Event::Progress { call: self.name, op: &self.op, progress });
    }

    fn report_columns(&self, columns: &[String]) {
        self.context.emit_event(&Event::Columns { columns });
    }

    async fn record_evidence(&self, evidence: &Evidence) -> Result<()> {
        let record = Record::Accepted { call: self.name.to_owned(), what: json!(evidence) };
        #[cfg(not(test))]
        let durability = crate::journal::Durability::Synced;
        #[cfg(test)]
        let durability = super::mutant::durability_of_begin();
        self.stop_on_journal_error(self.context.run.append_record(record, durability))
    }

    async fn wait_and_claim_things(&self, things: &[Thing], limit: Option<Span>) -> Result<ThingClaim> {
        let things = self.canonicalize_things(things)?;
        wait_and_claim_things(self, &things, limit).await
    }

    async fn begin_quarantine(&self, things: &[Thing], sent_by: &Uptime, span: Option<Span>) -> Result<()> {
        #[cfg(test)]
        if super::mutant::skips_quarantine() {
            return Ok(());
        }
        let all = self.list_own_quarantines(things, sent_by, span)?;
        self.stop_on_journal_error(self.context.journal.put_under_quarantine(&all))
    }

    async fn lift_quarantines_at(&self, things: &[Thing]) -> Result<()> {
        let (journal, run) = (&self.context.journal, self.context.run.id());
        let things = self.canonicalize_things(things)?;
        let things: Vec<_> =
            things.into_iter().map(|thing| (thing.place, journal_part(&thing.part))).collect();
        self.stop_on_journal_error(journal.lift_quarantines_at(run, self.name, &things))
    }

    async fn lift_quarantines(&self) -> Result<()> {
        self.stop_on_journal_error(self.context.journal.lift_quarantines(self.context.run.id(), self.name))
    }

    async fn keep_past_values(&self, before: &[ElementValue], changed_by: &Uptime, lag: Span) -> Result<()> {
        let (journal, run) = (&self.context.journal, self.context.run.id());
        let past = |one: &ElementValue| self.to_past_value(one, changed_by.clone(), lag);
        let all = before.iter().map(past).collect::<Result<Vec<_>>>()?;
        self.stop_on_journal_error(journal.replace_past_values(run, self.name, &all))
    }

    async fn list_past_values(&self, places: &[String]) -> Result<Vec<(ElementValue, Span)>> {
        let now = self.context.fleet.clock().uptime();
        let mut known = self.stop_on_journal_error(self.context.journal.list_past_values())?;
        known.retain(|past| (past.run.as_str(), past.call.as_str()) != (self.context.run.id(), self.name));
        let mut listed = Vec::new();
        for place in places {
            let kept_as = self.canonicalize_place(place)?;
            for past in known.iter().filter(|past| past.place == kept_as) {
                let value = past.value.as_deref().map(serde_json::from_str).transpose();
                let value = value.map_err(|e| {
                    Error::new(Code::Internal, format!("what `{}` was does not read: {e}", past.element))
                })?;
                let one = ElementValue { place: place.clone(), element: past.element.clone(), value };
                listed.push((one, past.time_left(&now)));
            }
        }
        Ok(listed)
    }

    fn is_run_over(&self, run: &str) -> bool {
        match self.context.journal.summarize_run(run) {
            Ok(summary) => summary.status.is_final(),
            Err(why) => matches!(why, journal::Error::NoSuchRun { .. }),
        }
    }

    async fn offer_to_stop_looking(&self, subject: &str, until: Moment) -> Option<String> {
        let (call, op) = (self.name.to_owned(), self.op.clone());
        let question = Question::LostRequest { call, op, subject: subject.to_owned(), until };
        let answer = ask_on_own_thread(Arc::clone(&self.context.observer), question).await?;
        (answer.choice == Choice::Stop).then_some(answer.by)
    }
}

impl HostedCall<'_> {
    /// Returns the quarantines of this call at things.
    fn list_own_quarantines(
        &self,
        things: &[Thing],
        sent_by: &Uptime,
        span: Option<Span>,
    ) -> Result<Vec<Quarantine>> {
        let quarantine = |thing: Thing| Quarantine {
            part: journal_part(&thing.part),
            place: thing.place,
            run: self.context.run.id().into(),
            call: self.name.into(),
            sent_by: sent_by.clone(),
            span,
        };
        Ok(self.canonicalize_things(things)?.into_iter().map(quarantine).collect())
    }

    /// Returns a value of an element as the journal keeps what this call has changed.
    fn to_past_value(&self, one: &ElementValue, changed_by: Uptime, lag: Span) -> Result<PastValue> {
        Ok(PastValue {
            place: self.canonicalize_place(&one.place)?,
            element: one.element.clone(),
            value: one.value.as_ref().map(Value::to_string),
            run: self.context.run.id().to_owned(),
            call: self.name.to_owned(),
            changed_by,
            lag,
        })
    }

    /// Returns things as every run names them: by who the target is, not by what it is called here.
    fn canonicalize_things(&self, things: &[Thing]) -> Result<Vec<Thing>> {
        things
            .iter()
            .map(|thing| {
                Ok(Thing { place: self.canonicalize_place(&thing.place)?, part: thing.part.clone() })
            })
            .collect()
    }

    fn canonicalize_place(&self, place: &str) -> Result<String> {
        let (target, branch) = place.split_at(place.find('/').unwrap_or(place.len()));
        let identity = self.context.run.target_identity::<Identity>(target);
        let identity = identity.map_err(|e| Error::new(Code::Internal, e.to_string()))?;
        Ok(identity.map_or_else(|| place.to_owned(), |identity| format!("{}{branch}", identity.id)))
    }
}
