//! The gate before everything that acts: is this the place of the state, and is the journal whole?

use super::{
    super::{Error, Journal, schema},
    doubt::{LostRun, PlaceDoubt},
    file_system::{name_if_shared_file_system, read_file_system_type},
    identity::{PlaceFile, PlaceNote, current_host_name, place_path, write_place_file},
    rows, synced,
};
use std::io;

/// How a state folder stands to the place where it acts.
enum PlaceStanding {
    /// It acts here.
    Here,
    /// It has none yet; a process that died may have written its file.
    New(Option<PlaceNote>),
    /// This may not be its place, with what is recorded of the one that is.
    Doubtful(PlaceDoubt, Option<PlaceNote>),
}

impl Journal {
    /// Checks, once for this journal, that a command may act here. A state without a place gets one; one that a person has
    /// consented to take over is taken over.
    ///
    /// # Errors
    /// [`Error::SharedFileSystem`], [`Error::ElsewhereState`], [`Error::RolledBack`], [`Error::Held`] when a run of a state that is
    /// to be taken over is held, or what the store says.
    pub(in crate::journal) fn check_or_adopt_place(&self) -> Result<(), Error> {
        if self.observer.is_some() || self.admitted.get().is_some() {
            return Ok(());
        }
        self.refuse_shared_file_system(
            read_file_system_type(&self.state).map_err(|e| self.place_error(&e))?,
        )?;
        let _turn = schema::wait_for_state_lock(&self.state)?;
        let standing = self.compare_place()?;
        self.record_place_of_new_state(&standing)?;
        let lost = self.list_rolled_back_runs()?;
        let consent = &self.consent;
        if !lost.is_empty() && !consent.allows_rolled_back() {
            return Err(Error::RolledBack { state: self.state.clone(), lost });
        }
        match standing {
            PlaceStanding::Doubtful(doubt, written) if !consent.permits_despite(&doubt) => {
                return Err(self.elsewhere_error(doubt, written));
            }
            PlaceStanding::Doubtful(..) => self.adopt_state(true, &lost)?,
            _ if consent.allows_rolled_back() => self.adopt_state(false, &lost)?,
            _ => {}
        }
        self.admitted.get_or_init(|| ());
        Ok(())
    }

    /// Returns with what a command that acts here would be refused, if it would be: for commands that only read, which are never.
    ///
    /// # Errors
    /// [`Error::Unreadable`], and what the store says.
    pub fn find_refusal_to_act(&self) -> Result<Option<Error>, Error> {
        if self.observer.is_some() || self.admitted.get().is_some() {
            return Ok(None);
        }
        let file_system = read_file_system_type(&self.state).map_err(|e| self.place_error(&e))?;
        if let Err(refusal) = self.refuse_shared_file_system(file_system) {
            return Ok(Some(refusal));
        }
        let lost = self.list_rolled_back_runs()?;
        if !lost.is_empty() {
            return Ok(Some(Error::RolledBack { state: self.state.clone(), lost }));
        }
        Ok(match self.compare_place()? {
            PlaceStanding::Doubtful(doubt, written) => Some(self.elsewhere_error(doubt, written)),
            _ => None,
        })
    }

    /// Returns whether the state may act in another place.
    pub(in crate::journal) fn may_act_elsewhere(&self) -> bool {
        self.admitted.get().is_none() && matches!(self.compare_place(), Ok(PlaceStanding::Doubtful(..)))
    }

    /// Returns the runs of which the journal has less than was on disk.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn list_rolled_back_runs(&self) -> Result<Vec<LostRun>, Error> {
        // In this order: while other processes write, the journal is ahead of what was read here.
        let numbers = synced::read_synced_numbers(&self.state)?;
        let found = self.with_db(rows::select_last_record_numbers)?;
        let compare = |(run, known): (String, Option<u64>)| {
            let found = found.get(&run).copied().unwrap_or(0);
            known.is_none_or(|known| found < known).then_some(LostRun { run, known, found })
        };
        Ok(numbers.into_iter().filter_map(compare).collect())
    }

    /// Refuses a file system that several machines may share, by the number of its type, unless somebody consented to
    /// it.
    pub(in crate::journal) fn refuse_shared_file_system(&self, magic: Option<u32>) -> Result<(), Error> {
        match magic.and_then(name_if_shared_file_system) {
            Some(kind) if !self.consent.shared_file_system => {
                Err(Error::SharedFileSystem { state: self.state.clone(), kind })
            }
            _ => Ok(()),
        }
    }

    /// Compares the file of the place with what the journal has recorded of it.
    fn compare_place(&self) -> Result<PlaceStanding, Error> {
        let recorded = self.with_db(rows::select_last_place)?;
        let file = match PlaceFile::read(&self.state) {
            Ok(file) => file,
            Err(why) => {
                return Ok(PlaceStanding::Doubtful(PlaceDoubt::Unreadable(why.to_string()), recorded));
            }
        };
        let Some(file) = file else {
            return Ok(match recorded {
                Some(_) => PlaceStanding::Doubtful(PlaceDoubt::Missing, recorded),
                None => PlaceStanding::New(None),
            });
        };
        Ok(match (file.note_if_original_file(), recorded) {
            (None, recorded) => {
                PlaceStanding::Doubtful(PlaceDoubt::Copied, recorded.or(Some(file.note.clone())))
            }
            // The process died between the file and the row.
            (Some(own), None) => PlaceStanding::New(Some(own.clone())),
            (Some(own), Some(recorded)) if own.token == recorded.token => PlaceStanding::Here,
            (Some(_), Some(recorded)) => PlaceStanding::Doubtful(PlaceDoubt::Foreign, Some(recorded)),
        })
    }

    /// Gives a state without a place this one.
    fn record_place_of_new_state(&self, standing: &PlaceStanding) -> Result<(), Error> {
        let PlaceStanding::New(written) = standing else { return Ok(()) };
        let note = match written {
            Some(note) => note.clone(),
            None => write_place_file(&self.state, self.clock.now()).map_err(|e| self.place_error(&e))?,
        };
        self.with_db(|db| rows::insert_place_of_state(db, &note, "", false))
    }

    fn elsewhere_error(&self, doubt: PlaceDoubt, written: Option<PlaceNote>) -> Error {
        Error::ElsewhereState { state: self.state.clone(), host: current_host_name(), doubt, written }
    }

    pub(super) fn place_error(&self, why: &io::Error) -> Error {
        Error::NotWritable { path: place_path(&self.state), why: why.to_string() }
    }
}
