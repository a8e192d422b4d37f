//! `/v1/projects` and `/v1/organizations`.

use super::{
    options::BillingPlan,
    profile::{ORGANIZATION, REGION},
    project::FakeProject,
    replicas,
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use serde_json::{Value, json};

/// Lists the projects without their branches.
pub(super) async fn list_projects(request: &RoutedRequest) -> ApiResult {
    let mut rendered = Vec::new();
    for project in request.platform.root_projects() {
        rendered.push(project.to_json().await);
    }
    Ok(ApiResponse::json(200, rendered.into()))
}

/// Shows a project. This endpoint alone does not find branches by their reference.
pub(super) async fn get_project(request: &RoutedRequest) -> ApiResult {
    Ok(ApiResponse::json(200, request.find_root_project()?.to_json().await))
}

/// Lists the organizations: there is one.
pub(super) async fn list_organizations(_: &RoutedRequest) -> ApiResult {
    Ok(ApiResponse::json(
        200,
        json!([{ "id": ORGANIZATION, "slug": ORGANIZATION, "name": "redrill practice" }]),
    ))
}

/// Shows the organization.
pub(super) async fn get_organization(request: &RoutedRequest) -> ApiResult {
    require_organization(request)?;
    Ok(ApiResponse::json(
        200,
        json!({
            "id": ORGANIZATION,
            "name": "redrill practice",
            "plan": request.options().plan.as_str(),
            "opt_in_tags": [],
            "allowed_release_channels": ["ga", "preview"],
        }),
    ))
}

/// Lists the projects of the organization with their databases, a page at a time.
pub(super) async fn list_organization_projects(request: &RoutedRequest) -> ApiResult {
    require_organization(request)?;
    let (limit, offset) =
        (request.query_number("limit", 100, 100), request.query_number("offset", 0, usize::MAX));
    let search = request.query_param("search").unwrap_or_default();
    let fits = |p: &FakeProject| p.name.contains(search) || p.reference.contains(search);
    let all: Vec<_> = request.platform.all_projects().into_iter().filter(|p| fits(p)).collect();
    let mut page = Vec::new();
    for project in all.iter().skip(offset).take(limit.max(1)) {
        page.push(render_project(request, project).await?);
    }
    let pagination = json!({ "count": all.len(), "limit": limit, "offset": offset });
    Ok(ApiResponse::json(200, json!({ "projects": page, "pagination": pagination })))
}

async fn render_project(request: &RoutedRequest, project: &FakeProject) -> Result<Value, ApiResponse> {
    let status = project.refresh_status().await;
    let mut databases = vec![json!({
        "infra_compute_size": "small",
        "region": REGION,
        "status": status,
        "cloud_provider": "AWS",
        "identifier": project.reference,
        "type": "PRIMARY",
    })];
    databases.extend(replicas::render_listed_replicas(request, project).await?);
    Ok(json!({
        "ref": project.reference,
        "name": project.name,
        "cloud_provider": "AWS",
        "region": REGION,
        "is_branch": project.is_branch(),
        "status": status,
        "inserted_at": project.created_at.to_string(),
        "databases": databases,
    }))
}

/// Lists the entitlements of the plan.
pub(super) async fn list_entitlements(request: &RoutedRequest) -> ApiResult {
    require_organization(request)?;
    let plan = request.options().plan;
    let paid = plan > BillingPlan::Free;
    let flag = |key: &str, has: bool| {
        json!({
            "feature": { "key": key, "type": "boolean" },
            "hasAccess": has,
            "type": "boolean",
            "config": { "enabled": has },
        })
    };
    let days = plan.retention_days();
    let variants: &[&str] = if paid { &["pitr_7", "pitr_14", "pitr_28"] } else { &[] };
    let list = json!([
        {
            "feature": { "key": "backup.retention_days", "type": "numeric" },
            "hasAccess": paid,
            "type": "numeric",
            "config": { "enabled": paid, "value": days, "unlimited": false, "unit": "days" },
        },
        {
            "feature": { "key": "pitr.available_variants", "type": "set" },
            "hasAccess": paid,
            "type": "set",
            "config": { "enabled": paid, "set": variants },
        },
        flag("backup.schedule", plan == BillingPlan::Enterprise),
        flag("instances.read_replicas", paid),
        flag("branching_persistent", paid),
        flag("project_pausing", true),
    ]);
    Ok(ApiResponse::json(200, json!({ "entitlements": list })))
}

fn require_organization(request: &RoutedRequest) -> Result<(), ApiResponse> {
    if request.path_param("slug") == ORGANIZATION {
        return Ok(());
    }
    Err(ApiResponse::error(404, "Organization not found"))
}
