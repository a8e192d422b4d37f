//! The statements that are sent to a project's database, and what they ask, read back from their text.
//!
//! Each begins with a comment that names it: for people, in the database's log and statistics, and for the mock that
//! plays the database in a rehearsal. Writing and reading stand side by side.

use crate::{base::moment::Span, provider::sql::statement};
use serde_json::Value;

/// What a statement asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlRequest {
    /// The names of the columns of a statement, which is not run: a list of texts.
    Shape {
        /// The statement.
        sql: String,
    },
    /// The rows of a statement as text, and the names and types of its columns.
    Rows {
        /// The statement.
        sql: String,
    },
    /// Until when a transaction may start that is sent now, and the timeline.
    Clock,
    /// Runs a statement in a transaction that leaves a mark.
    Execute {
        /// The statement.
        sql: String,
        /// The lock that is held while it runs.
        lock: u32,
        /// The large object that is the mark.
        object: u32,
        /// The beginning of the mark's comment, which the number of rows follows.
        comment: String,
        /// When it starts at the latest.
        until: String,
    },
    /// Whether a transaction runs or may still start, and the timeline.
    TransactionState {
        /// The lock that it holds while it runs.
        lock: u32,
        /// When it starts at the latest.
        until: String,
    },
    /// The comment of a mark, or null.
    Marker {
        /// The large object.
        object: u32,
    },
    /// Ends the sessions in which a transaction runs.
    EndSessions {
        /// The lock that it holds while it runs.
        lock: u32,
    },
    /// Removes a mark, if it is there.
    RemoveMarker {
        /// The large object.
        object: u32,
    },
    /// The health of the database.
    Health,
    /// The effective values of these settings.
    Settings {
        /// Their names.
        names: Vec<String>,
    },
}

/// How long after it was sent a transaction may start.
const START_GRACE: &str = "30 seconds";
/// The class of our advisory locks: `fire` in ASCII.
const LOCK_CLASS: u32 = 0x6669_7265;
/// The error of a transaction that starts too late.
pub const TOO_LATE: &str = "redrill: this request arrived too late";
/// How many rows a query may give; one more is asked for.
pub(super) const ROWS_MAX: usize = 100_000;

/// The prefix for statements of the read-only role, which may have no search path of its own.
pub(super) const SEARCH_PATH_PREFIX: &str = "set local search_path = \"$user\", public, extensions; ";

/// Where the statement of somebody else begins and ends in ours.
const WRAPPER_START: &str = "with q as (";
const WRAPPER_END: &str = "\n) select ";
const TIMELINE_SQL: &str = "left(pg_walfile_name(pg_current_wal_lsn()), 8)";

fn comment_prefix(what: &str) -> String {
    format!("/* redrill: {what} */ ")
}

fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns a statement that answers with the names of the columns of `sql`, which is planned and not run: nothing is
/// joined on false.
pub(super) fn column_names_sql(sql: &str) -> String {
    format!(
        "{}{WRAPPER_START}{sql}{WRAPPER_END}(select coalesce(json_agg(o.k order by o.n), '[]') \
         from json_object_keys(row_to_json(redrill)) with ordinality as o(k, n))::text as answer \
         from (select q.* from (select 1) as one left join q on false) as redrill",
        comment_prefix("shape")
    )
}

/// Returns a statement that answers with the rows of `sql` as the types' own text, with the names and types of its
/// columns.
pub(super) fn rows_sql(sql: &str, columns: &[String]) -> String {
    let list = |one: &dyn Fn(String) -> String| {
        let column = |name: &String| one(format!("redrill.\"{}\"", name.replace('"', "\"\"")));
        columns.iter().map(column).collect::<Vec<_>>().join(", ")
    };
    let types = list(&|column| format!("pg_typeof({column})::oid"));
    // A row of nulls is null, for `is null` only; and `format` alone makes null an empty text.
    let texts = list(&|column| {
        format!("case num_nonnulls({column}) when 0 then null else format('%s', {column}) end")
    });
    // Each type is read through its domain, and an array through that of its elements.
    format!(
        "{}{WRAPPER_START}{sql}{WRAPPER_END}json_build_object('columns', (\
         select coalesce(json_agg(o.k order by o.n), '[]') \
         from (select q.* from (select 1) as one left join q on false) as redrill, \
             json_object_keys(row_to_json(redrill)) with ordinality as o(k, n)), \
         'types', (\
         select coalesce(json_agg(json_build_array(base.oid::int8, elem.oid::int8, elem.typdelim) order by u.n), '[]') \
         from (select array[{types}]::oid[] as oids \
             from (select q.* from (select 1) as one left join q on false) as redrill) as t \
         cross join unnest(t.oids) with ordinality as u(oid, n) \
         join pg_type as own on own.oid = u.oid \
         join pg_type as base on base.oid = case own.typtype when 'd' then own.typbasetype else own.oid end \
         left join pg_type as item on base.typcategory = 'A' and item.oid = base.typelem \
         left join pg_type as elem \
             on elem.oid = case item.typtype when 'd' then item.typbasetype else item.oid end), \
         'rows', (select coalesce(json_agg(to_json(array[{texts}]::text[])), '[]') \
             from (select * from q limit {}) as redrill))::text as answer",
        comment_prefix("rows"),
        ROWS_MAX + 1
    )
}

