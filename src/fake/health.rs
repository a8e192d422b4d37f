//! `GET …/health`: how the services of a project are.

use super::call::{Answer, Call, Outcome};
use serde_json::{Value, json};

/// Every service that can be asked for.
const SERVICES: &[&str] =
    &["auth", "db", "db_postgres_user", "pooler", "realtime", "rest", "storage", "pg_bouncer"];

/// Says how the services are that are asked for, separated by commas or one at a time.
pub(super) async fn get(call: &Call) -> Outcome {
    let project = call.project()?;
    let asked = call.query.iter().filter(|(name, _)| name == "services");
    let asked: Vec<&str> = asked.flat_map(|(_, list)| list.split(',')).filter(|s| !s.is_empty()).collect();
    if asked.is_empty() {
        return Err(Answer::message(400, "services: Required"));
    }
    if let Some(unknown) = asked.iter().find(|s| !SERVICES.contains(s)) {
        return Err(Answer::message(400, format!("services: Invalid enum value '{unknown}'")));
    }
    let status = project.status(&call.platform).await;
    let shown: Vec<Value> = asked.into_iter().map(|name| service(name, status)).collect();
    Ok(Answer::json(200, shown.into()))
}

fn service(name: &str, project: &str) -> Value {
    let status = match project {
        "ACTIVE_HEALTHY" => "ACTIVE_HEALTHY",
        "COMING_UP" | "RESTORING" | "RESTARTING" => "COMING_UP",
        _ => "UNHEALTHY",
    };
    let mut shown = json!({ "name": name, "healthy": status == "ACTIVE_HEALTHY", "status": status });
    if status != "ACTIVE_HEALTHY" {
        // A text in which there is JSON, as it was seen.
        let error = json!({ "error": format!("Failed to retrieve project's {name} service health") });
        shown["error"] = error.to_string().into();
    }
    shown
}
