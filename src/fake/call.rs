//! A request as an endpoint sees it, and the answer that it gives.

use super::{options::Plan, platform::Platform, project::Project};
use crate::provider::{Code, Error, model::Key};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What an endpoint comes to.
pub(super) type Outcome = Result<Answer, Answer>;

/// A request that was let in.
pub(super) struct Call {
    /// Whom it is made to.
    pub(super) platform: Arc<Platform>,
    /// What the places in the path hold, by name.
    pub(super) captures: Vec<(&'static str, String)>,
    /// What stands behind the question mark, decoded.
    pub(super) query: Vec<(String, String)>,
    /// The body, or null.
    pub(super) body: Value,
}

/// An answer: a status and a body.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// The status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: Body,
    /// Whether the request changed nothing although its method writes.
    pub(super) only_looked: bool,
}

/// The body of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    /// Nothing at all.
    Empty,
    /// JSON.
    Json(Value),
    /// Plain text.
    Text(String),
}

impl Answer {
    /// Returns an answer with a JSON body.
    pub(super) fn json(status: u16, body: Value) -> Self {
        Self { status, body: Body::Json(body), only_looked: false }
    }

    /// Returns an answer without a body, as the platform gives for much that it has accepted.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, body: Body::Empty, only_looked: false }
    }

    /// Returns the answer of an error: `{"message": …}`.
    pub(super) fn message(status: u16, message: impl Into<String>) -> Self {
        Self::json(status, json!({ "message": message.into() }))
    }

    /// Says that nothing was changed.
    pub(super) fn looked(self) -> Self {
        Self { only_looked: true, ..self }
    }
}

impl From<Error> for Answer {
    /// Says what the world said, in the statuses that the platform was seen to use.
    fn from(e: Error) -> Self {
        let status = match e.code {
            Code::Invalid | Code::Refused | Code::Unsupported | Code::Sql => 400,
            Code::Denied => 403,
            Code::NotFound => 404,
            Code::Conflict => 409,
            Code::TargetBeforeWindow | Code::TargetAfterWindow => 422,
            Code::Throttled => 429,
            _ => 500,
        };
        Answer::message(status, e.message)
    }
}

impl Call {
    /// Returns what a place in the path holds.
    pub(super) fn captured(&self, name: &str) -> &str {
        self.captures.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }

    /// Returns what the query says under a name.
    pub(super) fn asked(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Returns a whole number of the query, held within bounds.
    pub(super) fn asked_number(&self, name: &str, preset: usize, most: usize) -> usize {
        self.asked(name).and_then(|n| n.parse().ok()).unwrap_or(preset).min(most)
    }

    /// Returns the project of the path. One that is a branch is answered for by the database endpoints only.
    pub(super) fn project(&self) -> Result<Arc<Project>, Answer> {
        let reference = self.captured("ref");
        if reference.len() != 20 || !reference.chars().all(|c| c.is_ascii_lowercase()) {
            return Err(Answer::message(400, "ref: String must contain exactly 20 character(s)"));
        }
        self.platform.project(reference).ok_or_else(|| Answer::message(404, "Project not found"))
    }

    /// Returns the project of the path, which is no branch.
    pub(super) fn root(&self) -> Result<Arc<Project>, Answer> {
        self.project().and_then(|project| {
            if project.is_branch() { Err(Answer::message(404, "Project not found")) } else { Ok(project) }
        })
    }

    /// Returns the fields of the body.
    pub(super) fn fields(&self) -> Result<&Map<String, Value>, Answer> {
        self.body.as_object().ok_or_else(|| Answer::message(400, "Expected object, received nothing"))
    }

    /// Returns a text of the body that must be there.
    pub(super) fn text(&self, name: &str) -> Result<&str, Answer> {
        match self.body.get(name) {
            Some(Value::String(text)) => Ok(text),
            None | Some(Value::Null) => Err(Answer::message(400, format!("{name}: Required"))),
            Some(_) => Err(Answer::message(400, format!("{name}: Expected string"))),
        }
    }

    /// Returns a text of the body that may be left out.
    pub(super) fn text_if_any(&self, name: &str) -> Result<Option<&str>, Answer> {
        match self.body.get(name) {
            None => Ok(None),
            Some(_) => self.text(name).map(Some),
        }
    }

    /// Returns a flag of the body; false when it is left out.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Answer> {
        match self.body.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(Answer::message(400, format!("{name}: Expected boolean"))),
        }
    }

    /// Returns a whole number of the body that must be there.
    pub(super) fn number(&self, name: &str) -> Result<i64, Answer> {
        match self.body.get(name) {
            None | Some(Value::Null) => Err(Answer::message(400, format!("{name}: Required"))),
            Some(value) => {
                value.as_i64().ok_or_else(|| Answer::message(400, format!("{name}: Expected integer")))
            }
        }
    }

    /// Returns a list of texts of the body; empty when it is left out.
    pub(super) fn texts(from: &Value, name: &str) -> Result<Vec<String>, Answer> {
        let wrong = || Answer::message(400, format!("{name}: Expected array of strings"));
        match from.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => {
                list.iter().map(|item| item.as_str().map(Into::into).ok_or_else(wrong)).collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    /// Refuses what the plan lacks.
    pub(super) fn demand_plan(&self, least: Plan) -> Result<(), Answer> {
        if self.platform.options.plan >= least {
            return Ok(());
        }
        Err(Answer::message(402, "Feature requires a higher plan"))
    }

    /// Returns a key that nothing was asked under: the platform keeps none.
    pub(super) fn fresh_key(&self) -> Key {
        Key(format!("req{:07}", self.platform.next_number()))
    }
}
