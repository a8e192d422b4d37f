//! A project: a world, and how the platform says that it is.

use super::{
    addons::Door,
    behind::Behind,
    call::Answer,
    platform::{ORGANIZATION, Platform, REGION},
    reference,
};
use crate::{
    base::{
        clock::Machine,
        moment::{Moment, Span},
    },
    provider::{
        Provider, Result,
        sim::{Sim, Template},
    },
};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

/// How long a database does not let anybody in after the platform has said that it is healthy (supabase#39604).
const SETTLES: Span = Span::seconds(20);

/// Where the database of a project comes from.
pub(super) enum Source {
    /// A copy of a world, made when it is first looked at.
    Template(Arc<Template>),
    /// A branch of a world, or a world of its own.
    Open(Box<Sim>),
}

/// A project of the platform; a branch is one too.
pub(super) struct Project {
    /// Its twenty letters.
    pub(super) reference: String,
    /// What it is called.
    pub(super) name: String,
    /// The letters of the project that it is a branch of.
    pub(super) parent: Option<String>,
    /// When it was made.
    pub(super) created_at: Moment,
    source: Source,
    world: OnceLock<Result<Sim>>,
    notes: Mutex<Notes>,
    behind: tokio::sync::Mutex<Behind>,
}

/// What the platform keeps of a project besides its world.
#[derive(Default)]
pub(super) struct Notes {
    /// Until when the database restarts.
    pub(super) restarts_until: Option<Moment>,
    /// When a branch is ready.
    pub(super) ready_at: Option<Moment>,
    /// Whether the last look found it out of service.
    pub(super) was_out: bool,
    /// Until when the database does not let anybody in, though the platform says that it is healthy.
    pub(super) settles_until: Option<Moment>,
    /// The ranges before the last change, until that is applied.
    pub(super) ranges_before: Option<Vec<IpNet>>,
    /// When the last change of the ranges was asked for.
    pub(super) ranges_asked: Option<Moment>,
    /// When the server started, where it did since the project was made.
    pub(super) started_at: Option<Moment>,
    /// When each replica is shown.
    pub(super) shown_at: BTreeMap<String, Moment>,
    /// The restore points, newest last.
    pub(super) points: Vec<(String, Moment)>,
    /// The marks that changes have left, by the number of their large object.
    pub(super) marks: BTreeMap<u32, String>,
    /// When the schedule was changed.
    pub(super) schedule_changes: Vec<Moment>,
    /// `enabled` or `disabled`.
    pub(super) jit: Option<String>,
    /// What was set of the pooler.
    pub(super) pooler: BTreeMap<String, Value>,
}

impl Project {
    /// Returns a project.
    pub(super) fn new(
        reference: String,
        name: String,
        parent: Option<String>,
        created_at: Moment,
        source: Source,
    ) -> Self {
        let (world, notes, behind) = (OnceLock::new(), Mutex::default(), tokio::sync::Mutex::default());
        Self { reference, name, parent, created_at, source, world, notes, behind }
    }

    /// Returns whether it is a branch.
    pub(super) fn is_branch(&self) -> bool {
        self.parent.is_some()
    }

    /// Returns the simulated database; the first look makes its world.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn sim(&self) -> Result<Sim> {
        match &self.source {
            Source::Open(sim) => Ok(Sim::clone(sim)),
            Source::Template(template) => self.world.get_or_init(|| template.copy(Arc::new(Machine))).clone(),
        }
    }

    /// Returns what answers for its database.
    ///
    /// # Errors
    /// As [`Project::sim`].
    pub(super) fn database(&self) -> Result<Arc<dyn Provider>> {
        Ok(Arc::new(self.sim()?))
    }

    /// Returns the real database behind it.
    pub(super) async fn behind(&self) -> tokio::sync::MutexGuard<'_, Behind> {
        self.behind.lock().await
    }

    /// Returns when the server started.
    pub(super) fn started_at(&self) -> Moment {
        self.notes().started_at.unwrap_or(self.created_at)
    }

    /// Returns what is kept besides.
    pub(super) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the status of the project, in the platform's words.
    pub(super) async fn status(&self, platform: &Platform) -> &'static str {
        let word = match self.database() {
            Ok(database) => database.project().await.map_or_else(|_| "unknown".into(), |p| p.status),
            Err(_) => "unknown".into(),
        };
        let now = platform.now();
        let mut notes = self.notes();
        let status = match word.as_str() {
            _ if notes.ready_at.is_some_and(|at| now < at) => "COMING_UP",
            "restoring" if self.is_branch() => "COMING_UP",
            "healthy" if notes.restarts_until.is_some_and(|until| now < until) => "RESTARTING",
            "healthy" => "ACTIVE_HEALTHY",
            "restoring" => "RESTORING",
            "pausing" => "PAUSING",
            "paused" => "INACTIVE",
            "preparing" | "resuming" | "starting" => "COMING_UP",
            "restarting" => "RESTARTING",
            _ => "UNKNOWN",
        };
        if status != "ACTIVE_HEALTHY" {
            notes.was_out = true;
        } else if std::mem::take(&mut notes.was_out) {
            notes.settles_until = Some(now.plus(platform.takes(SETTLES)));
            notes.started_at = Some(now);
        }
        status
    }

    /// Returns when the database lets somebody in: not yet, for a while, after the platform calls it healthy.
    pub(super) async fn demand_usable(&self, platform: &Platform) -> Result<(), Answer> {
        let status = self.status(platform).await;
        let settles = self.notes().settles_until.is_some_and(|until| platform.now() < until);
        if status == "ACTIVE_HEALTHY" && !settles {
            return Ok(());
        }
        Err(Answer::message(500, "Failed to run sql query: Connection terminated due to connection timeout"))
    }

    /// Returns where the database is connected to.
    pub(super) async fn door(&self, platform: &Platform) -> Door {
        let user = format!("postgres.{}", self.reference);
        let database = "postgres".into();
        if platform.options.postgres
            && let Ok((host, port)) = self.behind().await.address()
        {
            return Door { user, host, port, database };
        }
        let host = format!("aws-0-{REGION}.pooler.supabase.com");
        Door { user, host, port: 6543, database }
    }

    /// Answers from the world again: it was taken back, and what was beside it is no more.
    pub(super) async fn return_to_world(&self) {
        let before = std::mem::take(&mut *self.behind().await);
        drop(before);
        self.notes().marks.clear();
    }

    /// Returns the address of the database itself.
    async fn host(&self, platform: &Platform) -> String {
        if platform.options.postgres
            && let Ok((host, _)) = self.behind().await.address()
        {
            return host;
        }
        format!("db.{}.supabase.co", self.reference)
    }

    /// Returns the project as the platform shows it.
    pub(super) async fn shown(&self, platform: &Platform) -> Value {
        json!({
            "id": self.reference,
            "ref": self.reference,
            "organization_id": ORGANIZATION,
            "organization_slug": ORGANIZATION,
            "name": self.name,
            "region": REGION,
            "created_at": self.created_at.to_string(),
            "status": self.status(platform).await,
            "database": {
                "host": self.host(platform).await,
                "version": platform.version(),
                "postgres_engine": platform.engine(),
                "release_channel": "ga",
            },
        })
    }

    /// Returns a seed for what is named after this project.
    pub(super) fn id_of(&self, what: &str) -> String {
        reference::uuid(&format!("{} {what}", self.reference))
    }
}
