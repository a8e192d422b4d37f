//! A Management API that is not the real one: on loopback, over simulated worlds, as the real one was seen to answer.
//!
//! - **The simulated world is the state.** What a request does, it does through the capability traits; what the
//!   platform adds (references, branches as projects of their own, what is stored and not yet applied) is kept beside.
//! - **Nothing is sent twice without being counted twice.** Every request that took effect is in the ledger, whether it
//!   was answered or not. The platform keeps no keys, and neither does this.
//! - **Whatever goes wrong was asked for** (`faults.rs`), and happens the same way every time.
//! - **It ends with its [`Server`]**, also when that is dropped by a panic.

mod access;
mod actions;
mod addons;
mod advisors;
mod asked;
mod backups;
mod behind;
mod branches;
mod call;
mod catalogue;
mod door;
pub mod faults;
mod health;
mod http;
pub mod ledger;
mod login;
mod materialise;
mod network;
mod options;
mod platform;
mod points;
mod project;
mod projects;
mod query;
mod reference;
mod replicas;
pub mod routes;
mod schedule;
mod settings;
mod ssl;
mod switch;
#[cfg(test)]
mod tests;

pub use options::{Options, Plan, World};

use crate::provider::{Code, Error, Result, sim::Sim};
use faults::Rule;
use ledger::Entry;
use platform::Platform;
use std::{net::SocketAddr, sync::Arc, thread::JoinHandle};
use tokio::sync::oneshot;

/// A running server.
pub struct Server {
    address: SocketAddr,
    platform: Arc<Platform>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server on loopback, on a thread of its own.
    ///
    /// # Errors
    /// What a world lacks, or that the port is taken.
    pub fn start(options: Options) -> Result<Self> {
        let port = options.port;
        let platform = Arc::new(Platform::new(options)?);
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, listener) = listener.map_err(|why| {
            Error::new(Code::Unavailable, format!("the port {port} cannot be listened on: {why}"))
                .hint("choose another with `--port`, or leave it out")
        })?;
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&platform);
        // What it starts is bound to this thread, and goes when the thread does.
        let thread = std::thread::Builder::new()
            .name("redrill-fake".into())
            .spawn(move || http::serve(listener, &served, stopped))
            .map_err(|why| Error::new(Code::Internal, format!("no thread for the server: {why}")))?;
        Ok(Self { address, platform, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns where it is: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the references of the projects, in the order of their worlds.
    pub fn references(&self) -> Vec<String> {
        self.platform.roots().iter().map(|p| p.reference.clone()).collect()
    }

    /// Returns the name of a project.
    pub fn name(&self, reference: &str) -> Option<String> {
        self.platform.roots().iter().find(|p| p.reference == reference).map(|p| p.name.clone())
    }

    /// Returns the world behind a project.
    pub fn world(&self, reference: &str) -> Option<Sim> {
        self.platform.roots().into_iter().find(|p| p.reference == reference).and_then(|p| p.sim().ok())
    }

    /// Returns every request that took effect, oldest first.
    pub fn log(&self) -> Vec<Entry> {
        self.platform.ledger.entries()
    }

    /// Returns how many requests came in, whatever became of them.
    pub fn requests(&self) -> u64 {
        self.platform.ledger.requests()
    }

    /// Lets something go wrong from now on.
    pub fn disturb(&self, rule: Rule) {
        self.platform.faults.add(rule);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            drop(thread.join());
        }
    }
}
