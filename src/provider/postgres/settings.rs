//! The capability `Settings` of a server: the overrides of `ALTER SYSTEM`, and the values in effect.
//!
//! - An override is a line of `postgresql.auto.conf`. All other configuration belongs to the administrator.
//! - `ALTER SYSTEM` is not transactional: when the server refuses one setting, the ones before it are reverted.
//! - A session that changes settings bears the name of the one that it changes now, so that one whose answer never came can
//!   be ended.
//! - Nothing here restarts a server. What waits for a restart is named.

use super::{
    loaded_files::is_loaded_sql,
    setting_lists::split_list,
    sql::{self, Client, Database, SessionName},
};
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
                return Err(revert_settings_and_explain(&client, &done, error).await);
            }
            done.push((&setting.name, setting.overridden.clone()));
        }
        let names: Vec<String> = values.keys().cloned().collect();
        let now = async {
            self.reload_configuration_and_wait(client).await?;
            self.get(&names).await
        };
        let now = now.await.map_err(|e| match e.code {
            // The file has the settings, and whether they hold must be looked up.
            code if code.is_look_failure() => Error { code: Code::Unknown, retryable: false, ..e },
            _ => e.with_side_effects(),
        })?;
        Ok(now.into_iter().filter(|s| s.pending_restart).map(|s| s.name).collect())
    }

    async fn normalize(&self, values: &Map<String, Value>) -> Result<Map<String, Value>> {
        let mut normalized = values.clone();
        for (name, value) in &mut normalized {
            let Value::String(text) = value else { continue };
            if let Some(names) = split_list(name, text)? {
                *text = join_list(&self.address.connect().await?, &names).await?;
            }
        }
        Ok(normalized)
    }

    async fn end_lost_requests(&self, names: &[String]) -> Result<()> {
        let names: Vec<SessionName> = names.iter().map(|name| session_name(name)).collect();
        sql::end_sessions(&self.address.connect().await?, &names).await
    }

    async fn find_unloaded(&self) -> Result<Option<String>> {
        // A session begins with the load time of the server.
        let client = self.address.connect().await?;
        match sql::fetch_text(&client, &overrides_loaded_sql()).await {
            Ok(loaded) if loaded.as_deref() == Some("t") => Ok(None),
            Ok(_) => Ok(Some("the server is not seen to have read its files since".into())),
            Err(e) if e.code == Code::Denied => Ok(Some(
                "whether the server has read its files since cannot be seen: the role may not call `pg_stat_file`"
                    .into(),
            )),
            Err(e) => Err(e),
        }
    }
}

impl Database {
    /// Makes the server read its files again, and returns when it has.
    async fn reload_configuration_and_wait(&self, client: Client) -> Result<()> {
        // Whatever makes the server read them later than this, it reads what was written before.
        let asked_at = sql::fetch_text(&client, "select clock_timestamp()").await?.unwrap_or_default();
        sql::send_change(&client, "select pg_reload_conf()").await?;
        drop(client);
        let loaded = format!("select pg_conf_load_time() >= '{asked_at}'");
        for _ in 0..RELOAD_POLLS_MAX {
            // A session begins with the load time of the server: a new one shows the change.
            if sql::fetch_text(&*self.address.connect().await?, &loaded).await?.as_deref() == Some("t") {
                return Ok(());
            }
            tokio::time::sleep(RELOAD_POLL_INTERVAL).await;
        }
        Err(Error::new(Code::NotApplied, "the server did not read its files again")
            .with_hint("look at its log, and ask it with `select pg_reload_conf()`"))
    }
}

/// Returns what tells whether the server has read the file of overrides since it was last changed, where it has one.
fn overrides_loaded_sql() -> String {
    format!("select coalesce({}, true) from pg_stat_file('postgresql.auto.conf', true) f", is_loaded_sql("f"))
}

/// Returns the name of a session that changes a setting, however that is spelled.
fn session_name(setting: &str) -> SessionName {
    SessionName::for_thing("set", &setting.to_ascii_lowercase())
}

