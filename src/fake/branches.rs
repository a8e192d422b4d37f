//! `…/branches`: each branch is a row and a project of its own; production has a row too.

use super::{
    backups,
    branch::PlatformBranch,
    options::BillingPlan,
    platform::Platform,
    project::{FakeProject, WorldSource},
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
    seeded_id,
    workflow::Workflow,
    workflows::is_workflow_running,
};
use crate::{
    base::{clock::SystemClock, moment::Span},
    provider::{
        model::{RecoveryPoint, RecoveryTarget, RestoreRequest},
        sim::Sim,
    },
};
use serde_json::{Value, json};
use std::sync::Arc;

/// How long a new branch is not found by the API.
const HIDDEN_DURATION: Span = Span::from_secs(3);
/// How long it takes to create an empty branch.
const CREATE_DURATION: Span = Span::from_secs(120);
/// How long a branch stays after a deletion with `force=false`.
const DELETE_GRACE: Span = Span::from_secs(3600);
/// A world in which nothing has happened.
const EMPTY_WORLD: &str = "title = \"an empty branch\"\n";

/// Lists the branches of a project, the default one too.
pub(super) async fn list_branches(request: &RoutedRequest) -> ApiResult {
    let project = request.find_root_project()?;
    let mut rendered = Vec::new();
    for row in list_branch_rows(request, &project).await {
        rendered.push(render_branch(request, &row).await);
    }
    Ok(ApiResponse::json(200, rendered.into()))
}

/// Shows a branch by its name.
pub(super) async fn get_branch(request: &RoutedRequest) -> ApiResult {
    let project = request.find_root_project()?;
    let rows = list_branch_rows(request, &project).await;
    let row = rows.iter().find(|row| row.name == request.path_param("name") && is_listed_yet(request, row));
    let row = row.ok_or_else(|| ApiResponse::error(404, "Branch not found"))?;
    Ok(ApiResponse::json(200, render_branch(request, row).await))
}

/// Creates a branch: empty, or with the data of the newest backup.
pub(super) async fn create_branch(request: &RoutedRequest) -> ApiResult {
    let parent = request.find_root_project()?;
    request.require_plan(BillingPlan::Pro)?;
    let name = request.required_text("branch_name")?;
    let requested = PlatformBranch {
        git_branch: request.optional_text("git_branch")?.map(Into::into),
        notify_url: request.optional_text("notify_url")?.map(Into::into),
        persistent: request.flag_or_false("persistent")?,
        with_data: request.flag_or_false("with_data")?,
        ..new_branch_row(request, &parent, name)
    };
    let row = add_branch(request, &parent, requested).await?;
    Ok(ApiResponse::json(201, render_branch(request, &row).await))
}

/// Creates a branch, in the request and response format of API version 2.
pub(super) async fn create_branch_v2(request: &RoutedRequest) -> ApiResult {
    let parent = request.find_root_project()?;
    request.require_plan(BillingPlan::Pro)?;
    let attributes = &request.body["data"]["attributes"];
    let Some(name) = attributes["name"].as_str().filter(|_| request.body["data"]["type"] == "branch") else {
        return Err(ApiResponse::error(400, "data.attributes.name: Required"));
    };
    let text = |field: &str| attributes[field].as_str().map(Into::into);
    let requested = PlatformBranch {
        git_branch: text("git_branch"),
        notify_url: text("notify_url"),
        persistent: attributes["persistent"] == true,
        with_data: attributes["with_data"] == true,
        ..new_branch_row(request, &parent, name)
    };
    let row = add_branch(request, &parent, requested).await?;
    let mut rendered = render_branch(request, &row).await;
    let id = rendered["id"].clone();
    if let Some(fields) = rendered.as_object_mut() {
        for name in ["id", "status", "preview_project_status"] {
            fields.remove(name);
        }
    }
    Ok(ApiResponse::json(201, json!({ "data": { "type": "branch", "id": id, "attributes": rendered } })))
}

