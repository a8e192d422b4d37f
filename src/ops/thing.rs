//! Things: the parts of targets that calls change, by which effects on one thing are made one after another.

use super::{args::CallArgs, canonical::parse_target_ref, param::TARGET};
use crate::provider::Result;
use std::fmt;

/// A part of a target or branch that a call changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thing {
    /// The target or branch: `sandbox`, `sandbox/look`.
    pub place: String,
    pub part: ThingPart,
}

/// Which part of a place a call changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThingPart {
    /// All of it, as a restore in place does: nothing else is changed there meanwhile.
    Whole,
    /// What goes by a name of its own: its TLS, one setting.
    Named(String),
    /// Its rows, or a copy of them. The database itself keeps those who write rows apart.
    Rows,
}

impl Thing {
    /// Returns all of the call's target.
    ///
    /// # Errors
    /// As [`parse_target_ref`]; so do the others.
    pub(super) fn whole_target(args: &CallArgs) -> Result<Self> {
        Ok(Self { place: target_ref_text(args)?, part: ThingPart::Whole })
    }

    /// Returns all of a branch of the call's target.
    pub(super) fn whole_branch(args: &CallArgs, name: &str) -> Result<Self> {
        Ok(Self { place: format!("{}/{name}", target_ref_text(args)?), part: ThingPart::Whole })
    }

    /// Returns a part of the call's target that has a name.
    pub(super) fn named(args: &CallArgs, name: impl Into<String>) -> Result<Self> {
        Ok(Self { place: target_ref_text(args)?, part: ThingPart::Named(name.into()) })
    }

    /// Returns what nobody knows of the call's target: nothing else is called so.
    pub(super) fn undetermined(args: &CallArgs) -> Result<Self> {
        Self::named(args, "something")
    }

    /// Returns the rows of the call's target.
    pub(super) fn table_rows(args: &CallArgs) -> Result<Self> {
        Ok(Self { place: target_ref_text(args)?, part: ThingPart::Rows })
    }
}

fn target_ref_text(args: &CallArgs) -> Result<String> {
    Ok(parse_target_ref(args.get(TARGET.name))?.to_string())
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            ThingPart::Whole => f.write_str(&self.place),
            ThingPart::Named(name) => write!(f, "{name} of {}", self.place),
            ThingPart::Rows => write!(f, "rows of {}", self.place),
        }
    }
}
