//! Recovery of a copy: the server's settings, and the proof that it reached its target.
//!
//! A server that came up proves nothing: it may be on the wrong timeline, or not yet know that the target
//! cannot be reached. Only its answers after recovery count, together with its log.

use super::copying::STARTS_MAX;
use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        host::{
            process::{self, TrackedProcess},
            programs,
        },
        model::Progress,
        postgres::{
            cluster::{server, server_log::ServerLog},
            records::{CopyRecord, RecoveryPlan, RecoveryStop},
            sql::{self, DatabaseAddress},
        },
    },
};
use std::{fs, path::Path};

/// A copy whose server was started to recover.
pub(super) struct RecoveringCopy<'a> {
    /// The data folder that the server was started on.
    pub data: &'a Path,
    /// How to connect to it.
    pub address: &'a DatabaseAddress,
    /// What is recorded of the copy: how often the server was started, and its process if that is known.
    pub copy: &'a CopyRecord,
}

/// What one poll of a recovery found.
pub(super) enum RecoveryState {
    /// The server replays WAL.
    Running(Progress),
    /// The server is gone without an error in its log: it was killed, or the machine went down. It is to be started again.
    Killed,
    /// Recovery is over, and proved to have reached its target.
    Proved(RecoveryProof),
}

/// What a recovery that is over has reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecoveryProof {
    /// The last transaction that is in, when one was replayed.
    pub reached: Option<Moment>,
    /// The timeline that the copy is on now.
    pub timeline: u32,
}

impl RecoveringCopy<'_> {
    /// Polls the recovery once.
    ///
    /// # Errors
    /// Why it did not reach its target.
    pub(super) async fn poll_recovery(&self) -> Result<RecoveryState> {
        let runs = server::find_server(self.data).is_some()
            || self.copy.child.as_ref().is_some_and(TrackedProcess::is_alive)
            || programs::is_log_in_use(&self.copy.recovery_log_path())
            || process::find_program_started_with(self.data.as_os_str()).is_some()
            // A server that is killed leaves its children for a moment, and the next could not start beside them.
            || !process::list_processes_working_in(self.data).is_empty();
        // Read after the process was looked for: what it wrote before it ended is then complete.
        let log = ServerLog::read(&self.copy.recovery_log_path());
        if !runs {
            let may_go_on = log.fatal.is_none() && self.copy.starts < STARTS_MAX;
            return if may_go_on { Ok(RecoveryState::Killed) } else { Err(recovery_failed_error(&log)) };
        }
        if let Some(words) = &log.paused {
            return Err(Error::new(
                Code::TargetNotReached,
                format!("recovery waits for a person: {words}; {}", log.reason.unwrap_or_default()),
            ));
        }
        let replaying = || RecoveryState::Running(Progress::with_phase("replaying WAL"));
        let client = match self.connect().await {
            Ok(client) => client,
            Err(error) if error.code == Code::Unavailable => return Ok(replaying()),
            Err(error) => return Err(blame_backup_for_corruption(error)),
        };
        let asked = sql::fetch_text(
            &client,
            "select case when pg_is_in_recovery() then coalesce(pg_last_wal_replay_lsn()::text, '') end",
        )
        .await;
        match asked {
            Ok(Some(lsn)) => {
                Ok(RecoveryState::Running(Progress::with_phase(format!("replaying WAL at {lsn}"))))
            }
            Ok(None) => self
                .prove_recovery(&client, &log)
                .await
                .map(RecoveryState::Proved)
                .map_err(blame_backup_for_corruption),
            Err(error) if error.code == Code::CorruptSource => Err(blame_backup_for_corruption(error)),
            // It went away meanwhile; the next poll reads its log.
            Err(_) => Ok(replaying()),
        }
    }

    /// Connects; at the target the database itself may not have been there yet.
    async fn connect(&self) -> Result<sql::Client> {
        match self.address.connect().await {
            Err(error) if error.code == Code::NotFound => {
                DatabaseAddress { database: "template1".into(), ..self.address.clone() }.connect().await
            }
            connected => connected,
        }
    }

    /// Returns the proof that the server recovered as it should have; it must be out of recovery.
    async fn prove_recovery(&self, client: &sql::Client, log: &ServerLog) -> Result<RecoveryProof> {
        let not_so = |what: String| Err(Error::new(Code::TargetNotReached, what));
        let ask = "select system_identifier from pg_control_system()";
        let identifier = sql::fetch_text(client, ask).await?.unwrap_or_default();
        if identifier != self.copy.system_identifier {
            return not_so(format!(
                "the copy is of cluster {identifier} and not of {}",
                self.copy.system_identifier
            ));
        }
        if log.stopping.is_none() {
            return not_so("the server opened without saying that it stopped at the target".into());
        }
        let segment =
            sql::fetch_text(client, "select left(pg_walfile_name(pg_current_wal_lsn()), 8)").await?;
        let timeline = segment.and_then(|hex| u32::from_str_radix(&hex, 16).ok()).unwrap_or_default();
        let parent = read_parent_timeline(self.data, timeline);
        if parent != Some(self.copy.recovery.timeline) {
            let parent = parent.map_or_else(|| "unknown".into(), |p| p.to_string());
            return not_so(format!(
                "the copy followed timeline {parent} instead of {}",
                self.copy.recovery.timeline
            ));
        }
        let reached = log.last_transaction.as_deref().and_then(parse_log_moment);
        if let (RecoveryStop::Time(target), Some(reached)) = (&self.copy.recovery.stop, reached)
            && (reached > *target || (reached == *target && !self.copy.recovery.inclusive))
        {
            return not_so(format!("the last transaction is of {reached}, after the target {target}"));
        }
        Ok(RecoveryProof { reached, timeline })
    }
}

