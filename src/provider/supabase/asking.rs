//! What several capabilities ask a project: how it is, what it answers, how to log in to it.

use super::{Supabase, statuses};
use crate::{
    base::moment::{Moment, Span},
    provider::{Code, Error, Result},
};
use reqwest::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// What `GET /v1/projects/{ref}` says.
#[derive(Debug, Deserialize)]
pub(super) struct Described {
    /// How it is, in the platform's word.
    pub status: String,
    /// Where it is.
    pub region: String,
    /// What the list of its organization's projects is asked with.
    #[serde(default)]
    pub organization_slug: Option<String>,
    /// Its database.
    #[serde(default)]
    pub database: Server,
}

/// Where a project's database is.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Server {
    /// The address that is reached directly, over IPv6 unless IPv4 was booked.
    #[serde(default)]
    pub host: Option<String>,
    /// Such as `15.8.1.079`.
    #[serde(default)]
    pub version: Option<String>,
}

impl Supabase {
    /// Asks below the path of the project that is this, and reads the answer.
    ///
    /// # Errors
    /// What the API says, or [`Code::Internal`] for an answer of another shape.
    pub(super) async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let path = format!("/v1/projects/{}{path}", self.reference);
        read(self.api.get(&path).await?, &path)
    }

    /// Returns what the platform says of the project.
    ///
    /// # Errors
    /// As [`Supabase::ask`].
    pub(super) async fn described(&self) -> Result<Described> {
        self.ask("").await
    }

    /// Runs one statement as the read-only user and returns its rows.
    ///
    /// # Errors
    /// What the API says.
    pub(super) async fn rows(&self, reference: &str, sql: &str) -> Result<Vec<Value>> {
        let path = format!("/v1/projects/{reference}/database/query/read-only");
        read(self.api.look(Method::POST, &path, Some(&json!({ "query": sql }))).await?, &path)
    }

    /// Returns why the database of a project that says it is up does not answer yet; `None` when it does. The platform
    /// says so up to a minute before it is true.
    ///
    /// # Errors
    /// [`Code::Denied`]: that will not change by waiting.
    pub(super) async fn why_silent(&self, reference: &str) -> Result<Option<String>> {
        let health = format!("/v1/projects/{reference}/health?services=db");
        let why = match self.api.get(&health).await {
            Ok(services) => services[0]["status"].as_str().filter(|s| *s != statuses::HEALTHY).map(|s| {
                let why = services[0]["error"].as_str().map(|e| format!(": {e}")).unwrap_or_default();
                format!("its database is {s}{why}")
            }),
            Err(e) if e.code == Code::Denied => return Err(e),
            Err(e) => Some(e.message),
        };
        if why.is_some() {
            return Ok(why);
        }
        match self.rows(reference, "select 1 as one").await {
            Ok(rows) if rows.first().is_some_and(|row| row["one"] == 1) => Ok(None),
            Ok(_) => Ok(Some("it gave another answer than 1 to `select 1`".into())),
            Err(e) if e.code == Code::Denied => Err(e),
            Err(e) => Ok(Some(e.message)),
        }
    }

    /// Returns when to look again at what was asked for then: late by a tenth at most, and never so often that the
    /// platform, which allows two requests a second, turns us away.
    pub(super) fn pace(&self, asked_at: Moment) -> Span {
        Span(self.clock.now().since(asked_at).0 / 10).clamp(Span::millis(200), Span::seconds(10))
    }

    /// Returns whether what was asked for then, and shows late, is worth another look; after a pause when it is.
    pub(super) async fn may_still_appear(&self, asked_at: Moment, patience: Span) -> bool {
        let is_young = self.clock.now() < asked_at.plus(patience);
        if is_young {
            self.clock.sleep(Span::seconds(3)).await;
        }
        is_young
    }
}

/// Reads an answer.
///
/// # Errors
/// [`Code::Internal`]; the answer itself, which may hold secrets, is not repeated.
pub(super) fn read<T: DeserializeOwned>(answer: Value, path: &str) -> Result<T> {
    serde_json::from_value(answer).map_err(|e| {
        // The words of the error repeat values of the answer, unless it is about a field that is missing.
        let why =
            if e.to_string().starts_with("missing field") { e.to_string() } else { "another shape".into() };
        Error::new(Code::Internal, format!("the platform's answer to `{path}` cannot be read: {why}"))
            .hint("the platform may have changed: see whether there is a newer redrill")
    })
}
