//! Overrides of the server's settings, as rows of the world's file.

use super::{
    parameters::{self, Parameter},
    tx::{WorldTx, store_error},
};
use crate::provider::{Code, Error, Result};
use rusqlite::params;
use serde_json::Value;
use std::collections::BTreeMap;

/// An override of a setting: what was asked for, and what the server has taken up. Null is no override.
pub(in crate::provider::sim) struct SettingOverride {
    /// What was asked for.
    pub(in crate::provider::sim) wanted: Value,
    /// What the server has taken up.
    pub(in crate::provider::sim) held: Value,
}

impl WorldTx<'_> {
    /// Overrides a setting from the start.
    ///
    /// # Errors
    /// What the setting takes instead.
    pub(super) fn override_from_start(&self, name: &str, value: &Value) -> Result<()> {
        let parameter = parameters::find_parameter(name)?;
        parameter.format_value(value)?;
        self.write_override(parameter.name, value, value)
    }

    /// Returns the settings as a normalized world shows them.
    pub(in crate::provider::sim) fn normalized_settings(&self) -> Result<Vec<String>> {
        let line = |(name, o): (String, SettingOverride)| {
            let waits = if o.wanted == o.held { "" } else { ", waits for a restart" };
            format!("{name} = {}{waits}", setting_value_to_text(&o.wanted))
        };
        Ok(self.read_overrides()?.into_iter().map(line).collect())
    }

    /// Writes overrides and returns whether any differs from before.
    pub(in crate::provider::sim) fn set_overrides(&self, values: &[(&Parameter, &Value)]) -> Result<bool> {
        let before = self.read_overrides()?;
        let mut is_changed = false;
        for (parameter, wanted) in values {
            let (was, held) =
                before.get(parameter.name).map_or((&Value::Null, &Value::Null), |o| (&o.wanted, &o.held));
            if was != *wanted {
                is_changed = true;
                self.write_override(
                    parameter.name,
                    wanted,
                    if parameter.needs_restart { held } else { wanted },
                )?;
            }
        }
        Ok(is_changed)
    }

    /// Takes up the overrides that wait for a restart.
    pub(in crate::provider::sim) fn apply_pending_overrides(&self) -> Result<()> {
        let waiting = self.read_overrides()?.into_iter().filter(|(_, o)| o.wanted != o.held);
        waiting.into_iter().try_for_each(|(name, o)| self.write_override(&name, &o.wanted, &o.wanted))
    }

    fn write_override(&self, name: &str, wanted: &Value, held: &Value) -> Result<()> {
        let written = if wanted.is_null() && held.is_null() {
            self.conn.execute("delete from settings where name = ?1", [name])
        } else {
            let sql = "insert or replace into settings values (?1, ?2, ?3)";
            self.conn.execute(sql, params![name, wanted.to_string(), held.to_string()])
        };
        written.map(drop).map_err(|e| store_error(&e))
    }

    /// Returns every override, by the name of its setting.
    pub(in crate::provider::sim) fn read_overrides(&self) -> Result<BTreeMap<String, SettingOverride>> {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let rows: Vec<(String, String, String)> =
            self.query_rows("select name, wanted, held from settings", [], read)?;
        let parse = |text: &str| {
            serde_json::from_str(text)
                .map_err(|e| Error::new(Code::Internal, format!("an override cannot be read: {e}")))
        };
        rows.into_iter()
            .map(|(name, wanted, held)| {
                Ok((name, SettingOverride { wanted: parse(&wanted)?, held: parse(&held)? }))
            })
            .collect()
    }
}

/// Returns the value of a setting as text.
pub(in crate::provider::sim) fn setting_value_to_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
