//! The settings of a simulated target: its name and its world.

use super::world::{SANDBOX, WorldSpec};
use crate::{
    base::suggest,
    config::TargetConfig,
    provider::{Code, Error, OpenContext, Result},
};
use serde::Deserialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SimConfig {
    world: Option<String>,
}

/// Returns the file in which the world of a target lives.
pub(super) fn world_file_path(state: &Path, target: &str) -> PathBuf {
    state.join("worlds").join(format!("{target}.db"))
}

/// Returns the text that the world of a target is made from, checked.
///
/// # Errors
/// What its name, its settings or its world file lack.
pub(super) fn read_world_text(opening: &OpenContext<'_>) -> Result<String> {
    demand_file_name(&opening.target.name)?;
    load_world_text(&parse_config(opening.target)?, opening.base)
}

/// Returns whether the world of a target was made.
pub fn has_world(opening: &OpenContext<'_>) -> bool {
    world_file_path(opening.state, &opening.target.name).exists()
}

/// Removes the world of a target: the next use of the target makes a new one.
///
/// # Errors
/// What its name lacks, or the file cannot be removed.
pub fn remove_world(opening: &OpenContext<'_>) -> Result<()> {
    demand_file_name(&opening.target.name)?;
    let file = world_file_path(opening.state, &opening.target.name);
    // The world goes with its file; what SQLite keeps beside it belongs to that file alone.
    for end in ["", "-wal", "-shm"] {
        let mut path = file.clone().into_os_string();
        path.push(end);
        match fs::remove_file(&path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => {
                let what = format!("{} cannot be removed: {why}", Path::new(&path).display());
                return Err(Error::new(Code::Unavailable, what).with_hint("look at the rights of the folder"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses a target whose name cannot be that of a file: its world is kept under it.
fn demand_file_name(name: &str) -> Result<()> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
        return Err(Error::new(
            Code::Invalid,
            format!("the target name `{name}` cannot be the name of a world's file"),
        )
        .with_hint("use letters, digits, `-` and `_`"));
    }
    Ok(())
}

/// Reads the settings of a target.
fn parse_config(target: &TargetConfig) -> Result<SimConfig> {
    target.settings.clone().try_into().map_err(|e: toml::de::Error| {
        let error =
            Error::new(Code::Invalid, format!("the settings of target `{}`: {}", target.name, e.message()));
        match suggest::hint_for_unknown_field(e.message()) {
            Some(hint) => error.with_hint(hint),
            None => error.with_hint("`world` is `sandbox` or the path of a world file"),
        }
    })
}

/// Checks a text as that of a world; `origin` names it in messages.
///
/// # Errors
/// What it lacks, with the line.
pub(super) fn check_world_text(text: &str, origin: &str) -> Result<()> {
    WorldSpec::parse_and_check(text, origin).map(drop)
}

/// Returns the text of the world that the settings name, checked.
fn load_world_text(settings: &SimConfig, base: &Path) -> Result<String> {
    let Some(path) = settings.world.as_deref().filter(|w| *w != "sandbox") else { return Ok(SANDBOX.into()) };
    let text = fs::read_to_string(base.join(path)).map_err(|why| {
        Error::new(Code::Invalid, format!("the world file `{path}` cannot be read: {why}"))
            .with_hint("`world` is `sandbox` or the path of a world file, relative to `redrill.toml`")
    })?;
    check_world_text(&text, path)?;
    Ok(text)
}
