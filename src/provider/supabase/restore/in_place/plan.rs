//! The plan of a restore in place: the request to send, and the checks before it.

use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        model::{RecoveryTarget, RestoreRequest},
        restore_points as known_points,
        supabase::{
            platform_backups,
            project::Supabase,
            restore_points::{self, RestorePointRow},
            statuses,
        },
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;

/// What a restore in place goes back to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum InPlaceRecoveryTarget {
    /// A physical backup of the platform, by its number.
    Backup {
        /// The number.
        number: i64,
        /// When it was taken.
        taken: Moment,
    },
    /// A moment, in whole seconds since 1970.
    Moment(i64),
    /// A restore point, by its name.
    Point(String),
}

impl InPlaceRecoveryTarget {
    /// Returns the request: its path below that of the backups, and its body.
    pub(super) fn to_request(&self) -> (&'static str, Value) {
        match self {
            InPlaceRecoveryTarget::Backup { number, .. } => ("restore", json!({ "id": number })),
            InPlaceRecoveryTarget::Moment(unix) => {
                ("restore-pitr", json!({ "recovery_time_target_unix": unix }))
            }
            InPlaceRecoveryTarget::Point(name) => ("undo", json!({ "name": name })),
        }
    }

    /// Returns the backup that the restore starts from, as far as the platform says.
    pub(super) fn source_backup(&self) -> String {
        match self {
            InPlaceRecoveryTarget::Backup { number, .. } => format!("platform-{number}"),
            InPlaceRecoveryTarget::Moment(_) | InPlaceRecoveryTarget::Point(_) => "platform".into(),
        }
    }

    /// Returns the moment that the data is of after the restore.
    pub(super) fn reached_moment(&self) -> Option<Moment> {
        match self {
            InPlaceRecoveryTarget::Backup { taken, .. } => Some(*taken),
            InPlaceRecoveryTarget::Moment(unix) => platform_backups::moment_from_unix(*unix).ok(),
            InPlaceRecoveryTarget::Point(_) => None,
        }
    }
}

impl fmt::Display for InPlaceRecoveryTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InPlaceRecoveryTarget::Backup { number, .. } => write!(f, "to backup `platform-{number}`"),
            InPlaceRecoveryTarget::Moment(unix) => match platform_backups::moment_from_unix(*unix) {
                Ok(moment) => write!(f, "to {moment}"),
                Err(_) => write!(f, "to second {unix}"),
            },
            InPlaceRecoveryTarget::Point(name) => write!(f, "to the restore point `{name}`"),
        }
    }
}

impl Supabase {
    /// Plans a restore in place, and checks for every obstacle before anything is sent.
    ///
    /// # Errors
    /// The first obstacle.
    pub(super) async fn plan_recovery_target(
        &self,
        request: &RestoreRequest,
    ) -> Result<InPlaceRecoveryTarget> {
        let plan = self.choose_recovery_target(request).await?;
        let status = self.fetch_project_details().await?.status;
        if !statuses::is_project_up(&status) {
            return Err(Error::new(Code::Conflict, format!("`{}` is {status}", self.display_name()))
                .with_hint("wait until it is up, or see in its dashboard what it is at"));
        }
        self.check_no_replicas().await?;
        self.check_no_replication_slots().await?;
        Ok(plan)
    }

    async fn choose_recovery_target(&self, request: &RestoreRequest) -> Result<InPlaceRecoveryTarget> {
        if request.to.timeline.is_some() || !request.to.inclusive {
            return Err(Error::unsupported(
                "the platform takes a whole second, and neither a timeline nor `inclusive: false`",
                "give the time one second earlier",
            ));
        }
        match (&request.backup, &request.to.at) {
            (Some(id), RecoveryTarget::BackupEnd) => self.target_from_backup(id).await,
            (Some(_), _) => Err(Error::unsupported(
                "the platform chooses itself which backup a moment is restored from",
                "leave `backup` out",
            )),
            (None, RecoveryTarget::Time(moment)) => self.target_at_moment(moment.0.as_second()).await,
            (None, RecoveryTarget::Latest) => {
                match self.fetch_platform_backups().await?.window_bounds_in_seconds() {
                    Some((_, latest)) => self.target_at_moment(latest).await,
                    None => Err(self.no_pitr_error()),
                }
            }
            (None, RecoveryTarget::Name(name)) => {
                self.require_usable_restore_point(name).await?;
                Ok(InPlaceRecoveryTarget::Point(name.clone()))
            }
            (None, RecoveryTarget::Point(point)) => {
                let there = self.require_usable_restore_point(&point.name).await?;
                if there.completed_at().is_some_and(|completed| completed != point.time) {
                    return Err(known_points::unknown_point_error(&self.display_name(), point));
                }
                Ok(InPlaceRecoveryTarget::Point(point.name.clone()))
            }
            (None, RecoveryTarget::Xid(_) | RecoveryTarget::Lsn(_) | RecoveryTarget::BackupEnd) => {
                Err(Error::unsupported(
                    "the platform goes back to a moment, not to a transaction or a place in the WAL",
                    "give `to: #{ time: … }`",
                ))
            }
        }
    }

