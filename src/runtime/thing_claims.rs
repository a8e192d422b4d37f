//! How a call claims things: when no other call of this process is at them, none of another process, and no request of any
//! may still land there.
//!
//! The claim is written down in the transaction that has looked for others. While a call waits for the end of a
//! quarantine or of another process's claim, it has nothing.

use super::{
    hosted_call::HostedCall,
    thing_line::{CallAhead, PlaceInLine},
};
use crate::{
    base::{
        clock::{Clock, Stopwatch, Uptime},
        moment::{Moment, Span},
        shell::quote_shell_word,
    },
    journal::{Claim, Journal, Quarantine, RunFold},
    ops::spec::{CallHost as _, Thing, ThingClaim, ThingPart},
    provider::{Code, Error, Result, model::Progress},
};
use std::{sync::Arc, thread};

/// How often a call looks whether a quarantine is over that nobody knows the end of: somebody may decide its call.
const QUARANTINE_POLL_INTERVAL: Span = Span::from_secs(2);
/// How often a call looks whether that of another process is done.
const CLAIM_POLL_INTERVAL: Span = Span::from_millis(100);

/// What the journal calls the rows of a place; no part with a name is called so.
const ROWS: &str = "its rows";

/// Claims things for a call, waiting for `limit` at most.
///
/// # Errors
/// [`Code::Timeout`] when it was not its turn in that time.
pub(super) async fn wait_and_claim_things(
    host: &HostedCall<'_>,
    things: &[Thing],
    limit: Option<Span>,
) -> Result<ThingClaim> {
    let clock = host.context.fleet.clock();
    let (since, waited) = (clock.now(), Stopwatch::start(clock.as_ref()));
    loop {
        let left = limit.map(|limit| waited.remaining_of(limit));
        let place = host.context.thing_line.join(host.name, things);
        await_turn(host, &place, since, left).await?;
        let obstacle = match claim_if_free(host, things)? {
            Ok(found) => return Ok(hold_claim(host, place, found)),
            Err(obstacle) => obstacle,
        };
        // The call that ends the quarantine may be one of this process, which needs the turn.
        drop(place);
        obstacle.restart_after_boot(host, &clock.uptime())?;
        let way_out = obstacle.describe_how_to_release(host);
        let wait = obstacle.describe_wait(clock.as_ref(), since, &way_out);
        let left = limit.map(|limit| waited.remaining_of(limit));
        if left == Some(Span::ZERO) {
            return Err(overdue_error(&wait, Some(&way_out)));
        }
        host.report_progress(&Progress::with_phase(wait));
        let pause = obstacle.pause_before_look(&clock.uptime());
        clock.sleep(left.map_or(pause, |left| left.min(pause)).max(Span::from_millis(1))).await;
    }
}

/// Waits until it is a call's turn at its things, and says which call it waits for.
async fn await_turn(
    host: &HostedCall<'_>,
    place: &PlaceInLine,
    since: Moment,
    left: Option<Span>,
) -> Result<()> {
    let tell = |ahead: &CallAhead| host.report_progress(&Progress::with_phase(ahead.describe_wait(since)));
    let turn = place.await_turn(tell);
    let Some(left) = left else {
        turn.await;
        return Ok(());
    };
    tokio::select! {
        biased;
        () = turn => Ok(()),
        () = host.context.fleet.clock().sleep(left) => match place.find_call_ahead() {
            Some(ahead) => Err(overdue_error(&ahead.describe_wait(since), None)),
            None => Ok(()),
        },
    }
}

/// What an earlier attempt of a call may still be doing at its things.
#[derive(Default)]
struct OwnTraces {
    /// Until when it may have sent a request that may still land.
    open_since: Option<Uptime>,
    /// Whether it was accepted, so that nobody knows until when it is at work.
    is_at_work: bool,
}

/// What keeps a call from its things.
enum Obstacle {
    /// A request of another call may still land there.
    Quarantine(Quarantine),
    /// A call of another process is there.
    Claim(Claim),
}