/// Joins names as the server does when it stores them.
async fn join_list(client: &Client, names: &[String]) -> Result<String> {
    let quoted: Vec<String> =
        names.iter().map(|name| format!("quote_ident({})", quote_literal(name))).collect();
    let join = format!("select concat_ws(', ', {})", quoted.join(", "));
    Ok(sql::fetch_text(client, &join).await?.unwrap_or_default())
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

/// Overrides a setting, or takes its override away, in a session that bears its name.
async fn alter_system(client: &Client, name: &str, value: &Value) -> Result<()> {
    let quoted: Vec<String> =
        name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    let quoted = quoted.join(".");
    let statement = match value {
        Value::Null => format!("alter system reset {quoted}"),
        Value::String(text) => format!("alter system set {quoted} = {}", quote_setting_value(name, text)?),
        other => format!("alter system set {quoted} = {}", quote_setting_value(name, &other.to_string())?),
    };
    sql::name_session(client, &session_name(name)).await?;
    sql::send_change(client, &statement).await.map(drop)
}

fn quote_setting_value(name: &str, text: &str) -> Result<String> {
    Ok(match split_list(name, text)? {
        None => quote_literal(text),
        Some(names) => names.iter().map(|name| quote_literal(name)).collect::<Vec<_>>().join(", "),
    })
}

fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Reverts the settings in `done` and returns `error`, naming an override that could not be reverted.
async fn revert_settings_and_explain(client: &Client, done: &[(&String, Value)], error: Error) -> Error {
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

        /// What is recorded as wanted is what the server then shows, however it was written.
        #[tokio::test]
        async fn every_value_is_stored_as_it_is_normalized() {
            let Some(cluster) = TestCluster::start(&[]).await else { return };
            let db = cluster.database();
            for (name, typed, stored) in [
                ("search_path", "a,b", "a, b"),
                (
                    "Search_Path",
                    "\"$user\",Public,\"Shop\",\"a,b\",\"q\"\"q\"",
                    "\"$user\", public, \"Shop\", \"a,b\", \"q\"\"q\"",
                ),
                ("search_path", "select, x", "\"select\", x"),
                ("search_path", "", "\"\""),
                ("temp_tablespaces", "", "\"\""),
                ("temp_tablespaces", "pg_default,pg_default", "pg_default, pg_default"),
                (
                    "shared_preload_libraries",
                    "auto_explain,\"$libdir/auto_explain\"",
                    "auto_explain, \"$libdir/auto_explain\"",
                ),
                ("session_preload_libraries", " auto_explain", "auto_explain"),
                ("unix_socket_directories", "/tmp/A,/tmp/b c", "\"/tmp/A\", \"/tmp/b c\""),
                ("synchronous_standby_names", "FIRST 1 (a,\"B\")", "FIRST 1 (a,\"B\")"),
                ("listen_addresses", "a,b", "a,b"),
                ("log_destination", "stderr,csvlog", "stderr,csvlog"),
                ("DateStyle", "iso,dmy", "iso,dmy"),
                ("wal_consistency_checking", "heap,btree", "heap,btree"),
                ("work_mem", "65536kB", "65536kB"),
                ("work_mem", "64MB", "64MB"),
                ("jit", "ON", "ON"),
                ("jit", "true", "true"),
                ("random_page_cost", "1.50", "1.50"),
                ("bgwriter_lru_maxpages", "0x10", "0x10"),
                ("log_min_messages", "WARNING", "WARNING"),
                ("TimeZone", "utc", "utc"),
                ("archive_command", "", ""),
                ("log_line_prefix", "a\\b'c ", "a\\b'c "),
            ] {
                let values = map(&json!({ name: typed })).clone();
                let normalized = db.normalize(&values).await.expect("it is fine");
                assert_eq!(normalized, *map(&json!({ name: stored })), "{typed}");
                db.set(&values).await.expect("it is set");
                assert_eq!(one(&db, name).await.0, json!(stored), "{typed}");
                // What is shown can be set again, and is the same.
                assert_eq!(db.normalize(&normalized).await, Ok(normalized.clone()), "{typed}");
            }
            for wrong in [json!({"search_path": "a b"}), json!({"shared_preload_libraries": ""})] {
                for refused in
                    [db.normalize(map(&wrong)).await.map(drop), db.set(map(&wrong)).await.map(drop)]
                {
                    assert_eq!(refused.expect_err("it is refused").code, Code::Invalid, "{wrong}");
                }
            }
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

        /// A role that may not see when the file was changed is not told that it was loaded.
        #[tokio::test]
        async fn what_a_role_may_not_see_is_not_said() {
            let Some(cluster) = TestCluster::start(&[]).await else { return };
            cluster.run_statements(&["create role guest login"]).await;
            let unseen = cluster.database_as("guest").find_unloaded().await.expect("it is an answer");
            assert!(unseen.is_some_and(|why| why.contains("cannot be seen")));
            cluster.run_statements(&["grant execute on function pg_stat_file(text, boolean) to guest"]).await;
            while cluster.database_as("guest").find_unloaded().await.expect("it is seen").is_some() {
                cluster.run_statements(&["select pg_reload_conf()"]).await;
                tokio::time::sleep(RELOAD_POLL_INTERVAL).await;
            }
            cluster.run_statements(&["alter system set work_mem = '8MB'"]).await;
            assert!(cluster.database_as("guest").find_unloaded().await.expect("it is seen").is_some());
        }
    }
}
