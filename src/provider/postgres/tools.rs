//! The PostgreSQL programs: their folder, the OS user they run as, and their environment.
//!
//! - No secret is ever an argument: arguments are in the process list.
//! - A program sees nothing of our environment, so that a stray `PGHOST` leads nowhere.
//! - What must outlive us runs in a process group of its own and writes to a file ([`Programs::spawn_detached`]).

use super::process::TrackedProcess;
use crate::provider::{Code, Error, Result};
use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    os::unix::{
        fs::{MetadataExt as _, OpenOptionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, PoisonError},
};

/// Where Debian keeps the programs of each major version.
const DEBIAN_PROGRAMS: &str = "/usr/lib/postgresql";
/// How much of a tool's last words goes into an error.
const TAIL_BYTES: usize = 600;

/// Where the PostgreSQL programs are and as whom they run.
#[derive(Debug, Clone)]
pub(in super::super) struct Programs {
    /// The folder of the programs.
    pub bin: PathBuf,
    /// The OS user they run as; `None` when we already are that user.
    pub owner: Option<OsUser>,
}

/// An OS user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct OsUser {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

impl OsUser {
    /// Looks a user up by name or number; the machine is asked once in a process, for every look at a job asks us.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub(super) fn look_up(name_or_uid: &str) -> Result<Self> {
        static KNOWN: Mutex<BTreeMap<String, OsUser>> = Mutex::new(BTreeMap::new());
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = known().get(name_or_uid) {
            return Ok(owner.clone());
        }
        let owner = Self::ask_getent(name_or_uid)?;
        known().insert(name_or_uid.to_owned(), owner.clone());
        Ok(owner)
    }

    fn ask_getent(name_or_uid: &str) -> Result<Self> {
        let unknown =
            || Error::new(Code::NotFound, format!("there is no OS user `{name_or_uid}` on this machine"));
        let found = Command::new("getent").args(["passwd", name_or_uid]).output().map_err(|_| unknown())?;
        let line = String::from_utf8_lossy(&found.stdout).into_owned();
        let mut fields = line.trim_end().split(':');
        let name = fields.next().filter(|name| !name.is_empty()).ok_or_else(unknown)?;
        let (uid, gid) = (fields.nth(1), fields.next());
        match (uid.and_then(|n| n.parse().ok()), gid.and_then(|n| n.parse().ok())) {
            (Some(uid), Some(gid)) => Ok(Self { name: name.into(), uid, gid }),
            _ => Err(unknown()),
        }
    }

    /// Returns the user we are.
    ///
    /// # Errors
    /// [`Code::NotFound`] when the user database has no entry for us.
    pub(super) fn current_user() -> Result<Self> {
        Self::look_up(&rustix::process::geteuid().as_raw().to_string())
    }
}

