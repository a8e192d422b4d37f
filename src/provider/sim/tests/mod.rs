//! The simulator, driven through the provider traits: what the tests share, and the tests by subject.

mod effects;
mod environment;
mod files;
mod late;
mod restores;
mod shop;
mod statements;

use super::{SANDBOX, Sim, config::world_file_path};
use crate::{
    base::{
        clock::Clock,
        moment::{Moment, Span},
    },
    config::TargetConfig,
    provider::{
        Code, OpenContext, Provider, Result,
        model::{
            Backup, BackupRequest, Branch, CallKey, CheckStatus, CommitState, FindingLevel, Job, JobStatus,
            RecoveryPoint, RecoveryTarget, RestoreOutcome, RestoreRequest, SqlOutcome, TableEventQuery,
        },
        restore_points::contract::HeldTarget,
    },
};
use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{Arc, Mutex},
};

/// A small world whose times are easy to count.
const LEDGER: &str = r#"
title = "a ledger"
retention = "10d"
backup_duration = "10m"
restore_duration = "3h"

[[history]]
at = "-2h"
sql = ["create table entries (id integer primary key, amount integer not null)", "insert into entries values (1, 10)"]

[[history]]
at = "-30m"
sql = "insert into entries values (2, 20)"

[[history]]
at = "-10m"
sql = "insert into entries values (3, 30)"

[[backups]]
id = "first"
at = "-1h"
label = "nightly"
"#;

/// A clock that stands still unless told.
struct FrozenClock(Mutex<Moment>);

#[async_trait]
impl Clock for FrozenClock {
    fn now(&self) -> Moment {
        *self.0.lock().expect("nobody panicked with the clock")
    }

    async fn sleep(&self, _: Span) {
        panic!("a simulated target never sleeps");
    }
}

fn start_moment() -> Moment {
    Moment::parse("2026-11-20T12:00:00Z").expect("a moment")
}

fn frozen_clock() -> Arc<dyn Clock> {
    Arc::new(FrozenClock(Mutex::new(start_moment())))
}

fn minutes_ago(minutes: i64) -> Moment {
    start_moment().saturating_add(Span::from_secs(-60 * minutes))
}

fn call_key(text: &str) -> CallKey {
    CallKey(text.into())
}

fn sim_in_memory(world: &str) -> Sim {
    Sim::in_memory("ledger", world, "test", frozen_clock()).expect("the world is good")
}

fn sim_on_disk(state: &Path, settings: &str) -> Result<Sim> {
    let settings = settings.parse().expect("settings are TOML");
    let target = TargetConfig {
        name: "shop".into(),
        provider: "sim".into(),
        protect: false,
        tags: Vec::new(),
        settings,
    };
    Sim::open(&OpenContext { target: &target, base: state, file: None, state, clock: &frozen_clock() })
}

fn branch_restore_request(at: RecoveryTarget) -> RestoreRequest {
    let to = RecoveryPoint { at, inclusive: true, timeline: None };
    RestoreRequest { backup: None, to, into: Some("drill".into()), temporary: true, run: Some("r1".into()) }
}

fn in_place_restore_request(at: RecoveryTarget) -> RestoreRequest {
    RestoreRequest { into: None, temporary: false, run: None, ..branch_restore_request(at) }
}

async fn entry_ids(place: &dyn Provider) -> Vec<i64> {
    let rows =
        place.sql().expect("sql").query("select id from entries order by id", Span::from_secs(5)).await;
    let rows = rows.expect("the query runs").rows;
    rows.iter().map(|r| r["id"].as_i64().expect("an int")).collect()
}

async fn execute_sql(sim: &dyn Provider, sql: &str, k: &str) -> Result<u64> {
    let outcome = sim.sql()?.execute(sql, Span::from_secs(5), &call_key(k)).await?;
    Ok(outcome.rows_affected)
}

/// Waits a job out and returns its value and how often it was seen running.
async fn wait_for_job(sim: &Sim, job: &Job) -> Result<(Value, u32)> {
    let mut looks = 0;
    loop {
        match sim.poll_job(job).await? {
            JobStatus::Done(value) => return Ok((value, looks)),
            JobStatus::Running(_) | JobStatus::NotBegun(_) | JobStatus::Lagging(..) => looks += 1,
            JobStatus::Failed(e) => return Err(e),
        }
        sim.let_time_pass(&*frozen_clock(), Span::from_secs(600)).await;
    }
}

async fn restore_branch(sim: &Sim, request: &RestoreRequest, k: &str) -> Result<Arc<dyn Provider>> {
    let job = sim.backups()?.restore(request, &call_key(k)).await?;
    let (value, _) = wait_for_job(sim, &job).await?;
    let branch: Branch = serde_json::from_value(value["$branch"].clone()).expect("a branch");
    assert_eq!(branch.status, "ready");
    sim.branches()?.open(&branch.name).await
}
