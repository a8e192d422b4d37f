//! A world without what differs between two copies of it: ids, keys and times.
//!
//! Two runs with the same result leave worlds whose normalized forms are equal.

use super::{
    target::Sim,
    world::{
        Content, ContentSummary, WorldStore, WorldTx,
        audit::effective_policies,
        switches::{POWER, SSL},
    },
};
use crate::{
    base::moment::Moment,
    provider::{Result, model::Policy},
};
use serde::Serialize;
use serde_json::Value;
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
    /// Label and status of every backup, oldest first.
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
                branches.insert(row.branch.name, summarize_content(&store, tx, row.line)?.tables);
            }
            let backup = |label: Option<String>, status: &str| match label {
                Some(label) => format!("{label}: {status}"),
                None => status.to_owned(),
            };
            let ContentSummary { tables, rows, policies } = summarize_content(&store, tx, line)?;
            let scheduled = tx.scheduled_backup_ids()?;
            let requested = tx.list_backup_rows()?.into_iter().filter(|b| !scheduled.contains(&b.id));
            let switch = |name: &str| Ok(format!("{name}: {}", tx.read_switch(name)?.value));
            Ok(NormalizedWorld {
                database: tables,
                rows,
                branches,
                backups: requested.map(|b| backup(b.label, &b.status)).collect(),
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

/// Returns the summary of a timeline as it is now.
fn summarize_content(store: &WorldStore, tx: &WorldTx<'_>, timeline: i64) -> Result<ContentSummary> {
    let since = tx.made_at()?;
    tx.cached_or_computed_summary(timeline, || {
        store.with_content(tx, timeline, |content| {
            let (mut tables, mut rows) = (BTreeMap::new(), BTreeMap::new());
            for name in content.table_names()? {
                let (count, summary) = summarize_table(content, &name, since)?;
                rows.insert(name.clone(), count);
                tables.insert(name, summary);
            }
            let policies = effective_policies(tx, content)?;
            let shown = |policy: &Policy| format!("{} on {}: {}", policy.name, policy.table, policy.enabled);
            Ok(ContentSummary { tables, rows, policies: policies.iter().map(shown).collect() })
        })
    })
}

/// Returns how many rows a table has, and the summary of them.
fn summarize_table(content: &Content, name: &str, since: Moment) -> Result<(usize, String)> {
    let mut hash = Sha256::new();
    let rows = content.table_rows(name)?;
    for row in &rows.rows {
        let cells: Value =
            row.iter().map(|(column, cell)| (column.clone(), mask_new_moment(cell, since))).collect();
        hash.update(cells.to_string());
        hash.update([0]);
    }
    let mut digest = data_encoding::HEXLOWER.encode(&hash.finalize());
    digest.truncate(8);
    let secured =
        content.switched_row_security(name).map_or("", |on| if on { ", secured" } else { ", not secured" });
    Ok((rows.rows.len(), format!("{} rows, {digest}{secured}", rows.rows.len())))
}

/// Returns a cell, without its moment where that is later than the world.
fn mask_new_moment(cell: &Value, since: Moment) -> Value {
    let moment = cell.as_str().and_then(|text| Moment::parse(text).ok());
    if moment.is_some_and(|moment| moment >= since) { "a moment".into() } else { cell.clone() }
}
