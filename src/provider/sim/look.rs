//! What can be seen of a world: for the invariant of a runbook, for a fixture, and for people.

use super::{normalized::NormalizedWorld, target::Sim, world::EffectRow};
use crate::{
    base::value,
    provider::{
        Result,
        model::{Backup, Branch},
    },
};
use serde_json::{Value, json};

/// A world as a script sees it.
pub struct WorldFacts<'a> {
    pub normalized: &'a NormalizedWorld,
    /// What took effect, oldest first.
    pub log: &'a [EffectRow],
    pub branches: &'a [Branch],
    pub backups: &'a [Backup],
}

impl WorldFacts<'_> {
    /// Returns the map that `invariant` and `world::look` give.
    pub fn to_json(&self) -> Value {
        let world = self.normalized;
        let branches = self.branches.iter().map(|b| b.to_handle()[value::BRANCH_TAG].clone());
        let backups = self.backups.iter().map(|b| b.to_handle()[value::BACKUP_TAG].clone());
        let tables = world.rows.iter().map(|(name, rows)| (name.clone(), json!({ "rows": rows })));
        json!({
            "tables": tables.collect::<serde_json::Map<_, _>>(),
            "branches": branches.collect::<Vec<_>>(),
            "backups": backups.collect::<Vec<_>>(),
            "effects": self.log.iter().map(|e| json!({"kind": e.kind, "what": e.what})).collect::<Vec<_>>(),
            "database": world.database,
            "schedules": world.schedules,
            "replicas": world.replicas,
            "settings": world.settings,
            "ranges": world.ranges,
            "bans": world.bans,
            "switches": world.switches,
        })
    }
}

impl Sim {
    /// Returns what `invariant` gets of a world, as it is now.
    ///
    /// # Errors
    /// Whatever the world's file says.
    pub fn facts_for_script(&self) -> Result<Value> {
        let (branches, backups) = self.open_store()?.read_current_world(|tx| {
            let branches = tx.list_branch_rows()?.into_iter().map(|row| row.branch).collect::<Vec<_>>();
            let backups = tx.list_backup_rows()?.iter().map(|b| b.to_backup(tx.target)).collect::<Vec<_>>();
            Ok((branches, backups))
        })?;
        let (normalized, log) = (self.normalized_world()?, self.effect_log()?);
        let facts = WorldFacts { normalized: &normalized, log: &log, branches: &branches, backups: &backups };
        Ok(facts.to_json())
    }

    /// Returns a world as people look at it: what a script sees of it, its clock, and what can be restored.
    ///
    /// # Errors
    /// Whatever the world's file says.
    pub fn overview_for_people(&self) -> Result<Value> {
        let store = self.open_store()?;
        let mut shown = self.facts_for_script()?;
        let (window, marks) =
            store.read_current_world(|tx| Ok((tx.recovery_window()?, tx.restore_point_names()?)))?;
        shown["title"] = store.title().into();
        shown["id"] = store.id().into();
        shown["now"] = json!(self.world_time()?);
        shown["ahead"] = json!(store.clock_lead()?);
        shown["window"] = json!({ "earliest": window.earliest, "latest": window.latest });
        shown["restore_points"] = json!(marks);
        for inner in ["effects", "database"] {
            shown.as_object_mut().and_then(|fields| fields.remove(inner));
        }
        Ok(shown)
    }
}
