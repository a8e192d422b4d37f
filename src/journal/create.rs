//! Making a run: its id, its leases, its first record.

use super::{
    Error, Holder, Journal, NewRun, Record, Run,
    chain::{self, Chain},
    rows, schema, store,
};
use std::path::Path;

impl Journal {
    /// Makes a run and holds it. Its first record is on disk when this returns.
    ///
    /// # Errors
    /// [`Error::Leased`], [`Error::NotWritable`], [`Error::Unreadable`], [`Error::Illegal`]. There is no such run then.
    pub fn create_run(&self, new: &NewRun) -> Result<Run, Error> {
        self.create_run_with_id(&new_run_id(&self.state)?, new)
    }

    /// Makes a run under an id that no other run has, and holds it.
    ///
    /// # Errors
    /// As [`Journal::create_run`].
    pub fn create_run_with_id(&self, id: &str, new: &NewRun) -> Result<Run, Error> {
        self.check_or_adopt_place()?;
        let now = self.clock.now();
        let lock = self.lock_run(id, now)?;
        // If the run is not created, its leases give way like those of any run that no process holds.
        self.acquire_leases(&new.leases, id, &Holder::this_process())?;
        let started = Record::Started {
            runbook: new.runbook.clone(),
            title: new.title.clone(),
            digest: chain::digest_sources(&new.sources),
            params: new.params.clone(),
            version: new.version.clone(),
            git: new.git.clone(),
        };
        let mut chain = Chain::empty_for_run(id);
        let first = chain.append_record(started, now)?;
        let writer = self.open_run_connection()?;
        let row_id = rows::insert_run(&store::lock_shared_db(&writer), new, id, &first);
        let row_id = row_id.map_err(|e| schema::to_journal_error(&self.state, &e))?;
        if let Some(lock) = &lock {
            lock.write_synced_number(first.seq);
        }
        Ok(Run::from_chain(self.build_run_writer(writer, row_id, lock), chain))
    }
}

/// Returns a new id: 8 lower-case base32 characters for which there is no lock file.
fn new_run_id(state: &Path) -> Result<String, Error> {
    loop {
        let mut bytes = [0; 5];
        getrandom::fill(&mut bytes)
            .map_err(|e| Error::NotWritable { path: state.into(), why: format!("no random numbers: {e}") })?;
        let id = data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase();
        if !schema::locks_folder(state).join(format!("{id}.lock")).exists() {
            return Ok(id);
        }
    }
}
