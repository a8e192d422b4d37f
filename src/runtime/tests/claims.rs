//! Calls of one process, and of several, that want the same things; their time is moved by hand.

use super::*;
use crate::{
    base::{
        clock::{Clock, VirtualClock},
        moment::{Moment, Span},
    },
    config::SANDBOX,
    journal::{Journal, Quarantine},
    ops::spec::{CallHost as _, Thing, ThingClaim, ThingPart},
    provider::{Code, Fleet, Result},
    runtime::{hosted_call::HostedCall, run_context::RunSetup},
};
use futures_util::{FutureExt as _, future::BoxFuture};

/// A run whose calls claim things, on a clock that moves when all of them wait.
struct ClaimingRun {
    context: Arc<RunContext>,
    listener: Arc<Listener>,
    clock: Arc<VirtualClock>,
}

impl ClaimingRun {
    fn begin(env: &ScriptEnv, clock: &Arc<VirtualClock>) -> Self {
        let journal = Arc::new(env.runtime.open_journal().expect("a journal"));
        let run = journal.create_run(&NewRun {
            runbook: "test.rhai".into(),
            title: "t".into(),
            params: Value::Null,
            sources: vec![],
            git: None,
            version: VERSION.into(),
            leases: vec![],
        });
        let listener = Arc::new(Listener::default());
        let heard = Arc::clone(&listener) as Arc<dyn RunObserver>;
        let setup = env.runtime.prepare_run_setup(journal, run.expect("a run"), None, heard);
        let (time, target) = (Arc::clone(clock) as Arc<dyn Clock>, env.env.open_target(SANDBOX));
        let fleet = Arc::new(Fleet::with_one_target(SANDBOX, target, time));
        let context = RunContext::new(RunSetup { fleet, ..setup });
        Self { context, listener, clock: Arc::clone(clock) }
    }

    fn journal(&self) -> &Journal {
        &self.context.journal
    }

    /// Claims parts of the sandbox for a call.
    fn claim<'a>(
        &'a self,
        call: &'a str,
        parts: &'a [ThingPart],
        limit: Option<Span>,
    ) -> BoxFuture<'a, Result<ThingClaim>> {
        async move {
            let host = HostedCall { context: &self.context, name: call, op: "op".into() };
            let thing = |part: &ThingPart| Thing { place: SANDBOX.into(), part: part.clone() };
            let things: Vec<Thing> = parts.iter().map(thing).collect();
            host.wait_and_claim_things(&things, limit).await
        }
        .boxed()
    }

    /// Lets a request of another run land at a part until somebody decides about it.
    fn put_under_quarantine(&self, part: &str) {
        let quarantine = Quarantine {
            place: SANDBOX.into(),
            part: Some(part.into()),
            run: "other222".into(),
            call: "set#0".into(),
            sent_by: self.clock.uptime(),
            span: None,
        };
        self.journal().put_under_quarantine(&[quarantine]).expect("written");
    }

    fn heard(&self) -> String {
        self.listener.heard.lock().expect("heard").concat()
    }
}

fn part(name: &str) -> ThingPart {
    ThingPart::Named(name.into())
}

fn noon() -> Arc<VirtualClock> {
    Arc::new(VirtualClock::starting_at(Moment::parse("2026-11-20T12:00:00Z").expect("a moment")))
}

/// Polls a future often enough for all that can happen without anybody else.
fn poll_for_long<T>(future: &mut BoxFuture<'_, T>) -> Option<T> {
    (0..1000).find_map(|_| future.now_or_never())
}

#[test]
fn a_call_that_waits_for_one_thing_keeps_nobody_from_another() {
    let (env, clock) = (ScriptEnv::new(), noon());
    let run = ClaimingRun::begin(&env, &clock);
    run.put_under_quarantine("b");
    let (parts, whole) = ([part("a"), part("b")], [ThingPart::Whole]);
    let mut settings = run.claim("set#0", &parts, None).map(drop).boxed();
    let mut pause = run.claim("pause#0", &whole, None).map(drop).boxed();
    assert!(poll_for_long(&mut settings).is_none() && poll_for_long(&mut pause).is_none());
    run.journal().lift_endless_quarantines("other222", "set#0").expect("decided");
    let is_done = [&mut settings, &mut pause].map(|claim| poll_for_long(claim).is_some());
    let both = is_done[0] || poll_for_long(&mut settings).is_some();
    assert_eq!((both, is_done[1]), (true, true), "they wait for each other");
}

#[test]
fn who_waits_for_another_call_says_so_and_does_not_wait_longer_than_its_time() {
    let (env, clock) = (ScriptEnv::new(), noon());
    let run = ClaimingRun::begin(&env, &clock);
    let tls = [part("tls")];
    let first = poll_for_long(&mut run.claim("set#0", &tls, None)).expect("it is free").expect("claimed");
    let mut overdue = run.claim("set#1", &tls, Some(Span::from_secs(3)));
    let error = poll_for_long(&mut overdue).expect("its time is over").expect_err("nobody gave way");
    let said = "waiting since 2026-11-20T12:00:00Z: set#0 of this run is at tls";
    assert_eq!(error.code, Code::Timeout);
    assert_eq!(error.message, format!("nothing was asked for, because its time was over {said}"));
    assert!(run.heard().contains(said), "{}", run.heard());

    let mut patient = run.claim("set#2", &tls, None);
    assert!(poll_for_long(&mut patient).is_none());
    drop(first);
    poll_for_long(&mut patient).expect("nobody is in the way").expect("claimed");
}

#[test]
fn what_a_call_of_another_process_is_at_is_waited_for() {
    let (env, clock) = (ScriptEnv::new(), noon());
    let [one, other] = [(), ()].map(|()| ClaimingRun::begin(&env, &clock));
    let (tls, power) = ([part("tls")], [ThingPart::Whole]);
    let first = poll_for_long(&mut one.claim("set#0", &tls, None)).expect("it is free").expect("claimed");
    for things in [&tls, &power] {
        let mut overdue = other.claim("set#0", things, Some(Span::from_secs(3)));
        let error = poll_for_long(&mut overdue).expect("its time is over").expect_err("nobody gave way");
        let said = format!("set#0 in the run {} is at work here", one.context.run.id());
        assert!(error.code == Code::Timeout && error.message.ends_with(&said), "{error}");
    }
    let elsewhere = [part("ranges")];
    poll_for_long(&mut other.claim("set#1", &elsewhere, None)).expect("it is free").expect("claimed");
    let mut patient = other.claim("set#2", &tls, None);
    assert!(poll_for_long(&mut patient).is_none());
    drop(first);
    poll_for_long(&mut patient).expect("nobody is in the way").expect("claimed");
}

#[test]
fn a_process_that_died_before_it_asked_keeps_nobody_waiting() {
    let (env, clock) = (ScriptEnv::new(), noon());
    let [dead, other] = [(), ()].map(|()| ClaimingRun::begin(&env, &clock));
    let tls = [part("tls")];
    let claim = poll_for_long(&mut dead.claim("set#0", &tls, None)).expect("it is free").expect("claimed");
    // Nothing is given back, and the system lets go of the lock of its run.
    std::mem::forget(claim);
    drop(dead);
    poll_for_long(&mut other.claim("set#0", &tls, None)).expect("it is free").expect("claimed");
}
