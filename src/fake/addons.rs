//! Billing add-ons (read only), and the configuration of the pooler and the data API.

use super::{
    options::BillingPlan,
    project::{ConnectionInfo, Project},
    replicas,
    request::ApiRequest,
    response::{ApiResponse, ApiResult},
};
use serde_json::{Value, json};

/// Lists the selected and the available add-ons.
pub(super) async fn list_addons(call: &ApiRequest) -> ApiResult {
    call.find_root_project()?;
    let options = call.options();
    let compute = render_variant("ci_small", "Small", "hourly", 0.0206);
    let moments = [("pitr_7", "7 days", 0.137), ("pitr_14", "14 days", 0.274), ("pitr_28", "28 days", 0.55)]
        .map(|(id, name, amount)| render_variant(id, name, "hourly", amount));
    let mut selected = vec![json!({ "type": "compute_instance", "variant": compute })];
    if options.pitr && options.plan > BillingPlan::Free {
        selected.push(json!({ "type": "pitr", "variant": moments[0] }));
    }
    let available = json!([
        { "type": "compute_instance", "name": "Compute Instance", "variants": [compute] },
        { "type": "pitr", "name": "Point in Time Recovery", "variants": moments },
    ]);
    Ok(ApiResponse::json(200, json!({ "selected_addons": selected, "available_addons": available })))
}

fn render_variant(id: &str, name: &str, interval: &str, amount: f64) -> Value {
    let price = json!({ "description": name, "type": "usage", "interval": interval, "amount": amount });
    json!({ "id": id, "name": name, "price": price })
}

/// Shows the pooler of the database and of each of its replicas.
pub(super) async fn get_pooler_config(call: &ApiRequest) -> ApiResult {
    let project = call.find_project()?;
    let door = project.connection_info().await;
    let mut list = vec![render_pooler(&project, &project.reference, "PRIMARY", &door)];
    for replica in replicas::list_visible_replicas(call, &project).await? {
        let identifier = replica["identifier"].as_str().unwrap_or_default();
        list.push(render_pooler(&project, identifier, "READ_REPLICA", &door));
    }
    Ok(ApiResponse::json(200, list.into()))
}

fn render_pooler(project: &Project, identifier: &str, kind: &str, door: &ConnectionInfo) -> Value {
    let ConnectionInfo { user, host, port, database } = door;
    let text = format!("postgresql://{user}:[YOUR-PASSWORD]@{host}:{port}/{database}");
    let notes = project.lock_state();
    let set = |name: &str, preset: Value| notes.pooler.get(name).cloned().unwrap_or(preset);
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

/// Shows the configuration of the data API, with its schemas.
pub(super) async fn get_data_api_config(call: &ApiRequest) -> ApiResult {
    call.find_project()?;
    Ok(ApiResponse::json(
        200,
        json!({
            "db_schema": "public,graphql_public",
            "max_rows": 1000,
            "db_extra_search_path": "public, extensions",
            "db_pool": null,
            "db_pool_acquisition_timeout": null,
            "db_pool_max_lifetime": null,
            "db_pool_max_idletime": null,
        }),
    ))
}

/// Sets the pooler.
pub(super) async fn update_pooler_config(call: &ApiRequest) -> ApiResult {
    let project = call.find_project()?;
    let fields = call.body_fields()?;
    let mut notes = project.lock_state();
    for name in ["default_pool_size", "pool_mode"] {
        if let Some(value) = fields.get(name) {
            notes.pooler.insert(name.into(), value.clone());
        }
    }
    let set = |name: &str, preset: Value| notes.pooler.get(name).cloned().unwrap_or(preset);
    let shown = json!({
        "default_pool_size": set("default_pool_size", Value::Null),
        "pool_mode": set("pool_mode", "transaction".into()),
    });
    Ok(ApiResponse::json(200, shown))
}
