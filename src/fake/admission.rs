//! Admission of requests: fault rules, authorization, rate limits, and the entry in the ledger.

use super::{
    acknowledgement, current_answers,
    faults::{FaultAction, OddBody},
    ledger::LedgerEntry,
    partial_request,
    platform::Platform,
    request::RoutedRequest,
    response::{ApiResponse, ResponseBody},
    routes::{self, Route, RouteMatch},
    stale_reads::ReadRequest,
};
use crate::base::moment::Span;
use serde_json::{Value, json};
use std::{sync::Arc, time::Instant};

/// The page that a proxy in between would send.
const HTML_PAGE: &str = "<html><head><title>Just a moment...</title></head><body></body></html>";

/// A request as it arrived over HTTP.
pub(super) struct HttpRequest {
    /// The method.
    pub(super) method: String,
    /// The path.
    pub(super) path: String,
    /// The query parameters, decoded.
    pub(super) query: Vec<(String, String)>,
    /// The body; null when there is none.
    pub(super) body: serde_json::Result<Value>,
    /// The `Authorization` header.
    pub(super) authorization: Option<String>,
}

/// A response with its rate-limit headers.
pub(super) struct HttpResponse {
    /// The response of the endpoint.
    pub(super) response: ApiResponse,
    /// The rate-limit headers.
    pub(super) limits: Vec<(&'static str, String)>,
}

/// Handles a request under the fault rules; `None` means that the connection is cut without a response.
pub(super) async fn handle_request(platform: &Arc<Platform>, request: HttpRequest) -> Option<HttpResponse> {
    if request.path == "/_fake/log" {
        return Some(without_limit_headers(ApiResponse::json(200, platform.ledger.to_json())));
    }
    platform.ledger.count_request();
    let read = read_request(&request).filter(|read| platform.faults.makes_stale(&read.method, &read.path));
    if let Some(read) = read {
        platform.stale_reads.note_read(read);
    }
    match platform.faults.count_and_find_fault(&request.method, &request.path) {
        None => Some(serve_request(platform, request, true).await),
        Some(FaultAction::Late(span)) => {
            let response = serve_request(platform, request, true).await;
            tokio::time::sleep(span.to_std()).await;
            Some(response)
        }
        Some(FaultAction::CutBefore) => None,
        Some(FaultAction::CutAfter) => {
            serve_request(platform, request, false).await;
            None
        }
        Some(FaultAction::SilentBefore) => std::future::pending().await,
        Some(FaultAction::SilentAfter) => {
            serve_request(platform, request, false).await;
            std::future::pending().await
        }
        Some(FaultAction::Status(status)) => Some(without_limit_headers(fault_response(status))),
        Some(FaultAction::StatusAfter(status)) => {
            serve_request(platform, request, false).await;
            Some(without_limit_headers(fault_response(status)))
        }
        Some(FaultAction::LandsLater { after, status }) => {
            spawn_late_landing(platform, request, after, false);
            status.map(|status| without_limit_headers(fault_response(status)))
        }
        Some(FaultAction::AcknowledgedLater { after }) => {
            let response = compose_response_as_if_applied(platform, &request).await;
            spawn_late_landing(platform, request, after, true);
            Some(without_limit_headers(response))
        }
        Some(FaultAction::Stale(span)) => Some(match find_stale_answer(platform, &request, span) {
            Some(response) => without_limit_headers(response),
            None => serve_request(platform, request, true).await,
        }),
        Some(FaultAction::Partial) => Some(serve_request(platform, keep_first_items(request), true).await),
        Some(FaultAction::Odd(odd)) => {
            let HttpResponse { response, limits } = serve_request(platform, request, true).await;
            Some(HttpResponse { response: ApiResponse { body: render_odd_body(odd), ..response }, limits })
        }
    }
}

/// Starts a task that serves a request after this time. The task is the server's: it outlives the connection, and ends
/// with the server.
fn spawn_late_landing(platform: &Arc<Platform>, request: HttpRequest, after: Span, answered: bool) {
    let platform = Arc::clone(platform);
    tokio::spawn(async move {
        tokio::time::sleep(after.to_std()).await;
        serve_request(&platform, request, answered).await;
    });
}

/// Returns the response of a request as if it had taken effect.
async fn compose_response_as_if_applied(platform: &Arc<Platform>, request: &HttpRequest) -> ApiResponse {
    let body = request.body.as_ref().unwrap_or(&Value::Null);
    acknowledgement::compose_applied_response(platform, &request.method, &request.path, body).await
}

/// Returns what a read gave this long ago, if a write has landed since.
fn find_stale_answer(platform: &Platform, request: &HttpRequest, span: Span) -> Option<ApiResponse> {
    platform.stale_reads.find_earlier_answer(&read_request(request)?, span)
}

/// Returns a request as the read that it is; `None` for a write, an unknown path, and a body that does not parse.
fn read_request(request: &HttpRequest) -> Option<ReadRequest> {
    let RouteMatch::Route(Route { writes: false, .. }, _) =
        routes::find_route(&request.method, &request.path)
    else {
        return None;
    };
    let body = request.body.as_ref().ok()?;
    Some(ReadRequest::new(&request.method, &request.path, &request.query, body))
}

/// Returns the request with the first part of what it asks for.
fn keep_first_items(request: HttpRequest) -> HttpRequest {
    let HttpRequest { method, path, query, body, authorization } = request;
    let body = body.map(|body| partial_request::keep_first_part_of_body(&path, body));
    HttpRequest { method, path, query, body, authorization }
}

fn render_odd_body(odd: OddBody) -> ResponseBody {
    match odd {
        OddBody::Null => ResponseBody::Json(Value::Null),
        OddBody::EmptyList => ResponseBody::Json(json!([])),
        OddBody::EmptyObject => ResponseBody::Json(json!({})),
        OddBody::Html => ResponseBody::Html(HTML_PAGE),
    }
}

fn without_limit_headers(response: ApiResponse) -> HttpResponse {
    HttpResponse { response, limits: Vec::new() }
}

fn fault_response(status: u16) -> ApiResponse {
    match status {
        429 => throttled_response(),
        401 => ApiResponse::error(401, "Unauthorized"),
        403 => ApiResponse::error(403, "Forbidden resource"),
        _ => ApiResponse::error(status, "Internal server error"),
    }
}

/// Returns the platform's response to a request over the limit, with its recorded body.
fn throttled_response() -> ApiResponse {
    ApiResponse::error(429, "ThrottlerException: Too Many Requests")
}

/// Authorizes, limits, routes and answers a request, and enters it into the ledger if it took effect.
async fn serve_request(platform: &Arc<Platform>, request: HttpRequest, is_answered: bool) -> HttpResponse {
    let token = request.authorization.as_deref().and_then(|a| a.strip_prefix("Bearer "));
    let Some(token) = token.filter(|token| token.starts_with("sbp_")) else {
        return without_limit_headers(ApiResponse::error(401, "Unauthorized"));
    };
    let (route, captures) = match routes::find_route(&request.method, &request.path) {
        RouteMatch::Route(route, captures) => (route, captures),
        RouteMatch::NotFound => {
            return without_limit_headers(ApiResponse::error(
                404,
                format!("Cannot {} {}", request.method, request.path),
            ));
        }
    };
    let whose = captures.first().map_or("", |(_, value)| value);
    let per_minute = platform.profile.options.per_minute;
    let key = format!("{token} {} {} {whose}", route.method, route.path);
    let (left, reset) = platform.limiter.count_against_limit(key, per_minute);
    let limits = vec![
        ("X-RateLimit-Limit", per_minute.to_string()),
        ("X-RateLimit-Remaining", left.unwrap_or(0).to_string()),
        // The header holds seconds left, not a timestamp.
        ("X-RateLimit-Reset", reset.to_string()),
    ];
    if left.is_none() {
        return HttpResponse { response: throttled_response(), limits };
    }
    let Ok(body) = request.body else {
        return HttpResponse { response: ApiResponse::error(400, "Unexpected token in JSON"), limits };
    };
    let routed = RoutedRequest { platform: Arc::clone(platform), captures, query: request.query, body };
    let before =
        if route.writes { current_answers::capture_stale_answers(platform).await } else { Vec::new() };
    let response = (route.handler)(&routed).await.unwrap_or_else(ApiResponse::without_effect);
    if route.writes && response.status < 300 && !response.without_effect {
        platform.stale_reads.add_answers(before, Instant::now());
        platform.ledger.add_entry(build_ledger_entry(
            platform,
            route,
            request.path,
            routed.body,
            response.status,
            is_answered,
        ));
    }
    HttpResponse { response, limits }
}

fn build_ledger_entry(
    platform: &Platform,
    route: &Route,
    path: String,
    body: Value,
    status: u16,
    answered: bool,
) -> LedgerEntry {
    let (method, endpoint) = (route.method.to_owned(), route.path);
    LedgerEntry { seq: 0, at: platform.profile.now(), method, endpoint, path, body, status, answered }
}
