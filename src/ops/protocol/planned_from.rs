//! What a look speaks of from which a call was planned or refused: only what was changed of that makes it doubtful.

use crate::{
    ops::{
        context::{ElementValue, ID_PREFIX},
        thing::Thing,
    },
    provider::{Code, Error},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// The element that says whether a target is on.
pub(in crate::ops) const POWER: &str = "power";

/// Elements of which a look has spoken, at the place of a thing.
pub(in crate::ops) struct PlannedFrom {
    place: String,
    names: Names,
    /// Those that the look has shown, with their values.
    shown: BTreeMap<String, Value>,
    /// The value of one that it has not shown.
    otherwise: Value,
}

/// The names of elements.
enum Names {
    One(String),
    AllWithPrefix(&'static str),
}

impl PlannedFrom {
    /// Returns that the look has shown these of the elements whose names begin so, and `otherwise` of each of the others.
    pub(in crate::ops) fn elements(
        thing: &Thing,
        prefix: &'static str,
        shown: BTreeMap<String, Value>,
        otherwise: Value,
    ) -> Self {
        Self { place: thing.place.clone(), names: Names::AllWithPrefix(prefix), shown, otherwise }
    }

    /// Returns that the look has shown what has this id, or nothing, of all that have an id there.
    pub(in crate::ops) fn ids(thing: &Thing, shown: Option<&str>) -> Self {
        let shown = shown.map(|id| (ElementValue::name_of_id(id), true.into())).into_iter().collect();
        Self::elements(thing, ID_PREFIX, shown, Value::Null)
    }

    /// Returns that the look has shown something that has an id there, and nobody knows which.
    pub(in crate::ops) fn unknown_id(thing: &Thing) -> Self {
        Self::elements(thing, ID_PREFIX, BTreeMap::new(), true.into())
    }

    /// Returns that the look has shown what has an id, or that it has not.
    pub(in crate::ops) fn id(thing: &Thing, id: &str, is_shown: bool) -> Self {
        let name = ElementValue::name_of_id(id);
        let all = Self::ids(thing, Some(id).filter(|_| is_shown));
        Self { names: Names::One(name), ..all }
    }

    /// Returns whether what the look has shown may be what an element was before.
    pub(super) fn may_have_shown(&self, past: &ElementValue) -> bool {
        let is_named = match &self.names {
            Names::One(name) => past.element == *name,
            Names::AllWithPrefix(prefix) => past.element.starts_with(prefix),
        };
        let shown = || self.shown.get(&past.element).unwrap_or(&self.otherwise);
        past.place == self.place && is_named && past.value.as_ref().is_none_or(|value| value == shown())
    }
}

/// Returns whether something may be refused because it was so before, whatever it is: a target that is off refuses it.
pub(super) fn may_refuse_everything(past: &ElementValue, refusal: &Error) -> bool {
    let was_off = past.element == POWER && past.value != Some(true.into());
    was_off && refusal.code != Code::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::thing::ThingPart;
    use serde_json::json;

    fn past(element: &str, value: Option<Value>) -> ElementValue {
        ElementValue { place: "shop".into(), element: element.into(), value }
    }

    #[test]
    fn only_what_an_element_was_that_the_look_may_have_shown_makes_it_doubtful() {
        let thing = Thing { place: "shop".into(), part: ThingPart::Whole };
        let (was_there, was_absent) = (Some(json!(true)), Some(Value::Null));
        for (from, element, doubtful, certain) in [
            (PlannedFrom::id(&thing, "b1", false), "id:b1", &was_absent, &was_there),
            (PlannedFrom::id(&thing, "b1", true), "id:b1", &was_there, &was_absent),
            (PlannedFrom::ids(&thing, Some("b1")), "id:b2", &was_absent, &was_there),
            (PlannedFrom::unknown_id(&thing), "id:b2", &was_there, &was_absent),
        ] {
            let doubtful = past(element, doubtful.clone());
            assert!(from.may_have_shown(&doubtful), "{doubtful:?}");
            assert!(from.may_have_shown(&past(element, None)), "{element}: it may have been anything");
            assert!(!from.may_have_shown(&past(element, certain.clone())), "{element}: {certain:?}");
            let elsewhere = ElementValue { place: "shop/drill".into(), ..doubtful };
            assert!(!from.may_have_shown(&elsewhere) && !from.may_have_shown(&past("tls/tls", None)));
        }
        let other = past("id:b10", was_absent);
        assert!(!PlannedFrom::id(&thing, "b1", false).may_have_shown(&other), "its name only begins so");
    }

    #[test]
    fn a_target_that_was_off_may_refuse_all_but_a_name() {
        let refused = |value: bool, code| {
            may_refuse_everything(&past(POWER, Some(value.into())), &Error::new(code, "not now"))
        };
        assert!(refused(false, Code::Conflict));
        assert!(!refused(false, Code::NotFound) && !refused(true, Code::Conflict));
    }
}
