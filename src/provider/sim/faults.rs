//! A simulated target whose requests can fail: a fault source decides the outcome of each.
//!
//! The world itself knows nothing of faults: a request that is turned away never reaches it, and one whose
//! answer is lost has taken effect in it. One that lands late waits, with copies of its arguments, until its time has come:
//! the next request executes it, whoever sends that.

use super::{
    colleague::ColleagueTurn,
    late::{LateEffects, LateRequest},
    target::Sim,
};
use crate::{
    base::{
        clock::Clock,
        moment::{Moment, Span},
    },
    provider::{Code, Error, Result, model::CallKey},
};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// How long a read waits for an answer that never comes.
const READ_TIMEOUT: Span = Span::from_secs(30);

/// The bound within which a request lands: none of a simulated platform takes effect later than this after it was sent.
pub const LANDING_BOUND: Span = Span::from_secs(60);

/// What a request does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// It reads.
    Read,
    /// It creates or changes something: sent twice, a platform without keys does it twice.
    Change,
    /// It removes something by its own id: sent twice, the effect is the same.
    Remove,
}

/// A request on its way to the world.
#[derive(Debug)]
pub struct SimRequest<'a> {
    /// Its name: `restore`, `observe`.
    pub name: &'static str,
    /// What it would do.
    pub kind: RequestKind,
    /// The key of the call, where it is sent.
    pub key: Option<&'a CallKey>,
    /// Whether the world has done already what this key asks for, or a request with this key is still to land.
    pub is_done: bool,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// It is served.
    Served,
    /// It is turned away: not allowed.
    Refused,
    /// It is turned away: too many.
    Throttled,
    /// It is answered with an error of the server, which did nothing.
    Failed,
    /// It is served, and the answer comes this much later.
    Late(Span),
    /// It never arrives, and no answer comes.
    Lost,
    /// It is served, and no answer comes.
    Unanswered,
    /// No answer comes, and it takes effect this much after it was sent: over everything that was served in between.
    LandsLate(Span),
    /// It is held back in its sender for this long (throttled, or the machine sleeps), and only then sent: no answer
    /// comes, and it lands as late as any request can.
    SentLate(Span),
    /// It is answered as if it were done, and takes effect this much after it was sent.
    AnsweredEarly(Span),
    /// It is served, and for this long reads of its target are answered from the world before it.
    StaleReads(Span),
    /// It is answered from the world as it was before so many of the last changes, as far as a read lags behind at most.
    LagsBehind(usize),
    /// It is answered as if all of it were done, and only a part is.
    PartlyDone,
    /// It is served, and somebody else changes another element of the same list right before or right after it.
    BesideColleague(ColleagueTurn),
}

impl RequestOutcome {
    /// Returns whether a request can have this outcome.
    ///
    /// Only what takes several things at once is done in part. A statement can land late: its commit was sent, and the
    /// connection broke. A database says of none that it is committed before it is, and shows everybody what is. Of a
    /// request past the catalogue, or a statement outside a transaction, the answer is all that anybody can know. None of these
    /// is held back in its sender: they are sent once, on a connection that is there. What lags behind are the platform's own
    /// lists, each read for itself; the database does not. A colleague works beside what changes a list or settings.
    pub fn fits_request(self, name: &str, kind: RequestKind) -> bool {
        let is_statement = ["execute", "alone"].contains(&name);
        match self {
            Self::Unanswered | Self::LandsLate(_) => kind != RequestKind::Read,
            Self::AnsweredEarly(_) | Self::SentLate(_) => {
                kind != RequestKind::Read && !is_statement && name != "ask"
            }
            Self::StaleReads(_) => kind != RequestKind::Read && !is_statement,
            Self::LagsBehind(_) => kind == RequestKind::Read && LAGGING_READS.contains(&name),
            Self::PartlyDone => ["set", "allow", "unban"].contains(&name),
            Self::BesideColleague(_) => ["set", "allow"].contains(&name),
            _ => true,
        }
    }
}

/// The reads that a platform may answer from an old world.
const LAGGING_READS: &[&str] = &["list", "get", "find", "observe", "plan", "allowed", "bans", "ssl"];

