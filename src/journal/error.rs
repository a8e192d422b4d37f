//! Why the journal could not do what was asked.

use super::{Holder, IllegalRecord, LeaseMode, LostRun, PlaceDoubt, PlaceNote, RunStatus, UnreadableRecord};
use crate::base::{former_name, moment::Moment};
use std::path::{Path, PathBuf};

/// How many names a message has at most.
const SHOWN_MAX: usize = 5;

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
    /// Another process keeps the journal to itself.
    #[error("`{}` was kept busy by another process for {waited} s{}", .path.display(), describe_holders(.holders))]
    Busy {
        path: PathBuf,
        /// How long it was waited for, in seconds.
        waited: u64,
        /// The runs that other processes hold, with these.
        holders: Vec<(String, Holder)>,
    },
    /// There were runs, and there is no journal of them.
    #[error("the journal `{}` is gone or empty, and there were runs: {}", .path.display(), quote_first_names(.runs))]
    JournalGone {
        path: PathBuf,
        /// The runs of which files are there.
        runs: Vec<String>,
    },
    /// The state may act in another place as well.
    #[error("{}; {}", describe_place_doubt(.state, .doubt), describe_acting_place(.written.as_ref(), .host))]
    ElsewhereState {
        state: PathBuf,
        /// This machine.
        host: String,
        doubt: PlaceDoubt,
        /// What was written where it acts.
        written: Option<PlaceNote>,
    },
    /// The journal has less than was on disk.
    #[error("the journal of `{}` {}: {}", .state.display(), describe_whether_lost(.lost), describe_lost_runs(.lost))]
    RolledBack { state: PathBuf, lost: Vec<LostRun> },
    /// The state is on a file system that several machines may share.
    #[error("the state folder `{}` is on {kind}, where locks and syncs may not hold between machines", .state.display())]
    SharedFileSystem { state: PathBuf, kind: &'static str },
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
        /// Whether the hashes are right all the same, as far as was looked: the record is the one that was written,
        /// and means nothing here. Another can follow it.
        is_linked: bool,
    },
    /// The given head is too short to tell records apart, or no hash at all.
    #[error("`{given}` is not the head of a run")]
    InvalidHead {
        /// As it was given.
        given: String,
    },
    /// The program under its former name has begun this run, and it has not ended.
    #[error("the run `{run}` stays as it is: {}", former_name::explain_former_run_refusal(.version))]
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
    /// Returns the options with which a person consents to what is refused: for what a state folder is, not for what a run is.
    pub fn consent_options(&self) -> &'static [&'static str] {
        match self {
            Error::ElsewhereState { doubt, .. } if !matches!(doubt, PlaceDoubt::Unreadable(_)) => {
                &["--adopt"]
            }
            Error::ElsewhereState { .. } | Error::RolledBack { .. } | Error::JournalGone { .. } => {
                &["--adopt", "--rolled-back"]
            }
            Error::SharedFileSystem { .. } => &["--state-unsafe"],
            _ => &[],
        }
    }

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
                "look at the file and the disk under it; a copy of the folder made while no run was moving can be put back; then say `--adopt --rolled-back` with the next command".into()
            }
            Error::Busy { holders, .. } => match &holders[..] {
                [] => "nothing was done; look who has the file open (`fuser` shows it), and try again".into(),
                [(_, holder), ..] => format!("nothing was done; {}", holder.describe_how_to_release()),
            },
            Error::JournalGone { .. } => {
                "nothing was done; put the journal back with its `-wal` file, from where it went; or begin a new one, which \
                 knows nothing of these runs and of what they may have left"
                    .into()
            }
            Error::ElsewhereState { doubt: PlaceDoubt::Unreadable(_), .. } => {
                "nothing was done; it can be read here. Look at the file and the disk under it, on which more may be lost than this; \
                 then take the state over as one that may be older than what was done: every effect is looked for before it is made"
                    .into()
            }
            Error::ElsewhereState { .. } => {
                "nothing was done; it can be read here. Make sure that nobody goes on with it there, then take it over; if this \
                 copy may be older than what was done there, add `--rolled-back`"
                    .into()
            }
            Error::RolledBack { .. } => {
                "nothing was done; it can be read. Put the newer journal back if there is one; or take this one over: every effect \
                 is then looked for by its key before it is made, and what cannot be told is asked of you"
                    .into()
            }
            Error::SharedFileSystem { .. } => {
                "nothing was done; choose a folder on a disk of this machine with `--state` or `REDRILL_STATE`; or, where no \
                 other machine uses this one, go on with `--state-unsafe`"
                    .into()
            }
            Error::UnreadableRecord(record) => record.hint(),
            Error::NoSuchRun { hint, .. } => hint.clone(),
            Error::Ambiguous { candidates, .. } => format!("write more of it: {}", quote_names(candidates)),
            Error::Held { run, .. } | Error::HeldByUnknown { run } => {
                format!("wait for that process, or stop it; `redrill runs show {run}` says then how it goes on")
            }
            Error::Leased { run, .. } => format!("wait for it, or look with `redrill runs show {run}`"),
            Error::Broken { run, is_linked: true, .. } => format!(
                "this redrill cannot go on with it, nor clean up; `redrill runs show {run}` shows what reads; \
                 unless it has ended, `redrill runs abandon {run} --leave` ends it as it is"
            ),
            Error::Broken { run, is_linked: false, .. } => format!(
                "nothing can go on with it, nor end it; `redrill runs show {run}` shows what is there up to that record, and \
                 nobody knows what it left; once that is settled, `redrill runs prune {run}` removes it"
            ),
            Error::FormerVersion { .. } => {
                "nothing was changed; without that program, look at what the run did, and begin a new one with another `--state`"
                    .into()
            }
            Error::InvalidHead { .. } => {
                "give at least 16 hex digits, as printed at the end of a run and in its report".into()
            }
            Error::NotEnded { run, .. } => {
                format!("bring it to its end first, or give it up: `redrill runs abandon {run}`")
            }
            Error::Illegal { .. } => return None,
            Error::WriteFailed { run, .. } => {
                format!(
                    "make room or mend the disk; `redrill runs show {run}` says then how it goes on: a resume finds out what took \
                     effect"
                )
            }
        })
    }
}

