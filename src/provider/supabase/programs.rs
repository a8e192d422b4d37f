//! The programs that dump and load: where they are, and the one of the right version.

use super::Supabase;
use crate::provider::{Code, Error, Result, postgres::tools::Tools};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where Debian keeps the programs of each major version.
const DEBIAN: &str = "/usr/lib/postgresql";

impl Supabase {
    /// Returns the programs that understand a server of this major version: of the lowest version that does, since a
    /// newer one may write what the server does not read.
    ///
    /// # Errors
    /// [`Code::Unavailable`] with what to install.
    pub(super) fn programs_for(&self, server_major: u32) -> Result<Tools> {
        let mut found: Vec<(u32, PathBuf)> =
            folders().into_iter().filter_map(|folder| Some((major_of(&folder)?, folder))).collect();
        found.sort();
        let newest = found.last().map(|(major, _)| *major);
        let bin = found.into_iter().find(|(major, _)| *major >= server_major).map(|(_, folder)| folder);
        bin.map(|bin| Tools { bin, owner: None }).ok_or_else(|| {
            let have =
                newest.map_or_else(|| "there is none here".into(), |n| format!("the newest here is {n}"));
            let what = format!(
                "`{}` runs PostgreSQL {server_major}, and needs `pg_dump` of that version: {have}",
                self.name()
            );
            Error::new(Code::Unavailable, what)
                .hint(format!("install it with `apt-get install postgresql-client-{server_major}`"))
        })
    }
}

fn folders() -> Vec<PathBuf> {
    let debian = fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    debian.chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())).collect()
}

/// Returns the version of the programs in a folder that has all we need.
fn major_of(folder: &Path) -> Option<u32> {
    if !folder.join("pg_restore").is_file() {
        return None;
    }
    let said = Command::new(folder.join("pg_dump")).arg("--version").env("LC_ALL", "C").output().ok()?;
    major(String::from_utf8_lossy(&said.stdout).split_whitespace().nth(2)?)
}

/// Returns the major version in `17.4`, `15.8.1.079`, `18beta1`.
pub(super) fn major(version: &str) -> Option<u32> {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(major("15.8.1.079"), Some(15));
        assert_eq!(major("18beta1"), Some(18));
        assert_eq!(major("unknown"), None);
    }
}
