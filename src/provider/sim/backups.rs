//! Backups of a simulated target, and restores from them.

use super::{
    Sim,
    branches::{Asked, demand_name},
    history::lsn_text,
    jobs::{self, Forking},
    recovery::Plan,
    store::{Present, micros, moment},
};
use crate::provider::{
    Accept, Backups, Code, Error, Result,
    model::{
        Backup, BackupRequest, Deleted, Event, EventQuery, Job, Key, Mark, RestoreRequest, Verification,
        Window,
    },
};
use async_trait::async_trait;
use rusqlite::Row;
use serde_json::Value;

#[async_trait]
impl Backups for Sim {
    async fn list(&self) -> Result<Vec<Backup>> {
        self.store()?.look(|p| Ok(p.saved()?.iter().map(|b| b.shown(p.target)).collect()))
    }

    async fn get(&self, id: &str) -> Result<Backup> {
        self.store()?.look(|p| Ok(p.one_saved(id)?.shown(p.target)))
    }

    async fn create(&self, request: &BackupRequest, key: &Key) -> Result<Job> {
        let what = request.label.clone().unwrap_or_else(|| self.target.clone());
        job(self.store()?.effect(Some(key), "backup.create", &what, |p| {
            p.demand_on(Code::Refused)?;
            p.demand_unrestored(Code::Conflict)?;
            let line = p.main_line()?;
            let bytes = p.facts_at(line.id, i64::MAX)?.bytes;
            let backup = jobs::begun_backup(key, request.label.as_deref(), line.id, bytes, p.now);
            p.save(&backup)?;
            let takes = p.world.backup_duration();
            json(p.accept(jobs::BACKUP, key, &backup.id, takes, bytes, &Value::Null)?)
        })?)
    }

    async fn plan_delete(&self, id: &str) -> Result<Deleted> {
        self.store()?.look(|p| p.plan_delete(id))
    }

    async fn delete(&self, plan: &Deleted, key: &Key) -> Result<()> {
        let delete = |p: &Present<'_>| {
            let mut deleted = false;
            for id in std::iter::once(&plan.id).chain(&plan.also) {
                deleted |= p.delete_backup(id)?;
            }
            if deleted { json(plan).map(Some) } else { Ok(None) }
        };
        self.store()?.effect_if(Some(key), "backup.delete", &plan.id, delete).map(drop)
    }

    async fn verify(&self, id: &str) -> Result<Verification> {
        self.store()?.look(|p| {
            let backup = p.one_saved(id)?;
            if backup.finished_at.is_none() {
                return Err(Error::new(Code::Refused, format!("the backup `{id}` is not complete yet"))
                    .hint("wait for it"));
            }
            let problems: Vec<String> = p.damage(&backup)?.into_iter().collect();
            Ok(Verification {
                id: id.into(),
                ok: problems.is_empty(),
                checked: vec!["checksums".into()],
                problems,
            })
        })
    }

    async fn restore(&self, request: &RestoreRequest, key: &Key, _: &dyn Accept) -> Result<Job> {
        let store = self.store()?;
        match &request.into {
            Some(name) => {
                demand_name(name)?;
                job(store.effect(Some(key), "restore.branch", name, |p| {
                    json(p.accept_branch(name, request, key)?)
                })?)
            }
            None => job(store.effect(Some(key), "restore.in_place", &self.target, |p| {
                json(p.accept_restore(request, key)?)
            })?),
        }
    }

    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method's path is not general enough")]
    async fn window(&self) -> Result<Window> {
        self.store()?.look(|p| p.window())
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>> {
        if let Some(event) = query.event.as_deref().filter(|e| !["drop", "truncate"].contains(e)) {
            return Err(Error::new(Code::Invalid, format!("`{event}` is no event that is looked for"))
                .hint("there is `drop`, `truncate`"));
        }
        self.store()?.look(|p| p.events(query))
    }

    async fn mark(&self, name: &str, key: &Key) -> Result<Mark> {
        if name.is_empty() || name.len() > 63 {
            return Err(Error::new(Code::Invalid, format!("`{name}` cannot name a restore point"))
                .hint("use 1 to 63 characters"));
        }
        let answer = self.store()?.effect(Some(key), "mark.create", name, |p| {
            p.demand_on(Code::Refused)?;
            p.demand_unrestored(Code::Conflict)?;
            if p.mark(name)?.is_some() {
                return Err(Error::new(Code::Conflict, format!("there is a restore point `{name}` already"))
                    .hint("choose another name"));
            }
            json(p.add_mark(name, p.main_line()?.id, p.now, Some(key))?)
        })?;
        decode(answer)
    }

    async fn find_mark(&self, name: &str, key: &Key) -> Result<Option<Mark>> {
        self.store()?.look(|p| Ok(p.mark(name)?.filter(|m| m.key.as_ref() == Some(&key.0)).map(|m| m.mark)))
    }
}

