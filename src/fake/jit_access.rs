//! `…/jit-access`: temporary access to the database for people.

use super::{
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use serde_json::{Value, json};

/// Shows whether temporary access is enabled.
pub(super) async fn get_jit_access(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    let state = project.lock_state().jit_state.clone();
    Ok(ApiResponse::json(200, render_jit_access(state.as_deref().unwrap_or("disabled"))))
}

/// Enables or disables temporary access.
pub(super) async fn update_jit_access(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    let state = request.required_text("state")?;
    if !["enabled", "disabled"].contains(&state) {
        return Err(ApiResponse::error(400, "state: Invalid enum value"));
    }
    project.lock_state().jit_state = Some(state.into());
    Ok(ApiResponse::json(200, render_jit_access(state)))
}

/// Lists the people with temporary access: always nobody.
pub(super) async fn list_jit_access(request: &RoutedRequest) -> ApiResult {
    request.find_project()?;
    Ok(ApiResponse::json(200, json!({ "items": [] })))
}

fn render_jit_access(state: &str) -> Value {
    json!({ "state": state, "appliedSuccessfully": true })
}
