//! `…/config/database/pooler`: the configuration of the connection pooler.

use super::{
    project::{ConnectionInfo, FakeProject},
    replicas,
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use serde_json::{Value, json};

/// Shows the pooler of the database and of each of its replicas.
pub(super) async fn get_pooler_config(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    let connection = project.connection_info().await;
    let mut list = vec![render_pooler(&project, &project.reference, "PRIMARY", &connection)];
    for replica in replicas::render_listed_replicas(request, &project).await? {
        let identifier = replica["identifier"].as_str().unwrap_or_default();
        list.push(render_pooler(&project, identifier, "READ_REPLICA", &connection));
    }
    Ok(ApiResponse::json(200, list.into()))
}

/// Changes the pooler of the database.
pub(super) async fn update_pooler_config(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    let fields = request.body_fields()?;
    let mut state = project.lock_state();
    for name in ["default_pool_size", "pool_mode"] {
        if let Some(value) = fields.get(name) {
            state.pooler.insert(name.into(), value.clone());
        }
    }
    let set = |name: &str, preset: Value| state.pooler.get(name).cloned().unwrap_or(preset);
    let rendered = json!({
        "default_pool_size": set("default_pool_size", Value::Null),
        "pool_mode": set("pool_mode", "transaction".into()),
    });
    Ok(ApiResponse::json(200, rendered))
}

fn render_pooler(project: &FakeProject, identifier: &str, kind: &str, connection: &ConnectionInfo) -> Value {
    let ConnectionInfo { user, host, port, database } = connection;
    let text = format!("postgresql://{user}:[YOUR-PASSWORD]@{host}:{port}/{database}");
    let state = project.lock_state();
    let set = |name: &str, preset: Value| state.pooler.get(name).cloned().unwrap_or(preset);
    json!({
        "identifier": identifier,
        "database_type": kind,
        "is_using_scram_auth": true,
        "db_user": user,
        "db_host": host,
        "db_port": port,
        "db_name": database,
        "connection_string": text,
        "connectionString": text,
        "default_pool_size": set("default_pool_size", Value::Null),
        "max_client_conn": null,
        "pool_mode": set("pool_mode", "transaction".into()),
    })
}