/// A source of faults: decides the outcome of every request.
pub trait FaultSource: Send + Sync {
    /// Decides the outcome of a request. One that does not fit the request is as good as served.
    fn choose_outcome(&self, request: &SimRequest<'_>) -> RequestOutcome;
    /// Returns whether reads may lag behind, so that old worlds are kept.
    fn keeps_old_worlds(&self) -> bool {
        false
    }
    /// Learns that the world has served a request, before anybody else does.
    fn on_served(&self, request: &SimRequest<'_>);
    /// Returns who is sending now, to be told of what comes of it.
    fn current_sender(&self) -> String;
    /// Learns that a request of this name and without a key has changed the world, whenever that was.
    fn on_keyless_effect(&self, sender: &str, name: &str);
    /// Learns that a request has changed the world only when it landed late.
    fn on_late_effect(&self, sender: &str);
}

/// A simulated target, or a branch of one, whose requests can fail.
#[derive(Clone)]
pub struct FaultySim {
    pub(super) sim: Sim,
    faults: Arc<dyn FaultSource>,
    clock: Arc<dyn Clock>,
    late: Arc<LateEffects>,
    /// How long after it was sent a request may land.
    pub(super) landing_bound: Span,
}

/// A request that writes, in all the forms that its outcomes need.
pub(super) struct WriteRequest<W, P, R> {
    /// All of it, now.
    pub(super) whole: W,
    /// A part of it, now.
    pub(super) part: P,
    /// All of it, in any world and at any time.
    pub(super) repeat: R,
}

impl FaultySim {
    /// Wraps a target; late answers and timeouts sleep on `clock`.
    pub fn new(sim: Sim, faults: Arc<dyn FaultSource>, clock: Arc<dyn Clock>) -> Self {
        Self { sim, faults, clock, late: Arc::default(), landing_bound: LANDING_BOUND }
    }

    /// Returns the same target on a platform with another bound, for requests that really land within it.
    #[cfg(test)]
    #[must_use]
    pub fn with_landing_bound(self, landing_bound: Span) -> Self {
        Self { landing_bound, ..self }
    }

    /// Returns the same platform with another of its databases.
    pub(super) fn for_other_database(&self, sim: Sim) -> Self {
        Self { sim, ..self.clone() }
    }

    /// Returns whether any request was sent that has not landed yet.
    pub fn has_pending_requests(&self) -> bool {
        self.late.has_unlanded_requests()
    }

    /// Executes the requests whose time to land has come.
    ///
    /// # Errors
    /// Whatever the world's file says.
    pub async fn land_due(&self) -> Result<()> {
        while let Some(landing) = self.late.take_due_request(&self.sim)? {
            let ((), has_changed) = self.change_world(landing.sent, landing.effect).await?;
            if !has_changed {
                continue;
            }
            self.faults.on_late_effect(&landing.sender);
            if landing.key.is_none() {
                self.faults.on_keyless_effect(&landing.sender, landing.name);
            }
        }
        Ok(())
    }

    /// Makes a change that was sent at a moment, and returns what it gave and whether the world is another one now.
    /// Where reads may lag behind, the world before a change is kept for them.
    async fn change_world<T>(&self, sent: Moment, change: impl Future<Output = T>) -> Result<(T, bool)> {
        let before = if self.faults.keeps_old_worlds() { Some(self.sim.copy_world()?) } else { None };
        let effects = self.sim.count_effects()?;
        let done = change.await;
        let has_changed = self.sim.count_effects()? != effects;
        if let Some(before) = before.filter(|_| has_changed) {
            self.late.keep_old_world(before, sent);
        }
        Ok((done, has_changed))
    }

    /// Sends a request that reads: `read` gets the world from which it is answered.
    pub(super) async fn send_read<T>(
        &self,
        name: &'static str,
        read: impl AsyncFnOnce(&Sim) -> Result<T>,
    ) -> Result<T> {
        self.land_due().await?;
        let request = SimRequest { name, kind: RequestKind::Read, key: None, is_done: false };
        let outcome = self.choose_outcome(&request);
        let old = match outcome {
            RequestOutcome::LagsBehind(changes) => {
                self.late.find_old_view(&self.sim, changes, self.landing_bound)?
            }
            _ => self.late.find_stale_view(&self.sim)?,
        };
        self.answer_request(&request, outcome, read(old.as_ref().unwrap_or(&self.sim))).await
    }

    /// Sends a request that writes; the world is asked first whether it has done already what `key` asks for.
    pub(super) async fn send_write<T>(
        &self,
        (name, kind): (&'static str, RequestKind),
        key: Option<&CallKey>,
        write: WriteRequest<
            impl Future<Output = Result<T>>,
            impl Future<Output = Result<T>>,
            impl Fn(Sim) -> BoxFuture<'static, Result<T>> + Send + 'static,
        >,
    ) -> Result<T> {
        self.land_due().await?;
        let is_in_world = key.map(|key| self.sim.has_effect(key)).transpose()?.unwrap_or(false);
        let is_done = is_in_world || key.is_some_and(|key| self.late.has_in_flight(key));
        let request = SimRequest { name, kind, key, is_done };
        match self.choose_outcome(&request) {
            RequestOutcome::LandsLate(span) => {
                self.schedule_late_landing(&request, span, write.repeat)?;
                self.withhold_answer(&request).await
            }
            RequestOutcome::SentLate(held_back) => {
                self.clock.sleep(held_back).await;
                self.land_due().await?;
                self.schedule_late_landing(&request, self.landing_bound, write.repeat)?;
                self.withhold_answer(&request).await
            }
            RequestOutcome::AnsweredEarly(span) => {
                let answer = (write.repeat)(self.sim.copy_world()?).await?;
                self.schedule_late_landing(&request, span, write.repeat)?;
                Ok(answer)
            }
            RequestOutcome::StaleReads(span) => {
                let until = self.sim.world_time()?.saturating_add(span.min(self.landing_bound));
                self.late.serve_stale_until(&self.sim, until)?;
                self.answer_request(&request, RequestOutcome::Served, write.whole).await
            }
            RequestOutcome::BesideColleague(turn) => {
                if turn == ColleagueTurn::Before {
                    self.sim.change_as_colleague(name)?;
                }
                let answer = self.answer_request(&request, RequestOutcome::Served, write.whole).await;
                if turn == ColleagueTurn::After {
                    self.sim.change_as_colleague(name)?;
                }
                answer
            }
            RequestOutcome::PartlyDone => {
                self.answer_request(&request, RequestOutcome::Served, write.part).await
            }
            outcome => self.answer_request(&request, outcome, write.whole).await,
        }
    }

    fn choose_outcome(&self, request: &SimRequest<'_>) -> RequestOutcome {
        let outcome = self.faults.choose_outcome(request);
        let fits = outcome.fits_request(request.name, request.kind);
        if fits { outcome } else { RequestOutcome::Served }
    }

    /// Lets a request take effect later. What the platform refuses by then is not done, and nobody is told.
    fn schedule_late_landing<T>(
        &self,
        request: &SimRequest<'_>,
        span: Span,
        repeat: impl Fn(Sim) -> BoxFuture<'static, Result<T>> + Send + 'static,
    ) -> Result<()> {
        let sent = self.sim.world_time()?;
        let due = sent.saturating_add(span.min(self.landing_bound));
        let (key, sender, sim) = (request.key.cloned(), self.faults.current_sender(), self.sim.clone());
        let effect = Box::pin(async move { drop(repeat(sim).await) });
        self.late.add_late_request(LateRequest { name: request.name, sent, due, key, sender, effect });
        Ok(())
    }

    /// Answers a request as one of the outcomes that are over at once.
    async fn answer_request<T>(
        &self,
        request: &SimRequest<'_>,
        outcome: RequestOutcome,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let name = request.name;
        let turned_away = |code, why: &str| Err(Error::new(code, format!("`{name}` was turned away: {why}")));
        match outcome {
            RequestOutcome::Refused => return turned_away(Code::Denied, "not allowed"),
            RequestOutcome::Throttled => return turned_away(Code::Throttled, "too many requests"),
            RequestOutcome::Failed => {
                return turned_away(Code::Unavailable, "the server has an error of its own");
            }
            RequestOutcome::Lost => return self.withhold_answer(request).await,
            _ => {}
        }
        let answer = self.serve_request(request, answer).await?;
        match outcome {
            RequestOutcome::Unanswered => return self.withhold_answer(request).await,
            RequestOutcome::Late(span) => self.clock.sleep(span).await,
            _ => {}
        }
        Ok(answer)
    }

    /// Lets the world serve a request, and tells the fault source of it.
    async fn serve_request<T>(
        &self,
        request: &SimRequest<'_>,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if request.kind == RequestKind::Read {
            let answer = answer.await?;
            self.faults.on_served(request);
            return Ok(answer);
        }
        let (answer, has_changed) = self.change_world(self.sim.world_time()?, answer).await?;
        let answer = answer?;
        if has_changed && request.key.is_none() {
            self.faults.on_keyless_effect(&self.faults.current_sender(), request.name);
        }
        self.faults.on_served(request);
        Ok(answer)
    }

    /// Waits, then fails: a read times out and has changed nothing; the effect of anything else is unknown.
    async fn withhold_answer<T>(&self, request: &SimRequest<'_>) -> Result<T> {
        let message = format!("`{}` was sent, and no answer came", request.name);
        self.clock.sleep(READ_TIMEOUT).await;
        Err(match request.kind {
            RequestKind::Read => Error::new(Code::Timeout, message),
            RequestKind::Change | RequestKind::Remove => Error::new(Code::Unknown, message),
        })
    }
}
