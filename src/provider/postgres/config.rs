//! The configuration of a PostgreSQL target, from `redrill.toml`.

use super::sql::DatabaseAddress;
use crate::{
    base::{secret, suggest},
    provider::{Code, Error, OpenContext, Result},
};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The program that makes and restores backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BackupEngine {
    #[default]
    Auto,
    Builtin,
    Pgbackrest,
}

/// The table of a target, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PostgresToml {
    data_dir: Option<PathBuf>,
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    database: Option<String>,
    password: Option<String>,
    backup_dir: Option<PathBuf>,
    archive_dir: Option<PathBuf>,
    #[serde(default)]
    engine: BackupEngine,
    bin_dir: Option<PathBuf>,
}

/// The configuration of a target, with presets filled in and paths made absolute.
#[derive(Debug, Clone)]
pub(super) struct PostgresConfig {
    pub address: DatabaseAddress,
    /// The data folder, on this machine.
    pub data_dir: Option<PathBuf>,
    pub backup_dir: Option<PathBuf>,
    /// The folder of archived WAL; `None` when the server is to be asked for it.
    pub archive_dir: Option<PathBuf>,
    /// The folder of the programs; `None` when they are to be looked for.
    pub bin_dir: Option<PathBuf>,
}

impl PostgresConfig {
    /// Reads the configuration of a target.
    ///
    /// # Errors
    /// [`Code::Invalid`] for a setting that is unknown or cannot be read; [`Code::Unsupported`] for the engine `pgbackrest`.
    pub(super) fn read(opening: &OpenContext<'_>) -> Result<Self> {
        let name = &opening.target.name;
        let written = PostgresToml::deserialize(toml::Value::Table(opening.target.settings.clone()))
            .map_err(|e| invalid_config_error(name, &e))?;
        if written.engine == BackupEngine::Pgbackrest {
            return Err(Error::unsupported(
                format!("target `{name}` wants the engine `pgbackrest`, which comes next"),
                "set `engine = \"builtin\"`: it needs nothing but the PostgreSQL server package",
            ));
        }
        let absolute = |path: Option<PathBuf>| path.map(|p| opening.base.join(p));
        Ok(Self {
            address: DatabaseAddress {
                host: written.host.map_or_else(
                    || "/var/run/postgresql".into(),
                    |h| make_socket_folder_absolute(opening.base, h),
                ),
                port: written.port.unwrap_or(5432),
                user: written.user.unwrap_or_else(|| "postgres".into()),
                database: written.database.unwrap_or_else(|| "postgres".into()),
                password: written.password.map(|p| parse_password(name, &p)).transpose()?,
            },
            data_dir: absolute(written.data_dir),
            backup_dir: absolute(written.backup_dir),
            archive_dir: absolute(written.archive_dir),
            bin_dir: absolute(written.bin_dir),
        })
    }
}

/// Returns a socket folder made absolute; an address stays as it is.
fn make_socket_folder_absolute(base: &Path, host: String) -> String {
    if host.starts_with('.') { base.join(host).display().to_string() } else { host }
}

fn parse_password(target: &str, reference: &str) -> Result<secret::SecretRef> {
    secret::SecretRef::parse(reference).map_err(|e| {
        Error::new(Code::Invalid, format!("`password` of target `{target}`: {e}"))
            .with_hint("write `password = \"env:NAME\"` or `\"file:PATH\"`")
    })
}

fn invalid_config_error(target: &str, why: &toml::de::Error) -> Error {
    let error = Error::new(Code::Invalid, format!("the settings of target `{target}`: {}", why.message()));
    match suggest::hint_for_unknown_field(why.message()) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::clock::SystemClock, config::TargetConfig};
    use std::sync::Arc;

    fn read(text: &str) -> Result<PostgresConfig> {
        let target = TargetConfig {
            name: "orders".into(),
            provider: "postgres".into(),
            protect: false,
            tags: Vec::new(),
            settings: toml::from_str(text).expect("TOML"),
        };
        let clock: Arc<dyn crate::base::clock::Clock> = Arc::new(SystemClock);
        let here = Path::new("/etc/drills");
        PostgresConfig::read(&OpenContext {
            target: &target,
            base: here,
            file: None,
            state: here,
            clock: &clock,
        })
    }

    #[test]
    fn postgres_settings_have_presets_and_absolute_paths() {
        let settings = read("backup_dir = 'backups'").expect("reads");
        assert_eq!(settings.backup_dir.as_deref(), Some(Path::new("/etc/drills/backups")));
        assert_eq!((settings.address.host.as_str(), settings.address.port), ("/var/run/postgresql", 5432));
        assert_eq!(settings.data_dir, None);
    }

    #[test]
    fn postgres_settings_say_what_was_meant() {
        let error = read("dat_dir = '/x'").expect_err("no such setting");
        assert_eq!((error.code, error.hint.as_deref()), (Code::Invalid, Some("did you mean `data_dir`?")));
        let error = read("password = 'hunter2'").expect_err("a literal secret");
        assert!(!format!("{error:?}").contains("hunter2"));
        assert_eq!(read("engine = 'pgbackrest'").expect_err("not there yet").code, Code::Unsupported);
    }
}
