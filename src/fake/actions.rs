//! The workflows behind what is done to branches: their steps are containers, and say nothing of success.

use super::call::{Answer, Call, Outcome};
use crate::base::moment::{Moment, Span};
use serde_json::{Value, json};

/// How long each step takes.
const STEP: Span = Span::seconds(10);
/// The steps, in their order.
const STEPS: &[&str] = &["clone", "pull", "health", "configure", "migrate", "seed", "deploy"];

/// A workflow that was begun.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// What names it.
    pub(super) id: String,
    /// The branch it is about.
    pub(super) branch: String,
    /// When it was begun.
    pub(super) at: Moment,
}

/// Lists the workflows, newest first.
pub(super) async fn list(call: &Call) -> Outcome {
    call.project()?;
    let (limit, offset) = (call.asked_number("limit", 10, 100), call.asked_number("offset", 0, usize::MAX));
    let runs = call.platform.runs().clone();
    let page = runs.iter().rev().skip(offset).take(limit).map(|run| shown(call, run));
    Ok(Answer::json(200, page.collect()))
}

/// Shows a workflow.
pub(super) async fn get(call: &Call) -> Outcome {
    Ok(Answer::json(200, shown(call, &one(call)?)))
}

/// Shows what a workflow has said.
pub(super) async fn logs(call: &Call) -> Outcome {
    let run = one(call)?;
    let text = format!("workflow {} of branch {}\n", run.id, run.branch);
    Ok(Answer { status: 200, body: super::call::Body::Text(text), only_looked: true })
}

fn one(call: &Call) -> Result<Run, Answer> {
    call.project()?;
    let runs = call.platform.runs();
    let found = runs.iter().find(|run| run.id == call.captured("run_id"));
    found.cloned().ok_or_else(|| Answer::message(404, "Action run not found"))
}

fn shown(call: &Call, run: &Run) -> Value {
    let now = call.platform.now();
    let mut begins = run.at;
    let mut steps = Vec::new();
    for name in STEPS {
        let ends = begins.plus(call.platform.takes(STEP));
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
