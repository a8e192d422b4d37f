//! Pausing, resuming and restarting a project; and `readonly`.

use super::{
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use crate::base::moment::Span;
use serde_json::json;

/// How long a restart takes.
const RESTART_DURATION: Span = Span::from_secs(60);

/// Pauses a project; the response is empty and the pause goes on in the background.
pub(super) async fn pause_project(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    let status = project.refresh_status().await;
    if status != "ACTIVE_HEALTHY" {
        return Err(ApiResponse::error(400, format!("This project cannot be paused, it is {status}")));
    }
    project.as_provider()?.lifecycle()?.pause(&request.fresh_key()).await?;
    Ok(ApiResponse::empty(200))
}

/// Resumes a paused project: despite its path `…/restore`, no backup is restored.
pub(super) async fn unpause_project(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    let status = project.refresh_status().await;
    if status != "INACTIVE" {
        let message = format!("This project is no longer in a paused state, it is {status}");
        return Err(ApiResponse::error(400, message));
    }
    project.as_provider()?.lifecycle()?.resume(&request.fresh_key()).await?;
    Ok(ApiResponse::empty(200))
}

/// Lists the versions that a paused project can come back as.
pub(super) async fn list_available_versions(request: &RoutedRequest) -> ApiResult {
    request.find_root_project()?;
    let version = json!({
        "version": request.platform.profile.postgres_version(),
        "release_channel": "ga",
        "postgres_engine": request.platform.profile.postgres_engine(),
    });
    Ok(ApiResponse::json(200, json!({ "available_versions": [version] })))
}

/// Restarts a project.
pub(super) async fn restart_project(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    let status = project.refresh_status().await;
    if status != "ACTIVE_HEALTHY" {
        return Err(ApiResponse::error(400, format!("This project cannot be restarted, it is {status}")));
    }
    project.restart_server(request.scale_span(RESTART_DURATION)).await?;
    Ok(ApiResponse::empty(200))
}

/// Reports whether a full disk made the project read-only: it never does here.
pub(super) async fn get_readonly_mode(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    let at = project.created_at.to_string();
    Ok(ApiResponse::json(
        200,
        json!({ "enabled": false, "override_enabled": false, "override_active_until": at }),
    ))
}
