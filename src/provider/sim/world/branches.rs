//! Branches, as rows of the world's file.

use super::{
    recovery::ReplayPlan,
    time::{from_micros, to_micros},
    tx::{WorldTx, store_error},
};
use crate::{
    base::suggest,
    provider::{
        Code, Error, Result,
        model::{Branch, CallKey},
    },
};
use rusqlite::{Row, params};

/// The arguments of a new branch.
pub(super) struct BranchRequest<'a> {
    pub(in crate::provider::sim) name: &'a str,
    /// The key of the call.
    pub(in crate::provider::sim) key: &'a CallKey,
    /// Whether the run removes it.
    pub(super) temporary: bool,
    pub(super) run: Option<&'a str>,
}

/// A branch and the timeline it is on.
pub(in crate::provider::sim) struct WorldBranchRow {
    pub(in crate::provider::sim) line: i64,
    /// The branch as providers return it.
    pub(in crate::provider::sim) branch: Branch,
}

/// Refuses a text that cannot name a branch.
pub(in crate::provider::sim) fn demand_branch_name(name: &str) -> Result<()> {
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
    pub(in crate::provider::sim) fn list_branch_rows(&self) -> Result<Vec<WorldBranchRow>> {
        let sql = "select b.id, b.name, b.line, b.status, b.created_at, b.backup, b.reached, b.temporary, b.run, b.key,
                   l.number from branches b join lines l on l.id = b.line order by b.created_at, b.id";
        let read = |row: &Row<'_>| {
            Ok(WorldBranchRow {
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
                    unseen: None,
                    host: None,
                    port: None,
                },
            })
        };
        self.query_rows(sql, [], read)
    }

    /// Returns a branch by its name.
    pub(in crate::provider::sim) fn find_branch(&self, name: &str) -> Result<Branch> {
        let all = self.list_branch_rows()?;
        let names: Vec<String> = all.iter().map(|row| row.branch.name.clone()).collect();
        all.into_iter().map(|row| row.branch).find(|b| b.name == name).ok_or_else(|| {
            Error::new(Code::NotFound, format!("`{}` has no branch `{name}`", self.target))
                .with_hint(suggest::suggest_name_or_list_known(name, names.iter().map(String::as_str)))
        })
    }

    /// Refuses the name of an existing branch.
    pub(super) fn demand_free_name(&self, name: &str) -> Result<()> {
        match self.list_branch_rows()?.into_iter().find(|row| row.branch.name == name) {
            None => Ok(()),
            Some(row) => Err(Error::new(
                Code::Conflict,
                format!("`{}` has a branch `{name}` since `{}`", self.target, row.branch.created_at),
            )
            .with_hint("choose another name, or delete that branch")),
        }
    }

    /// Adds a branch that is being prepared and returns its id.
    pub(super) fn add_branch(&self, request: &BranchRequest<'_>, plan: &ReplayPlan) -> Result<String> {
        let id = format!("branch-{}", request.key);
        let line = self.begin_timeline_at_current_lsn(
            Some(&id),
            plan.line.number + 1,
            Some((plan.line.id, plan.cut)),
            self.now,
        )?;
        let sql = "insert into branches values (?1, ?2, ?3, 'preparing', ?4, ?5, ?6, ?7, ?8, ?9)";
        let reached = plan.reached.map(to_micros);
        let values = params![
            id,
            request.name,
            line,
            self.now,
            plan.backup.id,
            reached,
            request.temporary,
            request.run,
            request.key.0
        ];
        self.conn.execute(sql, values).map_err(|e| store_error(&e))?;
        Ok(id)
    }

    /// Makes a branch ready and returns it.
    pub(super) fn mark_branch_ready(&self, id: &str) -> Result<Branch> {
        self.update_branch(id, "ready", self.demand_branch(id)?.line)?;
        Ok(self.demand_branch(id)?.branch)
    }

    /// Puts a branch on a new timeline, which forks where its first one did.
    pub(super) fn complete_branch_reset(&self, id: &str, at: i64) -> Result<Branch> {
        let before = self.find_timeline(self.demand_branch(id)?.line)?;
        let line = self.begin_timeline_at_current_lsn(Some(id), before.number, before.fork, at)?;
        self.update_branch(id, "ready", line)?;
        Ok(self.demand_branch(id)?.branch)
    }

    /// Sets the status and the timeline of a branch.
    pub(in crate::provider::sim) fn update_branch(
        &self,
        id: &str,
        status: &str,
        timeline: i64,
    ) -> Result<()> {
        let sql = "update branches set status = ?2, line = ?3 where id = ?1";
        self.conn.execute(sql, params![id, status, timeline]).map(drop).map_err(|e| store_error(&e))
    }

    /// Returns a branch that is ready.
    pub(in crate::provider::sim) fn demand_ready_branch(&self, id: &str) -> Result<WorldBranchRow> {
        let row = self.demand_branch(id)?;
        if row.branch.status == "ready" {
            return Ok(row);
        }
        let message = format!("the branch `{}` is {}", row.branch.name, row.branch.status);
        Err(Error::new(Code::Conflict, message).with_hint("wait for it"))
    }

    /// Returns a branch by its id.
    pub(in crate::provider::sim) fn demand_branch(&self, id: &str) -> Result<WorldBranchRow> {
        self.list_branch_rows()?.into_iter().find(|row| row.branch.id == id).ok_or_else(|| {
            Error::new(Code::NotFound, format!("the branch `{id}` of `{}` is gone", self.target))
        })
    }
}
