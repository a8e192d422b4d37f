//! The read-only SQL endpoint, and the one value that a statement of ours answers with.

use super::refusal::map_sql_refusal;
use crate::provider::{
    Code, Error, Result,
    supabase::{
        project::Supabase,
        requests,
        transport::{ApiClient, unreadable_answer_error},
    },
};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

impl Supabase {
    pub(super) fn database_path(&self, endpoint: &str) -> String {
        format!("/v1/projects/{}/database/{endpoint}", self.reference)
    }

    /// Runs one of our own statements and returns the column `answer` of its only row, parsed if it is JSON.
    ///
    /// # Errors
    /// What the database says.
    pub(in crate::provider::supabase) async fn query_answer_column(&self, sql: &str) -> Result<Value> {
        self.query_answer_column_with(&self.api, sql).await
    }

    pub(super) async fn query_answer_column_with(&self, api: &ApiClient, sql: &str) -> Result<Value> {
        let mut rows = self.query_read_only(api, sql).await?;
        // A missing value would read as the answer that there is nothing.
        match rows.first_mut().and_then(|row| row.remove("answer")) {
            Some(Value::String(text)) => Ok(serde_json::from_str(&text).unwrap_or(Value::String(text))),
            Some(answer) => Ok(answer),
            None => Err(self.unreadable_rows_error("it has no row with a column `answer`")),
        }
    }

    /// Runs one of our own statements and decodes the column `answer` of its only row.
    ///
    /// # Errors
    /// What the database says; [`Code::Unavailable`] for an answer of another shape.
    pub(in crate::provider::supabase) async fn query_decoded_answer<T: DeserializeOwned>(
        &self,
        api: &ApiClient,
        sql: &str,
    ) -> Result<T> {
        let answer = self.query_answer_column_with(api, sql).await?;
        requests::decode_answer(answer, &self.database_path("query/read-only"))
    }

    /// Returns the list of rows of a query, as the API gives it.
    pub(super) async fn query_read_only(
        &self,
        api: &ApiClient,
        sql: &str,
    ) -> Result<Vec<Map<String, Value>>> {
        let path = self.database_path("query/read-only");
        let answer = api.send_read(Method::POST, &path, Some(&json!({ "query": sql }))).await;
        requests::decode_answer(answer.map_err(map_sql_refusal)?, &path)
    }

    /// Sends a statement that changes something, which is certain only when the API answers with rows.
    ///
    /// # Errors
    /// What the API says; [`Code::Unknown`] for any other answer.
    pub(super) async fn execute_confirmed_write(&self, api: &ApiClient, sql: &str) -> Result<()> {
        let path = self.database_path("query");
        let answer = api.send_write_for_answer(Method::POST, &path, Some(&json!({ "query": sql }))).await?;
        if answer.is_array() {
            return Ok(());
        }
        let why = format!(
            "`POST {path}` was answered with something else than rows, and nobody knows whether the statement has run"
        );
        Err(Error::new(Code::Unknown, why).with_hint("look at the project before it is asked again"))
    }

    fn unreadable_rows_error(&self, why: &str) -> Error {
        let path = self.database_path("query/read-only");
        unreadable_answer_error(&format!("`{path}`"), why)
    }
}
