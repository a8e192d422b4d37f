//! `…/ssl-enforcement`: a change restarts the database, and is applied some seconds later.

use super::{
    options::BillingPlan,
    project::FakeProject,
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use crate::base::moment::Span;
use serde_json::{Value, json};

/// How long the restart takes.
const RESTART_DURATION: Span = Span::from_secs(30);

/// Shows whether connections without TLS are refused.
pub(super) async fn get_ssl_enforcement(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    Ok(ApiResponse::json(200, render_ssl_enforcement(request, &project).await?))
}

/// Sets whether connections without TLS are refused.
pub(super) async fn update_ssl_enforcement(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    if request.options().plan == BillingPlan::Free {
        return Err(ApiResponse::error(400, "not allowed to configure SSL enforcements for this project"));
    }
    let Some(wanted) = request.body.pointer("/requestedConfig/database").and_then(Value::as_bool) else {
        return Err(ApiResponse::error(400, "requestedConfig.database: Required"));
    };
    let database = project.as_provider()?;
    let network = database.network()?;
    if network.ssl().await?.enforced != wanted {
        network.set_ssl_enforcement(wanted).await?;
        project.lock_state().restarts_until =
            Some(request.now().saturating_add(request.scale_span(RESTART_DURATION)));
    }
    Ok(ApiResponse::json(200, render_ssl_enforcement(request, &project).await?))
}

async fn render_ssl_enforcement(
    request: &RoutedRequest,
    project: &FakeProject,
) -> Result<Value, ApiResponse> {
    let database = project.as_provider()?;
    let ssl = database.network()?.ssl().await?;
    let restarts = project.lock_state().restarts_until.is_some_and(|until| request.now() < until);
    Ok(json!({
        "currentConfig": { "database": ssl.enforced },
        "appliedSuccessfully": ssl.applied && !restarts,
    }))
}
