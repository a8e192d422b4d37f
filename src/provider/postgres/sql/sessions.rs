//! The names of sessions whose statements may be lost, and how such sessions are ended.
//!
//! A statement that a network holds back reaches the server in the session that it was sent in, which had its name
//! before anything that matters was sent in it. Whoever ends every session of the name therefore knows that nothing
//! comes later.
//!
//! Behind a connection pooler this does not hold: the pooler may have what was sent, and hand it to any session.

use super::{
    connect::Client,
    fetch::{fetch_rows, fetch_text},
};
use crate::provider::{Code, Error, Result, model::CallKey};
use sha2::{Digest as _, Sha256};
use std::{fmt, time::Duration};
use tokio::time::Instant;

/// How often it is looked whether a session that was told to end has ended.
pub(super) const END_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a session may take to end. It is told so between two steps of its statement, each of which is small.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// The name of a session, which the server shows as its application name. It needs no quoting.
#[derive(Debug, Clone)]
pub(in super::super) struct SessionName(String);

impl SessionName {
    /// Returns the name of a session that runs the statement of a call.
    pub(super) fn for_call(key: &CallKey) -> Self {
        Self(format!("redrill {key}"))
    }

    /// Returns the name of a session that changes the one thing of this kind and name in a cluster.
    pub(in super::super) fn for_thing(kind: &str, thing: &str) -> Self {
        let mut name = data_encoding::BASE32_NOPAD.encode(&Sha256::digest(thing)).to_lowercase();
        // The server cuts a name off at 63 bytes.
        name.truncate(20);
        Self(format!("redrill {kind} {name}"))
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Gives a session its name, and returns when it bears it. Behind a pooler it gets none: the name would prove nothing there, and
/// stay with a connection that somebody else is given.
///
/// # Errors
/// As for [`fetch_rows`]. The session is of no use then.
pub(in super::super) async fn name_session(client: &Client, name: &SessionName) -> Result<()> {
    if client.is_pooled().await? {
        return Ok(());
    }
    fetch_rows(client, &format!("set application_name = '{name}'")).await.map(drop)
}

/// Ends every other session that bears one of these names, and returns when none is left.
///
/// # Errors
/// [`Code::Unknown`] where a connection pooler stands before the server; [`Code::Timeout`] when a session does not end; what
/// the server says.
pub(in super::super) async fn end_sessions(client: &Client, names: &[SessionName]) -> Result<()> {
    if client.is_pooled().await? {
        return Err(Error::new(
            Code::Unknown,
            "a connection pooler stands before the server, so the session of an earlier request cannot be ended, and \
             what was sent may still take effect",
        )
        .with_hint("look what is there, and decide; give the target the server's own address"));
    }
    let begun = Instant::now();
    while !tell_sessions_to_end(client, names).await? {
        if begun.elapsed() > END_TIMEOUT {
            return Err(Error::new(
                Code::Timeout,
                "the session of an earlier request was told to end, and is still at work",
            ));
        }
        tokio::time::sleep(END_POLL_INTERVAL).await;
    }
    Ok(())
}

/// Tells every other session that bears one of these names to end, and returns whether there was none.
pub(super) async fn tell_sessions_to_end(client: &Client, names: &[SessionName]) -> Result<bool> {
    let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let end = format!(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity \
         where application_name in ({}) and pid <> pg_backend_pid()",
        names.join(", ")
    );
    Ok(fetch_text(client, &end).await?.as_deref() == Some("0"))
}
