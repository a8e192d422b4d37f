//! The effect log: what was asked of the world under which key, and what was answered.

use super::{
    time::from_micros,
    tx::{WorldTx, store_error},
};
use crate::{
    base::moment::Moment,
    provider::{Code, Error, Result, model::CallKey},
};
use rusqlite::{OptionalExtension as _, params};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// One row of the effect log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectRow {
    /// Its place in the order of effects, from 1.
    pub seq: i64,
    /// The key of the call that asked, where there was one.
    pub key: Option<CallKey>,
    /// Its kind: `backup.create`, `sql.execute`.
    pub kind: String,
    /// What it was done to.
    pub what: String,
    /// When, by the world's clock.
    pub at: Moment,
    pub answer: Value,
}

impl WorldTx<'_> {
    /// Returns the effect of `key`, if there is one.
    pub(in crate::provider::sim) fn find_effect(&self, key: &CallKey) -> Result<Option<EffectRow>> {
        let sql = "select seq, key, kind, what, at, answer from effects where key = ?1";
        self.conn.query_row(sql, [&key.0], read_effect_row).optional().map_err(|e| store_error(&e))
    }

    /// Returns how many effects there were.
    pub(in crate::provider::sim) fn count_effects(&self) -> Result<i64> {
        let sql = "select count(*) from effects";
        self.conn.query_row(sql, [], |row| row.get(0)).map_err(|e| store_error(&e))
    }

    /// Returns how many effects of a kind there were.
    pub(in crate::provider::sim) fn count_effects_of(&self, kind: &str) -> Result<i64> {
        let sql = "select count(*) from effects where kind = ?1";
        self.conn.query_row(sql, [kind], |row| row.get(0)).map_err(|e| store_error(&e))
    }

    /// Adds an effect to the log.
    pub(super) fn append_effect(
        &self,
        key: Option<&CallKey>,
        kind: &str,
        what: &str,
        answer: &Value,
    ) -> Result<()> {
        let sql = "insert into effects (key, kind, what, at, answer) values (?1, ?2, ?3, ?4, ?5)";
        let values = params![key.map(|k| &k.0), kind, what, self.now, answer.to_string()];
        self.conn.execute(sql, values).map(drop).map_err(|e| store_error(&e))
    }
}

/// Reads a row of the effect log.
pub(super) fn read_effect_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<EffectRow> {
    let answer: String = row.get(5)?;
    Ok(EffectRow {
        seq: row.get(0)?,
        key: row.get::<_, Option<String>>(1)?.map(CallKey),
        kind: row.get(2)?,
        what: row.get(3)?,
        at: from_micros(row.get(4)?),
        answer: serde_json::from_str(&answer).unwrap_or_default(),
    })
}

/// Returns a value as the effect log keeps it.
pub(in crate::provider::sim) fn to_json(value: impl Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| Error::new(Code::Internal, format!("a value cannot be written: {e}")))
}

/// Reads what the effect log kept.
pub(in crate::provider::sim) fn from_json<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|e| Error::new(Code::Internal, format!("the effect log holds something unexpected: {e}")))
}