fn new_branch_row(request: &RoutedRequest, parent: &FakeProject, name: &str) -> PlatformBranch {
    let number = request.platform.next_number();
    let now = request.now();
    PlatformBranch {
        id: parent.derive_uuid(&format!("branch {number}")),
        name: name.into(),
        reference: seeded_id::derive_letters(&format!("{} branch {number}", parent.reference)),
        parent: parent.reference.clone(),
        is_default: false,
        persistent: false,
        with_data: false,
        git_branch: None,
        notify_url: None,
        created_at: now,
        updated_at: now,
        review_requested_at: None,
        deleted_at: None,
        world_branch: None,
    }
}

async fn add_branch(
    request: &RoutedRequest,
    parent: &FakeProject,
    mut row: PlatformBranch,
) -> Result<PlatformBranch, ApiResponse> {
    let existing = list_branch_rows(request, parent).await;
    if existing.iter().any(|other| other.name == row.name) {
        return Err(ApiResponse::error(409, format!("A branch named {} already exists", row.name)));
    }
    let project = create_branch_project(request, parent, &mut row).await?;
    request.platform.insert_project(project);
    let mut rows = request.platform.lock_branches();
    if existing.is_empty() {
        // The first branch of a project brings a row for production itself.
        let id = parent.derive_uuid("branch main");
        let reference = parent.reference.clone();
        let main = PlatformBranch {
            id,
            name: "main".into(),
            reference,
            is_default: true,
            ..new_branch_row(request, parent, "main")
        };
        rows.push(PlatformBranch { persistent: true, ..main });
    }
    rows.push(row.clone());
    Ok(row)
}

/// Creates the project of a branch: empty, or restored from the parent's newest backup.
async fn create_branch_project(
    request: &RoutedRequest,
    parent: &FakeProject,
    row: &mut PlatformBranch,
) -> Result<FakeProject, ApiResponse> {
    let (reference, name, parent_reference) =
        (row.reference.clone(), row.name.clone(), Some(row.parent.clone()));
    let profile = Arc::clone(&request.platform.profile);
    if !row.with_data {
        let empty = Sim::in_memory(&row.name, EMPTY_WORLD, "empty", Arc::new(SystemClock))?;
        let source = WorldSource::Open(Box::new(empty));
        let project = FakeProject::new(profile, reference, name, parent_reference, row.created_at, source);
        project.lock_state().ready_at =
            Some(row.created_at.saturating_add(request.scale_span(CREATE_DURATION)));
        return Ok(project);
    }
    let database = parent.as_provider()?;
    let Some(newest) = backups::newest_backup(database.as_ref()).await? else {
        return Err(ApiResponse::error(422, "The project has no physical backup to seed the branch from"));
    };
    let key = request.fresh_key();
    let name_in_world = format!("branch-{key}");
    let restore = RestoreRequest {
        backup: Some(newest.id),
        to: RecoveryPoint { at: RecoveryTarget::BackupEnd, inclusive: true, timeline: None },
        into: Some(name_in_world.clone()),
        temporary: false,
        run: None,
    };
    database.backups()?.restore(&restore, &key).await?;
    let branch = database.branches()?.get(&name_in_world).await?;
    let source =
        WorldSource::Open(Box::new(parent.open_simulated_database()?.open_branch(&name_in_world).await?));
    row.world_branch = Some((name_in_world, branch.id));
    Ok(FakeProject::new(profile, reference, name, parent_reference, row.created_at, source))
}

/// Shows the connection data of a branch, secrets included.
pub(super) async fn get_branch_config(request: &RoutedRequest) -> ApiResult {
    let row = find_branch(request).await?;
    let Some(project) =
        request.platform.find_project(&row.reference).filter(|_| is_listed_yet(request, &row))
    else {
        return Err(ApiResponse::error(404, "Branch not found"));
    };
    let connection = project.connection_info().await;
    Ok(ApiResponse::json(
        200,
        json!({
            "ref": row.reference,
            "postgres_version": request.platform.profile.postgres_version(),
            "postgres_engine": request.platform.profile.postgres_engine(),
            "release_channel": "ga",
            "status": project.refresh_status().await,
            "db_host": connection.host,
            "db_port": connection.port,
            "db_user": connection.user,
            "db_pass": format!("pass-{}", seeded_id::derive_letters(&format!("pass {}", row.id))),
            "jwt_secret": format!("jwt-{}", seeded_id::derive_letters(&format!("jwt {}", row.id))),
        }),
    ))
}

