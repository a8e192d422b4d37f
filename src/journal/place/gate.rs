//! The gate before everything that acts: is this the place of the state, and is the journal whole?

use super::{
    super::{Error, Journal, schema},
    doubt::{LostRun, PlaceDoubt},
    file_system::{name_if_shared_file_system, read_file_system_type},
    identity::{PlaceFile, PlaceNote, current_host_name, place_path, write_place_file},
    rows, synced,
};
use std::io;

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
        let doubt = self.set_place_or_find_doubt()?;
        let lost = self.list_rolled_back_runs()?;
        let consent = &self.consent;
        if !lost.is_empty() && !consent.allows_rolled_back() {
            return Err(Error::RolledBack { state: self.state.clone(), lost });
        }
        match doubt {
            Some((doubt, written)) if !consent.permits_despite(&doubt) => {
                let (state, host) = (self.state.clone(), current_host_name());
                return Err(Error::ElsewhereState { state, host, doubt, written });
            }
            None if !consent.allows_rolled_back() => {}
            doubt => self.adopt_state(doubt.is_some(), &lost)?,
        }
        self.admitted.get_or_init(|| ());
        Ok(())
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

    /// Gives a state without a place this one. Else returns why this may not be its place, if anything says so, with
    /// what is recorded of its place.
    fn set_place_or_find_doubt(&self) -> Result<Option<(PlaceDoubt, Option<PlaceNote>)>, Error> {
        let recorded = self.with_db(rows::select_last_place)?;
        let file = match PlaceFile::read(&self.state) {
            Ok(file) => file,
            Err(why) => return Ok(Some((PlaceDoubt::Unreadable(why.to_string()), recorded))),
        };
        let Some(file) = file else {
            if let Some(written) = recorded {
                return Ok(Some((PlaceDoubt::Missing, Some(written))));
            }
            let note = write_place_file(&self.state, self.clock.now()).map_err(|e| self.place_error(&e))?;
            return self.record_first_place(&note);
        };
        let own = file.note_if_original_file();
        match (own, recorded) {
            (None, recorded) => Ok(Some((PlaceDoubt::Copied, recorded.or(Some(file.note.clone()))))),
            // The process died between the file and the row.
            (Some(own), None) => self.record_first_place(own),
            (Some(own), Some(recorded)) if own.token == recorded.token => Ok(None),
            (Some(_), Some(recorded)) => Ok(Some((PlaceDoubt::Foreign, Some(recorded)))),
        }
    }

    /// Records the first place of a state, about which there is no doubt.
    fn record_first_place(&self, note: &PlaceNote) -> Result<Option<(PlaceDoubt, Option<PlaceNote>)>, Error> {
        self.with_db(|db| rows::insert_place(db, note, "", false))?;
        Ok(None)
    }

    pub(super) fn place_error(&self, why: &io::Error) -> Error {
        Error::NotWritable { path: place_path(&self.state), why: why.to_string() }
    }
}
