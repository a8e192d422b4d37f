//! One hash chain a run: each hash covers a record, its number, its time and the hash before it.

use super::{Entry, Error, Illegal, Record, Source, fold::Fold};
use crate::base::moment::Moment;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// The fewest hex digits that name a head.
const SHORTEST_HEAD: usize = 16;

/// A run whose records are what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many records it has.
    pub records: u64,
    /// The hash of the last one.
    pub head: String,
}

/// A record as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) seq: u64,
    pub(super) at: String,
    /// How many calls the run has made up to here.
    pub(super) calls: u64,
    pub(super) body: String,
    pub(super) hash: String,
}

/// The end of a chain, to which the next record is added.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    pub(super) run: String,
    pub(super) seq: u64,
    pub(super) hash: String,
}

impl Tail {
    /// Returns the beginning of a run's chain.
    pub(super) fn of(run: &str) -> Tail {
        Tail { run: run.into(), seq: 0, hash: hex([run.as_bytes()]) }
    }

    /// Returns the hash of the next record.
    fn hash(&self, at: &str, calls: u64, body: &str) -> String {
        let seq = (self.seq + 1).to_be_bytes();
        hex([self.hash.as_bytes(), &seq, at.as_bytes(), &calls.to_be_bytes(), body.as_bytes()])
    }

    /// Adds a record to the chain.
    pub(super) fn add(&mut self, at: Moment, calls: u64, body: String) -> Row {
        let at = at.to_string();
        let hash = self.hash(&at, calls, &body);
        self.seq += 1;
        self.hash.clone_from(&hash);
        Row { seq: self.seq, at, calls, body, hash }
    }

    /// Follows the chain over a stored record.
    fn follow(&mut self, row: &Row) -> Result<(), Error> {
        if row.seq != self.seq + 1 {
            return Err(self.broken(self.seq + 1, "it is missing"));
        }
        if row.hash != self.hash(&row.at, row.calls, &row.body) {
            return Err(self.broken(row.seq, "it is not the record that was written here"));
        }
        self.seq = row.seq;
        self.hash.clone_from(&row.hash);
        Ok(())
    }

    /// Returns the error of a run that is broken at `seq`.
    pub(super) fn broken(&self, seq: u64, what: impl Into<String>) -> Error {
        Error::Broken { run: self.run.clone(), seq, what: what.into() }
    }
}

/// A run's records, followed from the first to the last.
pub(super) struct Chain {
    pub(super) tail: Tail,
    pub(super) fold: Fold,
    pub(super) last_at: Moment,
    /// The version of the program that began the run.
    pub(super) version: String,
    /// The hashes over its texts: the first, and every edited one.
    digests: Vec<String>,
}

impl Chain {
    /// Returns a chain without records.
    pub(super) fn of(run: &str) -> Chain {
        Chain {
            tail: Tail::of(run),
            fold: Fold::default(),
            last_at: Moment(jiff::Timestamp::UNIX_EPOCH),
            version: String::new(),
            digests: Vec::new(),
        }
    }

    /// Adds a record and returns it as it is stored.
    ///
    /// # Errors
    /// [`Error::Illegal`]; the chain is then what it was.
    pub(super) fn add(&mut self, record: Record, at: Moment) -> Result<Row, Error> {
        let illegal = |why| Error::Illegal { run: self.tail.run.clone(), why };
        // What cannot be read back, or reads back as something else, would be found out at resume: too late.
        let body = record.canonical().map_err(|_| illegal(Illegal::Unreadable(record.kind())))?;
        if serde_json::from_str::<Record>(&body).ok().as_ref() != Some(&record) {
            return Err(illegal(Illegal::Unreadable(record.kind())));
        }
        self.fold.add(record).map_err(illegal)?;
        Ok(self.tail.add(at, self.fold.calls(), body))
    }

    /// Follows one more record.
    ///
    /// # Errors
    /// [`Error::Broken`] when it is not the one that was written after those before it.
    pub(super) fn follow(&mut self, row: &Row) -> Result<(), Error> {
        self.tail.follow(row)?;
        let Entry { at, record, .. } = entry(&self.tail.run, row)?;
        if let Record::Started { digest, .. } | Record::Resumed { digest: Some(digest), .. } = &record {
            self.digests.push(digest.clone());
        }
        if let Record::Started { version, .. } = &record {
            self.version.clone_from(version);
        }
        self.fold.add(record).map_err(|why| self.tail.broken(row.seq, why.to_string()))?;
        self.last_at = at;
        Ok(())
    }

    /// Checks what is kept beside the records: the sources, edition by edition, and the status.
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub(super) fn agree(&self, editions: &[Vec<Source>], status: &str) -> Result<(), Error> {
        let Some(folded) = self.fold.status else {
            return Err(self.tail.broken(1, "it is missing"));
        };
        if editions.iter().map(|sources| digest(sources)).ne(self.digests.iter().cloned()) {
            return Err(self.tail.broken(1, "the sources that are kept are not the ones that were run"));
        }
        if folded.as_str() != status {
            let what = format!("it is missing: the run is kept as {status}, and its records end as {folded}");
            return Err(self.tail.broken(self.tail.seq + 1, what));
        }
        Ok(())
    }
}

/// Returns a stored record as it was before it was stored.
///
/// # Errors
/// [`Error::Broken`] when it cannot be read.
pub(super) fn entry(run: &str, row: &Row) -> Result<Entry, Error> {
    let broken = |what: String| Error::Broken { run: run.into(), seq: row.seq, what };
    Ok(Entry {
        seq: row.seq,
        at: Moment::parse(&row.at).map_err(|e| broken(format!("its time cannot be read: {e}")))?,
        record: serde_json::from_str(&row.body).map_err(|e| broken(format!("it cannot be read: {e}")))?,
        hash: row.hash.clone(),
    })
}

/// Returns whether `hash` is what was written down as `head`: all of it, or enough of its beginning.
///
/// # Errors
/// [`Error::NotAHead`].
pub(super) fn is_head(hash: &str, head: &str) -> Result<bool, Error> {
    let head = head.trim().to_ascii_lowercase();
    if head.len() < SHORTEST_HEAD || !head.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::NotAHead { given: head });
    }
    Ok(hash.starts_with(&head))
}

/// Returns the hash over texts and their paths, in their order: 64 hex digits.
pub fn digest(sources: &[Source]) -> String {
    hex(sources.iter().flat_map(|s| [s.path.as_bytes(), s.text.as_bytes()]))
}

/// Returns the SHA-256 over the parts. Each goes in with its length, so that `ab, c` is not `a, bc`.
fn hex<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    HEXLOWER.encode(&hash.finalize())
}
