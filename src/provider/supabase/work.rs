//! A program that goes on without us, and says in a file how it ended: an exit code that nobody waited for is lost.

use crate::provider::{
    Code, Error, Result,
    postgres::{
        process::{self, Child},
        tools::{self, Tools},
    },
};
use rustix::process::Signal;
use std::{
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

/// A program's traces in a folder of its own, which is among its arguments: `<name>.log`, and at its end
/// `<name>.status`.
pub(super) struct Work<'a> {
    folder: &'a Path,
    name: &'static str,
}

/// One look at a program.
pub(super) enum Look {
    /// It is at work.
    Running,
    /// It ended, and said this on one line.
    Ended {
        /// Whether it says that all is well.
        well: bool,
        /// What it said.
        said: String,
    },
    /// It is gone and has said nothing of its end.
    Vanished,
}

impl<'a> Work<'a> {
    /// Returns the traces of `name` in `folder`.
    pub(super) fn of(folder: &'a Path, name: &'static str) -> Self {
        Self { folder, name }
    }

    /// Starts the program; what an earlier one left is removed.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(super) fn begin(
        &self,
        tools: &Tools,
        program: &str,
        args: &[OsString],
        environment: &[(&str, &OsStr)],
    ) -> Result<Child> {
        // Written beside and renamed, so that a status which is there is whole.
        const SCRIPT: &str = r#"umask 077; "$@"; echo $? > "$0.new" && mv -f -- "$0.new" "$0""#;
        for left in [self.status(), self.log()] {
            remove(&left)?;
        }
        let status = self.status();
        let program = tools.bin.join(program);
        let mut words: Vec<&OsStr> =
            vec!["-c".as_ref(), SCRIPT.as_ref(), status.as_os_str(), program.as_os_str()];
        words.extend(args.iter().map(OsString::as_os_str));
        tools.spawn_detached("sh", &words, environment, &self.log())
    }

    /// Looks at the program that was started as `child`; whoever started it may have died before noting that.
    pub(super) fn look(&self, child: Option<&Child>) -> Look {
        let is_alive = child.is_some_and(Child::is_alive) || process::started_below(self.folder).is_some();
        // Looked at after the process: one that is gone by now has said everything.
        let status = fs::read_to_string(self.status()).unwrap_or_default();
        if let Ok(code) = status.trim().parse::<i32>() {
            let said = tools::tail(&fs::read(self.log()).unwrap_or_default());
            return Look::Ended { well: code == 0, said };
        }
        if is_alive { Look::Running } else { Look::Vanished }
    }

    /// Ends the program and all that it started.
    pub(super) fn end(&self, child: Option<&Child>) {
        let child = child.cloned().filter(Child::is_alive).or_else(|| process::started_below(self.folder));
        if let Some(child) = child {
            child.signal_group(Signal::KILL);
        }
    }

    fn status(&self) -> PathBuf {
        self.folder.join(format!("{}.status", self.name))
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(cannot(path, "be removed", &e)),
    }
}

/// Returns the error of a file or folder with which something could not be done.
pub(super) fn cannot(path: &Path, verb: &str, why: &io::Error) -> Error {
    let code = if why.kind() == io::ErrorKind::StorageFull { Code::NoDiskSpace } else { Code::Tool };
    Error::new(code, format!("`{}` cannot {verb}: {why}", path.display()))
}
