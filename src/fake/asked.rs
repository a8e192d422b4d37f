//! What our own client asks of a database beyond plain SQL, answered from the simulated world.
//!
//! The client's statements say what they are (`provider/supabase/sql/wording.rs`): the shape of a query, its rows with
//! their types, a change that leaves a mark. PostgreSQL would answer them as they are; the simulator's SQL could not.

use super::{
    backups::Nowhere,
    call::{Answer, Call},
    catalogue,
    project::Project,
    query,
};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Provider as _, Sql as _,
        model::Rows,
        supabase::wording::{self, Asked},
    },
};
use serde_json::{Map, Value, json};

/// How long after the clock was asked a change may begin.
const BEGINS_WITHIN: Span = Span::seconds(30);
/// The numbers of the types that a simulated value can have (`pg_type.dat`).
const INTEGER: u32 = 20;
const FLOAT: u32 = 701;
const TEXT: u32 = 25;

/// What an answer is, and whether anything was written for it.
type Answered = (Value, bool);

/// Returns the answer to a statement of our client; nothing where only the real database behind knows it.
pub(super) async fn answer(
    call: &Call,
    project: &Project,
    asked: &Asked,
    read_only: bool,
) -> Result<Option<Answer>, Answer> {
    let (value, wrote) = match asked {
        Asked::Shape { sql } => (json!(rows_of(project, sql).await?.columns), false),
        Asked::Rows { sql } => (typed(&rows_of(project, sql).await?), false),
        Asked::Clock => {
            let until = call.platform.now().plus(BEGINS_WITHIN);
            let timeline = catalogue::timeline(project).await?;
            (json!({ "until": until.to_string(), "timeline": timeline }), false)
        }
        Asked::Execute { .. } if read_only => return Err(query::only_reads("DO")),
        Asked::Execute { sql, object, comment, until, .. } => {
            execute(call, project, sql, (*object, comment), until).await?
        }
        Asked::Sight { until, .. } => {
            let timeline = catalogue::timeline(project).await?;
            (json!({ "late": is_over(call, until), "running": false, "timeline": timeline }), false)
        }
        Asked::Mark { object } => match project.notes().marks.get(object) {
            Some(comment) => (comment.clone().into(), false),
            None if call.platform.options.postgres => return Ok(None),
            None => (Value::Null, false),
        },
        Asked::Clear { object } => match project.notes().marks.remove(object) {
            None if call.platform.options.postgres => return Ok(None),
            _ => (Value::Null, false),
        },
        Asked::Health => (health(call, project).await?, false),
        Asked::Settings { names } => (settings(project, names).await?, false),
    };
    let answer = Answer::json(201, wording::row(&value));
    Ok(Some(if wrote { answer } else { answer.looked() }))
}

async fn rows_of(project: &Project, sql: &str) -> Result<Rows, Answer> {
    if let Some(row) = catalogue::of_server(sql, project).await? {
        return Ok(Rows { columns: row.keys().cloned().collect(), rows: vec![row] });
    }
    let reading = catalogue::within(sql, project).await?;
    project.sim()?.query(&reading, query::TIMEOUT).await.map_err(|e| {
        if query::writes(&e) { query::only_reads("a statement that writes") } else { query::failed(e) }
    })
}

/// Returns rows as text, with the types that their values show.
fn typed(rows: &Rows) -> Value {
    let kind = |column: &String| {
        let mut values = rows.rows.iter().map(|row| &row[column]).filter(|v| !v.is_null()).peekable();
        let has_any = values.peek().is_some();
        let all =
            values.fold((true, true), |(ints, numbers), v| (ints && v.is_i64(), numbers && v.is_number()));
        match (has_any, all) {
            (true, (true, _)) => INTEGER,
            (true, (_, true)) => FLOAT,
            _ => TEXT,
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

/// Runs a change and leaves its mark, both or neither.
async fn execute(
    call: &Call,
    project: &Project,
    sql: &str,
    (object, comment): (u32, &str),
    until: &str,
) -> Result<Answered, Answer> {
    if is_over(call, until) {
        let said = format!("ERROR:  P0001: {}", wording::TOO_LATE);
        return Err(Answer::message(400, format!("Failed to run sql query: {said}")));
    }
    if project.notes().marks.contains_key(&object) {
        let said = format!("ERROR:  23505: large object {object} already exists");
        return Err(Answer::message(400, format!("Failed to run sql query: {said}")));
    }
    let done = project.sim()?.execute(sql, query::TIMEOUT, &call.fresh_key(), &Nowhere).await;
    let touched = done.map_err(query::failed)?.rows_affected;
    project.notes().marks.insert(object, format!("{comment}{touched}"));
    Ok((Value::Null, true))
}

fn is_over(call: &Call, until: &str) -> bool {
    Moment::parse(until).is_ok_and(|until| call.platform.now() > until)
}

async fn health(call: &Call, project: &Project) -> Result<Value, Answer> {
    let health = project.sim()?.health().await.map_err(query::failed)?;
    Ok(json!({
        "version": format!("{}.4", call.platform.engine()),
        "in_recovery": health.in_recovery,
        "bytes": health.bytes,
        "connections": health.connections.unwrap_or(1),
    }))
}

async fn settings(project: &Project, names: &[String]) -> Result<Value, Answer> {
    let sim = project.sim()?;
    let mut known = Map::new();
    for name in names {
        // One that does not exist is left out, as from `pg_settings`.
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
