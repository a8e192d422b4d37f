//! One scenario, from the first record to where the run stays.

use super::{
    beginning,
    disturb::{Disturber, Passed},
    invariants::Breach,
    plan::Script,
};
use crate::{
    base::{
        clock::{Clock, Virtual},
        moment::Span,
        sqlite::Idle,
    },
    config::Config,
    journal::{Entry, Journal, Record, Status, Witness},
    ops::spec::Need,
    provider::{
        Backups, Branches, Fleet, Provider, Replicas, Schedules,
        model::{Backup, Branch, Replica, Schedule},
        sim::{Effect, Portrait, Sim, Template, gate::Gated},
    },
    runtime::{Refusal, Runbook, Scene, Stage, Watch},
};
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// The id of the run, in every scenario: a run that is killed and resumed is still the same one.
const RUN: &str = "rehearse";
/// How often a run is resumed that has been killed: more often than anything can go wrong in it.
const RESUMES: u32 = 60;
/// How often a run is resumed that stopped by itself.
const SECOND_LOOKS: u32 = 3;
/// How long nobody is there after a process has died.
const UNATTENDED: Span = Span::seconds(60);

/// Where scenarios of one runbook are played, one after the other.
pub(super) struct Theatre<'a> {
    stage: Stage<'a>,
    runbook: &'a Runbook,
    templates: &'a [Template],
    config: Arc<Config>,
    journals: Arc<Idle>,
}

/// What came of a scenario.
pub(super) struct Played {
    /// Every record that was kept.
    pub(super) entries: Vec<Entry>,
    /// Why the journal is not what it was, if so.
    pub(super) broken: Option<String>,
    /// The world of each target.
    pub(super) worlds: Vec<Seen>,
    /// What was asked for again although the world had done it.
    pub(super) asked_again: Vec<String>,
    /// What went wrong, in order.
    pub(super) story: Vec<String>,
    /// Why it was refused: before anything was done, or when it was to be resumed.
    pub(super) refused: Option<String>,
    /// How many leases are still there.
    pub(super) leases: usize,
    /// How many requests failed.
    pub(super) failed: u32,
    /// Whether the last process died, rather than seeing the run to where it is.
    pub(super) has_died_last: bool,
    /// Whether it was resumed as often as it may be and never came to rest.
    pub(super) is_restless: bool,
    /// Every point that was passed, where nothing went wrong.
    pub(super) score: Vec<Passed>,
}

/// A world, as it was left.
pub(super) struct Seen {
    pub(super) target: String,
    pub(super) portrait: Portrait,
    pub(super) log: Vec<Effect>,
    pub(super) unfinished: Vec<String>,
    pub(super) branches: Vec<Branch>,
    pub(super) backups: Vec<Backup>,
    pub(super) schedules: Vec<Schedule>,
    pub(super) replicas: Vec<Replica>,
}

/// What the runbook and its targets say that the invariants need.
pub(super) struct Rules<'a> {
    pub(super) needs: &'a [Need],
    pub(super) config: &'a Config,
}

impl<'a> Theatre<'a> {
    pub(super) fn new(
        runbook: &'a Runbook,
        params: Value,
        templates: &'a [Template],
        config: Arc<Config>,
    ) -> Result<Self, Refusal> {
        let journals = Arc::default();
        Ok(Self { stage: Stage::new(runbook, params)?, runbook, templates, config, journals })
    }

