//! A fake Supabase Management API on loopback, over simulated worlds, with its recorded behaviour.
//!
//! - **The simulated world is the state.** A request acts on it through the capability traits; what only the
//!   platform has (references, branches as projects of their own, unapplied changes) is kept beside it.
//! - **Nothing is sent twice without being counted twice.** The ledger has every request that took effect,
//!   answered or not. Like the platform, the fake has no idempotency keys.
//! - **Faults are injected by rules only** (`faults.rs`), and are deterministic.
//! - **The server stops when its handle is dropped**, also by a panic.

mod acknowledgement;
mod addons;
mod admission;
mod advisors;
mod backups;
mod bans;
mod branch;
mod branches;
mod client_statements;
mod current_answers;
mod data_api;
pub mod faults;
mod health;
mod http;
mod jit_access;
pub mod ledger;
mod lifecycle;
mod login_role;
mod network;
mod options;
mod partial_request;
mod pg_catalog;
mod platform;
mod pooler;
mod profile;
mod project;
mod projects;
mod query;
mod rate_limit;
mod real_database;
mod replicas;
mod request;
mod response;
mod restore_points;
pub mod routes;
mod schedules;
mod seeded_id;
mod settings;
mod sql_error;
mod ssl;
mod stale_reads;
#[cfg(test)]
mod tests;
mod url;
mod workflow;
mod workflows;
mod world_script;

pub use options::{BillingPlan, ServerOptions, WorldFile};

use crate::provider::{Code, Error, Result, sim::Sim};
use faults::FaultRule;
use ledger::LedgerEntry;
use platform::Platform;
use std::{net::SocketAddr, sync::Arc, thread::JoinHandle};
use tokio::sync::oneshot;

/// A running fake of the Management API; dropping it stops it.
pub struct FakeServer {
    address: SocketAddr,
    platform: Arc<Platform>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeServer {
    /// Starts a server on loopback, on a thread of its own.
    ///
    /// # Errors
    /// A world that cannot be read, or a port that is taken.
    pub fn start(options: ServerOptions) -> Result<Self> {
        let port = options.port;
        let platform = Arc::new(Platform::new(options)?);
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, listener) = listener.map_err(|why| {
            Error::new(Code::Unavailable, format!("the port {port} cannot be listened on: {why}"))
                .with_hint("choose another with `--port`, or leave it out")
        })?;
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&platform);
        // Clusters that the server starts are children of this thread, and die with it.
        let thread = std::thread::Builder::new()
            .name("redrill-fake".into())
            .spawn(move || http::serve_connections(listener, &served, stopped))
            .map_err(|why| Error::new(Code::Internal, format!("no thread for the server: {why}")))?;
        Ok(Self { address, platform, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the base URL: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the references of the projects, in the order of their worlds.
    pub fn list_root_references(&self) -> Vec<String> {
        self.platform.root_projects().iter().map(|p| p.reference.clone()).collect()
    }

    /// Returns the name of a project.
    pub fn project_name(&self, reference: &str) -> Option<String> {
        self.platform.root_projects().iter().find(|p| p.reference == reference).map(|p| p.name.clone())
    }

    /// Returns the world behind a project.
    pub fn root_project_world(&self, reference: &str) -> Option<Sim> {
        self.platform
            .root_projects()
            .into_iter()
            .find(|p| p.reference == reference)
            .and_then(|p| p.open_simulated_database().ok())
    }

    /// Returns every request that took effect, oldest first.
    pub fn ledger_entries(&self) -> Vec<LedgerEntry> {
        self.platform.ledger.entries()
    }

    /// Returns how many requests arrived, with or without effect.
    pub fn request_count(&self) -> u64 {
        self.platform.ledger.request_count()
    }

    /// Adds a fault rule, which counts requests from now on.
    pub fn add_fault(&self, rule: FaultRule) {
        self.platform.faults.add_rule(rule);
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed already.
            drop(thread.join());
        }
    }
}
