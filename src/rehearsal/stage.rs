//! What a rehearsal begins with: the worlds, the parameters, and what time it is there.

use crate::{
    base::{
        clock::{Clock, VirtualClock},
        moment::Moment,
    },
    config::{Config, TargetConfig},
    provider::{
        self, OpenContext,
        sim::{WorldDraft, WorldTemplate},
    },
    runtime::{Refusal, RelativeParam, ResolvedParams, Runbook, RunbookError, ScriptRunner, run_fixture},
};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// The worlds of a rehearsal and its parameters, before anything has run.
pub struct Stage {
    /// The configuration without any target that is not simulated.
    pub(super) config: Arc<Config>,
    /// The world of each target, in the order of their names.
    pub(super) templates: Vec<WorldTemplate>,
    /// The worlds, as they can be looked at.
    pub drafts: BTreeMap<String, WorldDraft>,
    pub params: Value,
    /// The time at which every scenario begins.
    pub now: Moment,
    pub(super) time: RehearsalTime,
}

/// When a rehearsal begins, for its report.
pub(super) struct RehearsalTime {
    pub(super) now: Moment,
    /// Whether a parameter of the runbook is a moment, which must be one of this time.
    pub(super) has_time_param: bool,
    pub(super) relative: Vec<RelativeParam>,
}

impl Stage {
    /// Makes the worlds of the simulated targets, and has the fixture of the runbook prepare them. What was given goes
    /// before the parameters that the fixture returns.
    ///
    /// # Errors
    /// [`Refusal`]: the runbook would be refused as well, its fixture failed, or it wants a target that is not simulated.
    pub fn prepare(
        runbook: &Runbook,
        given: &BTreeMap<String, String>,
        config: &Config,
    ) -> Result<Self, Refusal> {
        ScriptRunner::require_runnable(runbook)?;
        let mut drafts = draft_worlds(config)?;
        let mut params = run_fixture(runbook, &mut drafts)?;
        params.extend(given.iter().map(|(name, text)| (name.clone(), text.clone())));
        let now = drafts.values().map(WorldDraft::now).max().unwrap_or_else(start_time);
        let has_time_param = runbook.has_time_param();
        let ResolvedParams { values, relative } =
            ScriptRunner::check_and_resolve_params(runbook, &params, config, now).map_err(|refusal| {
                if has_time_param { add_time_to_refusal(refusal, now) } else { refusal }
            })?;
        require_simulated_targets(&ScriptRunner::list_targets(runbook, &values), config)?;
        let templates = drafts.values().map(WorldDraft::build).collect::<Result<_, _>>()?;
        let time = RehearsalTime { now, has_time_param, relative };
        Ok(Self {
            config: Arc::new(keep_simulated_targets(config)),
            templates,
            drafts,
            params: values,
            now,
            time,
        })
    }
}

/// Returns the time at which worlds begin: always the same, so that the same rehearsal gives the same bytes.
fn start_time() -> Moment {
    // 2026-01-01T00:00:00Z
    Moment(jiff::Timestamp::constant(1_767_225_600, 0))
}

/// Adds to a refusal in which time a rehearsal lives, where a moment may be what was refused.
fn add_time_to_refusal(refusal: Refusal, now: Moment) -> Refusal {
    match refusal {
        Refusal::Runbook(error) => {
            let said = format!("the rehearsal's now is {now}");
            let hint = error.hint.map_or_else(|| said.clone(), |hint| format!("{hint}; {said}"));
            Refusal::Runbook(RunbookError { hint: Some(hint), ..error })
        }
        other => other,
    }
}

fn is_simulated(target: &TargetConfig) -> bool {
    target.provider == "sim"
}

fn keep_simulated_targets(config: &Config) -> Config {
    let mut config = config.clone();
    config.targets.retain(|_, target| is_simulated(target));
    config
}

/// Refuses to rehearse on anything real.
fn require_simulated_targets(targets: &[String], config: &Config) -> Result<(), Refusal> {
    let real = |name: &&String| config.targets.get(*name).is_some_and(|t| !is_simulated(t));
    match targets.iter().find(real) {
        None => Ok(()),
        Some(name) => Err(Refusal::Runbook(RunbookError {
            message: format!("the target `{name}` is real, and a rehearsal runs on simulated ones only"),
            hint: Some("give the parameter a target whose provider is `sim`, such as `sandbox`".into()),
            place: None,
        })),
    }
}

/// Returns the world of every simulated target as its settings say, not made yet.
fn draft_worlds(config: &Config) -> provider::Result<BTreeMap<String, WorldDraft>> {
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(start_time()));
    let draft = |(name, target): (&String, &TargetConfig)| {
        let opening = OpenContext {
            target,
            base: &config.base,
            file: config.file.as_deref(),
            state: &config.state,
            clock: &clock,
        };
        Ok((name.clone(), WorldDraft::from_config(&opening, &format!("rehearsal-{name}"))?))
    };
    config.targets.iter().filter(|(_, target)| is_simulated(target)).map(draft).collect()
}
