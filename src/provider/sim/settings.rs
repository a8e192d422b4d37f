//! Settings of a simulated server: overrides, what holds, and what waits for a restart.

use super::{
    Sim,
    parameters::{self, Parameter},
    store::{WorldTx, store_error},
};
use crate::provider::{Code, Error, Result, Settings, model::Setting};
use async_trait::async_trait;
use rusqlite::params;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What is asked for, and what the server has taken up; null is no override.
struct SettingOverride {
    wanted: Value,
    held: Value,
}

#[async_trait]
impl Settings for Sim {
    async fn get(&self, names: &[String]) -> Result<Vec<Setting>> {
        self.open_store()?.read_world(|p| {
            let overrides = p.read_overrides()?;
            let all = overrides.keys().cloned().collect::<Vec<_>>();
            let names = if names.is_empty() { &all } else { names };
            names.iter().map(|name| to_setting(parameters::find_parameter(name)?, &overrides)).collect()
        })
    }

    async fn set(&self, values: &Map<String, Value>, restart: bool) -> Result<Vec<String>> {
        let known: Vec<(&Parameter, &Value)> = values
            .iter()
            .map(|(name, value)| {
                let parameter = parameters::find_parameter(name)?;
                if !value.is_null() {
                    parameter.format_value(value)?;
                }
                Ok((parameter, value))
            })
            .collect::<Result<_>>()?;
        let store = self.open_store()?;
        let what = known.iter().map(|(p, value)| format!("{}={}", p.name, format_setting(value)));
        let what = what.collect::<Vec<_>>().join(" ");
        store.apply_effect_if_needed(None, "config.set", &what, |p| {
            p.demand_powered_on(Code::Refused)?;
            let is_changed = p.set_overrides(&known)?;
            let is_restarted = restart && p.apply_pending_overrides()?;
            Ok((is_changed || is_restarted).then(|| json!({ "restarted": is_restarted })))
        })?;
        store.read_world(|p| {
            Ok(p.read_overrides()?
                .into_iter()
                .filter(|(_, o)| o.wanted != o.held)
                .map(|(name, _)| name)
                .collect())
        })
    }
}

fn format_setting(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn to_setting(parameter: &Parameter, overrides: &BTreeMap<String, SettingOverride>) -> Result<Setting> {
    let (wanted, held) =
        overrides.get(parameter.name).map_or((&Value::Null, &Value::Null), |o| (&o.wanted, &o.held));
    let effective =
        if held.is_null() { parameter.preset.to_owned() } else { parameter.format_value(held)? };
    Ok(Setting {
        name: parameter.name.into(),
        overridden: wanted.clone(),
        effective: effective.into(),
        pending_restart: wanted != held,
    })
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

    /// Returns the settings as a portrait shows them.
    pub(super) fn describe_settings(&self) -> Result<Vec<String>> {
        let line = |(name, o): (String, SettingOverride)| {
            let waits = if o.wanted == o.held { "" } else { ", waits for a restart" };
            format!("{name} = {}{waits}", format_setting(&o.wanted))
        };
        Ok(self.read_overrides()?.into_iter().map(line).collect())
    }

    /// Writes overrides and returns whether any is another than before.
    fn set_overrides(&self, values: &[(&Parameter, &Value)]) -> Result<bool> {
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

    /// Takes up what waits, and returns whether anything did.
    fn apply_pending_overrides(&self) -> Result<bool> {
        let waiting: Vec<_> =
            self.read_overrides()?.into_iter().filter(|(_, o)| o.wanted != o.held).collect();
        for (name, o) in &waiting {
            self.write_override(name, &o.wanted, &o.wanted)?;
        }
        Ok(!waiting.is_empty())
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

    fn read_overrides(&self) -> Result<BTreeMap<String, SettingOverride>> {
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
