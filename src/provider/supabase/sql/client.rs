//! The read-only SQL endpoint, and the one value that a statement of ours answers with.

use super::refusal::map_sql_refusal;
use crate::provider::{
    Code, Error, Result,
    supabase::{project::Supabase, transport::ApiClient},
};
use reqwest::Method;
use serde_json::{Value, json};

impl Supabase {
    pub(super) fn database_path(&self, endpoint: &str) -> String {
        format!("/v1/projects/{}/database/{endpoint}", self.reference)
    }

    /// Runs one of our own statements and returns the column `answer` of its only row, parsed if it is JSON.
    ///
    /// # Errors
    /// What the database says.
    pub(in crate::provider::supabase) async fn query_answer(&self, sql: &str) -> Result<Value> {
        self.query_answer_with(&self.api, sql).await
    }

    pub(super) async fn query_answer_with(&self, api: &ApiClient, sql: &str) -> Result<Value> {
        let rows = self.query_read_only(api, sql).await?;
        let answer = rows.as_array().and_then(|rows| rows.first()).map(|row| row["answer"].clone());
        match answer {
            Some(Value::String(text)) => Ok(serde_json::from_str(&text).unwrap_or(Value::String(text))),
            Some(answer) => Ok(answer),
            None => Err(Error::new(Code::Unavailable, "the API gave no row for a query that has one")),
        }
    }

    /// Returns the list of rows of a query, as the API gives it.
    pub(super) async fn query_read_only(&self, api: &ApiClient, sql: &str) -> Result<Value> {
        let body = json!({ "query": sql });
        api.send_read(Method::POST, &self.database_path("query/read-only"), Some(&body))
            .await
            .map_err(map_sql_refusal)
    }
}
