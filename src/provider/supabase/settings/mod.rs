//! The server's settings: overrides from `config/database/postgres`, effective values from `pg_settings`.
//!
//! - The endpoint returns overrides only, so effective values are queried from the database if it answers.
//! - `PATCH` changes only the settings it names, and takes no null: an override is taken away by a `PUT`, which replaces
//!   all. It carries the others along as they were read right before, and is not sent when they are not as recorded.

mod schema;

use super::{project::Supabase, requests, sql::statements, transport::unreadable_answer_error};
use crate::{
    base::suggest,
    provider::{Code, Error, Result, Settings, model::Setting},
};
use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[async_trait]
impl Settings for Supabase {
    async fn get(&self, names: &[String]) -> Result<Vec<Setting>> {
        let overrides = self.fetch_overrides().await?;
        let names: Vec<String> =
            if names.is_empty() { overrides.keys().cloned().collect() } else { names.to_vec() };
        let known = self.query_effective_settings(&names).await;
        let setting = |name: &String| {
            let overridden = overrides.get(name).cloned().unwrap_or_default();
            let holds = known.as_ref().ok().and_then(|known| known.get(name));
            if overridden.is_null() && holds.is_none() && schema::find_setting(name).is_none() {
                // Without an answer from the database, it is unknown whether the setting exists.
                return Err(known.as_ref().err().cloned().unwrap_or_else(|| unknown_setting_error(name)));
            }
            Ok(Setting {
                name: name.clone(),
                overridden,
                effective: holds.map(|h| schema::decode_setting(name, &json!(h.setting))).unwrap_or_default(),
                pending_restart: holds.is_some_and(|h| h.pending_restart),
            })
        };
        names.iter().map(setting).collect()
    }

    async fn set(&self, values: &Map<String, Value>) -> Result<Vec<String>> {
        let (mut values, mut carried) = (values.clone(), Map::new());
        if values.values().any(Value::is_null) {
            carried = self.fetch_overrides().await?;
            // What is not overridden is no reason to replace the others.
            values.retain(|name, value| !value.is_null() || carried.contains_key(name));
            carried.retain(|name, _| !values.contains_key(name));
        }
        self.set_if_others_unchanged(&values, &carried).await
    }

    fn replaces_all_overrides(&self) -> bool {
        true
    }

    async fn overrides(&self) -> Result<Map<String, Value>> {
        self.fetch_overrides().await
    }

    async fn set_if_others_unchanged(
        &self,
        values: &Map<String, Value>,
        carried: &Map<String, Value>,
    ) -> Result<Vec<String>> {
        let mut sent = encode_values(values)?;
        let mut method = Method::PATCH;
        if sent.len() < values.len() {
            let mut others = self.fetch_overrides().await?;
            let mut taken_away = values.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name);
            if !taken_away.clone().any(|name| others.contains_key(name)) {
                return Err(missing_override_error(taken_away.next().map_or("", String::as_str)));
            }
            others.retain(|name, _| !values.contains_key(name));
            if others != *carried {
                return Err(changed_overrides_error(carried, &others));
            }
            sent.append(&mut others);
            method = Method::PUT;
        }
        if sent.is_empty() && method == Method::PATCH {
            return Ok(Vec::new());
        }
        // A change may be asked for twice, and a restart may not: it is asked for by a request of its own.
        sent.insert("restart_database".into(), false.into());
        self.api.send_write(method, &self.settings_path(), Some(&Value::Object(sent))).await?;
        Ok(values.keys().filter(|name| self.needs_restart(name)).cloned().collect())
    }

    fn needs_restart(&self, name: &str) -> bool {
        schema::find_setting(name).is_some_and(|field| field.restarts)
    }

    async fn server_start(&self) -> Result<Value> {
        self.query_answer_column(statements::SERVER_START_SQL).await
    }

    async fn restart(&self) -> Result<()> {
        let path = format!("/v1/projects/{}/restart", self.reference);
        self.api.send_write(Method::POST, &path, None).await
    }
}

/// Returns the values to set, in the types of the platform. Those to take away are left out.
///
/// # Errors
/// [`Code::Unsupported`] and [`Code::Invalid`] for what the platform does not take.
fn encode_values(values: &Map<String, Value>) -> Result<Map<String, Value>> {
    let mut set = Map::new();
    for (name, value) in values {
        let field = schema::find_setting(name).ok_or_else(|| unsettable_setting_error(name))?;
        if !value.is_null() {
            set.insert(name.clone(), field.encode_value(value)?);
        }
    }
    Ok(set)
}

impl Supabase {
    fn settings_path(&self) -> String {
        format!("/v1/projects/{}/config/database/postgres", self.reference)
    }

    async fn fetch_overrides(&self) -> Result<Map<String, Value>> {
        let path = self.settings_path();
        let answer = self.api.get(&path).await?;
        let mut overrides: Map<String, Value> = requests::decode_answer(answer, &path)?;
        overrides.retain(|_, value| !value.is_null());
        match overrides.iter().find(|(_, value)| value.is_object() || value.is_array()) {
            None => Ok(overrides),
            Some((name, _)) => {
                let why = format!("`{name}` is no value of a setting");
                Err(unreadable_answer_error(&format!("`{path}`"), &why))
            }
        }
    }