/// Returns names in back-quotes with commas between them.
fn quote_names(names: &[String]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// Returns names in back-quotes, of many the first ones.
fn quote_first_names(names: &[String]) -> String {
    let shown = &names[..names.len().min(SHOWN_MAX)];
    match names.len() - shown.len() {
        0 => quote_names(shown),
        more => format!("{} and {more} more", quote_names(shown)),
    }
}

/// Returns who holds what, to follow a sentence; nothing where nobody is known.
fn describe_holders(holders: &[(String, Holder)]) -> String {
    let named: Vec<String> =
        holders.iter().map(|(run, holder)| format!("; the run `{run}` is held by {holder}")).collect();
    named.concat()
}

/// Returns why nobody may act in a state folder.
fn describe_place_doubt(state: &Path, doubt: &PlaceDoubt) -> String {
    let state = state.display();
    match doubt {
        PlaceDoubt::Unreadable(_) => {
            format!("nobody knows whether the state folder `{state}` acts here: {doubt}")
        }
        _ => format!("the state folder `{state}` is not where it acts: {doubt}"),
    }
}

/// Returns where a state acts and where it is.
fn describe_acting_place(written: Option<&PlaceNote>, host: &str) -> String {
    match written {
        Some(PlaceNote { host: there, path, at, .. }) if there == host => {
            format!("it acts on this machine, in `{}`, since {at}", path.display())
        }
        Some(PlaceNote { host: there, path, at, .. }) => {
            format!("it acts on {there}, in `{}`, since {at}, and this is {host}", path.display())
        }
        None => format!("where it acts is not written down, and this is {host}"),
    }
}

/// Returns whether something is known to be lost, as the middle of a sentence.
fn describe_whether_lost(lost: &[LostRun]) -> &'static str {
    let is_known = |run: &LostRun| run.known.is_some();
    if lost.iter().any(is_known) { "was rolled back" } else { "may have been rolled back" }
}

/// Returns what was lost, run by run, of many the first ones.
fn describe_lost_runs(lost: &[LostRun]) -> String {
    let shown: Vec<String> = lost.iter().take(SHOWN_MAX).map(LostRun::to_string).collect();
    let more = lost.len() - shown.len();
    let more = if more == 0 { String::new() } else { format!(", and {more} more runs") };
    format!("{}{more}", shown.join(", "))
}
