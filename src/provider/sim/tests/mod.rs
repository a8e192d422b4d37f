//! The simulator, driven through the provider traits: a stage, and the tests on it by subject.

mod effects;
mod files;
mod restores;
mod shop;
mod statements;
mod surroundings;

use super::{SANDBOX, Sim, world_file};
use crate::{
    base::{
        clock::Clock,
        moment::{Moment, Span},
    },
    config::Target,
    provider::{
        Accept, Code, Error, Provider, Result, Unwritten,
        fleet::Opening,
        model::{
            At, Backup, BackupRequest, Branch, CheckStatus, EventQuery, Job, Key, Level, Observed,
            RecoveryPoint, RestoreRequest, Restored,
        },
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
struct Still(Mutex<Moment>);

#[async_trait]
impl Clock for Still {
    fn now(&self) -> Moment {
        *self.0.lock().expect("nobody panicked with the clock")
    }

    async fn sleep(&self, _: Span) {
        panic!("a simulated target never sleeps");
    }
}

/// Notes what was accepted; with `fail` it is a journal that cannot be written.
#[derive(Default)]
struct Notes {
    taken: Mutex<Vec<Value>>,
    fail: bool,
}

#[async_trait]
impl Accept for Notes {
    async fn accepted(&self, what: Value) -> Result<()> {
        if self.fail {
            return Err(Error::new(Code::Tool, "the journal cannot be written"));
        }
        self.taken.lock().expect("nobody panicked with the notes").push(what);
        Ok(())
    }
}

fn start() -> Moment {
    Moment::parse("2026-11-20T12:00:00Z").expect("a moment")
}

fn still() -> Arc<dyn Clock> {
    Arc::new(Still(Mutex::new(start())))
}

fn ago(minutes: i64) -> Moment {
    start().plus(Span::seconds(-60 * minutes))
}

fn key(text: &str) -> Key {
    Key(text.into())
}

fn memory(world: &str) -> Sim {
    Sim::in_memory("ledger", world, "test", still()).expect("the world is good")
}

fn on_disk(state: &Path, settings: &str) -> Result<Sim> {
    let settings = settings.parse().expect("settings are TOML");
    let target =
        Target { name: "shop".into(), provider: "sim".into(), protect: false, tags: Vec::new(), settings };
    Sim::open(&Opening { target: &target, base: state, state, clock: &still() })
}

fn to(at: At) -> RestoreRequest {
    let to = RecoveryPoint { at, inclusive: true, timeline: None };
    RestoreRequest { backup: None, to, into: Some("drill".into()), temporary: true, run: Some("r1".into()) }
}

fn in_place(at: At) -> RestoreRequest {
    RestoreRequest { into: None, temporary: false, run: None, ..to(at) }
}

async fn ids(place: &dyn Provider) -> Vec<i64> {
    let rows = place.sql().expect("sql").query("select id from entries order by id", Span::seconds(5)).await;
    let rows = rows.expect("the query runs").rows;
    rows.iter().map(|r| r["id"].as_i64().expect("an int")).collect()
}

async fn execute(sim: &dyn Provider, sql: &str, k: &str) -> Result<u64> {
    let outcome = sim.sql()?.execute(sql, Span::seconds(5), &key(k), &Notes::default()).await?;
    Ok(outcome.rows_affected)
}

/// Waits a job out and returns its value and how often it was seen running.
async fn wait(sim: &Sim, job: &Job) -> Result<(Value, u32)> {
    let mut looks = 0;
    loop {
        match sim.observe(job).await? {
            Observed::Done(value) => return Ok((value, looks)),
            Observed::Running(_) => looks += 1,
        }
        sim.pause(&*still(), Span::seconds(600)).await;
    }
}

async fn branch(sim: &Sim, request: &RestoreRequest, k: &str) -> Result<Arc<dyn Provider>> {
    let job = sim.backups()?.restore(request, &key(k), &Unwritten).await?;
    let (value, _) = wait(sim, &job).await?;
    let branch: Branch = serde_json::from_value(value["$branch"].clone()).expect("a branch");
    assert_eq!(branch.status, "ready");
    sim.branches()?.open(&branch.name).await
}
