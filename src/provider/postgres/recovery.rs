//! Recovery of a copy: what the server is told, and the proof that it did it.
//!
//! That a server came up says nothing: it also comes up on the wrong timeline, or before it notices that the target
//! cannot be reached. Only what it says itself afterwards counts, together with its log.

use super::{
    process::{self, Child},
    records::{Recovery, Stop},
    server::{self, Log},
    sql::{self, Address},
};
use crate::{
    base::moment::Moment,
    provider::{Code, Error, Result, model::Progress},
};
use std::{fs, path::Path};

/// A copy whose server was started to recover.
pub(super) struct Copy<'a> {
    /// Its data folder.
    pub data: &'a Path,
    /// The log of that start.
    pub log: &'a Path,
    /// The server, when its number could be written down.
    pub child: Option<&'a Child>,
    /// What it was told.
    pub recovery: &'a Recovery,
    /// How to connect to it.
    pub address: &'a Address,
    /// The cluster that it is a copy of.
    pub system_identifier: &'a str,
}

/// One look at a recovery.
pub(super) enum Recovering {
    /// Still going on.
    Running(Progress),
    /// The server is gone without having said why: killed, or the machine went down.
    Killed,
    /// Over, and proved.
    Over(Proof),
}

/// What a recovery that is over came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    /// The last transaction that is in, when one was replayed.
    pub reached: Option<Moment>,
    /// The timeline that the copy is on now.
    pub timeline: u32,
}

impl Copy<'_> {
    /// Looks at the recovery once.
    ///
    /// # Errors
    /// Why it did not come to where it should.
    pub(super) async fn observe(&self) -> Result<Recovering> {
        let runs = server::running(self.data).is_some()
            || self.child.is_some_and(Child::is_alive)
            || process::started_with(self.data.as_os_str()).is_some()
            // A server that is killed leaves its children for a moment, and the next could not start beside them.
            || !process::working_in(self.data).is_empty();
        // Read after the look at the process: what it said before it went is then complete.
        let log = Log::read(self.log);
        if !runs {
            return if log.fatal.is_some() { Err(given_up(&log)) } else { Ok(Recovering::Killed) };
        }
        if let Some(words) = &log.paused {
            return Err(Error::new(
                Code::TargetNotReached,
                format!("recovery waits for a person: {words}; {}", log.reason.unwrap_or_default()),
            ));
        }
        let replaying = || Recovering::Running(Progress::phase("replaying WAL"));
        let client = match self.connect().await {
            Ok(client) => client,
            Err(error) if error.code == Code::Unavailable => return Ok(replaying()),
            Err(error) => return Err(of_copy(error)),
        };
        let asked = sql::text(
            &client,
            "select case when pg_is_in_recovery() then coalesce(pg_last_wal_replay_lsn()::text, '') end",
        )
        .await;
        match asked {
            Ok(Some(lsn)) => Ok(Recovering::Running(Progress::phase(format!("replaying WAL at {lsn}")))),
            Ok(None) => self.prove(&client, &log).await.map(Recovering::Over).map_err(of_copy),
            Err(error) if error.code == Code::CorruptSource => Err(of_copy(error)),
            // It went away between two questions; the next look reads its log.
            Err(_) => Ok(replaying()),
        }
    }

    /// Connects; at the target the database itself may not have been there yet.
    async fn connect(&self) -> Result<sql::Client> {
        match self.address.connect().await {
            Err(error) if error.code == Code::NotFound => {
                Address { database: "template1".into(), ..self.address.clone() }.connect().await
            }
            connected => connected,
        }
    }

    /// Returns the proof that the server recovered as it should have; it must be out of recovery.
    async fn prove(&self, client: &sql::Client, log: &Log) -> Result<Proof> {
        let not_so = |what: String| Err(Error::new(Code::TargetNotReached, what));
        let ask = "select system_identifier from pg_control_system()";
        let identifier = sql::text(client, ask).await?.unwrap_or_default();
        if identifier != self.system_identifier {
            return not_so(format!(
                "the copy is of cluster {identifier} and not of {}",
                self.system_identifier
            ));
        }
        if log.stopping.is_none() {
            return not_so("the server opened without saying that it stopped at the target".into());
        }
        let segment = sql::text(client, "select left(pg_walfile_name(pg_current_wal_lsn()), 8)").await?;
        let timeline = segment.and_then(|hex| u32::from_str_radix(&hex, 16).ok()).unwrap_or_default();
        let parent = parent(self.data, timeline);
        if parent != Some(self.recovery.timeline) {
            let parent = parent.map_or_else(|| "unknown".into(), |p| p.to_string());
            return not_so(format!(
                "the copy followed timeline {parent} instead of {}",
                self.recovery.timeline
            ));
        }
        let reached = log.last_transaction.as_deref().and_then(moment);
        if let (Stop::Time(target), Some(reached)) = (&self.recovery.stop, reached)
            && (reached > *target || (reached == *target && !self.recovery.inclusive))
        {
            return not_so(format!("the last transaction is of {reached}, after the target {target}"));
        }
        Ok(Proof { reached, timeline })
    }
}

