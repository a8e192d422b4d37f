//! Finds dropped and truncated tables in an archive.
//!
//! - A drop shows in the commit record, which from PostgreSQL 15 on lists the dropped statistics by OID. What
//!   the same transaction created itself (`create … drop`, or the copy in a table rewrite) is left out.
//! - A truncate gives a table a new, empty file without creating a relation. So do rebuilding an index and
//!   resetting a sequence. Only the records around a new file tell whose it is, so they are read for such
//!   transactions alone. A rewrite (`vacuum full`, `cluster`, `alter table`) creates a relation and is no
//!   truncate.
//! - Tables whose name is lost give one event without a name per transaction.

use super::{
    Lsn, RelationNames, WalArchive,
    dump::{WalRange, WalRecord},
    names::Relation,
    payload,
    transaction::{
        CommittedTransaction, OpenTransactions, RelationId, TRACKED_RMGRS, parse_created_file, parse_lock,
    },
};
use crate::provider::{
    Error, Result,
    host::programs::Programs,
    model::{TableEvent, TableEventQuery},
};
use std::collections::{BTreeMap, BTreeSet};

/// The first major version whose commit records list dropped relations.
const VERSION_MIN: u32 = 15;

/// How many bytes of WAL before a table's creation are searched for the creation of its schema.
const SCHEMA_SEARCH_BYTES: u64 = 1 << 20;

/// A transaction that dropped or may have truncated something.
struct CandidateTransaction {
    timeline: u32,
    done: CommittedTransaction,
}

/// Reads one archive and resolves relation ids to names.
struct EventReader<'a> {
    archive: &'a WalArchive,
    programs: &'a Programs,
    names: &'a RelationNames,
    /// Where each relation was first locked; for one created in this archive, where it was created.
    creations: BTreeMap<(u32, RelationId), (Lsn, Lsn)>,
    /// Relations that were looked up already.
    known: BTreeMap<(u32, RelationId), Option<Relation>>,
}

impl WalArchive {
    /// Returns the drops and truncates of tables, newest first, one event per table. If `names` is not empty,
    /// only events of its databases are returned.
    ///
    /// # Errors
    /// `Unsupported` for WAL of PostgreSQL 13 and 14, `Tool`, and `CorruptBackup` when a
    /// segment cannot be read to its end.
    pub(in super::super) async fn find_events(
        &self,
        programs: &Programs,
        query: &TableEventQuery,
        names: &RelationNames,
    ) -> Result<Vec<TableEvent>> {
        check_waldump_version(programs).await?;
        let mut reader = EventReader {
            archive: self,
            programs,
            names,
            creations: BTreeMap::new(),
            known: BTreeMap::new(),
        };
        let candidates = reader.find_candidates().await?;
        let mut events = Vec::new();
        for candidate in candidates.iter().filter(|s| query.covers_time_of(s)) {
            let mut seen: Vec<(&str, Vec<Option<Relation>>)> = Vec::new();
            if query.event.as_deref() != Some("truncate") {
                seen.push(("drop", reader.dropped_tables(candidate)?));
            }
            if query.event.as_deref() != Some("drop") && candidate.done.has_replaced_files() {
                seen.push(("truncate", reader.truncated_tables(candidate).await?));
            }
            for (event, relations) in seen {
                let wanted = relations.into_iter().filter(|r| query.matches_relation(r.as_ref()));
                events.extend(wanted.map(|relation| candidate.to_event(event, relation.as_ref())));
            }
        }
        events.sort_by(|a, b| (b.time, &a.table).cmp(&(a.time, &b.table)));
        Ok(events)
    }
}

impl TableEventQuery {
    fn covers_time_of(&self, candidate: &CandidateTransaction) -> bool {
        let time = candidate.done.commit.time;
        self.since.is_none_or(|since| since <= time) && self.until.is_none_or(|until| time <= until)
    }

    /// Returns whether the query asks for a table. A table without a name may be the one, so it is included.
    fn matches_relation(&self, relation: Option<&Relation>) -> bool {
        match (&self.table, relation) {
            (Some(table), Some(relation)) => relation.has_name(table),
            _ => true,
        }
    }
}

