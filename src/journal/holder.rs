//! A process that holds something: a run, or a lease.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A process that holds something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id on its machine.
    pub pid: u32,
    pub host: String,
}

impl Holder {
    /// Returns this process.
    pub fn this_process() -> Holder {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Holder { pid: std::process::id(), host }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}
