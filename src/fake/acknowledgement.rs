//! Answers to writes that have not taken effect yet, as if they had.

use super::{
    current_answers,
    platform::Platform,
    response::{ApiResponse, ResponseBody},
    stale_reads::ReadRequest,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The ends of the paths to which a `POST` answers with 200; to others it answers with 201.
const ANSWERED_200: &[&str] = &["/pause", "/restart", "/restore"];
/// The lists of ranges, by the name in a request.
const RANGE_LISTS: &[(&str, &str)] = &[("dbAllowedCidrs", "v4"), ("dbAllowedCidrsV6", "v6")];

/// Returns the response of a write as if it had taken effect: what a read of its path gives, with what is wanted in it.
/// What only the effect can name, such as the reference of a branch, is missing.
pub(super) async fn compose_applied_response(
    platform: &Arc<Platform>,
    method: &str,
    path: &str,
    wanted: &Value,
) -> ApiResponse {
    let name = path.rsplit('/').next().unwrap_or_default();
    let (read, compose): (&str, fn(Value, &Value) -> Value) = match (method, name) {
        ("PUT", "ssl-enforcement") => (path, compose_ssl_response),
        ("PUT", "postgres") => (path, |_, wanted| compose_settings_response(json!({}), wanted)),
        ("PATCH", "postgres") => (path, compose_settings_response),
        ("PATCH", "schedule") => (path, merge_fields),
        ("PATCH", "network-restrictions") => (path, compose_range_change_response),
        ("POST", "apply") => (path.strip_suffix("/apply").unwrap_or(path), compose_ranges_response),
        _ => return accepted_response(method, path),
    };
    let current = ReadRequest::new("GET", read, &[], &Value::Null);
    let current = current_answers::answer_read(platform, &current).await;
    let current = match current.map(|response| response.body) {
        Some(ResponseBody::Json(current)) => current,
        _ => json!({}),
    };
    ApiResponse::json(success_status(method, path), compose(current, wanted))
}

/// Returns the response of an endpoint that says no more than that it has accepted.
fn accepted_response(method: &str, path: &str) -> ApiResponse {
    let status = success_status(method, path);
    if method == "DELETE" && path.starts_with("/v1/branches/") {
        return ApiResponse::json(status, json!({ "message": "ok" }));
    }
    ApiResponse::empty(status)
}

fn success_status(method: &str, path: &str) -> u16 {
    let is_200 = ANSWERED_200.iter().any(|end| path.ends_with(end)) && !path.contains("/database/");
    if method == "POST" && !is_200 { 201 } else { 200 }
}

/// Returns `current` with the fields of `wanted` in the place of its own.
fn merge_fields(mut current: Value, wanted: &Value) -> Value {
    if let (Some(current), Some(wanted)) = (current.as_object_mut(), wanted.as_object()) {
        current.extend(wanted.clone());
    }
    current
}

fn compose_ssl_response(current: Value, wanted: &Value) -> Value {
    let shown = json!({ "currentConfig": wanted["requestedConfig"], "appliedSuccessfully": true });
    merge_fields(current, &shown)
}

fn compose_settings_response(current: Value, wanted: &Value) -> Value {
    let mut shown = merge_fields(current, wanted);
    if let Some(fields) = shown.as_object_mut() {
        fields.remove("restart_database");
    }
    shown
}

fn compose_ranges_response(current: Value, wanted: &Value) -> Value {
    merge_fields(current, &json!({ "config": wanted, "status": "stored" }))
}

/// Adds and takes away ranges, and lists both families in one list of objects, as this endpoint does.
fn compose_range_change_response(current: Value, wanted: &Value) -> Value {
    let removed = join_range_families(&wanted["remove"]);
    let mut ranges = join_range_families(&current["config"]);
    if ranges.is_empty() {
        // An unrestricted project lists nothing and means everybody.
        ranges =
            join_range_families(&json!({ "dbAllowedCidrs": ["0.0.0.0/0"], "dbAllowedCidrsV6": ["::/0"] }));
    }
    ranges.retain(|range| !removed.contains(range));
    for range in join_range_families(&wanted["add"]) {
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    merge_fields(current, &json!({ "config": { "dbAllowedCidrs": ranges }, "status": "stored" }))
}

fn join_range_families(lists: &Value) -> Vec<Value> {
    let of = |(name, family): &(&str, &str)| {
        let texts = lists[*name].as_array().cloned().unwrap_or_default();
        texts.into_iter().map(|text| json!({ "address": text, "type": family })).collect::<Vec<_>>()
    };
    RANGE_LISTS.iter().flat_map(of).collect()
}
