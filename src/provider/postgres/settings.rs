//! The capability `Settings` of a server: the overrides of `ALTER SYSTEM`, and the values in effect.
//!
//! - An override is a line of `postgresql.auto.conf`. All other configuration belongs to the administrator.
//! - `ALTER SYSTEM` is not transactional: when the server refuses one setting, the ones before it are reverted.
//! - Nothing here restarts a server. What waits for a restart is named.

use super::sql::{self, Client, Database};
use crate::{
    base::suggest,
    provider::{Code, Error, Result, Settings, model::Setting},
};
use async_trait::async_trait;
use serde_json::{Map, Value};
use std::time::Duration;

/// How often, and how far apart, the server is polled until it has reloaded its configuration.
const RELOAD_POLLS_MAX: u32 = 50;
const RELOAD_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Settings that are lists of names. Quoted as one string, a list would become a single name
/// (`GUC_LIST_QUOTE` in PostgreSQL's `guc_tables.c`).
const LIST_SETTINGS: &[&str] = &[
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// Selects all settings. One that our own session changes gets no effective value: other sessions have another.
const SETTINGS_SQL: &str = "
    select s.name, s.context, s.pending_restart, f.setting as overridden,
           case when s.source <> 'client' then current_setting(s.name, true) end as effective
    from pg_settings s
    left join lateral (select f.setting from pg_file_settings f
                       where lower(f.name) = lower(s.name) and f.sourcefile like '%/postgresql.auto.conf'
                       order by f.seqno desc limit 1) f on true
    order by s.name";

/// A setting as the server shows it.
struct ServerSetting {
    setting: Setting,
    context: String,
}

#[async_trait]
impl Settings for Database {
    async fn get(&self, names: &[String]) -> Result<Vec<Setting>> {
        let all = load_settings(&self.address.connect().await?).await?;
        if names.is_empty() {
            return Ok(all.into_iter().map(|s| s.setting).filter(|s| !s.overridden.is_null()).collect());
        }
        names
            .iter()
            .map(|name| Ok(Setting { name: name.clone(), ..find_setting(&all, name)?.setting.clone() }))
            .collect()
    }

    async fn set(&self, values: &Map<String, Value>) -> Result<Vec<String>> {
        let client = self.address.connect().await?;
        let all = load_settings(&client).await?;
        for name in values.keys() {
            if find_setting(&all, name)?.context == "internal" {
                return Err(Error::new(Code::Refused, format!("the setting `{name}` cannot be changed"))
                    .with_hint("it was decided when the server was built or its cluster made"));
            }
        }
        let mut done: Vec<(&String, Value)> = Vec::new();
        for (name, value) in values {
            // The server's own spelling: in its file another one would be another setting.
            let setting = &find_setting(&all, name)?.setting;
            if let Err(error) = alter_system(&client, &setting.name, value).await {
                return Err(revert_settings(&client, &done, error).await);
            }
            done.push((&setting.name, setting.overridden.clone()));
        }
        self.reload_configuration(client).await.map_err(Error::with_side_effects)?;
        let names: Vec<String> = values.keys().cloned().collect();
        let now = self.get(&names).await.map_err(Error::with_side_effects)?;
        Ok(now.into_iter().filter(|s| s.pending_restart).map(|s| s.name).collect())
    }
}

impl Database {
    /// Makes the server read its files again, and returns when it has.
    async fn reload_configuration(&self, client: Client) -> Result<()> {
        const LOADED: &str = "select pg_conf_load_time()";
        let before = sql::fetch_text(&client, LOADED).await?;
        sql::fetch_text(&client, "select pg_reload_conf()").await?;
        drop(client);
        for _ in 0..RELOAD_POLLS_MAX {
            // A session keeps the load time it began with: only a new one shows the change.
            if sql::fetch_text(&*self.address.connect().await?, LOADED).await? != before {
                return Ok(());
            }
            tokio::time::sleep(RELOAD_POLL_INTERVAL).await;
        }
        Err(Error::new(Code::Timeout, "the server did not read its files again")
            .with_hint("look at its log, and ask it with `select pg_reload_conf()`"))
    }
}

async fn load_settings(client: &Client) -> Result<Vec<ServerSetting>> {
    let rows = sql::fetch_rows(client, SETTINGS_SQL).await?;
    let text = |value: Option<&str>| value.map_or(Value::Null, Value::from);
    Ok(rows
        .iter()
        .map(|row| ServerSetting {
            setting: Setting {
                name: row.get("name").unwrap_or_default().to_owned(),
                overridden: text(row.get("overridden")),
                effective: text(row.get("effective")),
                pending_restart: row.get("pending_restart") == Some("t"),
            },
            context: row.get("context").unwrap_or_default().to_owned(),
        })
        .collect())
}

fn find_setting<'a>(all: &'a [ServerSetting], name: &str) -> Result<&'a ServerSetting> {
    all.iter().find(|s| s.setting.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let error = Error::new(Code::NotFound, format!("there is no setting `{name}`"));
        match suggest::nearest_name(name, all.iter().map(|s| s.setting.name.as_str())) {
            Some(near) => error.with_hint(format!("did you mean `{near}`?")),
            None => error.with_hint("`select name from pg_settings` lists them"),
        }
    })
}

/// Overrides a setting, or takes its override away.
async fn alter_system(client: &Client, name: &str, value: &Value) -> Result<()> {
    let quoted: Vec<String> =
        name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    let quoted = quoted.join(".");
    let statement = match value {
        Value::Null => format!("alter system reset {quoted}"),
        Value::String(text) => format!("alter system set {quoted} = {}", quote_setting(name, text)),
        other => format!("alter system set {quoted} = {}", quote_setting(name, &other.to_string())),
    };
    sql::send_change(client, &statement).await.map(drop)
}

