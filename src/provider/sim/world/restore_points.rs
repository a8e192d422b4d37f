//! Restore points, as rows of the world's file.

use super::{
    lsn::format_lsn,
    time::from_micros,
    tx::{WorldTx, store_error},
};
use crate::provider::{
    Result,
    model::{CallKey, RestorePoint},
    restore_points::{describe_place, taken_name_error},
};
use rusqlite::{OptionalExtension as _, Row, params};

/// A restore point.
pub(in crate::provider::sim) struct WorldRestorePointRow {
    /// The timeline it is on.
    pub(in crate::provider::sim) line: i64,
    pub(in crate::provider::sim) lsn: i64,
    /// The key of the call that made it.
    pub(in crate::provider::sim) key: Option<String>,
    /// The restore point as providers return it.
    pub(in crate::provider::sim) mark: RestorePoint,
}

impl WorldTx<'_> {
    /// Makes a restore point, in the place of one of the same name that no backup leads to any more.
    pub(in crate::provider::sim) fn add_restore_point(
        &self,
        name: &str,
        at: i64,
        key: Option<&CallKey>,
    ) -> Result<RestorePoint> {
        let (lsn, _) = self.allocate_transaction(name.len())?;
        let line = self.main_timeline()?;
        let sql = "insert or replace into marks values (?1, ?2, ?3, ?4, ?5)";
        self.conn
            .execute(sql, params![name, line.id, lsn, at, key.map(|k| &k.0)])
            .map_err(|e| store_error(&e))?;
        Ok(RestorePoint {
            name: name.into(),
            lsn: Some(format_lsn(lsn)),
            timeline: u32::try_from(line.number).ok(),
            time: from_micros(at),
        })
    }

    /// Refuses a name while a backup leads to a restore point that has it.
    pub(in crate::provider::sim) fn demand_free_point_name(&self, name: &str) -> Result<()> {
        match self.find_restore_point(name)? {
            Some(taken) if self.is_reachable(taken.line, taken.lsn)? => {
                Err(taken_name_error(name, &describe_place(&taken.mark)))
            }
            _ => Ok(()),
        }
    }

    /// Returns a restore point.
    pub(in crate::provider::sim) fn find_restore_point(
        &self,
        name: &str,
    ) -> Result<Option<WorldRestorePointRow>> {
        let sql = "select m.line, m.lsn, m.at, m.key, l.number from marks m join lines l on l.id = m.line
                   where m.name = ?1";
        let read = |row: &Row<'_>| {
            let lsn = row.get(1)?;
            let mark = RestorePoint {
                name: name.into(),
                lsn: Some(format_lsn(lsn)),
                timeline: row.get(4)?,
                time: from_micros(row.get(2)?),
            };
            Ok(WorldRestorePointRow { line: row.get(0)?, lsn, key: row.get(3)?, mark })
        };
        self.conn.query_row(sql, [name], read).optional().map_err(|e| store_error(&e))
    }

    /// Returns the names of the restore points.
    pub(in crate::provider::sim) fn restore_point_names(&self) -> Result<Vec<String>> {
        self.query_rows("select name from marks order by lsn", [], |row| row.get(0))
    }
}