    /// Returns the effective values by name; settings that the database does not know are left out.
    async fn query_effective_settings(&self, names: &[String]) -> Result<BTreeMap<String, EffectiveSetting>> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.query_decoded_answer(&self.api, &statements::settings_sql(names)).await
    }
}

/// What the database says of a setting.
#[derive(Deserialize)]
struct EffectiveSetting {
    /// Its value; null where the asking role may not see it.
    setting: Option<String>,
    pending_restart: bool,
}

/// Returns the error of a replacement that was not sent, since there is nothing to take away any more.
fn missing_override_error(name: &str) -> Error {
    let what = format!("the override of `{name}` is gone, and was there right before, so nothing was sent");
    Error::new(Code::Conflict, what).with_hint("see `db::config::get`, and ask again if it is there")
}

/// Returns the error of a replacement that was not sent, since it would have undone what somebody else has set.
fn changed_overrides_error(carried: &Map<String, Value>, now: &Map<String, Value>) -> Error {
    let shown = |value: Option<&Value>| value.map_or_else(|| "not set".to_owned(), |v| format!("`{v}`"));
    let names: BTreeSet<&String> = carried.keys().chain(now.keys()).collect();
    let changed = names.into_iter().filter(|name| carried.get(*name) != now.get(*name));
    let changed: Vec<String> = changed
        .map(|name| format!("`{name}` was {} and is {}", shown(carried.get(name)), shown(now.get(name))))
        .collect();
    let what = format!(
        "somebody else has changed overrides, and taking one away replaces them all, so nothing was sent: {}",
        changed.join(", ")
    );
    Error::new(Code::Conflict, what).with_hint("ask again: what they are now is then kept")
}

fn unknown_setting_error(name: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no setting `{name}`"))
        .with_hint(suggest::suggest_name_or_list_known(name, schema::setting_names()))
}

