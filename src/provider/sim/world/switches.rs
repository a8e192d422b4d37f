//! Switches: power, TLS enforcement, the list of ranges; each with the time of its last change.

use super::{
    time::{from_micros, span_to_micros},
    tx::{WorldTx, store_error},
};
use crate::provider::{Code, Error, Result};
use rusqlite::params;

/// Whether the target is on or paused.
pub(in crate::provider::sim) const POWER: &str = "power";

/// Whether TLS is enforced.
pub(in crate::provider::sim) const SSL: &str = "ssl";

/// When the ranges were last changed.
pub(in crate::provider::sim) const RANGES: &str = "ranges";

/// A switch, and since when it stands so (microseconds since 1970).
pub(in crate::provider::sim) struct Switch {
    /// How it stands.
    pub(in crate::provider::sim) value: String,
    pub(in crate::provider::sim) since: i64,
}

impl WorldTx<'_> {
    /// Returns how a switch stands.
    pub(in crate::provider::sim) fn read_switch(&self, name: &str) -> Result<Switch> {
        let sql = "select value, since from switches where name = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok(Switch { value: row.get(0)?, since: row.get(1)? });
        self.conn.query_row(sql, [name], read).map_err(|e| store_error(&e))
    }

    /// Sets a switch, as of `at`.
    pub(in crate::provider::sim) fn set_switch(&self, name: &str, value: &str, at: i64) -> Result<()> {
        let sql = "insert or replace into switches values (?1, ?2, ?3)";
        self.conn.execute(sql, params![name, value, at]).map(drop).map_err(|e| store_error(&e))
    }

    /// Returns whether what was changed at `since` is applied by now.
    pub(in crate::provider::sim) fn is_applied(&self, since: i64) -> bool {
        since.saturating_add(span_to_micros(self.spec.apply_duration())) <= self.now
    }

    /// Refuses while the target is not on.
    pub(in crate::provider::sim) fn demand_powered_on(&self, code: Code) -> Result<()> {
        let power = self.read_switch(POWER)?;
        let (target, since) = (self.target, from_micros(power.since));
        let (what, hint) = match power.value.as_str() {
            "on" => return Ok(()),
            "paused" => (format!("`{target}` is paused since `{since}`"), "`project resume` brings it back"),
            "pausing" => {
                (format!("`{target}` is being paused since `{since}`"), "`project resume` brings it back")
            }
            _ => (format!("`{target}` is being resumed since `{since}`"), "wait with `project wait_ready`"),
        };
        Err(Error::new(code, what).with_hint(hint))
    }
}

/// Returns the word for whether something is on.
pub(in crate::provider::sim) fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
