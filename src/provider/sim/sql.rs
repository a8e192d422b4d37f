//! SQL on a simulated target or a branch of one.

use super::{
    Sim,
    backups::{decode, json},
    content::Entry,
    store::{Present, Store},
    switches::POWER,
    world::shortened,
};
use crate::{
    base::moment::Span,
    provider::{
        Accept, Code, Error, Result, Sql,
        model::{Health, Key, Rows, SqlOutcome},
    },
};
use async_trait::async_trait;
use serde_json::{Value, json as object};

/// The kind of the effect.
const EXECUTE: &str = "sql.execute";

#[async_trait]
impl Sql for Sim {
    async fn query(&self, sql: &str, timeout: Span) -> Result<Rows> {
        demand_statement(sql)?;
        let store = self.store()?;
        store.look(|p| {
            let line = self.answering_line(p)?;
            store.with_content(p, line, |content| content.query(sql, timeout, p.now))
        })
    }

    async fn execute(
        &self,
        sql: &str,
        timeout: Span,
        key: &Key,
        accepted: &dyn Accept,
    ) -> Result<SqlOutcome> {
        demand_statement(sql)?;
        let store = self.store()?;
        if let Some(outcome) = self.settle(key, None).await? {
            return Ok(outcome);
        }
        self.try_out(&store, sql, timeout)?;
        accepted.accepted(object!({ "key": key.0 })).await?;
        self.commit(&store, sql, timeout, key)
    }

    async fn settle(&self, key: &Key, _accepted: Option<&Value>) -> Result<Option<SqlOutcome>> {
        let effect = self.store()?.look(|p| p.effect(key))?;
        effect.filter(|e| e.kind == EXECUTE).map(|e| decode(e.answer)).transpose()
    }

    async fn health(&self) -> Result<Health> {
        let store = self.store()?;
        store.look(|p| {
            let (line, status) = match self.answering_line(p) {
                Ok(line) => (Some(line), "healthy".to_owned()),
                Err(e) if e.code == Code::Unavailable => (None, self.status(p)?),
                Err(e) => return Err(e),
            };
            let bytes = line.map(|l| store.with_content(p, l, |content| content.bytes())).transpose()?;
            let in_recovery = status == "restoring";
            Ok(Health {
                ok: line.is_some(),
                status,
                version: Some(version()),
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
    fn try_out(&self, store: &Store, sql: &str, timeout: Span) -> Result<()> {
        store.look(|p| {
            let line = self.answering_line(p)?;
            let entry = Entry { lsn: 0, xid: 0, at: p.now, sql: sql.into() };
            store.with_content(p, line, |content| content.attempt(&entry, timeout)).map(drop)
        })
    }

    /// Runs a statement for good. It runs anew, on the rows of this moment: others may have written in between.
    fn commit(&self, store: &Store, sql: &str, timeout: Span, key: &Key) -> Result<SqlOutcome> {
        let mut touched = None;
        let result = store.effect(Some(key), EXECUTE, &shortened(sql), |p| {
            let line = self.answering_line(p)?;
            touched = Some(line);
            store.with_content(p, line, |content| {
                // A line's times never go back, whatever the wall clock does.
                let at = p.last_entry(line, i64::MAX)?.map_or(p.now, |last| last.at.max(p.now));
                let (lsn, xid) = p.advance(sql.len())?;
                let entry = Entry { lsn, xid, at, sql: sql.into() };
                let applied = content.apply(&entry, Some(timeout))?;
                p.append(line, &entry, &applied)?;
                json(SqlOutcome { rows_affected: applied.rows })
            })
        });
        if let (Err(_), Some(line)) = (&result, touched) {
            store.forget_content(line);
        }
        decode(result?)
    }

    /// Returns what keeps this target or branch from answering, in a word.
    fn status(&self, present: &Present<'_>) -> Result<String> {
        let power = present.switch(POWER)?.value;
        Ok(if self.branch.is_some() || power == "on" { "restoring".into() } else { power })
    }

    /// Returns the line that answers for this target or branch now.
    pub(super) fn answering_line(&self, present: &Present<'_>) -> Result<i64> {
        let Some(branch) = &self.branch else {
            present.demand_on(Code::Unavailable)?;
            present.demand_unrestored(Code::Unavailable)?;
            return Ok(present.main_line()?.id);
        };
        let grown = present.demand_branch(&branch.id)?;
        if grown.branch.status == "ready" {
            return Ok(grown.line);
        }
        let message = format!("the branch `{}` is {}", branch.name, grown.branch.status);
        Err(Error::new(Code::Unavailable, message).hint("wait for it"))
    }
}

/// Returns the version of the database.
pub(super) fn version() -> String {
    format!("simulated (SQLite {})", rusqlite::version())
}

fn demand_statement(sql: &str) -> Result<()> {
    if super::statement::is_blank(sql) {
        return Err(Error::new(Code::Invalid, "no statement was given"));
    }
    Ok(())
}
