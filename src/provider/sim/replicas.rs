//! Read replicas of a simulated target.

use super::{
    Sim,
    backups::{decode, json},
    jobs,
    store::{Present, broken},
};
use crate::{
    base::moment::Span,
    provider::{
        Accept, Code, Error, Replicas, Result,
        model::{Job, Key, Replica, ReplicaRequest},
    },
};
use async_trait::async_trait;
use rusqlite::{Row, params};
use serde_json::{Value, json as object};

#[async_trait]
impl Replicas for Sim {
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method's path is not general enough")]
    async fn list(&self) -> Result<Vec<Replica>> {
        self.store()?.look(|p| p.standing_replicas())
    }

    async fn create(&self, request: &ReplicaRequest, key: &Key, _: &dyn Accept) -> Result<Job> {
        if request.region.as_deref().is_some_and(str::is_empty) {
            return Err(Error::new(Code::Invalid, "the region of a replica has no name").hint("leave it out"));
        }
        let what = request.region.clone().unwrap_or_else(|| self.target.clone());
        decode(self.store()?.effect(Some(key), "replica.create", &what, |p| {
            p.demand_on(Code::Refused)?;
            p.demand_unrestored(Code::Conflict)?;
            let id = format!("replica-{key}");
            p.add_replica(&id, request.region.as_deref(), "preparing", Some(key))?;
            let bytes = p.facts_at(p.main_line()?.id, i64::MAX)?.bytes;
            json(p.accept(jobs::REPLICA, key, &id, p.world.replica_duration(), bytes, &Value::Null)?)
        })?)
    }

    async fn delete(&self, id: &str) -> Result<()> {
        let delete = |p: &Present<'_>| {
            let is_there = p.standing_replicas()?.iter().any(|r| r.id == id);
            p.give_up_making(id)?;
            p.remove("replicas", id)?;
            Ok(is_there.then(|| object!({ "id": id })))
        };
        self.store()?.effect_if(None, "replica.delete", id, delete).map(drop)
    }
}

impl Present<'_> {
    /// Adds a replica.
    pub(super) fn add_replica(
        &self,
        id: &str,
        region: Option<&str>,
        status: &str,
        key: Option<&Key>,
    ) -> Result<()> {
        let sql = "insert into replicas values (?1, ?2, ?3, ?4, ?5)";
        let values = params![id, region, status, self.now, key.map(|k| &k.0)];
        self.conn.execute(sql, values).map(drop).map_err(|e| broken(&e))
    }

    /// Makes a replica ready and returns it.
    pub(super) fn ready_replica(&self, id: &str) -> Result<Replica> {
        self.conn
            .execute("update replicas set status = 'ready' where id = ?1", [id])
            .map_err(|e| broken(&e))?;
        let gone = || Error::new(Code::NotFound, format!("the replica `{id}` of `{}` is gone", self.target));
        self.standing_replicas()?.into_iter().find(|r| r.id == id).ok_or_else(gone)
    }

    /// Returns every replica, oldest first.
    pub(super) fn standing_replicas(&self) -> Result<Vec<Replica>> {
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
                key: row.get::<_, Option<String>>(3)?.map(Key),
            })
        };
        self.rows(sql, [], read)
    }

    /// Returns the replicas as a portrait shows them.
    pub(super) fn replica_lines(&self) -> Result<Vec<String>> {
        let line =
            |r: &Replica| format!("{}: {}", r.region.as_deref().unwrap_or("where the target is"), r.status);
        let mut lines: Vec<String> = self.standing_replicas()?.iter().map(line).collect();
        lines.sort_unstable();
        Ok(lines)
    }
}
