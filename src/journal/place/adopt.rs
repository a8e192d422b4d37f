//! Taking a state over: a person says that it acts here from now on, and in no other place.

use super::{
    super::{
        Error, Journal, Record, chain::Chain, lock::RunLock, rows as journal_rows, rows::RunRowId, schema,
    },
    consent::Adoption,
    doubt::LostRun,
    identity::{PlaceFile, write_place_file},
    rows, synced,
};
use crate::base::sqlite::Db;

/// An open run, held while it is taken over.
struct OpenRun {
    lock: RunLock,
    row_id: RunRowId,
    chain: Chain,
}

impl Journal {
    /// Takes the state over, in one commit with a record in every open run. With `moved` it gets a new file `place`, before the
    /// commit: without the commit that file belongs to no journal, and nobody acts there.
    pub(super) fn adopt_state(&self, moved: bool, lost: &[LostRun]) -> Result<(), Error> {
        let mut open = self.hold_open_runs()?;
        let from = self.with_db(rows::select_last_place)?;
        // One that does not read is written anew.
        let own = PlaceFile::read(&self.state).ok().flatten();
        let to = match own.as_ref().and_then(PlaceFile::note_if_original_file) {
            Some(note) if !moved => note.clone(),
            _ => write_place_file(&self.state, self.clock.now()).map_err(|e| self.place_error(&e))?,
        };
        let (by, rolled_back) = (self.consent.by.clone(), self.consent.allows_rolled_back());
        let (boxed_from, boxed_to) = (from.clone().map(Box::new), Box::new(to.clone()));
        let record = Record::Adopted { by: by.clone(), from: boxed_from, to: boxed_to, rolled_back };
        let at = self.clock.now();
        let mut appended = Vec::new();
        for run in &mut open {
            appended.push((run.row_id, run.chain.append_record(record.clone(), at)?));
        }
        let write = |db: &Db| -> rusqlite::Result<()> {
            let tx = db.begin_write()?;
            rows::insert_place_of_state(&tx, &to, &by, rolled_back)?;
            for (row_id, row) in &appended {
                journal_rows::insert_record(&tx, *row_id, row)?;
            }
            tx.commit()
        };
        self.with_db(write)?;
        self.consent.revoke_rolled_back_consent();
        // Only now: whoever dies before this is asked again.
        self.lower_synced_numbers(&open, lost)?;
        let open = open.into_iter().map(|run| run.chain.tail.run).collect();
        let gone = lost.iter().filter(|lost| lost.found == 0).map(|lost| lost.run.clone()).collect();
        (self.consent.announce)(&Adoption { by, at, from, to, rolled_back, open, gone });
        Ok(())
    }

    /// Takes every run that has not ended and whose records are whole: one that is broken is never resumed.
    fn hold_open_runs(&self) -> Result<Vec<OpenRun>, Error> {
        let mut open = Vec::new();
        for summary in self.list_runs()?.into_iter().filter(|run| !run.status.is_final()) {
            let Some(lock) = self.lock_run(&summary.id, self.clock.now())? else { continue };
            match self.replay_chain(&self.lock_db(), &summary.id, |_| {}) {
                Ok((row_id, chain)) => open.push(OpenRun { lock, row_id, chain }),
                Err(Error::Broken { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(open)
    }

    /// Brings the numbers down to what the journal has.
    fn lower_synced_numbers(&self, open: &[OpenRun], lost: &[LostRun]) -> Result<(), Error> {
        let failed = |e: std::io::Error| Error::NotWritable {
            path: schema::locks_folder(&self.state),
            why: e.to_string(),
        };
        for LostRun { run, found, known } in lost {
            match known {
                Some(_) => synced::remove_synced_number(&self.state, run).map_err(failed)?,
                None => synced::set_synced_number_aside(&self.state, run).map_err(failed)?,
            }
            if *found > 0 {
                synced::SyncedNumber::open(&self.state, run).map_err(failed)?.write_number(*found);
            }
        }
        // The lock of a lost run has the file that was removed above: only the numbers of the others are written
        // through their locks.
        for run in open.iter().filter(|open| lost.iter().all(|lost| lost.run != open.chain.tail.run)) {
            run.lock.write_synced_number(run.chain.tail.seq);
        }
        Ok(())
    }
}
