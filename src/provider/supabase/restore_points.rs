//! Restore points, which the platform makes for select customers: named, at most twenty characters.

use super::{
    super::restore_points, project::Supabase, requests, sql::statements, transport::unreadable_answer_error,
};
use crate::{
    base::moment::{Moment, Span},
    provider::{Code, Error, Result, model::RestorePoint},
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The status of a restore point that can be restored.
pub(super) const AVAILABLE: &str = "AVAILABLE";
/// How many characters the name of a restore point may have.
const NAME_CHARS_MAX: usize = 20;

/// How exactly the platform's moments are known: it may leave the fractions of a second out.
const MOMENT_GRAIN: Span = Span::from_secs(1);

/// What is written down before a restore point is asked for: the platform keeps no key, so what has the name afterwards is
/// what was made, if it was completed since. A look may lag behind and show the name free although an earlier one has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NameWasFree {
    name_was_free: bool,
    /// The time of the database, well before the restore point was asked for.
    #[serde(default)]
    asked_after: Option<Moment>,
}

/// A restore point, as the platform shows it: one object, not a list.
#[derive(Debug, Deserialize)]
pub(super) struct RestorePointRow {
    name: String,
    /// The status, in the platform's word.
    pub status: String,
    completed_on: Option<String>,
}

impl RestorePointRow {
    /// Returns when it was complete, where the platform says it.
    pub(super) fn completed_at(&self) -> Option<Moment> {
        self.completed_on.as_deref().and_then(|at| Moment::parse(at).ok())
    }

    /// Returns the restore point if it was completed after a moment; `None` for an earlier one of its name. The
    /// platform reports neither the LSN nor the timeline.
    ///
    /// # Errors
    /// [`Code::Unknown`] when it cannot be told.
    fn to_restore_point_since(&self, asked_after: Option<Moment>) -> Result<Option<RestorePoint>> {
        match (self.completed_at(), asked_after) {
            (Some(at), Some(asked_after)) if at < asked_after => Ok(None),
            (Some(time), Some(asked_after)) if time >= asked_after.saturating_add(MOMENT_GRAIN) => {
                Ok(Some(RestorePoint { name: self.name.clone(), lsn: None, timeline: None, time }))
            }
            (at, _) => {
                let at = at.map_or_else(|| "a time that it does not say".into(), |at| at.to_string());
                let what = format!(
                    "there is a restore point `{}` of {at}, and whether this call made it cannot be known",
                    self.name
                );
                Err(Error::new(Code::Unknown, what)
                    .with_hint("compare its time with the run's, and decide the call"))
            }
        }
    }
}

