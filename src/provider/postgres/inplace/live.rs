//! What the server says of itself before it is stopped: nobody can ask it afterwards.

use super::managed::refused;
use crate::provider::{
    Code, Result,
    postgres::{cluster::Cluster, sql},
};
use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

/// Every file that the configuration is read from, and those that it names.
const CONFIGURATION: &str = "select sourcefile as file from pg_file_settings where sourcefile is not null \
     union select setting from pg_settings where setting <> '' and name in \
     ('config_file', 'hba_file', 'ident_file', 'ssl_cert_file', 'ssl_key_file', 'ssl_ca_file', 'ssl_crl_file')";

/// A server that runs.
#[derive(Debug)]
pub(super) struct Live {
    /// Its main configuration file.
    pub config_file: PathBuf,
    /// The files of its configuration that lie below its data folder, from there.
    pub configuration: Vec<PathBuf>,
}

impl Live {
    /// Asks the server of a cluster; `None` when it does not run.
    ///
    /// # Errors
    /// [`Code::Refused`] when something that the server does would be lost; what connecting says.
    pub(super) async fn of(cluster: &Cluster, data: &Path) -> Result<Option<Self>> {
        if !cluster.is_running() {
            return Ok(None);
        }
        let client = cluster.address.connect().await.map_err(|e| match e.code {
            Code::Unavailable | Code::Denied => e.hint(
                "what a restore in place must not lose is asked of the server: let us in, or stop it first",
            ),
            _ => e,
        })?;
        let subscriptions = sql::text(
            &client,
            "select string_agg(quote_ident(subname), ', ') from pg_subscription where subenabled",
        )
        .await?;
        if let Some(names) = subscriptions {
            let why = format!(
                "it subscribes to {names}, and rows that the publisher has sent already would not come again"
            );
            return Err(refused(data, &why).hint(
                "restore into a branch; or disable the subscriptions, restore, and make them anew with their rows",
            ));
        }
        let config_file = sql::text(&client, "show config_file").await?.unwrap_or_default();
        let rows = sql::records(&client, CONFIGURATION).await?;
        let below = |file: &str| {
            let file = data.join(file);
            let inside = file.strip_prefix(data).or_else(|_| file.strip_prefix(&cluster.data)).ok()?;
            let is_plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
            is_plain.then(|| inside.to_path_buf())
        };
        let files: BTreeSet<PathBuf> = rows.iter().filter_map(|row| below(row.get(0)?)).collect();
        Ok(Some(Self { config_file: config_file.into(), configuration: files.into_iter().collect() }))
    }
}
