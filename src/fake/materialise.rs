//! A simulated database as a script that makes it in PostgreSQL.

use crate::provider::{
    model::Policy,
    sim::{Column, Table},
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Returns the script: tables, rows, keys, and policies.
///
/// A function without arguments that a policy calls and nobody has is made too, and gives null.
pub(super) fn script(tables: &[Table], policies: &[Policy]) -> String {
    let mut script = String::new();
    for table in tables {
        create(&mut script, table);
        fill(&mut script, table);
    }
    for table in tables {
        refer(&mut script, table);
        let has = policies.iter().any(|p| p.table == table.name && p.enabled);
        if table.row_security.unwrap_or(has) {
            put(&mut script, &format!("alter table {} enable row level security", name(&table.name)));
        }
    }
    let known = |policy: &&Policy| tables.iter().any(|t| t.name == policy.table);
    for policy in policies.iter().filter(known) {
        secure(&mut script, policy);
    }
    script
}

fn put(script: &mut String, statement: &str) {
    script.push_str(statement);
    script.push_str(";\n");
}

fn create(script: &mut String, table: &Table) {
    let mut parts: Vec<String> = table.columns.iter().map(|c| column(c, table)).collect();
    if !table.key.is_empty() {
        parts.push(format!("primary key ({})", names(&table.key)));
    }
    parts.extend(table.unique.iter().map(|columns| format!("unique ({})", names(columns))));
    put(script, &format!("create table {} ({})", name(&table.name), parts.join(", ")));
}

fn column(column: &Column, table: &Table) -> String {
    let kind = kind(column, table);
    let mut text = format!("{} {kind}", name(&column.name));
    if column.required {
        text.push_str(" not null");
    }
    if let Some(preset) = column.preset.as_deref().and_then(|preset| default(preset, kind)) {
        write!(text, " default {preset}").unwrap_or_default();
    }
    text
}

/// Returns the type for a column: by how it was written, if every value in it is one.
fn kind(column: &Column, table: &Table) -> &'static str {
    let written = column.kind.to_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| written.contains(word));
    let kind = match () {
        () if has(&["INT"]) => "bigint",
        () if has(&["CHAR", "CLOB", "TEXT"]) => "text",
        () if has(&["REAL", "FLOA", "DOUB"]) => "double precision",
        () if has(&["NUM", "DEC"]) => "numeric",
        () => "text",
    };
    let fits = |value: &Value| match kind {
        "bigint" => value.is_i64() || value.is_null(),
        "text" => value.is_string() || value.is_null(),
        _ => value.is_number() || value.is_null(),
    };
    if table.rows.rows.iter().all(|row| fits(&row[&column.name])) { kind } else { "text" }
}

/// Returns a default that PostgreSQL understands, if this is one.
fn default(preset: &str, kind: &str) -> Option<String> {
    let plain = preset.trim_matches(['(', ')', ' ']).to_lowercase();
    let is_now = ["now", "now(", "current_timestamp"].contains(&plain.as_str());
    if is_now {
        return Some(if kind == "text" { "(now()::text)".into() } else { return None });
    }
    let is_literal = preset.starts_with('\'') || preset.parse::<f64>().is_ok();
    is_literal.then(|| preset.to_owned())
}

fn fill(script: &mut String, table: &Table) {
    if table.rows.rows.is_empty() {
        return;
    }
    let rows: Value = table.rows.rows.iter().cloned().map(Value::Object).collect();
    let table = name(&table.name);
    let rows = text(&rows.to_string());
    put(script, &format!("insert into {table} select * from json_populate_recordset(null::{table}, {rows})"));
}

fn refer(script: &mut String, table: &Table) {
    for key in &table.references {
        let referred =
            if key.referred.is_empty() { String::new() } else { format!(" ({})", names(&key.referred)) };
        let statement = format!(
            "alter table {} add foreign key ({}) references {}{referred}",
            name(&table.name),
            names(&key.columns),
            name(&key.table)
        );
        put(script, &statement);
    }
}

fn secure(script: &mut String, policy: &Policy) {
    let expressions = [&policy.using_expression, &policy.check_expression];
    let called: BTreeSet<&str> = expressions.into_iter().flatten().flat_map(|e| calls(e)).collect();
    for function in called {
        let body = format!(
            "create function {function}() returns bigint language sql stable as ''select null::bigint''"
        );
        put(
            script,
            &format!(
                "do $do$ begin if to_regprocedure('{function}()') is null then execute '{body}'; end if; end $do$"
            ),
        );
    }
    for role in policy.roles.iter().filter(|role| *role != "public") {
        let make = format!(
            "do $do$ begin if to_regrole({}) is null then create role {}; end if; end $do$",
            text(role),
            name(role)
        );
        put(script, &make);
    }
    let roles: Vec<String> =
        policy.roles.iter().map(|role| if role == "public" { role.clone() } else { name(role) }).collect();
    let mut statement = format!(
        "create policy {} on {} as {} for {} to {}",
        name(&policy.name),
        name(&policy.table),
        if policy.permissive { "permissive" } else { "restrictive" },
        policy.command,
        roles.join(", ")
    );
    for (word, expression) in [("using", &policy.using_expression), ("with check", &policy.check_expression)]
    {
        if let Some(expression) = expression {
            write!(statement, " {word} ({expression})").unwrap_or_default();
        }
    }
    put(script, &statement);
}

/// Returns the names of the functions that an expression calls without arguments.
fn calls(expression: &str) -> impl Iterator<Item = &str> {
    expression.match_indices("()").filter_map(|(at, _)| {
        let before = &expression[..at];
        let from = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        Some(&before[from..]).filter(|name| !name.is_empty())
    })
}

fn names(list: &[String]) -> String {
    list.iter().map(|n| name(n)).collect::<Vec<_>>().join(", ")
}

fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_without_arguments_is_found() {
        let found: Vec<&str> = calls("(id = current_customer() and f(1) > now())").collect();
        assert_eq!(found, ["current_customer", "now"]);
    }

    #[test]
    fn a_default_is_kept_where_it_means_the_same() {
        assert_eq!(default("'open'", "text").as_deref(), Some("'open'"));
        assert_eq!(default("now()", "text").as_deref(), Some("(now()::text)"));
        assert_eq!(default("0", "bigint").as_deref(), Some("0"));
        assert_eq!(default("random()", "bigint"), None);
    }
}
