//! What the control file of a data folder says, read with `pg_controldata`; the server need not run.

use crate::provider::{Code, Error, Result, host::programs::Programs};
use std::{collections::BTreeMap, ffi::OsStr, path::Path};

/// Settings that must be at least as high in a copy as in its source, or recovery stops: their names in the
/// control file and in the configuration.
const MINIMUM_SETTINGS: [(&str, &str); 5] = [
    ("max_connections setting", "max_connections"),
    ("max_worker_processes setting", "max_worker_processes"),
    ("max_wal_senders setting", "max_wal_senders"),
    ("max_prepared_xacts setting", "max_prepared_transactions"),
    ("max_locks_per_xact setting", "max_locks_per_transaction"),
];

/// The part of a control file that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct ControlFile {
    /// The cluster's identifier, which all its physical copies share.
    pub system_identifier: String,
    /// The server's last state, such as `in production` or `shut down`.
    pub state: String,
    /// The timeline of its last checkpoint.
    pub timeline: u32,
    /// The size of a WAL segment in bytes.
    pub segment_bytes: u64,
    /// The values of [`MINIMUM_SETTINGS`], by setting.
    pub minima: BTreeMap<String, u64>,
}

impl ControlFile {
    /// Reads the control file of `data`.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(in super::super) async fn read(programs: &Programs, data: &Path) -> Result<Self> {
        let output = programs.run("pg_controldata", &[OsStr::new("-D"), data.as_os_str()]).await?;
        Self::parse(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
            Error::new(Code::Tool, format!("`pg_controldata` says too little about `{}`", data.display()))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.split_once(':')).map(|(k, v)| (k.trim(), v.trim())).collect();
        let minima = MINIMUM_SETTINGS
            .iter()
            .filter_map(|(field, setting)| Some(((*setting).to_owned(), fields.get(field)?.parse().ok()?)))
            .collect();
        Some(Self {
            system_identifier: (*fields.get("Database system identifier")?).to_owned(),
            state: (*fields.get("Database cluster state")?).to_owned(),
            timeline: fields.get("Latest checkpoint's TimeLineID")?.parse().ok()?,
            segment_bytes: fields.get("Bytes per WAL segment")?.parse().ok()?,
            minima,
        })
    }

    /// Raises the minima to those of another control file of the same cluster.
    pub(in super::super) fn raise_minimum_settings(&mut self, other: &ControlFile) {
        for (setting, value) in &other.minima {
            let own = self.minima.entry(setting.clone()).or_insert(*value);
            *own = (*own).max(*value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Database system identifier:           7552345678901234567
Database cluster state:               in production
Latest checkpoint's TimeLineID:       3
max_connections setting:              300
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
Bytes per WAL segment:                16777216
";

    #[test]
    fn the_minima_are_the_higher_of_two() {
        let mut control = ControlFile::parse(TEXT).expect("reads");
        assert_eq!((control.timeline, control.minima["max_connections"]), (3, 300));
        let later = TEXT.replace("300", "200").replace("         64", "        128");
        control.raise_minimum_settings(&ControlFile::parse(&later).expect("reads"));
        assert_eq!(control.minima["max_connections"], 300);
        assert_eq!(control.minima["max_locks_per_transaction"], 128);
        assert_eq!(ControlFile::parse("Database cluster state: x"), None);
    }
}
