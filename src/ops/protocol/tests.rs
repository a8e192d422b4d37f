//! The protocol on a sandbox, and on a target that does not do as it says.

use super::{EffectFailure, EffectResult, SetEffect, SetLook, take_set};
use crate::{
    base::{
        clock::{Clock, Uptime, VirtualClock},
        lock::lock_unpoisoned,
        moment::{Moment, Span},
    },
    ops::{
        self,
        args::CallArgs,
        evidence::{ElementChange, ElementChanges, Evidence},
        spec::{CallContext, CallHost, Protocol, ThingClaim},
    },
    provider::{
        Code, Fleet, Provider, Result, SideEffects,
        model::{CallKey, EffectKind, Progress},
        sim::{self, Sim},
    },
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex};

const SANDBOX: &str = "sandbox";

/// A host that keeps what is recorded in memory.
#[derive(Default)]
struct MemoryHost(Mutex<Vec<Evidence>>);

#[async_trait]
impl CallHost for MemoryHost {
    fn report_progress(&self, _: &Progress) {}

    async fn record_evidence(&self, evidence: &Evidence) -> Result<()> {
        lock_unpoisoned(&self.0).push(evidence.clone());
        Ok(())
    }

    async fn claim_things(&self, _: &[String]) -> Result<ThingClaim> {
        Ok(ThingClaim::new())
    }

    async fn begin_quarantine(&self, _: &[String], _: &Uptime, _: Option<Span>) -> Result<()> {
        Ok(())
    }

    async fn lift_quarantines(&self) -> Result<()> {
        Ok(())
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

/// Takes a call of an operation up with what was recorded of it, and returns its value with the last evidence.
async fn take_call(
    fleet: &Fleet,
    path: &str,
    given: Value,
    recorded: Option<Evidence>,
) -> (EffectResult<Value>, Option<Evidence>) {
    let op = ops::find_operation(path).expect("an operation");
    let args = CallArgs::decode(op, vec![SANDBOX.into(), given], Map::new()).expect("arguments");
    let (host, key) = (MemoryHost::default(), CallKey("k1".into()));
    let is_taken_up = recorded.is_some();
    let cx =
        CallContext { fleet, key: &key, run: None, recorded, is_taken_up, settles_only: false, host: &host };
    let Protocol::Effect(perform) = op.protocol else { panic!("`{path}` takes no effect") };
    let taken = perform(&cx, &args).await;
    let last = lock_unpoisoned(&host.0).pop();
    (taken, last)
}

#[tokio::test]
async fn what_a_colleague_changes_beside_it_is_not_looked_at_and_stays() {
    let (fleet, sim) = sandbox();
    let ours = json!("203.0.113.0/24");
    let (done, evidence) = take_call(&fleet, "network::restrictions::add", ours.clone(), None).await;
    done.expect("it is added");
    let theirs = json!("198.51.100.0/24");
    take_call(&fleet, "network::restrictions::add", theirs, None).await.0.expect("it is added");
    let (again, _) = take_call(&fleet, "network::restrictions::add", ours, evidence).await;
    again.expect("it is as wanted, whatever else is");
    let ranges = sim.network().expect("it has one").allowed().await.expect("a list").ranges;
    for net in ["203.0.113.0/24", "198.51.100.0/24"] {
        assert!(ranges.iter().any(|range| range.cidr.to_string() == net), "{net}: {ranges:?}");
    }
}

#[tokio::test]
async fn an_element_with_a_third_value_is_nobodys_guess() {
    let (fleet, _) = sandbox();
    let ours = json!({"work_mem": "8MB"});
    let (done, evidence) = take_call(&fleet, "db::config::set", ours.clone(), None).await;
    done.expect("it is set");
    take_call(&fleet, "db::config::set", json!({"work_mem": "9MB"}), None).await.0.expect("it is set");
    let (taken, _) = take_call(&fleet, "db::config::set", ours, evidence).await;
    let Err(EffectFailure::Undecided(why)) = taken else {
        panic!("somebody was there in between: {taken:?}")
    };
    assert!(why.contains("wanted \"8MB\", found \"9MB\""), "{why}");
}

#[tokio::test]
async fn evidence_of_another_shape_is_not_acted_on() {
    let (fleet, sim) = sandbox();
    let backup = sim.backups().expect("it has them").list().await.expect("a list").remove(0).id;
    let sent_by = fleet.clock().uptime();
    for odd in [
        Evidence::Remove { gone: json!({"id": backup, "also": []}), sent_by: sent_by.clone() },
        Evidence::Make { before: Value::Null, sent_by },
    ] {
        let (taken, _) = take_call(&fleet, "backup::delete", backup.clone().into(), Some(odd)).await;
        assert!(matches!(taken, Err(EffectFailure::Unreadable(_))), "{taken:?}");
    }
    assert!(sim.backups().expect("it has them").get(&backup).await.is_ok(), "it is still there");
}

/// A switch that answers and stays as it is.
struct StuckSwitch;

#[async_trait]
impl SetEffect for StuckSwitch {
    fn subject(&self) -> &'static str {
        "the switch"
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Tls
    }

    fn things(&self) -> Vec<String> {
        Vec::new()
    }

    async fn plan(&self) -> Result<ElementChanges> {
        Ok([("on".to_owned(), ElementChange { before: false.into(), wanted: true.into() })].into())
    }

    async fn look(&self, _: &ElementChanges) -> Result<SetLook> {
        Ok(SetLook {
            elements: [("on".to_owned(), false.into())].into(),
            unapplied: None,
            shown: Value::Null,
        })
    }

    async fn ask(&self, _: &ElementChanges) -> Result<()> {
        Ok(())
    }

    fn result(&self, _: &ElementChanges, look: SetLook) -> Value {
        look.shown
    }
}

#[tokio::test]
async fn an_answer_that_the_target_does_not_bear_out_is_no_success() {
    let (fleet, sim) = sandbox();
    let op = ops::find_operation("network::ssl::set").expect("an operation");
    let args = CallArgs::decode(op, vec![SANDBOX.into(), true.into()], Map::new()).expect("arguments");
    let (host, key) = (MemoryHost::default(), CallKey("k1".into()));
    let cx = CallContext {
        fleet: &fleet,
        key: &key,
        run: None,
        recorded: None,
        is_taken_up: false,
        settles_only: false,
        host: &host,
    };
    let Err(EffectFailure::Failed(error)) = take_set(&cx, &args, &*sim, &StuckSwitch).await else {
        panic!("it is not on")
    };
    assert_eq!(
        (error.code, error.side_effects, error.retryable),
        (Code::NotApplied, SideEffects::Some, false)
    );
    assert!(error.message.contains("on before false, wanted true, found false"), "{error}");
}
