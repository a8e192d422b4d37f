//! Backups of a simulated target, and restores from them.

use super::{
    target::Sim,
    world::{WorldTx, demand_branch_name, from_json, jobs, new_backup_row, to_json},
};
use crate::provider::{
    Backups, Code, Error, Result,
    model::{
        Backup, BackupDeletion, BackupRequest, CallKey, Job, RecoveryWindow, RestorePoint, RestoreRequest,
        TableEvent, TableEventQuery, Verification,
    },
    restore_points::check_point_name,
};
use async_trait::async_trait;
use serde_json::Value;

#[async_trait]
impl Backups for Sim {
    async fn list(&self) -> Result<Vec<Backup>> {
        self.open_store()?.read_current_world(|tx| {
            Ok(tx.list_backup_rows()?.iter().map(|b| b.to_backup(tx.target)).collect())
        })
    }

    async fn get(&self, id: &str) -> Result<Backup> {
        self.open_store()?.read_current_world(|tx| Ok(tx.demand_backup(id)?.to_backup(tx.target)))
    }

    async fn create(&self, request: &BackupRequest, key: &CallKey) -> Result<Job> {
        let what = request.label.clone().unwrap_or_else(|| self.target.clone());
        job_from_json(self.open_store()?.apply_effect(Some(key), "backup.create", &what, |tx| {
            tx.demand_powered_on(Code::Refused)?;
            tx.demand_not_being_replaced(Code::Conflict)?;
            let line = tx.main_timeline()?;
            let bytes = tx.content_facts_at(line.id, i64::MAX)?.bytes;
            let backup = new_backup_row(key, request.label.as_deref(), line.id, bytes, tx.now);
            tx.save_backup(&backup)?;
            let takes = tx.spec.backup_duration();
            to_json(tx.accept_job(jobs::BACKUP, key, &backup.id, takes, bytes, &Value::Null)?)
        })?)
    }

    async fn plan_delete(&self, id: &str) -> Result<BackupDeletion> {
        self.open_store()?.read_current_world(|tx| tx.plan_backup_deletion(id))
    }

    async fn delete(&self, plan: &BackupDeletion, key: &CallKey) -> Result<()> {
        let delete = |tx: &WorldTx<'_>| {
            let mut deleted = false;
            for id in std::iter::once(&plan.id).chain(&plan.also) {
                deleted |= tx.delete_backup(id)?;
            }
            if deleted { to_json(plan).map(Some) } else { Ok(None) }
        };
        self.open_store()?.apply_effect_if_needed(Some(key), "backup.delete", &plan.id, delete).map(drop)
    }

    async fn verify(&self, id: &str) -> Result<Verification> {
        self.open_store()?.read_current_world(|tx| {
            let backup = tx.demand_backup(id)?;
            if backup.finished_at.is_none() {
                return Err(Error::new(Code::Refused, format!("the backup `{id}` is not complete yet"))
                    .with_hint("wait for it"));
            }
            let problems: Vec<String> = tx.find_damage(&backup)?.into_iter().collect();
            Ok(Verification {
                id: id.into(),
                ok: problems.is_empty(),
                checked: vec!["checksums".into()],
                problems,
            })
        })
    }

    async fn restore(&self, request: &RestoreRequest, key: &CallKey) -> Result<Job> {
        let store = self.open_store()?;
        match &request.into {
            Some(name) => {
                demand_branch_name(name)?;
                job_from_json(store.apply_effect(Some(key), "restore.branch", name, |tx| {
                    to_json(tx.accept_branch_restore(name, request, key)?)
                })?)
            }
            None => job_from_json(store.apply_effect(Some(key), "restore.in_place", &self.target, |tx| {
                to_json(tx.accept_in_place_restore(request, key)?)
            })?),
        }
    }

    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method's path is not general enough")]
    async fn recovery_window(&self) -> Result<RecoveryWindow> {
        self.open_store()?.read_current_world(|tx| tx.recovery_window())
    }

    async fn table_events(&self, query: &TableEventQuery) -> Result<Vec<TableEvent>> {
        if let Some(event) = query.event.as_deref().filter(|e| !["drop", "truncate"].contains(e)) {
            return Err(Error::new(Code::Invalid, format!("`{event}` is no event that is looked for"))
                .with_hint("there is `drop`, `truncate`"));
        }
        self.open_store()?.read_current_world(|tx| tx.find_table_events(query))
    }

    async fn create_restore_point(&self, name: &str, key: &CallKey) -> Result<RestorePoint> {
        check_point_name(name)?;
        let answer = self.open_store()?.apply_effect(Some(key), "mark.create", name, |tx| {
            tx.demand_powered_on(Code::Refused)?;
            tx.demand_not_being_replaced(Code::Conflict)?;
            tx.demand_free_point_name(name)?;
            to_json(tx.add_restore_point(name, tx.now, Some(key))?)
        })?;
        from_json(answer)
    }

    async fn find_restore_point(&self, name: &str, key: &CallKey) -> Result<Option<RestorePoint>> {
        self.open_store()?.read_current_world(|tx| {
            Ok(tx.find_restore_point(name)?.filter(|m| m.key.as_ref() == Some(&key.0)).map(|m| m.mark))
        })
    }
}

fn job_from_json(answer: Value) -> Result<Job> {
    from_json(answer)
}
