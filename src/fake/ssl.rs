//! `…/ssl-enforcement`: a change restarts the database, and is applied some seconds later.

use super::{
    call::{Answer, Call, Outcome},
    options::Plan,
    project::Project,
};
use crate::base::moment::Span;
use serde_json::{Value, json};

/// How long the restart takes.
const TAKES: Span = Span::seconds(30);

/// Says whether connections without TLS are refused.
pub(super) async fn get(call: &Call) -> Outcome {
    let project = call.project()?;
    Ok(Answer::json(200, shown(call, &project).await?))
}

/// Says whether they shall be.
pub(super) async fn put(call: &Call) -> Outcome {
    let project = call.project()?;
    if call.platform.options.plan == Plan::Free {
        return Err(Answer::message(400, "not allowed to configure SSL enforcements for this project"));
    }
    let Some(wanted) = call.body.pointer("/requestedConfig/database").and_then(Value::as_bool) else {
        return Err(Answer::message(400, "requestedConfig.database: Required"));
    };
    let database = project.database()?;
    let network = database.network()?;
    if network.ssl().await?.enforced != wanted {
        network.enforce_ssl(wanted).await?;
        project.notes().restarts_until = Some(call.platform.now().plus(call.platform.takes(TAKES)));
    }
    Ok(Answer::json(200, shown(call, &project).await?))
}

async fn shown(call: &Call, project: &Project) -> Result<Value, Answer> {
    let database = project.database()?;
    let ssl = database.network()?.ssl().await?;
    let restarts = project.notes().restarts_until.is_some_and(|until| call.platform.now() < until);
    Ok(json!({
        "currentConfig": { "database": ssl.enforced },
        "appliedSuccessfully": ssl.applied && !restarts,
    }))
}
