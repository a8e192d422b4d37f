//! The fake server, tested over HTTP.

mod admission;
mod branches;
mod late;
mod lifecycle;
mod network;
mod postgres;
mod restores;
mod settings;

use super::{FakeServer, ServerOptions};
use reqwest::{Client, Method};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A fake server and an HTTP client for it.
struct TestClient {
    server: FakeServer,
    client: Client,
}

impl TestClient {
    fn with_options(options: ServerOptions) -> Self {
        // The client needs a crypto provider even for plain HTTP; a second install fails.
        drop(rustls::crypto::ring::default_provider().install_default());
        let server = FakeServer::start(options).expect("starts");
        Self { server, client: Client::builder().build().expect("a client") }
    }

    /// Starts a server in which a minute takes 30 milliseconds.
    fn with_fast_clock() -> Self {
        Self::with_options(Self::fast_options())
    }

    fn fast_options() -> ServerOptions {
        ServerOptions { speed: 2000, ..ServerOptions::default() }
    }

    fn project_reference(&self) -> String {
        self.server.list_root_references().remove(0)
    }

    fn build_request(&self, method: &str, path: &str, body: Option<&Value>) -> reqwest::RequestBuilder {
        let method: Method = method.parse().expect("a method");
        let path = path.replace("{ref}", &self.project_reference());
        let mut request = self.client.request(method, format!("{}{path}", self.server.url()));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.bearer_auth("sbp_0123456789abcdef")
    }

    async fn send_request(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let answer = self.build_request(method, path, body).send().await.expect("answered");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("read");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn get_json(&self, path: &str) -> Value {
        let (status, body) = self.send_request("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn run_sql(&self, reference: &str, sql: &str) -> (u16, Value) {
        let path = format!("/v1/projects/{reference}/database/query");
        self.send_request("POST", &path, Some(&serde_json::json!({ "query": sql }))).await
    }

    /// Polls a path until `is_so` holds.
    async fn poll_until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let seen = self.send_request("GET", path, None).await.1;
            if is_so(&seen) {
                return seen;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{path} stays {seen}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    fn count_effects(&self, endpoint: &str) -> usize {
        self.server
            .ledger_entries()
            .iter()
            .filter(|e| format!("{} {}", e.method, e.endpoint) == endpoint)
            .count()
    }
}
