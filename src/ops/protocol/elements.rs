//! How the elements of a change stand: as wanted, as before, or otherwise.

use crate::ops::evidence::{ElementChange, ElementChanges};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a look shows of the elements of a change.
pub(in crate::ops) struct SetLook {
    /// The value of each element.
    pub(in crate::ops) elements: BTreeMap<String, Value>,
    /// Why they do not hold yet, where they are only stored: what the platform is doing.
    pub(in crate::ops) unapplied: Option<String>,
    /// Everything that was shown, as the call gives it back.
    pub(in crate::ops) shown: Value,
}

/// How the elements of a change stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ElementsStanding {
    /// Every element is as wanted and holds.
    AsWanted,
    /// Every element is as wanted, and they do not all hold yet.
    Unapplied,
    /// Every element is as before.
    AsBefore,
    /// Some are as wanted, and others as before; or all are as wanted, and what makes them hold was not asked for.
    InPart,
    /// An element has a third value.
    Changed,
}

/// Tells how the elements of a change stand.
pub(super) fn compare_elements(changes: &ElementChanges, look: &SetLook) -> ElementsStanding {
    let found = |name: &String| look.elements.get(name).unwrap_or(&Value::Null);
    let wanted = changes.iter().filter(|(name, change)| change.wanted == *found(name)).count();
    let is_changed = |(name, change): (&String, &ElementChange)| {
        change.wanted != *found(name) && change.before != *found(name)
    };
    match wanted {
        _ if changes.iter().any(is_changed) => ElementsStanding::Changed,
        n if n == changes.len() && look.unapplied.is_none() => ElementsStanding::AsWanted,
        n if n == changes.len() => ElementsStanding::Unapplied,
        0 => ElementsStanding::AsBefore,
        _ => ElementsStanding::InPart,
    }
}

/// Describes every element that is not as wanted: before, wanted, found. Where all are, those of the change.
pub(super) fn describe_elements(changes: &ElementChanges, look: &SetLook) -> String {
    let found = |name: &String| look.elements.get(name).unwrap_or(&Value::Null);
    let odd: Vec<_> = changes.iter().filter(|(name, change)| change.wanted != *found(name)).collect();
    let shown = if odd.is_empty() { changes.iter().collect() } else { odd };
    let describe = |(name, change): (&String, &ElementChange)| {
        format!("{name} before {}, wanted {}, found {}", change.before, change.wanted, found(name))
    };
    shown.into_iter().map(describe).collect::<Vec<_>>().join("; ")
}
