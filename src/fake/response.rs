//! The response that an endpoint returns.

use crate::provider::{Code, Error};
use serde_json::{Value, json};

/// The result of an endpoint: a response either way; `Err` only marks one that had no effect.
pub(super) type ApiResult = Result<ApiResponse, ApiResponse>;

/// A response: a status and a body.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApiResponse {
    pub(super) status: u16,
    pub(super) body: ResponseBody,
    /// Whether the request changed nothing although its method writes.
    pub(super) without_effect: bool,
}

/// The body of a response.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ResponseBody {
    /// Nothing at all.
    Empty,
    /// JSON.
    Json(Value),
    /// Plain text.
    Text(String),
    /// A page for people, which no endpoint has.
    Html(&'static str),
}

impl ApiResponse {
    /// Returns a response with a JSON body.
    pub(super) fn json(status: u16, body: Value) -> Self {
        Self { status, body: ResponseBody::Json(body), without_effect: false }
    }

    /// Returns a response without a body, as the platform sends for many accepted changes.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, body: ResponseBody::Empty, without_effect: false }
    }

    /// Returns the response of an error: `{"message": …}`.
    pub(super) fn error(status: u16, message: impl Into<String>) -> Self {
        Self::json(status, json!({ "message": message.into() }))
    }

    /// Marks a response whose request changed nothing.
    pub(super) fn without_effect(self) -> Self {
        Self { without_effect: true, ..self }
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
