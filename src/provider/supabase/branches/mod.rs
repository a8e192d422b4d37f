//! Branches: each is a project of its own, with its own reference, listed under the project it is of.
//!
//! - A branch is called `<name>-rd<key>`: the platform keeps no label, and its names are unique. One of another name is
//!   somebody else's, or was made before keys were marked, and goes by its full name only.
//! - Its id is its reference, which no later branch ever has.
//! - The platform lists the project itself as a default branch, which is left out here and never changed.

mod rows;
mod workflow;

pub(super) use rows::{BranchDetails, BranchRow, build_full_branch_name};
pub(super) use workflow::{PROMOTE_JOB, RESET_JOB, check_workflow_detail, check_workflow_traces};

use super::project::Supabase;
use crate::provider::{
    Branches, PlannedJob, Provider, Result,
    model::{Branch, CallKey, Job},
};
use async_trait::async_trait;
use std::sync::Arc;

impl Supabase {
    async fn fetch_branch(&self, row: &BranchRow) -> Result<Branch> {
        let details = self.fetch_branch_details(&row.project_ref).await?;
        let mut branch = row.to_branch(&self.target, details.as_ref())?;
        if details.is_none() && branch.status == "ready" {
            branch.status = "preparing".into();
        }
        Ok(branch)
    }
}

#[async_trait]
impl Branches for Supabase {
    async fn list(&self) -> Result<Vec<Branch>> {
        let mut branches = Vec::new();
        for row in self.list_branch_rows().await? {
            branches.push(match row.preview_project_status {
                Some(_) => row.to_branch(&self.target, None)?,
                None => self.fetch_branch(&row).await?,
            });
        }
        Ok(branches)
    }

    async fn get(&self, name: &str) -> Result<Branch> {
        let row = self.find_branch_row(name).await?;
        self.fetch_branch(&row).await
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn Provider>> {
        let row = self.find_branch_row(name).await?;
        let branch = row.to_branch(&self.target, None)?;
        Ok(Arc::new(Self { reference: row.project_ref, branch: Some(branch), ..self.clone() }))
    }

    async fn delete(&self, _: &str, id: &str) -> Result<()> {
        self.delete_branch(id).await
    }

    async fn reset(&self, branch: &Branch, _: &CallKey) -> Result<Job> {
        self.plan_workflow(RESET_JOB, branch).await?.request.await
    }

    async fn promote(&self, branch: &Branch, _: &CallKey) -> Result<Job> {
        self.plan_workflow(PROMOTE_JOB, branch).await?.request.await
    }

    async fn plan_reset<'a>(&'a self, branch: &'a Branch, _: &'a CallKey) -> Result<PlannedJob<'a>> {
        self.plan_workflow(RESET_JOB, branch).await
    }

    async fn plan_promotion<'a>(&'a self, branch: &'a Branch, _: &'a CallKey) -> Result<PlannedJob<'a>> {
        self.plan_workflow(PROMOTE_JOB, branch).await
    }
}