/// Changes a branch.
pub(super) async fn update_branch(request: &RoutedRequest) -> ApiResult {
    let found = find_branch(request).await?;
    request.body_fields()?;
    let (name, git) = (request.optional_text("branch_name")?, request.optional_text("git_branch")?);
    let (url, review) = (request.optional_text("notify_url")?, request.flag_or_false("request_review")?);
    let persistent =
        request.body.get("persistent").map(|_| request.flag_or_false("persistent")).transpose()?;
    let now = request.now();
    let changed = {
        let mut rows = request.platform.lock_branches();
        let Some(row) = rows.iter_mut().find(|row| row.id == found.id) else {
            return Err(ApiResponse::error(404, "Branch not found"));
        };
        row.name = name.map_or_else(|| row.name.clone(), Into::into);
        row.git_branch = git.map(Into::into).or(row.git_branch.take());
        row.notify_url = url.map(Into::into).or(row.notify_url.take());
        row.persistent = persistent.unwrap_or(row.persistent);
        row.review_requested_at = if review { Some(now) } else { row.review_requested_at };
        row.updated_at = now;
        row.clone()
    };
    Ok(ApiResponse::json(200, render_branch(request, &changed).await))
}

/// Deletes a branch at once, or with `force=false` in an hour.
pub(super) async fn delete_branch(request: &RoutedRequest) -> ApiResult {
    let row = find_branch(request).await?;
    if row.is_default {
        return Err(ApiResponse::error(422, "Cannot delete default branch"));
    }
    if row.persistent {
        return Err(ApiResponse::error(422, "Cannot delete persistent branch"));
    }
    if request.query_param("force") == Some("false") {
        let at = request.now().saturating_add(DELETE_GRACE);
        request
            .platform
            .lock_branches()
            .iter_mut()
            .filter(|r| r.id == row.id)
            .for_each(|r| r.deleted_at = Some(at));
    } else {
        remove_branch(&request.platform, &row).await;
    }
    Ok(ApiResponse::json(200, json!({ "message": "ok" })))
}

/// Cancels a scheduled deletion.
pub(super) async fn undelete_branch(request: &RoutedRequest) -> ApiResult {
    let row = find_branch(request).await?;
    if row.deleted_at.is_none() {
        return Err(ApiResponse::error(422, "Branch is not scheduled for deletion"));
    }
    request.platform.lock_branches().iter_mut().filter(|r| r.id == row.id).for_each(|r| r.deleted_at = None);
    Ok(ApiResponse::json(200, json!({ "message": "Branch restoration initiated" })))
}

/// Deletes every branch of a project, and branching with them.
pub(super) async fn disable_branching(request: &RoutedRequest) -> ApiResult {
    let project = request.find_root_project()?;
    for row in list_branch_rows(request, &project).await.iter().filter(|row| !row.is_default) {
        remove_branch(&request.platform, row).await;
    }
    request.platform.lock_branches().retain(|row| row.parent != project.reference);
    Ok(ApiResponse::empty(200))
}

/// Resets a branch to the state in which it was created.
pub(super) async fn reset_branch(request: &RoutedRequest) -> ApiResult {
    let row = find_branch(request).await?;
    if row.is_default {
        return Err(ApiResponse::error(422, "Cannot reset default branch"));
    }
    let missing = || ApiResponse::error(404, "Branch not found");
    let parent = request.platform.find_project(&row.parent).ok_or_else(missing)?;
    if let Some((name, _)) = &row.world_branch {
        let database = parent.as_provider()?;
        let branches = database.branches()?;
        let branch = branches.get(name).await?;
        branches.reset(&branch, &request.fresh_key()).await?;
        request.platform.find_project(&row.reference).ok_or_else(missing)?.discard_real_database().await;
    } else {
        let mut recreated = PlatformBranch { created_at: request.now(), ..row.clone() };
        let project = create_branch_project(request, &parent, &mut recreated).await?;
        request.platform.insert_project(project);
    }
    Ok(start_workflow(request, &row))
}

