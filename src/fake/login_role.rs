//! `…/cli/login-role`: a database role that is valid for minutes.

use super::{
    real_database::LOGIN_TTL_SECONDS,
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use serde_json::json;

/// Creates a login role; this needs a real PostgreSQL.
pub(super) async fn create_login_role(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    if request.body.get("read_only").is_none() {
        return Err(ApiResponse::error(400, "read_only: Required"));
    }
    let read_only = request.flag_or_false("read_only")?;
    if !request.options().postgres {
        let message = "there is no PostgreSQL behind this server: start it with `--postgres`";
        return Err(ApiResponse::error(500, message));
    }
    project.require_accepting_connections().await?;
    let world = project.open_simulated_database()?;
    let login = project.lock_real_database().await.grant_login(&world, read_only).await?;
    Ok(ApiResponse::json(
        201,
        json!({ "role": login.role, "password": login.password, "ttl_seconds": LOGIN_TTL_SECONDS }),
    ))
}

/// Revokes the login roles.
pub(super) async fn delete_login_roles(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    project.lock_real_database().await.revoke_logins().await?;
    Ok(ApiResponse::json(200, json!({ "message": "ok" })))
}
