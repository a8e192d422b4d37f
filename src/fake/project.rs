//! A project: its world, its real database if there is one, and the status that the platform reports.

use super::{
    profile::{ORGANIZATION, PlatformProfile, REGION},
    real_database::RealDatabase,
    response::ApiResponse,
    seeded_id,
};
use crate::base::lock::lock_unpoisoned;
use crate::{
    base::{
        clock::SystemClock,
        moment::{Moment, Span},
    },
    provider::{
        Provider, Result,
        sim::{Sim, WorldTemplate},
    },
};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

/// How long a database refuses connections after the platform reports it healthy (supabase#39604).
const SETTLE_DURATION: Span = Span::from_secs(20);

/// The origin of a project's simulated database.
pub(super) enum WorldSource {
    /// A copy of a template, made on first use.
    Template(Arc<WorldTemplate>),
    /// A database that is open already: a branch of another project's world, or an empty one.
    Open(Box<Sim>),
}

/// A project of the platform; a branch is one too.
pub(super) struct FakeProject {
    profile: Arc<PlatformProfile>,
    /// The project's reference: twenty lower-case letters.
    pub(super) reference: String,
    pub(super) name: String,
    /// The reference of the parent project, for a branch.
    pub(super) parent: Option<String>,
    pub(super) created_at: Moment,
    source: WorldSource,
    /// The copy of the template, where `source` is one.
    world: OnceLock<Result<Sim>>,
    state: Mutex<FakeProjectState>,
    real_database: tokio::sync::Mutex<RealDatabase>,
}

/// What the platform knows of a project and its world does not.
#[derive(Default)]
pub(super) struct FakeProjectState {
    /// The end of a restart of the database.
    pub(super) restarts_until: Option<Moment>,
    /// When a branch is ready.
    pub(super) ready_at: Option<Moment>,
    /// Whether the last status was not `ACTIVE_HEALTHY`.
    pub(super) was_unavailable: bool,
    /// The end of the time in which a database that is reported healthy still refuses connections.
    pub(super) settles_until: Option<Moment>,
    /// The allowed ranges before the last change, until that is applied.
    pub(super) ranges_before: Option<Vec<IpNet>>,
    /// When the last change of the ranges was requested.
    pub(super) ranges_requested_at: Option<Moment>,
    /// When the database server last started; none since the project was created.
    pub(super) started_at: Option<Moment>,
    /// From when each replica is listed, by its id.
    pub(super) replica_listed_at: BTreeMap<String, Moment>,
    /// The restore points, newest last.
    pub(super) restore_points: Vec<(String, Moment)>,
    /// The markers of executed changes: comments, by the number of their large object.
    pub(super) markers: BTreeMap<u32, String>,
    /// When the backup schedule was changed.
    pub(super) schedule_changes: Vec<Moment>,
    /// The state of temporary access: `enabled` or `disabled`.
    pub(super) jit_state: Option<String>,
    /// The overridden settings of the pooler.
    pub(super) pooler: BTreeMap<String, Value>,
}

/// How to connect to a database.
pub(super) struct ConnectionInfo {
    /// The role.
    pub(super) user: String,
    /// The host, or the folder of a socket.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
    /// The database.
    pub(super) database: String,
}

impl FakeProject {
    /// Creates a project; a template is not copied yet.
    pub(super) fn new(
        profile: Arc<PlatformProfile>,
        reference: String,
        name: String,
        parent: Option<String>,
        created_at: Moment,
        source: WorldSource,
    ) -> Self {
        Self {
            profile,
            reference,
            name,
            parent,
            created_at,
            source,
            world: OnceLock::new(),
            state: Mutex::default(),
            real_database: tokio::sync::Mutex::default(),
        }
    }

    /// Returns whether the project is a branch.
    pub(super) fn is_branch(&self) -> bool {
        self.parent.is_some()
    }

    /// Returns the simulated database; the first use copies the template.
    ///
    /// # Errors
    /// When the copy fails.
    pub(super) fn open_simulated_database(&self) -> Result<Sim> {
        match &self.source {
            WorldSource::Open(sim) => Ok(Sim::clone(sim)),
            WorldSource::Template(template) => {
                self.world.get_or_init(|| template.copy_world(Arc::new(SystemClock))).clone()
            }
        }
    }

    /// Returns the simulated database as a provider.
    ///
    /// # Errors
    /// As [`FakeProject::open_simulated_database`].
    pub(super) fn as_provider(&self) -> Result<Arc<dyn Provider>> {
        Ok(Arc::new(self.open_simulated_database()?))
    }