impl CandidateTransaction {
    fn to_event(&self, event: &str, relation: Option<&Relation>) -> TableEvent {
        TableEvent {
            event: event.into(),
            table: relation.map(ToString::to_string),
            time: self.done.commit.time,
            xid: self.done.commit.xid.to_string(),
            lsn: self.done.commit.lsn.to_string(),
            timeline: Some(self.timeline),
            unseen: None,
        }
    }
}

impl EventReader<'_> {
    /// Reads the whole archive once.
    async fn find_candidates(&mut self) -> Result<Vec<CandidateTransaction>> {
        let mut candidates = Vec::new();
        for (&timeline, there) in &self.archive.timelines {
            for run in there.contiguous_segments() {
                let mut open = OpenTransactions::default();
                let range = WalRange::Segments(run);
                let creations = &mut self.creations;
                let (archive, names) = (self.archive, self.names);
                let read =
                    self.archive.visit_records(self.programs, timeline, &range, TRACKED_RMGRS, |record| {
                        let Some(done) = open
                            .apply_record(record)
                            .filter(|d| archive.belongs_to_timeline(timeline, d.commit.lsn))
                        else {
                            return true;
                        };
                        for oid in &done.locked {
                            creations.entry((timeline, *oid)).or_insert((done.first, done.commit.lsn));
                        }
                        let covered =
                            done.locked.iter().any(|(database, _)| names.covers_database(*database));
                        if covered && (!done.dropped.is_empty() || done.has_replaced_files()) {
                            candidates.push(CandidateTransaction { timeline, done });
                        }
                        true
                    });
                read.await?;
            }
        }
        Ok(candidates)
    }

    /// Returns the tables that a transaction dropped.
    fn dropped_tables(&mut self, candidate: &CandidateTransaction) -> Result<Vec<Option<Relation>>> {
        let done = &candidate.done;
        let gone = done.locked.iter().filter(|oid| done.dropped.contains(oid) && !done.has_created(**oid));
        self.resolve_tables(candidate, gone.copied())
    }

    /// Returns the tables that a transaction truncated.
    async fn truncated_tables(&mut self, candidate: &CandidateTransaction) -> Result<Vec<Option<Relation>>> {
        let done = &candidate.done;
        let range = WalRange::Between(done.first, done.commit.lsn);
        let mut records = Vec::new();
        let read = self.archive.visit_records(self.programs, candidate.timeline, &range, &[], |record| {
            if done.xids.contains(&record.xid) {
                records.push(RecordKind::from_record(record));
            }
            true
        });
        read.await?;
        let emptied = find_truncated_relations(&records, done);
        let emptied =
            emptied.into_iter().filter(|oid| !done.dropped.contains(oid) && !done.has_created(*oid));
        self.resolve_tables(candidate, emptied)
    }

    /// Returns the tables among `oids` by name, and one entry for all without a name if files were removed.
    fn resolve_tables(
        &mut self,
        candidate: &CandidateTransaction,
        oids: impl Iterator<Item = RelationId>,
    ) -> Result<Vec<Option<Relation>>> {
        let mut tables = Vec::new();
        for oid in oids {
            if !self.names.covers_database(oid.0) {
                continue;
            }
            let who = (candidate.timeline, oid);
            if !self.known.contains_key(&who) {
                self.known.insert(who, self.resolve_relation(candidate.timeline, oid)?);
            }
            match self.known.get(&who).cloned().flatten() {
                Some(relation) if relation.is_table() => tables.push(Some(relation)),
                None if candidate.done.removed_files && !tables.contains(&None) => tables.push(None),
                _ => {}
            }
        }
        tables.dedup();
        // If a table has a name, those without one are its indexes or its TOAST table.
        if tables.iter().any(Option::is_some) {
            tables.retain(Option::is_some);
        }
        Ok(tables)
    }

    /// Returns a relation from the names, or from the `pg_class` row in the WAL of its creation.
    fn resolve_relation(&self, timeline: u32, oid: RelationId) -> Result<Option<Relation>> {
        let (database, number) = oid;
        if let Some(known) = self.names.find_relation(database, number) {
            return Ok(Some(known.clone()));
        }
        let Some(&(first, end)) = self.creations.get(&(timeline, oid)) else { return Ok(None) };
        let bytes = self.archive.read_payload(timeline, first, end)?;
        let Some((mut relation, schema)) = payload::find_class_row(&bytes, number) else { return Ok(None) };
        relation.schema = self.names.schema_name(database, schema);
        if relation.schema.is_none() {
            // A schema is often created just before its first table.
            let segment = self.archive.segment_start(self.archive.segment_at(first));
            let start = segment.max(Lsn(first.0.saturating_sub(SCHEMA_SEARCH_BYTES)));
            relation.schema =
                payload::find_schema_name(&self.archive.read_payload(timeline, start, end)?, schema);
        }
        Ok(Some(relation))
    }
}

