//! What `firedrill.toml` may say of a PostgreSQL target.

use super::sql::Address;
use crate::{
    base::{secret, suggest},
    provider::{Code, Error, Result, fleet::Opening},
};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Which program makes and restores backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EngineName {
    #[default]
    Auto,
    Builtin,
    Pgbackrest,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    data_dir: Option<PathBuf>,
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    database: Option<String>,
    password: Option<String>,
    backup_dir: Option<PathBuf>,
    archive_dir: Option<PathBuf>,
    #[serde(default)]
    engine: EngineName,
    bin_dir: Option<PathBuf>,
}

/// The settings of a target, with presets filled in and paths made absolute.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// How to connect.
    pub address: Address,
    /// The data folder, on this machine.
    pub data_dir: Option<PathBuf>,
    /// Where backups are kept.
    pub backup_dir: Option<PathBuf>,
    /// Where the cluster archives its WAL, when it is not to be asked of the cluster.
    pub archive_dir: Option<PathBuf>,
    /// Where the programs are, when they are not to be looked for.
    pub bin_dir: Option<PathBuf>,
}

impl Settings {
    /// Reads the settings of a target.
    ///
    /// # Errors
    /// [`Code::Invalid`] with what was meant; [`Code::Unsupported`] for an engine that is not there yet.
    pub(super) fn read(opening: &Opening<'_>) -> Result<Self> {
        let name = &opening.target.name;
        let written = Written::deserialize(toml::Value::Table(opening.target.settings.clone()))
            .map_err(|e| invalid(name, &e))?;
        if written.engine == EngineName::Pgbackrest {
            return Err(Error::unsupported(
                format!("target `{name}` wants the engine `pgbackrest`, which comes next"),
                "set `engine = \"builtin\"`: it needs nothing but the PostgreSQL server package",
            ));
        }
        let absolute = |path: Option<PathBuf>| path.map(|p| opening.base.join(p));
        Ok(Self {
            address: Address {
                host: written.host.map_or_else(|| "/var/run/postgresql".into(), |h| socket(opening.base, h)),
                port: written.port.unwrap_or(5432),
                user: written.user.unwrap_or_else(|| "postgres".into()),
                database: written.database.unwrap_or_else(|| "postgres".into()),
                password: written.password.map(|p| password(name, &p)).transpose()?,
            },
            data_dir: absolute(written.data_dir),
            backup_dir: absolute(written.backup_dir),
            archive_dir: absolute(written.archive_dir),
            bin_dir: absolute(written.bin_dir),
        })
    }
}

/// Returns a socket folder made absolute; an address stays as it is.
fn socket(base: &Path, host: String) -> String {
    if host.starts_with('.') { base.join(host).display().to_string() } else { host }
}

fn password(target: &str, reference: &str) -> Result<secret::Reference> {
    secret::Reference::parse(reference).map_err(|e| {
        Error::new(Code::Invalid, format!("`password` of target `{target}`: {e}"))
            .hint("write `password = \"env:NAME\"` or `\"file:PATH\"`")
    })
}

fn invalid(target: &str, why: &toml::de::Error) -> Error {
    let error = Error::new(Code::Invalid, format!("the settings of target `{target}`: {}", why.message()));
    match suggest::hint_for_unknown_field(why.message()) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
