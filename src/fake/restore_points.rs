//! `…/database/backups/restore-point`: restore points, of the enterprise plan only.

use super::{
    backups,
    options::BillingPlan,
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use crate::{base::moment::Moment, provider::model::RecoveryTarget};
use serde_json::{Value, json};

/// Creates a restore point.
pub(super) async fn create_restore_point(request: &RoutedRequest) -> ApiResult {
    let project = request.find_root_project()?;
    request.require_plan(BillingPlan::Enterprise)?;
    let name = request.required_text("name")?;
    if name.is_empty() || name.chars().count() > 20 {
        return Err(ApiResponse::error(400, "name: String must contain at most 20 character(s)"));
    }
    let point = project.as_provider()?.backups()?.create_restore_point(name, &request.fresh_key()).await?;
    project.lock_state().restore_points.push((point.name.clone(), point.time));
    Ok(ApiResponse::json(201, render_restore_point(&point.name, point.time)))
}

/// Shows one restore point: by its name, or the newest.
pub(super) async fn get_restore_point(request: &RoutedRequest) -> ApiResult {
    let project = request.find_root_project()?;
    request.require_plan(BillingPlan::Enterprise)?;
    let name = request.query_param("name");
    let state = project.lock_state();
    let found = state.restore_points.iter().rev().find(|(n, _)| name.is_none_or(|name| name == n));
    match found {
        Some((name, at)) => Ok(ApiResponse::json(200, render_restore_point(name, *at))),
        None => Err(ApiResponse::error(404, "Restore point not found")),
    }
}

/// Restores a restore point in place.
pub(super) async fn restore_to_point(request: &RoutedRequest) -> ApiResult {
    let project = request.find_root_project()?;
    request.require_plan(BillingPlan::Enterprise)?;
    let name = request.required_text("name")?;
    if !project.lock_state().restore_points.iter().any(|(n, _)| n == name) {
        return Err(ApiResponse::error(404, "Restore point not found"));
    }
    backups::restore_in_place(request, &project, None, RecoveryTarget::Name(name.into())).await
}

fn render_restore_point(name: &str, at: Moment) -> Value {
    json!({ "name": name, "status": "AVAILABLE", "completed_on": at.to_string() })
}
