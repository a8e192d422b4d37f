//! The capability `Branches` of a cluster: its branches are listed, opened and deleted here, and made by a restore.

use super::{
    cluster::{Cluster, server},
    open_branch::OpenBranch,
    records::{BranchPhase, BranchRecord},
    restore::branch::{check_branch_name, remove_branch, to_branch},
};
use crate::{
    base::suggest,
    provider::{Branches, Code, Error, Provider, Result, host::disk, model::Branch},
};
use async_trait::async_trait;
use std::sync::Arc;

#[async_trait]
impl Branches for Cluster {
    async fn list(&self) -> Result<Vec<Branch>> {
        Ok(self.records.list_branches()?.iter().map(to_branch).collect())
    }

    async fn get(&self, name: &str) -> Result<Branch> {
        Ok(to_branch(&load_branch(self, name)?))
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn Provider>> {
        let record = load_branch(self, name)?;
        if record.phase != BranchPhase::Ready {
            return Err(Error::new(Code::Unavailable, format!("branch `{name}` is not ready yet"))
                .with_hint("wait until its restore is over"));
        }
        start_if_stopped(self, &record).await?;
        Ok(Arc::new(OpenBranch::new(self, &record)))
    }

    async fn delete(&self, name: &str, id: &str) -> Result<()> {
        match self.records.read_branch(name)? {
            Some(record) if record.id == id => remove_branch(self, record).await,
            _ => Ok(()),
        }
    }
}

/// Starts the server of a branch that does not run, such as after the machine was restarted.
async fn start_if_stopped(cluster: &Cluster, record: &BranchRecord) -> Result<()> {
    let data = record.copy.data_folder();
    if server::find_server(&data).is_none() {
        disk::make_private_folder(&cluster.programs()?, &record.copy.socket)?;
        server::start_server(&cluster.programs()?, &data, &[], &record.copy.folder.join("server.log"))?;
    }
    server::wait_until_ready(cluster.clock.as_ref(), &data).await
}

fn load_branch(cluster: &Cluster, name: &str) -> Result<BranchRecord> {
    check_branch_name(name)?;
    cluster.records.read_branch(name)?.ok_or_else(|| {
        let there = cluster.records.list_branches().unwrap_or_default();
        let hint = suggest::suggest_name_or_list_known(name, there.iter().map(|branch| branch.name.as_str()));
        Error::new(Code::NotFound, format!("`{}` has no branch `{name}`", cluster.name)).with_hint(hint)
    })
}
