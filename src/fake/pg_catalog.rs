//! PostgreSQL's system catalogs, derived from the simulated world.
//!
//! The simulator's SQL has no `pg_policies`. A query that names such a table gets it as a CTE of literals;
//! its casts are stripped, and its privilege checks are answered with `true`.

use super::{project::FakeProject, response::ApiResponse};
use crate::provider::{Provider as _, Security as _, model::Policy};
use serde_json::{Map, Value};

/// The catalog tables that are provided, with their columns.
const CATALOG_TABLES: &[(&str, &[&str])] = &[
    (
        "pg_policies",
        &["schemaname", "tablename", "policyname", "permissive", "roles", "cmd", "qual", "with_check"],
    ),
    ("pg_namespace", &["oid", "nspname"]),
    ("pg_class", &["oid", "relname", "relnamespace", "relkind", "relrowsecurity", "relforcerowsecurity"]),
    ("pg_tables", &["schemaname", "tablename", "rowsecurity"]),
    ("pg_roles", &["oid", "rolname"]),
    ("pg_replication_slots", &["slot_name"]),
    ("pg_stat_subscription", &["subname"]),
];

/// Privilege checks: the platform grants everything in `public` to its API roles.
const PRIVILEGE_FUNCTIONS: &[&str] = &["has_schema_privilege", "has_table_privilege"];

/// Answers a query about the server itself: its time, its start, its WAL file or its place in the WAL. Any other gets none.
pub(super) async fn answer_server_query(
    sql: &str,
    project: &FakeProject,
) -> Result<Option<Map<String, Value>>, ApiResponse> {
    let known = ["pg_postmaster_start_time", "pg_walfile_name", "clock_timestamp"];
    if !known.iter().any(|function| sql.contains(function)) {
        return Ok(None);
    }
    let timeline = current_timeline(project).await?;
    let list = sql.trim().trim_end_matches(';');
    let list = list.get(..7).filter(|w| w.eq_ignore_ascii_case("select ")).map_or("", |_| &list[7..]);
    let mut row = Map::new();
    for item in split_select_list(list) {
        let (expression, name) = item.rsplit_once(" as ").unwrap_or((item, item));
        let value = match () {
            () if expression.contains("pg_postmaster_start_time") => project.started_at().to_string().into(),
            () if expression.contains("clock_timestamp") => {
                project.open_simulated_database()?.world_time()?.to_string().into()
            }
            () if expression.contains("pg_walfile_name") => timeline.clone().into(),
            () if expression.contains("pg_current_wal_lsn") => {
                current_wal_position(project).await?.to_string().into()
            }
            () => return Ok(None),
        };
        row.insert(name.trim().to_owned(), value);
    }
    Ok(Some(row))
}

/// Returns the project's timeline in eight hexadecimal digits, as WAL file names begin.
pub(super) async fn current_timeline(project: &FakeProject) -> Result<String, ApiResponse> {
    let timelines = match project.open_simulated_database()?.backups() {
        Ok(backups) => backups.recovery_window().await?.timelines,
        // A branch has no archive of its own.
        Err(_) => Vec::new(),
    };
    Ok(format!("{:08X}", timelines.into_iter().max().unwrap_or(1)))
}

/// Returns the place in the WAL that the project is at, in bytes.
async fn current_wal_position(project: &FakeProject) -> Result<u64, ApiResponse> {
    let lsn = match project.open_simulated_database()?.backups() {
        Ok(backups) => backups.recovery_window().await?.latest_lsn,
        Err(_) => None,
    };
    let parts = lsn.as_deref().and_then(|lsn| lsn.split_once('/'));
    let byte = |(high, low): (&str, &str)| {
        Some((u64::from_str_radix(high, 16).ok()? << 32) | u64::from_str_radix(low, 16).ok()?)
    };
    Ok(parts.and_then(byte).unwrap_or(0))
}

