//! Switching a project off, on, and off and on again; and `readonly`.

use super::{
    backups::Nowhere,
    call::{Answer, Call, Outcome},
};
use crate::base::moment::Span;
use serde_json::json;

/// How long a restart takes.
const RESTARTS: Span = Span::seconds(60);

/// Switches off. An empty body: it goes on by itself.
pub(super) async fn pause(call: &Call) -> Outcome {
    let project = call.project()?;
    let status = project.status(&call.platform).await;
    if status != "ACTIVE_HEALTHY" {
        return Err(Answer::message(400, format!("This project cannot be paused, it is {status}")));
    }
    project.database()?.lifecycle()?.pause(&call.fresh_key(), &Nowhere).await?;
    Ok(Answer::empty(200))
}

/// Switches on again: no restore of a backup, whatever the path says.
pub(super) async fn unpause(call: &Call) -> Outcome {
    let project = call.project()?;
    let status = project.status(&call.platform).await;
    if status != "INACTIVE" {
        let message = format!("This project is no longer in a paused state, it is {status}");
        return Err(Answer::message(400, message));
    }
    project.database()?.lifecycle()?.resume(&call.fresh_key(), &Nowhere).await?;
    Ok(Answer::empty(200))
}

/// Lists the versions that a paused project can come back as.
pub(super) async fn versions(call: &Call) -> Outcome {
    call.root()?;
    let version = json!({
        "version": call.platform.version(),
        "release_channel": "ga",
        "postgres_engine": call.platform.engine(),
    });
    Ok(Answer::json(200, json!({ "available_versions": [version] })))
}

/// Restarts.
pub(super) async fn restart(call: &Call) -> Outcome {
    let project = call.project()?;
    let status = project.status(&call.platform).await;
    if status != "ACTIVE_HEALTHY" {
        return Err(Answer::message(400, format!("This project cannot be restarted, it is {status}")));
    }
    let until = call.platform.now().plus(call.platform.takes(RESTARTS));
    project.notes().restarts_until = Some(until);
    Ok(Answer::empty(200))
}

/// Says whether writes are refused because the disk is full: they never are.
pub(super) async fn readonly(call: &Call) -> Outcome {
    let project = call.project()?;
    let at = project.created_at.to_string();
    Ok(Answer::json(200, json!({ "enabled": false, "override_enabled": false, "override_active_until": at })))
}
