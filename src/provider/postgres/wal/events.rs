//! The drops and truncates that an archive shows.
//!
//! - A drop is known by the commit: from PostgreSQL 15 on it lists the statistics of what was dropped, by number. What
//!   the same transaction had made itself (`create … drop`, or the shadow in which a table is rewritten) is left out.
//! - A truncate gives a table a new, empty file without making a new relation. So does the rebuilding of an index and
//!   the resetting of a sequence; whose file a new one is, only the records around it tell, so they are read for such
//!   transactions alone. A rewrite (`vacuum full`, `cluster`, `alter table`) makes a new relation, and is no truncate.
//! - Tables that nobody knows by name any more are events without a name, one a transaction.

use super::{
    Archive, Lsn, Names,
    dump::{Record, Stretch},
    names::Relation,
    payload,
    transaction::{Done, Oid, Open, RMGRS, locked, made},
};
use crate::provider::{
    Error, Result,
    model::{Event, EventQuery},
    postgres::tools::Tools,
};
use std::collections::{BTreeMap, BTreeSet};

/// The first version whose commits list what was dropped.
const VERSION_MIN: u32 = 15;

/// How many bytes before a table was made its schema is looked for.
const BEFORE: u64 = 1 << 20;

/// A transaction that dropped or may have truncated something.
struct Suspect {
    timeline: u32,
    done: Done,
}

/// What is read from one archive, and who is who in it.
struct Reading<'a> {
    archive: &'a Archive,
    tools: &'a Tools,
    names: &'a Names,
    /// Where each relation was locked for the first time: for one made in this archive, where it was made.
    births: BTreeMap<(u32, Oid), (Lsn, Lsn)>,
    /// What was looked up already.
    known: BTreeMap<(u32, Oid), Option<Relation>>,
}

impl Archive {
    /// Returns the drops and truncates of tables, newest first: one event a table. With names, of those databases
    /// alone that the names are of.
    ///
    /// # Errors
    /// `Unsupported` for WAL of PostgreSQL 13 and 14, `Tool`, and `CorruptBackup` when a
    /// segment cannot be read to its end.
    pub(in super::super) async fn events(
        &self,
        tools: &Tools,
        query: &EventQuery,
        names: &Names,
    ) -> Result<Vec<Event>> {
        refuse_old(tools).await?;
        let mut reading =
            Reading { archive: self, tools, names, births: BTreeMap::new(), known: BTreeMap::new() };
        let suspects = reading.suspects().await?;
        let mut events = Vec::new();
        for suspect in suspects.iter().filter(|s| query.holds(s)) {
            let mut seen: Vec<(&str, Vec<Option<Relation>>)> = Vec::new();
            if query.event.as_deref() != Some("truncate") {
                seen.push(("drop", reading.dropped(suspect)?));
            }
            if query.event.as_deref() != Some("drop") && suspect.done.replaced_files() {
                seen.push(("truncate", reading.truncated(suspect).await?));
            }
            for (event, relations) in seen {
                let wanted = relations.into_iter().filter(|r| query.wants(r.as_ref()));
                events.extend(wanted.map(|relation| suspect.event(event, relation.as_ref())));
            }
        }
        events.sort_by(|a, b| (b.time, &a.table).cmp(&(a.time, &b.table)));
        Ok(events)
    }
}

impl EventQuery {
    fn holds(&self, suspect: &Suspect) -> bool {
        let time = suspect.done.commit.time;
        self.since.is_none_or(|since| since <= time) && self.until.is_none_or(|until| time <= until)
    }

    /// Returns whether a table is asked for. One without a name may be the one that is: it is not left out.
    fn wants(&self, relation: Option<&Relation>) -> bool {
        match (&self.table, relation) {
            (Some(table), Some(relation)) => relation.is_called(table),
            _ => true,
        }
    }
}

impl Suspect {
    fn event(&self, event: &str, relation: Option<&Relation>) -> Event {
        Event {
            event: event.into(),
            table: relation.map(ToString::to_string),
            time: self.done.commit.time,
            xid: self.done.commit.xid.to_string(),
            lsn: self.done.commit.lsn.to_string(),
            timeline: Some(self.timeline),
        }
    }
}

