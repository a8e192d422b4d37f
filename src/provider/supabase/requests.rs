//! Requests that several capabilities share: project details, read-only queries, readiness of the database.

use super::{project::Supabase, statuses, transport::unreadable_answer_error};
use crate::{
    base::moment::{Moment, Span},
    provider::{Code, Result},
};
use reqwest::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// The answer to `GET /v1/projects/{ref}`.
#[derive(Debug, Deserialize)]
pub(super) struct ProjectDetails {
    /// The status, in the platform's word.
    pub status: String,
    pub region: String,
    /// The organization's slug, needed to list its projects.
    #[serde(default)]
    pub organization_slug: Option<String>,
    #[serde(default)]
    pub database: DatabaseServer,
}

/// Where a project's database is.
#[derive(Debug, Default, Deserialize)]
pub(super) struct DatabaseServer {
    /// The direct host. It has only an IPv6 address unless the IPv4 add-on is booked.
    #[serde(default)]
    pub host: Option<String>,
    /// The server's version, such as `15.8.1.079`.
    #[serde(default)]
    pub version: Option<String>,
}

/// How a service of a project is.
#[derive(Deserialize)]
struct ServiceHealth {
    name: String,
    status: String,
    error: Option<String>,
}

impl Supabase {
    /// Sends `GET /v1/projects/{ref}{path}` and decodes the response.
    ///
    /// # Errors
    /// What the API says, or [`Code::Unavailable`] for an answer of another shape.
    pub(super) async fn get_project_resource<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let path = format!("/v1/projects/{}{path}", self.reference);
        decode_answer(self.api.get(&path).await?, &path)
    }

    /// Fetches the project's details.
    ///
    /// # Errors
    /// As [`Supabase::get_project_resource`].
    pub(super) async fn fetch_project_details(&self) -> Result<ProjectDetails> {
        self.get_project_resource("").await
    }

    /// Runs one statement as the read-only user and returns its rows.
    ///
    /// # Errors
    /// What the API says.
    pub(super) async fn query_rows_read_only(&self, reference: &str, sql: &str) -> Result<Vec<Value>> {
        let path = format!("/v1/projects/{reference}/database/query/read-only");
        decode_answer(self.api.send_read(Method::POST, &path, Some(&json!({ "query": sql }))).await?, &path)
    }

    /// Returns why the database of a project that is up does not answer yet; `None` when it does. The platform calls a
    /// project up as much as a minute before it is.
    ///
    /// # Errors
    /// [`Code::Denied`], which waiting does not change.
    pub(super) async fn why_not_ready(&self, reference: &str) -> Result<Option<String>> {
        let health = format!("/v1/projects/{reference}/health?services=db");
        let answer = self.api.get(&health).await;
        let services = answer.and_then(|answer| decode_answer::<Vec<ServiceHealth>>(answer, &health));
        let why = match services {
            Ok(services) => match services.iter().find(|service| service.name == "db") {
                Some(service) if service.status == statuses::ACTIVE_HEALTHY => None,
                Some(service) => {
                    let why = service.error.as_ref().map(|e| format!(": {e}")).unwrap_or_default();
                    Some(format!("its database is {}{why}", service.status))
                }
                None => Some("the platform does not say how its database is".into()),
            },
            Err(e) if e.code == Code::Denied => return Err(e),
            Err(e) => Some(e.message),
        };
        if why.is_some() {
            return Ok(why);
        }
        match self.query_rows_read_only(reference, "select 1 as one").await {
            Ok(rows) if rows.first().is_some_and(|row| row["one"] == 1) => Ok(None),
            Ok(_) => Ok(Some("it gave another answer than 1 to `select 1`".into())),
            Err(e) if e.code == Code::Denied => Err(e),
            Err(e) => Ok(Some(e.message)),
        }
    }

    /// Returns how long to wait before the next poll: a tenth of the time since `asked_at`, within bounds
    /// that respect the platform's limit of two requests a second.
    pub(super) fn poll_interval(&self, asked_at: Moment) -> Span {
        Span(self.clock.now().duration_since(asked_at).0 / 10)
            .clamp(Span::from_millis(200), Span::from_secs(10))
    }
}

/// Decodes a response. What is documented and missing is an error, never a preset: a default would be read as a fact.
///
/// # Errors
/// [`Code::Unavailable`], with the field. The message does not repeat the response, which may hold secrets.
pub(super) fn decode_answer<T: DeserializeOwned>(answer: Value, path: &str) -> Result<T> {
    let kind = describe_kind(&answer);
    serde_path_to_error::deserialize(answer).map_err(|e| {
        let why = describe_misfit(&e.path().to_string(), &e.inner().to_string(), kind);
        unreadable_answer_error(&format!("`{}`", path.split('?').next().unwrap_or_default()), &why)
    })
}

/// Says what of a response does not fit, without a value of it: `path` is where, `error` the decoder's own words.
fn describe_misfit(path: &str, error: &str, kind: &str) -> String {
    let is_root = path == ".";
    if let Some(field) = error.strip_prefix("missing field ") {
        let field = field.trim_matches('`');
        let place = if is_root { field.to_owned() } else { format!("{path}.{field}") };
        return format!("`{place}` is missing");
    }
    match error.rsplit_once(", expected ") {
        _ if is_root => format!("it is {kind}"),
        Some((_, "a sequence")) => format!("`{path}` is no list"),
        Some((_, "a map")) => format!("`{path}` is no object"),
        Some((_, expected)) if !expected.starts_with("struct ") => format!("`{path}` is not {expected}"),
        _ => format!("`{path}` is of another shape"),
    }
}

fn describe_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
