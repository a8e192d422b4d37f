//! Restore points, which the platform makes for select customers: named, at most twenty characters.

use super::{super::restore_points, project::Supabase, requests};
use crate::{
    base::moment::Moment,
    provider::{Code, Error, Result, model::RestorePoint},
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The status of a restore point that can be restored.
pub(super) const AVAILABLE: &str = "AVAILABLE";
/// How many characters the name of a restore point may have.
const NAME_CHARS_MAX: usize = 20;

/// What is written down before a restore point is asked for: the platform keeps no key, so what has the name afterwards is
/// what was made.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NameWasFree {
    pub name_was_free: bool,
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

    /// Converts the row. The platform reports neither the LSN nor the timeline.
    fn to_restore_point(&self, otherwise: Moment) -> RestorePoint {
        let time = self.completed_at().unwrap_or(otherwise);
        RestorePoint { name: self.name.clone(), lsn: None, timeline: None, time }
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
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
            return Err(Error::new(Code::Invalid, format!("a restore point cannot be called `{name}`"))
                .with_hint(format!("the platform takes up to {NAME_CHARS_MAX} characters")));
        }
        match self.fetch_restore_point(name).await.map_err(|e| self.explain_unavailable(e))? {
            Some(taken) => {
                let made =
                    taken.completed_on.map_or_else(|| "still being made".into(), |at| format!("of {at}"));
                Err(restore_points::taken_name_error(name, &made))
            }
            None => Ok(()),
        }
    }

    /// Says of an error that the project may have no restore points at all.
    fn explain_unavailable(&self, error: Error) -> Error {
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
        asked.map_err(|e| self.explain_unavailable(e))?;
        Ok(RestorePoint { name: name.into(), lsn: None, timeline: None, time: self.clock.now() })
    }

    /// Returns the restore point of this name, once it can be gone back to.
    ///
    /// # Errors
    /// [`Code::Tool`] for one that was not made, what the API says.
    pub(super) async fn fetch_available_restore_point(&self, name: &str) -> Result<Option<RestorePoint>> {
        match self.fetch_restore_point(name).await? {
            Some(point) if point.status == AVAILABLE => Ok(Some(point.to_restore_point(self.clock.now()))),
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
    pub(super) async fn check_restore_point_absent(&self, name: &str) -> Result<Option<RestorePoint>> {
        match self.fetch_restore_point(name).await? {
            None => Ok(None),
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

/// Percent-encodes a text for a URL.
fn percent_encode(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
