//! `…/database/query`: runs a script, and returns the rows of its last statement.

use super::{
    client_statements, pg_catalog,
    profile::STATEMENT_TIMEOUT,
    project::FakeProject,
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
    sql_error,
};
use crate::provider::supabase::statements::SqlRequest;
use serde_json::{Map, Value};

/// Runs a script.
pub(super) async fn run_query(request: &RoutedRequest) -> ApiResult {
    let read_only = request.flag_or_false("read_only")?;
    answer_query(request, read_only).await
}

/// Runs a script that only reads.
pub(super) async fn run_read_only_query(request: &RoutedRequest) -> ApiResult {
    answer_query(request, true).await
}

async fn answer_query(request: &RoutedRequest, read_only: bool) -> ApiResult {
    let project = request.find_project()?;
    let script = request.required_text("query")?;
    if script.is_empty() {
        return Err(ApiResponse::error(400, "query: String must contain at least 1 character(s)"));
    }
    project.require_accepting_connections().await?;
    if project.lock_real_database().await.answers_for_project() {
        return run_on_real_database(request, &project, script, read_only).await;
    }
    if let Some(statement) = SqlRequest::from_sql(script) {
        match client_statements::answer_client_statement(request, &project, &statement, read_only).await {
            Ok(Some(response)) => return Ok(response),
            Err(refused) if !request.options().postgres => return Err(refused),
            _ => return run_on_real_database(request, &project, script, read_only).await,
        }
    }
    let mut rows = Vec::new();
    let mut wrote = false;
    // One statement alone is a transaction of its own or none; several are one transaction together.
    let is_alone = split_statements(script).count() == 1;
    for statement in split_statements(script).filter(|s| !is_session_statement(s)) {
        let done = match run_statement(request, &project, statement, read_only, is_alone).await {
            // A statement that the simulator's SQL cannot run goes to the real database.
            Err(_) if request.options().postgres && !wrote => {
                return run_on_real_database(request, &project, script, read_only).await;
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
    request: &RoutedRequest,
    project: &FakeProject,
    script: &str,
    read_only: bool,
) -> ApiResult {
    let world = project.open_simulated_database()?;
    let ran =
        project.lock_real_database().await.run_script(&world, script, read_only, &request.fresh_key()).await;
    let ran = ran.map_err(|e| sql_error::failed_query_response(&e.message))?;
    Ok(rows_response(ran.rows, ran.wrote))
}

fn rows_response(rows: Vec<Map<String, Value>>, wrote: bool) -> ApiResponse {
    let response = ApiResponse::json(201, rows.into_iter().map(Value::Object).collect());
    if wrote { response } else { response.without_effect() }
}

/// Runs a statement, and returns its rows and whether it wrote.
async fn run_statement(
    request: &RoutedRequest,
    project: &FakeProject,
    sql: &str,
    read_only: bool,
    is_alone: bool,
) -> Result<(Vec<Map<String, Value>>, bool), ApiResponse> {
    let database = project.as_provider()?;
    if let Some(row) = pg_catalog::answer_server_query(sql, project).await? {
        return Ok((vec![row], false));
    }
    let reading = pg_catalog::inline_catalog_tables(sql, project).await?;
    match database.sql()?.query(&reading, STATEMENT_TIMEOUT).await {
        Ok(rows) => return Ok((rows.rows, false)),
        Err(e) if !sql_error::is_write_refusal(&e) => return Err(sql_error::translate_database_error(e)),
        Err(_) if read_only => {
            let word = sql.split_whitespace().next().unwrap_or_default().to_uppercase();
            return Err(sql_error::write_refused_response(&word));
        }
        Err(_) => {}
    }
    let done = if is_alone {
        database.sql()?.execute_outside_transaction(sql, STATEMENT_TIMEOUT).await
    } else {
        database.sql()?.execute(sql, STATEMENT_TIMEOUT, &request.fresh_key()).await
    };
    done.map(|_| (Vec::new(), true)).map_err(sql_error::translate_database_error)
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
