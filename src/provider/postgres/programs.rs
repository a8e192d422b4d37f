//! The programs of PostgreSQL: where they are, and the OS user that they run as.

use crate::{
    base::program::run_program,
    provider::{
        Code, Error, Result,
        host::{os_user::OsUser, programs::Programs},
    },
};
use std::{
    env, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Where Debian keeps the programs of each major version.
const DEBIAN_PROGRAMS: &str = "/usr/lib/postgresql";

impl Programs {
    /// Returns the programs for the cluster in `data_dir`, run as the user it belongs to.
    ///
    /// # Errors
    /// [`Code::Unavailable`] with what to install; [`Code::Denied`] when we are neither root nor that user.
    pub(super) fn for_cluster(data_dir: &Path, bin_dir: Option<&Path>) -> Result<Self> {
        let major = fs::read_to_string(data_dir.join("PG_VERSION")).ok();
        let bin = find_programs_folder(bin_dir, major.as_deref().map(str::trim))?;
        let uid = fs::metadata(data_dir)
            .map_err(|e| {
                Error::new(
                    Code::Unavailable,
                    format!("the data folder `{}` cannot be looked at: {e}", data_dir.display()),
                )
                .with_hint("set `data_dir` of the target, and run redrill on the cluster's own host")
            })?
            .uid();
        Ok(Self { bin, owner: find_user_to_run_as(uid)? })
    }

    /// Returns the programs for a new cluster: ours, or as root those of the OS user `postgres`.
    ///
    /// # Errors
    /// [`Code::Unavailable`] with what to install.
    pub(super) fn for_new_cluster(bin_dir: Option<&Path>) -> Result<Self> {
        let bin = find_programs_folder(bin_dir, None)?;
        let owner = if rustix::process::geteuid().is_root() {
            Some(OsUser::look_up("postgres").map_err(|e| {
                e.with_hint("PostgreSQL refuses to run as root: run redrill as another user, or install PostgreSQL with `apt-get install postgresql`, which makes the user")
            })?)
        } else {
            None
        };
        Ok(Self { bin, owner })
    }

    /// Returns whether the server package has this library for the server to load.
    pub(super) fn has_library(&self, library: &str) -> bool {
        let mut pg_config = Command::new(self.bin.join("pg_config"));
        pg_config.arg("--pkglibdir");
        let folder =
            run_program(pg_config).map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        // Without `pg_config`, which distributions package apart, libraries lie beside the programs.
        [folder.unwrap_or_default(), self.bin.join("../lib").display().to_string()]
            .iter()
            .any(|folder| Path::new(folder).join(format!("{library}.so")).is_file())
    }
}

fn find_user_to_run_as(uid: u32) -> Result<Option<OsUser>> {
    let we = rustix::process::geteuid();
    if we.as_raw() == uid {
        return if we.is_root() { Err(owned_by_root_error()) } else { Ok(None) };
    }
    let owner = OsUser::look_up(&uid.to_string())?;
    if we.is_root() {
        return Ok(Some(owner));
    }
    Err(Error::new(Code::Denied, format!("the data folder belongs to the OS user `{}`", owner.name))
        .with_hint(format!("run redrill as `{}` or as root", owner.name)))
}

fn owned_by_root_error() -> Error {
    Error::new(Code::Denied, "the data folder belongs to root, and PostgreSQL refuses to run as root")
        .with_hint("give the folder to the OS user that PostgreSQL runs as")
}

fn find_programs_folder(setting: Option<&Path>, major: Option<&str>) -> Result<PathBuf> {
    if let Some(folder) = setting {
        return if folder.join("pg_ctl").is_file() {
            Ok(folder.into())
        } else {
            Err(Error::new(
                Code::Invalid,
                format!("`bin_dir` is `{}`, and there is no `pg_ctl` in it", folder.display()),
            ))
        };
    }
    let of_major = match major {
        Some(major) => Some(Path::new(DEBIAN_PROGRAMS).join(major).join("bin")),
        None => newest_debian_programs_folder(),
    };
    of_major
        .into_iter()
        // Asked only when it must be: on Debian it is a shell script that starts three more programs.
        .chain(std::iter::once_with(ask_pg_config).flatten())
        .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default()))
        .find(|folder| folder.join("pg_ctl").is_file())
        .ok_or_else(|| {
            let which = major.map_or_else(|| "PostgreSQL".to_owned(), |m| format!("PostgreSQL {m}"));
            let package = major.map_or_else(|| "postgresql".to_owned(), |m| format!("postgresql-{m}"));
            Error::new(Code::Unavailable, format!("the server programs of {which} are not installed here"))
                .with_hint(format!("install them with `apt-get install {package}`, or set `bin_dir`"))
        })
}

fn newest_debian_programs_folder() -> Option<PathBuf> {
    let majors = fs::read_dir(DEBIAN_PROGRAMS).ok()?.flatten();
    let newest = majors.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok()).max()?;
    Some(Path::new(DEBIAN_PROGRAMS).join(newest.to_string()).join("bin"))
}

fn ask_pg_config() -> Option<PathBuf> {
    let mut pg_config = Command::new("pg_config");
    pg_config.arg("--bindir");
    let said = run_program(pg_config).ok()?;
    Some(PathBuf::from(String::from_utf8(said.stdout).ok()?.trim())).filter(|p| p.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_bin_dir_is_named() {
        let error = find_programs_folder(Some(Path::new("/nowhere")), None).expect_err("nothing there");
        assert!(error.message.contains("/nowhere"), "{}", error.message);
    }

    #[test]
    fn a_missing_version_says_what_to_install() {
        let error = find_programs_folder(None, Some("6")).map(|p| p.display().to_string());
        if let Err(error) = error {
            assert!(error.hint.expect("a hint").contains("postgresql-6"));
        }
    }
}