    async fn target_from_backup(&self, id: &str) -> Result<InPlaceRecoveryTarget> {
        let Some(number) = platform_backups::parse_platform_id(id) else {
            self.dump_store().find_dump(id)?;
            return Err(Error::unsupported(
                format!(
                    "`{id}` is a logical dump, and what was made since would survive it: in place it would leave \
                     neither what was nor what is"
                ),
                "restore it `into:` a branch and copy from there what is missing, or restore in place from one of the \
                 platform's backups",
            ));
        };
        let backup = self.list_platform_backups().await?.into_iter().find(|backup| backup.id == id);
        let backup = backup.ok_or_else(|| {
            Error::new(Code::NotFound, format!("`{}` has no backup `{id}`", self.display_name()))
        })?;
        if backup.method != "physical" {
            return Err(Error::unsupported(
                format!("`{id}` is a logical backup, and the platform restores physical ones only"),
                "restore it from the project's dashboard",
            ));
        }
        if backup.status != "completed" {
            return Err(Error::new(Code::Refused, format!("backup `{id}` is {}", backup.status)));
        }
        Ok(InPlaceRecoveryTarget::Backup { number, taken: backup.started_at })
    }

    /// Plans for a whole second, rounded down so that the restore never passes the moment. The platform takes 0
    /// as "now", so 0 is refused.
    async fn target_at_moment(&self, unix: i64) -> Result<InPlaceRecoveryTarget> {
        if unix <= 0 {
            return Err(Error::new(
                Code::Invalid,
                format!("{unix} seconds since 1970 is no moment to go back to"),
            )
            .with_hint(
                "the platform would take 0 for now; see `backup::pitr::window` for what can be restored",
            ));
        }
        let Some((earliest, latest)) = self.fetch_platform_backups().await?.window_bounds_in_seconds() else {
            return Err(self.no_pitr_error());
        };
        let target = platform_backups::moment_from_unix(unix)?;
        let window = format!(
            "it goes from {} to {}",
            platform_backups::moment_from_unix(earliest)?,
            platform_backups::moment_from_unix(latest)?
        );
        if unix < earliest {
            let message = format!("{target} lies before what `{}` can be restored to", self.display_name());
            return Err(Error::new(Code::TargetBeforeWindow, message).with_hint(window));
        }
        if unix > latest {
            let message = format!("{target} lies after what `{}` can be restored to", self.display_name());
            return Err(Error::new(Code::TargetAfterWindow, message).with_hint(format!(
                "{window}; on an idle database it ends long before now, and nothing that was written is missing"
            )));
        }
        Ok(InPlaceRecoveryTarget::Moment(unix))
    }

    fn no_pitr_error(&self) -> Error {
        Error::new(Code::Refused, format!("`{}` has no point-in-time recovery", self.display_name()))
            .with_hint("book the add-on `pitr_7`, or restore one of `backup::list`")
    }

    async fn check_no_replicas(&self) -> Result<()> {
        let replicas = self.list_replica_rows().await?;
        if replicas.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = replicas.iter().map(|replica| format!("`{}`", replica.identifier)).collect();
        Err(Error::new(
            Code::Refused,
            format!(
                "`{}` has read replicas, and is not restored while it has: {}",
                self.display_name(),
                names.join(", ")
            ),
        )
        .with_hint("remove them with `db::replicas::delete`, restore, and create them again"))
    }

    /// Refuses while the user has replication slots or subscriptions. A database that does not answer is no obstacle:
    /// it may be the reason for the restore.
    async fn check_no_replication_slots(&self) -> Result<()> {
        const SQL: &str = "select slot_name as name from pg_catalog.pg_replication_slots \
                           where slot_name not like 'supabase_realtime%' \
                           union all select subname from pg_catalog.pg_stat_subscription where subname is not null";
        let rows = match self.query_rows_read_only(&self.reference, SQL).await {
            Ok(rows) => rows,
            Err(e) if e.code == Code::Denied => return Err(e),
            Err(_) => return Ok(()),
        };
        let names: Vec<_> =
            rows.iter().filter_map(|row| row["name"].as_str()).map(|n| format!("`{n}`")).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            Code::Refused,
            format!("`{}` has replication slots or subscriptions: {}", self.display_name(), names.join(", ")),
        )
        .with_hint("drop them, restore, and make them again"))
    }

    /// Returns a restore point that can be gone back to.
    async fn require_usable_restore_point(&self, name: &str) -> Result<RestorePointRow> {
        match self.fetch_restore_point(name).await? {
            Some(point) if point.status == restore_points::AVAILABLE => Ok(point),
            Some(point) => {
                Err(Error::new(Code::Refused, format!("the restore point `{name}` is {}", point.status)))
            }
            None => Err(known_points::unknown_name_error(&self.display_name(), name, &[])),
        }
    }
}