impl Present<'_> {
    fn plan_delete(&self, id: &str) -> Result<Deleted> {
        let backup = self.one_saved(id)?;
        let after = self.earliest(Some(id))?;
        // Log that only this backup needed: from its end to the end of the next one.
        let others = self.saved()?.into_iter().filter(|b| b.id != id && b.finished_at.is_some());
        let stops: Vec<i64> = others.map(|b| b.stop).collect();
        let next = stops.iter().copied().min().map_or_else(|| self.log_end(), Ok)?;
        let log = if backup.finished_at.is_some() { (next - backup.stop).max(0) } else { 0 };
        Ok(Deleted {
            id: id.into(),
            also: Vec::new(),
            bytes: (backup.bytes + log).unsigned_abs(),
            earliest_before: self.earliest(None)?,
            earliest_after: after,
        })
    }

    /// Deletes a backup and returns whether there was one.
    fn delete_backup(&self, id: &str) -> Result<bool> {
        let Some(backup) = self.saved()?.into_iter().find(|b| b.id == id) else { return Ok(false) };
        if backup.finished_at.is_none() {
            return Err(
                Error::new(Code::Conflict, format!("the backup `{id}` is being made")).hint("wait for it")
            );
        }
        self.remove("backups", id).map(|()| true)
    }

    fn accept_branch(&self, name: &str, request: &RestoreRequest, key: &Key) -> Result<Job> {
        self.demand_on(Code::Refused)?;
        self.demand_unrestored(Code::Conflict)?;
        self.demand_free(name)?;
        let plan = self.plan(request)?;
        let bytes = self.facts_at(plan.line.id, plan.cut)?.bytes;
        let asked = Asked { name, key, temporary: request.temporary, run: request.run.as_deref() };
        let id = self.add_branch(&asked, &plan)?;
        self.accept(jobs::BRANCH, key, &id, self.world.restore_duration(), bytes, &Value::Null)
    }

    fn accept_restore(&self, request: &RestoreRequest, key: &Key) -> Result<Job> {
        self.demand_on(Code::Refused)?;
        self.demand_unrestored(Code::Conflict)?;
        self.demand_no_backup()?;
        let Plan { backup, line, cut, reached } = self.plan(request)?;
        let bytes = self.facts_at(line.id, cut)?.bytes;
        let forking = Forking { line: line.id, cut, backup: backup.id, reached: reached.map(micros) };
        let detail = json(forking)?;
        self.accept(jobs::RESTORE, key, self.target, self.world.restore_duration(), bytes, &detail)
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<Event>> {
        let sql = "select h.event, h.object, h.at, h.xid, h.lsn, l.number from history h join lines l on l.id = h.line
                   where l.branch is null and h.event is not null order by h.lsn desc";
        let read = |row: &Row<'_>| {
            Ok(Event {
                event: row.get(0)?,
                table: Some(format!("public.{}", row.get::<_, String>(1)?)),
                time: moment(row.get(2)?),
                xid: row.get::<_, i64>(3)?.to_string(),
                lsn: lsn_text(row.get(4)?),
                timeline: row.get(5)?,
            })
        };
        let mut events = self.rows(sql, [], read)?;
        events.retain(|e| is_asked_for(e, query));
        Ok(events)
    }
}

fn is_asked_for(event: &Event, query: &EventQuery) -> bool {
    let table = |asked: &String| {
        let full = if asked.contains('.') { asked.clone() } else { format!("public.{asked}") };
        event.table.as_ref().is_some_and(|t| t.eq_ignore_ascii_case(&full))
    };
    query.table.as_ref().is_none_or(table)
        && query.event.as_ref().is_none_or(|e| *e == event.event)
        && query.since.is_none_or(|since| event.time >= since)
        && query.until.is_none_or(|until| event.time <= until)
}

/// Returns a value as the effect log keeps it.
pub(super) fn json(value: impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| Error::new(Code::Internal, format!("a value cannot be written: {e}")))
}

/// Reads what the effect log kept.
pub(super) fn decode<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|e| Error::new(Code::Internal, format!("the effect log holds something unexpected: {e}")))
}

fn job(answer: Value) -> Result<Job> {
    decode(answer)
}
