//! The worst right that a call could need, by what of it is known before it is made.

use crate::ops::{
    args::CallArgs,
    spec::{Operation, ParamKind, Permission},
};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Returns the worst right that a call with these options could need: what is no literal may be anything.
pub(super) fn worst_need_for(op: &Operation, options: Vec<(&str, Option<Value>)>) -> Permission {
    let mut samples = vec![Map::new()];
    for (name, value) in options {
        let values = match value {
            Some(value) => vec![value],
            None => vec![Value::Bool(true), Value::Bool(false)],
        };
        samples = samples
            .into_iter()
            .flat_map(|sample| {
                values.iter().map(move |v| {
                    let mut next = sample.clone();
                    next.insert(name.to_owned(), v.clone());
                    next
                })
            })
            .collect();
        samples.truncate(64);
    }
    samples
        .iter()
        .map(|s| op.required_permission(&sample_args(op, s)))
        .max_by_key(|need| need.effect)
        .unwrap_or_else(|| op.worst_permission())
}

/// Returns arguments that have these options and nothing else, for asking an operation what it would need.
fn sample_args(op: &Operation, options: &Map<String, Value>) -> CallArgs {
    let text =
        op.option_params().filter(|o| o.kind == ParamKind::Text).map(|o| o.name).collect::<BTreeSet<_>>();
    let shaped = options.iter().map(|(name, value)| {
        let value = if text.contains(name.as_str()) && !value.is_string() {
            Value::String("…".into())
        } else {
            value.clone()
        };
        (name.clone(), value)
    });
    CallArgs::from_unchecked(shaped.collect())
}
