//! Accepts restores: into a branch, and in place.

use super::{
    branches::BranchRequest,
    effects::to_json,
    jobs::{self, RestoreDetail},
    recovery::ReplayPlan,
    time::to_micros,
    tx::WorldTx,
};
use crate::provider::{
    Code, Result,
    model::{CallKey, Job, RestoreRequest},
};
use serde_json::Value;

impl WorldTx<'_> {
    /// Accepts a restore into the new branch `name`.
    pub(in crate::provider::sim) fn accept_branch_restore(
        &self,
        name: &str,
        request: &RestoreRequest,
        key: &CallKey,
    ) -> Result<Job> {
        self.demand_powered_on(Code::Refused)?;
        self.demand_not_being_replaced(Code::Conflict)?;
        self.demand_free_name(name)?;
        let plan = self.plan_restore(request)?;
        let bytes = self.content_facts_at(plan.line.id, plan.cut)?.bytes;
        let branch = BranchRequest { name, key, temporary: request.temporary, run: request.run.as_deref() };
        let id = self.add_branch(&branch, &plan)?;
        self.accept_job(jobs::BRANCH, key, &id, self.spec.restore_duration(), bytes, &Value::Null)
    }

    /// Accepts a restore of the target itself.
    pub(in crate::provider::sim) fn accept_in_place_restore(
        &self,
        request: &RestoreRequest,
        key: &CallKey,
    ) -> Result<Job> {
        self.demand_powered_on(Code::Refused)?;
        self.demand_not_being_replaced(Code::Conflict)?;
        self.demand_no_backup_job()?;
        let ReplayPlan { backup, line, cut, reached } = self.plan_restore(request)?;
        let bytes = self.content_facts_at(line.id, cut)?.bytes;
        let detail = to_json(RestoreDetail {
            line: line.id,
            cut,
            backup: backup.id,
            reached: reached.map(to_micros),
        })?;
        self.accept_job(jobs::RESTORE, key, self.target, self.spec.restore_duration(), bytes, &detail)
    }
}
