//! The HTTP server: connections, request parsing, responses.

use super::{
    admission::{self, HttpRequest, HttpResponse},
    platform::Platform,
    response::{ApiResponse, ResponseBody},
    url,
};
use crate::base::terminal;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use std::{io, net::TcpListener, sync::Arc};
use tokio::sync::oneshot;

/// The largest body that is read, in bytes.
const MAX_BODY_BYTES: usize = 8 << 20;

/// Serves requests until `stopped` fires or is dropped, then drops every connection.
pub(super) fn serve_connections(
    listener: TcpListener,
    platform: &Arc<Platform>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return terminal::print_message(&format!("error: the server cannot run: {why}")),
    };
    runtime.block_on(async {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(why) => return terminal::print_message(&format!("error: the server cannot listen: {why}")),
        };
        tokio::select! {
            () = accept_connections(&listener, platform) => {}
            _ = stopped => {}
        }
    });
    // Open requests are dropped with the runtime, then the projects with their clusters.
    drop(runtime);
    platform.drop_projects();
}

async fn accept_connections(listener: &tokio::net::TcpListener, platform: &Arc<Platform>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let platform = Arc::clone(platform);
        tokio::spawn(async move {
            let serve = service_fn(|request| answer_request(Arc::clone(&platform), request));
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), serve);
            // A client may disconnect at any time.
            drop(connection.await);
        });
    }
}

async fn answer_request(
    platform: Arc<Platform>,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let bytes = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(io::Error::other)?.to_bytes();
    let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let request = HttpRequest {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(url::parse_query).unwrap_or_default(),
        body: if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) },
        authorization: header("authorization"),
    };
    // A spawned task runs to its end, also when the client disconnects.
    let handled = tokio::spawn(async move { admission::handle_request(&platform, request).await });
    let Some(HttpResponse { response, limits }) = handled.await.map_err(io::Error::other)? else {
        return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection is cut"));
    };
    let mut builder = Response::builder().status(response.status);
    for (name, value) in limits {
        builder = builder.header(name, value);
    }
    build_response(builder, response).map_err(io::Error::other)
}

fn build_response(
    builder: hyper::http::response::Builder,
    response: ApiResponse,
) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
    match response.body {
        ResponseBody::Empty => builder.body(Full::default()),
        ResponseBody::Json(value) => builder
            .header("content-type", "application/json; charset=utf-8")
            .body(Full::from(value.to_string())),
        ResponseBody::Text(text) => {
            builder.header("content-type", "text/plain; charset=utf-8").body(Full::from(text))
        }
        ResponseBody::Html(page) => {
            builder.header("content-type", "text/html; charset=utf-8").body(Full::from(page))
        }
    }
}
