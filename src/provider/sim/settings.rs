//! Settings of a simulated server: overrides, what holds, and what waits for a restart.

use super::{
    target::Sim,
    world::{
        WorldTx,
        parameters::{self, Parameter},
        settings::{SettingOverride, setting_value_to_text},
    },
};
use crate::provider::{Code, Result, Settings, model::Setting};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The name of a restart of the server in the log of effects.
const RESTART: &str = "server.restart";

impl Sim {
    /// Overrides settings; `kind` is the name of that in the log of effects.
    pub(super) fn override_settings(&self, kind: &str, values: &Map<String, Value>) -> Result<()> {
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
        let what = known
            .iter()
            .map(|(parameter, value)| format!("{}={}", parameter.name, setting_value_to_text(value)));
        let what = what.collect::<Vec<_>>().join(" ");
        let change = |tx: &WorldTx<'_>| {
            tx.demand_powered_on(Code::Refused)?;
            Ok(tx.set_overrides(&known)?.then_some(Value::Null))
        };
        self.open_store()?.apply_effect_if_needed(None, kind, &what, change).map(drop)
    }
}

#[async_trait]
impl Settings for Sim {
    async fn get(&self, names: &[String]) -> Result<Vec<Setting>> {
        self.open_store()?.read_current_world(|tx| {
            let overrides = tx.read_overrides()?;
            let all = overrides.keys().cloned().collect::<Vec<_>>();
            let names = if names.is_empty() { &all } else { names };
            names.iter().map(|name| to_setting(parameters::find_parameter(name)?, &overrides)).collect()
        })
    }

    async fn set(&self, values: &Map<String, Value>) -> Result<Vec<String>> {
        self.override_settings("config.set", values)?;
        self.open_store()?.read_current_world(|tx| {
            Ok(tx
                .read_overrides()?
                .into_iter()
                .filter(|(_, o)| o.wanted != o.held)
                .map(|(name, _)| name)
                .collect())
        })
    }

    async fn server_start(&self) -> Result<Value> {
        self.open_store()?.read_current_world(|tx| {
            tx.demand_powered_on(Code::Unavailable)?;
            Ok(json!(tx.count_effects_of(RESTART)?))
        })
    }

    async fn restart(&self) -> Result<()> {
        let restart = |tx: &WorldTx<'_>| {
            tx.demand_powered_on(Code::Refused)?;
            tx.apply_pending_overrides()?;
            Ok(Some(Value::Null))
        };
        self.open_store()?.apply_effect_if_needed(None, RESTART, &self.target, restart).map(drop)
    }
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
