//! The environment variables that say where the API and the token are.

use std::sync::Arc;

/// The environment of this process, or of a test.
#[derive(Clone)]
pub(super) struct Environment(Arc<VariableLookup>);

type VariableLookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Environment {
    /// Returns an environment whose variables `var` gives.
    pub(super) fn new(var: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(var))
    }

    /// Returns the environment of this process.
    pub(super) fn from_process() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    /// Returns a variable that is set and not empty.
    pub(super) fn var(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }
}