/// Claims things for a call if nothing is in its way. A call that only looks what became of it waits for no claim and
/// no quarantine, and claims nothing that others would have to wait for.
fn claim_if_free(
    host: &HostedCall<'_>,
    things: &[Thing],
) -> Result<std::result::Result<OwnTraces, Obstacle>> {
    let (context, is_settling) = (host.context, host.context.is_settling());
    let now = context.fleet.clock().uptime();
    let claim = |thing: &Thing| Claim {
        place: thing.place.clone(),
        part: journal_part(&thing.part),
        run: context.run.id().into(),
        call: host.name.into(),
    };
    let wanted: Vec<Claim> = things.iter().filter(|_| !is_settling).map(claim).collect();
    let judge = |quarantines: Vec<Quarantine>, claims: &[Claim]| {
        #[cfg(test)]
        if super::mutant::ignores_quarantine() {
            return Ok(OwnTraces::default());
        }
        let is_own = |one: &Quarantine| one.run == context.run.id() && one.call == host.name;
        let lasts = |one: &Quarantine| one.time_left(&now) != Some(Span::ZERO);
        let (own, others): (Vec<_>, Vec<_>) = quarantines.into_iter().filter(lasts).partition(is_own);
        // What another effect of the same call has left at a part of its thing is no earlier attempt of this one.
        let own = own.into_iter().filter(|one| things.iter().any(|thing| is_of_thing(one, thing))).collect();
        let is_in_the_way =
            |one: &Quarantine| things.iter().any(|thing| keeps_away(&one.place, one.part.as_deref(), thing));
        if is_settling {
            return Ok(OwnTraces::from_quarantines(own));
        }
        let is_claimed = |claim: &&Claim| {
            things.iter().any(|thing| keeps_away(&claim.place, claim.part.as_deref(), thing))
        };
        let quarantine = others.into_iter().find(is_in_the_way).map(Obstacle::Quarantine);
        match quarantine.or_else(|| claims.iter().find(is_claimed).cloned().map(Obstacle::Claim)) {
            Some(obstacle) => Err(obstacle),
            None => Ok(OwnTraces::from_quarantines(own)),
        }
    };
    host.stop_on_journal_error(context.journal.claim_unless(context.run.id(), &wanted, judge))
}

impl OwnTraces {
    fn from_quarantines(own: Vec<Quarantine>) -> Self {
        let is_at_work = own.iter().any(|one| one.span.is_none());
        let open_since = own.into_iter().map(|one| one.sent_by).max_by_key(|sent_by| sent_by.millis);
        Self { open_since, is_at_work }
    }
}

/// The claims of a call on its things, given back when this is dropped.
struct HeldClaim {
    journal: Arc<Journal>,
    run: String,
    call: String,
    _place: PlaceInLine,
}

fn hold_claim(host: &HostedCall<'_>, place: PlaceInLine, found: OwnTraces) -> ThingClaim {
    let (journal, run) = (Arc::clone(&host.context.journal), host.context.run.id().to_owned());
    let held = HeldClaim { journal, run, call: host.name.to_owned(), _place: place };
    let OwnTraces { open_since, is_at_work } = found;
    ThingClaim { hold: Some(Box::new(held)), open_since, is_at_work }
}

impl Drop for HeldClaim {
    fn drop(&mut self) {
        // A thread that panics gives nothing back, as a process that dies. What cannot be given back because the
        // journal cannot be written is over with the process.
        if !thread::panicking() {
            drop(self.journal.release_claims(&self.run, &self.call));
        }
    }
}

impl Obstacle {
    /// Counts the span of a quarantine anew where the machine was booted since.
    fn restart_after_boot(&self, host: &HostedCall<'_>, now: &Uptime) -> Result<()> {
        match self {
            Obstacle::Quarantine(one) if one.sent_by.boot != now.boot => {
                host.stop_on_journal_error(host.context.journal.restart_quarantine(one, now.clone()))
            }
            Obstacle::Quarantine(_) | Obstacle::Claim(_) => Ok(()),
        }
    }

    /// Returns how long to wait before it is looked whether it is still there.
    fn pause_before_look(&self, now: &Uptime) -> Span {
        match self {
            Obstacle::Claim(_) => CLAIM_POLL_INTERVAL,
            Obstacle::Quarantine(one) => {
                one.time_left(now).map_or(QUARANTINE_POLL_INTERVAL, |left| left.min(QUARANTINE_POLL_INTERVAL))
            }
        }
    }

