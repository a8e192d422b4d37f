//! Why a state is refused: it may act in another place as well, or has less than was on disk.

use std::fmt;

/// Why nobody knows that a state acts only here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceDoubt {
    /// The file `place` is not the one that was written.
    Copied,
    /// It is gone, or does not read.
    Missing,
    /// It belongs to another journal.
    Foreign,
}

impl fmt::Display for PlaceDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PlaceDoubt::Copied => "its file `place` is a copy",
            PlaceDoubt::Missing => "its file `place` is gone",
            PlaceDoubt::Foreign => "its journal is that of another folder",
        })
    }
}

/// A run of which the journal has less than was on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRun {
    pub run: String,
    /// The number of the record that was on disk.
    pub known: u64,
    /// The number of the last record there is; 0 where the whole run is gone.
    pub found: u64,
}

impl fmt::Display for LostRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LostRun { run, known, found } = self;
        match found {
            0 => write!(f, "`{run}` is gone, which had {known}"),
            _ => write!(f, "`{run}` has {found}, which had {known}"),
        }
    }
}
