//! The rights that a runbook needs and what it may leave, held against its header.

use super::{checker::RunbookChecker, finding::Severity};
use crate::{
    ops::{
        args::CallArgs,
        spec::{Operation, ParamKind, Permission},
    },
    runtime::remainder::RemainderRule,
};
use rhai::Position;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

impl RunbookChecker<'_> {
    pub(super) fn report_unused_needs(&mut self) {
        let unused: Vec<_> = self
            .runbook
            .header
            .needs
            .iter()
            .filter(|right| !self.used.iter().any(|need| right.covers(need)))
            .cloned()
            .collect();
        for right in unused {
            let path = self.runbook.path.clone();
            self.add_finding(
                Severity::Warning,
                &path,
                Position::NONE,
                format!("`{right}` in `needs` is never used"),
                Some("take it out".into()),
            );
        }
    }

    /// Warns of what the header lets stay and no operation of the runbook can leave.
    pub(super) fn report_idle_leaves(&mut self) {
        let can_be_left = |rule: &RemainderRule| self.called.iter().any(|name| rule.can_be_left_by(name));
        let idle: Vec<String> = self
            .runbook
            .header
            .leaves
            .iter()
            .filter(|rule| !can_be_left(rule))
            .map(RemainderRule::to_string)
            .collect();
        for entry in idle {
            let path = self.runbook.path.clone();
            let message =
                format!("`{entry}` in `leaves` is nothing that an operation of this runbook can leave");
            self.add_finding(Severity::Warning, &path, Position::NONE, message, Some("take it out".into()));
        }
    }
}

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
