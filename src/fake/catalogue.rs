//! What a client asks of PostgreSQL's catalogue, worked out from the simulated world.
//!
//! The simulator's own SQL knows no `pg_policies`. So a query that names such a table gets it in front, as a list of
//! values, and its casts are taken away.

use super::call::Answer;
use crate::{
    base::moment::Span,
    provider::{Provider, model::Policy},
};

/// The tables that are worked out, with their columns.
const TABLES: &[(&str, &[&str])] = &[
    (
        "pg_policies",
        &["schemaname", "tablename", "policyname", "permissive", "roles", "cmd", "qual", "with_check"],
    ),
    ("pg_namespace", &["oid", "nspname"]),
    ("pg_class", &["oid", "relname", "relnamespace", "relkind", "relrowsecurity", "relforcerowsecurity"]),
    ("pg_tables", &["schemaname", "tablename", "rowsecurity"]),
];

/// Returns a query that finds the tables of the catalogue which it names; any other is returned as it is.
pub(super) async fn within(sql: &str, database: &dyn Provider) -> Result<String, Answer> {
    let words: Vec<String> =
        sql.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_lowercase).collect();
    let named: Vec<_> = TABLES.iter().filter(|(table, _)| words.iter().any(|w| w == table)).collect();
    if named.is_empty() {
        return Ok(sql.into());
    }
    let policies = database.security()?.policies().await?;
    let list =
        "select name from sqlite_schema where type = 'table' and name not like 'sqlite%' order by name";
    let tables = database.sql()?.query(list, Span::seconds(5)).await?;
    let tables: Vec<String> =
        tables.rows.iter().filter_map(|row| row["name"].as_str().map(Into::into)).collect();
    let made: Vec<String> =
        named.iter().map(|(table, columns)| made(table, columns, &tables, &policies)).collect();
    let plain = without_casts(&sql.replace("pg_catalog.", ""));
    let made = made.join(", ");
    let rest = plain.trim_start();
    Ok(match rest.get(..5).filter(|word| word.eq_ignore_ascii_case("with ")) {
        Some(_) => format!("with {made}, {}", &rest[5..]),
        None => format!("with {made} {rest}"),
    })
}

fn made(table: &str, columns: &[&str], tables: &[String], policies: &[Policy]) -> String {
    let secured = |name: &String| policies.iter().any(|p| p.table == *name && p.enabled);
    let rows: Vec<String> = match table {
        "pg_policies" => policies.iter().map(policy).collect(),
        "pg_namespace" => vec!["(2200, 'public')".into(), "(11, 'pg_catalog')".into()],
        "pg_class" => (16_384..)
            .zip(tables)
            .map(|(oid, name)| format!("({oid}, {}, 2200, 'r', {}, false)", text(name), secured(name)))
            .collect(),
        _ => tables.iter().map(|name| format!("('public', {}, {})", text(name), secured(name))).collect(),
    };
    let columns = columns.join(", ");
    if rows.is_empty() {
        let nulls = columns.split(", ").map(|_| "null").collect::<Vec<_>>().join(", ");
        return format!("{table} ({columns}) as (select {nulls} where false)");
    }
    format!("{table} ({columns}) as (values {})", rows.join(", "))
}

fn policy(policy: &Policy) -> String {
    let optional = |value: &Option<String>| value.as_ref().map_or_else(|| "null".into(), |v| text(v));
    // A list of names is given as PostgreSQL writes one.
    let roles = format!("{{{}}}", policy.roles.join(","));
    let permissive = if policy.permissive { "PERMISSIVE" } else { "RESTRICTIVE" };
    format!(
        "({}, {}, {}, {}, {}, {}, {}, {})",
        text(&policy.schema),
        text(&policy.table),
        text(&policy.name),
        text(permissive),
        text(&roles),
        text(&policy.command),
        optional(&policy.using_expression),
        optional(&policy.check_expression),
    )
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Takes every `::type` away that is in no text.
fn without_casts(sql: &str) -> String {
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
        assert_eq!(without_casts("select roles::text[], '::x'::text from t"), "select roles, '::x' from t");
    }
}
