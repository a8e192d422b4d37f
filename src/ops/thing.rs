//! Things: the parts of targets that calls change, by which effects on one thing are made one after another.

use super::{args::CallArgs, canonical::parse_target_ref, param::TARGET};
use crate::provider::{Result, model::CallKey};
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
    pub(super) fn whole_branch(args: &CallArgs, branch: &str) -> Result<Self> {
        Ok(Self { place: branch_place(&target_ref_text(args)?, branch), part: ThingPart::Whole })
    }

    /// Returns a part of the call's target that has a name.
    pub(super) fn named(args: &CallArgs, name: impl Into<String>) -> Result<Self> {
        Ok(Self { place: target_ref_text(args)?, part: ThingPart::Named(name.into()) })
    }

    /// Returns the part of the call's target that stands for what nobody knows: no other part has its name.
    pub(super) fn unknown_part(args: &CallArgs) -> Result<Self> {
        Self::named(args, "something")
    }

    /// Returns the rows of the call's target: they keep no two calls apart, and wait for what changes all of it.
    pub(super) fn rows_of_target(args: &CallArgs) -> Result<Self> {
        Ok(Self { place: target_ref_text(args)?, part: ThingPart::Rows })
    }
}

fn target_ref_text(args: &CallArgs) -> Result<String> {
    let place = parse_target_ref(args.get(TARGET.name))?;
    Ok(place
        .branch
        .as_deref()
        .map_or_else(|| place.target.clone(), |branch| branch_place(&place.target, branch)))
}

/// Returns the one name of a branch's place. A platform that keeps no labels has the key of the call at the end of the name,
/// and the branch goes by both: with the key and without it.
fn branch_place(target: &str, branch: &str) -> String {
    let name = CallKey::split_name_and_key(branch).map_or(branch, |(name, _)| name);
    format!("{target}/{name}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_one_place_with_its_key_and_without() {
        for name in ["drill", "drill-rdkhp4j6vle3"] {
            assert_eq!(branch_place("shop", name), "shop/drill");
        }
        for name in ["drill-two", "drill-production", "drill-khp4j6vle3"] {
            assert_eq!(branch_place("shop", name), format!("shop/{name}"));
        }
    }
}
