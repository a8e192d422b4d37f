//! `redrill.toml` and the environment, as plain data. What a provider's own settings mean, the provider knows.
//!
//! `sandbox` is always a target; `lab` is one while a lab is up (its file in the state folder says so).

use crate::base::{former_name, suggest};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

/// The name of the configuration file.
pub const FILE_NAME: &str = "redrill.toml";
/// The name of the state folder.
pub const STATE_FOLDER: &str = ".redrill";
/// The name of the built-in simulated target.
pub const SANDBOX: &str = "sandbox";
/// The name of the throw-away PostgreSQL target.
pub const LAB: &str = "lab";

/// Everything that was configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder that relative paths are relative to: where the file is, else the current folder.
    pub base: PathBuf,
    pub state: PathBuf,
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// Targets by name, `sandbox` and `lab` included.
    pub targets: BTreeMap<String, TargetConfig>,
}

impl Config {
    /// Returns a configuration without any target.
    pub fn empty() -> Self {
        Self { base: PathBuf::new(), state: PathBuf::new(), file: None, targets: BTreeMap::new() }
    }
}

/// One target.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetConfig {
    pub name: String,
    /// The kind of provider.
    pub provider: String,
    /// Whether change and destroy need its name typed.
    pub protect: bool,
    pub tags: Vec<String>,
    /// The provider's own settings.
    pub settings: toml::Table,
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that was named, or found, cannot be read.
    #[error("{path} cannot be read: {why}")]
    Unreadable { path: PathBuf, why: io::Error },
    /// The file is not valid TOML, or has an unknown key.
    #[error("{path}: {message}")]
    Invalid {
        path: PathBuf,
        /// The TOML reader's own words, with line and caret.
        message: String,
        hint: Option<String>,
    },
}

impl Error {
    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Unreadable { .. } => {
                Some(format!("name another with `--config`, or make a `{FILE_NAME}`"))
            }
            Error::Invalid { hint, .. } => hint.clone(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigToml {
    #[serde(default)]
    targets: BTreeMap<String, TargetToml>,
}

#[derive(Deserialize)]
struct TargetToml {
    provider: String,
    #[serde(default)]
    protect: bool,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(flatten)]
    settings: toml::Table,
}

/// The paths that were given on the command line.
#[derive(Debug, Clone, Default)]
pub struct Locations {
    pub config: Option<PathBuf>,
    pub state: Option<PathBuf>,
}

/// Reads the configuration: the named file, or the first `redrill.toml` from the current folder upward.
///
/// # Errors
/// [`Error`]. Nothing is made, not even the state folder.
pub fn load_config(at: &Locations) -> Result<Config, Error> {
    let here = env::current_dir().map_err(|why| Error::Unreadable { path: ".".into(), why })?;
    let named = at.config.clone().or_else(|| env::var_os("REDRILL_CONFIG").map(PathBuf::from));
    let file = named.map(|f| here.join(f)).or_else(|| find_config_file(&here));
    let base = file.as_deref().and_then(Path::parent).unwrap_or(&here).to_path_buf();
    let state = at.state.clone().or_else(|| env::var_os("REDRILL_STATE").map(PathBuf::from));
    let state = state
        .map_or_else(|| former_name::fall_back_to_former_path(base.join(STATE_FOLDER)), |s| here.join(s));
    let mut targets = BTreeMap::from([(SANDBOX.to_owned(), sandbox_target())]);
    if let Some(lab) = read_lab_target(&state)? {
        targets.insert(LAB.to_owned(), lab);
    }
    if let Some(file) = &file {
        targets.extend(read_targets(file)?);
    }
    Ok(Config { base, state, file, targets })
}

fn find_config_file(from: &Path) -> Option<PathBuf> {
    from.ancestors()
        .map(|folder| former_name::fall_back_to_former_path(folder.join(FILE_NAME)))
        .find(|file| file.is_file())
}

fn read_targets(file: &Path) -> Result<BTreeMap<String, TargetConfig>, Error> {
    let text = fs::read_to_string(file).map_err(|why| Error::Unreadable { path: file.into(), why })?;
    let written: ConfigToml = toml::from_str(&text).map_err(|e| Error::Invalid {
        path: file.into(),
        message: e.to_string(),
        hint: suggest::hint_for_unknown_field(e.message()),
    })?;
    Ok(written.targets.into_iter().map(|(name, t)| (name.clone(), target_from_toml(name, t))).collect())
}

fn target_from_toml(name: String, written: TargetToml) -> TargetConfig {
    let TargetToml { provider, protect, tags, settings } = written;
    TargetConfig { name, provider, protect, tags, settings }
}

fn sandbox_target() -> TargetConfig {
    TargetConfig {
        name: SANDBOX.into(),
        provider: "sim".into(),
        protect: false,
        tags: Vec::new(),
        settings: toml::Table::from_iter([("world".to_owned(), "sandbox".into())]),
    }
}

/// Returns the file in the state folder in which a lab that is up has left its target entry.
pub fn lab_target_path(state: &Path) -> PathBuf {
    state.join("lab.toml")
}

/// Reads the target entry that a lab which is up has left; the same shape as one under `[targets]`.
fn read_lab_target(state: &Path) -> Result<Option<TargetConfig>, Error> {
    let path = lab_target_path(state);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        // An impossible state folder is reported by the first write to it, not here.
        Err(e) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&e.kind()) => {
            return Ok(None);
        }
        Err(why) => return Err(Error::Unreadable { path, why }),
    };
    let written: TargetToml = toml::from_str(&text).map_err(|e| Error::Invalid {
        message: e.to_string(),
        hint: Some("run `redrill lab down` to clear it away".into()),
        path,
    })?;
    Ok(Some(target_from_toml(LAB.into(), written)))
}
