//! Branches of a simulated target.

use super::{
    Sim,
    backups::{from_json, to_json},
    jobs::{self, PromotionDetail},
    recovery::RestorePlan,
    store::{WorldTx, from_micros, store_error, to_micros},
};
use crate::{
    base::suggest,
    provider::{
        Accept, Branches, Code, Error, Provider, Result,
        model::{Branch, CallKey, Job},
    },
};
use async_trait::async_trait;
use rusqlite::{Row, params};
use serde_json::Value;
use std::sync::Arc;

/// The arguments of a new branch.
pub(super) struct BranchRequest<'a> {
    pub(super) name: &'a str,
    /// The key of the call.
    pub(super) key: &'a CallKey,
    /// Whether the run removes it.
    pub(super) temporary: bool,
    pub(super) run: Option<&'a str>,
}

/// A branch and the line it is on.
pub(super) struct BranchRow {
    pub(super) line: i64,
    /// The branch as providers return it.
    pub(super) branch: Branch,
}

#[async_trait]
impl Branches for Sim {
    async fn list(&self) -> Result<Vec<Branch>> {
        self.open_store()?.read_world(|p| Ok(p.list_branch_rows()?.into_iter().map(|g| g.branch).collect()))
    }

    async fn get(&self, name: &str) -> Result<Branch> {
        self.open_store()?.read_world(|p| p.find_branch(name))
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn Provider>> {
        Ok(Arc::new(self.open_branch(name).await?))
    }

    async fn delete(&self, name: &str, id: &str) -> Result<()> {
        let store = self.open_store()?;
        let line = store.apply_effect_if_needed(None, "branch.delete", name, |p| {
            let Some(grown) = p.list_branch_rows()?.into_iter().find(|g| g.branch.id == id) else {
                return Ok(None);
            };
            p.cancel_job_for(id)?;
            p.delete_row("branches", id)?;
            Ok(Some(grown.line.into()))
        })?;
        if let Some(line) = line.and_then(|line| line.as_i64()) {
            store.cache_content(line);
        }
        Ok(())
    }

    async fn reset(&self, branch: &Branch, key: &CallKey, _: &dyn Accept) -> Result<Job> {
        from_json(self.open_store()?.apply_effect(Some(key), "branch.reset", &branch.name, |p| {
            let grown = p.demand_ready_branch(&branch.id)?;
            let cut = p.find_timeline(grown.line)?.fork.map_or(0, |(_, cut)| cut);
            let bytes = p.content_facts_at(grown.line, cut)?.bytes;
            p.update_branch(&branch.id, "preparing", grown.line)?;
            let takes = p.world.restore_duration();
            to_json(p.accept_job(jobs::RESET, key, &branch.id, takes, bytes, &Value::Null)?)
        })?)
    }

    async fn promote(&self, branch: &Branch, key: &CallKey, _: &dyn Accept) -> Result<Job> {
        from_json(self.open_store()?.apply_effect(Some(key), "branch.promote", &branch.name, |p| {
            p.demand_powered_on(Code::Refused)?;
            p.demand_no_restore_job(Code::Conflict)?;
            p.demand_no_backup_job()?;
            let grown = p.demand_ready_branch(&branch.id)?;
            let cut = p.log_end()?;
            let bytes = p.content_facts_at(grown.line, cut)?.bytes;
            let detail = to_json(PromotionDetail { line: grown.line, cut, branch: grown.branch.name })?;
            to_json(p.accept_job(jobs::PROMOTE, key, p.target, p.world.restore_duration(), bytes, &detail)?)
        })?)
    }
}

impl Sim {
    /// Returns a branch of this target, opened.
    ///
    /// # Errors
    /// [`Code::NotFound`] with the nearest name.
    #[expect(clippy::unused_async, reason = "it stands where a platform is asked")]
    pub async fn open_branch(&self, name: &str) -> Result<Sim> {
        Ok(self.with_branch(self.open_store()?.read_world(|p| p.find_branch(name))?))
    }
}

/// Refuses what cannot name a branch.
pub(super) fn demand_branch_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let fits = (1..=40).contains(&name.len()) && name.chars().all(allowed);
    if fits && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(Error::new(Code::Invalid, format!("`{name}` cannot name a branch"))
        .with_hint("use 1 to 40 of `a-z`, `0-9`, `-` and `_`, beginning with a letter or digit"))
}

