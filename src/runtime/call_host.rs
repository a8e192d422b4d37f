//! The host of a call, as its operation sees it: what is recorded of it, and the things that it claims.
//!
//! Two calls at one thing are made one after the other: those of this process by a lock, those of which a request may
//! still land by their quarantine.

use super::{
    decision::ask_on_own_thread,
    events::Event,
    observer::{Choice, Question},
    run_context::RunContext,
    stop::StopReason,
};
use crate::{
    base::{
        clock::{Stopwatch, Uptime},
        lock::lock_unpoisoned,
        moment::{Moment, Span},
        shell::quote_shell_word,
    },
    journal::{self, Quarantine, Record},
    ops::spec::{CallHost, Evidence, Thing, ThingClaim, ThingLock, ThingPart},
    provider::{
        Code, Error, Result,
        model::{Identity, Progress},
    },
};
use async_trait::async_trait;
use serde_json::json;
use std::{fmt, sync::Arc};

/// How often a call looks whether a quarantine is over that nobody knows the end of: somebody may decide its call.
const QUARANTINE_POLL_INTERVAL: Span = Span::from_secs(2);

/// What a quarantine calls the rows of a place; no part with a name is called so.
const ROWS: &str = "its rows";

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
        let durability = super::mutant::durability_of_begin();
        self.stop_on_journal_error(self.context.run.append_record(record, durability))
    }

    async fn claim_things(&self, things: &[Thing], limit: Option<Span>) -> Result<ThingClaim> {
        let mut things = self.canonicalize_things(things)?;
        // In one order for all, so that no two calls wait for each other.
        things.sort();
        things.dedup();
        let clock = self.context.fleet.clock();
        let waited = Stopwatch::start(clock.as_ref());
        let mut claim = ThingClaim::default();
        for thing in &things {
            let own = loop {
                let locks = self.lock_thing(thing).await;
                match self.check_thing_access(thing, limit.map(|limit| waited.left_of(limit)))? {
                    ThingAccess::Free { open_since, is_at_work } => {
                        claim.is_at_work |= is_at_work;
                        claim.locks.extend(locks);
                        break open_since;
                    }
                    ThingAccess::Kept { look_again_in } => {
                        // The call that ends the quarantine may be one of this process, which needs the lock.
                        drop(locks);
                        clock.sleep(look_again_in).await;
                    }
                }
            };
            claim.open_since = claim.open_since.into_iter().chain(own).max_by_key(|sent_by| sent_by.millis);
        }
        Ok(claim)
    }

    async fn begin_quarantine(&self, things: &[Thing], sent_by: &Uptime, span: Option<Span>) -> Result<()> {
        #[cfg(test)]
        if super::mutant::skips_quarantine() {
            return Ok(());
        }
        let all = self.list_own_quarantines(things, sent_by, span)?;
        self.stop_on_journal_error(self.context.journal.put_under_quarantine(&all))
    }

    async fn narrow_quarantines(&self, things: &[Thing], sent_by: &Uptime, span: Option<Span>) -> Result<()> {
        #[cfg(test)]
        if super::mutant::skips_quarantine() {
            return Ok(());
        }
        let kept = self.list_own_quarantines(things, sent_by, span)?;
        let run = self.context.run.id();
        self.stop_on_journal_error(self.context.journal.narrow_quarantines(run, self.name, &kept))
    }

    async fn lift_quarantines(&self) -> Result<()> {
        self.stop_on_journal_error(self.context.journal.lift_quarantines(self.context.run.id(), self.name))
    }

    async fn offer_to_stop_looking(&self, subject: &str, until: Moment) -> Option<String> {
        let (call, op) = (self.name.to_owned(), self.op.clone());
        let question = Question::LostRequest { call, op, subject: subject.to_owned(), until };
        let answer = ask_on_own_thread(Arc::clone(&self.context.observer), question).await?;
        (answer.choice == Choice::Stop).then_some(answer.by)
    }
}

