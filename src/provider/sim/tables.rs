//! The tables of a simulated database with their rows: all it takes to make them somewhere else.

use super::{
    target::Sim,
    world::{Content, audit::effective_policies, store_error},
};
use crate::provider::{Result, model::Rows};
use rusqlite::Connection;

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub name: String,
    /// Its columns, in their order.
    pub columns: Vec<Column>,
    /// The columns of its primary key, in their order.
    pub key: Vec<String>,
    /// The columns of each of its other unique constraints.
    pub unique: Vec<Vec<String>>,
    /// Its foreign keys.
    pub references: Vec<ForeignKey>,
    /// Whether a statement switched its row-level security on or off, and which.
    pub row_security: Option<bool>,
    /// Every row.
    pub rows: Rows,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// Its type as it was written.
    pub kind: String,
    /// Whether it refuses null.
    pub required: bool,
    /// Its default, an expression.
    pub preset: Option<String>,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForeignKey {
    pub columns: Vec<String>,
    /// The table they refer to.
    pub table: String,
    /// The columns there; empty where it is the primary key.
    pub referred: Vec<String>,
}

impl Sim {
    /// Returns every table of this target or branch, by name.
    ///
    /// # Errors
    /// While it answers no query.
    pub fn export_tables(&self) -> Result<Vec<Table>> {
        let store = self.open_store()?;
        store.read_current_world(|tx| {
            let line = self.answering_timeline(tx)?;
            store.with_content(tx, line, |content| {
                content.table_names()?.iter().map(|name| export_table(content, name)).collect()
            })
        })
    }

    /// Returns the name of every table, and whether its row-level security is on.
    ///
    /// # Errors
    /// While it answers no query.
    pub fn list_row_security(&self) -> Result<Vec<(String, bool)>> {
        let store = self.open_store()?;
        store.read_current_world(|tx| {
            let line = self.answering_timeline(tx)?;
            store.with_content(tx, line, |content| {
                let policies = effective_policies(tx, content)?;
                let has =
                    |name: &String| policies.iter().any(|policy| policy.table == *name && policy.enabled);
                let secured =
                    |name: String| (content.switched_row_security(&name).unwrap_or(has(&name)), name);
                Ok(content.table_names()?.into_iter().map(secured).map(|(on, name)| (name, on)).collect())
            })
        })
    }
}

fn export_table(content: &Content, name: &str) -> Result<Table> {
    let schema = |read: rusqlite::Result<Table>| read.map_err(|e| store_error(&e));
    let rows = content.table_rows(name)?;
    let row_security = content.switched_row_security(name);
    schema(content.with_schema(|conn| {
        let (columns, key) = read_columns(conn, name)?;
        let (unique, references) = (read_unique_constraints(conn, name)?, read_foreign_keys(conn, name)?);
        Ok(Table { name: name.to_owned(), columns, key, unique, references, row_security, rows })
    }))
}

fn read_columns(conn: &Connection, table: &str) -> rusqlite::Result<(Vec<Column>, Vec<String>)> {
    let sql = "select name, type, \"notnull\", dflt_value, pk from pragma_table_info(?1) order by cid";
    let mut statement = conn.prepare(sql)?;
    let read = |row: &rusqlite::Row<'_>| {
        let column =
            Column { name: row.get(0)?, kind: row.get(1)?, required: row.get(2)?, preset: row.get(3)? };
        Ok((column, row.get::<_, i64>(4)?))
    };
    let all = statement.query_map([table], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut key: Vec<_> = all.iter().filter(|(_, pk)| *pk > 0).map(|(c, pk)| (*pk, c.name.clone())).collect();
    key.sort_unstable();
    Ok((all.into_iter().map(|(c, _)| c).collect(), key.into_iter().map(|(_, name)| name).collect()))
}

fn read_unique_constraints(conn: &Connection, table: &str) -> rusqlite::Result<Vec<Vec<String>>> {
    let sql = "select l.name, i.name from pragma_index_list(?1) l, pragma_index_info(l.name) i
               where l.\"unique\" and l.origin = 'u' order by l.name, i.seqno";
    let mut statement = conn.prepare(sql)?;
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for row in statement.query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))? {
        let (index, column) = row?;
        match found.last_mut() {
            Some((last, columns)) if *last == index => columns.push(column),
            _ => found.push((index, vec![column])),
        }
    }
    Ok(found.into_iter().map(|(_, columns)| columns).collect())
}

fn read_foreign_keys(conn: &Connection, table: &str) -> rusqlite::Result<Vec<ForeignKey>> {
    let sql = "select id, \"table\", \"from\", \"to\" from pragma_foreign_key_list(?1) order by id, seq";
    let mut statement = conn.prepare(sql)?;
    let read = |row: &rusqlite::Row<'_>| {
        let to: Option<String> = row.get(3)?;
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, to))
    };
    let mut found: Vec<(i64, ForeignKey)> = Vec::new();
    for row in statement.query_map([table], read)? {
        let (id, table, from, to) = row?;
        if found.last().is_none_or(|(last, _)| *last != id) {
            found.push((id, ForeignKey { table, ..ForeignKey::default() }));
        }
        if let Some((_, key)) = found.last_mut() {
            key.columns.push(from);
            key.referred.extend(to);
        }
    }
    Ok(found.into_iter().map(|(_, key)| key).collect())
}
