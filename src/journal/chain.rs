//! One hash chain a run: each hash covers a record, its number, its time and the hash before it.

use super::{Error, IllegalRecord, JournalEntry, Record, Source, fold::RunFold};
use crate::base::moment::Moment;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// The fewest hex digits that name a head.
const MIN_HEAD_DIGITS: usize = 16;

/// The result of verifying a run's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedChain {
    /// How many records it has.
    pub records: u64,
    /// The hash of the last one.
    pub head: String,
}

/// A record as a row of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordRow {
    pub(super) seq: u64,
    pub(super) at: String,
    /// How many calls the run has made up to here.
    pub(super) calls: u64,
    pub(super) body: String,
    pub(super) hash: String,
}

/// The end of a chain, to which the next record is added.
#[derive(Debug, Clone)]
pub(super) struct ChainTail {
    pub(super) run: String,
    pub(super) seq: u64,
    pub(super) hash: String,
}

impl ChainTail {
    /// Returns the beginning of a run's chain.
    pub(super) fn empty_for_run(run: &str) -> ChainTail {
        ChainTail { run: run.into(), seq: 0, hash: hash_parts([run.as_bytes()]) }
    }

    /// Returns the hash of the next record.
    fn next_hash(&self, at: &str, calls: u64, body: &str) -> String {
        let seq = (self.seq + 1).to_be_bytes();
        hash_parts([self.hash.as_bytes(), &seq, at.as_bytes(), &calls.to_be_bytes(), body.as_bytes()])
    }

    /// Adds a record to the chain.
    pub(super) fn push_record(&mut self, at: Moment, calls: u64, body: String) -> RecordRow {
        let at = at.to_string();
        let hash = self.next_hash(&at, calls, &body);
        self.seq += 1;
        self.hash.clone_from(&hash);
        RecordRow { seq: self.seq, at, calls, body, hash }
    }

    /// Checks that a stored record is the next link, and moves past it.
    pub(super) fn verify_and_advance(&mut self, row: &RecordRow) -> Result<(), Error> {
        if row.seq != self.seq + 1 {
            return Err(self.broken_error_at(self.seq + 1, "it is missing"));
        }
        if row.hash != self.next_hash(&row.at, row.calls, &row.body) {
            return Err(self.broken_error_at(row.seq, "it is not the record that was written here"));
        }
        self.seq = row.seq;
        self.hash.clone_from(&row.hash);
        Ok(())
    }

    /// Returns the error of a run that is broken at `seq`.
    pub(super) fn broken_error_at(&self, seq: u64, what: impl Into<String>) -> Error {
        Error::Broken { run: self.run.clone(), seq, what: what.into(), is_linked: false }
    }

    /// Returns the error of a run whose record `seq` is the one that was written, and means nothing here.
    fn unfit_error_at(&self, seq: u64, what: impl Into<String>) -> Error {
        Error::Broken { run: self.run.clone(), seq, what: what.into(), is_linked: true }
    }
}

/// A run's records, replayed from the first to the last.
pub(super) struct Chain {
    pub(super) tail: ChainTail,
    pub(super) fold: RunFold,
    pub(super) last_at: Moment,
    /// The version of the program that began the run.
    pub(super) version: String,
    /// The digests of its sources: the first edition and every edited one.
    digests: Vec<String>,
}

impl Chain {
    /// Returns a chain without records.
    pub(super) fn empty_for_run(run: &str) -> Chain {
        Chain {
            tail: ChainTail::empty_for_run(run),
            fold: RunFold::default(),
            last_at: Moment(jiff::Timestamp::UNIX_EPOCH),
            version: String::new(),
            digests: Vec::new(),
        }
    }

