//! Whether a cluster may be stopped and started by us, and how it was started last.

use super::check_alone;
use crate::provider::{
    Code, Error, Result,
    postgres::{cluster::Cluster, isolation, server},
};
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// A data folder that can be exchanged.
pub(super) struct Place {
    /// The folder, links followed.
    pub data: PathBuf,
    /// What its server is started with, besides the folder.
    pub options: Vec<String>,
    /// Where its server writes what it does not log elsewhere.
    pub log: PathBuf,
}

impl Place {
    /// Returns the data folder of a cluster, when everything about it is so that it can be exchanged.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn of(cluster: &Cluster) -> Result<Self> {
        let unreadable = |e: std::io::Error| {
            Error::new(Code::Unavailable, format!("`{}` cannot be looked at: {e}", cluster.data.display()))
        };
        let data = fs::canonicalize(&cluster.data).map_err(unreadable)?;
        check_alone(cluster, &data)?;
        let parent = data.parent().unwrap_or(Path::new("/"));
        let (own, above) =
            (fs::metadata(&data).map_err(unreadable)?, fs::metadata(parent).map_err(unreadable)?);
        if own.dev() != above.dev() {
            return Err(refused(&data, "it is a disk of its own, and cannot be moved aside"));
        }
        if rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).is_err() {
            return Err(refused(&data, &format!("nothing can be written to `{}`", parent.display())));
        }
        if fs::symlink_metadata(data.join("pg_wal")).is_ok_and(|found| found.is_symlink()) {
            return Err(refused(&data, "its WAL lies in another folder, which a copy would not use"));
        }
        if !isolation::tablespaces(&data)?.is_empty() {
            return Err(refused(
                &data,
                "it has tablespaces outside its folder, which would have to be exchanged too",
            ));
        }
        if let Some(service) = server::running(&data).and_then(|server| service(server.pid)) {
            return Err(refused(&data, &format!("its server is run by `{service}`")).hint(format!(
                "stop it yourself with `systemctl stop {service}`, restore, and start it again; or restore into a branch"
            )));
        }
        let options = options(&data);
        if options.is_empty() && !data.join("postgresql.conf").is_file() {
            return Err(refused(
                &data,
                "it has no `postgresql.conf`, and nothing says how its server was started",
            ));
        }
        let log = server::output(&data).unwrap_or_else(|| cluster.records.home().join("server.log"));
        Ok(Self { data, options, log })
    }
}

fn refused(data: &Path, why: &str) -> Error {
    Error::new(Code::Refused, format!("`{}` cannot be restored in place: {why}", data.display()))
        .hint("restore into a branch with `into`, and carry over what is needed")
}

/// Returns the systemd service that a process belongs to and that is not ours too.
fn service(pid: i32) -> Option<String> {
    let of = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        text.trim_end().rsplit('/').next().filter(|unit| unit.ends_with(".service")).map(str::to_owned)
    };
    of(&pid.to_string()).filter(|service| of("self").as_ref() != Some(service))
}

/// Returns what the server was started with last, without its data folder.
fn options(data: &Path) -> Vec<String> {
    let line = fs::read_to_string(data.join("postmaster.opts")).unwrap_or_default();
    parse(&line)
}

fn parse(line: &str) -> Vec<String> {
    let mut words = line.trim_end().split(" \"").skip(1).map(|word| word.trim_end_matches('"').to_owned());
    let mut options = Vec::new();
    while let Some(word) = words.next() {
        if word == "-D" {
            words.next();
        } else {
            options.push(word);
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_the_last_start_are_kept() {
        let line = "/usr/lib/postgresql/15/bin/postgres \"-D\" \"/var/lib/pg data\" \"-c\" \"config_file=/etc/a b.conf\"\n";
        assert_eq!(parse(line), ["-c", "config_file=/etc/a b.conf"]);
        assert!(parse("/usr/lib/postgresql/15/bin/postgres \"-D\" \"/data\"\n").is_empty());
    }
}
