//! Read replicas of a simulated target.

use super::{
    target::Sim,
    world::{WorldTx, from_json, jobs, to_json},
};
use crate::provider::{
    Code, Error, Replicas, Result,
    model::{CallKey, Job, Replica, ReplicaRequest},
};
use async_trait::async_trait;
use serde_json::{Value, json as object};

#[async_trait]
impl Replicas for Sim {
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method's path is not general enough")]
    async fn list(&self) -> Result<Vec<Replica>> {
        self.open_store()?.read_current_world(|tx| tx.list_replicas())
    }

    async fn create(&self, request: &ReplicaRequest, key: &CallKey) -> Result<Job> {
        if request.region.as_deref().is_some_and(str::is_empty) {
            return Err(
                Error::new(Code::Invalid, "the region of a replica has no name").with_hint("leave it out")
            );
        }
        let what = request.region.clone().unwrap_or_else(|| self.target.clone());
        from_json(self.open_store()?.apply_effect(Some(key), "replica.create", &what, |tx| {
            tx.demand_powered_on(Code::Refused)?;
            tx.demand_not_being_replaced(Code::Conflict)?;
            let id = format!("replica-{key}");
            tx.add_replica(&id, request.region.as_deref(), "preparing", Some(key))?;
            let bytes = tx.content_facts_at(tx.main_timeline()?.id, i64::MAX)?.bytes;
            to_json(tx.accept_job(
                jobs::REPLICA,
                key,
                &id,
                tx.spec.replica_duration(),
                bytes,
                &Value::Null,
            )?)
        })?)
    }

    async fn delete(&self, id: &str) -> Result<()> {
        let delete = |tx: &WorldTx<'_>| {
            let is_there = tx.list_replicas()?.iter().any(|r| r.id == id);
            tx.cancel_job_for(id)?;
            tx.delete_row("replicas", id)?;
            Ok(is_there.then(|| object!({ "id": id })))
        };
        self.open_store()?.apply_effect_if_needed(None, "replica.delete", id, delete).map(drop)
    }
}