    /// Adds a record and returns it as it is stored.
    ///
    /// # Errors
    /// [`Error::Illegal`]; the chain is then what it was.
    pub(super) fn append_record(&mut self, record: Record, at: Moment) -> Result<RecordRow, Error> {
        let illegal = |why| Error::Illegal { run: self.tail.run.clone(), why };
        // A body that does not read back as the same record would be noticed only at resume, which is too late.
        let body =
            record.to_canonical_json().map_err(|_| illegal(IllegalRecord::Unreadable(record.kind())))?;
        if serde_json::from_str::<Record>(&body).ok().as_ref() != Some(&record) {
            return Err(illegal(IllegalRecord::Unreadable(record.kind())));
        }
        self.fold.apply_record(record, at).map_err(illegal)?;
        Ok(self.tail.push_record(at, self.fold.count_calls(), body))
    }

    /// Replays one stored record: checks its hash and folds it.
    ///
    /// # Errors
    /// [`Error::Broken`] when it is not the one that was written after those before it.
    pub(super) fn replay_row(&mut self, row: &RecordRow) -> Result<(), Error> {
        self.tail.verify_and_advance(row)?;
        let JournalEntry { at, record, .. } = decode_entry(&self.tail.run, row)?;
        if let Record::Started { digest, .. } | Record::Resumed { digest: Some(digest), .. } = &record {
            self.digests.push(digest.clone());
        }
        if let Record::Started { version, .. } = &record {
            self.version.clone_from(version);
        }
        // Whoever takes a state over does nothing in its runs: what they last did is as old as it was.
        let last_at = if matches!(record, Record::Adopted { .. }) { self.last_at } else { at };
        self.fold
            .apply_record(record, at)
            .map_err(|why| self.tail.unfit_error_at(row.seq, why.to_string()))?;
        self.last_at = last_at;
        Ok(())
    }

    /// Checks what is stored beside the records: the sources of each edition, and the status.
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub(super) fn check_sources_and_status(
        &self,
        editions: &[Vec<Source>],
        status: &str,
    ) -> Result<(), Error> {
        let Some(folded) = self.fold.status else {
            return Err(self.tail.broken_error_at(1, "it is missing"));
        };
        if editions.iter().map(|sources| digest_sources(sources)).ne(self.digests.iter().cloned()) {
            return Err(self
                .tail
                .unfit_error_at(1, "the sources that are kept are not the ones that were run"));
        }
        if folded.as_str() != status {
            let what = format!("it is missing: the run is kept as {status}, and its records end as {folded}");
            return Err(self.tail.broken_error_at(self.tail.seq + 1, what));
        }
        Ok(())
    }
}

/// Decodes a stored row into a journal entry.
///
/// # Errors
/// [`Error::Broken`] when it cannot be read.
pub(super) fn decode_entry(run: &str, row: &RecordRow) -> Result<JournalEntry, Error> {
    let broken = |what: String| Error::Broken { run: run.into(), seq: row.seq, what, is_linked: true };
    Ok(JournalEntry {
        seq: row.seq,
        at: Moment::parse(&row.at).map_err(|e| broken(format!("its time cannot be read: {e}")))?,
        record: serde_json::from_str(&row.body).map_err(|e| broken(format!("it cannot be read: {e}")))?,
        hash: row.hash.clone(),
    })
}

/// Returns whether `head` is `hash`, or enough of its beginning.
///
/// # Errors
/// [`Error::InvalidHead`].
pub(super) fn matches_head_prefix(hash: &str, head: &str) -> Result<bool, Error> {
    let head = head.trim().to_ascii_lowercase();
    if head.len() < MIN_HEAD_DIGITS || !head.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::InvalidHead { given: head });
    }
    Ok(hash.starts_with(&head))
}

/// Returns the hash over sources, paths and texts, in their order: 64 hex digits.
pub fn digest_sources(sources: &[Source]) -> String {
    hash_parts(sources.iter().flat_map(|s| [s.path.as_bytes(), s.text.as_bytes()]))
}

/// Returns the SHA-256 over the parts. Each goes in with its length, so that `ab, c` is not `a, bc`.
fn hash_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    HEXLOWER.encode(&hash.finalize())
}
