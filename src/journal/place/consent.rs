//! What a person has consented to about the state folder, on the command line, and what was done by that.

use super::{doubt::PlaceDoubt, identity::PlaceNote};
use crate::base::moment::Moment;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// The consent of a person to act in a state folder that would be refused. By preset there is none.
#[derive(Debug, Clone)]
pub struct StateFolderConsent {
    /// To take over a state that was copied.
    pub adopt: bool,
    /// To take over a state that was rolled back; counts with `adopt` only.
    pub rolled_back: bool,
    /// To act on a file system that several machines may share.
    pub shared_file_system: bool,
    /// Who consents.
    pub by: String,
    /// Told of a take-over, once it is recorded.
    pub announce: fn(&Adoption),
    /// Whether the state was taken over by this consent: a second journal of the same command does not do so again.
    pub is_used: Arc<AtomicBool>,
}

impl StateFolderConsent {
    /// Returns whether a state that was rolled back may be taken over.
    pub(in crate::journal) fn allows_rolled_back(&self) -> bool {
        self.adopt && self.rolled_back && !self.is_used.load(Ordering::SeqCst)
    }

    /// Returns whether a state may be taken over despite a doubt about its place. Where the file of the place does not
    /// read, more than that file may be lost.
    pub(super) fn permits_despite(&self, doubt: &PlaceDoubt) -> bool {
        match doubt {
            PlaceDoubt::Unreadable(_) => self.allows_rolled_back(),
            PlaceDoubt::Copied | PlaceDoubt::Missing | PlaceDoubt::Foreign => self.adopt,
        }
    }

    /// Takes the consent to a rolled-back state back, for every copy of it: the state was taken over.
    pub(super) fn revoke_rolled_back_consent(&self) {
        self.is_used.store(true, Ordering::SeqCst);
    }
}

impl Default for StateFolderConsent {
    fn default() -> Self {
        Self {
            adopt: false,
            rolled_back: false,
            shared_file_system: false,
            by: String::new(),
            announce: |_| {},
            is_used: Arc::default(),
        }
    }
}

/// A state that was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    pub by: String,
    pub at: Moment,
    /// Where it acted before, if that was written down.
    pub from: Option<PlaceNote>,
    pub to: PlaceNote,
    /// Whether it was said to have been rolled back.
    pub rolled_back: bool,
    /// The open runs, in which this is recorded.
    pub open: Vec<String>,
    /// The runs that the journal no longer has.
    pub gone: Vec<String>,
}
