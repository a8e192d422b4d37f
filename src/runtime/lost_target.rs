//! A target that a run has used and that is lost: a decision about the run is refused for it before the decision is recorded.

use super::{permit::describe_replaced_target, runs::Runtime};
use crate::{
    journal::{RunFold, UnreadableRecord},
    provider::{Error, model::Identity},
};
use std::collections::BTreeSet;

/// What is asked whether the targets of a run are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskForTargets {
    /// The configuration alone: whoever only decides may have no way to a target.
    Configuration,
    /// Each target, who it is: the run goes on at once.
    Targets,
}

/// Why a run cannot go on with a target that it has used.
#[derive(Debug)]
pub enum LostTarget {
    /// The configuration has none of this name.
    NotConfigured(Error),
    /// It does not answer.
    Silent(Error),
    /// Another one has its name: what is said of the two.
    Replaced(String),
}

impl Runtime {
    /// Finds a target that a run has used and cannot go on with.
    ///
    /// # Errors
    /// What is recorded of a target does not read.
    pub fn find_lost_target(
        &self,
        fold: &RunFold,
        asked: AskForTargets,
    ) -> Result<Option<LostTarget>, UnreadableRecord> {
        let names: BTreeSet<&str> = fold.target_names().collect();
        for name in names {
            let Some(recorded) = fold.target_identity::<Identity>(name)? else { continue };
            if let Some(lost) = self.find_if_target_lost(name, &recorded, asked) {
                return Ok(Some(lost));
            }
        }
        Ok(None)
    }

    fn find_if_target_lost(
        &self,
        name: &str,
        recorded: &Identity,
        asked: AskForTargets,
    ) -> Option<LostTarget> {
        if let Err(error) = self.fleet.target_config(name) {
            return Some(LostTarget::NotConfigured(error));
        }
        if asked == AskForTargets::Configuration {
            return None;
        }
        match self.block_on(async { self.fleet.open_target(name)?.identity().await }) {
            Err(error) => Some(LostTarget::Silent(error)),
            Ok(now) if now.id != recorded.id => {
                Some(LostTarget::Replaced(describe_replaced_target(name, recorded, &now)))
            }
            Ok(_) => None,
        }
    }
}
