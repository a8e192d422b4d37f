//! The targets of a run, each opened at its first use. The one file that names every provider.

use super::{
    Code, Error, OpenContext, Provider, Result,
    model::{EffectKind, LandingLimit},
    postgres, sim, supabase,
};
use crate::base::lock::lock_unpoisoned;
use crate::{
    base::{clock::Clock, suggest},
    config::{Config, TargetConfig},
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

/// A target, or a branch of one: `lab`, `lab/drill`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetRef {
    pub target: String,
    pub branch: Option<String>,
}

impl TargetRef {
    /// Reads `target` or `target/branch`.
    pub fn parse(text: &str) -> Self {
        match text.split_once('/') {
            Some((target, branch)) => Self { target: target.into(), branch: Some(branch.into()) },
            None => Self { target: text.into(), branch: None },
        }
    }
}

impl fmt::Display for TargetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.branch {
            Some(branch) => write!(f, "{}/{branch}", self.target),
            None => f.write_str(&self.target),
        }
    }
}

/// A kind of provider.
struct ProviderKind {
    /// The value of `provider` in `redrill.toml`.
    name: &'static str,
    /// Reads the settings and makes the provider; touches nothing of the target.
    open: fn(&OpenContext<'_>) -> Result<Arc<dyn Provider>>,
    /// States until when a request of a kind may still take effect, where the target says nothing else.
    landing: fn(EffectKind) -> LandingLimit,
}

/// Every kind of provider.
const PROVIDER_KINDS: &[ProviderKind] = &[
    ProviderKind { name: "sim", open: sim::open_target, landing: sim::landing_limit_of_kind },
    ProviderKind {
        name: "postgres",
        open: postgres::open,
        landing: postgres::landing::landing_limit_of_kind,
    },
    ProviderKind {
        name: "supabase",
        open: supabase::open,
        landing: supabase::landing::landing_limit_of_kind,
    },
];

/// Returns what each kind of provider states of a request: until when it may still take effect once nobody waits for it.
pub fn landing_limits_by_provider(kind: EffectKind) -> impl Iterator<Item = (&'static str, LandingLimit)> {
    PROVIDER_KINDS.iter().map(move |provider| (provider.name, (provider.landing)(kind)))
}

/// Every configured target, each opened at first use.
pub struct Fleet {
    config: Arc<Config>,
    clock: Arc<dyn Clock>,
    open: Mutex<BTreeMap<String, Arc<dyn Provider>>>,
}

impl Fleet {
    /// Returns the fleet of a configuration; opens nothing yet.
    pub fn new(config: Arc<Config>, clock: Arc<dyn Clock>) -> Self {
        Self { config, clock, open: Mutex::default() }
    }

    /// Returns a fleet whose targets are open already; any other is opened when it is asked for.
    pub fn with_open_targets(
        config: Arc<Config>,
        clock: Arc<dyn Clock>,
        open: BTreeMap<String, Arc<dyn Provider>>,
    ) -> Self {
        Self { config, clock, open: Mutex::new(open) }
    }

    /// Returns a fleet of one open target.
    #[cfg(test)]
    pub(crate) fn with_one_target(name: &str, provider: Arc<dyn Provider>, clock: Arc<dyn Clock>) -> Self {
        let kind = "sim".to_owned();
        let settings = toml::Table::new();
        let target =
            TargetConfig { name: name.into(), provider: kind, protect: false, tags: vec![], settings };
        let config = Config { targets: [(name.to_owned(), target)].into(), ..Config::empty() };
        Self::with_open_targets(Arc::new(config), clock, [(name.to_owned(), provider)].into())
    }

    /// Returns the configuration of every target, by name.
    pub fn target_configs(&self) -> impl Iterator<Item = &TargetConfig> {
        self.config.targets.values()
    }

    /// Returns the clock of the run.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Returns the configuration of a target.
    ///
    /// # Errors
    /// [`Code::NotFound`] with the nearest name.
    pub fn target_config(&self, name: &str) -> Result<&TargetConfig> {
        self.config.targets.get(name).ok_or_else(|| {
            Error::new(Code::NotFound, format!("there is no target `{name}`")).with_hint(
                suggest::suggest_name_or_list_known(name, self.config.targets.keys().map(String::as_str)),
            )
        })
    }

    /// Returns a target, opened.
    ///
    /// # Errors
    /// [`Code::NotFound`], or what its settings lack.
    pub fn open_target(&self, name: &str) -> Result<Arc<dyn Provider>> {
        let settings = self.target_config(name)?;
        let mut open = lock_unpoisoned(&self.open);
        if let Some(provider) = open.get(name) {
            return Ok(Arc::clone(provider));
        }
        let kind = PROVIDER_KINDS.iter().find(|kind| kind.name == settings.provider).ok_or_else(|| {
            Error::new(Code::Invalid, format!("target `{name}` wants the provider `{}`", settings.provider))
                .with_hint(suggest::suggest_name_or_list_known(
                    &settings.provider,
                    PROVIDER_KINDS.iter().map(|k| k.name),
                ))
        })?;
        let opening = OpenContext {
            target: settings,
            base: &self.config.base,
            file: self.config.file.as_deref(),
            state: &self.config.state,
            clock: &self.clock,
        };
        let provider = (kind.open)(&opening)?;
        open.insert(name.to_owned(), Arc::clone(&provider));
        Ok(provider)
    }

    /// Returns a target or a branch of one, opened.
    ///
    /// # Errors
    /// [`Code::NotFound`], or whatever opening says.
    pub async fn open_target_ref(&self, place: &TargetRef) -> Result<Arc<dyn Provider>> {
        let target = self.open_target(&place.target)?;
        match &place.branch {
            Some(branch) => target.branches()?.open(branch).await,
            None => Ok(target),
        }
    }
}