/// Returns the statement of [`SqlRequest::Clock`].
pub(super) fn clock_sql() -> String {
    format!(
        "{}select json_build_object('until', clock_timestamp() + interval '{START_GRACE}', \
         'timeline', {TIMELINE_SQL})::text as answer",
        comment_prefix("clock")
    )
}

/// Returns the request that takes the lock, makes the mark, and runs `sql`, for `timeout` at most, in one transaction;
/// `None` for a statement that holds the words by which it would be told from ours.
pub(super) fn transaction_request_sql(
    sql: &str,
    key: &str,
    (lock, object): (u32, u32),
    until: &str,
    timeout: Span,
) -> Option<String> {
    let (outer, inner) = (format!("$redrill_{key}$"), format!("$statement_{key}$"));
    if sql.contains(&outer) || sql.contains(&inner) {
        return None;
    }
    let (until, comment) = (quote_literal(until), quote_literal(&transaction_mark_comment(key)));
    let limit = timeout.to_std().as_millis().clamp(1, i32::MAX as u128);
    Some(format!(
        "{}set local statement_timeout = {limit}; do {outer}
declare touched bigint;
begin
  perform pg_advisory_xact_lock({LOCK_CLASS}, {lock});
  if clock_timestamp() > timestamptz {until} then raise exception '{TOO_LATE}'; end if;
  perform lo_create({object}::oid);
  execute {inner}{sql}{inner};
  get diagnostics touched = row_count;
  execute format('comment on large object {object} is %L', {comment} || touched);
end {outer}; {}",
        comment_prefix("execute"),
        statement::RELEASE_SESSION_SQL
    ))
}

/// Returns how the comment of a mark begins.
pub(super) fn transaction_mark_comment(key: &str) -> String {
    format!("redrill {key} ")
}

/// Returns the statement of [`SqlRequest::TransactionState`].
pub(super) fn transaction_state_sql(lock: u32, until: &str) -> String {
    let until = quote_literal(until);
    format!(
        "{}select json_build_object('late', clock_timestamp() > timestamptz {until}, \
         'running', exists (select from {}), 'timeline', {TIMELINE_SQL})::text as answer",
        comment_prefix("sight"),
        lock_holders_sql(lock)
    )
}

/// Returns the sessions that hold a lock of ours, or wait for it, as a source of rows.
fn lock_holders_sql(lock: u32) -> String {
    format!(
        "pg_locks where locktype = 'advisory' and classid = {LOCK_CLASS} and objid = {lock} and objsubid = 2 \
         and database = (select oid from pg_database where datname = current_database())"
    )
}

/// Returns the statement of [`SqlRequest::EndSessions`].
pub(super) fn session_end_sql(lock: u32) -> String {
    format!(
        "{}select count(pg_terminate_backend(pid)) from {}",
        comment_prefix("end"),
        lock_holders_sql(lock)
    )
}

/// Returns the statement of [`SqlRequest::Marker`].
pub(super) fn transaction_mark_sql(object: u32) -> String {
    format!(
        "{}select to_json(obj_description({object}::oid, 'pg_largeobject'))::text as answer",
        comment_prefix("mark")
    )
}

/// Returns the statement of [`SqlRequest::RemoveMarker`].
pub(super) fn transaction_mark_removal_sql(object: u32) -> String {
    format!(
        "{}select lo_unlink(oid) from pg_largeobject_metadata where oid = {object}::oid",
        comment_prefix("clear")
    )
}

/// Returns the statement of [`SqlRequest::Health`].
pub(super) fn health_sql() -> String {
    format!(
        "{}select json_build_object('version', current_setting('server_version'), \
         'in_recovery', pg_is_in_recovery(), 'bytes', pg_database_size(current_database()), \
         'connections', (select count(*) from pg_stat_activity where backend_type = 'client backend')\
         )::text as answer",
        comment_prefix("health")
    )
}

/// The statement that tells one start of the server from the next.
pub(in crate::provider::supabase) const SERVER_START_SQL: &str =
    "select pg_postmaster_start_time()::text as answer";

/// The statement for the time of the database, as moments are written.
pub(in crate::provider::supabase) const DATABASE_TIME_SQL: &str =
    r#"select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as answer"#;