/// Merges the migrations of a branch into its parent. A simulated world has none, so nothing changes.
pub(super) async fn merge_branch(request: &RoutedRequest) -> ApiResult {
    let row = find_branch(request).await?;
    if row.is_default {
        return Err(ApiResponse::error(422, "Cannot merge default branch"));
    }
    Ok(start_workflow(request, &row))
}

/// Starts a workflow for a branch, and returns the response that names it.
fn start_workflow(request: &RoutedRequest, row: &PlatformBranch) -> ApiResponse {
    let number = request.platform.next_number();
    let id = seeded_id::derive_uuid(&format!("{} run {number}", row.id));
    request.platform.lock_workflows().push(Workflow {
        id: id.clone(),
        branch: row.id.clone(),
        started_at: request.now(),
    });
    ApiResponse::json(201, json!({ "workflow_run_id": id, "message": "ok" }))
}

async fn remove_branch(platform: &Platform, row: &PlatformBranch) {
    platform.lock_branches().retain(|r| r.id != row.id);
    if let (Some((name, id)), Some(parent)) = (&row.world_branch, platform.find_project(&row.parent))
        && let Ok(database) = parent.as_provider()
        && let Ok(branches) = database.branches()
    {
        // A branch that is missing from its world is gone anyway.
        drop(branches.delete(name, id).await);
    }
    platform.remove_project(&row.reference);
}

/// Returns the branch that the path names by id or reference.
async fn find_branch(request: &RoutedRequest) -> Result<PlatformBranch, ApiResponse> {
    remove_expired_branches(&request.platform).await;
    let wanted = request.path_param("branch_id_or_ref");
    let rows = request.platform.lock_branches();
    let found = rows.iter().find(|row| row.id == wanted || row.reference == wanted);
    found.cloned().ok_or_else(|| ApiResponse::error(404, "Branch not found"))
}

async fn list_branch_rows(request: &RoutedRequest, project: &FakeProject) -> Vec<PlatformBranch> {
    remove_expired_branches(&request.platform).await;
    let rows = request.platform.lock_branches();
    rows.iter().filter(|row| row.parent == project.reference).cloned().collect()
}

/// Removes the branches whose scheduled deletion is due.
async fn remove_expired_branches(platform: &Platform) {
    let now = platform.profile.now();
    let expired: Vec<PlatformBranch> = platform
        .lock_branches()
        .iter()
        .filter(|r| r.deleted_at.is_some_and(|at| at <= now))
        .cloned()
        .collect();
    for row in expired {
        remove_branch(platform, &row).await;
    }
}

fn is_listed_yet(request: &RoutedRequest, row: &PlatformBranch) -> bool {
    row.is_default || row.created_at.saturating_add(request.scale_span(HIDDEN_DURATION)) <= request.now()
}

async fn render_branch(request: &RoutedRequest, row: &PlatformBranch) -> Value {
    let project = request.platform.find_project(&row.reference);
    let health = match &project {
        Some(project) => project.refresh_status().await,
        None => "REMOVED",
    };
    let settles = project.is_some_and(|p| p.lock_state().settles_until.is_some_and(|at| request.now() < at));
    let is_at_work = settles || is_workflow_running(request, &row.id);
    let status = match health {
        "ACTIVE_HEALTHY" if is_at_work && !row.is_default => "RUNNING_MIGRATIONS",
        "ACTIVE_HEALTHY" => "FUNCTIONS_DEPLOYED",
        "COMING_UP" => "CREATING_PROJECT",
        _ => "MIGRATIONS_PASSED",
    };
    let mut rendered = json!({
        "id": row.id,
        "name": row.name,
        "project_ref": row.reference,
        "parent_project_ref": row.parent,
        "is_default": row.is_default,
        "persistent": row.persistent,
        "status": status,
        "created_at": row.created_at.to_string(),
        "updated_at": row.updated_at.to_string(),
        "with_data": row.with_data,
        "preview_project_status": health,
    });
    let optional = [
        ("git_branch", row.git_branch.clone()),
        ("notify_url", row.notify_url.clone()),
        ("review_requested_at", row.review_requested_at.map(|at| at.to_string())),
        ("deletion_scheduled_at", row.deleted_at.map(|at| at.to_string())),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            rendered[name] = value.into();
        }
    }
    rendered
}
