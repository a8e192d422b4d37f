//! `fn fixture()`: what a rehearsal begins with.
//!
//! It is called on the prelude of its runbook, before any run: it sees no operations and needs no rights. What it has is
//! `world::*`, which prepares simulated worlds; what it returns are parameters.

use super::{
    engine,
    header::ParamType,
    prelude::{PreludeError, call_runbook_function_within_limits},
    refusal::Refusal,
    runbook::{FIXTURE_FN, Runbook},
    runbook_error::RunbookError,
    values::to_json,
    world_natives::FixtureScope,
};
use crate::{
    base::{suggest, value},
    config::Config,
    provider::sim::WorldDraft,
};
use rhai::Dynamic;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Calls the fixture of a runbook, if it has one: it prepares the drafts, and what it returns are parameters as a person
/// would type them.
///
/// # Errors
/// [`Refusal`]: it failed, did not end, or returned something else.
pub fn run_fixture(
    runbook: &Runbook,
    drafts: &mut BTreeMap<String, WorldDraft>,
) -> Result<BTreeMap<String, String>, Refusal> {
    if !runbook.has_fixture() {
        return Ok(BTreeMap::new());
    }
    let root = Path::new(&runbook.path).parent().filter(|p| !p.as_os_str().is_empty());
    let root = root.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let scope = FixtureScope::new(std::mem::take(drafts), root);
    let mut engine = engine::build_engine();
    engine.set_default_tag(Dynamic::from(scope.clone()));
    let returned = call_runbook_function_within_limits(&mut engine, runbook, FIXTURE_FN, ());
    *drafts = scope.take_drafts();
    let returned = returned.map_err(|e| match e {
        PreludeError::Endless => RunbookError::new("the fixture did not end")
            .with_hint("`fn fixture()` prepares worlds, and returns parameters; nothing was done"),
        PreludeError::Failed(failure) => RunbookError {
            message: format!("the fixture: {}", failure.fault.message),
            hint: failure.fault.hint,
            place: failure.place,
        },
    })?;
    let params = parse_returned_params(runbook, &returned)?;
    Ok(params)
}

/// Returns a value that a fixture returned for a parameter as a person would type it; it is one of the parameter's
/// type, or text that reads as one.
fn parse_returned_param(kind: &ParamType, given: &Value) -> Result<String, RunbookError> {
    let plain = match (kind, value::untag_value(given)) {
        (_, None) => given,
        (ParamType::Time, Some((value::MOMENT_TAG, inner)))
        | (ParamType::Duration, Some((value::DURATION_TAG, inner)))
        | (ParamType::Target, Some((value::TARGET_TAG, inner))) => inner,
        (_, Some(_)) => return Err(kind.misfit_error(given)),
    };
    match kind {
        // Whether there is such a target is seen when the parameters are given.
        ParamType::Target if !plain.is_string() => return Err(kind.misfit_error(plain)),
        ParamType::Target => {}
        kind => drop(kind.parse_value(plain, &Config::empty())?),
    }
    Ok(plain.as_str().map_or_else(|| plain.to_string(), str::to_owned))
}

/// Returns what a fixture returned as parameters.
fn parse_returned_params(
    runbook: &Runbook,
    returned: &Dynamic,
) -> Result<BTreeMap<String, String>, RunbookError> {
    let hint = "return a map such as `#{ table: \"orders\", to: \"-30m\" }`, or nothing";
    let wrong = |what: String| RunbookError::new(format!("the fixture returned {what}")).with_hint(hint);
    let fields = match to_json(returned).map_err(|why| wrong(format!("what no parameter can be: {why}")))? {
        Value::Null => return Ok(BTreeMap::new()),
        Value::Object(fields) if value::untag_value(&Value::Object(fields.clone())).is_none() => fields,
        other => return Err(wrong(format!("`{}`, which is no map", value::strip_tags(&other)))),
    };
    let known: Vec<&str> = runbook.header.params.keys().map(String::as_str).collect();
    let mut params = BTreeMap::new();
    for (name, given) in &fields {
        if !known.contains(&name.as_str()) {
            return Err(RunbookError::new(format!(
                "the fixture returned `{name}`, which is no parameter of {}",
                runbook.path
            ))
            .with_hint(suggest::suggest_name_or_list_known(name, known.iter().copied())));
        }
        let param = &runbook.header.params[name];
        let text = parse_returned_param(&param.kind, given).map_err(|e| RunbookError {
            message: format!(
                "the fixture returned `{}` for `{name}`: {}",
                value::strip_tags(given),
                e.message
            ),
            hint: e.hint.or_else(|| Some(format!("`{name}` is {}: {}", param.kind.name(), param.help))),
            place: None,
        })?;
        params.insert(name.clone(), text);
    }
    Ok(params)
}