/// Returns the statement of [`SqlRequest::Settings`].
pub(in crate::provider::supabase) fn settings_sql(names: &[String]) -> String {
    let list = names.iter().map(|name| quote_literal(name)).collect::<Vec<_>>().join(", ");
    format!(
        "{}select coalesce(json_object_agg(name, json_build_object('setting', current_setting(name, true), \
         'pending_restart', pending_restart)), '{{}}')::text as answer from pg_settings where name in ({list})",
        comment_prefix("settings")
    )
}

impl SqlRequest {
    /// Returns what a statement of ours asks; `None` for any other.
    pub fn from_sql(statement: &str) -> Option<Self> {
        let (before, rest) = statement.split_once("/* redrill: ")?;
        let (what, sql) = rest.split_once(" */ ")?;
        if !(before.is_empty() || before == SEARCH_PATH_PREFIX) {
            return None;
        }
        let inner = || {
            let inner = sql.strip_prefix(WRAPPER_START)?;
            Some(inner[..inner.rfind(WRAPPER_END)?].to_owned())
        };
        Some(match what {
            "shape" => SqlRequest::Shape { sql: inner()? },
            "rows" => SqlRequest::Rows { sql: inner()? },
            "clock" => SqlRequest::Clock,
            "execute" => parse_execute(sql)?,
            "sight" => SqlRequest::TransactionState {
                lock: text_between(sql, "objid = ", " ")?.parse().ok()?,
                until: text_between(sql, "timestamptz '", "'")?.to_owned(),
            },
            "mark" => {
                SqlRequest::Marker { object: text_between(sql, "obj_description(", "::oid")?.parse().ok()? }
            }
            "end" => SqlRequest::EndSessions { lock: text_between(sql, "objid = ", " ")?.parse().ok()? },
            "clear" => {
                SqlRequest::RemoveMarker { object: text_between(sql, "where oid = ", "::oid")?.parse().ok()? }
            }
            "health" => SqlRequest::Health,
            "settings" => {
                let list = sql.rsplit_once("where name in (")?.1.strip_suffix(')')?;
                let name = |quoted: &str| quoted.trim_matches('\'').replace("''", "'");
                SqlRequest::Settings { names: list.split(", ").map(name).collect() }
            }
            _ => return None,
        })
    }
}

fn parse_execute(sql: &str) -> Option<SqlRequest> {
    let key = text_between(sql, "do $redrill_", "$")?;
    let (head, rest) = sql.split_once(&format!("execute $statement_{key}$"))?;
    Some(SqlRequest::Execute {
        sql: rest.split_once(&format!("$statement_{key}$"))?.0.to_owned(),
        lock: text_between(head, &format!("pg_advisory_xact_lock({LOCK_CLASS}, "), ")")?.parse().ok()?,
        object: text_between(head, "lo_create(", "::oid")?.parse().ok()?,
        comment: transaction_mark_comment(key),
        until: text_between(head, "timestamptz '", "'")?.to_owned(),
    })
}

fn text_between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(between, _)| between)
}

/// Returns the row in which an answer to one of these statements comes.
pub fn wrap_answer_row(answer: &Value) -> Value {
    serde_json::json!([{ "answer": answer.to_string() }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supabase_what_is_asked_is_read_back() {
        let sql = "select ')' as a, '\n) select 1' as b -- $redrill";
        let until = "2026-11-20T03:00:30+00:00";
        let names = vec!["work_mem".to_owned(), "it's".to_owned()];
        for (statement, asked) in [
            (column_names_sql(sql), SqlRequest::Shape { sql: sql.into() }),
            (rows_sql(sql, &["a".into(), "b".into()]), SqlRequest::Rows { sql: sql.into() }),
            (
                format!("{}{}", SEARCH_PATH_PREFIX, column_names_sql(sql)),
                SqlRequest::Shape { sql: sql.into() },
            ),
            (clock_sql(), SqlRequest::Clock),
            (
                transaction_request_sql(sql, "abcdefghij", (7, 8), until, Span::from_secs(5))
                    .expect("a statement"),
                SqlRequest::Execute {
                    sql: sql.into(),
                    lock: 7,
                    object: 8,
                    comment: "redrill abcdefghij ".into(),
                    until: until.into(),
                },
            ),
            (transaction_state_sql(7, until), SqlRequest::TransactionState { lock: 7, until: until.into() }),
            (session_end_sql(7), SqlRequest::EndSessions { lock: 7 }),
            (transaction_mark_sql(8), SqlRequest::Marker { object: 8 }),
            (transaction_mark_removal_sql(8), SqlRequest::RemoveMarker { object: 8 }),
            (health_sql(), SqlRequest::Health),
            (settings_sql(&names), SqlRequest::Settings { names }),
        ] {
            assert_eq!(SqlRequest::from_sql(&statement), Some(asked), "{statement}");
        }
        for other in ["select 1", "/* redrill: nothing */ select 1", "drop table t; /* redrill: clock */ x"] {
            assert_eq!(SqlRequest::from_sql(other), None, "{other}");
        }
    }
}
