//! The properties of a project by which a restore that happened is told from one that did not.

use crate::{
    base::moment::Moment,
    provider::{Result, supabase::project::Supabase},
};
use serde::{Deserialize, Serialize};

/// The properties of a project that a restore changes. A field is absent if the database did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProjectFingerprint {
    /// The latest moment that can be restored, in seconds since 1970. Only a restore sets it back.
    latest: Option<i64>,
    /// The timeline, in hexadecimal: recovery ends on a new one.
    timeline: Option<String>,
    /// When the server started.
    started_at: Option<Moment>,
}

impl ProjectFingerprint {
    /// Returns whether the project was restored since it was like `before`.
    pub(super) fn shows_restore_since(&self, before: &ProjectFingerprint) -> bool {
        let set_back = matches!((self.latest, before.latest), (Some(now), Some(then)) if now < then);
        let other = matches!((&self.timeline, &before.timeline), (Some(now), Some(then)) if now != then);
        set_back || other
    }

    /// Returns whether the server started after `moment`, which may have another reason than a restore.
    pub(super) fn shows_start_since(&self, moment: Moment) -> bool {
        self.started_at.is_some_and(|at| at > moment)
    }

    /// Returns the timeline's number.
    pub(super) fn timeline_number(&self) -> Option<u32> {
        u32::from_str_radix(self.timeline.as_deref()?, 16).ok()
    }
}

impl Supabase {
    /// Fetches the fingerprint of the project as it is now. What only the database knows is absent if it does not
    /// answer.
    ///
    /// # Errors
    /// What the API says of the backups.
    pub(super) async fn fetch_fingerprint(&self) -> Result<ProjectFingerprint> {
        const SQL: &str = "select pg_catalog.to_char(pg_catalog.pg_postmaster_start_time() at time zone 'utc', \
                           'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as started_at, \
                           pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) \
                           as timeline";
        let latest = self.fetch_platform_backups().await?.window_bounds().map(|(_, latest)| latest);
        let rows = self.query_rows_read_only(&self.reference, SQL).await.unwrap_or_default();
        let text = |field: &str| rows.first().and_then(|row| row[field].as_str()).map(str::to_owned);
        Ok(ProjectFingerprint {
            latest,
            timeline: text("timeline"),
            started_at: text("started_at").and_then(|at| Moment::parse(&at).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Moment {
        Moment::parse(text).expect("a moment")
    }

    #[test]
    fn a_window_that_grows_is_no_restore_and_one_that_shrinks_is() {
        let before =
            ProjectFingerprint { latest: Some(100), timeline: Some("00000001".into()), started_at: None };
        assert!(!ProjectFingerprint { latest: Some(220), ..before.clone() }.shows_restore_since(&before));
        assert!(ProjectFingerprint { latest: Some(40), ..before.clone() }.shows_restore_since(&before));
        let other = ProjectFingerprint { timeline: Some("00000002".into()), ..before.clone() };
        assert!(other.shows_restore_since(&before));
        assert_eq!(other.timeline_number(), Some(2));
        let silent = ProjectFingerprint { latest: None, timeline: None, started_at: None };
        assert!(!silent.shows_restore_since(&before));
    }

    #[test]
    fn a_server_that_started_since_was_begun_anew() {
        let asked = at("2026-11-20T03:00:00Z");
        let before =
            ProjectFingerprint { latest: None, timeline: None, started_at: Some(at("2026-11-01T00:00:00Z")) };
        assert!(!before.shows_start_since(asked));
        let now = ProjectFingerprint { started_at: Some(at("2026-11-20T03:10:00Z")), ..before.clone() };
        assert!(now.shows_start_since(asked) && !now.shows_restore_since(&before));
    }
}