fn unsettable_setting_error(name: &str) -> Error {
    let error = Error::new(Code::Unsupported, format!("the platform does not let `{name}` be set"));
    match suggest::nearest_name(name, schema::setting_names()) {
        Some(nearest) => error.with_hint(format!("did you mean `{nearest}`?")),
        None => error.with_hint(
            "for a role or a database, `db::execute` with `alter role … set` or `alter database … set` may do",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::mock_api::{MockApi, MockReply, REF};
    use super::*;

    const PATH: &str = "/v1/projects/abcdefghijklmnopqrst/config/database/postgres";

    /// Serves two overrides and a database that knows a little.
    async fn served() -> MockApi {
        MockApi::serve_replies(|seen| {
            if seen.line.starts_with("POST") {
                let holds = json!({"work_mem": {"setting": "8MB", "pending_restart": false},
                                   "max_connections": {"setting": "60", "pending_restart": true},
                                   "log_checkpoints": {"setting": "on", "pending_restart": false},
                                   "port": {"setting": "5432", "pending_restart": false}});
                return MockReply::from_json(201, &json!([{"answer": holds.to_string()}]));
            }
            MockReply::from_json(200, &json!({"work_mem": "8MB", "max_connections": 120}))
        })
        .await
    }

    async fn set(server: &MockApi, values: Value) -> Result<Vec<String>> {
        server.project().set(values.as_object().expect("settings")).await
    }

    #[tokio::test]
    async fn supabase_t23_what_holds_is_asked_of_the_database() {
        let server = served().await;
        let all = server.project().get(&[]).await.expect("settings");
        assert_eq!(
            json!(all),
            json!([{"name": "max_connections", "overridden": 120, "effective": 60, "pending_restart": true},
                   {"name": "work_mem", "overridden": "8MB", "effective": "8MB", "pending_restart": false}])
        );
        let names = ["log_checkpoints", "port"].map(str::to_owned);
        let two = server.project().get(&names).await.expect("settings");
        assert_eq!((&two[0].effective, &two[0].overridden), (&json!(true), &Value::Null));
        assert_eq!(two[1].effective, json!("5432"), "a setting that the platform's list does not have");
        let error = server.project().get(&["work_men".into()]).await.expect_err("a typo");
        assert_eq!((error.code, error.hint.as_deref()), (Code::NotFound, Some("did you mean `work_mem`?")));
    }

    #[tokio::test]
    async fn supabase_settings_are_read_also_when_the_database_is_away() {
        let server = MockApi::serve_replies(|seen| {
            if seen.line.starts_with("POST") {
                MockReply::from_json(
                    400,
                    &json!({"message": "Failed to run sql query: connect ECONNREFUSED"}),
                )
            } else {
                MockReply::from_json(200, &json!({"work_mem": "8MB"}))
            }
        })
        .await;
        let all = server.project().get(&[]).await.expect("settings");
        assert_eq!((&all[0].overridden, &all[0].effective), (&json!("8MB"), &Value::Null));
        let error = server.project().get(&["port".into()]).await.expect_err("nobody knows");
        assert_eq!(error.code, Code::Unavailable);
    }

    #[tokio::test]
    async fn supabase_t23_setting_is_a_patch_with_the_types_of_the_schema() {
        let server = served().await;
        let values = json!({"max_connections": "90", "work_mem": "16MB", "log_checkpoints": "true",
                            "statement_timeout": 30000, "pg_stat_statements.max": 5000});
        let waiting = set(&server, values).await.expect("set");
        assert_eq!(waiting, ["max_connections", "pg_stat_statements.max"]);
        let sent = server.received_requests().pop().expect("sent");
        assert_eq!(sent.line, format!("PATCH {PATH}"));
        assert_eq!(
            sent.body,
            json!({"max_connections": 90, "work_mem": "16MB", "log_checkpoints": true, "statement_timeout": "30000",
                   "pg_stat_statements.max": 5000, "restart_database": false})
        );
        assert!(sent.line.contains(REF));
    }

    #[tokio::test]
    async fn supabase_t23_a_restart_is_a_request_of_its_own() {
        let server = served().await;
        server.project().restart().await.expect("accepted");
        let sent = server.received_requests().pop().expect("sent");
        assert_eq!((sent.line, sent.body), (format!("POST /v1/projects/{REF}/restart"), Value::Null));
        for (name, waits) in [("work_mem", false), ("max_connections", true), ("port", false)] {
            assert_eq!(server.project().needs_restart(name), waits, "{name}");
        }
    }

    #[tokio::test]
    async fn supabase_t23_taking_away_replaces_all_and_keeps_the_others() {
        let server = served().await;
        set(&server, json!({"work_mem": null, "checkpoint_timeout": "10min"})).await.expect("set");
        let sent = server.received_requests().pop().expect("sent");
        assert_eq!(sent.line, format!("PUT {PATH}"));
        let wanted =
            json!({"max_connections": 120, "checkpoint_timeout": "10min", "restart_database": false});
        assert_eq!(sent.body, wanted);
    }

    #[tokio::test]
    async fn supabase_overrides_are_not_replaced_when_others_were_set_meanwhile() {
        let server = served().await;
        let values = json!({"work_mem": null});
        let carried = json!({"max_connections": 90, "statement_timeout": "5s"});
        let (values, carried) = (values.as_object().expect("a map"), carried.as_object().expect("a map"));
        let error = server.project().set_if_others_unchanged(values, carried).await.expect_err("changed");
        assert_eq!(error.code, Code::Conflict);
        let said = "`max_connections` was `90` and is `120`, `statement_timeout` was `\"5s\"` and is not set";
        assert!(error.message.contains(said), "{error}");
        assert!(server.request_lines().iter().all(|line| line.starts_with("GET")), "nothing was sent");
    }

    #[tokio::test]
    async fn supabase_an_override_that_is_not_listed_is_no_reason_to_replace_all() {
        let server = MockApi::serve_replies(|_| MockReply::from_json(200, &json!({}))).await;
        set(&server, json!({"work_mem": null})).await.expect("there is none");
        assert!(server.request_lines().iter().all(|line| line.starts_with("GET")));
        set(&server, json!({"work_mem": null, "checkpoint_timeout": "10min"})).await.expect("set");
        let sent = server.received_requests().pop().expect("sent");
        assert_eq!(sent.line, format!("PATCH {PATH}"));
        assert_eq!(sent.body, json!({"checkpoint_timeout": "10min", "restart_database": false}));
        let values = json!({"work_mem": null});
        let planned = server.project();
        let error = planned.set_if_others_unchanged(values.as_object().expect("a map"), &Map::new()).await;
        assert_eq!(error.expect_err("it was seen before").code, Code::Conflict);
        assert!(server.request_lines().iter().all(|line| !line.starts_with("PUT")));
    }

    #[tokio::test]
    async fn supabase_settings_that_cannot_be_are_refused_before_anything_is_sent() {
        let server = served().await;
        for (values, said) in [
            (json!({"work_men": "8MB"}), "does not let `work_men` be set"),
            (json!({"random_page_cost": 1}), "does not let"),
            (json!({"max_connections": 0}), "between 1 and 262143"),
            (json!({"max_connections": "many"}), "a whole number"),
            (json!({"work_mem": 64}), "with its unit"),
            (json!({"work_mem": "64 bananas"}), "with its unit"),
            (json!({"log_checkpoints": "on"}), "true or false"),
            (json!({"statement_timeout": "45m"}), "`45min`"),
            (json!({"session_replication_role": "none"}), "`origin`, `replica`, `local`"),
        ] {
            let error = set(&server, values.clone()).await.expect_err(said);
            let shown = format!("{} {}", error.message, error.hint.clone().unwrap_or_default());
            assert!(shown.contains(said), "{values}: {shown}");
        }
        assert_eq!(server.received_requests().len(), 0);
    }
}
