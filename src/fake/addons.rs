//! Add-ons, read only, the pooler, and the data API.

use super::{
    call::{Answer, Call, Outcome},
    options::Plan,
    project::Project,
    replicas,
};
use serde_json::{Value, json};

/// Lists what was booked and what could be.
pub(super) async fn list(call: &Call) -> Outcome {
    call.root()?;
    let options = &call.platform.options;
    let compute = variant("ci_small", "Small", "hourly", 0.0206);
    let moments = [("pitr_7", "7 days", 0.137), ("pitr_14", "14 days", 0.274), ("pitr_28", "28 days", 0.55)]
        .map(|(id, name, amount)| variant(id, name, "hourly", amount));
    let mut selected = vec![json!({ "type": "compute_instance", "variant": compute })];
    if options.pitr && options.plan > Plan::Free {
        selected.push(json!({ "type": "pitr", "variant": moments[0] }));
    }
    let available = json!([
        { "type": "compute_instance", "name": "Compute Instance", "variants": [compute] },
        { "type": "pitr", "name": "Point in Time Recovery", "variants": moments },
    ]);
    Ok(Answer::json(200, json!({ "selected_addons": selected, "available_addons": available })))
}

fn variant(id: &str, name: &str, interval: &str, amount: f64) -> Value {
    let price = json!({ "description": name, "type": "usage", "interval": interval, "amount": amount });
    json!({ "id": id, "name": name, "price": price })
}

/// Shows the pooler of the database and of each of its replicas.
pub(super) async fn pooler(call: &Call) -> Outcome {
    let project = call.project()?;
    let door = project.door(&call.platform).await;
    let mut list = vec![one(&project, &project.reference, "PRIMARY", &door)];
    for replica in replicas::shown(call, &project).await? {
        let identifier = replica["identifier"].as_str().unwrap_or_default();
        list.push(one(&project, identifier, "READ_REPLICA", &door));
    }
    Ok(Answer::json(200, list.into()))
}

fn one(project: &Project, identifier: &str, kind: &str, door: &Door) -> Value {
    let Door { user, host, port, database } = door;
    let text = format!("postgresql://{user}:[YOUR-PASSWORD]@{host}:{port}/{database}");
    let notes = project.notes();
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

/// Where a database is connected to.
pub(super) struct Door {
    /// The role.
    pub(super) user: String,
    /// The host, or the folder of a socket.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
    /// The database.
    pub(super) database: String,
}

/// Shows what the data API shows: which schemas, above all.
pub(super) async fn data_api(call: &Call) -> Outcome {
    call.project()?;
    Ok(Answer::json(
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
pub(super) async fn set_pooler(call: &Call) -> Outcome {
    let project = call.project()?;
    let fields = call.fields()?;
    let mut notes = project.notes();
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
    Ok(Answer::json(200, shown))
}
