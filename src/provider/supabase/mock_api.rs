//! A loopback server that plays the Management API as a test says, and the project that asks it.

use super::{config::ConfiguredAddress, project::Supabase, transport::ApiClient};
use crate::base::lock::lock_unpoisoned;
use crate::base::{
    clock::{Clock, VirtualClock},
    moment::{Moment, Span},
};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{
    io,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// The project's reference.
pub(super) const REF: &str = "abcdefghijklmnopqrst";
/// The token that is sent, and must appear nowhere else.
pub(super) const TOKEN: &str = "sbp_0123456789abcdef0123456789abcdef01234567";

/// A request, as it came.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReceivedRequest {
    /// Its method and path, with the query: `GET /v1/projects`.
    pub line: String,
    /// Its body, null without one.
    pub body: Value,
    /// Its headers.
    pub headers: hyper::HeaderMap,
    /// How many of the same line came before.
    pub earlier: usize,
}

/// What to answer.
#[derive(Clone)]
pub(super) struct MockReply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    end: ReplyEnding,
}

#[derive(Clone, Copy, PartialEq)]
enum ReplyEnding {
    Whole,
    /// The connection breaks after the body.
    Broken,
    /// The connection breaks before the answer.
    Reset,
    /// Nothing ever comes.
    Hang,
}

impl MockReply {
    /// Returns an answer with a JSON body; null is an empty one.
    pub(super) fn from_json(status: u16, body: &Value) -> Self {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Self { status, headers: Vec::new(), body, end: ReplyEnding::Whole }
    }

    /// Returns an answer whose body is `text`.
    pub(super) fn from_text(status: u16, text: &str) -> Self {
        Self { status, headers: Vec::new(), body: text.into(), end: ReplyEnding::Whole }
    }

    /// Adds a header.
    pub(super) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Returns the same, with the connection broken after it.
    pub(super) fn with_broken_body(mut self) -> Self {
        self.end = ReplyEnding::Broken;
        self
    }

    /// Returns a connection that breaks before the answer.
    pub(super) fn without_answer() -> Self {
        Self { end: ReplyEnding::Reset, ..Self::from_text(200, "") }
    }

    /// Returns an answer that never comes.
    pub(super) fn never_answering() -> Self {
        Self { end: ReplyEnding::Hang, ..Self::from_text(200, "") }
    }

    async fn send_reply(self) -> io::Result<Response<BoxBody<Bytes, io::Error>>> {
        match self.end {
            ReplyEnding::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
            ReplyEnding::Hang => std::future::pending().await,
            ReplyEnding::Whole | ReplyEnding::Broken => {}
        }
        let mut answer = Response::builder().status(self.status);
        for (name, value) in self.headers {
            answer = answer.header(name, value);
        }
        let mut frames = vec![Ok(Frame::data(Bytes::from(self.body)))];
        if self.end == ReplyEnding::Broken {
            frames.push(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let body = StreamBody::new(stream::iter(frames));
        Ok(answer.body(BodyExt::boxed(body)).expect("an answer"))
    }
}

/// A server, its log, and a clock on which nobody waits.
pub(super) struct MockApi {
    /// Where it listens.
    pub address: String,
    /// The clock of whoever asks.
    pub clock: Arc<VirtualClock>,
    seen: Arc<Mutex<Vec<ReceivedRequest>>>,
    server: JoinHandle<()>,
}

impl MockApi {
    /// Serves what `answer` says.
    pub(super) async fn serve_replies(
        answer: impl Fn(&ReceivedRequest) -> MockReply + Send + Sync + 'static,
    ) -> Self {
        Self::serve_async(move |seen| std::future::ready(answer(&seen))).await
    }

    /// Serves what `answer` finds out.
    pub(super) async fn serve_async<F: Future<Output = MockReply> + Send + 'static>(
        answer: impl Fn(ReceivedRequest) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = tokio::spawn(accept_connections(listener, Arc::clone(&seen), Arc::new(answer)));
        let now = Moment::parse("2026-11-20T03:00:00Z").expect("a moment");
        Self { address, clock: Arc::new(VirtualClock::starting_at(now)), seen, server }
    }

    /// Returns a client of this server.
    pub(super) fn api(&self) -> ApiClient {
        ApiClient::for_test(&self.address, TOKEN, &(Arc::clone(&self.clock) as Arc<dyn Clock>))
    }

    /// Returns a project that asks this server.
    pub(super) fn project(&self) -> Supabase {
        Supabase {
            target: "prod".into(),
            protect: false,
            reference: REF.into(),
            branch: None,
            api: Arc::new(self.api()),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            backups: std::env::temp_dir().join("redrill-no-such-folder"),
            state: std::env::temp_dir().join("redrill-no-such-folder"),
            database: ConfiguredAddress::default(),
            landing_time: Span::from_secs(2),
        }
    }

    /// Returns every request so far.
    pub(super) fn received_requests(&self) -> Vec<ReceivedRequest> {
        lock_unpoisoned(&self.seen).clone()
    }

    /// Returns the lines of every request so far.
    pub(super) fn request_lines(&self) -> Vec<String> {
        self.received_requests().into_iter().map(|seen| seen.line).collect()
    }
}

impl Drop for MockApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept_connections<A, F>(
    listener: TcpListener,
    seen: Arc<Mutex<Vec<ReceivedRequest>>>,
    answer: Arc<A>,
) where
    A: Fn(ReceivedRequest) -> F + Send + Sync + 'static,
    F: Future<Output = MockReply> + Send + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
        let service = service_fn(move |request: Request<Incoming>| {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            async move { answer(log_request(request, &seen).await).await.send_reply().await }
        });
        tokio::spawn(async move {
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn log_request(request: Request<Incoming>, seen: &Mutex<Vec<ReceivedRequest>>) -> ReceivedRequest {
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let mut all = lock_unpoisoned(seen);
    let earlier = all.iter().filter(|other| other.line == line).count();
    let seen = ReceivedRequest { line, body, headers, earlier };
    all.push(seen.clone());
    seen
}
