//! What every project of the platform shares: options, clock, PostgreSQL version, organization and region.

use super::options::ServerOptions;
use crate::{
    base::{
        clock::{Clock as _, SystemClock},
        moment::{Moment, Span},
    },
    provider::{Code, Error, Result, postgres::platform_cluster},
};

/// The slug of the only organization.
pub(super) const ORGANIZATION: &str = "redrill-practice";
/// The region of every project.
pub(super) const REGION: &str = "eu-central-1";
/// The platform's time limit for a statement.
pub(super) const STATEMENT_TIMEOUT: Span = Span::from_secs(58);
/// The PostgreSQL major version where none is installed.
const DEFAULT_ENGINE: &str = "17";
/// The durations that a world file may set, each with its default.
const WORLD_DURATIONS: &[(&str, &str)] = &[
    ("backup_duration", "2m"),
    ("restore_duration", "2m"),
    ("replica_duration", "5m"),
    ("pause_duration", "1m"),
    ("resume_duration", "5m"),
    ("apply_duration", "10s"),
];

/// The options of the platform and what follows from them.
pub(super) struct PlatformProfile {
    pub(super) options: ServerOptions,
    engine: String,
}

impl PlatformProfile {
    /// Creates the profile of a server with these options.
    pub(super) fn new(options: ServerOptions) -> Self {
        let installed =
            if options.postgres { platform_cluster::installed_major_version().ok() } else { None };
        Self { engine: installed.unwrap_or_else(|| DEFAULT_ENGINE.into()), options }
    }

    /// Returns the current time.
    #[expect(clippy::unused_self, reason = "it is the platform's time")]
    pub(super) fn now(&self) -> Moment {
        SystemClock.now()
    }

    /// Returns the PostgreSQL version in the platform's notation, such as `17.4.1.054`.
    pub(super) fn postgres_version(&self) -> String {
        format!("{}.4.1.054", self.postgres_engine())
    }

    /// Returns the PostgreSQL major version: that of the installed one where `--postgres` is on.
    pub(super) fn postgres_engine(&self) -> &str {
        &self.engine
    }

    /// Returns `span` of the real platform, shortened by the server's speed.
    pub(super) fn scale_span(&self, span: Span) -> Span {
        let speed = i32::try_from(self.options.speed.max(1)).unwrap_or(i32::MAX);
        Span(span.0 / speed)
    }

    /// Returns the text of a world file with its durations shortened by the server's speed.
    ///
    /// # Errors
    /// When the text cannot be written again.
    pub(super) fn shorten_durations(&self, text: &str) -> Result<String> {
        // A file that does not parse stays as written, so that the error names its own lines.
        let Ok(mut world) = text.parse::<toml::Table>() else { return Ok(text.into()) };
        if self.options.speed <= 1 {
            return Ok(text.into());
        }
        for (name, preset) in WORLD_DURATIONS {
            let written = world.get(*name).and_then(|v| v.as_str()).unwrap_or(preset);
            let Ok(span) = Span::parse(written) else { return Ok(text.into()) };
            world.insert((*name).into(), self.scale_span(span).to_string().into());
        }
        toml::to_string(&world)
            .map_err(|e| Error::new(Code::Internal, format!("a world cannot be written: {e}")))
    }
}
