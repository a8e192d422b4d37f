//! The statements of firedrill's own client, answered from a simulated world: its SQL is not PostgreSQL's.
//!
//! What the client wraps around a statement is PostgreSQL through and through; what it asks by it is little, and is
//! read back (`provider::supabase::wording`). A mark that an execute leaves is kept beside the world, made in the same
//! moment as the effect.

use super::{
    backups::Nowhere,
    call::{Answer, Call, Outcome},
    catalogue,
    project::Project,
    query::{TIMEOUT, failed, is_of_writing},
};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Settings as _, Sql as _,
        model::Rows,
        supabase::wording::{Asked, row},
    },
};
use serde_json::{Map, Value, json};

/// How long after it was sent a transaction may start.
const STARTS_WITHIN: Span = Span::seconds(30);

/// Returns the answer to a statement of the client's own.
pub(super) async fn answer(call: &Call, project: &Project, asked: Asked, read_only: bool) -> Outcome {
    let said = match asked {
        Asked::Shape { sql } => json!(rows(project, &sql).await?.columns),
        Asked::Rows { sql } => in_text(&rows(project, &sql).await?),
        Asked::Clock => json!({
            "until": call.platform.now().plus(STARTS_WITHIN).to_string(),
            "timeline": catalogue::timeline(project).await?,
        }),
        Asked::Sight { until, .. } => json!({
            "late": is_late(call, &until),
            "running": false,
            "timeline": catalogue::timeline(project).await?,
        }),
        Asked::Mark { object } => json!(project.notes().marks.get(&object)),
        Asked::Health => health(call, project).await?,
        Asked::Settings { names } => settings(project, &names).await?,
        Asked::Execute { .. } | Asked::Clear { .. } if read_only => {
            return Err(refused("25006: cannot execute DO in a read-only transaction"));
        }
        Asked::Clear { object } => {
            let removed = project.notes().marks.remove(&object);
            removed.ok_or_else(|| refused(&format!("42704: large object {object} does not exist")))?;
            // Nothing of the user's is changed by it.
            return Ok(Answer::json(201, json!([{ "lo_unlink": 1 }])).looked());
        }
        Asked::Execute { sql, object, comment, until, .. } => {
            if is_late(call, &until) {
                return Err(refused("P0001: firedrill: this request arrived too late"));
            }
            if project.notes().marks.contains_key(&object) {
                return Err(refused("23505: duplicate key value violates unique constraint"));
            }
            let done = project.sim()?.execute(&sql, TIMEOUT, &call.fresh_key(), &Nowhere).await;
            let touched = done.map_err(failed)?.rows_affected;
            project.notes().marks.insert(object, format!("{comment}{touched}"));
            return Ok(Answer::json(201, json!([])));
        }
    };
    Ok(Answer::json(201, row(&said)).looked())
}

fn refused(said: &str) -> Answer {
    Answer::message(400, format!("Failed to run sql query: ERROR:  {said}"))
}

fn is_late(call: &Call, until: &str) -> bool {
    Moment::parse(until).is_ok_and(|until| call.platform.now() > until)
}

/// Runs a statement that only reads.
async fn rows(project: &Project, sql: &str) -> Result<Rows, Answer> {
    if let Some(row) = catalogue::of_server(sql, project).await? {
        return Ok(Rows { columns: row.keys().cloned().collect(), rows: vec![row] });
    }
    let reading = catalogue::within(sql, project).await?;
    project.sim()?.query(&reading, TIMEOUT).await.map_err(|e| {
        if is_of_writing(&e) {
            return refused("25006: cannot execute a statement that writes in a read-only transaction");
        }
        failed(e)
    })
}

/// Returns rows as PostgreSQL writes their values, with the types that these values have.
fn in_text(rows: &Rows) -> Value {
    let values = |column: &str| rows.rows.iter().map(|row| row[column].clone()).collect::<Vec<_>>();
    let types: Vec<Value> =
        rows.columns.iter().map(|column| json!([oid(&values(column)), null, null])).collect();
    let texts = rows.rows.iter().map(|row| rows.columns.iter().map(|c| text(&row[c])).collect::<Value>());
    json!({ "columns": rows.columns, "types": types, "rows": texts.collect::<Vec<_>>() })
}

/// Returns the number of the type that holds these values: bool, int8, float8, jsonb or text.
fn oid(values: &[Value]) -> u32 {
    let known = values.iter().filter(|value| !value.is_null());
    let all = |is: fn(&Value) -> bool| known.clone().next().is_some() && known.clone().all(is);
    match () {
        () if all(Value::is_boolean) => 16,
        () if all(Value::is_i64) => 20,
        () if all(Value::is_number) => 701,
        () if all(|v| v.is_array() || v.is_object()) => 3802,
        () => 25,
    }
}

fn text(value: &Value) -> Value {
    match value {
        Value::Null | Value::String(_) => value.clone(),
        Value::Bool(yes) => if *yes { "t" } else { "f" }.into(),
        other => other.to_string().into(),
    }
}

async fn health(call: &Call, project: &Project) -> Result<Value, Answer> {
    let health = project.sim()?.health().await?;
    Ok(json!({
        "version": call.platform.version(),
        "in_recovery": health.in_recovery,
        "bytes": health.bytes,
        "connections": health.connections,
    }))
}

/// Returns what holds, of those settings that the server has.
async fn settings(project: &Project, names: &[String]) -> Result<Value, Answer> {
    let sim = project.sim()?;
    let mut known = Map::new();
    for name in names {
        let Ok(found) = sim.get(std::slice::from_ref(name)).await else { continue };
        for setting in found {
            let shown = match &setting.effective {
                Value::Bool(yes) => if *yes { "on" } else { "off" }.into(),
                other => text(other),
            };
            known.insert(
                setting.name,
                json!({ "setting": shown, "pending_restart": setting.pending_restart }),
            );
        }
    }
    Ok(Value::Object(known))
}