/// Returns what an error of a copy's server means: its data came from the backup, and not from the source.
fn of_copy(error: Error) -> Error {
    match error.code {
        Code::CorruptSource => {
            Error::new(Code::CorruptBackup, format!("the copy of the backup is damaged: {}", error.message))
                .hint("choose another backup, and see `backup verify`")
        }
        Code::Denied => error.hint("see `user` of the target: the role must exist at the target already"),
        _ => error,
    }
}

/// Returns the settings that make a server stop where it should, and open for writing there.
pub(super) fn targets(recovery: &Recovery) -> Vec<(&'static str, String)> {
    let stop = match &recovery.stop {
        Stop::BackupEnd => ("recovery_target", "immediate".into()),
        Stop::Time(moment) => ("recovery_target_time", in_utc(*moment)),
        Stop::Xid(xid) => ("recovery_target_xid", xid.clone()),
        Stop::Lsn(lsn) => ("recovery_target_lsn", lsn.clone()),
        Stop::Name(name) => ("recovery_target_name", name.clone()),
    };
    vec![
        stop,
        ("recovery_target_inclusive", if recovery.inclusive { "on" } else { "off" }.into()),
        // The preset, `latest`, silently follows whatever restore came last.
        ("recovery_target_timeline", recovery.timeline.to_string()),
        ("recovery_target_action", "promote".into()),
    ]
}

/// Returns a moment the way the server cannot misunderstand it: without a zone it would take its own.
fn in_utc(moment: Moment) -> String {
    moment.0.strftime("%Y-%m-%d %H:%M:%S.%6f+00").to_string()
}

/// Returns the timeline from which `timeline` forked, as its own history file says.
fn parent(data: &Path, timeline: u32) -> Option<u32> {
    let history = fs::read_to_string(data.join("pg_wal").join(format!("{timeline:08X}.history"))).ok()?;
    let mut lines = history.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.next_back()?.split_whitespace().next()?.parse().ok()
}

/// Reads a moment as the server's log has it, such as `2026-11-20 10:00:00.123456+00`.
fn moment(text: &str) -> Option<Moment> {
    Moment::parse(&text.trim().replacen(' ', "T", 1)).ok()
}

/// Returns the error for a recovery that the server gave up.
pub(super) fn given_up(log: &Log) -> Error {
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
        assert_eq!(in_utc(asked), "2026-11-20 00:00:00.500000+00");
    }

    #[test]
    fn damage_in_a_copy_is_the_backups_and_not_the_users() {
        let damaged = of_copy(Error::new(Code::CorruptSource, "invalid page").hint("host `/x`, port 5"));
        assert_eq!(damaged.code, Code::CorruptBackup);
        assert!(damaged.hint.expect("a hint").contains("backup verify"));
        let denied = of_copy(Error::new(Code::Denied, "no such role"));
        assert!(denied.hint.expect("a hint").contains("`user`"));
        assert_eq!(of_copy(Error::new(Code::Sql, "else")).hint, None);
    }

    #[test]
    fn t6_a_timeline_is_always_written() {
        let recovery = Recovery {
            backup: "b".into(),
            stop: Stop::BackupEnd,
            inclusive: true,
            timeline: 3,
            archive: "/wal".into(),
        };
        assert!(targets(&recovery).contains(&("recovery_target_timeline", "3".into())));
    }

    #[test]
    fn the_log_s_moment_is_read() {
        let read = moment("2026-11-20 10:00:00.123456+00").expect("a moment");
        assert_eq!(read.to_string(), "2026-11-20T10:00:00.123456Z");
    }
}
