//! Restore points, of the enterprise plan only.

use super::{
    backups,
    options::BillingPlan,
    request::ApiRequest,
    response::{ApiResponse, ApiResult},
};
use crate::{base::moment::Moment, provider::model::RecoveryTarget};
use serde_json::{Value, json};

/// Makes a restore point.
pub(super) async fn create_restore_point(call: &ApiRequest) -> ApiResult {
    let project = call.find_root_project()?;
    call.require_plan(BillingPlan::Enterprise)?;
    let name = call.required_text("name")?;
    if name.is_empty() || name.chars().count() > 20 {
        return Err(ApiResponse::error(400, "name: String must contain at most 20 character(s)"));
    }
    let mark = project.as_provider()?.backups()?.mark(name, &call.fresh_key()).await?;
    project.lock_state().points.push((mark.name.clone(), mark.time));
    Ok(ApiResponse::json(201, render_restore_point(&mark.name, mark.time)))
}

/// Shows one restore point: by its name, or the newest.
pub(super) async fn get_restore_point(call: &ApiRequest) -> ApiResult {
    let project = call.find_root_project()?;
    call.require_plan(BillingPlan::Enterprise)?;
    let name = call.query_param("name");
    let notes = project.lock_state();
    let found = notes.points.iter().rev().find(|(n, _)| name.is_none_or(|name| name == n));
    match found {
        Some((name, at)) => Ok(ApiResponse::json(200, render_restore_point(name, *at))),
        None => Err(ApiResponse::error(404, "Restore point not found")),
    }
}

/// Restores a restore point in place.
pub(super) async fn restore_to_point(call: &ApiRequest) -> ApiResult {
    let project = call.find_root_project()?;
    call.require_plan(BillingPlan::Enterprise)?;
    let name = call.required_text("name")?;
    if !project.lock_state().points.iter().any(|(n, _)| n == name) {
        return Err(ApiResponse::error(404, "Restore point not found"));
    }
    backups::restore_in_place(call, &project, None, RecoveryTarget::Name(name.into())).await
}

fn render_restore_point(name: &str, at: Moment) -> Value {
    json!({ "name": name, "status": "AVAILABLE", "completed_on": at.to_string() })
}
