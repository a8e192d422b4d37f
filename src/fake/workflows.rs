//! `…/actions`: the workflows. Their steps are containers, whose status does not tell success.

use super::{
    request::RoutedRequest,
    response::{ApiResponse, ApiResult, ResponseBody},
    workflow::Workflow,
};
use crate::base::moment::Span;
use serde_json::{Value, json};

/// How long each step takes.
const STEP_DURATION: Span = Span::from_secs(10);
/// The steps of a workflow, first to last.
const WORKFLOW_STEPS: &[&str] = &["clone", "pull", "health", "configure", "migrate", "seed", "deploy"];

/// Lists the workflows, newest first.
pub(super) async fn list_workflows(request: &RoutedRequest) -> ApiResult {
    request.find_project()?;
    let (limit, offset) =
        (request.query_number("limit", 10, 100), request.query_number("offset", 0, usize::MAX));
    let workflows = request.platform.lock_workflows().clone();
    let page = workflows.iter().rev().skip(offset).take(limit).map(|w| render_workflow(request, w));
    Ok(ApiResponse::json(200, page.collect()))
}

/// Shows a workflow.
pub(super) async fn get_workflow(request: &RoutedRequest) -> ApiResult {
    Ok(ApiResponse::json(200, render_workflow(request, &find_workflow(request)?)))
}

/// Shows the log of a workflow.
pub(super) async fn get_workflow_logs(request: &RoutedRequest) -> ApiResult {
    let workflow = find_workflow(request)?;
    let text = format!("workflow {} of branch {}\n", workflow.id, workflow.branch);
    Ok(ApiResponse { status: 200, body: ResponseBody::Text(text), without_effect: true })
}

/// Returns whether a workflow of a branch is at its steps.
pub(super) fn is_workflow_running(request: &RoutedRequest, branch_id: &str) -> bool {
    let steps = i32::try_from(WORKFLOW_STEPS.len()).unwrap_or(i32::MAX);
    let duration = Span(request.scale_span(STEP_DURATION).0.saturating_mul(steps));
    let workflows = request.platform.lock_workflows();
    let mut of_branch = workflows.iter().filter(|workflow| workflow.branch == branch_id);
    of_branch.any(|workflow| request.now() < workflow.started_at.saturating_add(duration))
}

fn find_workflow(request: &RoutedRequest) -> Result<Workflow, ApiResponse> {
    request.find_project()?;
    let workflows = request.platform.lock_workflows();
    let found = workflows.iter().find(|workflow| workflow.id == request.path_param("run_id"));
    found.cloned().ok_or_else(|| ApiResponse::error(404, "Action run not found"))
}

fn render_workflow(request: &RoutedRequest, workflow: &Workflow) -> Value {
    let now = request.now();
    let mut begins = workflow.started_at;
    let mut steps = Vec::new();
    for name in WORKFLOW_STEPS {
        let ends = begins.saturating_add(request.scale_span(STEP_DURATION));
        let status = match () {
            () if now >= ends => "EXITED",
            () if now >= begins => "RUNNING",
            () => "CREATED",
        };
        let changed = ends.min(now).max(workflow.started_at);
        steps.push(json!({
            "name": name,
            "status": status,
            "created_at": workflow.started_at.to_string(),
            "updated_at": changed.to_string(),
        }));
        begins = ends;
    }
    json!({
        "id": workflow.id,
        "branch_id": workflow.branch,
        "run_steps": steps,
        "git_config": null,
        "workdir": null,
        "check_run_id": null,
        "created_at": workflow.started_at.to_string(),
        "updated_at": begins.min(now).max(workflow.started_at).to_string(),
    })
}