/// What a record of a transaction that gave a relation a new file does.
enum RecordKind {
    /// A relation was locked.
    Locked(RelationId),
    /// A file was made.
    FileCreated(RelationId),
    /// A row was written.
    RowWritten,
    /// Something other than a row was written to this file: an index's, a sequence's, or a copy.
    Built(RelationId),
    /// Anything else.
    Other,
}

impl RecordKind {
    fn from_record(record: &WalRecord<'_>) -> Self {
        let step = match record.rmgr {
            "Standby" => parse_lock(record).map(RecordKind::Locked),
            "Storage" => parse_created_file(record).map(RecordKind::FileCreated),
            "Heap" | "Heap2" if is_row_write(record.desc) => Some(RecordKind::RowWritten),
            "Heap" | "Heap2" => None,
            "XLOG" if !record.desc.starts_with("FPI ") => None,
            _ => parse_relation_file(record.desc).map(RecordKind::Built),
        };
        step.unwrap_or(RecordKind::Other)
    }
}

fn is_row_write(desc: &str) -> bool {
    ["INSERT", "UPDATE", "HOT_UPDATE", "DELETE", "MULTI_INSERT"].iter().any(|verb| desc.starts_with(verb))
}

/// Reads the first `rel 1663/5/1259`.
fn parse_relation_file(desc: &str) -> Option<RelationId> {
    let (_, rest) = desc.split_once("rel ")?;
    let mut parts = rest.split(' ').next()?.split('/').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Returns the relations that were truncated.
///
/// `truncate` locks all its tables, resets their sequences, and then gives each table in turn a new file,
/// followed by its TOAST table and its indexes, which it locks one by one. So the tables are those locked
/// last before the first new file that holds rows or nothing. A catalog row written between two locks ends
/// an earlier statement (`alter table a …; truncate b`), unless it belongs to a file that was just created.
fn find_truncated_relations(steps: &[RecordKind], done: &CommittedTransaction) -> Vec<RelationId> {
    let built: BTreeSet<RelationId> = steps
        .iter()
        .filter_map(|s| if let RecordKind::Built(file) = s { Some(*file) } else { None })
        .collect();
    let mut emptied: Vec<RelationId> = Vec::new();
    let (mut waiting, mut written): (Vec<RelationId>, bool) = (Vec::new(), false);
    for step in steps {
        match step {
            RecordKind::Locked(oid) => {
                if written {
                    waiting.clear();
                }
                written = false;
                waiting.push(*oid);
            }
            RecordKind::FileCreated(file) if done.has_created(*file) => waiting.clear(),
            RecordKind::FileCreated(file) => {
                written = false;
                if !built.contains(file) {
                    emptied.append(&mut waiting);
                }
            }
            RecordKind::RowWritten => written = true,
            RecordKind::Built(_) | RecordKind::Other => {}
        }
    }
    emptied
}

async fn check_waldump_version(programs: &Programs) -> Result<()> {
    let said = programs.run("pg_waldump", &["--version".as_ref()]).await?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = said.split_whitespace().find_map(|w| w.split(['.', 'b', 'r']).next()?.parse::<u32>().ok());
    if version.is_some_and(|v| v >= VERSION_MIN) {
        return Ok(());
    }
    Err(Error::unsupported(
        format!("the WAL of `{}` does not say which tables were dropped", said.trim()),
        format!(
            "from PostgreSQL {VERSION_MIN} on it does; restore to moments before and after to narrow it down"
        ),
    ))
}
