//! One way to the Management API.

use crate::{
    base::secret::Reference,
    provider::{Code, Error, Result},
};
use reqwest::{Client, Method};
use serde_json::Value;
use std::{sync::Once, time::Duration};

/// Where the API is, unless it is said otherwise.
const ADDRESS: &str = "https://api.supabase.com";

/// The Management API, as one account sees it.
pub(super) struct Api {
    client: Client,
    address: String,
    token: Option<Reference>,
}

impl Api {
    /// Returns the API at `address` (`SUPABASE_API_URL`, or the public one), with the token at `token`. Asks nothing.
    ///
    /// # Errors
    /// [`Code::Invalid`] for a token that is no reference.
    pub(super) fn new(token: Option<&str>, address: Option<&str>) -> Result<Self> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let token = token.map(Reference::parse).transpose();
        let token = token.map_err(|e| Error::new(Code::Invalid, e.to_string()))?;
        let address = address.map(str::to_owned).or_else(|| std::env::var("SUPABASE_API_URL").ok());
        let client = Client::builder()
            .user_agent(concat!("firedrill/", env!("CARGO_PKG_VERSION")))
            .timeout(Duration::from_secs(60))
            .build()
            .map_err(|e| Error::new(Code::Internal, e.to_string()))?;
        Ok(Self { client, address: address.unwrap_or_else(|| ADDRESS.into()), token })
    }

    /// Reads. Asked again, within the time there is, when the answer does not come or says later.
    ///
    /// # Errors
    /// What the API says, or that it cannot be reached.
    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, None).await
    }

    /// Reads with a method that usually writes, such as a query in the body; asked again as [`Api::get`] is.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub(super) async fn look(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        self.ask(method, path, Some(body)).await
    }

    /// Writes. Sent again only where it is certain that nothing was accepted.
    ///
    /// # Errors
    /// What the API says; [`Code::Unknown`] when it was sent and not answered.
    pub(super) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.ask(method, path, body).await
    }

    /// Asks once. An empty body is `null`; one that is no JSON is a string.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let away = |e: reqwest::Error| Error::new(Code::Unavailable, e.without_url().to_string());
        let mut request = self.client.request(method, format!("{}{path}", self.address));
        if let Some(token) = &self.token {
            let token = token.resolve().map_err(|e| Error::new(Code::Invalid, e.to_string()))?;
            request = request.bearer_auth(token.reveal());
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        let text = answer.text().await.map_err(away)?;
        let value =
            serde_json::from_str(&text).unwrap_or(if text.is_empty() { Value::Null } else { text.into() });
        if status.is_success() {
            Ok(value)
        } else {
            Err(Error::new(Code::Refused, format!("{status}: {value}")))
        }
    }
}