impl Programs {
    /// Returns the tools for the cluster in `data_dir`, run as the user it belongs to.
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
        Ok(Self { bin, owner: choose_owner(uid)? })
    }

    /// Returns the tools for a new cluster: ours, or as root those of the OS user `postgres`.
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

    /// Returns the OS user that the programs run as.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub(super) fn user(&self) -> Result<OsUser> {
        self.owner.clone().map_or_else(OsUser::current_user, Ok)
    }

    /// Returns whether the server package has this library for the server to load.
    pub(super) fn has_library(&self, library: &str) -> bool {
        let said = Command::new(self.bin.join("pg_config")).arg("--pkglibdir").output();
        let folder = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        // Without `pg_config`, which distributions package apart, libraries lie beside the programs.
        [folder.unwrap_or_default(), self.bin.join("../lib").display().to_string()]
            .iter()
            .any(|folder| Path::new(folder).join(format!("{library}.so")).is_file())
    }

    /// Returns a command without arguments: as the right user, with a clean environment and no standard input.
    pub(in super::super) fn command(&self, program: &str) -> Command {
        let own = self.bin.join(program);
        let mut command = if own.is_file() { Command::new(own) } else { Command::new(program) };
        command
            .env_clear()
            .env("PATH", search_path_with(&self.bin))
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .current_dir("/")
            .stdin(Stdio::null());
        if let Some(owner) = &self.owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        command
    }

    /// Runs a program to its end and returns what it said.
    ///
    /// # Errors
    /// [`Code::Tool`] with the tail of what it said, when it cannot be started or ends with anything but 0.
    pub(super) async fn run(&self, program: &str, args: &[&OsStr]) -> Result<Output> {
        let output = self.try_run(program, args).await?;
        if output.status.success() {
            return Ok(output);
        }
        let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        Err(Error::new(
            Code::Tool,
            format!("`{program}` ended with {}: {}", output.status, tail_output(said)),
        ))
    }

    /// Runs a program to its end and returns what it said, whatever its exit code.
    ///
    /// # Errors
    /// [`Code::Tool`] when it cannot be started.
    pub(in super::super) async fn try_run(&self, program: &str, args: &[&OsStr]) -> Result<Output> {
        let mut command = self.command(program);
        command.args(args);
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true).output().await.map_err(|e| start_error(program, &e))
    }

    /// Starts a program that may outlive us: in its own process group, writing to `log`.
    ///
    /// # Errors
    /// [`Code::Tool`] when it cannot be started.
    pub(in super::super) fn spawn_detached(
        &self,
        program: &str,
        args: &[&OsStr],
        environment: &[(&str, &OsStr)],
        log: &Path,
    ) -> Result<TrackedProcess> {
        let open = || {
            // The folder may belong to the other user: what lies there is not followed as root.
            let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
            File::options().create(true).append(true).custom_flags(no_follow).open(log).map_err(|e| {
                Error::new(Code::Tool, format!("the log `{}` cannot be written: {e}", log.display()))
            })
        };
        let mut command = self.command(program);
        command.args(args).envs(environment.iter().copied());
        command.stdout(open()?).stderr(open()?).process_group(0);
        TrackedProcess::track_child(command.spawn().map_err(|e| start_error(program, &e))?)
    }

    /// Gives `path` to the user that the programs run as.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(super) fn chown_to_owner(&self, path: &Path) -> Result<()> {
        let Some(owner) = &self.owner else { return Ok(()) };
        std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid)).map_err(|e| {
            Error::new(Code::Tool, format!("`{}` cannot be given to `{}`: {e}", path.display(), owner.name))
        })
    }
}

/// Returns the last words of a tool, on one line.
pub(in super::super) fn tail_output(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(&said[said.len().saturating_sub(TAIL_BYTES)..]).into_owned();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

fn start_error(program: &str, why: &std::io::Error) -> Error {
    Error::new(Code::Tool, format!("`{program}` cannot be started: {why}"))
        .with_hint("install PostgreSQL with `apt-get install postgresql`, or set `bin_dir` of the target")
}

fn choose_owner(uid: u32) -> Result<Option<OsUser>> {
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
        None => newest_debian_folder(),
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

fn newest_debian_folder() -> Option<PathBuf> {
    let majors = fs::read_dir(DEBIAN_PROGRAMS).ok()?.flatten();
    let newest = majors.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok()).max()?;
    Some(Path::new(DEBIAN_PROGRAMS).join(newest.to_string()).join("bin"))
}

fn ask_pg_config() -> Option<PathBuf> {
    let said = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8(said.stdout).ok()?.trim())).filter(|p| p.is_absolute())
}

fn search_path_with(bin: &Path) -> OsString {
    let system = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    env::join_paths(std::iter::once(bin.to_path_buf()).chain(system))
        .unwrap_or_else(|_| "/usr/bin:/bin".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let root = OsUser::look_up("root").expect("there is always a root");
        assert_eq!(root, OsUser::look_up("0").expect("and it is number 0"));
        assert_eq!(OsUser::look_up("no such user").expect_err("unknown").code, Code::NotFound);
    }

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
