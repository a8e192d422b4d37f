//! `GET …/health`: the health of a project's services.

use super::{
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use serde_json::{Value, json};

/// Every service that can be requested.
const SERVICES: &[&str] =
    &["auth", "db", "db_postgres_user", "pooler", "realtime", "rest", "storage", "pg_bouncer"];

/// Reports the health of the requested services; the parameter may repeat or hold a comma-separated list.
pub(super) async fn get_service_health(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    let requested = request.query.iter().filter(|(name, _)| name == "services");
    let requested: Vec<&str> =
        requested.flat_map(|(_, list)| list.split(',')).filter(|s| !s.is_empty()).collect();
    if requested.is_empty() {
        return Err(ApiResponse::error(400, "services: Required"));
    }
    if let Some(unknown) = requested.iter().find(|s| !SERVICES.contains(s)) {
        return Err(ApiResponse::error(400, format!("services: Invalid enum value '{unknown}'")));
    }
    let status = project.refresh_status().await;
    let rendered: Vec<Value> = requested.into_iter().map(|name| render_service(name, status)).collect();
    Ok(ApiResponse::json(200, rendered.into()))
}

fn render_service(name: &str, project: &str) -> Value {
    let status = match project {
        "ACTIVE_HEALTHY" => "ACTIVE_HEALTHY",
        "COMING_UP" | "RESTORING" | "RESTARTING" => "COMING_UP",
        _ => "UNHEALTHY",
    };
    let mut rendered = json!({ "name": name, "healthy": status == "ACTIVE_HEALTHY", "status": status });
    if status != "ACTIVE_HEALTHY" {
        // The error is JSON inside a string, as recorded.
        let error = json!({ "error": format!("Failed to retrieve project's {name} service health") });
        rendered["error"] = error.to_string().into();
    }
    rendered
}
