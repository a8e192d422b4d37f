//! The special statements of our own Supabase client, answered from the simulated world.
//!
//! They describe themselves (`provider/supabase/sql/statements.rs`): the columns of a query, its rows with types, a
//! change that leaves a mark. PostgreSQL runs them as written; the simulator's SQL cannot.

use super::{
    pg_catalog, profile::STATEMENT_TIMEOUT, project::FakeProject, request::RoutedRequest,
    response::ApiResponse, sql_error,
};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Provider as _, Sql as _,
        model::Rows,
        supabase::statements::{self, SqlRequest},
    },
};
use serde_json::{Map, Value, json};

/// How long after a clock request a change may start.
const START_TIMEOUT: Span = Span::from_secs(30);
/// The type OIDs of simulated values (`pg_type.dat`).
const INT8_OID: u32 = 20;
const FLOAT8_OID: u32 = 701;
const TEXT_OID: u32 = 25;

/// The value that a statement returns, and whether it wrote.
type StatementResult = (Value, bool);

/// Answers a statement of our client; `None` where only the real database can.
pub(super) async fn answer_client_statement(
    request: &RoutedRequest,
    project: &FakeProject,
    statement: &SqlRequest,
    read_only: bool,
) -> Result<Option<ApiResponse>, ApiResponse> {
    let (value, wrote) = match statement {
        SqlRequest::Shape { sql } => (json!(query_rows(project, sql).await?.columns), false),
        SqlRequest::Rows { sql } => (render_typed_rows(&query_rows(project, sql).await?), false),
        SqlRequest::Clock => {
            let until = request.now().saturating_add(START_TIMEOUT);
            let timeline = pg_catalog::current_timeline(project).await?;
            (json!({ "until": until.to_string(), "timeline": timeline }), false)
        }
        SqlRequest::Execute { .. } if read_only => return Err(sql_error::write_refused_response("DO")),
        SqlRequest::Execute { sql, object, comment, until, .. } => {
            execute_with_mark(request, project, sql, (*object, comment), until).await?
        }
        SqlRequest::TransactionState { until, .. } => {
            let timeline = pg_catalog::current_timeline(project).await?;
            (
                json!({ "late": is_statement_expired(request, until), "running": false, "timeline": timeline }),
                false,
            )
        }
        SqlRequest::Marker { object } => match project.lock_state().markers.get(object) {
            Some(comment) => (comment.clone().into(), false),
            None if request.options().postgres => return Ok(None),
            None => (Value::Null, false),
        },
        SqlRequest::EndSessions { .. } if request.options().postgres => return Ok(None),
        // Every statement of a simulated database is over when it is answered.
        SqlRequest::EndSessions { .. } => (Value::Null, false),
        SqlRequest::RemoveMarker { object } => match project.lock_state().markers.remove(object) {
            None if request.options().postgres => return Ok(None),
            _ => (Value::Null, false),
        },
        SqlRequest::Health => (read_health(request, project).await?, false),
        SqlRequest::Settings { names } => (read_settings(project, names).await?, false),
    };
    let response = ApiResponse::json(201, statements::wrap_answer_row(&value));
    Ok(Some(if wrote { response } else { response.without_effect() }))
}

async fn query_rows(project: &FakeProject, sql: &str) -> Result<Rows, ApiResponse> {
    if let Some(row) = pg_catalog::answer_server_query(sql, project).await? {
        return Ok(Rows { columns: row.keys().cloned().collect(), rows: vec![row] });
    }
    let reading = pg_catalog::inline_catalog_tables(sql, project).await?;
    project.open_simulated_database()?.query(&reading, STATEMENT_TIMEOUT).await.map_err(|e| {
        if sql_error::is_write_refusal(&e) {
            sql_error::write_refused_response("a statement that writes")
        } else {
            sql_error::translate_database_error(e)
        }
    })
}

/// Renders rows as strings, with types inferred from their values.
fn render_typed_rows(rows: &Rows) -> Value {
    let kind = |column: &String| {
        let mut values = rows.rows.iter().map(|row| &row[column]).filter(|v| !v.is_null()).peekable();
        let has_any = values.peek().is_some();
        let all =
            values.fold((true, true), |(ints, numbers), v| (ints && v.is_i64(), numbers && v.is_number()));
        match (has_any, all) {
            (true, (true, _)) => INT8_OID,
            (true, (_, true)) => FLOAT8_OID,
            _ => TEXT_OID,
        }
    };
    let types: Vec<Value> = rows.columns.iter().map(|column| json!([kind(column), null, ","])).collect();
    let text = |value: &Value| match value {
        Value::Null => Value::Null,
        Value::String(text) => text.clone().into(),
        other => other.to_string().into(),
    };
    let row = |row: &Map<String, Value>| rows.columns.iter().map(|column| text(&row[column])).collect();
    let names = &rows.columns;
    let rows: Vec<Value> = rows.rows.iter().map(row).collect();
    json!({ "columns": names, "types": types, "rows": rows })
}

/// Executes a change and leaves its mark; an expired or repeated one is refused.
async fn execute_with_mark(
    request: &RoutedRequest,
    project: &FakeProject,
    sql: &str,
    (object, comment): (u32, &str),
    until: &str,
) -> Result<StatementResult, ApiResponse> {
    if is_statement_expired(request, until) {
        return Err(sql_error::failed_query_response(&format!("ERROR:  P0001: {}", statements::TOO_LATE)));
    }
    if project.lock_state().markers.contains_key(&object) {
        let message = format!("ERROR:  23505: large object {object} already exists");
        return Err(sql_error::failed_query_response(&message));
    }
    let done = project.open_simulated_database()?.execute(sql, STATEMENT_TIMEOUT, &request.fresh_key()).await;
    let rows_affected = done.map_err(sql_error::translate_database_error)?.rows_affected;
    project.lock_state().markers.insert(object, format!("{comment}{rows_affected}"));
    Ok((Value::Null, true))
}

fn is_statement_expired(request: &RoutedRequest, until: &str) -> bool {
    Moment::parse(until).is_ok_and(|until| request.now() > until)
}

async fn read_health(request: &RoutedRequest, project: &FakeProject) -> Result<Value, ApiResponse> {
    let health =
        project.open_simulated_database()?.health().await.map_err(sql_error::translate_database_error)?;
    Ok(json!({
        "version": format!("{}.4", request.platform.profile.postgres_engine()),
        "in_recovery": health.in_recovery,
        "bytes": health.bytes,
        "connections": health.connections.unwrap_or(1),
    }))
}

async fn read_settings(project: &FakeProject, names: &[String]) -> Result<Value, ApiResponse> {
    let sim = project.open_simulated_database()?;
    let mut known = Map::new();
    for name in names {
        // An unknown setting is left out, as `pg_settings` does.
        let Ok(found) = sim.settings()?.get(std::slice::from_ref(name)).await else { continue };
        for setting in found {
            let text = match &setting.effective {
                Value::String(text) => text.clone(),
                Value::Bool(yes) => if *yes { "on" } else { "off" }.into(),
                other => other.to_string(),
            };
            known
                .insert(setting.name, json!({ "setting": text, "pending_restart": setting.pending_restart }));
        }
    }
    Ok(Value::Object(known))
}
