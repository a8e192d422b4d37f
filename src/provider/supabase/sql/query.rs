//! Querying rows, with the types of their values.
//!
//! The statement is asked inside two of ours: once for the names of its columns, without being run; then for its rows
//! as text, with the types beside them, which are read as those of every other provider
//! (`provider/sql/values.rs`). What cannot stand inside another statement (`show`, `explain`) is sent as it is, and its
//! values are what the API made of them.

use super::statements::{self, ROWS_MAX, SEARCH_PATH_PREFIX};
use crate::base::lock::lock_unpoisoned;
use crate::{
    base::moment::Span,
    provider::{
        Code, Error, Result,
        model::Rows,
        sql::{
            statement,
            values::{self, ScalarType},
        },
        supabase::{project::Supabase, transport::ApiClient},
    },
};
use serde::Deserialize;
use serde_json::Map;
use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard},
};

/// How many shapes are remembered.
const SHAPES_MAX: usize = 1000;

/// The shapes of statements that were queried before, so that a wait does not ask for the shape at every poll. The rows
/// tell whether it still holds.
static SHAPE_CACHE: LazyLock<Mutex<HashMap<(String, String), QueryShape>>> = LazyLock::new(Mutex::default);

#[derive(Debug, Clone)]
struct QueryShape {
    columns: Vec<String>,
    before: &'static str,
}

#[derive(Deserialize)]
struct RowsAnswer {
    columns: Vec<String>,
    /// Of every column the type's oid, its element's and what stands between elements.
    types: Vec<(u32, Option<u32>, Option<char>)>,
    rows: Vec<Vec<Option<String>>>,
}

/// Returns the rows of a statement that cannot change anything.
///
/// # Errors
/// What the database says; [`Code::Invalid`] for two columns of one name, [`Code::Refused`] for too many rows.
pub(super) async fn fetch_rows(project: &Supabase, sql: &str, timeout: Span) -> Result<Rows> {
    statement::check_query(sql)?;
    let sql = statement::require_single_statement(sql)?;
    let api = project.api.with_timeout(timeout);
    if !["SELECT", "VALUES", "TABLE", "WITH", "("].contains(&statement::first_word(sql).as_str()) {
        return fetch_untyped_rows(project, &api, sql).await;
    }
    let place = (project.reference.clone(), sql.to_owned());
    let known = lock_shape_cache().get(&place).cloned();
    if let Some(shape) = known {
        match fetch_answer(project, &api, sql, &shape).await {
            Ok(answer) if answer.columns == shape.columns => return decode_rows(answer),
            // A statement whose shape has changed may fail with the old one.
            Ok(_) => {}
            Err(e) if e.code == Code::Sql => {}
            Err(e) => return Err(e),
        }
    }
    let shape = fetch_query_shape(project, &api, sql).await?;
    let answer = fetch_answer(project, &api, sql, &shape).await?;
    let mut shapes = lock_shape_cache();
    if shapes.len() >= SHAPES_MAX {
        shapes.clear();
    }
    shapes.insert(place, shape);
    decode_rows(answer)
}

fn lock_shape_cache() -> MutexGuard<'static, HashMap<(String, String), QueryShape>> {
    // Consistent after every statement, so a panic elsewhere does no harm.
    lock_unpoisoned(&SHAPE_CACHE)
}

async fn fetch_answer(
    project: &Supabase,
    api: &ApiClient,
    sql: &str,
    shape: &QueryShape,
) -> Result<RowsAnswer> {
    let statement = format!("{}{}", shape.before, statements::rows_sql(sql, &shape.columns));
    project.query_decoded_answer(api, &statement).await
}

fn decode_rows(answer: RowsAnswer) -> Result<Rows> {
    if answer.rows.len() > ROWS_MAX {
        return Err(too_many_rows_error());
    }
    let RowsAnswer { columns, types, rows } = answer;
    let readings: Vec<ScalarType> = types.iter().map(column_type).collect();
    let object = |row: Vec<Option<String>>| {
        let values =
            row.into_iter().zip(&readings).map(|(text, of)| values::parse_value(text.as_deref(), of));
        columns.iter().cloned().zip(values).collect::<Map<_, _>>()
    };
    Ok(Rows { rows: rows.into_iter().map(object).collect(), columns })
}

/// Returns the columns of a statement, and what has to stand before it.
///
/// The read-only role may have no search path ("all entity references must be schema qualified"). A name that is not
/// found is looked for once more along the path of everybody else.
async fn fetch_query_shape(project: &Supabase, api: &ApiClient, sql: &str) -> Result<QueryShape> {
    let ask = statements::column_names_sql(sql);
    let (columns, before): (Vec<String>, _) = match project.query_decoded_answer(api, &ask).await {
        Err(error) if error.code == Code::Sql && is_unknown_name(&error) => {
            let again = project.query_decoded_answer(api, &format!("{SEARCH_PATH_PREFIX}{ask}")).await;
            (again.map_err(|_| error)?, SEARCH_PATH_PREFIX)
        }
        columns => (columns?, ""),
    };
    match columns.iter().enumerate().find(|(n, name)| columns[..*n].contains(name)) {
        Some(twice) => Err(Error::new(Code::Invalid, format!("two columns are called `{}`", twice.1))
            .with_hint("give one of them another name with `as`")),
        None => Ok(QueryShape { columns, before }),
    }
}

fn is_unknown_name(error: &Error) -> bool {
    ["42P01", "42883", "42704"].iter().any(|s| error.message.ends_with(&format!("(SQLSTATE {s})")))
}

/// Returns how the text of a type is read. The numbers are PostgreSQL's oids, which never change (`pg_type.dat`).
fn column_type((base, element, between): &(u32, Option<u32>, Option<char>)) -> ScalarType {
    match (*base, element) {
        (22 | 30, _) => ScalarType::Vector(Box::new(ScalarType::Integer)),
        (_, Some(element)) => ScalarType::Array(Box::new(scalar_from_oid(*element)), between.unwrap_or(',')),
        (base, None) => scalar_from_oid(base),
    }
}

fn scalar_from_oid(oid: u32) -> ScalarType {
    match oid {
        20 | 21 | 23 | 26 | 1700 => ScalarType::Integer,
        700 | 701 => ScalarType::Float,
        16 => ScalarType::Bool,
        1184 => ScalarType::Moment,
        114 | 3802 => ScalarType::Json,
        _ => ScalarType::Text,
    }
}

/// Sends a statement unwrapped. Column order and types are lost in the API's JSON.
async fn fetch_untyped_rows(project: &Supabase, api: &ApiClient, sql: &str) -> Result<Rows> {
    let rows = project.query_read_only(api, sql).await?;
    if rows.len() > ROWS_MAX {
        return Err(too_many_rows_error());
    }
    let columns = rows.first().map(|row| row.keys().cloned().collect()).unwrap_or_default();
    Ok(Rows { columns, rows })
}

fn too_many_rows_error() -> Error {
    Error::new(Code::Refused, format!("the query gives more than {ROWS_MAX} rows"))
        .with_hint("add a `limit`, or count and sum in the database")
}
