//! A query, and the types of its values.
//!
//! The statement is asked inside two of ours: once for the names of its columns, without being run; then for its rows
//! as text, with the types beside them, which are read as those of every other provider
//! (`provider/typed.rs`). What cannot stand inside another statement (`show`, `explain`) is sent as it is, and its
//! values are what the API made of them.

use super::{
    Supabase,
    wording::{self, ROWS_MAX},
};
use crate::{
    base::moment::Span,
    provider::{
        Code, Error, Result,
        model::Rows,
        statement,
        supabase::transport::Api,
        typed::{self, Of},
    },
};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

/// What stands before a statement where the platform's role has no search path; theirs for everybody else.
pub(super) const SEARCH_PATH: &str = "set local search_path = \"$user\", public, extensions; ";

/// How many shapes are remembered.
const SHAPES_MAX: usize = 1000;

/// The columns that a statement was seen to have, and what had to stand before it. It is asked for its shape once and
/// not at every look of a wait; its rows say whether that still holds.
static SHAPES: LazyLock<Mutex<HashMap<(String, String), Shape>>> = LazyLock::new(Mutex::default);

#[derive(Debug, Clone)]
struct Shape {
    columns: Vec<String>,
    before: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    columns: Vec<String>,
    /// Of every column the type's oid, its element's and what stands between elements.
    types: Vec<(u32, Option<u32>, Option<char>)>,
    rows: Vec<Vec<Option<String>>>,
}

/// Returns the rows of a statement that cannot change anything.
///
/// # Errors
/// What the database says; [`Code::Invalid`] for two columns of one name, [`Code::Refused`] for too many rows.
pub(super) async fn rows(project: &Supabase, sql: &str, timeout: Span) -> Result<Rows> {
    statement::check_query(sql)?;
    let sql = statement::single(sql)?;
    let api = project.api.within(timeout);
    if !["SELECT", "VALUES", "TABLE", "WITH", "("].contains(&statement::first_word(sql).as_str()) {
        return as_they_come(project, &api, sql).await;
    }
    let place = (project.reference.clone(), sql.to_owned());
    let known = shapes().get(&place).cloned();
    if let Some(shape) = known {
        match asked(project, &api, sql, &shape).await {
            Ok(answer) if answer.columns == shape.columns => return read(answer),
            // What has another shape now may fail by its old one.
            Ok(_) => {}
            Err(e) if e.code == Code::Sql => {}
            Err(e) => return Err(e),
        }
    }
    let shape = shape(project, &api, sql).await?;
    let answer = asked(project, &api, sql, &shape).await?;
    let mut shapes = shapes();
    if shapes.len() >= SHAPES_MAX {
        shapes.clear();
    }
    shapes.insert(place, shape);
    read(answer)
}

fn shapes() -> MutexGuard<'static, HashMap<(String, String), Shape>> {
    // Whole after every statement, whoever panicked.
    SHAPES.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn asked(project: &Supabase, api: &Api, sql: &str, shape: &Shape) -> Result<Answer> {
    let statement = format!("{}{}", shape.before, wording::rows(sql, &shape.columns));
    let said = project.answer_within(api, &statement).await?;
    serde_json::from_value(said)
        .map_err(|e| Error::new(Code::Internal, format!("the answer to a query cannot be read: {e}")))
}

fn read(answer: Answer) -> Result<Rows> {
    if answer.rows.len() > ROWS_MAX {
        return Err(too_many());
    }
    let Answer { columns, types, rows } = answer;
    let readings: Vec<Of> = types.iter().map(reading).collect();
    let object = |row: Vec<Option<String>>| {
        let values = row.into_iter().zip(&readings).map(|(text, of)| typed::value(text.as_deref(), of));
        columns.iter().cloned().zip(values).collect::<Map<_, _>>()
    };
    Ok(Rows { rows: rows.into_iter().map(object).collect(), columns })
}

/// Returns the columns of a statement, and what has to stand before it.
///
/// The read-only role may have no search path ("all entity references must be schema qualified"). A name that is not
/// found is looked for once more along the path of everybody else.
async fn shape(project: &Supabase, api: &Api, sql: &str) -> Result<Shape> {
    let ask = wording::shape(sql);
    let (said, before) = match project.answer_within(api, &ask).await {
        Err(error) if error.code == Code::Sql && is_unknown_name(&error) => {
            let again = project.answer_within(api, &format!("{SEARCH_PATH}{ask}")).await;
            (again.map_err(|_| error)?, SEARCH_PATH)
        }
        said => (said?, ""),
    };
    let columns: Vec<String> = serde_json::from_value(said).map_err(|e| {
        Error::new(Code::Internal, format!("the names of a query's columns cannot be read: {e}"))
    })?;
    match columns.iter().enumerate().find(|(n, name)| columns[..*n].contains(name)) {
        Some(twice) => Err(Error::new(Code::Invalid, format!("two columns are called `{}`", twice.1))
            .hint("give one of them another name with `as`")),
        None => Ok(Shape { columns, before }),
    }
}

fn is_unknown_name(error: &Error) -> bool {
    ["42P01", "42883", "42704"].iter().any(|s| error.message.ends_with(&format!("(SQLSTATE {s})")))
}

/// Returns how the text of a type is read. The numbers are PostgreSQL's, fixed since ever (`pg_type.dat`).
fn reading((base, element, between): &(u32, Option<u32>, Option<char>)) -> Of {
    match (*base, element) {
        (22 | 30, _) => Of::Vector(Box::new(Of::Integer)),
        (_, Some(element)) => Of::Array(Box::new(scalar(*element)), between.unwrap_or(',')),
        (base, None) => scalar(base),
    }
}

fn scalar(oid: u32) -> Of {
    match oid {
        20 | 21 | 23 | 26 | 1700 => Of::Integer,
        700 | 701 => Of::Float,
        16 => Of::Bool,
        1184 => Of::Moment,
        114 | 3802 => Of::Json,
        _ => Of::Text,
    }
}

/// Sends a statement as it is. The order of columns is lost on the way, and what types there were.
async fn as_they_come(project: &Supabase, api: &Api, sql: &str) -> Result<Rows> {
    let said = project.look(api, sql).await?;
    let rows: Vec<Map<String, Value>> = match said {
        Value::Array(rows) => rows.into_iter().filter_map(|row| row.as_object().cloned()).collect(),
        _ => Vec::new(),
    };
    if rows.len() > ROWS_MAX {
        return Err(too_many());
    }
    let columns = rows.first().map(|row| row.keys().cloned().collect()).unwrap_or_default();
    Ok(Rows { columns, rows })
}

fn too_many() -> Error {
    Error::new(Code::Refused, format!("the query gives more than {ROWS_MAX} rows"))
        .hint("add a `limit`, or count and sum in the database")
}
