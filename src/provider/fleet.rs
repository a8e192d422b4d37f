//! The targets of a run, opened when first asked for.

use super::{Code, Error, KINDS, Provider, Result};
use crate::{
    base::{clock::Clock, suggest},
    config::{Config, Target},
};
use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// A target, or a branch of one: `lab`, `lab/drill`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The target's name.
    pub target: String,
    /// The branch's name.
    pub branch: Option<String>,
}

impl Place {
    /// Reads `target` or `target/branch`.
    pub fn parse(text: &str) -> Self {
        match text.split_once('/') {
            Some((target, branch)) => Self { target: target.into(), branch: Some(branch.into()) },
            None => Self { target: text.into(), branch: None },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.branch {
            Some(branch) => write!(f, "{}/{branch}", self.target),
            None => f.write_str(&self.target),
        }
    }
}

/// What a provider is opened with.
pub struct Opening<'a> {
    /// The target's entry in the configuration.
    pub target: &'a Target,
    /// The folder that relative paths in the configuration are relative to.
    pub base: &'a Path,
    /// The state folder.
    pub state: &'a Path,
    /// The clock of the run.
    pub clock: &'a Arc<dyn Clock>,
}

/// Every configured target.
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
    pub fn of(config: Arc<Config>, clock: Arc<dyn Clock>, open: BTreeMap<String, Arc<dyn Provider>>) -> Self {
        Self { config, clock, open: Mutex::new(open) }
    }

    /// Returns a fleet of one open target.
    #[cfg(test)]
    pub(crate) fn of_one(name: &str, provider: Arc<dyn Provider>, clock: Arc<dyn Clock>) -> Self {
        let kind = "sim".to_owned();
        let settings = toml::Table::new();
        let target = Target { name: name.into(), provider: kind, protect: false, tags: vec![], settings };
        let config = Config { targets: [(name.to_owned(), target)].into(), ..Config::empty() };
        Self::of(Arc::new(config), clock, [(name.to_owned(), provider)].into())
    }

    /// Returns the configuration of every target, by name.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
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
    pub fn settings(&self, name: &str) -> Result<&Target> {
        self.config.targets.get(name).ok_or_else(|| {
            Error::new(Code::NotFound, format!("there is no target `{name}`"))
                .hint(suggest::hint(name, self.config.targets.keys().map(String::as_str)))
        })
    }

    /// Returns a target, opened.
    ///
    /// # Errors
    /// [`Code::NotFound`], or what its settings lack.
    pub fn target(&self, name: &str) -> Result<Arc<dyn Provider>> {
        let settings = self.settings(name)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(provider) = open.get(name) {
            return Ok(Arc::clone(provider));
        }
        let kind = KINDS.iter().find(|kind| kind.name == settings.provider).ok_or_else(|| {
            Error::new(Code::Invalid, format!("target `{name}` wants the provider `{}`", settings.provider))
                .hint(suggest::hint(&settings.provider, KINDS.iter().map(|k| k.name)))
        })?;
        let opening = Opening {
            target: settings,
            base: &self.config.base,
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
    pub async fn place(&self, place: &Place) -> Result<Arc<dyn Provider>> {
        let target = self.target(&place.target)?;
        match &place.branch {
            Some(branch) => target.branches()?.open(branch).await,
            None => Ok(target),
        }
    }
}
