//! One request to the API.

use reqwest::Method;
use serde_json::Value;
use std::fmt;

/// A request, and whether it may be sent twice.
pub(super) struct ApiRequest<'a> {
    pub method: Method,
    pub path: &'a str,
    pub body: Option<&'a Value>,
    pub writes: bool,
    /// Whether an answer that is no JSON is an error.
    pub needs_json: bool,
}

impl fmt::Display for ApiRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "`{} {path}`", self.method)
    }
}
