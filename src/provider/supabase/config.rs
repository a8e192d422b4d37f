//! What `redrill.toml` may say of a Supabase target.

use crate::{
    base::{moment::Span, suggest},
    provider::{Code, Error, OpenContext, Result},
};
use serde::Deserialize;
use std::path::PathBuf;

/// The time that is assumed where the target gives none.
pub(super) const DEFAULT_LANDING_TIME: Span = Span::from_secs(300);
/// The longest time that may be assumed: a run waits for it at three in the morning.
const MAX_LANDING_TIME: Span = Span::from_secs(600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SupabaseToml {
    r#ref: String,
    token: Option<String>,
    api_url: Option<String>,
    backup_dir: Option<PathBuf>,
    db_host: Option<String>,
    db_port: Option<u16>,
    landing_time: Option<String>,
}

/// The settings of a target, with defaults filled in and paths made absolute.
pub(super) struct SupabaseConfig {
    /// The project's reference.
    pub reference: String,
    /// Where the token is; if absent, the places of the official command line are searched.
    pub token: Option<String>,
    /// The API's address, if it is neither the environment's nor the public one.
    pub api_url: Option<String>,
    /// Where dumps are kept.
    pub backups: PathBuf,
    /// Where the database is, when it is not where the platform says.
    pub database: ConfiguredAddress,
    /// How long a request that was not answered may still take effect, as is assumed.
    pub landing_time: Span,
}

/// The address of the database, as far as the target gives it; the platform is asked for the rest.
#[derive(Clone, Default)]
pub(super) struct ConfiguredAddress {
    /// A host name, an IP address, or the folder of a socket.
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
}

impl SupabaseConfig {
    /// Reads the settings of a target.
    ///
    /// # Errors
    /// [`Code::Invalid`], with what was probably meant.
    pub(super) fn from_target(opening: &OpenContext<'_>) -> Result<Self> {
        let target = opening.target;
        let written: SupabaseToml = target
            .settings
            .clone()
            .try_into()
            .map_err(|e: toml::de::Error| config_error(&target.name, &e))?;
        if !is_project_reference(&written.r#ref) {
            return Err(Error::new(
                Code::Invalid,
                format!("`ref` of target `{}` is no project reference: `{}`", target.name, written.r#ref),
            )
            .with_hint("it is the twenty small letters in the address of the project's dashboard"));
        }
        Ok(Self {
            reference: written.r#ref,
            token: written.token,
            api_url: written.api_url,
            backups: match written.backup_dir {
                Some(folder) => opening.base.join(folder),
                None => opening.state.join("supabase").join(&target.name).join("backups"),
            },
            database: ConfiguredAddress { host: written.db_host, port: written.db_port },
            landing_time: parse_landing_time(&target.name, written.landing_time.as_deref())?,
        })
    }
}

/// Reads how long a lost request may still take effect.
///
/// # Errors
/// [`Code::Invalid`] for a text that is no duration, or one that is too long.
fn parse_landing_time(target: &str, text: Option<&str>) -> Result<Span> {
    let Some(text) = text else { return Ok(DEFAULT_LANDING_TIME) };
    match Span::parse(text) {
        Ok(span) if span > Span::ZERO && span <= MAX_LANDING_TIME => Ok(span),
        _ => Err(Error::new(
            Code::Invalid,
            format!("`landing_time` of target `{target}` is no duration up to {MAX_LANDING_TIME}: `{text}`"),
        )
        .with_hint(
            "it is how long a request without an answer may still take effect: write `landing_time = \"5m\"`",
        )),
    }
}

/// Returns whether a text has the form of every project reference of the API: `^[a-z]{20}$`.
pub(super) fn is_project_reference(text: &str) -> bool {
    text.len() == 20 && text.bytes().all(|b| b.is_ascii_lowercase())
}

fn config_error(target: &str, why: &toml::de::Error) -> Error {
    let error = Error::new(Code::Invalid, format!("the settings of target `{target}`: {}", why.message()));
    match suggest::hint_for_unknown_field(why.message()) {
        Some(hint) => error.with_hint(hint),
        None => error.with_hint("`ref` is the twenty letters of the project, as in its address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::{Clock, SystemClock},
        config::TargetConfig,
    };
    use std::{path::Path, sync::Arc};

    fn target(text: &str) -> TargetConfig {
        TargetConfig {
            name: "prod".into(),
            provider: "supabase".into(),
            protect: false,
            tags: Vec::new(),
            settings: toml::from_str(text).expect("TOML"),
        }
    }

    fn with<T>(text: &str, read: impl FnOnce(&OpenContext<'_>) -> Result<T>) -> Result<T> {
        let (target, clock): (_, Arc<dyn Clock>) = (target(text), Arc::new(SystemClock));
        let (base, state) = (Path::new("/etc/drills"), Path::new("/etc/drills/.redrill"));
        read(&OpenContext { target: &target, base, file: None, state, clock: &clock })
    }

    #[test]
    fn supabase_settings_have_presets_and_absolute_paths() {
        let settings = with("ref = 'abcdefghijklmnopqrst'", SupabaseConfig::from_target).expect("reads");
        assert_eq!(settings.backups, Path::new("/etc/drills/.redrill/supabase/prod/backups"));
        let text = "ref = 'abcdefghijklmnopqrst'\nbackup_dir = 'dumps'";
        assert_eq!(
            with(text, SupabaseConfig::from_target).expect("reads").backups,
            Path::new("/etc/drills/dumps")
        );
    }

    #[test]
    fn supabase_settings_say_what_was_meant() {
        let error = |text: &str| with(text, SupabaseConfig::from_target).map(drop).expect_err(text);
        let typo = error("ref = 'abcdefghijklmnopqrst'\nbackups_dir = 'x'");
        assert_eq!((typo.code, typo.hint.as_deref()), (Code::Invalid, Some("did you mean `backup_dir`?")));
        for wrong in ["", "abc", "ABCDEFGHIJKLMNOPQRST", "abcdefghijklmnopqrs1", "https://abcdefghijklmnop"] {
            assert!(error(&format!("ref = '{wrong}'")).message.contains("no project reference"), "{wrong}");
        }
        assert!(error("").message.contains("ref"));
    }

    #[test]
    fn supabase_a_literal_token_is_refused_with_the_targets_name_and_not_repeated() {
        let text = "ref = 'abcdefghijklmnopqrst'\ntoken = 'sbp_hunter2'";
        let error = with(text, super::super::open).map(drop).expect_err("a literal");
        assert_eq!(error.code, Code::Invalid);
        let shown = format!("{error:?}");
        assert!(shown.contains("`prod`") && !shown.contains("hunter2"), "{shown}");
    }
}
