//! SQL on a simulated target or a branch of one.

use super::{
    target::Sim,
    world::{
        HistoryEntry, WorldStore, WorldTx, from_json,
        statement::{LoneStatement, StandIn, is_blank, shorten_sql},
        switches::POWER,
        to_json, version_text,
    },
};
use crate::{
    base::moment::Span,
    provider::{
        Code, Error, OpenTransaction, Result, Sql,
        model::{CallKey, CommitState, Health, Rows, SqlOutcome},
        sql::sqlstate,
    },
};
use async_trait::async_trait;
use serde_json::{Value, json as object};

/// The kind of the effect of a statement.
pub(super) const EXECUTE_KIND: &str = "sql.execute";

#[async_trait]
impl Sql for Sim {
    async fn query(&self, sql: &str, timeout: Span) -> Result<Rows> {
        demand_statement(sql)?;
        let store = self.open_store()?;
        store.read_current_world(|tx| {
            let line = self.answering_timeline(tx)?;
            store.with_content(tx, line, |content| content.query_at(sql, timeout, tx.now))
        })
    }

    async fn execute_uncommitted(
        &self,
        sql: &str,
        timeout: Span,
        key: &CallKey,
    ) -> Result<Box<dyn OpenTransaction>> {
        demand_statement(sql)?;
        if let Some(lone) = LoneStatement::parse(sql) {
            return Err(in_transaction_error(&lone));
        }
        if self.find_committed_outcome(key)?.is_none() {
            let store = self.open_store()?;
            self.dry_run_statement(&store, sql, timeout)?;
        }
        Ok(Box::new(SimTransaction { sim: self.clone(), sql: sql.to_owned(), timeout, key: key.clone() }))
    }

    async fn execute_outside_transaction(&self, sql: &str, timeout: Span) -> Result<SqlOutcome> {
        demand_statement(sql)?;
        match LoneStatement::parse(sql).map(|lone| lone.stand_in) {
            None => self.commit_statement(sql, timeout, None),
            Some(StandIn::Statement(same)) => self.commit_statement(&same, timeout, None),
            Some(StandIn::Nothing) => {
                from_json(self.open_store()?.apply_effect(None, EXECUTE_KIND, &shorten_sql(sql), |tx| {
                    self.answering_timeline(tx).and_then(|_| to_json(SqlOutcome { rows_affected: 0 }))
                })?)
            }
            Some(StandIn::Refusal(instead)) => Err(Error::unsupported(
                format!("`{}` does not run on a simulated target", shorten_sql(sql)),
                instead,
            )),
        }
    }

    async fn find_commit_state(&self, key: &CallKey, _token: &Value) -> Result<CommitState> {
        Ok(self.find_committed_outcome(key)?.map_or(CommitState::NotCommitted, CommitState::Committed))
    }

    async fn health(&self) -> Result<Health> {
        let store = self.open_store()?;
        store.read_current_world(|tx| {
            let (line, status) = match self.answering_timeline(tx) {
                Ok(line) => (Some(line), "healthy".to_owned()),
                Err(e) if e.code == Code::Unavailable => (None, self.status_while_not_answering(tx)?),
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
    fn dry_run_statement(&self, store: &WorldStore, sql: &str, timeout: Span) -> Result<()> {
        store.read_current_world(|tx| {
            let line = self.answering_timeline(tx)?;
            let entry = HistoryEntry { lsn: 0, xid: 0, at: tx.now, sql: sql.into() };
            store.with_content(tx, line, |content| content.dry_run_entry(&entry, timeout)).map(drop)
        })
    }

    /// Returns what the statement that a call committed has done.
    fn find_committed_outcome(&self, key: &CallKey) -> Result<Option<SqlOutcome>> {
        let effect = self.open_store()?.read_current_world(|tx| tx.find_effect(key))?;
        effect.filter(|e| e.kind == EXECUTE_KIND).map(|e| from_json(e.answer)).transpose()
    }

    /// Runs a statement and commits it. It runs anew, on the rows of this moment: others may have written in between.
    fn commit_statement(&self, sql: &str, timeout: Span, key: Option<&CallKey>) -> Result<SqlOutcome> {
        let store = self.open_store()?;
        let mut touched = None;
        let result = store.apply_effect(key, EXECUTE_KIND, &shorten_sql(sql), |tx| {
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
    fn status_while_not_answering(&self, tx: &WorldTx<'_>) -> Result<String> {
        let power = tx.read_switch(POWER)?.value;
        Ok(if self.branch.is_some() || power == "on" { "restoring".into() } else { power })
    }
}

/// Returns the error that PostgreSQL has for a statement which it runs only outside a transaction.
fn in_transaction_error(lone: &LoneStatement) -> Error {
    let state = "25001";
    let error = Error::new(
        sqlstate::code_for_sqlstate(state),
        format!(
            "the database refused the statement: {} cannot run inside a transaction block (SQLSTATE {state})",
            lone.name
        ),
    );
    Error { hint: sqlstate::hint_for_sqlstate(state).map(str::to_owned), ..error }
}

/// A transaction on a simulated target: its statement was tried, and runs when it is committed.
struct SimTransaction {
    sim: Sim,
    sql: String,
    timeout: Span,
    key: CallKey,
}

#[async_trait]
impl OpenTransaction for SimTransaction {
    fn token(&self) -> Value {
        object!({ "key": self.key.0 })
    }

    async fn commit(self: Box<Self>) -> Result<SqlOutcome> {
        self.sim.commit_statement(&self.sql, self.timeout, Some(&self.key))
    }
}

fn demand_statement(sql: &str) -> Result<()> {
    if is_blank(sql) {
        return Err(Error::new(Code::Invalid, "no statement was given"));
    }
    Ok(())
}
