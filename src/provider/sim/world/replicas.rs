//! Read replicas, as rows of the world's file.

use super::tx::{WorldTx, store_error};
use crate::{
    base::moment::Span,
    provider::{
        Code, Error, Result,
        model::{CallKey, Replica},
    },
};
use rusqlite::{Row, params};

impl WorldTx<'_> {
    /// Adds a replica.
    pub(in crate::provider::sim) fn add_replica(
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
    pub(in crate::provider::sim) fn list_replicas(&self) -> Result<Vec<Replica>> {
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

    /// Returns the replicas as a normalized world shows them.
    pub(in crate::provider::sim) fn normalized_replicas(&self) -> Result<Vec<String>> {
        let line =
            |r: &Replica| format!("{}: {}", r.region.as_deref().unwrap_or("where the target is"), r.status);
        let mut lines: Vec<String> = self.list_replicas()?.iter().map(line).collect();
        lines.sort_unstable();
        Ok(lines)
    }
}
