//! `…/cli/login-role`: a role of the database that lives for minutes.

use super::{
    behind::LIVES,
    call::{Answer, Call, Outcome},
};
use serde_json::json;

/// Makes a role. There must be a database that it could be a role of.
pub(super) async fn create(call: &Call) -> Outcome {
    let project = call.project()?;
    if call.body.get("read_only").is_none() {
        return Err(Answer::message(400, "read_only: Required"));
    }
    let read_only = call.flag("read_only")?;
    if !call.platform.options.postgres {
        let message = "there is no PostgreSQL behind this server: start it with `--postgres`";
        return Err(Answer::message(500, message));
    }
    project.demand_usable(&call.platform).await?;
    let login = project.behind().await.login(&project, read_only).await?;
    Ok(Answer::json(201, json!({ "role": login.role, "password": login.password, "ttl_seconds": LIVES })))
}

/// Removes the roles.
pub(super) async fn delete(call: &Call) -> Outcome {
    let project = call.project()?;
    project.behind().await.lock().await?;
    Ok(Answer::json(200, json!({ "message": "ok" })))
}
