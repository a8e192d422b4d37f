//! Connects to a database, over its socket folder or over TCP, always with the same session settings.
//!
//! - There is no TLS yet: TCP connections are unencrypted, and a server that requires TLS refuses us.
//! - Root connects to a socket as the OS user who owns it, so that `peer` sees the cluster's own user.
//! - A [`Client`] that is dropped closes its connection at once; a transaction that is open then is rolled back.

use super::{fetch::fetch_text, refusal};
use crate::{
    base::secret,
    provider::{Code, Error, Result},
};
use std::{
    io,
    ops::Deref,
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_postgres::{NoTls, config::Config};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The settings of every session; they decide how values look as text.
const SESSION_OPTIONS: &str = "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres -c bytea_output=hex \
                       -c extra_float_digits=1";

/// The address of a database, and the role and password to log in with.
#[derive(Debug, Clone)]
pub(in super::super) struct DatabaseAddress {
    /// The folder of the socket, or a host name or address.
    pub host: String,
    /// The port, which is also part of the socket's name.
    pub port: u16,
    pub user: String,
    pub database: String,
    /// The password, by reference.
    pub password: Option<secret::SecretRef>,
}

/// One database of a cluster.
#[derive(Debug, Clone)]
pub(in crate::provider) struct Database {
    /// How to reach it.
    pub(in super::super) address: DatabaseAddress,
}

/// An open connection.
pub(in super::super) struct Client {
    client: tokio_postgres::Client,
    connection: JoinHandle<()>,
}

impl Deref for Client {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl Client {
    /// Returns whether a connection pooler stands between us and the server: what we were told at the start of the session
    /// is then another process than the one that runs our statements.
    ///
    /// # Errors
    /// As for [`fetch_text`].
    pub(super) async fn is_pooled(&self) -> Result<bool> {
        let at_start = self.read_start_pid().await.map_err(|e| Error::new(Code::Internal, e.to_string()))?;
        let now = fetch_text(self, "select pg_backend_pid()").await?;
        Ok(now != Some(at_start.to_string()))
    }

    /// Returns the process that the server named at the start of the session. The client library tells it to nobody but the
    /// server, in a request to cancel a statement; this one goes nowhere.
    async fn read_start_pid(&self) -> io::Result<i32> {
        let (ours, mut theirs) = tokio::io::duplex(64);
        self.client.cancel_token().cancel_query_raw(ours, NoTls).await.map_err(io::Error::other)?;
        // Its length, what it is, then the process.
        let mut request = [0; 12];
        theirs.read_exact(&mut request).await?;
        let [.., a, b, c, d] = request;
        Ok(i32::from_be_bytes([a, b, c, d]))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl DatabaseAddress {
    /// Connects, and gives up after five seconds.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when nothing answers or the server is starting up, [`Code::Denied`] when it does not
    /// let us in, [`Code::NotFound`] when it has no such database.
    pub(in super::super) async fn connect(&self) -> Result<Client> {
        let config = self.client_config()?;
        match tokio::time::timeout(CONNECT_TIMEOUT, self.open_connection(&config)).await {
            Ok(client) => client,
            Err(_) => {
                Err(self.unreachable_error(&format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))
            }
        }
    }

    fn client_config(&self) -> Result<Config> {
        let mut config = Config::new();
        config.user(&self.user).dbname(&self.database).application_name("redrill").options(SESSION_OPTIONS);
        if let Some(reference) = &self.password {
            let secret = reference.read_secret().map_err(|e| {
                Error::new(Code::Invalid, e.to_string())
                    .with_hint("set it, or change `password` of the target to where it is")
            })?;
            config.password(secret.expose_secret());
        }
        Ok(config)
    }

    async fn open_connection(&self, config: &Config) -> Result<Client> {
        match self.socket_path() {
            Some(socket) => {
                let stream = connect_as_owner(socket).await.and_then(tokio::net::UnixStream::from_std);
                self.start_session(config, stream).await
            }
            None => {
                self.start_session(config, TcpStream::connect((self.host.as_str(), self.port)).await).await
            }
        }
    }

    async fn start_session<S>(&self, config: &Config, stream: io::Result<S>) -> Result<Client>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = stream.map_err(|why| self.unreachable_error(&why.to_string()))?;
        let (client, connection) =
            config.connect_raw(stream, NoTls).await.map_err(|e| self.not_admitted_error(&e))?;
        // Errors of the connection reach the caller who waits for an answer on it.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Client { client, connection })
    }

    /// Returns the socket's file, when `host` is a folder.
    fn socket_path(&self) -> Option<PathBuf> {
        self.host.starts_with('/').then(|| Path::new(&self.host).join(format!(".s.PGSQL.{}", self.port)))
    }

    fn unreachable_error(&self, why: &str) -> Error {
        Error::new(Code::Unavailable, format!("the database at {self} cannot be reached: {why}"))
            .with_hint(format!("see that a server runs there: host `{}`, port {}", self.host, self.port))
    }

    fn not_admitted_error(&self, error: &tokio_postgres::Error) -> Error {
        let Some(said) = error.as_db_error() else {
            // A server that goes down sends no error; a missing password is reported by the client library.
            let code = if refusal::is_connection_lost(error) { Code::Unavailable } else { Code::Denied };
            return Error::new(
                code,
                format!("the server at {self} did not let us in: {}", refusal::innermost_reason(error)),
            )
            .with_hint("see `user` and `password` of the target, and whether the server asks for TLS");
        };
        let code = match said.code().code() {
            "3D000" => Code::NotFound,
            other => refusal::code_for_sqlstate(other),
        };
        let hint = match code {
            Code::NotFound => "see `database` of the target".into(),
            Code::Denied => {
                format!("see `user` and `password` of the target and the rules for `{}`", self.user)
            }
            _ => format!("host `{}`, port {}", self.host, self.port),
        };
        Error::new(code, format!("the server at {self} did not let us in: {}", refusal::error_sentence(said)))
            .with_hint(hint)
    }
}

impl std::fmt::Display for DatabaseAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` port {}", self.host, self.port)
    }
}

/// Connects on a thread of its own, because the effective user is a property of the thread.
async fn connect_as_owner(socket: PathBuf) -> io::Result<UnixStream> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("redrill-connect".into()).spawn(move || {
        let stream =
            switch_thread_to_owner_of(&socket).and_then(|()| UnixStream::connect(&socket)).and_then(|s| {
                s.set_nonblocking(true)?;
                Ok(s)
            });
        drop(answer.send(stream));
    })?;
    answered.await.unwrap_or_else(|_| Err(io::Error::other("the connecting thread went away")))
}

/// Makes this thread the owner of `path` when we are root; the server asks the kernel who connects (`peer`).
#[cfg(target_os = "linux")]
fn switch_thread_to_owner_of(path: &Path) -> io::Result<()> {
    let owner = path.metadata()?.uid();
    if rustix::process::geteuid().is_root() && owner != 0 {
        rustix::thread::set_thread_res_uid(None, rustix::process::Uid::from_raw(owner), None)?;
    }
    Ok(())
}

/// Does nothing: on this system the effective user belongs to the whole process.
#[cfg(not(target_os = "linux"))]
fn switch_thread_to_owner_of(path: &Path) -> io::Result<()> {
    path.metadata().map(drop)
}
