//! `/v1/projects` and the organizations that they are in.

use super::{
    call::{Answer, Call, Outcome},
    options::Plan,
    platform::{ORGANIZATION, REGION},
    project::Project,
    replicas,
};
use serde_json::{Value, json};

/// Lists the projects, branches not among them.
pub(super) async fn list(call: &Call) -> Outcome {
    let mut shown = Vec::new();
    for project in call.platform.roots() {
        shown.push(project.shown(&call.platform).await);
    }
    Ok(Answer::json(200, shown.into()))
}

/// Shows a project. The reference of a branch is not found here, though it is everywhere else.
pub(super) async fn get(call: &Call) -> Outcome {
    Ok(Answer::json(200, call.root()?.shown(&call.platform).await))
}

/// Lists the organizations: there is one.
pub(super) async fn organizations(_: &Call) -> Outcome {
    Ok(Answer::json(200, json!([{ "id": ORGANIZATION, "slug": ORGANIZATION, "name": "redrill practice" }])))
}

/// Shows the organization.
pub(super) async fn organization(call: &Call) -> Outcome {
    demand_organization(call)?;
    Ok(Answer::json(
        200,
        json!({
            "id": ORGANIZATION,
            "name": "redrill practice",
            "plan": call.platform.options.plan.as_str(),
            "opt_in_tags": [],
            "allowed_release_channels": ["ga", "preview"],
        }),
    ))
}

/// Lists the projects of the organization with their databases, a page at a time.
pub(super) async fn of_organization(call: &Call) -> Outcome {
    demand_organization(call)?;
    let (limit, offset) = (call.asked_number("limit", 100, 100), call.asked_number("offset", 0, usize::MAX));
    let search = call.asked("search").unwrap_or_default();
    let fits = |p: &Project| p.name.contains(search) || p.reference.contains(search);
    let all: Vec<_> = call.platform.all().into_iter().filter(|p| fits(p)).collect();
    let mut page = Vec::new();
    for project in all.iter().skip(offset).take(limit.max(1)) {
        page.push(with_databases(call, project).await?);
    }
    let pagination = json!({ "count": all.len(), "limit": limit, "offset": offset });
    Ok(Answer::json(200, json!({ "projects": page, "pagination": pagination })))
}

async fn with_databases(call: &Call, project: &Project) -> Result<Value, Answer> {
    let status = project.status(&call.platform).await;
    let mut databases = vec![json!({
        "infra_compute_size": "small",
        "region": REGION,
        "status": status,
        "cloud_provider": "AWS",
        "identifier": project.reference,
        "type": "PRIMARY",
    })];
    databases.extend(replicas::shown(call, project).await?);
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

/// Says what the plan allows.
pub(super) async fn entitlements(call: &Call) -> Outcome {
    demand_organization(call)?;
    let plan = call.platform.options.plan;
    let paid = plan > Plan::Free;
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
        flag("backup.schedule", plan == Plan::Enterprise),
        flag("instances.read_replicas", paid),
        flag("branching_persistent", paid),
        flag("project_pausing", true),
    ]);
    Ok(Answer::json(200, json!({ "entitlements": list })))
}

fn demand_organization(call: &Call) -> Result<(), Answer> {
    if call.captured("slug") == ORGANIZATION {
        return Ok(());
    }
    Err(Answer::message(404, "Organization not found"))
}