fn quote_setting(name: &str, text: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    if !LIST_SETTINGS.contains(&name.to_ascii_lowercase().as_str()) {
        return quoted(text);
    }
    let items = text.split(',').map(|item| quoted(item.trim().trim_matches('"')));
    items.collect::<Vec<_>>().join(", ")
}

/// Reverts the settings in `done` and returns `error`, naming an override that could not be reverted.
async fn revert_settings(client: &Client, done: &[(&String, Value)], error: Error) -> Error {
    if error.code == Code::Unknown {
        return error;
    }
    for (name, before) in done {
        if alter_system(client, name, before).await.is_err() {
            return error.with_left_behind(format!("the override of {name}"));
        }
    }
    error
}

#[cfg(test)]
mod tests {
    mod postgres {
        use super::super::*;
        use crate::{
            base::{
                clock::{Clock, SystemClock},
                send_deadline::with_send_deadline,
            },
            provider::{SideEffects, postgres::test_cluster::TestCluster},
        };
        use serde_json::json;

        fn map(value: &Value) -> &Map<String, Value> {
            value.as_object().expect("a map")
        }

        async fn one(db: &Database, name: &str) -> (Value, Value, bool) {
            let mut got = db.get(&[name.to_owned()]).await.expect("it is shown");
            let Setting { overridden, effective, pending_restart, .. } = got.remove(0);
            (overridden, effective, pending_restart)
        }

        #[tokio::test]
        async fn settings_hold_at_once_or_are_said_to_wait_for_a_restart() {
            let Some(cluster) = TestCluster::start(&[]).await else { return };
            let db = cluster.database();
            assert_eq!(db.get(&[]).await.expect("they are shown"), []);
            assert_eq!(one(&db, "work_mem").await, (json!(null), json!("4MB"), false));
            let values = json!({"work_mem": "8MB", "max_connections": 50, "jit": false});
            assert_eq!(db.set(map(&values)).await.expect("they are set"), ["max_connections"]);
            assert_eq!(one(&db, "work_mem").await, (json!("8MB"), json!("8MB"), false));
            assert_eq!(one(&db, "Jit").await, (json!("false"), json!("off"), false));
            assert_eq!(one(&db, "max_connections").await, (json!("50"), json!("100"), true));
            let overridden = db.get(&[]).await.expect("they are shown");
            let names: Vec<&str> = overridden.iter().map(|s| s.name.as_str()).collect();
            assert_eq!(names, ["jit", "max_connections", "work_mem"]);

            let back = json!({"work_mem": null, "max_connections": null, "jit": null});
            assert_eq!(db.set(map(&back)).await.expect("they are taken away"), Vec::<String>::new());
            assert_eq!(one(&db, "work_mem").await, (json!(null), json!("4MB"), false));
            assert_eq!(db.get(&[]).await.expect("they are shown"), []);
            // Our sessions set it: what holds for others is not known.
            assert_eq!(one(&db, "TimeZone").await.1, json!(null));
        }

        #[tokio::test]
        async fn a_refused_setting_leaves_none_behind() {
            let Some(cluster) = TestCluster::start(&[]).await else { return };
            let db = cluster.database();
            let refused = db.set(map(&json!({"autovacuum": "off", "work_mem": "much"}))).await;
            let refused = refused.expect_err("it is refused");
            assert!(refused.message.contains("work_mem") && refused.left_behind.is_empty(), "{refused:?}");
            assert_eq!(db.get(&[]).await.expect("they are shown"), []);
            for (wrong, code) in
                [(json!({"work_men": 1}), Code::NotFound), (json!({"block_size": 1}), Code::Refused)]
            {
                assert_eq!(db.set(map(&wrong)).await.expect_err("it is refused").code, code);
            }
            assert_eq!(db.server_start().await.expect_err("it is not restarted").code, Code::Unsupported);
            assert_eq!(db.get(&[]).await.expect("they are shown"), []);
            cluster.run_statements(&["create role guest login"]).await;
            let guest = cluster.database_as("guest").set(map(&json!({"work_mem": "8MB"}))).await;
            assert_eq!(guest.expect_err("it may not").code, Code::Denied);
        }

        #[tokio::test]
        async fn a_list_stays_a_list_and_a_quote_a_quote() {
            let Some(cluster) = TestCluster::start(&[]).await else { return };
            let db = cluster.database();
            let values = json!({"search_path": "\"$user\", public, shop", "log_line_prefix": "it's "});
            db.set(map(&values)).await.expect("they are set");
            assert_eq!(one(&db, "search_path").await.1, json!("\"$user\", public, shop"));
            assert_eq!(one(&db, "log_line_prefix").await.1, json!("it's "));
        }

        #[tokio::test]
        async fn nothing_is_sent_when_the_time_to_send_it_is_over() {
            let Some(cluster) = TestCluster::start(&[]).await else { return };
            let db = cluster.database();
            let values = json!({"work_mem": "8MB"});
            let late = with_send_deadline(SystemClock.uptime(), db.set(map(&values))).await;
            let late = late.expect_err("it is over");
            assert_eq!((late.code, late.side_effects), (Code::Unavailable, SideEffects::None), "{late:?}");
            assert!(late.message.contains("nothing was sent"), "{late}");
            assert_eq!(one(&db, "work_mem").await.0, json!(null));
        }
    }
}