    pub(super) fn rules(&self) -> Rules<'_> {
        Rules { needs: &self.runbook.header.needs, config: &self.config }
    }

    /// Plays a scenario.
    ///
    /// # Errors
    /// What keeps any scenario from being played.
    pub(super) fn play(&mut self, script: &Script) -> Result<Played, Refusal> {
        let clock = Arc::new(Virtual::at(beginning()));
        let dyn_clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let disturber = Arc::new(Disturber::new(script.clone()));
        let sims: Vec<Sim> =
            self.templates.iter().map(|t| t.copy(Arc::clone(&dyn_clock))).collect::<Result<_, _>>()?;
        let gated = |sim: &Sim| Gated::new(sim.clone(), Arc::clone(&disturber) as _, Arc::clone(&dyn_clock));
        let open = self.config.targets.keys().zip(&sims);
        let open: BTreeMap<String, Arc<dyn Provider>> =
            open.map(|(name, sim)| (name.clone(), Arc::new(gated(sim)) as Arc<dyn Provider>)).collect();
        let witness = Arc::clone(&disturber) as Arc<dyn Witness>;
        let scene = Scene {
            fleet: Arc::new(Fleet::of(Arc::clone(&self.config), Arc::clone(&dyn_clock), open)),
            journal: Arc::new(Journal::scratch(Arc::clone(&dyn_clock), witness, &self.journals)?),
            watch: Arc::clone(&disturber) as Arc<dyn Watch>,
        };
        let (refused, is_restless) = self.go_on(&scene, &disturber, &clock);
        let entries = scene.journal.records(RUN).unwrap_or_default();
        let (failed, has_died_last) = disturber.mishaps();
        Ok(Played {
            broken: if entries.is_empty() {
                None
            } else {
                scene.journal.verify(RUN, None).err().map(|e| e.to_string())
            },
            leases: scene.journal.leases(RUN)?.len(),
            worlds: self
                .config
                .targets
                .keys()
                .zip(&sims)
                .map(|(name, sim)| seen(name, sim))
                .collect::<Result<_, _>>()?,
            story: disturber.story(),
            asked_again: disturber.asked_again(),
            score: disturber.score(),
            entries,
            refused,
            failed,
            has_died_last,
            is_restless,
        })
    }

    /// Runs the runbook, and resumes it until it stays where it is. Returns why it was refused, and whether it never
    /// came to rest.
    fn go_on(&mut self, scene: &Scene, disturber: &Disturber, clock: &Virtual) -> (Option<String>, bool) {
        let mut looks = 0;
        let mut ended = self.stage.start(scene, RUN);
        for _ in 0..RESUMES {
            match ended {
                Err(refusal) => return (Some(refusal.to_string()), false),
                Ok(Ok(ended)) if ended.status.is_final() => return (None, false),
                Ok(Ok(_)) if looks == SECOND_LOOKS => return (None, false),
                Ok(Ok(_)) => looks += 1,
                Ok(Err(_)) => {}
            }
            let summary = scene.journal.summary(RUN);
            if summary.as_ref().is_ok_and(|run| run.status.is_final()) {
                return (None, false);
            }
            clock.pass(UNATTENDED);
            disturber.revive();
            ended = match summary {
                Ok(_) => self.stage.resume(scene, RUN),
                // Killed before there was a run: whoever started it starts it again.
                Err(_) => self.stage.start(scene, RUN),
            };
        }
        (None, true)
    }

    /// Asks the runbook's own invariant.
    pub(super) fn authors_own(&mut self, played: &Played) -> Option<Breach> {
        if !self.stage.has_invariant() {
            return None;
        }
        let failure = self.stage.invariant(&world(played)).err()?;
        let message = failure.fault["message"].as_str().unwrap_or_default().to_owned();
        Some(Breach { invariant: "author", what: message })
    }
}

impl Played {
    /// Returns how the run ended or stopped; nothing for one that never was.
    pub(super) fn status(&self) -> Option<Status> {
        self.entries.iter().rev().find_map(|entry| match &entry.record {
            Record::Finished { status, .. } | Record::Stopped { status, .. } => Some(*status),
            Record::Started { .. } | Record::Resumed { .. } => Some(Status::Running),
            _ => None,
        })
    }

    /// Returns whether the run has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.status().is_some_and(Status::is_final)
    }

    /// Returns what the run said that it left behind.
    pub(super) fn left_behind(&self) -> &[String] {
        self.entries
            .iter()
            .rev()
            .find_map(|entry| match &entry.record {
                Record::Finished { left_behind, .. } => Some(left_behind.as_slice()),
                _ => None,
            })
            .unwrap_or_default()
    }
}

/// Looks at a world without anybody at its gate.
fn seen(target: &str, sim: &Sim) -> Result<Seen, Refusal> {
    let at_once = "the simulator answers at once";
    let portrait = sim.portrait()?;
    let late = || std::io::Error::other(at_once);
    let branches = Branches::list(sim).now_or_never().ok_or_else(late)??;
    let backups = Backups::list(sim).now_or_never().ok_or_else(late)??;
    let schedules = Schedules::list(sim).now_or_never().ok_or_else(late)??;
    let replicas = Replicas::list(sim).now_or_never().ok_or_else(late)??;
    Ok(Seen {
        target: target.into(),
        portrait,
        log: sim.log()?,
        unfinished: sim.unfinished()?,
        branches,
        backups,
        schedules,
        replicas,
    })
}

/// Returns the final worlds as the runbook's own invariant sees them.
fn world(played: &Played) -> Value {
    let of = |seen: &Seen| {
        let effects: Vec<Value> = seen.log.iter().map(|e| json!({"kind": e.kind, "what": e.what})).collect();
        json!({
            "branches": seen.branches.iter().map(Branch::handle).map(|b| b[crate::base::value::BRANCH].clone()).collect::<Vec<_>>(),
            "backups": seen.backups.iter().map(Backup::handle).map(|b| b[crate::base::value::BACKUP].clone()).collect::<Vec<_>>(),
            "effects": effects,
            "database": seen.portrait.database,
            "schedules": seen.portrait.schedules,
            "replicas": seen.portrait.replicas,
            "settings": seen.portrait.settings,
            "ranges": seen.portrait.ranges,
            "bans": seen.portrait.bans,
            "switches": seen.portrait.switches,
        })
    };
    let targets: BTreeMap<&str, Value> = played.worlds.iter().map(|s| (s.target.as_str(), of(s))).collect();
    let all = |field: &str| -> Value {
        targets.values().flat_map(|t| t[field].as_array().into_iter().flatten().cloned()).collect()
    };
    json!({
        "status": played.status().map_or("refused", Status::as_str),
        "left_behind": played.left_behind(),
        "branches": all("branches"),
        "backups": all("backups"),
        "effects": all("effects"),
        "targets": targets,
    })
}