impl HostedCall<'_> {
    /// Locks a thing against other calls of this process: its place, which others may share unless it is all of it, and its
    /// part.
    async fn lock_thing(&self, thing: &Thing) -> Vec<ThingLock> {
        let lock =
            |name: String| Arc::clone(lock_unpoisoned(&self.context.thing_locks).entry(name).or_default());
        let place = lock(thing.place.clone());
        match &thing.part {
            ThingPart::Whole => vec![ThingLock::Exclusive(place.write_owned().await)],
            ThingPart::Rows => vec![ThingLock::Shared(place.read_owned().await)],
            ThingPart::Named(part) => {
                let place = ThingLock::Shared(place.read_owned().await);
                let part = lock(format!("{}\t{part}", thing.place)).write_owned().await;
                vec![place, ThingLock::Exclusive(part)]
            }
        }
    }

    /// Looks whether a request of another call can still land at a thing. [`Code::Timeout`] when nothing is left of the time
    /// in which this call may wait for that.
    fn check_thing_access(&self, thing: &Thing, left_for_us: Option<Span>) -> Result<ThingAccess> {
        #[cfg(test)]
        if super::mutant::ignores_quarantine() {
            return Ok(ThingAccess::Free { open_since: None, is_at_work: false });
        }
        let journal = &self.context.journal;
        let clock = self.context.fleet.clock();
        let now = clock.uptime();
        let mut all = self.stop_on_journal_error(journal.list_quarantines())?;
        let is_own = |one: &&Quarantine| one.run == self.context.run.id() && one.call == self.name;
        all.retain(|one| {
            let is_here = is_in_the_way(one, thing) || is_own(&one) && is_of_rows(one, thing);
            is_here && one.time_left(&now) != Some(Span::ZERO)
        });
        // Who only looks what became of a call waits for nobody.
        let Some(one) = all.iter().find(|one| !is_own(one) && !self.context.is_settling()) else {
            all.retain(|one| is_own(&one));
            let is_at_work = all.iter().any(|one| one.span.is_none());
            let open_since = all.into_iter().map(|one| one.sent_by).max_by_key(|sent_by| sent_by.millis);
            return Ok(ThingAccess::Free { open_since, is_at_work });
        };
        if one.sent_by.boot != now.boot {
            self.stop_on_journal_error(journal.restart_quarantine(one, now.clone()))?;
        }
        let left = one.time_left(&now);
        let waits = WaitedQuarantine { one, until: left.map(|left| clock.now().saturating_add(left)) };
        if left_for_us == Some(Span::ZERO) {
            let has_ended = journal.summarize_run(&one.run).is_ok_and(|run| run.status.is_final());
            return Err(waits.timeout_error(has_ended));
        }
        self.report_progress(&Progress::with_phase(waits.to_string()));
        let pause = [left, left_for_us].into_iter().flatten().chain([QUARANTINE_POLL_INTERVAL]).min();
        let look_again_in = pause.unwrap_or(QUARANTINE_POLL_INTERVAL).max(Span::from_millis(1));
        Ok(ThingAccess::Kept { look_again_in })
    }

    /// Returns the quarantines of this call at things.
    fn list_own_quarantines(
        &self,
        things: &[Thing],
        sent_by: &Uptime,
        span: Option<Span>,
    ) -> Result<Vec<Quarantine>> {
        let quarantine = |thing: Thing| Quarantine {
            place: thing.place,
            part: match thing.part {
                ThingPart::Named(name) => Some(name),
                ThingPart::Rows => Some(ROWS.to_owned()),
                ThingPart::Whole => None,
            },
            run: self.context.run.id().into(),
            call: self.name.into(),
            sent_by: sent_by.clone(),
            span,
        };
        Ok(self.canonicalize_things(things)?.into_iter().map(quarantine).collect())
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

    /// Stops the run when the journal failed.
    fn stop_on_journal_error<T>(&self, result: std::result::Result<T, journal::Error>) -> Result<T> {
        result.map_err(|e| {
            let message = format!("the journal cannot be written: {e}");
            drop(self.context.stopper.stop_run(StopReason::Journal(e)));
            Error::new(Code::Internal, message)
        })
    }
}

/// Whether a call may be at a thing now.
enum ThingAccess {
    /// It may; an earlier attempt of it may have sent a request until `open_since` that may still land, or is at work.
    Free { open_since: Option<Uptime>, is_at_work: bool },
    /// A request of another call may still land there.
    Kept { look_again_in: Span },
}

/// Returns whether a quarantine keeps calls at a thing waiting: it is of the same part, or one of the two is all of the place.
fn is_in_the_way(quarantine: &Quarantine, thing: &Thing) -> bool {
    let same_part = match (&quarantine.part, &thing.part) {
        (None, _) | (_, ThingPart::Whole) => true,
        (Some(part), ThingPart::Named(wanted)) => part == wanted,
        (Some(_), ThingPart::Rows) => false,
    };
    quarantine.place == thing.place && same_part
}

/// Returns whether a quarantine is of the rows of a thing's place, as the thing is: it keeps nobody waiting there.
fn is_of_rows(quarantine: &Quarantine, thing: &Thing) -> bool {
    let are_rows = thing.part == ThingPart::Rows && quarantine.part.as_deref() == Some(ROWS);
    are_rows && quarantine.place == thing.place
}

/// A quarantine that a call waits for.
struct WaitedQuarantine<'a> {
    one: &'a Quarantine,
    /// When it ends; `None` where only a decision ends it.
    until: Option<Moment>,
}

impl WaitedQuarantine<'_> {
    /// Returns the error of a call whose time was over before it was its turn.
    fn timeout_error(&self, has_ended: bool) -> Error {
        let Quarantine { run, call, .. } = self.one;
        let way_out = if has_ended {
            let call = quote_shell_word(call);
            format!(
                "that run has ended; `redrill runs decide {run} {call} fail --anyway` ends the waiting, and stops nothing"
            )
        } else {
            format!("`redrill resume {run}` looks what became of that request")
        };
        Error::new(Code::Timeout, format!("nothing was asked for, because its time was over {self}"))
            .with_hint(format!("give it more with `timeout:`; {way_out}"))
    }
}

impl fmt::Display for WaitedQuarantine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("waiting ")?;
        match self.until {
            Some(until) => write!(f, "until {} at the latest", until.round_up_to_second())?,
            None => f.write_str("until it is decided")?,
        }
        write!(f, ": a request of {} in the run {} may still take effect here", self.one.call, self.one.run)
    }
}
