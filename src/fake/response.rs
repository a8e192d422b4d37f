//! The response that an endpoint returns.

use crate::provider::{Code, Error};
use serde_json::{Value, json};

/// The result of an endpoint: a response either way; `Err` only marks one that had no effect.
pub(super) type ApiResult = Result<ApiResponse, ApiResponse>;

/// An answer: a status and a body.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApiResponse {
    pub(super) status: u16,
    pub(super) body: ResponseBody,
    /// Whether the request changed nothing although its method writes.
    pub(super) only_looked: bool,
}

/// The body of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ResponseBody {
    /// Nothing at all.
    Empty,
    /// JSON.
    Json(Value),
    /// Plain text.
    Text(String),
}

impl ApiResponse {
    /// Returns an answer with a JSON body.
    pub(super) fn json(status: u16, body: Value) -> Self {
        Self { status, body: ResponseBody::Json(body), only_looked: false }
    }

    /// Returns an answer without a body, as the platform sends for many accepted changes.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, body: ResponseBody::Empty, only_looked: false }
    }

    /// Returns the answer of an error: `{"message": …}`.
    pub(super) fn error(status: u16, message: impl Into<String>) -> Self {
        Self::json(status, json!({ "message": message.into() }))
    }

    /// Marks a response whose request changed nothing.
    pub(super) fn without_effect(self) -> Self {
        Self { only_looked: true, ..self }
    }
}

impl From<Error> for ApiResponse {
    /// Maps an error of the world to the status that the platform was recorded to use.
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
        ApiResponse::error(status, e.message)
    }
}