/// Splits a list at the commas outside parentheses and string literals.
fn split_select_list(list: &str) -> Vec<&str> {
    let (mut items, mut depth, mut inside, mut from) = (Vec::new(), 0, false, 0);
    for (at, c) in list.char_indices() {
        match c {
            '\'' => inside = !inside,
            '(' if !inside => depth += 1,
            ')' if !inside => depth -= 1,
            ',' if !inside && depth == 0 => {
                items.push(list[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    items.push(list[from..].trim());
    items
}

/// Puts the catalog tables that a query names in front of it as CTEs; any other query stays as it is.
pub(super) async fn inline_catalog_tables(sql: &str, project: &FakeProject) -> Result<String, ApiResponse> {
    let words: Vec<String> =
        sql.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_lowercase).collect();
    let named: Vec<_> = CATALOG_TABLES.iter().filter(|(table, _)| words.iter().any(|w| w == table)).collect();
    if named.is_empty() {
        return Ok(sql.into());
    }
    let sim = project.open_simulated_database()?;
    let (policies, tables) = (sim.policies().await?, sim.list_row_security()?);
    let made: Vec<String> = named
        .iter()
        .map(|(table, columns)| render_catalog_table(table, columns, &tables, &policies))
        .collect();
    let plain = replace_privilege_checks(&strip_casts(&sql.replace("pg_catalog.", "")));
    let made = made.join(", ");
    let rest = plain.trim_start();
    Ok(match rest.get(..5).filter(|word| word.eq_ignore_ascii_case("with ")) {
        Some(_) => format!("with {made}, {}", &rest[5..]),
        None => format!("with {made} {rest}"),
    })
}

fn render_catalog_table(
    table: &str,
    columns: &[&str],
    tables: &[(String, bool)],
    policies: &[Policy],
) -> String {
    let rows: Vec<String> = match table {
        "pg_policies" => policies.iter().map(render_policy).collect(),
        "pg_namespace" => vec!["(2200, 'public')".into(), "(11, 'pg_catalog')".into()],
        "pg_roles" => vec!["(16479, 'anon')".into(), "(16480, 'authenticated')".into()],
        "pg_class" => (16_384..)
            .zip(tables)
            .map(|(oid, (name, secured))| {
                format!("({oid}, {}, 2200, 'r', {secured}, false)", quote_literal(name))
            })
            .collect(),
        "pg_tables" => tables
            .iter()
            .map(|(name, secured)| format!("('public', {}, {secured})", quote_literal(name)))
            .collect(),
        _ => Vec::new(),
    };
    if rows.is_empty() {
        let nulls = vec!["null"; columns.len()].join(", ");
        return format!("{table} ({}) as (select {nulls} where false)", columns.join(", "));
    }
    format!("{table} ({}) as (values {})", columns.join(", "), rows.join(", "))
}

fn render_policy(policy: &Policy) -> String {
    let optional =
        |value: &Option<String>| value.as_ref().map_or_else(|| "null".into(), |v| quote_literal(v));
    // The roles are an array literal.
    let roles = format!("{{{}}}", policy.roles.join(","));
    let permissive = if policy.permissive { "PERMISSIVE" } else { "RESTRICTIVE" };
    format!(
        "({}, {}, {}, {}, {}, {}, {}, {})",
        quote_literal(&policy.schema),
        quote_literal(&policy.table),
        quote_literal(&policy.name),
        quote_literal(permissive),
        quote_literal(&roles),
        quote_literal(&policy.command),
        optional(&policy.using_expression),
        optional(&policy.check_expression),
    )
}

fn quote_literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Replaces every privilege check with `true`.
fn replace_privilege_checks(sql: &str) -> String {
    let mut plain = sql.to_owned();
    for function in PRIVILEGE_FUNCTIONS {
        while let Some(at) = plain.find(function) {
            let mut depth = 0;
            let end = plain[at..].find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                c == ')' && depth == 0
            });
            let end = end.map_or(plain.len(), |end| at + end + 1);
            plain.replace_range(at..end, "true");
        }
    }
    plain
}

/// Strips every `::type` outside string literals.
fn strip_casts(sql: &str) -> String {
    let mut plain = String::with_capacity(sql.len());
    let mut rest = sql;
    let mut inside = false;
    while let Some(c) = rest.chars().next() {
        if c == '\'' {
            inside = !inside;
        }
        if !inside && rest.starts_with("::") {
            rest = rest[2..].trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
            rest = rest.strip_prefix("[]").unwrap_or(rest);
            continue;
        }
        plain.push(c);
        rest = &rest[c.len_utf8()..];
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_go_and_texts_stay() {
        assert_eq!(strip_casts("select roles::text[], '::x'::text from t"), "select roles, '::x' from t");
    }

    #[test]
    fn every_privilege_is_granted() {
        assert_eq!(
            replace_privilege_checks("where has_table_privilege(f(a), 'x') and b"),
            "where true and b"
        );
    }

    #[test]
    fn a_list_is_split_at_its_own_commas() {
        assert_eq!(split_select_list("f(a, b) as x, 'c, d' as y"), ["f(a, b) as x", "'c, d' as y"]);
    }
}
