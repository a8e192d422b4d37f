//! The new data of a restore in place: a copy of a backup that recovers in the place of the old data, privately.

use super::{exchange, lock, server_owner};
use crate::provider::{
    Result,
    host::{disk, programs::Programs},
    postgres::{
        cluster::{Cluster, control_file::ControlFile},
        records::{CopyRecord, RestoreRecord},
        restore::restored_copy::RestoredCopy,
        sql::DatabaseAddress,
    },
};
use async_trait::async_trait;
use std::{ffi::OsString, path::PathBuf};

#[async_trait]
impl RestoredCopy for RestoreRecord {
    fn copy(&self) -> &CopyRecord {
        &self.copy
    }

    fn copy_mut(&mut self) -> &mut CopyRecord {
        &mut self.copy
    }

    fn save(&self, cluster: &Cluster) -> Result<()> {
        cluster.records.save_restore(self)
    }

    /// The lock on the data says whose it is.
    fn claim_and_make_folder(&self, cluster: &Cluster, programs: &Programs) -> Result<()> {
        lock::acquire_lock(cluster, self)?;
        disk::make_private_folder(programs, &self.copy.folder)
    }

    /// It recovers in the place of the old data.
    fn recovery_data_folder(&self) -> PathBuf {
        self.data.clone()
    }

    fn address(&self, source: &DatabaseAddress) -> DatabaseAddress {
        DatabaseAddress {
            host: self.copy.socket.display().to_string(),
            port: exchange::PRIVATE_PORT,
            password: None,
            ..source.clone()
        }
    }

    /// The options make the recovery private, and nothing of that outlives it.
    async fn prepare_server_and_get_options(&mut self, programs: &Programs) -> Result<Vec<OsString>> {
        self.check_server_is_own()?;
        // Until its process id is recorded, the server is identified by its socket.
        self.copy.child = None;
        let CopyRecord { recovery, folder, socket, .. } = &self.copy;
        let control = ControlFile::read(programs, &self.data).await?;
        exchange::make_private_folders(programs, folder, socket)?;
        let mut options: Vec<OsString> = self.options.iter().map(OsString::from).collect();
        options.extend(exchange::private_recovery_options(recovery, &control, socket));
        Ok(options)
    }

    fn check_server_is_own(&self) -> Result<()> {
        server_owner::check_no_foreign_server(self)
    }

    /// It is the cluster itself, with its own archive; data with tablespaces outside is not replaced in place.
    fn check_still_isolated(&self) -> Result<()> {
        Ok(())
    }
}
