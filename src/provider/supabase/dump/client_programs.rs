//! PostgreSQL's client programs on this machine, and those that fit a server's version.

use crate::{
    base::program::run_program,
    provider::{Code, Error, Result, host::programs::Programs, supabase::project::Supabase},
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where Debian keeps the programs of each major version.
const DEBIAN_PROGRAMS: &str = "/usr/lib/postgresql";

impl Supabase {
    /// Returns the oldest installed client programs that support this server version: a newer one may write a
    /// dump that the server cannot read.
    ///
    /// # Errors
    /// [`Code::Unavailable`] with what to install.
    pub(in crate::provider::supabase) fn find_client_programs(&self, server_major: u32) -> Result<Programs> {
        let mut found: Vec<(u32, PathBuf)> = list_bin_folders()
            .into_iter()
            .filter_map(|folder| Some((read_programs_version(&folder)?, folder)))
            .collect();
        found.sort();
        let newest = found.last().map(|(major, _)| *major);
        let bin = found.into_iter().find(|(major, _)| *major >= server_major).map(|(_, folder)| folder);
        bin.map(|bin| Programs { bin, owner: None }).ok_or_else(|| {
            let have =
                newest.map_or_else(|| "there is none here".into(), |n| format!("the newest here is {n}"));
            let what = format!(
                "`{}` runs PostgreSQL {server_major}, and needs `pg_dump` of that version: {have}",
                self.display_name()
            );
            Error::new(Code::Unavailable, what)
                .with_hint(format!("install it with `apt-get install postgresql-client-{server_major}`"))
        })
    }
}

fn list_bin_folders() -> Vec<PathBuf> {
    let debian =
        fs::read_dir(DEBIAN_PROGRAMS).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    debian.chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())).collect()
}

/// Returns the version of the programs in a folder; `None` where one of them is missing.
fn read_programs_version(folder: &Path) -> Option<u32> {
    if !folder.join("pg_restore").is_file() {
        return None;
    }
    let mut pg_dump = Command::new(folder.join("pg_dump"));
    pg_dump.arg("--version").env("LC_ALL", "C");
    let output = run_program(pg_dump).ok()?;
    parse_major_version(String::from_utf8_lossy(&output.stdout).split_whitespace().nth(2)?)
}

/// Returns the major version in `17.4`, `15.8.1.079`, `18beta1`.
pub(in crate::provider::supabase) fn parse_major_version(version: &str) -> Option<u32> {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_major_version("15.8.1.079"), Some(15));
        assert_eq!(parse_major_version("18beta1"), Some(18));
        assert_eq!(parse_major_version("unknown"), None);
    }
}
