//! What differs between two worlds, path by path.

use super::world_snapshot::WorldSnapshot;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// One part of the world that is not as the undisturbed run leaves it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorldDifference {
    /// Where in the world: `sandbox/database/orders`.
    pub path: String,
    /// What the undisturbed run leaves there; nothing for what it does not have.
    pub undisturbed: Option<Value>,
    /// What is there in this scenario.
    pub here: Option<Value>,
}

impl WorldDifference {
    /// Returns what the undisturbed run leaves, as text.
    pub fn undisturbed_text(&self) -> String {
        render_part(self.undisturbed.as_ref())
    }

    /// Returns what is there in this scenario, as text.
    pub fn scenario_text(&self) -> String {
        render_part(self.here.as_ref())
    }

    /// Returns whether a list only has its items in another order.
    pub(super) fn is_of_order(&self) -> bool {
        // Of lists with other items each of those is a difference of its own.
        matches!((&self.undisturbed, &self.here), (Some(Value::Array(_)), Some(Value::Array(_))))
    }

    /// Returns the difference in one line.
    pub(super) fn describe(&self) -> String {
        format!("{}: {} instead of {}", self.path, self.scenario_text(), self.undisturbed_text())
    }
}

/// Returns what differs between the worlds that two scenarios leave, without ids, keys and times.
pub(super) fn diff_worlds(undisturbed: &[WorldSnapshot], worlds: &[WorldSnapshot]) -> Vec<WorldDifference> {
    let mut found = Vec::new();
    for (expected, world) in undisturbed.iter().zip(worlds) {
        let (expected_value, here) = (json!(expected.normalized), json!(world.normalized));
        diff_values(&world.target, &expected_value, &here, &mut found);
    }
    found
}

fn diff_values(path: &str, expected: &Value, here: &Value, found: &mut Vec<WorldDifference>) {
    let mut push = |expected: Option<&Value>, here: Option<&Value>| {
        let (undisturbed, here) = (expected.cloned(), here.cloned());
        found.push(WorldDifference { path: path.to_owned(), undisturbed, here });
    };
    match (expected, here) {
        _ if expected == here => {}
        (Value::Object(ours), Value::Object(theirs)) => {
            for name in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
                let path = format!("{path}/{name}");
                match (ours.get(name), theirs.get(name)) {
                    (Some(expected), Some(here)) => diff_values(&path, expected, here, found),
                    (expected, here) => found.push(WorldDifference {
                        path,
                        undisturbed: expected.cloned(),
                        here: here.cloned(),
                    }),
                }
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            let (missing, added) = (subtract_items(ours, theirs), subtract_items(theirs, ours));
            if missing.is_empty() && added.is_empty() {
                push(Some(expected), Some(here));
            }
            for item in missing {
                push(Some(item), None);
            }
            for item in added {
                push(None, Some(item));
            }
        }
        _ => push(Some(expected), Some(here)),
    }
}

/// Returns the items of one list that another does not have, each as often as it has too few of it.
fn subtract_items<'a>(items: &'a [Value], others: &[Value]) -> Vec<&'a Value> {
    let mut others: Vec<&Value> = others.iter().collect();
    let mut left = Vec::new();
    for item in items {
        match others.iter().position(|other| *other == item) {
            Some(at) => drop(others.swap_remove(at)),
            None => left.push(item),
        }
    }
    left
}

fn render_part(part: Option<&Value>) -> String {
    match part {
        None => "nothing".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(fields)) if !fields.is_empty() => {
            let fields = fields.iter().map(|(name, value)| format!("{name}: {}", render_part(Some(value))));
            fields.collect::<Vec<_>>().join("; ")
        }
        Some(Value::Array(items)) if !items.is_empty() => {
            items.iter().map(|item| render_part(Some(item))).collect::<Vec<_>>().join("; ")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff_texts(expected: &Value, here: &Value) -> Vec<String> {
        let mut found = Vec::new();
        diff_values("shop", expected, here, &mut found);
        found.iter().map(WorldDifference::describe).collect()
    }

    #[test]
    fn a_difference_is_named_by_its_path() {
        let expected =
            json!({"database": {"orders": "2 rows, a"}, "branches": {"copy": {"orders": "2 rows, a"}}});
        let here = json!({"database": {"orders": "1 rows, b", "notes": "3 rows, c"}, "branches": {}});
        assert_eq!(
            diff_texts(&expected, &here),
            [
                "shop/branches/copy: nothing instead of orders: 2 rows, a",
                "shop/database/notes: 3 rows, c instead of nothing",
                "shop/database/orders: 1 rows, b instead of 2 rows, a",
            ]
        );
        assert_eq!(diff_texts(&expected, &expected), Vec::<String>::new());
    }

    #[test]
    fn a_list_differs_item_by_item_or_in_its_order() {
        let lists = |items: &[&str]| json!({"marks": items});
        assert_eq!(
            diff_texts(&lists(&["a", "b", "b"]), &lists(&["b", "c", "a"])),
            ["shop/marks: nothing instead of b", "shop/marks: c instead of nothing"]
        );
        assert_eq!(
            diff_texts(&lists(&["a", "b"]), &lists(&["b", "a"])),
            ["shop/marks: b; a instead of a; b"]
        );
        assert_eq!(diff_texts(&lists(&[]), &lists(&["a"])), ["shop/marks: a instead of nothing"]);
    }
}
