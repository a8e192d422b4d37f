//! A world without what differs between two copies of it: ids, keys and times.
//!
//! Two runs with the same result leave worlds whose normalized forms are equal.

use super::{
    target::Sim,
    world::{
        BackupRow, Content, ContentSummary, WorldStore, WorldTx,
        audit::effective_policies,
        switches::{POWER, SSL},
    },
};
use crate::{
    base::moment::Moment,
    provider::{Result, model::Policy},
};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// A world without ids, keys and times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NormalizedWorld {
    /// What the target's database holds: by table, the number of its rows and a digest of them.
    pub database: BTreeMap<String, String>,
    /// The number of its rows alone, by table.
    #[serde(skip)]
    pub rows: BTreeMap<String, usize>,
    /// The same for every branch, by name.
    pub branches: BTreeMap<String, BTreeMap<String, String>>,
    /// Label and status of every backup, oldest first, and of a completed one what it holds: the number of its rows and a
    /// digest of them.
    pub backups: Vec<String>,
    /// The names of the restore points.
    pub marks: Vec<String>,
    /// The row-level policies of the target, and whether each has any effect.
    pub policies: Vec<String>,
    /// Every schedule. The backups that it took follow from the time that passed, and are left out.
    pub schedules: Vec<String>,
    /// Region and status of every replica.
    pub replicas: Vec<String>,
    /// The overrides of settings, and which of them wait for a restart.
    pub settings: Vec<String>,
    /// The ranges that may connect.
    pub ranges: Vec<String>,
    /// The banned addresses.
    pub bans: Vec<String>,
    /// Whether TLS is enforced, and whether the target is on.
    pub switches: Vec<String>,
}

impl Sim {
    /// Returns the normalized form of the world as it is now.
    ///
    /// # Errors
    /// Whatever the world's file says.
    pub fn normalized_world(&self) -> Result<NormalizedWorld> {
        let store = self.open_store()?;
        store.read_current_world(|tx| {
            let line = tx.main_timeline()?.id;
            let mut branches = BTreeMap::new();
            for row in tx.list_branch_rows()? {
                branches.insert(row.branch.name, summarize_timeline(&store, tx, row.line)?.tables);
            }
            let ContentSummary { tables, rows, policies } = summarize_timeline(&store, tx, line)?;
            let scheduled = tx.scheduled_backup_ids()?;
            let requested = tx.list_backup_rows()?.into_iter().filter(|b| !scheduled.contains(&b.id));
            let switch = |name: &str| Ok(format!("{name}: {}", tx.read_switch(name)?.value));
            Ok(NormalizedWorld {
                database: tables,
                rows,
                branches,
                backups: requested.map(|b| normalize_backup(tx, &b)).collect::<Result<_>>()?,
                marks: tx.restore_point_names()?,
                policies,
                schedules: tx.normalized_schedules()?,
                replicas: tx.normalized_replicas()?,
                settings: tx.normalized_settings()?,
                ranges: tx.allowed_ranges()?.iter().map(|(net, _)| net.to_string()).collect(),
                bans: tx.banned_addresses()?.iter().map(ToString::to_string).collect(),
                switches: [SSL, POWER].map(switch).into_iter().collect::<Result<_>>()?,
            })
        })
    }
}

/// Returns label and status of a backup, and what it holds once it is complete.
fn normalize_backup(tx: &WorldTx<'_>, backup: &BackupRow) -> Result<String> {
    let label = backup.label.as_ref().map_or_else(String::new, |label| format!("{label}: "));
    let held = match backup.finished_at {
        Some(_) => format!(", {}", describe_held_rows(tx, backup)?),
        None => String::new(),
    };
    Ok(format!("{label}{}{held}", backup.status))
}

/// Returns how many rows a completed backup holds, and a digest of them: a backup that races with a change has the same
/// label and status whichever is first.
fn describe_held_rows(tx: &WorldTx<'_>, backup: &BackupRow) -> Result<String> {
    let held = tx.cached_or_computed_summary(backup.line, backup.stop, || {
        summarize_content(tx, &tx.content_at(backup.line, backup.stop)?)
    })?;
    let tables = held.tables.iter().map(|(name, summary)| format!("{name}: {summary}"));
    Ok(format!("{} rows, {}", held.rows.values().sum::<usize>(), digest_texts(tables)))
}

/// Returns the summary of a timeline as it is now.
fn summarize_timeline(store: &WorldStore, tx: &WorldTx<'_>, timeline: i64) -> Result<ContentSummary> {
    tx.cached_or_computed_summary(timeline, i64::MAX, || {
        store.with_content(tx, timeline, |content| summarize_content(tx, content))
    })
}

/// Returns the summary of a database.
fn summarize_content(tx: &WorldTx<'_>, content: &Content) -> Result<ContentSummary> {
    let since = tx.made_at()?;
    let (mut tables, mut rows) = (BTreeMap::new(), BTreeMap::new());
    for name in content.table_names()? {
        let (count, summary) = summarize_table(content, &name, since)?;
        rows.insert(name.clone(), count);
        tables.insert(name, summary);
    }
    let policies = effective_policies(tx, content)?;
    let shown = |policy: &Policy| format!("{} on {}: {}", policy.name, policy.table, policy.enabled);
    Ok(ContentSummary { tables, rows, policies: policies.iter().map(shown).collect() })
}

/// Returns how many rows a table has, and the summary of them, which does not depend on the order in which they came.
fn summarize_table(content: &Content, name: &str, since: Moment) -> Result<(usize, String)> {
    let masked = |row: Map<String, Value>| {
        let cells = row.iter().map(|(column, cell)| (column.clone(), mask_new_moment(cell, since)));
        cells.collect::<Value>().to_string()
    };
    let mut rows: Vec<String> = content.table_rows(name)?.rows.into_iter().map(masked).collect();
    rows.sort_unstable();
    let count = rows.len();
    let secured =
        content.switched_row_security(name).map_or("", |on| if on { ", secured" } else { ", not secured" });
    Ok((count, format!("{count} rows, {}{secured}", digest_texts(rows))))
}

/// Returns a short digest of texts, in their order.
fn digest_texts(texts: impl IntoIterator<Item = String>) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text);
        hash.update([0]);
    }
    let mut digest = data_encoding::HEXLOWER.encode(&hash.finalize());
    digest.truncate(8);
    digest
}

/// Returns a cell, without its moment where that is later than the world.
fn mask_new_moment(cell: &Value, since: Moment) -> Value {
    let moment = cell.as_str().and_then(|text| Moment::parse(text).ok());
    if moment.is_some_and(|moment| moment >= since) { "a moment".into() } else { cell.clone() }
}
