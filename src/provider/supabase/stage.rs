//! A loopback server that answers as a test says, and the target that asks it.

use super::{Supabase, transport::Api};
use crate::base::{
    clock::{Clock, Virtual},
    moment::Moment,
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
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// The project of every stage.
pub(super) const REF: &str = "abcdefghijklmnopqrst";
/// The token that is sent, and must never be seen elsewhere.
pub(super) const TOKEN: &str = "sbp_0123456789abcdef0123456789abcdef01234567";

/// A request, as it came.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
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
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    end: End,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Whole,
    /// The connection breaks after the body.
    Broken,
    /// The connection breaks before the answer.
    None,
    /// Nothing ever comes.
    Silence,
}

impl Reply {
    /// Returns an answer with a JSON body; null is an empty one.
    pub(super) fn json(status: u16, body: &Value) -> Self {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Self { status, headers: Vec::new(), body, end: End::Whole }
    }

    /// Returns an answer whose body is `text`.
    pub(super) fn text(status: u16, text: &str) -> Self {
        Self { status, headers: Vec::new(), body: text.into(), end: End::Whole }
    }

    /// Adds a header.
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Returns the same, with the connection broken after it.
    pub(super) fn broken(mut self) -> Self {
        self.end = End::Broken;
        self
    }

    /// Returns a connection that breaks before the answer.
    pub(super) fn none() -> Self {
        Self { end: End::None, ..Self::text(200, "") }
    }

    /// Returns an answer that never comes.
    pub(super) fn silence() -> Self {
        Self { end: End::Silence, ..Self::text(200, "") }
    }

    async fn send(self) -> io::Result<Response<BoxBody<Bytes, io::Error>>> {
        match self.end {
            End::None => return Err(io::ErrorKind::ConnectionReset.into()),
            End::Silence => std::future::pending().await,
            End::Whole | End::Broken => {}
        }
        let mut answer = Response::builder().status(self.status);
        for (name, value) in self.headers {
            answer = answer.header(name, value);
        }
        let mut frames = vec![Ok(Frame::data(Bytes::from(self.body)))];
        if self.end == End::Broken {
            frames.push(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let body = StreamBody::new(stream::iter(frames));
        Ok(answer.body(BodyExt::boxed(body)).expect("an answer"))
    }
}

/// A server, its log, and a clock on which nobody waits.
pub(super) struct Stage {
    /// Where it listens.
    pub address: String,
    /// The clock of whoever asks.
    pub clock: Arc<Virtual>,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: JoinHandle<()>,
}

impl Stage {
    /// Serves what `answer` says.
    pub(super) async fn serve(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::play(move |seen| std::future::ready(answer(&seen))).await
    }

    /// Serves what `answer` finds out.
    pub(super) async fn play<F: Future<Output = Reply> + Send + 'static>(
        answer: impl Fn(Seen) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = tokio::spawn(listen(listener, Arc::clone(&seen), Arc::new(answer)));
        let now = Moment::parse("2026-11-20T03:00:00Z").expect("a moment");
        Self { address, clock: Arc::new(Virtual::at(now)), seen, server }
    }

    /// Returns the API of this stage.
    pub(super) fn api(&self) -> Api {
        Api::staged(&self.address, TOKEN, &(Arc::clone(&self.clock) as Arc<dyn Clock>))
    }

    /// Returns a target that asks this stage.
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
            database: super::Address::default(),
        }
    }

    /// Returns every request so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the lines of every request so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn listen<A, F>(listener: TcpListener, seen: Arc<Mutex<Vec<Seen>>>, answer: Arc<A>)
where
    A: Fn(Seen) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
        let service = service_fn(move |request: Request<Incoming>| {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            async move { answer(noted(request, &seen).await).await.send().await }
        });
        tokio::spawn(async move {
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn noted(request: Request<Incoming>, seen: &Mutex<Vec<Seen>>) -> Seen {
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let mut all = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let earlier = all.iter().filter(|other| other.line == line).count();
    let seen = Seen { line, body, headers, earlier };
    all.push(seen.clone());
    seen
}