    /// Says what is waited for, and since or until when.
    fn describe_wait(&self, clock: &dyn Clock, since: Moment, way_out: &str) -> String {
        match self {
            Obstacle::Claim(Claim { run, call, .. }) => {
                format!("waiting since {since}: {call} in the run {run} is at work here")
            }
            Obstacle::Quarantine(one) => {
                let Quarantine { run, call, .. } = one;
                let what = format!("a request of {call} in the run {run} may still take effect here");
                match one.time_left(&clock.uptime()) {
                    Some(left) => {
                        let until = clock.now().saturating_add(left).round_up_to_second();
                        format!("waiting until {until} at the latest: {what}")
                    }
                    None => format!("waiting until it is settled: {what}; {way_out}"),
                }
            }
        }
    }

    /// Says who can end the wait, and how. While it lasts, this run may hold the lease that another one wants to go on.
    fn describe_how_to_release(&self, host: &HostedCall<'_>) -> String {
        let (journal, own) = (&host.context.journal, host.context.run.id());
        let one = match self {
            Obstacle::Claim(Claim { run, .. }) => {
                return format!("`redrill runs show {run}` shows what it does");
            }
            Obstacle::Quarantine(one) => one,
        };
        let (run, command) = (&one.run, settling_command(one));
        let looks = format!("`redrill resume {run}` looks what became of that request");
        if run == own {
            return format!(
                "stop this run with Ctrl-C; then `{command}` ends the waiting, and stops nothing"
            );
        }
        if journal.summarize_run(run).is_ok_and(|run| run.status.is_final()) {
            return format!(
                "that run has ended; `{command}` ends the waiting, undoes what this machine has begun, and stops nothing that \
                 a platform does"
            );
        }
        match one.span {
            Some(_) => looks,
            None if is_decidable(journal, one) => format!("{looks}, and `{command}` says that it failed"),
            None => format!("stop this run with Ctrl-C; then {looks}"),
        }
    }
}

/// Returns whether a person can say what became of a call.
fn is_decidable(journal: &Journal, one: &Quarantine) -> bool {
    let records = journal.read_records(&one.run);
    records.is_ok_and(|records| {
        let (fold, _) = RunFold::fold_until_illegal(&records);
        fold.decidable_calls().any(|(name, _)| name == one.call)
    })
}

/// Returns the command by which somebody says that a call has failed, so that nothing waits for it any more.
fn settling_command(one: &Quarantine) -> String {
    format!("redrill runs decide {} {} fail --anyway", one.run, quote_shell_word(&one.call))
}

/// Returns the error of a call whose time was over before it was its turn.
fn overdue_error(wait: &str, way_out: Option<&str>) -> Error {
    let way_out = way_out.map_or_else(String::new, |way_out| format!("; {way_out}"));
    Error::new(Code::Timeout, format!("nothing was asked for, because its time was over {wait}"))
        .with_hint(format!("give it more with `timeout:`{way_out}"))
}

/// Returns what the journal calls a part; `None` for all of a place.
pub(super) fn journal_part(part: &ThingPart) -> Option<String> {
    match part {
        ThingPart::Named(name) => Some(name.clone()),
        ThingPart::Rows => Some(ROWS.to_owned()),
        ThingPart::Whole => None,
    }
}

/// Returns whether a quarantine of a call is of this very thing; or of the place where it claims rows, of which it may have changed
/// what nobody knows.
fn is_of_thing(quarantine: &Quarantine, thing: &Thing) -> bool {
    let is_same_part = thing.part == ThingPart::Rows || quarantine.part == journal_part(&thing.part);
    quarantine.place == thing.place && is_same_part
}

/// Returns whether a call that is at a part of a place, or may still change it, keeps others away from a thing: it is the same
/// part, or one of the two is all of the place.
fn keeps_away(place: &str, part: Option<&str>, thing: &Thing) -> bool {
    let same_part = match (part, &thing.part) {
        (None, _) | (_, ThingPart::Whole) => true,
        (Some(part), ThingPart::Named(wanted)) => part == wanted,
        (Some(_), ThingPart::Rows) => false,
    };
    place == thing.place && same_part
}
