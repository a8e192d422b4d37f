//! The host of a call, as its operation sees it: what is recorded of it, and the things that it claims.
//!
//! Two calls at one thing are made one after the other: those of this process by a lock, those of which a request may
//! still land by their quarantine.

use super::{events::Event, run_context::RunContext, stop::StopReason};
use crate::{
    base::{clock::Uptime, lock::lock_unpoisoned, moment::Span},
    journal::{self, Quarantine, Record},
    ops::spec::{CallHost, Evidence, ThingClaim},
    provider::{
        Code, Error, Result,
        model::{Identity, Progress},
    },
};
use async_trait::async_trait;
use serde_json::json;
use std::sync::Arc;

/// How often a call looks whether a quarantine is over that nobody knows the end of: somebody may decide its call.
const QUARANTINE_POLL_INTERVAL: Span = Span::from_secs(2);

/// A call on its way, and what it was asked as.
pub(super) struct HostedCall<'a> {
    pub(super) context: &'a RunContext,
    pub(super) name: &'a str,
    pub(super) op: String,
}

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
        let durability = journal::Durability::Synced;
        #[cfg(test)]
        let durability = super::mutant::begin_durability();
        self.stop_on_failure(self.context.run.append_record(record, durability))
    }

    async fn claim_things(&self, things: &[String]) -> Result<ThingClaim> {
        let mut things = self.name_things(things)?;
        // In one order for all, so that no two calls wait for each other.
        things.sort();
        things.dedup();
        let mut claim = ThingClaim::new();
        for thing in things {
            let lock =
                Arc::clone(lock_unpoisoned(&self.context.thing_locks).entry(thing.clone()).or_default());
            claim.push(lock.lock_owned().await);
            self.await_quarantine(&thing).await?;
        }
        Ok(claim)
    }

    async fn begin_quarantine(&self, things: &[String], sent_by: &Uptime, span: Option<Span>) -> Result<()> {
        #[cfg(test)]
        if super::mutant::skips_quarantine() {
            return Ok(());
        }
        let (run, call) = (self.context.run.id(), self.name);
        let quarantine =
            |thing| Quarantine { thing, run: run.into(), call: call.into(), sent_by: sent_by.clone(), span };
        let all: Vec<Quarantine> = self.name_things(things)?.into_iter().map(quarantine).collect();
        self.stop_on_failure(self.context.journal.put_under_quarantine(&all))
    }

    async fn lift_quarantines(&self) -> Result<()> {
        self.stop_on_failure(self.context.journal.lift_quarantines(self.context.run.id(), self.name))
    }
}

impl HostedCall<'_> {
    /// Waits until no request of another call can land at a thing any more.
    async fn await_quarantine(&self, thing: &str) -> Result<()> {
        #[cfg(test)]
        if super::mutant::ignores_quarantine() {
            return Ok(());
        }
        let journal = &self.context.journal;
        let clock = self.context.fleet.clock();
        loop {
            let all =
                self.stop_on_failure(journal.list_quarantines(thing, self.context.run.id(), self.name))?;
            let now = clock.uptime();
            let Some(one) = all.iter().find(|one| one.time_left(&now) != Some(Span::ZERO)) else {
                return Ok(());
            };
            if one.sent_by.boot != now.boot {
                self.stop_on_failure(journal.restart_quarantine(one, now.clone()))?;
            }
            let left = one.time_left(&now);
            let until = left.map_or_else(
                || "until it is decided".to_owned(),
                |left| format!("until {}", clock.now().saturating_add(left)),
            );
            let phase = format!(
                "waiting {until}: a request of {} in the run {} may still land here",
                one.call, one.run
            );
            self.report_progress(&Progress::with_phase(phase));
            clock.sleep(left.unwrap_or(QUARANTINE_POLL_INTERVAL).max(Span::from_millis(1))).await;
        }
    }

    /// Returns the things of this call as every run names them: by who the target is, not by what it is called here.
    fn name_things(&self, things: &[String]) -> Result<Vec<String>> {
        things.iter().map(|thing| self.name_thing(thing)).collect()
    }

    fn name_thing(&self, thing: &str) -> Result<String> {
        let end = thing.find(['/', ' ']).unwrap_or(thing.len());
        let (target, part) = thing.split_at(end);
        let identity = self.context.run.target_identity::<Identity>(target);
        let identity = identity.map_err(|e| Error::new(Code::Internal, e.to_string()))?;
        Ok(identity.map_or_else(|| thing.to_owned(), |identity| format!("{}{part}", identity.id)))
    }

    /// Stops the run when the journal failed.
    fn stop_on_failure<T>(&self, result: std::result::Result<T, journal::Error>) -> Result<T> {
        result.map_err(|e| {
            let message = format!("the journal cannot be written: {e}");
            drop(self.context.stopper.stop_run(StopReason::Journal(e)));
            Error::new(Code::Internal, message)
        })
    }
}
