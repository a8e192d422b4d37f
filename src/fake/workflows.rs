//! Workflows of branch operations: their steps are containers, whose status does not tell success.

use super::{
    request::ApiRequest,
    response::{ApiResponse, ApiResult, ResponseBody},
    workflow::Workflow,
};
use crate::base::moment::Span;
use serde_json::{Value, json};

/// How long each step takes.
const STEP_DURATION: Span = Span::from_secs(10);
/// The steps, in their order.
const WORKFLOW_STEPS: &[&str] = &["clone", "pull", "health", "configure", "migrate", "seed", "deploy"];

/// Lists the workflows, newest first.
pub(super) async fn list_workflows(call: &ApiRequest) -> ApiResult {
    call.find_project()?;
    let (limit, offset) = (call.query_number("limit", 10, 100), call.query_number("offset", 0, usize::MAX));
    let runs = call.platform.lock_workflows().clone();
    let page = runs.iter().rev().skip(offset).take(limit).map(|run| render_workflow(call, run));
    Ok(ApiResponse::json(200, page.collect()))
}

/// Shows a workflow.
pub(super) async fn get_workflow(call: &ApiRequest) -> ApiResult {
    Ok(ApiResponse::json(200, render_workflow(call, &find_workflow(call)?)))
}

/// Shows the log of a workflow.
pub(super) async fn get_workflow_logs(call: &ApiRequest) -> ApiResult {
    let run = find_workflow(call)?;
    let text = format!("workflow {} of branch {}\n", run.id, run.branch);
    Ok(ApiResponse { status: 200, body: ResponseBody::Text(text), only_looked: true })
}

fn find_workflow(call: &ApiRequest) -> Result<Workflow, ApiResponse> {
    call.find_project()?;
    let runs = call.platform.lock_workflows();
    let found = runs.iter().find(|run| run.id == call.path_param("run_id"));
    found.cloned().ok_or_else(|| ApiResponse::error(404, "Action run not found"))
}

fn render_workflow(call: &ApiRequest, run: &Workflow) -> Value {
    let now = call.now();
    let mut begins = run.at;
    let mut steps = Vec::new();
    for name in WORKFLOW_STEPS {
        let ends = begins.saturating_add(call.scale_span(STEP_DURATION));
        let status = match () {
            () if now >= ends => "EXITED",
            () if now >= begins => "RUNNING",
            () => "CREATED",
        };
        let changed = ends.min(now).max(run.at);
        steps.push(json!({
            "name": name,
            "status": status,
            "created_at": run.at.to_string(),
            "updated_at": changed.to_string(),
        }));
        begins = ends;
    }
    json!({
        "id": run.id,
        "branch_id": run.branch,
        "run_steps": steps,
        "git_config": null,
        "workdir": null,
        "check_run_id": null,
        "created_at": run.at.to_string(),
        "updated_at": begins.min(now).max(run.at).to_string(),
    })
}
