//! Restore points, which only some customers have.

use super::{
    backups,
    call::{Answer, Call, Outcome},
    options::Plan,
};
use crate::{base::moment::Moment, provider::model::At};
use serde_json::{Value, json};

/// Makes a restore point.
pub(super) async fn create(call: &Call) -> Outcome {
    let project = call.root()?;
    call.demand_plan(Plan::Enterprise)?;
    let name = call.text("name")?;
    if name.is_empty() || name.chars().count() > 20 {
        return Err(Answer::message(400, "name: String must contain at most 20 character(s)"));
    }
    let mark = project.database()?.backups()?.mark(name, &call.fresh_key()).await?;
    project.notes().points.push((mark.name.clone(), mark.time));
    Ok(Answer::json(201, shown(&mark.name, mark.time)))
}

/// Shows a restore point by its name, or the newest: one, never a list.
pub(super) async fn get(call: &Call) -> Outcome {
    let project = call.root()?;
    call.demand_plan(Plan::Enterprise)?;
    let name = call.asked("name");
    let notes = project.notes();
    let found = notes.points.iter().rev().find(|(n, _)| name.is_none_or(|name| name == n));
    match found {
        Some((name, at)) => Ok(Answer::json(200, shown(name, *at))),
        None => Err(Answer::message(404, "Restore point not found")),
    }
}

/// Goes back to a restore point, in place.
pub(super) async fn undo(call: &Call) -> Outcome {
    let project = call.root()?;
    call.demand_plan(Plan::Enterprise)?;
    let name = call.text("name")?;
    if !project.notes().points.iter().any(|(n, _)| n == name) {
        return Err(Answer::message(404, "Restore point not found"));
    }
    backups::back_to(call, &project, None, At::Name(name.into())).await
}

fn shown(name: &str, at: Moment) -> Value {
    json!({ "name": name, "status": "AVAILABLE", "completed_on": at.to_string() })
}
