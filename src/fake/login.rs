//! `…/cli/login-role`: a role of the database that lives for minutes.

use super::call::{Answer, Call, Outcome};
use serde_json::json;

/// Makes a role.
pub(super) async fn create(call: &Call) -> Outcome {
    call.project()?;
    call.flag("read_only")?;
    Err(Answer::message(500, "there is no PostgreSQL behind this server: start it with `--postgres`"))
}

/// Removes the roles.
pub(super) async fn delete(call: &Call) -> Outcome {
    call.project()?;
    Ok(Answer::json(200, json!({ "message": "ok" })))
}
