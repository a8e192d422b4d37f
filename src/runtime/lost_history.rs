//! What a run may have left in the part of its history that the journal has lost: what its targets mark as made by
//! it, and no record of it has.

use super::{run_context::RunContext, stop::NativeError};
use crate::{
    base::{lock::lock_unpoisoned, moment::Span},
    provider::{Code, Error, Result, model::Branch},
};
use std::collections::BTreeSet;

/// How long a target has to list its branches: whoever waits for the end of a run waits for this.
const LIST_TIMEOUT: Span = Span::from_secs(30);

/// Remembers as left behind what a run whose journal was rolled back made without a record. Nothing of it is removed:
/// what is not recorded is not the run's to remove.
///
/// # Errors
/// The run was stopped meanwhile.
pub(super) fn remember_lost_history(context: &RunContext) -> std::result::Result<(), NativeError> {
    if !context.run.is_rolled_back() {
        return Ok(());
    }
    let targets: BTreeSet<String> =
        context.targets.iter().cloned().chain(context.run.target_names()).collect();
    for target in targets {
        let found: Vec<String> = match list_branches(context, &target)? {
            Ok(branches) => branches.iter().filter_map(|branch| name_lost_branch(context, branch)).collect(),
            Err(e) if e.code == Code::Unsupported => vec![],
            Err(e) => vec![format!("what it made on {target} in {LOST}: {}", e.message)],
        };
        let mut left = lock_unpoisoned(&context.left_behind);
        for name in found {
            if !left.contains(&name) {
                left.push(name);
            }
        }
    }
    Ok(())
}

/// What is lost, at the end of a sentence.
const LOST: &str = "the part of its history that the journal has lost";

fn list_branches(
    context: &RunContext,
    target: &str,
) -> std::result::Result<Result<Vec<Branch>>, NativeError> {
    let slow =
        || Error::new(Code::Timeout, format!("`{target}` did not list its branches within {LIST_TIMEOUT}"));
    context.wait_until_ready_or_stopped(async {
        let listed = async { context.fleet.open_target(target)?.branches()?.list().await };
        tokio::select! {
            biased;
            listed = listed => listed,
            () = context.fleet.clock().sleep(LIST_TIMEOUT) => Err(slow()),
        }
    })
}

/// Returns a branch that the run made and has no record of, by name.
fn name_lost_branch(context: &RunContext, branch: &Branch) -> Option<String> {
    let is_own = branch.run.as_deref() == Some(context.run.id());
    let is_known = branch.key.as_ref().is_some_and(|key| context.run.is_call_key_recorded(&key.0));
    (is_own && !is_known).then(|| format!("branch {}/{} (made in {LOST})", branch.target, branch.name))
}

/// Names all that a run may have made without a record, where no target is asked.
pub(super) fn describe_lost_history() -> String {
    format!("what it made in {LOST}")
}