    /// Restarts the database server: it is away for a while, and what waits for a restart holds from then on.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn restart_server(&self, takes: Span) -> Result<()> {
        self.as_provider()?.settings()?.restart().await?;
        let mut state = self.lock_state();
        state.restarts_until = Some(self.profile.now().saturating_add(takes));
        // Set here, because nobody may look while it is away.
        state.was_unavailable = true;
        Ok(())
    }

    /// Locks the real database of the project.
    pub(super) async fn lock_real_database(&self) -> tokio::sync::MutexGuard<'_, RealDatabase> {
        self.real_database.lock().await
    }

    /// Returns when the database server started.
    pub(super) fn started_at(&self) -> Moment {
        self.lock_state().started_at.unwrap_or(self.created_at)
    }

    /// Locks the platform's state of the project.
    pub(super) fn lock_state(&self) -> MutexGuard<'_, FakeProjectState> {
        lock_unpoisoned(&self.state)
    }

    /// Returns the status of the project in the platform's words.
    ///
    /// It also records that the project came back into service: from then on the database settles for a while.
    pub(super) async fn refresh_status(&self) -> &'static str {
        let word = match self.as_provider() {
            Ok(database) => database.project().await.map_or_else(|_| "unknown".into(), |p| p.status),
            Err(_) => "unknown".into(),
        };
        let now = self.profile.now();
        let mut state = self.lock_state();
        let status = match word.as_str() {
            _ if state.ready_at.is_some_and(|at| now < at) => "COMING_UP",
            "restoring" if self.is_branch() => "COMING_UP",
            "healthy" if state.restarts_until.is_some_and(|until| now < until) => "RESTARTING",
            "healthy" => "ACTIVE_HEALTHY",
            "restoring" => "RESTORING",
            "pausing" => "PAUSING",
            "paused" => "INACTIVE",
            "preparing" | "resuming" | "starting" => "COMING_UP",
            "restarting" => "RESTARTING",
            _ => "UNKNOWN",
        };
        if status != "ACTIVE_HEALTHY" {
            state.was_unavailable = true;
        } else if std::mem::take(&mut state.was_unavailable) {
            state.settles_until = Some(now.saturating_add(self.profile.scale_span(SETTLE_DURATION)));
            state.started_at = Some(now);
        }
        status
    }

    /// Refuses while the database accepts no connections, which lasts a while after it is reported healthy.
    pub(super) async fn require_accepting_connections(&self) -> Result<(), ApiResponse> {
        let status = self.refresh_status().await;
        let settles = self.lock_state().settles_until.is_some_and(|until| self.profile.now() < until);
        if status == "ACTIVE_HEALTHY" && !settles {
            return Ok(());
        }
        Err(ApiResponse::error(
            500,
            "Failed to run sql query: Connection terminated due to connection timeout",
        ))
    }

    /// Returns how to connect: to the real database where there is one, else to the platform's pooler.
    pub(super) async fn connection_info(&self) -> ConnectionInfo {
        let user = format!("postgres.{}", self.reference);
        let database = "postgres".into();
        if self.profile.options.postgres
            && let Ok((host, port)) = self.lock_real_database().await.socket_address()
        {
            return ConnectionInfo { user, host, port, database };
        }
        let host = format!("aws-0-{REGION}.pooler.supabase.com");
        ConnectionInfo { user, host, port: 6543, database }
    }

    /// Discards the real database and the markers after a restore of the world.
    pub(super) async fn discard_real_database(&self) {
        drop(std::mem::take(&mut *self.lock_real_database().await));
        self.lock_state().markers.clear();
    }

    /// Returns the host of the database, not of its pooler.
    async fn database_host(&self) -> String {
        if self.profile.options.postgres
            && let Ok((host, _)) = self.lock_real_database().await.socket_address()
        {
            return host;
        }
        format!("db.{}.supabase.co", self.reference)
    }

    /// Renders the project as the API does.
    pub(super) async fn to_json(&self) -> Value {
        json!({
            "id": self.reference,
            "ref": self.reference,
            "organization_id": ORGANIZATION,
            "organization_slug": ORGANIZATION,
            "name": self.name,
            "region": REGION,
            "created_at": self.created_at.to_string(),
            "status": self.refresh_status().await,
            "database": {
                "host": self.database_host().await,
                "version": self.profile.postgres_version(),
                "postgres_engine": self.profile.postgres_engine(),
                "release_channel": "ga",
            },
        })
    }

    /// Returns a UUID that follows from the project and `what`.
    pub(super) fn derive_uuid(&self, what: &str) -> String {
        seeded_id::derive_uuid(&format!("{} {what}", self.reference))
    }
}
