//! Read replicas of a simulated target.

use super::{
    Sim,
    backups::{from_json, to_json},
    jobs,
    store::{WorldTx, store_error},
};
use crate::{
    base::moment::Span,
    provider::{
        Accept, Code, Error, Replicas, Result,
        model::{CallKey, Job, Replica, ReplicaRequest},
    },
};
use async_trait::async_trait;
use rusqlite::{Row, params};
use serde_json::{Value, json as object};

#[async_trait]
impl Replicas for Sim {
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method's path is not general enough")]
    async fn list(&self) -> Result<Vec<Replica>> {
        self.open_store()?.read_world(|p| p.list_replicas())
    }

    async fn create(&self, request: &ReplicaRequest, key: &CallKey, _: &dyn Accept) -> Result<Job> {
        if request.region.as_deref().is_some_and(str::is_empty) {
            return Err(
                Error::new(Code::Invalid, "the region of a replica has no name").with_hint("leave it out")
            );
        }
        let what = request.region.clone().unwrap_or_else(|| self.target.clone());
        from_json(self.open_store()?.apply_effect(Some(key), "replica.create", &what, |p| {
            p.demand_powered_on(Code::Refused)?;
            p.demand_no_restore_job(Code::Conflict)?;
            let id = format!("replica-{key}");
            p.add_replica(&id, request.region.as_deref(), "preparing", Some(key))?;
            let bytes = p.content_facts_at(p.main_timeline()?.id, i64::MAX)?.bytes;
            to_json(p.accept_job(jobs::REPLICA, key, &id, p.world.replica_duration(), bytes, &Value::Null)?)
        })?)
    }

    async fn delete(&self, id: &str) -> Result<()> {
        let delete = |p: &WorldTx<'_>| {
            let is_there = p.list_replicas()?.iter().any(|r| r.id == id);
            p.cancel_job_for(id)?;
            p.delete_row("replicas", id)?;
            Ok(is_there.then(|| object!({ "id": id })))
        };
        self.open_store()?.apply_effect_if_needed(None, "replica.delete", id, delete).map(drop)
    }
}

impl WorldTx<'_> {
    /// Adds a replica.
    pub(super) fn add_replica(
        &self,
        id: &str,
        region: Option<&str>,
        status: &str,
        key: Option<&CallKey>,
    ) -> Result<()> {
        let sql = "insert into replicas values (?1, ?2, ?3, ?4, ?5)";
        let values = params![id, region, status, self.now, key.map(|k| &k.0)];
        self.conn.execute(sql, values).map(drop).map_err(|e| store_error(&e))
    }

    /// Makes a replica ready and returns it.
    pub(super) fn mark_replica_ready(&self, id: &str) -> Result<Replica> {
        self.conn
            .execute("update replicas set status = 'ready' where id = ?1", [id])
            .map_err(|e| store_error(&e))?;
        let gone = || Error::new(Code::NotFound, format!("the replica `{id}` of `{}` is gone", self.target));
        self.list_replicas()?.into_iter().find(|r| r.id == id).ok_or_else(gone)
    }

    /// Returns every replica, oldest first.
    pub(super) fn list_replicas(&self) -> Result<Vec<Replica>> {
        let sql = "select id, region, status, key from replicas order by created_at, rowid";
        let read = |row: &Row<'_>| {
            let status: String = row.get(2)?;
            Ok(Replica {
                id: row.get(0)?,
                target: self.target.into(),
                region: row.get(1)?,
                // What a replica reads is what its target holds.
                lag: (status == "ready").then_some(Span::ZERO),
                status,
                host: None,
                port: None,
                key: row.get::<_, Option<String>>(3)?.map(CallKey),
            })
        };
        self.query_rows(sql, [], read)
    }

    /// Returns the replicas as a portrait shows them.
    pub(super) fn describe_replicas(&self) -> Result<Vec<String>> {
        let line =
            |r: &Replica| format!("{}: {}", r.region.as_deref().unwrap_or("where the target is"), r.status);
        let mut lines: Vec<String> = self.list_replicas()?.iter().map(line).collect();
        lines.sort_unstable();
        Ok(lines)
    }
}
