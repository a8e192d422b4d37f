//! Tables that anybody with the project's public key can read or write: granted to the API's roles, and without
//! row-level security.

use super::finding::{CheckOutcome, build_finding};
use crate::provider::{
    model::FindingLevel,
    supabase::{dump::platform_schemas, project::Supabase},
};

impl Supabase {
    /// Checks for unprotected tables in the schemas that the API exposes, and always in `public`.
    pub(super) async fn check_exposed_tables(&self) -> CheckOutcome {
        let excluded: Vec<_> = platform_schemas().map(|name| format!("'{name}'")).collect();
        let sql = format!(
            "select n.nspname as schema, c.relname as name, string_agg(r.rolname, ', ' order by r.rolname) as roles \
             from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             join pg_catalog.pg_roles r on r.rolname in ('anon', 'authenticated') \
             where c.relkind in ('r', 'p') and not c.relrowsecurity and n.nspname not in ({}) \
             and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema' \
             and pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage') \
             and pg_catalog.has_table_privilege(r.oid, c.oid, 'select, insert, update, delete') \
             group by 1, 2 order by 1, 2",
            excluded.join(", ")
        );
        let rows = self.query_rows_read_only(&self.reference, &sql).await.map_err(|e| e.message)?;
        let exposed = self.fetch_exposed_schemas().await;
        let fix = "switch row-level security on and write policies, or revoke the grants";
        let mut findings = Vec::new();
        for row in &rows {
            let text = |field: &str| row[field].as_str().unwrap_or_default();
            if exposed.as_ref().is_some_and(|exposed| !exposed.iter().any(|schema| schema == text("schema")))
            {
                continue;
            }
            let table = format!("{}.{}", text("schema"), text("name"));
            let detail = format!("`{table}` has no row-level security and is granted to {}", text("roles"));
            findings.push(build_finding("exposed_tables", FindingLevel::Error, "RLS", &table, detail, fix));
        }
        Ok(findings)
    }

    /// Returns the schemas that the API exposes; `None` where the platform does not say. Every schema counts then: to
    /// leave out one that is exposed would be a false all-clear.
    async fn fetch_exposed_schemas(&self) -> Option<Vec<String>> {
        let answer: serde_json::Value = self.get_project_resource("/postgrest").await.ok()?;
        let list = answer["db_schema"].as_str().filter(|list| !list.trim().is_empty())?;
        let listed = list.split(',').map(|name| name.trim().to_owned());
        Some(listed.chain(["public".to_owned()]).collect())
    }
}
