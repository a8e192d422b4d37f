//! A tunnel to a database that keeps what a client sends, and lets it through when nobody waits for it any more.

use crate::base::lock::lock_unpoisoned;
use std::{
    mem,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::{Notify, watch},
    task::JoinHandle,
};

/// What a tunnel keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kept {
    Nothing,
    /// What one client sends, beginning with the packet that has this text.
    Request(&'static str),
    /// What one client is answered, beginning with the answer to the packet that has this text.
    Answer(&'static str),
    /// Whatever is sent.
    Everything,
}

/// A tunnel from a port of this machine to the socket of a database.
///
/// While something is kept, the server does not learn that the client has hung up, as in a network that has stalled: it
/// goes on.
pub(crate) struct Tunnel {
    port: u16,
    shared: Arc<Shared>,
    listener: JoinHandle<()>,
}

struct Shared {
    socket: PathBuf,
    /// Whether it stands for a connection pooler, which tells a client of another process than the server's.
    is_pooler: AtomicBool,
    /// What is kept now, and what is kept once that has come.
    kept: Mutex<(Kept, Kept)>,
    /// Whether a client of whom something is kept loses its connection.
    hangs_up: AtomicBool,
    /// Whether something is or was kept.
    has_kept: watch::Sender<bool>,
    /// How often what was kept has been let through.
    releases: watch::Sender<usize>,
    connections: Mutex<Vec<JoinHandle<()>>>,
}

impl Tunnel {
    /// Opens a tunnel to the socket in a folder.
    pub(crate) async fn open(socket: &Path) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            socket: socket.join(".s.PGSQL.5432"),
            is_pooler: false.into(),
            kept: Mutex::new((Kept::Nothing, Kept::Nothing)),
            hangs_up: false.into(),
            has_kept: watch::Sender::new(false),
            releases: watch::Sender::new(0),
            connections: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let connection = tokio::spawn(Connection::carry(Arc::clone(&serving), client));
                lock_unpoisoned(&serving.connections).push(connection);
            }
        });
        Self { port, shared, listener }
    }

    /// Returns the port to connect to, at `127.0.0.1`.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Keeps something from now on; its client waits.
    pub(crate) fn keep(&self, kept: Kept) {
        self.shared.hangs_up.store(false, Ordering::SeqCst);
        *lock_unpoisoned(&self.shared.kept) = (kept, Kept::Nothing);
    }

    /// Keeps something from now on; its client loses the connection at that moment, and something else is kept then.
    pub(crate) fn lose(&self, kept: Kept, then: Kept) {
        self.shared.hangs_up.store(true, Ordering::SeqCst);
        *lock_unpoisoned(&self.shared.kept) = (kept, then);
    }

    /// Names another process than the server's to every client, as a connection pooler does.
    pub(crate) fn act_as_pooler(&self) {
        self.shared.is_pooler.store(true, Ordering::SeqCst);
    }

    /// Returns when something is kept.
    pub(crate) async fn wait_until_kept(&self) {
        drop(self.shared.has_kept.subscribe().wait_for(|has_kept| *has_kept).await);
    }

    /// Lets through what was kept, and returns when the server is done with every connection. No client is connected then.
    pub(crate) async fn release(&self) {
        self.keep(Kept::Nothing);
        self.shared.has_kept.send_replace(false);
        self.shared.releases.send_modify(|releases| *releases += 1);
        let connections = mem::take(&mut *lock_unpoisoned(&self.shared.connections));
        for connection in connections {
            connection.await.expect("it is carried to its end");
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.listener.abort();
        for connection in lock_unpoisoned(&self.shared.connections).drain(..) {
            connection.abort();
        }
    }
}

/// One connection through a tunnel.
struct Connection {
    shared: Arc<Shared>,
    releases: watch::Receiver<usize>,
    /// Whether answers are kept.
    keeps_answers: AtomicBool,
    /// Asks for the end of the connection to the client.
    hang_up: Notify,
}

impl Connection {
    /// Carries both directions to their ends.
    async fn carry(shared: Arc<Shared>, client: TcpStream) {
        let server = UnixStream::connect(&shared.socket).await.expect("the server listens");
        let releases = shared.releases.subscribe();
        let connection = Self { shared, releases, keeps_answers: false.into(), hang_up: Notify::new() };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::join!(
            connection.carry_requests(from_client, to_server),
            connection.carry_answers(from_server, to_client)
        );
    }

    async fn carry_requests(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut packet = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut packet).await {
            let before = *self.releases.borrow();
            if self.is_kept(&packet[..length]) {
                if self.shared.hangs_up.load(Ordering::SeqCst) {
                    self.hang_up.notify_one();
                }
                self.wait_for_release_after(before).await;
            }
            if to.write_all(&packet[..length]).await.is_err() {
                break;
            }
        }
        drop(to.shutdown().await);
    }

    async fn carry_answers(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut packet = vec![0; 1 << 16];
        loop {
            let length = tokio::select! {
                () = self.hang_up.notified() => {
                    drop(to.shutdown().await);
                    continue;
                }
                read = from.read(&mut packet) => match read {
                    Ok(length @ 1..) => length,
                    _ => break,
                },
            };
            let before = *self.releases.borrow();
            if self.keeps_answers.load(Ordering::SeqCst) {
                if self.shared.hangs_up.load(Ordering::SeqCst) {
                    drop(to.shutdown().await);
                }
                self.wait_for_release_after(before).await;
            }
            if self.shared.is_pooler.load(Ordering::SeqCst) {
                rename_process(&mut packet[..length]);
            }
            // A client that has hung up misses its answers, and the server does not know.
            drop(to.write_all(&packet[..length]).await);
        }
        drop(to.shutdown().await);
    }

    /// Returns whether a packet of the client is kept. One that is named is kept once.
    fn is_kept(&self, packet: &[u8]) -> bool {
        let has = |text: &str| packet.windows(text.len()).any(|part| part == text.as_bytes());
        let mut kept = lock_unpoisoned(&self.shared.kept);
        let (Kept::Request(text) | Kept::Answer(text)) = kept.0 else { return kept.0 == Kept::Everything };
        if !has(text) {
            return false;
        }
        let is_request = matches!(kept.0, Kept::Request(_));
        self.keeps_answers.store(!is_request, Ordering::SeqCst);
        *kept = (kept.1, Kept::Nothing);
        is_request
    }

    async fn wait_for_release_after(&self, before: usize) {
        self.shared.has_kept.send_replace(true);
        drop(self.releases.clone().wait_for(|releases| *releases > before).await);
    }
}

/// Changes the process in what a server says at the start of a session, when it is there.
fn rename_process(packet: &mut [u8]) {
    const KEY_DATA: &[u8] = b"K\0\0\0\x0c";
    if let Some(at) = packet.windows(KEY_DATA.len()).position(|part| part == KEY_DATA) {
        packet[at + KEY_DATA.len()] ^= 0x40;
    }
}
