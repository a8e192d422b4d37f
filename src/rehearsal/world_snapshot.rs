//! A world as a run leaves it, past the fault injector.

use crate::{
    provider::{
        Backups, Branches, Replicas, Schedules,
        model::{Backup, Branch, Replica, Schedule},
        sim::{EffectRow, NormalizedWorld, Sim, WorldFacts},
    },
    runtime::Refusal,
};
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use std::{collections::BTreeMap, io};

/// A world, as it was left.
pub(super) struct WorldSnapshot {
    pub(super) target: String,
    pub(super) normalized: NormalizedWorld,
    pub(super) log: Vec<EffectRow>,
    pub(super) unfinished: Vec<String>,
    pub(super) branches: Vec<Branch>,
    pub(super) backups: Vec<Backup>,
    pub(super) schedules: Vec<Schedule>,
    pub(super) replicas: Vec<Replica>,
}

impl WorldSnapshot {
    /// Takes a snapshot of a world, past the fault injector.
    pub(super) fn from_world(target: &str, sim: &Sim) -> Result<Self, Refusal> {
        let normalized = sim.normalized_world()?;
        let branches = Branches::list(sim).now_or_never().ok_or_else(late_answer_error)??;
        let backups = Backups::list(sim).now_or_never().ok_or_else(late_answer_error)??;
        let schedules = Schedules::list(sim).now_or_never().ok_or_else(late_answer_error)??;
        let replicas = Replicas::list(sim).now_or_never().ok_or_else(late_answer_error)??;
        Ok(Self {
            target: target.into(),
            normalized,
            log: sim.effect_log()?,
            unfinished: sim.unfinished_job_ids()?,
            branches,
            backups,
            schedules,
            replicas,
        })
    }
}

/// Returns the error of a request that the simulator did not answer at once.
pub(super) fn late_answer_error() -> io::Error {
    io::Error::other("the simulator answers at once")
}

/// Returns worlds as the runbook's own invariant sees them, at the end of a run of this status.
pub(super) fn worlds_to_json(worlds: &[WorldSnapshot], status: &str, left_behind: &[String]) -> Value {
    let of = |world: &WorldSnapshot| {
        let WorldSnapshot { normalized, log, branches, backups, .. } = world;
        WorldFacts { normalized, log, branches, backups }.to_json()
    };
    let targets: BTreeMap<&str, Value> = worlds.iter().map(|s| (s.target.as_str(), of(s))).collect();
    let all = |field: &str| -> Value {
        targets.values().flat_map(|t| t[field].as_array().into_iter().flatten().cloned()).collect()
    };
    json!({
        "status": status,
        "left_behind": left_behind,
        "branches": all("branches"),
        "backups": all("backups"),
        "effects": all("effects"),
        "targets": targets,
    })
}
