//! A query, and the types of its values.
//!
//! The statement is asked twice, inside one of ours: first for the names of its columns, without being run; then for
//! its rows as text, with the types beside them, which are read as those of every other provider
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

/// What stands before a statement where the platform's role has no search path; theirs for everybody else.
pub(super) const SEARCH_PATH: &str = "set local search_path = \"$user\", public, extensions; ";

#[derive(Deserialize)]
struct Answer {
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
    let (columns, prefix) = columns(project, &api, sql).await?;
    if let Some(twice) = columns.iter().enumerate().find(|(n, name)| columns[..*n].contains(name)) {
        return Err(Error::new(Code::Invalid, format!("two columns are called `{}`", twice.1))
            .hint("give one of them another name with `as`"));
    }
    let said = project.answer_within(&api, &format!("{prefix}{}", wording::rows(sql, &columns))).await?;
    let answer: Answer = serde_json::from_value(said)
        .map_err(|e| Error::new(Code::Internal, format!("the answer to a query cannot be read: {e}")))?;
    if answer.rows.len() > ROWS_MAX {
        return Err(too_many());
    }
    let readings: Vec<Of> = answer.types.iter().map(reading).collect();
    let object = |row: Vec<Option<String>>| {
        let values = row.into_iter().zip(&readings).map(|(text, of)| typed::value(text.as_deref(), of));
        columns.iter().cloned().zip(values).collect::<Map<_, _>>()
    };
    Ok(Rows { rows: answer.rows.into_iter().map(object).collect(), columns })
}

/// Returns the names of the columns in their order, and what has to stand before the statement.
///
/// The read-only role may have no search path ("all entity references must be schema qualified"). A name that is not
/// found is looked for once more along the path of everybody else.
async fn columns(project: &Supabase, api: &Api, sql: &str) -> Result<(Vec<String>, &'static str)> {
    let shape = wording::shape(sql);
    let error = match project.answer_within(api, &shape).await {
        Ok(said) => return names(said).map(|names| (names, "")),
        Err(error) if error.code == Code::Sql && is_unknown_name(&error) => error,
        Err(error) => return Err(error),
    };
    match project.answer_within(api, &format!("{SEARCH_PATH}{shape}")).await {
        Ok(said) => names(said).map(|names| (names, SEARCH_PATH)),
        Err(_) => Err(error),
    }
}

fn is_unknown_name(error: &Error) -> bool {
    ["42P01", "42883", "42704"].iter().any(|s| error.message.ends_with(&format!("(SQLSTATE {s})")))
}

fn names(said: Value) -> Result<Vec<String>> {
    serde_json::from_value(said).map_err(|e| {
        Error::new(Code::Internal, format!("the names of a query's columns cannot be read: {e}"))
    })
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
