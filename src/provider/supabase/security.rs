//! Row-level policies, read off the catalogs: the platform has no list of them.

use super::{project::Supabase, transport::unreadable_answer_error};
use crate::provider::{
    Error, Result, Security,
    model::{AuditReport, Policy},
};
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeSet;

const POLICIES_SQL: &str = "select schemaname, tablename, policyname, permissive, roles, cmd, qual, with_check \
                        from pg_catalog.pg_policies order by schemaname, tablename, policyname";
const RLS_TABLES_SQL: &str = "select n.nspname, c.relname from pg_catalog.pg_class c \
                       join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
                       where c.relkind in ('r', 'p') and c.relrowsecurity";

#[async_trait]
impl Security for Supabase {
    async fn policies(&self) -> Result<Vec<Policy>> {
        let tables = self.query_rows_read_only(&self.reference, RLS_TABLES_SQL).await?;
        let enabled: BTreeSet<(String, String)> = tables
            .iter()
            .map(|row| Some((text_field(row, "nspname")?, text_field(row, "relname")?)))
            .collect::<Option<_>>()
            .ok_or_else(|| unreadable_rows_error("a table without a schema or a name"))?;
        let rows = self.query_rows_read_only(&self.reference, POLICIES_SQL).await?;
        rows.iter().map(|row| decode_policy(row, &enabled)).collect::<Option<_>>().ok_or_else(|| {
            unreadable_rows_error("a policy without a schema, a table, a name, roles or a command")
        })
    }

    async fn audit(&self) -> Result<AuditReport> {
        self.run_audit().await
    }
}

fn decode_policy(row: &Value, enabled: &BTreeSet<(String, String)>) -> Option<Policy> {
    let (schema, table) = (text_field(row, "schemaname")?, text_field(row, "tablename")?);
    Some(Policy {
        enabled: enabled.contains(&(schema.clone(), table.clone())),
        name: text_field(row, "policyname")?,
        command: text_field(row, "cmd")?,
        permissive: text_field(row, "permissive")? == "PERMISSIVE",
        roles: parse_role_names(&row["roles"])?,
        using_expression: text_field(row, "qual"),
        check_expression: text_field(row, "with_check"),
        schema,
        table,
    })
}

fn text_field(row: &Value, field: &str) -> Option<String> {
    row[field].as_str().map(str::to_owned)
}

/// Returns a list of names, which comes as one or as PostgreSQL writes it: `{anon,authenticated}`.
fn parse_role_names(list: &Value) -> Option<Vec<String>> {
    match list {
        Value::Array(names) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
        Value::String(text) => Some(
            text.trim_matches(['{', '}'])
                .split(',')
                .filter(|name| !name.is_empty())
                .map(|name| name.trim_matches('"').to_owned())
                .collect(),
        ),
        _ => None,
    }
}

fn unreadable_rows_error(what: &str) -> Error {
    unreadable_answer_error("`…/database/query/read-only`", &format!("it has {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn roles_come_in_two_shapes() {
        let named = |list: Value| parse_role_names(&list).expect("names");
        assert_eq!(named(json!(["anon", "public"])), ["anon", "public"]);
        assert_eq!(named(json!("{anon,\"my role\"}")), ["anon", "my role"]);
        assert_eq!(parse_role_names(&Value::Null), None);
    }
}
