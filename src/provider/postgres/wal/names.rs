//! Which number is which table. WAL knows tables by number alone, and the catalog forgets them when they are dropped:
//! names are kept beside every backup.

use crate::provider::{Code, Error, Result, postgres::sql::records};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// The relations of one or more databases, by the numbers of database and relation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in super::super) struct Names {
    databases: BTreeMap<u32, Database>,
}

/// The relations of one database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Database {
    name: String,
    schemas: BTreeMap<u32, String>,
    relations: BTreeMap<u32, Relation>,
}

/// One relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Relation {
    /// Its schema, where that is known.
    pub schema: Option<String>,
    /// Its name.
    pub name: String,
    /// Its `relkind`: `r` a table, `p` a partitioned one, `i` an index.
    pub kind: char,
    /// Whether it was only there for one session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub temporary: bool,
}

impl Relation {
    /// Returns whether it is a table, or the parent of a partitioned one.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.kind, 'r' | 'p') && !self.temporary
    }

    /// Returns whether `wanted`, `name` or `schema.name`, means this one.
    pub(super) fn is_called(&self, wanted: &str) -> bool {
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

impl Names {
    /// Adds what `newer` knows; where both know something, `newer` holds.
    pub(in super::super) fn learn(&mut self, newer: Names) {
        for (oid, database) in newer.databases {
            let known = self.databases.entry(oid).or_default();
            known.name = database.name;
            known.schemas.extend(database.schemas);
            known.relations.extend(database.relations);
        }
    }

    /// Returns whether a database is one of those this is about; with none at all, every one is.
    pub(super) fn covers(&self, database: u32) -> bool {
        self.databases.is_empty() || self.databases.contains_key(&database)
    }

    /// Returns a relation.
    pub(super) fn relation(&self, database: u32, oid: u32) -> Option<&Relation> {
        self.databases.get(&database)?.relations.get(&oid)
    }

    /// Returns a schema's name; two have the same number in every cluster.
    pub(super) fn schema(&self, database: u32, oid: u32) -> Option<String> {
        let known = self.databases.get(&database).and_then(|d| d.schemas.get(&oid)).cloned();
        known.or(match oid {
            11 => Some("pg_catalog".into()),
            2200 => Some("public".into()),
            _ => None,
        })
    }
}

/// Returns the relations of the database that `client` is connected to, and of no other: what a catalog says, only a
/// connection to its own database can see.
///
/// # Errors
/// What the server says.
pub(in super::super) async fn relation_names(client: &Client) -> Result<Names> {
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
    let rows = records(client, SQL).await?;
    let text = rows.first().and_then(|row| row.get(0)).unwrap_or_default();
    serde_json::from_str(text)
        .map_err(|e| Error::new(Code::Internal, format!("the names of the relations cannot be read: {e}")))
}
