//! SQL on a simulated target or a branch of one.

use super::{
    target::Sim,
    world::{
        HistoryEntry, WorldStore, WorldTx, from_json,
        statement::{is_blank, shorten_sql},
        switches::POWER,
        to_json, version_text,
    },
};
use crate::{
    base::moment::Span,
    provider::{
        Accept, Code, Error, Result, Sql,
        model::{CallKey, Health, Rows, SqlOutcome},
    },
};
use async_trait::async_trait;
use serde_json::{Value, json as object};

/// The kind of the effect of a statement.
const EXECUTE_KIND: &str = "sql.execute";

#[async_trait]
impl Sql for Sim {
    async fn query(&self, sql: &str, timeout: Span) -> Result<Rows> {
        demand_statement(sql)?;
        let store = self.open_store()?;
        store.read_world(|tx| {
            let line = self.answering_timeline(tx)?;
            store.with_content(tx, line, |content| content.query_at(sql, timeout, tx.now))
        })
    }

    async fn execute(
        &self,
        sql: &str,
        timeout: Span,
        key: &CallKey,
        accepted: &dyn Accept,
    ) -> Result<SqlOutcome> {
        match self.prepare_commit(sql, timeout, key, accepted).await? {
            Some(outcome) => Ok(outcome),
            None => self.commit_statement(sql, timeout, key),
        }
    }

    async fn settle(&self, key: &CallKey, _accepted: Option<&Value>) -> Result<Option<SqlOutcome>> {
        let effect = self.open_store()?.read_world(|tx| tx.find_effect(key))?;
        effect.filter(|e| e.kind == EXECUTE_KIND).map(|e| from_json(e.answer)).transpose()
    }

    async fn health(&self) -> Result<Health> {
        let store = self.open_store()?;
        store.read_world(|tx| {
            let (line, status) = match self.answering_timeline(tx) {
                Ok(line) => (Some(line), "healthy".to_owned()),
                Err(e) if e.code == Code::Unavailable => (None, self.status_word(tx)?),
                Err(e) => return Err(e),
            };
            let bytes =
                line.map(|l| store.with_content(tx, l, |content| content.size_in_bytes())).transpose()?;
            let in_recovery = status == "restoring";
            Ok(Health {
                ok: line.is_some(),
                status,
                version: Some(version_text()),
                in_recovery,
                // A request takes none of the world's time.
                latency: Span::ZERO,
                bytes,
                connections: None,
            })
        })
    }
}

impl Sim {
    /// Runs a statement and rolls it back: the database refuses it before anything is written down.
    fn try_statement(&self, store: &WorldStore, sql: &str, timeout: Span) -> Result<()> {
        store.read_world(|tx| {
            let line = self.answering_timeline(tx)?;
            let entry = HistoryEntry { lsn: 0, xid: 0, at: tx.now, sql: sql.into() };
            store.with_content(tx, line, |content| content.try_entry(&entry, timeout)).map(drop)
        })
    }

    /// Does everything that comes before the commit of a statement; returns the outcome of one that was committed before.
    pub(super) async fn prepare_commit(
        &self,
        sql: &str,
        timeout: Span,
        key: &CallKey,
        accepted: &dyn Accept,
    ) -> Result<Option<SqlOutcome>> {
        demand_statement(sql)?;
        let store = self.open_store()?;
        let known = self.settle(key, None).await?;
        if known.is_none() {
            self.try_statement(&store, sql, timeout)?;
            accepted.accepted(object!({ "key": key.0 })).await?;
        }
        Ok(known)
    }

    /// Runs a statement and commits it. It runs anew, on the rows of this moment: others may have written in between.
    pub(super) fn commit_statement(&self, sql: &str, timeout: Span, key: &CallKey) -> Result<SqlOutcome> {
        let store = self.open_store()?;
        let mut touched = None;
        let result = store.apply_effect(Some(key), EXECUTE_KIND, &shorten_sql(sql), |tx| {
            let line = self.answering_timeline(tx)?;
            touched = Some(line);
            store.with_content(tx, line, |content| {
                // The times of a timeline never go back, whatever the wall clock does.
                let at = tx.last_entry(line, i64::MAX)?.map_or(tx.now, |last| last.at.max(tx.now));
                let (lsn, xid) = tx.allocate_transaction(sql.len())?;
                let entry = HistoryEntry { lsn, xid, at, sql: sql.into() };
                let applied = content.apply_entry(&entry, Some(timeout))?;
                tx.append_entry(line, &entry, &applied)?;
                to_json(SqlOutcome { rows_affected: applied.rows })
            })
        });
        if let (Err(_), Some(line)) = (&result, touched) {
            store.forget_content(line);
        }
        from_json(result?)
    }

    /// Returns what keeps this target or branch from answering, in a word.
    fn status_word(&self, tx: &WorldTx<'_>) -> Result<String> {
        let power = tx.read_switch(POWER)?.value;
        Ok(if self.branch.is_some() || power == "on" { "restoring".into() } else { power })
    }
}

fn demand_statement(sql: &str) -> Result<()> {
    if is_blank(sql) {
        return Err(Error::new(Code::Invalid, "no statement was given"));
    }
    Ok(())
}
