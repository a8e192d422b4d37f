//! The arguments of a call, in canonical form.

use super::canonical;
use crate::{
    base::moment::{Moment, Span},
    provider::model::RecoveryPoint,
};
use serde_json::{Map, Value};

/// The arguments of one call, checked and in canonical form. What was left out is not in them.
#[derive(Debug, Clone, PartialEq)]
pub struct CallArgs {
    pub(super) given: Map<String, Value>,
    pub(super) timeout: Span,
}

impl CallArgs {
    /// Returns unchecked arguments, for asking an operation what it would need. They are never performed.
    pub fn from_unchecked(options: Map<String, Value>) -> Self {
        Self { given: options, timeout: Span::ZERO }
    }

    /// Returns the canonical form: what identifies the call, and what is recorded.
    pub fn to_value(&self) -> Value {
        Value::Object(self.given.clone())
    }

    /// Returns an argument; null when it was left out.
    pub fn get(&self, name: &str) -> &Value {
        self.given.get(name).unwrap_or(&Value::Null)
    }

    /// Returns a text; empty when it was left out.
    pub fn get_text(&self, name: &str) -> &str {
        self.get(name).as_str().unwrap_or_default()
    }

    /// Returns a text, if it was given.
    pub fn get_optional_text(&self, name: &str) -> Option<String> {
        self.get(name).as_str().map(str::to_owned)
    }

    /// Returns a flag; false when it was left out.
    pub fn get_flag(&self, name: &str) -> bool {
        self.get(name).as_bool().unwrap_or_default()
    }

    /// Returns a moment, if it was given.
    pub fn get_moment(&self, name: &str) -> Option<Moment> {
        serde_json::from_value(self.get(name).clone()).ok()
    }

    /// Returns a whole number, if it was given.
    pub fn get_int(&self, name: &str) -> Option<i64> {
        self.get(name).as_i64()
    }

    /// Returns a list of texts, each parsed; empty when it was left out.
    pub fn get_list<T: std::str::FromStr>(&self, name: &str) -> Vec<T> {
        let items = self.get(name).as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str()?.parse().ok()).collect()
    }

    /// Returns a map; empty when it was left out.
    pub fn get_map(&self, name: &str) -> Map<String, Value> {
        self.get(name).as_object().cloned().unwrap_or_default()
    }

    /// Returns how long the call may take.
    pub fn timeout(&self) -> Span {
        self.timeout
    }

    /// Returns the same arguments with another timeout, for one part of the call.
    pub(super) fn with_timeout(&self, timeout: Span) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Returns a recovery point, if it was given.
    pub fn get_recovery_point(&self, name: &str) -> Option<RecoveryPoint> {
        canonical::parse_recovery_point(self.get(name)).ok()
    }
}
