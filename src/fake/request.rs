//! A request as an endpoint sees it.

use super::{
    options::{BillingPlan, ServerOptions},
    platform::Platform,
    project::FakeProject,
    response::ApiResponse,
};
use crate::{
    base::moment::{Moment, Span},
    provider::model::CallKey,
};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A request that was admitted and routed.
pub(super) struct RoutedRequest {
    pub(super) platform: Arc<Platform>,
    /// The path parameters, by name.
    pub(super) captures: Vec<(&'static str, String)>,
    /// The query parameters, decoded.
    pub(super) query: Vec<(String, String)>,
    /// The body; null when there is none.
    pub(super) body: Value,
}

impl RoutedRequest {
    /// Returns the options of the server.
    pub(super) fn options(&self) -> &ServerOptions {
        &self.platform.profile.options
    }

    /// Returns the current time.
    pub(super) fn now(&self) -> Moment {
        self.platform.profile.now()
    }

    /// Returns `span` of the real platform, shortened by the server's speed.
    pub(super) fn scale_span(&self, span: Span) -> Span {
        self.platform.profile.scale_span(span)
    }

    /// Returns a path parameter; empty when the route has none of that name.
    pub(super) fn path_param(&self, name: &str) -> &str {
        self.captures.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }

    /// Returns a query parameter.
    pub(super) fn query_param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Returns a query parameter as a number of at most `most`; `preset` when it is none.
    pub(super) fn query_number(&self, name: &str, preset: usize, most: usize) -> usize {
        self.query_param(name).and_then(|n| n.parse().ok()).unwrap_or(preset).min(most)
    }

    /// Returns the project of the path, which may be a branch: the database endpoints serve both.
    pub(super) fn find_project(&self) -> Result<Arc<FakeProject>, ApiResponse> {
        let reference = self.path_param("ref");
        if reference.len() != 20 || !reference.chars().all(|c| c.is_ascii_lowercase()) {
            return Err(ApiResponse::error(400, "ref: String must contain exactly 20 character(s)"));
        }
        self.platform.find_project(reference).ok_or_else(|| ApiResponse::error(404, "Project not found"))
    }

    /// Returns the project of the path; a branch is not found.
    pub(super) fn find_root_project(&self) -> Result<Arc<FakeProject>, ApiResponse> {
        self.find_project().and_then(|project| {
            if project.is_branch() { Err(ApiResponse::error(404, "Project not found")) } else { Ok(project) }
        })
    }

    /// Returns the fields of the body.
    pub(super) fn body_fields(&self) -> Result<&Map<String, Value>, ApiResponse> {
        self.body.as_object().ok_or_else(|| ApiResponse::error(400, "Expected object, received nothing"))
    }

    /// Returns a required string of the body.
    pub(super) fn required_text(&self, name: &str) -> Result<&str, ApiResponse> {
        match self.body.get(name) {
            Some(Value::String(text)) => Ok(text),
            None | Some(Value::Null) => Err(ApiResponse::error(400, format!("{name}: Required"))),
            Some(_) => Err(ApiResponse::error(400, format!("{name}: Expected string"))),
        }
    }

    /// Returns an optional string of the body.
    pub(super) fn optional_text(&self, name: &str) -> Result<Option<&str>, ApiResponse> {
        match self.body.get(name) {
            None => Ok(None),
            Some(_) => self.required_text(name).map(Some),
        }
    }

    /// Returns a flag of the body; false when it is left out.
    pub(super) fn flag_or_false(&self, name: &str) -> Result<bool, ApiResponse> {
        match self.body.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(ApiResponse::error(400, format!("{name}: Expected boolean"))),
        }
    }

    /// Returns a required integer of the body.
    pub(super) fn required_number(&self, name: &str) -> Result<i64, ApiResponse> {
        match self.body.get(name) {
            None | Some(Value::Null) => Err(ApiResponse::error(400, format!("{name}: Required"))),
            Some(value) => {
                value.as_i64().ok_or_else(|| ApiResponse::error(400, format!("{name}: Expected integer")))
            }
        }
    }

    /// Returns a list of strings; empty when it is left out.
    pub(super) fn parse_text_list(from: &Value, name: &str) -> Result<Vec<String>, ApiResponse> {
        let wrong = || ApiResponse::error(400, format!("{name}: Expected array of strings"));
        match from.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => {
                list.iter().map(|item| item.as_str().map(Into::into).ok_or_else(wrong)).collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    /// Refuses when the organization's plan is smaller than `least`.
    pub(super) fn require_plan(&self, least: BillingPlan) -> Result<(), ApiResponse> {
        if self.options().plan >= least {
            return Ok(());
        }
        Err(ApiResponse::error(402, "Feature requires a higher plan"))
    }

    /// Returns an unused key: the platform has no idempotency keys.
    pub(super) fn fresh_key(&self) -> CallKey {
        CallKey(format!("req{:07}", self.platform.next_number()))
    }
}
