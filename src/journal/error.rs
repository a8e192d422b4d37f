//! Why the journal could not do what was asked.

use super::{Holder, IllegalRecord, LeaseMode, RunStatus, UnreadableRecord};
use crate::base::{former_name, moment::Moment};
use std::path::PathBuf;

/// What went wrong. Except after [`Error::WriteFailed`] nothing was written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The state folder takes no files, or no more of them.
    #[error("`{}` cannot be written: {why}", .path.display())]
    NotWritable {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The journal was written by a later version of this program.
    #[error("`{}` has schema version {found}, and this redrill knows versions up to {known}", .path.display())]
    NewerSchema {
        path: PathBuf,
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// The journal cannot be read.
    #[error("`{}` cannot be read: {why}", .path.display())]
    Unreadable {
        path: PathBuf,
        /// What SQLite or the system says.
        why: String,
    },
    /// Something that is recorded of a run does not read as what this program writes.
    #[error("{0}")]
    UnreadableRecord(UnreadableRecord),
    /// There is no such run.
    #[error("there is no run `{given}`")]
    NoSuchRun {
        /// As it was asked for.
        given: String,
        /// What to do instead.
        hint: String,
    },
    /// More than one run begins so.
    #[error("`{given}` is the beginning of {} runs", .candidates.len())]
    Ambiguous {
        /// As it was asked for.
        given: String,
        /// The runs it could be, newest first.
        candidates: Vec<String>,
    },
    /// Another process holds this run.
    #[error("the run `{run}` is held by {holder} since {since}")]
    Held { run: String, holder: Holder, since: Moment },
    /// Another process is taking this run and has not yet written down who it is.
    #[error("the run `{run}` is being taken by another process at this moment")]
    HeldByUnknown { run: String },
    /// Another run uses this target, and one of the two needs it exclusively.
    #[error("`{name}` is in use by the run `{run}` ({mode}, {holder}, since {since})")]
    Leased {
        /// The identity that is leased.
        target: String,
        /// The name by which the other run knows it.
        name: String,
        run: String,
        /// How it uses the target.
        mode: LeaseMode,
        /// The process that holds that run.
        holder: Holder,
        since: Moment,
    },
    /// What is kept of a run is not what was written.
    #[error("the run `{run}` is broken at record {seq}: {what}")]
    Broken {
        run: String,
        /// The first record that is not right, from 1.
        seq: u64,
        what: String,
    },
    /// The given head is too short to tell records apart, or no hash at all.
    #[error("`{given}` is not the head of a run")]
    InvalidHead {
        /// As it was given.
        given: String,
    },
    /// The program under its former name has begun this run, and it has not ended.
    #[error("the run `{run}` stays as it is: {}", former_name::refuse_open_run(.version))]
    FormerVersion {
        run: String,
        /// The version that began it.
        version: String,
    },
    /// Only a run that has ended can be removed.
    #[error("the run `{run}` has not ended: it is {status}")]
    NotEnded { run: String, status: RunStatus },
    /// A record that makes no sense where the run stands.
    #[error("the record cannot be added to the run `{run}`: {why}")]
    Illegal { run: String, why: IllegalRecord },
    /// A write failed. What is on disk is known again once the run has been taken anew.
    #[error("the journal of the run `{run}` could not be written: {why}")]
    WriteFailed { run: String, why: String },
}

impl From<UnreadableRecord> for Error {
    fn from(record: UnreadableRecord) -> Self {
        Error::UnreadableRecord(record)
    }
}

impl Error {
    /// Returns what to do now.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::NotWritable { .. } => {
                "choose another folder with `--state` or `REDRILL_STATE`; nothing was done".into()
            }
            Error::NewerSchema { .. } => {
                "use the newer redrill, or another folder with `--state`; nothing was changed".into()
            }
            Error::Unreadable { .. } => {
                "look at the file and the disk under it; a copy of the folder made while no run was moving can be put back".into()
            }
            Error::UnreadableRecord(record) => record.hint(),
            Error::NoSuchRun { hint, .. } => hint.clone(),
            Error::Ambiguous { candidates, .. } => format!("write more of it: {}", quote_names(candidates)),
            Error::Held { run, .. } | Error::HeldByUnknown { run } => {
                format!("wait for that process, or stop it and then `redrill resume {run}`")
            }
            Error::Leased { run, .. } => format!("wait for it, or look with `redrill runs show {run}`"),
            Error::Broken { run, .. } => format!(
                "do not resume it; `redrill runs show {run}` shows what is there, and a new run does not need it"
            ),
            Error::FormerVersion { .. } => {
                "nothing was changed; without that program, look at what the run did, and begin a new one with another `--state`"
                    .into()
            }
            Error::InvalidHead { .. } => {
                "give at least 16 hex digits, as printed at the end of a run and in its report".into()
            }
            Error::NotEnded { run, .. } => {
                format!("`redrill resume {run}` brings it to its end, `redrill runs abandon {run}` gives it up")
            }
            Error::Illegal { .. } => return None,
            Error::WriteFailed { run, .. } => {
                format!("make room or mend the disk, then `redrill resume {run}`: it finds out what took effect")
            }
        })
    }
}

/// Returns names in back-quotes with commas between them.
fn quote_names(names: &[String]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}
