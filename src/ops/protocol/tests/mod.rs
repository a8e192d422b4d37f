//! The protocol on a sandbox, and on a target that does not do as it says.

mod job_ends;
mod jobs;
mod looks;
mod lost;
mod makings;
mod planning;
mod postgres;
mod recorded_jobs;
mod removals;
mod restarts;
mod sets;
mod statements;
mod taken_up;
mod unasked;

use super::{EffectFailure, EffectResult, SetEffect, SetLook, begin_or_continue_set, sending::SENDING_TIME};
use crate::{
    base::{
        clock::{Clock, Uptime, VirtualClock},
        lock::lock_unpoisoned,
        moment::{Moment, Span},
        send_deadline::current_send_deadline,
    },
    ops::{
        self,
        args::CallArgs,
        evidence::{ElementChange, ElementChanges, Evidence},
        spec::{CallContext, CallHost, ElementValue, Protocol, Thing, ThingClaim, ThingPart},
    },
    provider::{
        Code, Error, Fleet, Provider, Result, SideEffects,
        model::{CallKey, EffectKind, Progress},
        sim::{
            self, Sim,
            faults::{FaultSource, FaultySim, LANDING_BOUND, RequestOutcome, SimRequest},
        },
    },
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::{
    Arc, LazyLock, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

const SANDBOX: &str = "sandbox";

/// The key of a call, where one is as good as another.
static KEY: LazyLock<CallKey> = LazyLock::new(|| CallKey("k1".into()));

/// What a person does who is asked whether to look on: who ends the looking, if it ends.
type PersonAsked = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// A host that keeps what is recorded in memory.
#[derive(Default)]
struct MemoryHost {
    evidence: Mutex<Vec<Evidence>>,
    /// The phases that were reported.
    phases: Mutex<Vec<String>>,
    /// Until when something may have been sent, of each quarantine that was begun, and how long it lasts after that.
    quarantines: Mutex<Vec<(Uptime, Option<Span>)>>,
    /// The things that were claimed, and those of the last quarantine.
    claimed: Mutex<Vec<Thing>>,
    kept: Mutex<Vec<Thing>>,
    lifted: AtomicUsize,
    /// What elements were before, and how far looks may lag behind.
    past_values: Mutex<Vec<(ElementValue, Span)>>,
    /// Until when an earlier attempt may have sent something.
    open_since: Option<Uptime>,
    /// Whether an earlier attempt was accepted and is not known to be over.
    is_at_work: bool,
    /// Who is asked whether to look on, where somebody is there.
    person: Option<PersonAsked>,
    /// What a person was asked about, and until when.
    questions: Mutex<Vec<(String, Moment)>>,
}

#[async_trait]
impl CallHost for MemoryHost {
    fn report_progress(&self, progress: &Progress) {
        lock_unpoisoned(&self.phases).push(progress.phase.clone());
    }

    async fn record_evidence(&self, evidence: &Evidence) -> Result<()> {
        lock_unpoisoned(&self.evidence).push(evidence.clone());
        Ok(())
    }

    async fn wait_and_claim_things(&self, things: &[Thing], _: Option<Span>) -> Result<ThingClaim> {
        lock_unpoisoned(&self.claimed).extend_from_slice(things);
        let (open_since, is_at_work) = (self.open_since.clone(), self.is_at_work);
        Ok(ThingClaim { open_since, is_at_work, ..ThingClaim::default() })
    }

    async fn begin_quarantine(&self, things: &[Thing], sent_by: &Uptime, span: Option<Span>) -> Result<()> {
        *lock_unpoisoned(&self.kept) = things.to_vec();
        lock_unpoisoned(&self.quarantines).push((sent_by.clone(), span));
        Ok(())
    }

    async fn lift_quarantines_at(&self, things: &[Thing]) -> Result<()> {
        if things.is_empty() { Ok(()) } else { self.lift_quarantines().await }
    }

    async fn lift_quarantines(&self) -> Result<()> {
        self.lifted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn keep_past_values(&self, before: &[ElementValue], _: &Uptime, lag: Span) -> Result<()> {
        *lock_unpoisoned(&self.past_values) = before.iter().map(|one| (one.clone(), lag)).collect();
        Ok(())
    }

    async fn list_past_values(&self, places: &[String]) -> Result<Vec<(ElementValue, Span)>> {
        let past = lock_unpoisoned(&self.past_values);
        Ok(past.iter().filter(|(one, _)| places.contains(&one.place)).cloned().collect())
    }

    async fn offer_to_stop_looking(&self, subject: &str, until: Moment) -> Option<String> {
        lock_unpoisoned(&self.questions).push((subject.to_owned(), until));
        self.person.as_ref().and_then(|person| person())
    }
}

/// A fleet of one sandbox, which it also gives open.
fn sandbox() -> (Fleet, Arc<dyn Provider>) {
    let noon = Moment::parse("2026-11-20T12:00:00Z").expect("a moment");
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(noon));
    let sim = Sim::in_memory(SANDBOX, sim::SANDBOX, "test", Arc::clone(&clock)).expect("a world");
    let sim: Arc<dyn Provider> = Arc::new(sim);
    (Fleet::with_one_target(SANDBOX, Arc::clone(&sim), clock), sim)
}

/// Returns what a call works with: one that begins, or is taken up with what was recorded of it.
fn call_context<'a>(fleet: &'a Fleet, host: &'a dyn CallHost, recorded: Option<Evidence>) -> CallContext<'a> {
    CallContext {
        fleet,
        key: &KEY,
        run: None,
        is_taken_up: recorded.is_some(),
        recorded,
        attempts: 1,
        is_doubtful: false,
        settles_only: false,
        host,
    }
}

/// Performs an operation on the sandbox, or takes it up.
async fn perform_operation(
    cx: &CallContext<'_>,
    path: &str,
    given: Option<Value>,
    options: Value,
) -> EffectResult<Value> {
    perform_operation_on(SANDBOX, cx, path, given, options).await
}

/// Performs an operation on a target, or takes it up.
async fn perform_operation_on(
    target: &str,
    cx: &CallContext<'_>,
    path: &str,
    given: Option<Value>,
    options: Value,
) -> EffectResult<Value> {
    let op = ops::find_operation(path).expect("an operation");
    let Protocol::Effect(perform) = op.protocol else { panic!("`{path}` takes no effect") };
    perform(cx, &decode_args_on(target, path, given, options)).await
}

/// Returns the arguments of an operation on the sandbox.
fn decode_args(path: &str, given: Option<Value>, options: Value) -> CallArgs {
    decode_args_on(SANDBOX, path, given, options)
}

/// Returns the arguments of an operation on a target.
fn decode_args_on(target: &str, path: &str, given: Option<Value>, options: Value) -> CallArgs {
    let op = ops::find_operation(path).expect("an operation");
    let Value::Object(options) = options else { panic!("options have names: {options}") };
    CallArgs::decode(op, [target.into()].into_iter().chain(given).collect(), options).expect("arguments")
}

/// Takes a call of an operation up with what was recorded of it, and returns its value with the last evidence.
async fn take_call(
    fleet: &Fleet,
    path: &str,
    given: Value,
    recorded: Option<Evidence>,
) -> (EffectResult<Value>, Option<Evidence>) {
    let host = MemoryHost::default();
    let taken = perform_operation(&call_context(fleet, &host, recorded), path, Some(given), json!({})).await;
    let last = lock_unpoisoned(&host.evidence).pop();
    (taken, last)
}

/// How a switch answers; but for one, it stays as it is whatever it says, unless somebody turns it.
#[derive(Clone, Copy)]
enum Answer {
    /// It does as it is told.
    Obeyed,
    Done,
    Refused,
    Lost,
    /// The first request gets no answer, and every later one is refused.
    LostThenRefused,
    /// Something of redrill itself goes wrong.
    Broken,
}

/// The part of the sandbox that a switch is.
fn switch_thing() -> Thing {
    Thing { place: SANDBOX.into(), part: ThingPart::Named("switch".into()) }
}

/// A switch that is to be on.
struct Switch {
    is_on: AtomicBool,
    answer: Answer,
    /// After how many looks it is seen to be off, whatever they have shown before.
    off_after: Option<usize>,
    /// Which look lags behind, to when it was on before it was turned off.
    lagging_look: Option<usize>,
    looks: AtomicUsize,
    /// How often it was asked for.
    asked: AtomicUsize,
    /// Until when it may be asked for, as it was told the last time.
    send_by: Mutex<Option<Uptime>>,
}

impl Switch {
    /// Returns a switch that is off.
    fn answering(answer: Answer) -> Self {
        let (asked, looks) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (is_on, send_by) = (false.into(), Mutex::default());
        Self { is_on, answer, off_after: None, lagging_look: None, looks, asked, send_by }
    }

    fn shows(&self) -> Value {
        self.is_on.load(Ordering::Relaxed).into()
    }
}

#[async_trait]
impl SetEffect for Switch {
    fn name_effect_for_messages(&self) -> &'static str {
        "the switch"
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Tls
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![switch_thing()]
    }

    async fn plan(&self) -> Result<ElementChanges> {
        Ok([("on".to_owned(), ElementChange { before: self.shows(), wanted: true.into() })].into())
    }

    async fn look(&self, _: &ElementChanges) -> Result<SetLook> {
        let look = Some(self.looks.fetch_add(1, Ordering::Relaxed));
        if look == self.off_after {
            self.is_on.store(false, Ordering::Relaxed);
        }
        let shown = if look == self.lagging_look { true.into() } else { self.shows() };
        Ok(SetLook { elements: [("on".to_owned(), shown)].into(), unapplied: None, shown: Value::Null })
    }

    async fn send_request(&self, _: &ElementChanges) -> Result<()> {
        let earlier = self.asked.fetch_add(1, Ordering::Relaxed);
        *lock_unpoisoned(&self.send_by) = current_send_deadline();
        match self.answer {
            Answer::Done => Ok(()),
            Answer::Obeyed => {
                self.is_on.store(true, Ordering::Relaxed);
                Ok(())
            }
            Answer::Lost => Err(Error::new(Code::Unknown, "no answer")),
            Answer::Broken => Err(Error::new(Code::Internal, "`switch.json` cannot be read")),
            Answer::LostThenRefused if earlier == 0 => Err(Error::new(Code::Unknown, "no answer")),
            Answer::Refused | Answer::LostThenRefused => Err(Error::new(Code::Conflict, "it is so already")),
        }
    }

    fn result(&self, _: &ElementChanges, look: SetLook) -> Value {
        look.shown
    }
}

/// A platform on which a request may land later than its answer, and none does.
fn slow_sandbox() -> (Fleet, Arc<dyn Provider>) {
    slow_sandbox_within(LANDING_BOUND)
}

/// A platform whose requests of one name are refused.
struct Refusals(Option<&'static str>);

impl FaultSource for Refusals {
    fn choose_outcome(&self, request: &SimRequest<'_>) -> RequestOutcome {
        if self.0 == Some(request.name) { RequestOutcome::Refused } else { RequestOutcome::Served }
    }
    fn on_served(&self, _: &SimRequest<'_>) {}
    fn current_sender(&self) -> String {
        String::new()
    }
    fn on_keyless_effect(&self, _: &str, _: &str) {}
    fn on_late_effect(&self, _: &str) {}
}

/// A platform that decides the outcome of a request by those that came before it, by name.
#[derive(Clone)]
struct Fates {
    choose: fn(&[String], &str) -> RequestOutcome,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Fates {
    fn new(choose: fn(&[String], &str) -> RequestOutcome) -> Self {
        Self { choose, sent: Arc::default() }
    }

    /// Returns how many requests of a name were sent.
    fn count(&self, name: &str) -> usize {
        lock_unpoisoned(&self.sent).iter().filter(|sent| *sent == name).count()
    }
}

impl FaultSource for Fates {
    fn choose_outcome(&self, request: &SimRequest<'_>) -> RequestOutcome {
        let mut sent = lock_unpoisoned(&self.sent);
        let outcome = (self.choose)(&sent, request.name);
        sent.push(request.name.to_owned());
        outcome
    }
    fn keeps_old_worlds(&self) -> bool {
        true
    }
    fn on_served(&self, _: &SimRequest<'_>) {}
    fn current_sender(&self) -> String {
        String::new()
    }
    fn on_keyless_effect(&self, _: &str, _: &str) {}
    fn on_late_effect(&self, _: &str) {}
}

/// The same with another time in which a request may land.
fn slow_sandbox_within(bound: Span) -> (Fleet, Arc<dyn Provider>) {
    faulty_sandbox(bound, Refusals(None))
}

/// The same where something is refused.
fn faulty_sandbox(bound: Span, faults: impl FaultSource + 'static) -> (Fleet, Arc<dyn Provider>) {
    let noon = Moment::parse("2026-11-20T12:00:00Z").expect("a moment");
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(noon));
    let sim = Sim::in_memory(SANDBOX, sim::SANDBOX, "test", Arc::clone(&clock)).expect("a world");
    let sim = FaultySim::new(sim, Arc::new(faults), Arc::clone(&clock)).with_landing_bound(bound);
    let sim: Arc<dyn Provider> = Arc::new(sim);
    (Fleet::with_one_target(SANDBOX, Arc::clone(&sim), clock), sim)
}

/// Takes a change of the switch up as new on a host.
async fn take_switch(
    sandbox: &(Fleet, Arc<dyn Provider>),
    host: &MemoryHost,
    switch: &Switch,
) -> EffectResult<Value> {
    take_switch_up(sandbox, host, switch, None).await
}

/// Takes a change of the switch up on a host; one that was recorded only to settle it.
async fn take_switch_up(
    sandbox: &(Fleet, Arc<dyn Provider>),
    host: &MemoryHost,
    switch: &Switch,
    recorded: Option<Evidence>,
) -> EffectResult<Value> {
    take_switch_within(sandbox, host, switch, recorded, "10s").await
}

/// Does what [`take_switch_up`] does, within a time.
async fn take_switch_within(
    (fleet, provider): &(Fleet, Arc<dyn Provider>),
    host: &MemoryHost,
    switch: &Switch,
    recorded: Option<Evidence>,
    timeout: &str,
) -> EffectResult<Value> {
    let args = decode_args("network::ssl::set", Some(true.into()), json!({"timeout": timeout}));
    let cx = CallContext { settles_only: recorded.is_some(), ..call_context(fleet, host, recorded) };
    begin_or_continue_set(&cx, &args, &**provider, switch).await
}