impl Reading<'_> {
    /// Reads the whole archive once.
    async fn suspects(&mut self) -> Result<Vec<Suspect>> {
        let mut suspects = Vec::new();
        for (&timeline, there) in &self.archive.timelines {
            for run in there.runs() {
                let mut open = Open::default();
                let stretch = Stretch::Segments(run);
                let births = &mut self.births;
                let (archive, names) = (self.archive, self.names);
                let read = self.archive.read(self.tools, timeline, &stretch, RMGRS, |record| {
                    let Some(done) = open.take(record).filter(|d| archive.counts(timeline, d.commit.lsn))
                    else {
                        return true;
                    };
                    for oid in &done.locked {
                        births.entry((timeline, *oid)).or_insert((done.first, done.commit.lsn));
                    }
                    let covered = done.locked.iter().any(|(database, _)| names.covers(*database));
                    if covered && (!done.dropped.is_empty() || done.replaced_files()) {
                        suspects.push(Suspect { timeline, done });
                    }
                    true
                });
                read.await?;
            }
        }
        Ok(suspects)
    }

    /// Returns the tables that a transaction dropped.
    fn dropped(&mut self, suspect: &Suspect) -> Result<Vec<Option<Relation>>> {
        let done = &suspect.done;
        let gone = done.locked.iter().filter(|oid| done.dropped.contains(oid) && !done.made(**oid));
        self.tables(suspect, gone.copied())
    }

    /// Returns the tables that a transaction truncated.
    async fn truncated(&mut self, suspect: &Suspect) -> Result<Vec<Option<Relation>>> {
        let done = &suspect.done;
        let stretch = Stretch::Places(done.first, done.commit.lsn);
        let mut records = Vec::new();
        let read = self.archive.read(self.tools, suspect.timeline, &stretch, &[], |record| {
            if done.xids.contains(&record.xid) {
                records.push(Step::of(record));
            }
            true
        });
        read.await?;
        let emptied = emptied(&records, done);
        let emptied = emptied.into_iter().filter(|oid| !done.dropped.contains(oid) && !done.made(*oid));
        self.tables(suspect, emptied)
    }

    /// Returns those that are tables, by name; of those without a name one, when files went with the transaction.
    fn tables(
        &mut self,
        suspect: &Suspect,
        oids: impl Iterator<Item = Oid>,
    ) -> Result<Vec<Option<Relation>>> {
        let mut tables = Vec::new();
        for oid in oids {
            if !self.names.covers(oid.0) {
                continue;
            }
            let who = (suspect.timeline, oid);
            if !self.known.contains_key(&who) {
                self.known.insert(who, self.relation(suspect.timeline, oid)?);
            }
            match self.known.get(&who).cloned().flatten() {
                Some(relation) if relation.is_table() => tables.push(Some(relation)),
                None if suspect.done.removed_files && !tables.contains(&None) => tables.push(None),
                _ => {}
            }
        }
        tables.dedup();
        // Its table has a name, and what has none is its index or its overflow.
        if tables.iter().any(Option::is_some) {
            tables.retain(Option::is_some);
        }
        Ok(tables)
    }

    /// Returns a relation from the names, or from the row that was written when it was made.
    fn relation(&self, timeline: u32, oid: Oid) -> Result<Option<Relation>> {
        let (database, number) = oid;
        if let Some(known) = self.names.relation(database, number) {
            return Ok(Some(known.clone()));
        }
        let Some(&(first, end)) = self.births.get(&(timeline, oid)) else { return Ok(None) };
        let bytes = self.archive.payload(timeline, first, end)?;
        let Some((mut relation, schema)) = payload::relation(&bytes, number) else { return Ok(None) };
        relation.schema = self.names.schema(database, schema);
        if relation.schema.is_none() {
            // The schema is often made just before its first table.
            let segment = self.archive.start_of(self.archive.segment_of(first));
            let start = segment.max(Lsn(first.0.saturating_sub(BEFORE)));
            relation.schema = payload::schema(&self.archive.payload(timeline, start, end)?, schema);
        }
        Ok(Some(relation))
    }
}

/// A record of a transaction that gave a relation a new file.
enum Step {
    /// A relation was locked.
    Locked(Oid),
    /// A file was made.
    Made(Oid),
    /// A row was written.
    Wrote,
    /// Something that is no row was written to this file: it is an index's or a sequence's, or a copy.
    Built(Oid),
    /// Anything else.
    Other,
}

impl Step {
    fn of(record: &Record<'_>) -> Self {
        let step = match record.rmgr {
            "Standby" => locked(record).map(Step::Locked),
            "Storage" => made(record).map(Step::Made),
            "Heap" | "Heap2" if wrote_a_row(record.desc) => Some(Step::Wrote),
            "Heap" | "Heap2" => None,
            "XLOG" if !record.desc.starts_with("FPI ") => None,
            _ => file(record.desc).map(Step::Built),
        };
        step.unwrap_or(Step::Other)
    }
}

fn wrote_a_row(desc: &str) -> bool {
    ["INSERT", "UPDATE", "HOT_UPDATE", "DELETE", "MULTI_INSERT"].iter().any(|verb| desc.starts_with(verb))
}

/// Reads the first `rel 1663/5/1259`.
fn file(desc: &str) -> Option<Oid> {
    let (_, rest) = desc.split_once("rel ")?;
    let mut parts = rest.split(' ').next()?.split('/').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Returns the relations that were truncated.
///
/// `truncate` locks all its tables, resets their sequences, and then gives one after the other a new file, each
/// followed by its overflow table and its indexes, which it locks one by one. So the tables are those that were locked
/// last before the first new file that holds rows or nothing. A catalog entry that is written between two locks ends
/// an earlier statement (`alter table a …; truncate b`), unless it is that of a file that was just made.
fn emptied(steps: &[Step], done: &Done) -> Vec<Oid> {
    let built: BTreeSet<Oid> =
        steps.iter().filter_map(|s| if let Step::Built(file) = s { Some(*file) } else { None }).collect();
    let mut emptied: Vec<Oid> = Vec::new();
    let (mut waiting, mut written): (Vec<Oid>, bool) = (Vec::new(), false);
    for step in steps {
        match step {
            Step::Locked(oid) => {
                if written {
                    waiting.clear();
                }
                written = false;
                waiting.push(*oid);
            }
            Step::Made(file) if done.made(*file) => waiting.clear(),
            Step::Made(file) => {
                written = false;
                if !built.contains(file) {
                    emptied.append(&mut waiting);
                }
            }
            Step::Wrote => written = true,
            Step::Built(_) | Step::Other => {}
        }
    }
    emptied
}

async fn refuse_old(tools: &Tools) -> Result<()> {
    let said = tools.run("pg_waldump", &["--version".as_ref()]).await?;
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
