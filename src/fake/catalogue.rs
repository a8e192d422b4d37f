//! What a client asks of PostgreSQL's catalogue, worked out from the simulated world.
//!
//! The simulator's own SQL knows no `pg_policies`. So a query that names such a table gets it in front, as a list of
//! values; its casts are taken away, and what it asks about privileges is answered as the platform grants them.

use super::{call::Answer, project::Project};
use crate::provider::{Provider as _, Security as _, model::Policy};
use serde_json::{Map, Value};

/// The tables that are worked out, with their columns.
const TABLES: &[(&str, &[&str])] = &[
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

/// Questions about privileges: the platform grants everything in `public` to the roles of its API.
const PRIVILEGES: &[&str] = &["has_schema_privilege", "has_table_privilege"];

/// Returns the answer to a query that asks about the server itself, and of no table.
pub(super) async fn of_server(sql: &str, project: &Project) -> Result<Option<Map<String, Value>>, Answer> {
    let is_asked = |function: &str| sql.contains(function);
    if !is_asked("pg_postmaster_start_time") && !is_asked("pg_walfile_name") {
        return Ok(None);
    }
    let timeline = timeline(project).await?;
    let list = sql.trim().trim_end_matches(';');
    let list = list.get(..7).filter(|w| w.eq_ignore_ascii_case("select ")).map_or("", |_| &list[7..]);
    let mut row = Map::new();
    for item in items(list) {
        let (expression, name) = item.rsplit_once(" as ").unwrap_or((item, item));
        let value = match () {
            () if expression.contains("pg_postmaster_start_time") => project.started_at().to_string().into(),
            () if expression.contains("pg_walfile_name") => timeline.clone().into(),
            () => return Ok(None),
        };
        row.insert(name.trim().to_owned(), value);
    }
    Ok(Some(row))
}

/// Returns the timeline that a project is on, as the names of its WAL begin.
pub(super) async fn timeline(project: &Project) -> Result<String, Answer> {
    let timelines = match project.sim()?.backups() {
        Ok(backups) => backups.window().await?.timelines,
        // A branch has no archive of its own.
        Err(_) => Vec::new(),
    };
    Ok(format!("{:08X}", timelines.into_iter().max().unwrap_or(1)))
}

/// Splits a list at the commas that are in no parentheses and no text.
fn items(list: &str) -> Vec<&str> {
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

/// Returns a query that finds the tables of the catalogue which it names; any other is returned as it is.
pub(super) async fn within(sql: &str, project: &Project) -> Result<String, Answer> {
    let words: Vec<String> =
        sql.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_lowercase).collect();
    let named: Vec<_> = TABLES.iter().filter(|(table, _)| words.iter().any(|w| w == table)).collect();
    if named.is_empty() {
        return Ok(sql.into());
    }
    let sim = project.sim()?;
    let (policies, tables) = (sim.policies().await?, sim.secured_tables()?);
    let made: Vec<String> =
        named.iter().map(|(table, columns)| made(table, columns, &tables, &policies)).collect();
    let plain = granted(&without_casts(&sql.replace("pg_catalog.", "")));
    let made = made.join(", ");
    let rest = plain.trim_start();
    Ok(match rest.get(..5).filter(|word| word.eq_ignore_ascii_case("with ")) {
        Some(_) => format!("with {made}, {}", &rest[5..]),
        None => format!("with {made} {rest}"),
    })
}

fn made(table: &str, columns: &[&str], tables: &[(String, bool)], policies: &[Policy]) -> String {
    let rows: Vec<String> = match table {
        "pg_policies" => policies.iter().map(policy).collect(),
        "pg_namespace" => vec!["(2200, 'public')".into(), "(11, 'pg_catalog')".into()],
        "pg_roles" => vec!["(16479, 'anon')".into(), "(16480, 'authenticated')".into()],
        "pg_class" => (16_384..)
            .zip(tables)
            .map(|(oid, (name, secured))| format!("({oid}, {}, 2200, 'r', {secured}, false)", text(name)))
            .collect(),
        "pg_tables" => {
            tables.iter().map(|(name, secured)| format!("('public', {}, {secured})", text(name))).collect()
        }
        _ => Vec::new(),
    };
    if rows.is_empty() {
        let nulls = vec!["null"; columns.len()].join(", ");
        return format!("{table} ({}) as (select {nulls} where false)", columns.join(", "));
    }
    format!("{table} ({}) as (values {})", columns.join(", "), rows.join(", "))
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

/// Puts `true` in the place of every question about privileges.
fn granted(sql: &str) -> String {
    let mut plain = sql.to_owned();
    for function in PRIVILEGES {
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

    #[test]
    fn every_privilege_is_granted() {
        assert_eq!(granted("where has_table_privilege(f(a), 'x') and b"), "where true and b");
    }

    #[test]
    fn a_list_is_split_at_its_own_commas() {
        assert_eq!(items("f(a, b) as x, 'c, d' as y"), ["f(a, b) as x", "'c, d' as y"]);
    }
}
