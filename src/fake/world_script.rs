//! A simulated database as a SQL script that recreates it in PostgreSQL.

use crate::provider::{
    model::Policy,
    sim::{Column, Table},
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Renders the script: tables, rows, foreign keys and policies.
///
/// A missing function without arguments that a policy calls is created, and returns null.
pub(super) fn render_script(tables: &[Table], policies: &[Policy]) -> String {
    let mut script = String::new();
    for table in tables {
        push_create_table(&mut script, table);
        push_rows(&mut script, table);
    }
    for table in tables {
        push_foreign_keys(&mut script, table);
        let has = policies.iter().any(|p| p.table == table.name && p.enabled);
        if table.row_security.unwrap_or(has) {
            push_statement(
                &mut script,
                &format!("alter table {} enable row level security", quote_identifier(&table.name)),
            );
        }
    }
    let known = |policy: &&Policy| tables.iter().any(|t| t.name == policy.table);
    for policy in policies.iter().filter(known) {
        push_policy(&mut script, policy);
    }
    script
}

fn push_statement(script: &mut String, statement: &str) {
    script.push_str(statement);
    script.push_str(";\n");
}

fn push_create_table(script: &mut String, table: &Table) {
    let mut parts: Vec<String> = table.columns.iter().map(|c| render_column(c, table)).collect();
    if !table.key.is_empty() {
        parts.push(format!("primary key ({})", quote_identifiers(&table.key)));
    }
    parts.extend(table.unique.iter().map(|columns| format!("unique ({})", quote_identifiers(columns))));
    push_statement(script, &format!("create table {} ({})", quote_identifier(&table.name), parts.join(", ")));
}

fn render_column(column: &Column, table: &Table) -> String {
    let kind = choose_postgres_type(column, table);
    let mut text = format!("{} {kind}", quote_identifier(&column.name));
    if column.required {
        text.push_str(" not null");
    }
    if let Some(preset) = column.preset.as_deref().and_then(|preset| translate_column_default(preset, kind)) {
        write!(text, " default {preset}").unwrap_or_default();
    }
    text
}

/// Returns the PostgreSQL type of a column by its declared type, or `text` if a value does not fit that.
fn choose_postgres_type(column: &Column, table: &Table) -> &'static str {
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

/// Returns a column default that PostgreSQL understands too, or none.
fn translate_column_default(preset: &str, kind: &str) -> Option<String> {
    let plain = preset.trim_matches(['(', ')', ' ']).to_lowercase();
    let is_now = ["now", "now(", "current_timestamp"].contains(&plain.as_str());
    if is_now {
        return Some(if kind == "text" { "(now()::text)".into() } else { return None });
    }
    let is_literal = preset.starts_with('\'') || preset.parse::<f64>().is_ok();
    is_literal.then(|| preset.to_owned())
}

fn push_rows(script: &mut String, table: &Table) {
    if table.rows.rows.is_empty() {
        return;
    }
    let rows: Value = table.rows.rows.iter().cloned().map(Value::Object).collect();
    let table = quote_identifier(&table.name);
    let rows = quote_literal(&rows.to_string());
    push_statement(
        script,
        &format!("insert into {table} select * from json_populate_recordset(null::{table}, {rows})"),
    );
}

fn push_foreign_keys(script: &mut String, table: &Table) {
    for key in &table.references {
        let referred = if key.referred.is_empty() {
            String::new()
        } else {
            format!(" ({})", quote_identifiers(&key.referred))
        };
        let statement = format!(
            "alter table {} add foreign key ({}) references {}{referred}",
            quote_identifier(&table.name),
            quote_identifiers(&key.columns),
            quote_identifier(&key.table)
        );
        push_statement(script, &statement);
    }
}

fn push_policy(script: &mut String, policy: &Policy) {
    let expressions = [&policy.using_expression, &policy.check_expression];
    let called: BTreeSet<&str> =
        expressions.into_iter().flatten().flat_map(|e| called_functions(e)).collect();
    for function in called {
        let body = format!(
            "create function {function}() returns bigint language sql stable as ''select null::bigint''"
        );
        push_statement(
            script,
            &format!(
                "do $do$ begin if to_regprocedure('{function}()') is null then execute '{body}'; end if; end $do$"
            ),
        );
    }
    for role in policy.roles.iter().filter(|role| *role != "public") {
        let make = format!(
            "do $do$ begin if to_regrole({}) is null then create role {}; end if; end $do$",
            quote_literal(role),
            quote_identifier(role)
        );
        push_statement(script, &make);
    }
    let roles: Vec<String> = policy
        .roles
        .iter()
        .map(|role| if role == "public" { role.clone() } else { quote_identifier(role) })
        .collect();
    let mut statement = format!(
        "create policy {} on {} as {} for {} to {}",
        quote_identifier(&policy.name),
        quote_identifier(&policy.table),
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
    push_statement(script, &statement);
}

/// Returns the names of the functions that an expression calls without arguments.
fn called_functions(expression: &str) -> impl Iterator<Item = &str> {
    expression.match_indices("()").filter_map(|(at, _)| {
        let before = &expression[..at];
        let from = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        Some(&before[from..]).filter(|name| !name.is_empty())
    })
}

fn quote_identifiers(list: &[String]) -> String {
    list.iter().map(|n| quote_identifier(n)).collect::<Vec<_>>().join(", ")
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_without_arguments_is_found() {
        let found: Vec<&str> = called_functions("(id = current_customer() and f(1) > now())").collect();
        assert_eq!(found, ["current_customer", "now"]);
    }

    #[test]
    fn a_default_is_kept_where_it_means_the_same() {
        assert_eq!(translate_column_default("'open'", "text").as_deref(), Some("'open'"));
        assert_eq!(translate_column_default("now()", "text").as_deref(), Some("(now()::text)"));
        assert_eq!(translate_column_default("0", "bigint").as_deref(), Some("0"));
        assert_eq!(translate_column_default("random()", "bigint"), None);
    }
}
