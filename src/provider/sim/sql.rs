//! SQL on a simulated target or a branch of one.

use super::{
    Sim,
    backups::{from_json, to_json},
    content::HistoryEntry,
    store::{WorldStore, WorldTx},
    switches::POWER,
    world::shorten_sql,
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

/// The kind of the effect.
const EXECUTE_KIND: &str = "sql.execute";

#[async_trait]
impl Sql for Sim {
    async fn query(&self, sql: &str, timeout: Span) -> Result<Rows> {
        demand_statement(sql)?;
        let store = self.open_store()?;
        store.read_world(|p| {
            let line = self.answering_timeline(p)?;
            store.with_content(p, line, |content| content.query_at(sql, timeout, p.now))
        })
    }

    async fn execute(
        &self,
        sql: &str,
        timeout: Span,
        key: &CallKey,
        accepted: &dyn Accept,
    ) -> Result<SqlOutcome> {
        demand_statement(sql)?;
        let store = self.open_store()?;
        if let Some(outcome) = self.settle(key, None).await? {
            return Ok(outcome);
        }
        self.try_statement(&store, sql, timeout)?;
        accepted.accepted(object!({ "key": key.0 })).await?;
        self.commit_statement(&store, sql, timeout, key)
    }

    async fn settle(&self, key: &CallKey, _accepted: Option<&Value>) -> Result<Option<SqlOutcome>> {
        let effect = self.open_store()?.read_world(|p| p.find_effect(key))?;
        effect.filter(|e| e.kind == EXECUTE_KIND).map(|e| from_json(e.answer)).transpose()
    }

    async fn health(&self) -> Result<Health> {
        let store = self.open_store()?;
        store.read_world(|p| {
            let (line, status) = match self.answering_timeline(p) {
                Ok(line) => (Some(line), "healthy".to_owned()),
                Err(e) if e.code == Code::Unavailable => (None, self.status_word(p)?),
                Err(e) => return Err(e),
            };
            let bytes =
                line.map(|l| store.with_content(p, l, |content| content.size_in_bytes())).transpose()?;
            let in_recovery = status == "restoring";
            Ok(Health {
                ok: line.is_some(),
                status,
                version: Some(version_text()),
                in_recovery,
                // Asking takes none of the world's time.
                latency: Span::ZERO,
                bytes,
                connections: None,
            })
        })
    }
}

impl Sim {
    /// Runs a statement and takes it back: what the database refuses is refused before anything is written down.
    fn try_statement(&self, store: &WorldStore, sql: &str, timeout: Span) -> Result<()> {
        store.read_world(|p| {
            let line = self.answering_timeline(p)?;
            let entry = HistoryEntry { lsn: 0, xid: 0, at: p.now, sql: sql.into() };
            store.with_content(p, line, |content| content.try_entry(&entry, timeout)).map(drop)
        })
    }

    /// Runs a statement for good. It runs anew, on the rows of this moment: others may have written in between.
    fn commit_statement(
        &self,
        store: &WorldStore,
        sql: &str,
        timeout: Span,
        key: &CallKey,
    ) -> Result<SqlOutcome> {
        let mut touched = None;
        let result = store.apply_effect(Some(key), EXECUTE_KIND, &shorten_sql(sql), |p| {
            let line = self.answering_timeline(p)?;
            touched = Some(line);
            store.with_content(p, line, |content| {
                // A line's times never go back, whatever the wall clock does.
                let at = p.last_entry(line, i64::MAX)?.map_or(p.now, |last| last.at.max(p.now));
                let (lsn, xid) = p.allocate_transaction(sql.len())?;
                let entry = HistoryEntry { lsn, xid, at, sql: sql.into() };
                let applied = content.apply_entry(&entry, Some(timeout))?;
                p.append_entry(line, &entry, &applied)?;
                to_json(SqlOutcome { rows_affected: applied.rows })
            })
        });
        if let (Err(_), Some(line)) = (&result, touched) {
            store.forget_content(line);
        }
        from_json(result?)
    }

    /// Returns what keeps this target or branch from answering, in a word.
    fn status_word(&self, present: &WorldTx<'_>) -> Result<String> {
        let power = present.read_switch(POWER)?.value;
        Ok(if self.branch.is_some() || power == "on" { "restoring".into() } else { power })
    }

    /// Returns the line that answers for this target or branch now.
    pub(super) fn answering_timeline(&self, present: &WorldTx<'_>) -> Result<i64> {
        let Some(branch) = &self.branch else {
            present.demand_powered_on(Code::Unavailable)?;
            present.demand_no_restore_job(Code::Unavailable)?;
            return Ok(present.main_timeline()?.id);
        };
        let grown = present.demand_branch(&branch.id)?;
        if grown.branch.status == "ready" {
            return Ok(grown.line);
        }
        let message = format!("the branch `{}` is {}", branch.name, grown.branch.status);
        Err(Error::new(Code::Unavailable, message).with_hint("wait for it"))
    }
}

/// Returns the version of the database.
pub(super) fn version_text() -> String {
    format!("simulated (SQLite {})", rusqlite::version())
}

fn demand_statement(sql: &str) -> Result<()> {
    if super::statement::is_blank(sql) {
        return Err(Error::new(Code::Invalid, "no statement was given"));
    }
    Ok(())
}
