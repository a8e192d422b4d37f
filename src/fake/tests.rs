//! The server asked from outside, through its own door.

mod branches;
mod databases;
mod door;
mod neighbours;
mod restores;

use super::{Options, Server};
use reqwest::{Client, Method};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A server and somebody who asks it.
struct Desk {
    server: Server,
    client: Client,
}

impl Desk {
    fn of(options: Options) -> Self {
        // The client wants one, whether it is used or not; a second is refused.
        drop(rustls::crypto::ring::default_provider().install_default());
        let server = Server::start(options).expect("starts");
        Self { server, client: Client::builder().build().expect("a client") }
    }

    /// One in which minutes are milliseconds.
    fn quick() -> Self {
        Self::of(Self::quickly())
    }

    fn quickly() -> Options {
        Options { speed: 2000, ..Options::default() }
    }

    fn project(&self) -> String {
        self.server.references().remove(0)
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> reqwest::RequestBuilder {
        let method: Method = method.parse().expect("a method");
        let path = path.replace("{ref}", &self.project());
        let mut request = self.client.request(method, format!("{}{path}", self.server.url()));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.bearer_auth("sbp_0123456789abcdef")
    }

    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let answer = self.request(method, path, body).send().await.expect("answered");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("read");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn query(&self, reference: &str, sql: &str) -> (u16, Value) {
        let path = format!("/v1/projects/{reference}/database/query");
        self.ask("POST", &path, Some(&serde_json::json!({ "query": sql }))).await
    }

    /// Looks until something is so.
    async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let seen = self.ask("GET", path, None).await.1;
            if is_so(&seen) {
                return seen;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{path} stays {seen}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    fn counts(&self, endpoint: &str) -> usize {
        self.server.log().iter().filter(|e| format!("{} {}", e.method, e.endpoint) == endpoint).count()
    }
}
