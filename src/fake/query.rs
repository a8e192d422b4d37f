//! `…/database/query`: runs a script, and returns the rows of its last statement.

use super::{
    asked,
    backups::NullRecorder,
    call::{ApiRequest, ApiResponse, ApiResult},
    catalogue,
    project::Project,
};
use crate::{
    base::moment::Span,
    provider::{Code, Error, supabase::statements::SqlRequest},
};
use serde_json::{Map, Value};

/// The platform's time limit for a statement.
pub(super) const STATEMENT_TIMEOUT: Span = Span::from_secs(58);

/// Runs a script.
pub(super) async fn run_query(call: &ApiRequest) -> ApiResult {
    let read_only = call.flag_or_false("read_only")?;
    answer_query(call, read_only).await
}

/// Runs a script that only reads.
pub(super) async fn run_read_only_query(call: &ApiRequest) -> ApiResult {
    answer_query(call, true).await
}

async fn answer_query(call: &ApiRequest, read_only: bool) -> ApiResult {
    let project = call.find_project()?;
    let script = call.required_text("query")?;
    if script.is_empty() {
        return Err(ApiResponse::error(400, "query: String must contain at least 1 character(s)"));
    }
    project.require_usable(&call.platform).await?;
    if project.lock_real_database().await.is_authoritative() {
        return run_on_real_database(call, &project, script, read_only).await;
    }
    if let Some(asked) = SqlRequest::from_sql(script) {
        match asked::answer_statement(call, &project, &asked, read_only).await {
            Ok(Some(answer)) => return Ok(answer),
            Err(refused) if !call.platform.options.postgres => return Err(refused),
            _ => return run_on_real_database(call, &project, script, read_only).await,
        }
    }
    let mut rows = Vec::new();
    let mut wrote = false;
    for statement in split_statements(script).filter(|s| !is_session_statement(s)) {
        let done = match run_statement(call, &project, statement, read_only).await {
            // A statement that the simulator's SQL cannot run goes to the real database.
            Err(_) if call.platform.options.postgres && !wrote => {
                return run_on_real_database(call, &project, script, read_only).await;
            }
            done => done?,
        };
        rows = done.0;
        wrote |= done.1;
    }
    Ok(rows_response(rows, wrote))
}

/// Runs a script in the real database.
async fn run_on_real_database(
    call: &ApiRequest,
    project: &Project,
    script: &str,
    read_only: bool,
) -> ApiResult {
    let ran =
        project.lock_real_database().await.run_script(project, script, read_only, &call.fresh_key()).await;
    let ran = ran.map_err(|e| ApiResponse::error(400, format!("Failed to run sql query: {}", e.message)))?;
    Ok(rows_response(ran.rows, ran.wrote))
}

fn rows_response(rows: Vec<Map<String, Value>>, wrote: bool) -> ApiResponse {
    let answer = ApiResponse::json(201, rows.into_iter().map(Value::Object).collect());
    if wrote { answer } else { answer.without_effect() }
}

/// Runs a statement, and returns its rows and whether it wrote.
async fn run_statement(
    call: &ApiRequest,
    project: &Project,
    sql: &str,
    read_only: bool,
) -> Result<(Vec<Map<String, Value>>, bool), ApiResponse> {
    let database = project.as_provider()?;
    if let Some(row) = catalogue::answer_server_query(sql, project).await? {
        return Ok((vec![row], false));
    }
    let reading = catalogue::inline_catalog_tables(sql, project).await?;
    match database.sql()?.query(&reading, STATEMENT_TIMEOUT).await {
        Ok(rows) => return Ok((rows.rows, false)),
        Err(e) if !is_write_refusal(&e) => return Err(translate_error(e)),
        Err(_) if read_only => {
            let word = sql.split_whitespace().next().unwrap_or_default().to_uppercase();
            return Err(refuse_write(&word));
        }
        Err(_) => {}
    }
    let done = database.sql()?.execute(sql, STATEMENT_TIMEOUT, &call.fresh_key(), &NullRecorder).await;
    done.map(|_| (Vec::new(), true)).map_err(translate_error)
}

/// Returns the error for a write in a read-only transaction.
pub(super) fn refuse_write(word: &str) -> ApiResponse {
    let said = format!("ERROR:  25006: cannot execute {word} in a read-only transaction");
    ApiResponse::error(400, format!("Failed to run sql query: {said}"))
}

/// Returns whether a query was refused because it writes.
pub(super) fn is_write_refusal(e: &Error) -> bool {
    e.code == Code::Sql && e.message.starts_with("the statement writes")
}

fn is_unknown_sql(said: &str) -> bool {
    ["syntax error", "no such function", "unrecognized token"].iter().any(|words| said.contains(words))
}

/// Converts a database error to the platform's wording.
pub(super) fn translate_error(e: Error) -> ApiResponse {
    let said = e.message.trim_start_matches("the database refused the statement: ");
    let said = match (said.strip_prefix("no such table: "), said.strip_prefix("no such column: ")) {
        (Some(table), _) => format!("42P01: relation \"{table}\" does not exist"),
        (_, Some(column)) => format!("42703: column \"{column}\" does not exist"),
        _ if is_unknown_sql(said) => {
            format!(
                "42601: {said}\nHINT:  a simulated database speaks SQLite: start the server with `--postgres`"
            )
        }
        _ => format!("42601: {said}"),
    };
    let message = format!("Failed to run sql query: ERROR:  {said}");
    match e.code {
        Code::Unavailable | Code::Internal | Code::Tool => ApiResponse::from(e),
        Code::Timeout => {
            let said = "ERROR:  57014: canceling statement due to statement timeout";
            ApiResponse::error(400, format!("Failed to run sql query: {said}"))
        }
        _ => ApiResponse::error(400, message),
    }
}

/// Returns whether a statement controls the session or transaction.
/// Those are skipped: every statement has a session of its own.
fn is_session_statement(sql: &str) -> bool {
    let word = sql.split_whitespace().next().unwrap_or_default().to_lowercase();
    ["begin", "commit", "start", "set", "reset", "end"].contains(&word.as_str())
}

/// Splits a script at the semicolons outside literals, quoted names and comments.
fn split_statements(script: &str) -> impl Iterator<Item = &str> {
    let mut ends = Vec::new();
    let mut inside: Option<char> = None;
    let mut before = ' ';
    for (at, c) in script.char_indices() {
        match inside {
            None => match c {
                '\'' | '"' => inside = Some(c),
                '-' if before == '-' => inside = Some('\n'),
                ';' => ends.push(at),
                _ => {}
            },
            Some(end) if c == end => inside = None,
            Some(_) => {}
        }
        before = c;
    }
    ends.push(script.len());
    let mut from = 0;
    let parts = ends.into_iter().map(move |end| {
        let part = &script[from..end];
        from = (end + 1).min(script.len());
        part.trim()
    });
    parts.filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_split_where_its_statements_end() {
        let script = "select ';' as a; -- not; here\nselect \"b;\" ;;";
        let parts: Vec<&str> = split_statements(script).collect();
        assert_eq!(parts, ["select ';' as a", "-- not; here\nselect \"b;\""]);
    }
}