impl WorldTx<'_> {
    /// Returns every branch, oldest first.
    pub(super) fn list_branch_rows(&self) -> Result<Vec<BranchRow>> {
        let sql = "select b.id, b.name, b.line, b.status, b.created_at, b.backup, b.reached, b.temporary, b.run, b.key,
                   l.number from branches b join lines l on l.id = b.line order by b.created_at, b.id";
        let read = |row: &Row<'_>| {
            Ok(BranchRow {
                line: row.get(2)?,
                branch: Branch {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    target: self.target.into(),
                    status: row.get(3)?,
                    created_at: from_micros(row.get(4)?),
                    backup: row.get(5)?,
                    reached: row.get::<_, Option<i64>>(6)?.map(from_micros),
                    temporary: row.get(7)?,
                    run: row.get(8)?,
                    key: row.get::<_, Option<String>>(9)?.map(CallKey),
                    timeline: row.get(10)?,
                    host: None,
                    port: None,
                },
            })
        };
        self.query_rows(sql, [], read)
    }

    fn find_branch(&self, name: &str) -> Result<Branch> {
        let all = self.list_branch_rows()?;
        let names: Vec<String> = all.iter().map(|g| g.branch.name.clone()).collect();
        all.into_iter().map(|g| g.branch).find(|b| b.name == name).ok_or_else(|| {
            Error::new(Code::NotFound, format!("`{}` has no branch `{name}`", self.target))
                .with_hint(suggest::suggest_name(name, names.iter().map(String::as_str)))
        })
    }

    /// Refuses the name of an existing branch.
    pub(super) fn demand_free_name(&self, name: &str) -> Result<()> {
        match self.list_branch_rows()?.into_iter().find(|g| g.branch.name == name) {
            None => Ok(()),
            Some(g) => Err(Error::new(
                Code::Conflict,
                format!("`{}` has a branch `{name}` since `{}`", self.target, g.branch.created_at),
            )
            .with_hint("choose another name, or delete that branch")),
        }
    }

    /// Adds a branch that is being prepared and returns its id.
    pub(super) fn add_branch(&self, asked: &BranchRequest<'_>, plan: &RestorePlan) -> Result<String> {
        let id = format!("branch-{}", asked.key);
        let line =
            self.begin_timeline(Some(&id), plan.line.number + 1, Some((plan.line.id, plan.cut)), self.now)?;
        let sql = "insert into branches values (?1, ?2, ?3, 'preparing', ?4, ?5, ?6, ?7, ?8, ?9)";
        let reached = plan.reached.map(to_micros);
        let values = params![
            id,
            asked.name,
            line,
            self.now,
            plan.backup.id,
            reached,
            asked.temporary,
            asked.run,
            asked.key.0
        ];
        self.conn.execute(sql, values).map_err(|e| store_error(&e))?;
        Ok(id)
    }

    /// Makes a branch ready and returns it.
    pub(super) fn mark_branch_ready(&self, id: &str) -> Result<Branch> {
        self.update_branch(id, "ready", self.demand_branch(id)?.line)?;
        Ok(self.demand_branch(id)?.branch)
    }

    /// Puts a branch on a new line, which forks where its first one did.
    pub(super) fn complete_branch_reset(&self, id: &str, at: i64) -> Result<Branch> {
        let before = self.find_timeline(self.demand_branch(id)?.line)?;
        let line = self.begin_timeline(Some(id), before.number, before.fork, at)?;
        self.update_branch(id, "ready", line)?;
        Ok(self.demand_branch(id)?.branch)
    }

    fn update_branch(&self, id: &str, status: &str, line: i64) -> Result<()> {
        let sql = "update branches set status = ?2, line = ?3 where id = ?1";
        self.conn.execute(sql, params![id, status, line]).map(drop).map_err(|e| store_error(&e))
    }

    /// Returns a branch that is ready.
    fn demand_ready_branch(&self, id: &str) -> Result<BranchRow> {
        let grown = self.demand_branch(id)?;
        if grown.branch.status == "ready" {
            return Ok(grown);
        }
        let message = format!("the branch `{}` is {}", grown.branch.name, grown.branch.status);
        Err(Error::new(Code::Conflict, message).with_hint("wait for it"))
    }

    /// Returns a branch by its id.
    pub(super) fn demand_branch(&self, id: &str) -> Result<BranchRow> {
        self.list_branch_rows()?.into_iter().find(|g| g.branch.id == id).ok_or_else(|| {
            Error::new(Code::NotFound, format!("the branch `{id}` of `{}` is gone", self.target))
        })
    }
}
