//! Names of relations by OID. WAL knows tables by OID alone, and the catalog forgets dropped ones, so the
//! names are kept with every backup.

use crate::provider::{Code, Error, Result, postgres::sql::fetch_rows};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// The relations of one or more databases, by database OID and relation OID.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in super::super) struct RelationNames {
    databases: BTreeMap<u32, DatabaseNames>,
}

/// The relations of one database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct DatabaseNames {
    name: String,
    schemas: BTreeMap<u32, String>,
    relations: BTreeMap<u32, Relation>,
}

/// One relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Relation {
    /// Its schema, if known.
    pub schema: Option<String>,
    pub name: String,
    /// Its `relkind`: `r` a table, `p` a partitioned one, `i` an index.
    pub kind: char,
    /// Whether it is a temporary relation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub temporary: bool,
}

impl Relation {
    /// Returns whether it is a table, or the parent of a partitioned one.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.kind, 'r' | 'p') && !self.temporary
    }

    /// Returns whether `wanted` (`name` or `schema.name`) is this relation.
    pub(super) fn has_name(&self, wanted: &str) -> bool {
        self.name == wanted || self.schema.is_some() && self.to_string() == wanted
    }
}

impl std::fmt::Display for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl RelationNames {
    /// Merges `newer` into these names; `newer` wins where both have an entry.
    pub(in super::super) fn merge_newer(&mut self, newer: RelationNames) {
        for (oid, database) in newer.databases {
            let known = self.databases.entry(oid).or_default();
            known.name = database.name;
            known.schemas.extend(database.schemas);
            known.relations.extend(database.relations);
        }
    }

    /// Returns whether these names include a database; empty names include every database.
    pub(super) fn covers_database(&self, database: u32) -> bool {
        self.databases.is_empty() || self.databases.contains_key(&database)
    }

    /// Returns a relation.
    pub(super) fn find_relation(&self, database: u32, oid: u32) -> Option<&Relation> {
        self.databases.get(&database)?.relations.get(&oid)
    }

    /// Returns a schema's name. `pg_catalog` and `public` have the same OID in every cluster.
    pub(super) fn schema_name(&self, database: u32, oid: u32) -> Option<String> {
        let known = self.databases.get(&database).and_then(|d| d.schemas.get(&oid)).cloned();
        known.or(match oid {
            11 => Some("pg_catalog".into()),
            2200 => Some("public".into()),
            _ => None,
        })
    }
}

/// Returns the relations of the database that `client` is connected to, and of no other: a catalog is visible
/// only from its own database.
///
/// # Errors
/// What the server says.
pub(in super::super) async fn fetch_relation_names(client: &Client) -> Result<RelationNames> {
    const SQL: &str = "
        select json_build_object('databases', json_build_object(d.oid::text, json_build_object(
            'name', d.datname,
            'schemas', (select json_object_agg(n.oid::text, n.nspname) from pg_catalog.pg_namespace as n),
            'relations', coalesce((
                select json_object_agg(c.oid::text, json_build_object(
                           'schema', n.nspname, 'name', c.relname, 'kind', c.relkind,
                           'temporary', c.relpersistence = 't'))
                from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
                where n.nspname not in ('pg_catalog', 'information_schema')), '{}'))))
        from pg_catalog.pg_database as d where d.datname = current_database()";
    let rows = fetch_rows(client, SQL).await?;
    let text = rows.first().and_then(|row| row.get(0)).unwrap_or_default();
    serde_json::from_str(text)
        .map_err(|e| Error::new(Code::Internal, format!("the names of the relations cannot be read: {e}")))
}
