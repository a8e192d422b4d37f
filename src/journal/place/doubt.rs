//! Why a state is refused: it may act in another place as well, or has less than was on disk.

use std::fmt;

/// Why nobody knows that a state acts only here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceDoubt {
    /// The file `place` is not the one that was written.
    Copied,
    /// It is gone.
    Missing,
    /// It does not read, for this reason: nobody knows what else is wrong with the folder.
    Unreadable(String),
    /// It belongs to another journal.
    Foreign,
}

impl fmt::Display for PlaceDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlaceDoubt::Copied => f.write_str("its file `place` is a copy"),
            PlaceDoubt::Missing => f.write_str("its file `place` is gone"),
            PlaceDoubt::Unreadable(why) => write!(f, "its file `place` does not read ({why})"),
            PlaceDoubt::Foreign => f.write_str("its journal is that of another folder"),
        }
    }
}

/// A run of which the journal has less than was on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRun {
    pub run: String,
    /// The number of the record that was on disk; nothing where its file does not read, and more may be lost than is
    /// known.
    pub known: Option<u64>,
    /// The number of the last record there is; 0 where the whole run is gone.
    pub found: u64,
}

impl fmt::Display for LostRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LostRun { run, known, found } = self;
        match (found, known) {
            (_, None) => write!(
                f,
                "`{run}` has {found} records, and its file `runs/{run}.synced` does not say how many it had"
            ),
            (0, Some(known)) => write!(f, "`{run}` is gone, which had {known} records"),
            (_, Some(known)) => write!(f, "`{run}` has {found}, which had {known} records"),
        }
    }
}
