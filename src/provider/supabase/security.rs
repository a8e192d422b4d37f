//! Row-level policies, read off the catalogs: the platform has no list of them.

use super::Supabase;
use crate::provider::{
    Code, Error, Result, Security,
    model::{AuditReport, Policy},
};
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeSet;

const POLICIES: &str = "select schemaname, tablename, policyname, permissive, roles, cmd, qual, with_check \
                        from pg_catalog.pg_policies order by schemaname, tablename, policyname";
const ENABLED: &str = "select n.nspname, c.relname from pg_catalog.pg_class c \
                       join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
                       where c.relkind in ('r', 'p') and c.relrowsecurity";

#[async_trait]
impl Security for Supabase {
    async fn policies(&self) -> Result<Vec<Policy>> {
        let enabled: BTreeSet<(String, String)> = self
            .rows(&self.reference, ENABLED)
            .await?
            .iter()
            .filter_map(|row| Some((text(row, "nspname")?, text(row, "relname")?)))
            .collect();
        let rows = self.rows(&self.reference, POLICIES).await?;
        rows.iter()
            .map(|row| policy(row, &enabled))
            .collect::<Option<_>>()
            .ok_or_else(|| Error::new(Code::Internal, "a policy without a schema, a table or a name"))
    }

    async fn audit(&self) -> Result<AuditReport> {
        self.audited().await
    }
}

fn policy(row: &Value, enabled: &BTreeSet<(String, String)>) -> Option<Policy> {
    let (schema, table) = (text(row, "schemaname")?, text(row, "tablename")?);
    Some(Policy {
        enabled: enabled.contains(&(schema.clone(), table.clone())),
        name: text(row, "policyname")?,
        command: text(row, "cmd")?,
        permissive: text(row, "permissive")? == "PERMISSIVE",
        roles: names(&row["roles"]),
        using_expression: text(row, "qual"),
        check_expression: text(row, "with_check"),
        schema,
        table,
    })
}

fn text(row: &Value, field: &str) -> Option<String> {
    row[field].as_str().map(str::to_owned)
}

/// Returns a list of names, which comes as one or as PostgreSQL writes it: `{anon,authenticated}`.
fn names(list: &Value) -> Vec<String> {
    match list {
        Value::Array(names) => names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        Value::String(text) => text
            .trim_matches(['{', '}'])
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| name.trim_matches('"').to_owned())
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn roles_come_in_two_shapes() {
        assert_eq!(names(&json!(["anon", "public"])), ["anon", "public"]);
        assert_eq!(names(&json!("{anon,\"my role\"}")), ["anon", "my role"]);
    }
}
