//! `…/database/query`: a script of statements in, the rows of the last one out.

use super::{
    asked,
    backups::Nowhere,
    call::{Answer, Call, Outcome},
    catalogue,
    project::Project,
};
use crate::{
    base::moment::Span,
    provider::{Code, Error, supabase::wording::Asked},
};
use serde_json::{Map, Value};

/// How long a statement may take.
pub(super) const TIMEOUT: Span = Span::seconds(58);

/// Runs a script.
pub(super) async fn run(call: &Call) -> Outcome {
    let read_only = call.flag("read_only")?;
    answer(call, read_only).await
}

/// Runs a script that only reads.
pub(super) async fn read(call: &Call) -> Outcome {
    answer(call, true).await
}

async fn answer(call: &Call, read_only: bool) -> Outcome {
    let project = call.project()?;
    let script = call.text("query")?;
    if script.is_empty() {
        return Err(Answer::message(400, "query: String must contain at least 1 character(s)"));
    }
    project.demand_usable(&call.platform).await?;
    if project.behind().await.answers() {
        return really(call, &project, script, read_only).await;
    }
    if let Some(asked) = Asked::read(script) {
        match asked::answer(call, &project, &asked, read_only).await {
            Ok(Some(answer)) => return Ok(answer),
            Err(refused) if !call.platform.options.postgres => return Err(refused),
            _ => return really(call, &project, script, read_only).await,
        }
    }
    let mut rows = Vec::new();
    let mut wrote = false;
    for statement in statements(script).filter(|s| !is_about_the_session(s)) {
        let done = match one(call, &project, statement, read_only).await {
            // What the simulator's own SQL does not know is asked of a real one.
            Err(_) if call.platform.options.postgres && !wrote => {
                return really(call, &project, script, read_only).await;
            }
            done => done?,
        };
        rows = done.0;
        wrote |= done.1;
    }
    Ok(rows_of(rows, wrote))
}

/// Runs a script in the real database.
async fn really(call: &Call, project: &Project, script: &str, read_only: bool) -> Outcome {
    let ran = project.behind().await.run(project, script, read_only, &call.fresh_key()).await;
    let ran = ran.map_err(|e| Answer::message(400, format!("Failed to run sql query: {}", e.message)))?;
    Ok(rows_of(ran.rows, ran.wrote))
}

fn rows_of(rows: Vec<Map<String, Value>>, wrote: bool) -> Answer {
    let answer = Answer::json(201, rows.into_iter().map(Value::Object).collect());
    if wrote { answer } else { answer.looked() }
}

/// Runs a statement, and returns its rows and whether it wrote.
async fn one(
    call: &Call,
    project: &Project,
    sql: &str,
    read_only: bool,
) -> Result<(Vec<Map<String, Value>>, bool), Answer> {
    let database = project.database()?;
    if let Some(row) = catalogue::of_server(sql, project).await? {
        return Ok((vec![row], false));
    }
    let reading = catalogue::within(sql, project).await?;
    match database.sql()?.query(&reading, TIMEOUT).await {
        Ok(rows) => return Ok((rows.rows, false)),
        Err(e) if !writes(&e) => return Err(failed(e)),
        Err(_) if read_only => {
            let word = sql.split_whitespace().next().unwrap_or_default().to_uppercase();
            return Err(only_reads(&word));
        }
        Err(_) => {}
    }
    let done = database.sql()?.execute(sql, TIMEOUT, &call.fresh_key(), &Nowhere).await;
    done.map(|_| (Vec::new(), true)).map_err(failed)
}

/// Returns the refusal of what writes where nothing may.
pub(super) fn only_reads(word: &str) -> Answer {
    let said = format!("ERROR:  25006: cannot execute {word} in a read-only transaction");
    Answer::message(400, format!("Failed to run sql query: {said}"))
}

/// Returns whether a query was refused because it writes.
pub(super) fn writes(e: &Error) -> bool {
    e.code == Code::Sql && e.message.starts_with("the statement writes")
}

fn is_foreign(said: &str) -> bool {
    ["syntax error", "no such function", "unrecognized token"].iter().any(|words| said.contains(words))
}

/// Returns what a database said, as the platform says it.
pub(super) fn failed(e: Error) -> Answer {
    let said = e.message.trim_start_matches("the database refused the statement: ");
    let said = match (said.strip_prefix("no such table: "), said.strip_prefix("no such column: ")) {
        (Some(table), _) => format!("42P01: relation \"{table}\" does not exist"),
        (_, Some(column)) => format!("42703: column \"{column}\" does not exist"),
        _ if is_foreign(said) => {
            format!(
                "42601: {said}\nHINT:  a simulated database speaks SQLite: start the server with `--postgres`"
            )
        }
        _ => format!("42601: {said}"),
    };
    let message = format!("Failed to run sql query: ERROR:  {said}");
    match e.code {
        Code::Unavailable | Code::Internal | Code::Tool => Answer::from(e),
        Code::Timeout => {
            let said = "ERROR:  57014: canceling statement due to statement timeout";
            Answer::message(400, format!("Failed to run sql query: {said}"))
        }
        _ => Answer::message(400, message),
    }
}

/// Returns whether a statement is about the session or its transaction: here every statement has its own.
fn is_about_the_session(sql: &str) -> bool {
    let word = sql.split_whitespace().next().unwrap_or_default().to_lowercase();
    ["begin", "commit", "start", "set", "reset", "end"].contains(&word.as_str())
}

/// Splits a script at the semicolons that are in no text, name or comment.
fn statements(script: &str) -> impl Iterator<Item = &str> {
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
        let parts: Vec<&str> = statements(script).collect();
        assert_eq!(parts, ["select ';' as a", "-- not; here\nselect \"b;\""]);
    }
}
