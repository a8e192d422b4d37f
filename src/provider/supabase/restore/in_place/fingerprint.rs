//! The properties of a project by which a restore that happened is told from one that did not.

use crate::provider::supabase::project::Supabase;
use serde::{Deserialize, Serialize};

/// The properties of a project that a restore changes. A field is absent if the database did not say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProjectFingerprint {
    /// The timeline, in hexadecimal: recovery ends on a new one.
    timeline: Option<String>,
    /// The place in the WAL that the server writes at, in bytes. Only a server that was put back writes at an earlier one.
    lsn: Option<u64>,
}

/// What two fingerprints say of a restore between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RestoreSign {
    /// The project was restored.
    Restored,
    /// It was not: its database goes on where it was.
    NotRestored,
    /// The database did not say how it was before, or does not say how it is now.
    Untold,
}

impl ProjectFingerprint {
    /// Returns what this fingerprint says of a restore since the one of `before`.
    pub(super) fn compare_with(&self, before: &ProjectFingerprint) -> RestoreSign {
        let (Some(timeline), Some(timeline_before)) = (&self.timeline, &before.timeline) else {
            return RestoreSign::Untold;
        };
        let set_back = matches!((self.lsn, before.lsn), (Some(now), Some(then)) if now < then);
        if timeline != timeline_before || set_back { RestoreSign::Restored } else { RestoreSign::NotRestored }
    }

    /// Returns whether the database said how it is.
    pub(super) fn has_database_part(&self) -> bool {
        self.timeline.is_some()
    }

    /// Returns the timeline's number.
    pub(super) fn timeline_number(&self) -> Option<u32> {
        u32::from_str_radix(self.timeline.as_deref()?, 16).ok()
    }
}

impl Supabase {
    /// Fetches the fingerprint of the project as it is now. What only the database knows is absent if it does not
    /// answer.
    pub(super) async fn fetch_fingerprint(&self) -> ProjectFingerprint {
        const SQL: &str = "select pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) \
                           as timeline, (pg_catalog.pg_current_wal_lsn() - '0/0')::text as lsn";
        let rows = self.query_rows_read_only(&self.reference, SQL).await.unwrap_or_default();
        let text = |field: &str| rows.first().and_then(|row| row[field].as_str()).map(str::to_owned);
        ProjectFingerprint {
            timeline: text("timeline"),
            lsn: text("lsn").and_then(|bytes| bytes.parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before() -> ProjectFingerprint {
        ProjectFingerprint { timeline: Some("00000001".into()), lsn: Some(5000) }
    }

    #[test]
    fn another_timeline_or_an_earlier_place_is_a_restore() {
        let other = ProjectFingerprint { timeline: Some("00000002".into()), ..before() };
        assert_eq!(other.compare_with(&before()), RestoreSign::Restored);
        assert_eq!(other.timeline_number(), Some(2));
        let back = ProjectFingerprint { lsn: Some(4000), ..before() };
        assert_eq!(back.compare_with(&before()), RestoreSign::Restored);
        let later = ProjectFingerprint { lsn: Some(6000), ..before() };
        assert_eq!(later.compare_with(&before()), RestoreSign::NotRestored);
    }

    #[test]
    fn a_silent_database_tells_nothing() {
        let silent = ProjectFingerprint { timeline: None, lsn: None };
        assert_eq!(silent.compare_with(&before()), RestoreSign::Untold);
        assert_eq!(before().compare_with(&silent), RestoreSign::Untold);
        assert!(!silent.has_database_part());
    }
}
