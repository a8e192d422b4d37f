//! `…/jit-access`: whether people can be let in for a while.

use super::call::{Answer, Call, Outcome};
use serde_json::{Value, json};

/// Says whether it is on.
pub(super) async fn get(call: &Call) -> Outcome {
    let project = call.project()?;
    let state = project.notes().jit.clone();
    Ok(Answer::json(200, shown(state.as_deref().unwrap_or("disabled"))))
}

/// Switches it on or off.
pub(super) async fn put(call: &Call) -> Outcome {
    let project = call.project()?;
    let state = call.text("state")?;
    if !["enabled", "disabled"].contains(&state) {
        return Err(Answer::message(400, "state: Invalid enum value"));
    }
    project.notes().jit = Some(state.into());
    Ok(Answer::json(200, shown(state)))
}

/// Lists who may be let in: nobody was ever entered.
pub(super) async fn list(call: &Call) -> Outcome {
    call.project()?;
    Ok(Answer::json(200, json!({ "items": [] })))
}

fn shown(state: &str) -> Value {
    json!({ "state": state, "appliedSuccessfully": true })
}
