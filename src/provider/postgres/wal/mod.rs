//! Reads an archive of WAL: which segments it holds, up to which commit, and what happened in it.
//!
//! - Only the archive is read, so this works while the server is down.
//! - `pg_waldump` decodes the records. Its exit code proves nothing: it also fails at the end of valid WAL.
//! - A record can be in two segments, because a new timeline starts with a copy of the segment it forked in.
//!   It counts once: for the parent if the archive has the parent's own file of that segment.

mod archive;
mod dump;
mod events;
mod lsn;
mod names;
mod payload;
mod tablespaces;
mod transaction;
mod xid;

pub(super) use self::{
    archive::{WalArchive, segment_name_before},
    dump::{Commit, WalRestorePoint},
    lsn::Lsn,
    names::{RelationNames, fetch_relation_names},
    tablespaces::ReplayLimit,
};

#[cfg(test)]
mod tests;
