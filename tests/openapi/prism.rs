//! Every endpoint of the fake through a validating proxy.

use super::{documents_or_skip, examples::EXAMPLES, examples::Example};
use redrill::fake::{FakeServer, ServerOptions};
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

#[derive(Deserialize)]
struct DeviationList {
    deviation: Vec<Deviation>,
}

/// Something in which the real API differs from its documents.
#[derive(Deserialize)]
struct Deviation {
    method: String,
    path: String,
    says: String,
    statuses: Option<Vec<u16>>,
    reason: String,
}

impl Deviation {
    fn covers_violation(&self, example: &Example, violation: &Value) -> bool {
        let is = |pattern: &str, text: &str| pattern == "*" || pattern == text;
        is(&self.method, example.method)
            && is(&self.path, example.path)
            && self.statuses.as_ref().is_none_or(|list| list.contains(&example.status))
            && violation["message"].as_str().is_some_and(|message| message.contains(&self.says))
    }
}

/// The proxy, which goes with the test.
pub struct ValidatingProxy {
    child: Child,
    pub url: String,
}

impl ValidatingProxy {
    pub fn start(program: &str, document: &Path, upstream: &str) -> Self {
        // The port was free a moment ago. The program cannot take an open socket.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.arg("proxy").arg(document).arg(upstream).args(["--port", &port.to_string()]);
        command.args(["--verboseLevel", "silent"]).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let proxy = Self { child, url: format!("http://127.0.0.1:{port}") };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the proxy does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        proxy
    }
}

impl Drop for ValidatingProxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the text with every place filled that is known.
fn fill_places(text: &str, known: &BTreeMap<&str, String>) -> String {
    known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// Waits until the project is in service or out of it for good: the next request is about something else.
async fn wait_until_settled(client: &Client, server: &FakeServer) {
    let url = format!("{}/v1/projects/{}", server.url(), server.list_root_references()[0]);
    let begun = Instant::now();
    loop {
        let answer = client.get(&url).bearer_auth("sbp_settling").send().await.unwrap();
        let project: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        if ["ACTIVE_HEALTHY", "INACTIVE"].iter().any(|status| project["status"] == **status) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the project stays {}", project["status"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was just made is not found, and what is healthy does not answer, for a moment.
    tokio::time::sleep(Duration::from_millis(40)).await;
}

/// Drives every example through a proxy and returns the violations that nothing explains.
async fn find_violations(
    document: &Path,
    program: &str,
    allowed: &[Deviation],
    used: &mut [bool],
) -> Vec<String> {
    let options = ServerOptions { speed: 2000, per_minute: 10_000, ..ServerOptions::default() };
    let server = FakeServer::start(options).unwrap();
    let proxy = ValidatingProxy::start(program, document, &server.url());
    let client = Client::new();
    let mut known = BTreeMap::from([
        ("ref", server.list_root_references().remove(0)),
        ("slug", "redrill-practice".to_owned()),
    ]);
    let paths: Value = serde_json::from_str(&std::fs::read_to_string(document).unwrap()).unwrap();
    let mut unexplained = Vec::new();
    for example in EXAMPLES {
        let is_in = paths["paths"][example.path].get(example.method.to_lowercase()).is_some();
        let url = if is_in { &proxy.url } else { &server.url() };
        let path = fill_places(example.path, &known);
        let query = if example.query.is_empty() { String::new() } else { format!("?{}", example.query) };
        let mut request = client.request(example.method.parse().unwrap(), format!("{url}{path}{query}"));
        if !example.body.is_empty() {
            request =
                request.header("content-type", "application/json").body(fill_places(example.body, &known));
        }
        let answer = request.bearer_auth("sbp_driving").send().await.unwrap();
        let status = answer.status().as_u16();
        let said = answer.headers().get("sl-violations").map(|v| v.to_str().unwrap().to_owned());
        let text = answer.text().await.unwrap();
        assert_eq!(status, example.status, "{} {path}: {text}", example.method);
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        for (name, pointer) in example.keep {
            let value = body.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {body}"));
            known.insert(name, value.as_str().unwrap().to_owned());
        }
        let list: Vec<Value> = said.map(|s| serde_json::from_str(&s).unwrap()).unwrap_or_default();
        for violation in list {
            let is_ours = violation["location"][0] == "request" && !example.is_well_formed;
            match allowed.iter().position(|d| d.covers_violation(example, &violation)) {
                Some(at) => used[at] = true,
                None if is_ours => {}
                None => unexplained.push(format!("{} {path} ({status}): {violation}", example.method)),
            }
        }
        wait_until_settled(&client, &server).await;
    }
    unexplained
}

#[tokio::test]
async fn every_answer_is_as_the_documents_say_or_as_the_real_one_was_seen_to_differ() {
    let Some(documents) = documents_or_skip() else { return };
    let Ok(program) = std::env::var("REDRILL_PRISM") else {
        eprintln!("skipped: REDRILL_PRISM names no program that validates");
        return;
    };
    drop(rustls::crypto::ring::default_provider().install_default());
    let DeviationList { deviation: allowed } = toml::from_str(include_str!("deviations.toml")).unwrap();
    let mut used = vec![false; allowed.len()];
    for document in documents {
        let unexplained = find_violations(&document, &program, &allowed, &mut used).await;
        assert!(unexplained.is_empty(), "{}:\n{}", document.display(), unexplained.join("\n"));
    }
    for (deviation, used) in allowed.iter().zip(used) {
        assert!(used, "never seen, take it out of the list: {}", deviation.reason);
    }
}
