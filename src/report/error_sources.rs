//! Which error of a command the errors of the other rooms are.

use super::{
    error::CliError,
    exit_code::{BUG, FAILED, MISMATCH, REFUSED, USAGE},
};
use crate::{
    base::shell::own_command_line_with,
    journal, provider,
    runtime::{Refusal, RunbookError, check},
};
use std::io;

impl CliError {
    /// Returns the error of an operation that was performed without a run.
    pub fn from_provider_error(error: provider::Error) -> Self {
        let exit = match error.code {
            provider::Code::Invalid => USAGE,
            provider::Code::Internal => BUG,
            _ => FAILED,
        };
        Self { exit, ..error.into() }
    }
}

impl From<RunbookError> for CliError {
    fn from(error: RunbookError) -> Self {
        Self { place: error.place, hint: error.hint, ..Self::usage(error.message) }
    }
}

impl From<provider::Error> for CliError {
    fn from(error: provider::Error) -> Self {
        let mut facts = vec![error.code.as_str().to_owned()];
        if !error.left_behind.is_empty() {
            facts.push(format!("left behind: {}", error.left_behind.join(", ")));
        }
        Self { hint: error.hint, facts, ..Self::usage(error.message) }
    }
}

impl From<journal::Error> for CliError {
    fn from(error: journal::Error) -> Self {
        let shown = Self { hint: error.hint(), ..Self::usage(error.to_string()) };
        match &error {
            journal::Error::Leased { run, .. } => {
                shown.with_exit(REFUSED).with_next_command(format!("redrill runs show {run}"))
            }
            journal::Error::Held { run, .. } | journal::Error::HeldByUnknown { run } => {
                shown.with_next_command(format!("redrill runs show {run}"))
            }
            journal::Error::UnreadableRecord(_) => shown.with_exit(MISMATCH),
            journal::Error::ElsewhereState { .. }
            | journal::Error::RolledBack { .. }
            | journal::Error::JournalGone { .. } => {
                shown.with_exit(MISMATCH).with_next_command(own_command_line_with_consent(&error))
            }
            journal::Error::Broken { run, is_linked: true, .. } => {
                shown.with_next_command(format!("redrill runs abandon {run} --leave"))
            }
            journal::Error::Broken { run, is_linked: false, .. } => {
                shown.with_next_command(format!("redrill runs prune {run}"))
            }
            journal::Error::SharedFileSystem { .. } => {
                shown.with_next_command(own_command_line_with_consent(&error))
            }
            journal::Error::NoSuchRun { .. } => shown.with_next_command("redrill runs list"),
            _ => shown,
        }
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        let shown = Self::usage(error.to_string());
        // `Other` is what the runtime says of a thread that panicked; the machine's own refusals have kinds.
        if error.kind() == io::ErrorKind::Other { shown.with_exit(BUG) } else { shown }
    }
}

impl From<Refusal> for CliError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Runbook(error) => error.into(),
            Refusal::Policy { message, hint, place } => {
                Self { place, ..Self::usage(message).with_hint(hint).with_exit(REFUSED) }
            }
            Refusal::Target(error) => Self::from(error).with_next_command("redrill targets check"),
            Refusal::Journal(error) => error.into(),
            Refusal::Io(error) => error.into(),
        }
    }
}

impl From<&check::CheckFinding> for CliError {
    fn from(finding: &check::CheckFinding) -> Self {
        Self {
            place: finding.place.clone(),
            hint: finding.hint.clone(),
            ..Self::usage(finding.message.clone())
        }
    }
}

/// Returns the command line of this process with the consent to what is refused, as far as it was not given.
fn own_command_line_with_consent(refusal: &journal::Error) -> String {
    let is_missing = |option: &&&str| !std::env::args().any(|word| word == **option);
    let missing: Vec<_> = refusal.consent_options().iter().filter(is_missing).copied().collect();
    own_command_line_with(&missing.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_is_refused_says_how_it_is_taken_over() {
        let state = std::path::PathBuf::from(".redrill");
        let (host, doubt) = ("here".to_owned(), journal::PlaceDoubt::Copied);
        let lost = vec![journal::LostRun { run: "abcd2345".into(), known: Some(7), found: 3 }];
        let refusals = [
            (
                journal::Error::ElsewhereState { state: state.clone(), host, doubt, written: None },
                MISMATCH,
                "--adopt",
            ),
            (journal::Error::RolledBack { state: state.clone(), lost }, MISMATCH, "--adopt --rolled-back"),
            (
                journal::Error::JournalGone { path: state.clone(), runs: vec!["abcd2345".into()] },
                MISMATCH,
                "--adopt --rolled-back",
            ),
            (journal::Error::SharedFileSystem { state, kind: "NFS" }, USAGE, "--state-unsafe"),
        ];
        for (refusal, exit, more) in refusals {
            let error = CliError::from(refusal);
            assert_eq!(error.exit, exit, "{error:?}");
            let next = error.next.as_deref().unwrap_or_default();
            assert!(next.starts_with("redrill ") && next.ends_with(more), "{error:?}");
        }
    }

    #[test]
    fn a_refusal_has_the_exit_code_of_its_reason() {
        let (subject, what) = ("/now#0".to_owned(), "5 is no moment".to_owned());
        let unreadable = journal::UnreadableRecord { subject, what, version: "9.9.9".into() };
        let refusals = [
            (Refusal::Policy { message: "no".into(), hint: "ask".into(), place: None }, REFUSED),
            (Refusal::Target(provider::Error::new(provider::Code::Unavailable, "silent")), USAGE),
            (Refusal::Journal(journal::Error::HeldByUnknown { run: "abcd2345".into() }), USAGE),
            (Refusal::from(unreadable), MISMATCH),
            (Refusal::Io(io::Error::other("a thread panicked")), BUG),
            (Refusal::Io(io::ErrorKind::WouldBlock.into()), USAGE),
        ];
        for (refusal, exit) in refusals {
            let said = refusal.to_string();
            assert_eq!(CliError::from(refusal).exit, exit, "{said}");
        }
    }
}
