//! Backups of a simulated target, and restores from them.

use super::{
    Sim,
    branches::{BranchRequest, demand_branch_name},
    history::format_lsn,
    jobs::{self, RestoreDetail},
    recovery::RestorePlan,
    store::{WorldTx, from_micros, to_micros},
};
use crate::provider::{
    Accept, Backups, Code, Error, Result,
    model::{
        Backup, BackupDeletion, BackupRequest, CallKey, Job, RecoveryWindow, RestorePoint, RestoreRequest,
        TableEvent, TableEventQuery, Verification,
    },
};
use async_trait::async_trait;
use rusqlite::Row;
use serde_json::Value;

#[async_trait]
impl Backups for Sim {
    async fn list(&self) -> Result<Vec<Backup>> {
        self.open_store()?
            .read_world(|p| Ok(p.list_backup_rows()?.iter().map(|b| b.to_backup(p.target)).collect()))
    }

    async fn get(&self, id: &str) -> Result<Backup> {
        self.open_store()?.read_world(|p| Ok(p.demand_backup(id)?.to_backup(p.target)))
    }

    async fn create(&self, request: &BackupRequest, key: &CallKey) -> Result<Job> {
        let what = request.label.clone().unwrap_or_else(|| self.target.clone());
        job_from_json(self.open_store()?.apply_effect(Some(key), "backup.create", &what, |p| {
            p.demand_powered_on(Code::Refused)?;
            p.demand_no_restore_job(Code::Conflict)?;
            let line = p.main_timeline()?;
            let bytes = p.content_facts_at(line.id, i64::MAX)?.bytes;
            let backup = jobs::new_backup_row(key, request.label.as_deref(), line.id, bytes, p.now);
            p.save_backup(&backup)?;
            let takes = p.world.backup_duration();
            to_json(p.accept_job(jobs::BACKUP, key, &backup.id, takes, bytes, &Value::Null)?)
        })?)
    }

    async fn plan_delete(&self, id: &str) -> Result<BackupDeletion> {
        self.open_store()?.read_world(|p| p.plan_backup_deletion(id))
    }

    async fn delete(&self, plan: &BackupDeletion, key: &CallKey) -> Result<()> {
        let delete = |p: &WorldTx<'_>| {
            let mut deleted = false;
            for id in std::iter::once(&plan.id).chain(&plan.also) {
                deleted |= p.delete_backup(id)?;
            }
            if deleted { to_json(plan).map(Some) } else { Ok(None) }
        };
        self.open_store()?.apply_effect_if_needed(Some(key), "backup.delete", &plan.id, delete).map(drop)
    }

    async fn verify(&self, id: &str) -> Result<Verification> {
        self.open_store()?.read_world(|p| {
            let backup = p.demand_backup(id)?;
            if backup.finished_at.is_none() {
                return Err(Error::new(Code::Refused, format!("the backup `{id}` is not complete yet"))
                    .with_hint("wait for it"));
            }
            let problems: Vec<String> = p.find_damage(&backup)?.into_iter().collect();
            Ok(Verification {
                id: id.into(),
                ok: problems.is_empty(),
                checked: vec!["checksums".into()],
                problems,
            })
        })
    }

    async fn restore(&self, request: &RestoreRequest, key: &CallKey, _: &dyn Accept) -> Result<Job> {
        let store = self.open_store()?;
        match &request.into {
            Some(name) => {
                demand_branch_name(name)?;
                job_from_json(store.apply_effect(Some(key), "restore.branch", name, |p| {
                    to_json(p.accept_branch_restore(name, request, key)?)
                })?)
            }
            None => job_from_json(store.apply_effect(Some(key), "restore.in_place", &self.target, |p| {
                to_json(p.accept_in_place_restore(request, key)?)
            })?),
        }
    }

    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method's path is not general enough")]
    async fn window(&self) -> Result<RecoveryWindow> {
        self.open_store()?.read_world(|p| p.recovery_window())
    }

    async fn events(&self, query: &TableEventQuery) -> Result<Vec<TableEvent>> {
        if let Some(event) = query.event.as_deref().filter(|e| !["drop", "truncate"].contains(e)) {
            return Err(Error::new(Code::Invalid, format!("`{event}` is no event that is looked for"))
                .with_hint("there is `drop`, `truncate`"));
        }
        self.open_store()?.read_world(|p| p.find_table_events(query))
    }

    async fn mark(&self, name: &str, key: &CallKey) -> Result<RestorePoint> {
        if name.is_empty() || name.len() > 63 {
            return Err(Error::new(Code::Invalid, format!("`{name}` cannot name a restore point"))
                .with_hint("use 1 to 63 characters"));
        }
        let answer = self.open_store()?.apply_effect(Some(key), "mark.create", name, |p| {
            p.demand_powered_on(Code::Refused)?;
            p.demand_no_restore_job(Code::Conflict)?;
            if p.find_restore_point(name)?.is_some() {
                return Err(Error::new(Code::Conflict, format!("there is a restore point `{name}` already"))
                    .with_hint("choose another name"));
            }
            to_json(p.add_restore_point(name, p.main_timeline()?.id, p.now, Some(key))?)
        })?;
        from_json(answer)
    }

    async fn find_mark(&self, name: &str, key: &CallKey) -> Result<Option<RestorePoint>> {
        self.open_store()?.read_world(|p| {
            Ok(p.find_restore_point(name)?.filter(|m| m.key.as_ref() == Some(&key.0)).map(|m| m.mark))
        })
    }
}