impl Supabase {
    /// Returns a restore point by its name.
    ///
    /// # Errors
    /// What the API says.
    pub(super) async fn fetch_restore_point(&self, name: &str) -> Result<Option<RestorePointRow>> {
        let path = format!(
            "/v1/projects/{}/database/backups/restore-point?name={}",
            self.reference,
            percent_encode(name)
        );
        match self.api.get(&path).await {
            Ok(answer) => {
                let row: RestorePointRow = requests::decode_answer(answer, &path)?;
                Ok(Some(row).filter(|row| row.name == name))
            }
            Err(e) if e.code == Code::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Refuses a name that no restore point can have, or that one has.
    ///
    /// # Errors
    /// [`Code::Invalid`] for a name that is too long, [`Code::Conflict`] for one that is taken, what the API says.
    pub(super) async fn check_restore_point_name(&self, name: &str) -> Result<()> {
        check_name_length(name)?;
        match self.fetch_restore_point(name).await.map_err(|e| self.hint_at_missing_restore_points(e))? {
            Some(taken) => {
                let made =
                    taken.completed_on.map_or_else(|| "still being made".into(), |at| format!("of {at}"));
                Err(restore_points::taken_name_error(name, &made))
            }
            None => Ok(()),
        }
    }

    /// Says of an error that the project may have no restore points at all.
    fn hint_at_missing_restore_points(&self, error: Error) -> Error {
        match error.code {
            Code::NotFound | Code::Denied | Code::Refused | Code::Unsupported => Error::unsupported(
                format!("`{}` has no restore points: {}", self.display_name(), error.message),
                "only select customers have them; note the moment, and go back to it with `backup::pitr::restore`",
            ),
            _ => error,
        }
    }

    /// Asks for a restore point. It is complete once [`Supabase::fetch_available_restore_point`] shows it.
    ///
    /// # Errors
    /// As for [`Supabase::check_restore_point_name`].
    pub(super) async fn request_restore_point(&self, name: &str) -> Result<RestorePoint> {
        self.check_restore_point_name(name).await?;
        let path = format!("/v1/projects/{}/database/backups/restore-point", self.reference);
        let asked = self.api.send_write(Method::POST, &path, Some(&json!({ "name": name }))).await;
        asked.map_err(|e| self.hint_at_missing_restore_points(e))?;
        Ok(RestorePoint { name: name.into(), lsn: None, timeline: None, time: self.clock.now() })
    }

    /// Plans a restore point, and returns what is written down before it is asked for.
    ///
    /// # Errors
    /// As for [`Supabase::check_restore_point_name`].
    pub(super) async fn plan_named_restore_point(&self, name: &str) -> Result<NameWasFree> {
        check_name_length(name)?;
        let now = self.query_answer_column(statements::DATABASE_TIME_SQL).await?;
        let asked_after = now.as_str().and_then(|now| Moment::parse(now).ok()).ok_or_else(|| {
            unreadable_answer_error("the time of the database", &format!("`{now}` is no moment"))
        })?;
        // What is asked for from here on is later than that by more than what a moment leaves out.
        self.clock.sleep(Span(MOMENT_GRAIN.0.saturating_mul(2))).await;
        self.check_restore_point_name(name).await?;
        Ok(NameWasFree { name_was_free: true, asked_after: Some(asked_after) })
    }

    /// Returns the restore point of this name that was made since it was planned, once it can be gone back to.
    ///
    /// # Errors
    /// [`Code::Tool`] for one that was not made, [`Code::Unknown`] when it cannot be told from an earlier one or when what was
    /// recorded does not read, what the API says.
    pub(super) async fn fetch_available_restore_point(
        &self,
        name: &str,
        plan: &Value,
    ) -> Result<Option<RestorePoint>> {
        let Ok(NameWasFree { name_was_free: true, asked_after }) = NameWasFree::deserialize(plan) else {
            let what = format!(
                "what was recorded before the restore point `{name}` was asked for cannot be read: {plan}"
            );
            return Err(Error::new(Code::Unknown, what));
        };
        match self.fetch_restore_point(name).await? {
            Some(point) if point.status == AVAILABLE => point.to_restore_point_since(asked_after),
            Some(point) if point.status != "PENDING" => {
                Err(Error::new(Code::Tool, format!("the restore point `{name}` is {}", point.status))
                    .with_hint("make one under another name: the platform keeps this one")
                    .with_left_behind(format!("restore point {name}")))
            }
            _ => Ok(None),
        }
    }

    /// Checks that a restore point which may have been requested does not exist.
    ///
    /// # Errors
    /// [`Code::Unknown`] when a restore point has this name: the platform keeps no key, and an older one would lead
    /// back too far.
    pub(super) async fn require_restore_point_absent(&self, name: &str) -> Result<()> {
        match self.fetch_restore_point(name).await? {
            None => Ok(()),
            Some(point) => {
                let at = point.completed_on.unwrap_or_else(|| "an unknown time".into());
                let what = format!(
                    "there is a restore point `{name}` of {at}, and whether this call made it cannot be known"
                );
                Err(Error::new(Code::Unknown, what)
                    .with_hint("compare its time with the run's, and decide the call"))
            }
        }
    }
}

fn check_name_length(name: &str) -> Result<()> {
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        return Err(Error::new(Code::Invalid, format!("a restore point cannot be called `{name}`"))
            .with_hint(format!("the platform takes up to {NAME_CHARS_MAX} characters")));
    }
    Ok(())
}

/// Percent-encodes a text for a URL.
fn percent_encode(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
