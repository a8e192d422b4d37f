//! The log of a server that recovers: how far it got, and why it stopped.

use std::{fs, path::Path};

/// The `log_line_prefix` that [`ServerLog::read`] reads: it says which kind of process speaks.
pub(in super::super) const LOG_PREFIX: &str = "%m [%p] %b ";

/// What a server's log tells about its recovery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct ServerLog {
    /// The line that says why recovery stopped where it did.
    pub stopping: Option<String>,
    /// The moment of the last transaction that was replayed.
    pub last_transaction: Option<String>,
    /// The line that says recovery is paused, because a setting is too low.
    pub paused: Option<String>,
    /// The setting that is too low.
    pub reason: Option<String>,
    /// The first fatal message of the server itself, not of a session that came too early.
    pub fatal: Option<String>,
}

impl ServerLog {
    /// Reads a log whose lines begin with [`LOG_PREFIX`].
    pub(in super::super) fn read(path: &Path) -> Self {
        let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Self::parse(&text.unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let mut log = Self::default();
        for line in text.lines() {
            let said = |mark: &str| line.split_once(mark).map(|(_, rest)| rest.trim().to_owned());
            if let Some(rest) = said(" startup LOG:  recovery stopping ") {
                log.stopping = Some(format!("recovery stopping {rest}"));
            } else if let Some(rest) = said("last completed transaction was at log time ") {
                log.last_transaction = Some(rest);
            } else if line.contains("recovery has paused") {
                log.paused = said("LOG:  ");
            } else if let Some(rest) = said(" startup WARNING:  hot standby is not possible ") {
                log.reason = Some(format!("hot standby is not possible {rest}"));
            } else if log.fatal.is_none()
                && !line.contains(" client backend ")
                && let Some(rest) = said("FATAL:  ").or_else(|| said("PANIC:  "))
            {
                log.fatal = Some(rest);
            } else if log.fatal.is_none()
                && line.starts_with("postgres")
                && (line.contains("could not access") || line.contains("does not know where to find"))
            {
                // Written before logging was set up. Other messages from that time are not fatal.
                log.fatal = Some(line.trim().to_owned());
            }
        }
        log
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_came_too_early_is_no_fatal_end() {
        let log = ServerLog::parse(
            "2026-11-20 10:00:00 UTC [7] client backend FATAL:  the database system is starting up\n\
             2026-11-20 10:00:00 UTC [6] startup LOG:  recovery stopping before commit of transaction 739, time 2026-11-20 09:59:00+00\n\
             2026-11-20 10:00:00 UTC [6] startup LOG:  last completed transaction was at log time 2026-11-20 09:58:00.5+00\n",
        );
        assert_eq!(log.fatal, None);
        assert!(log.stopping.expect("stopped").contains("739"));
        assert_eq!(log.last_transaction.as_deref(), Some("2026-11-20 09:58:00.5+00"));
    }

    #[test]
    fn words_from_before_the_log_are_fatal() {
        let log = ServerLog::parse(
            "postgres: could not access the server configuration file \"/x\": No such file\n",
        );
        assert!(log.fatal.expect("words").contains("could not access"));
        let harmless =
            ServerLog::parse("postgres: could not write external PID file \"\": No such file or directory\n");
        assert_eq!(harmless.fatal, None);
    }

    #[test]
    fn the_first_fatal_words_are_kept() {
        let log = ServerLog::parse(
            "x [6] startup FATAL:  recovery ended before configured recovery target was reached\n\
             x [5] postmaster LOG:  startup process (PID 6) exited with exit code 1\n",
        );
        assert_eq!(
            log.fatal.as_deref(),
            Some("recovery ended before configured recovery target was reached")
        );
    }
}