impl WorldTx<'_> {
    fn plan_backup_deletion(&self, id: &str) -> Result<BackupDeletion> {
        let backup = self.demand_backup(id)?;
        let after = self.earliest_restorable(Some(id))?;
        // Log that only this backup needed: from its end to the end of the next one.
        let others = self.list_backup_rows()?.into_iter().filter(|b| b.id != id && b.finished_at.is_some());
        let stops: Vec<i64> = others.map(|b| b.stop).collect();
        let next = stops.iter().copied().min().map_or_else(|| self.log_end(), Ok)?;
        let log = if backup.finished_at.is_some() { (next - backup.stop).max(0) } else { 0 };
        Ok(BackupDeletion {
            id: id.into(),
            also: Vec::new(),
            bytes: (backup.bytes + log).unsigned_abs(),
            earliest_before: self.earliest_restorable(None)?,
            earliest_after: after,
        })
    }

    /// Deletes a backup and returns whether there was one.
    fn delete_backup(&self, id: &str) -> Result<bool> {
        let Some(backup) = self.list_backup_rows()?.into_iter().find(|b| b.id == id) else {
            return Ok(false);
        };
        if backup.finished_at.is_none() {
            return Err(Error::new(Code::Conflict, format!("the backup `{id}` is being made"))
                .with_hint("wait for it"));
        }
        self.delete_row("backups", id).map(|()| true)
    }

    fn accept_branch_restore(&self, name: &str, request: &RestoreRequest, key: &CallKey) -> Result<Job> {
        self.demand_powered_on(Code::Refused)?;
        self.demand_no_restore_job(Code::Conflict)?;
        self.demand_free_name(name)?;
        let plan = self.plan_restore(request)?;
        let bytes = self.content_facts_at(plan.line.id, plan.cut)?.bytes;
        let asked = BranchRequest { name, key, temporary: request.temporary, run: request.run.as_deref() };
        let id = self.add_branch(&asked, &plan)?;
        self.accept_job(jobs::BRANCH, key, &id, self.world.restore_duration(), bytes, &Value::Null)
    }

    fn accept_in_place_restore(&self, request: &RestoreRequest, key: &CallKey) -> Result<Job> {
        self.demand_powered_on(Code::Refused)?;
        self.demand_no_restore_job(Code::Conflict)?;
        self.demand_no_backup_job()?;
        let RestorePlan { backup, line, cut, reached } = self.plan_restore(request)?;
        let bytes = self.content_facts_at(line.id, cut)?.bytes;
        let forking =
            RestoreDetail { line: line.id, cut, backup: backup.id, reached: reached.map(to_micros) };
        let detail = to_json(forking)?;
        self.accept_job(jobs::RESTORE, key, self.target, self.world.restore_duration(), bytes, &detail)
    }

    fn find_table_events(&self, query: &TableEventQuery) -> Result<Vec<TableEvent>> {
        let sql = "select h.event, h.object, h.at, h.xid, h.lsn, l.number from history h join lines l on l.id = h.line
                   where l.branch is null and h.event is not null order by h.lsn desc";
        let read = |row: &Row<'_>| {
            Ok(TableEvent {
                event: row.get(0)?,
                table: Some(format!("public.{}", row.get::<_, String>(1)?)),
                time: from_micros(row.get(2)?),
                xid: row.get::<_, i64>(3)?.to_string(),
                lsn: format_lsn(row.get(4)?),
                timeline: row.get(5)?,
            })
        };
        let mut events = self.query_rows(sql, [], read)?;
        events.retain(|e| matches_query(e, query));
        Ok(events)
    }
}

fn matches_query(event: &TableEvent, query: &TableEventQuery) -> bool {
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
pub(super) fn to_json(value: impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| Error::new(Code::Internal, format!("a value cannot be written: {e}")))
}

/// Reads what the effect log kept.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|e| Error::new(Code::Internal, format!("the effect log holds something unexpected: {e}")))
}

fn job_from_json(answer: Value) -> Result<Job> {
    from_json(answer)
}