/// Converts an error from a copy's server: damaged data is the backup's, not the source's.
fn blame_backup_for_corruption(error: Error) -> Error {
    match error.code {
        Code::CorruptSource => {
            Error::new(Code::CorruptBackup, format!("the copy of the backup is damaged: {}", error.message))
                .with_hint("choose another backup, and see `backup verify`")
        }
        Code::Denied => {
            error.with_hint("see `user` of the target: the role must exist at the target already")
        }
        _ => error,
    }
}

/// Returns the settings that make a server stop where it should, and open for writing there.
pub(super) fn recovery_target_settings(recovery: &RecoveryPlan) -> Vec<(&'static str, String)> {
    let stop = match &recovery.stop {
        RecoveryStop::BackupEnd => ("recovery_target", "immediate".into()),
        RecoveryStop::Time(moment) => ("recovery_target_time", format_in_utc(*moment)),
        RecoveryStop::Xid(xid) => ("recovery_target_xid", xid.clone()),
        RecoveryStop::Lsn(lsn) => ("recovery_target_lsn", lsn.clone()),
        RecoveryStop::Name(name) => ("recovery_target_name", name.clone()),
    };
    vec![
        stop,
        ("recovery_target_inclusive", if recovery.inclusive { "on" } else { "off" }.into()),
        // The preset, `latest`, silently follows whatever restore came last.
        ("recovery_target_timeline", recovery.timeline.to_string()),
        ("recovery_target_action", "promote".into()),
    ]
}

/// Formats a moment with its zone; without one the server would assume its own.
fn format_in_utc(moment: Moment) -> String {
    moment.0.strftime("%Y-%m-%d %H:%M:%S.%6f+00").to_string()
}

/// Returns the timeline from which `timeline` forked, as its own history file says.
fn read_parent_timeline(data: &Path, timeline: u32) -> Option<u32> {
    let history = fs::read_to_string(data.join("pg_wal").join(format!("{timeline:08X}.history"))).ok()?;
    let mut lines = history.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.next_back()?.split_whitespace().next()?.parse().ok()
}

/// Reads a moment as the server's log has it, such as `2026-11-20 10:00:00.123456+00`.
fn parse_log_moment(text: &str) -> Option<Moment> {
    Moment::parse(&text.trim().replacen(' ', "T", 1)).ok()
}

/// Returns the error for a recovery that the server gave up.
fn recovery_failed_error(log: &ServerLog) -> Error {
    let words = log.fatal.clone().unwrap_or_else(|| "the server went away without a word".into());
    let code = if words.contains("before configured recovery target was reached") {
        Code::TargetNotReached
    } else if words.contains("could not locate required checkpoint record") || words.contains("requested WAL")
    {
        Code::WalGap
    } else if words.contains("No space left on device") {
        Code::NoDiskSpace
    } else {
        Code::Tool
    };
    Error::new(code, format!("the copy did not recover: {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t4_a_target_always_carries_its_zone() {
        let asked = Moment::parse("2026-11-20T09:00:00.5+09:00").expect("a moment");
        assert_eq!(format_in_utc(asked), "2026-11-20 00:00:00.500000+00");
    }

    #[test]
    fn damage_in_a_copy_is_the_backups_and_not_the_users() {
        let damaged = blame_backup_for_corruption(
            Error::new(Code::CorruptSource, "invalid page").with_hint("host `/x`, port 5"),
        );
        assert_eq!(damaged.code, Code::CorruptBackup);
        assert!(damaged.hint.expect("a hint").contains("backup verify"));
        let denied = blame_backup_for_corruption(Error::new(Code::Denied, "no such role"));
        assert!(denied.hint.expect("a hint").contains("`user`"));
        assert_eq!(blame_backup_for_corruption(Error::new(Code::Sql, "else")).hint, None);
    }

    #[test]
    fn t6_a_timeline_is_always_written() {
        let recovery = RecoveryPlan {
            backup: "b".into(),
            stop: RecoveryStop::BackupEnd,
            inclusive: true,
            timeline: 3,
            archive: "/wal".into(),
            unseen: None,
        };
        assert!(recovery_target_settings(&recovery).contains(&("recovery_target_timeline", "3".into())));
    }

    #[test]
    fn the_log_s_moment_is_read() {
        let read = parse_log_moment("2026-11-20 10:00:00.123456+00").expect("a moment");
        assert_eq!(read.to_string(), "2026-11-20T10:00:00.123456Z");
    }
}
