//! The running server, asked before it is stopped for what cannot be found out afterwards.

use super::refusal::not_in_place_error;
use crate::provider::{
    Code, Result,
    postgres::{cluster::Cluster, sql},
};
use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

/// Selects every file that the configuration is read from or names.
const CONFIGURATION_FILES_SQL: &str = "select sourcefile as file from pg_file_settings where sourcefile is not null \
     union select setting from pg_settings where setting <> '' and name in \
     ('config_file', 'hba_file', 'ident_file', 'ssl_cert_file', 'ssl_key_file', 'ssl_ca_file', 'ssl_crl_file')";

/// What a running server says of its configuration.
#[derive(Debug)]
pub(super) struct RunningServer {
    /// Its main configuration file.
    pub config_file: PathBuf,
    /// The configuration files in its data folder, relative to that folder.
    pub configuration: Vec<PathBuf>,
}

impl RunningServer {
    /// Queries the server of a cluster; `None` when it is not running.
    ///
    /// # Errors
    /// [`Code::Refused`] when something that the server does would be lost; else as for connecting.
    pub(super) async fn query_server(cluster: &Cluster, data: &Path) -> Result<Option<Self>> {
        if !cluster.is_running() {
            return Ok(None);
        }
        let client = cluster.address.connect().await.map_err(|e| match e.code {
            Code::Unavailable | Code::Denied => e.with_hint(
                "what a restore in place must not lose is asked of the server: let us in, or stop it first",
            ),
            _ => e,
        })?;
        let subscriptions = sql::fetch_text(
            &client,
            "select string_agg(quote_ident(subname), ', ') from pg_subscription where subenabled",
        )
        .await?;
        if let Some(names) = subscriptions {
            let why = format!(
                "it subscribes to {names}, and rows that the publisher has sent already would not come again"
            );
            return Err(not_in_place_error(data, &why).with_hint(
                "restore into a branch; or disable the subscriptions, restore, and make them anew with their rows",
            ));
        }
        let config_file = sql::fetch_text(&client, "show config_file").await?.unwrap_or_default();
        let rows = sql::fetch_rows(&client, CONFIGURATION_FILES_SQL).await?;
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
