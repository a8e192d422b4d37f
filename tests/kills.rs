//! `kill -9` at random moments, for real: a process is killed, the run is resumed, until it ends.
//!
//! `REDRILL_KILLS` is how many kills there are (a few without it); `REDRILL_SEED` repeats a series.

use crate::stage::{CliEnv, CliLab, postgres_or_skip};
use redrill::{
    base::clock::{Clock, SystemClock},
    config::{self, Locations, SANDBOX},
    provider::{OpenContext, sim::Sim},
};
use std::{
    collections::BTreeMap,
    env,
    sync::Arc,
    time::{Duration, Instant},
};

/// A small generator of numbers (xorshift): what is random here is repeatable by its seed.
struct SeededRandom(u64);

impl SeededRandom {
    fn new() -> Self {
        let seed = env::var("REDRILL_SEED").ok().and_then(|s| s.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761 + 1);
        eprintln!("REDRILL_SEED={seed}");
        Self(seed.max(1))
    }

    fn next_below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// How many kills a series has: `REDRILL_KILLS`, or a few.
pub fn kill_count(preset: u32) -> u32 {
    env::var("REDRILL_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(preset)
}

/// One runbook, killed again and again.
pub struct KillSeries {
    start: Vec<String>,
    chance: SeededRandom,
    /// How long the run takes that nobody kills.
    length: Duration,
}

impl KillSeries {
    /// Runs a runbook to its end, undisturbed.
    pub fn new(stage: &CliEnv, runbook: &str, params: &[&str]) -> Self {
        let runbook = format!("{}/runbooks/{runbook}.rhai", env!("CARGO_MANIFEST_DIR"));
        let params = params.iter().flat_map(|param| ["-p", param]);
        let start = ["run", &runbook].into_iter().chain(params).map(str::to_owned).collect();
        let mut series = Self { start, chance: SeededRandom::new(), length: Duration::ZERO };
        let begun = Instant::now();
        let done = stage.run_cli(&series.start_args());
        assert_eq!(done.code, 0, "{done}");
        series.length = begun.elapsed();
        series
    }

    fn start_args(&self) -> Vec<&str> {
        self.start.iter().map(String::as_str).collect()
    }

    /// Returns a moment within the length of a run.
    fn random_delay(&mut self) -> Duration {
        let length = u64::try_from(self.length.as_micros()).unwrap();
        Duration::from_micros(self.chance.next_below(length))
    }

    /// Starts a run, kills it somewhere, and resumes it (killing again now and then) to its end. Returns how often it
    /// was killed.
    pub fn run_through_kills(&mut self, stage: &CliEnv) -> u32 {
        let runs_before = list_runs(stage).len();
        let moment = self.random_delay();
        let mut kills = u32::from(stage.run_cli_killed(&self.start_args(), moment).is_none());
        for attempt in 0..40 {
            let listed = list_runs(stage);
            let done = if listed.len() == runs_before {
                // Killed before there was a run: nothing happened, and the person starts it again.
                stage.run_cli(&self.start_args())
            } else if listed[0]["status"] == "succeeded" {
                return kills;
            } else if attempt % 3 == 1 {
                let moment = self.random_delay();
                let Some(done) = stage.run_cli_killed(&["resume", "last", "--yes"], moment) else {
                    kills += 1;
                    continue;
                };
                done
            } else {
                stage.run_cli(&["resume", "last", "--yes"])
            };
            assert_eq!(done.code, 0, "{done}");
        }
        panic!("the run does not come to its end")
    }
}

pub(crate) fn list_runs(stage: &CliEnv) -> Vec<serde_json::Value> {
    stage.run_cli(&["runs", "list", "-o", "json"]).parse_json().as_array().unwrap().clone()
}

fn count_listed(stage: &CliEnv, list: &[&str]) -> usize {
    stage.run_cli(list).parse_json().as_array().unwrap().len()
}

/// Returns what took effect in the world of the sandbox, as the world itself counts it.
pub(crate) fn count_effects(stage: &CliEnv) -> BTreeMap<String, usize> {
    let locations = Locations { config: None, state: Some(stage.path(".redrill")) };
    let config = config::load_config(&locations).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let opening = OpenContext {
        target: &config.targets[SANDBOX],
        base: &config.base,
        state: &config.state,
        clock: &clock,
    };
    let mut counts = BTreeMap::new();
    for effect in Sim::open(&opening).unwrap().effect_log().unwrap() {
        *counts.entry(effect.kind).or_default() += 1;
    }
    counts
}

#[test]
fn killed_anywhere_on_the_sandbox_nothing_happens_twice() {
    let stage = CliEnv::new();
    let mut series = KillSeries::new(&stage, "restore_to_branch", &["db=sandbox"]);
    let of_one_run = count_effects(&stage);
    assert!(!of_one_run.is_empty());
    let (mut kills, mut runs) = (0, 1);
    while kills < kill_count(12) {
        kills += series.run_through_kills(&stage);
        runs += 1;
        let expected: BTreeMap<_, _> = of_one_run.iter().map(|(kind, n)| (kind.clone(), n * runs)).collect();
        assert_eq!(count_effects(&stage), expected, "after {runs} runs and {kills} kills");
        assert_eq!(stage.run_cli(&["runs", "verify", "last"]).code, 0);
    }
    eprintln!("{kills} kills in {} runs", runs - 1);
}

#[test]
fn killed_anywhere_on_the_lab_nothing_happens_twice() {
    if !postgres_or_skip() {
        return;
    }
    let stage = CliEnv::new();
    let lab = CliLab::bring_up(&stage);
    let mut series = KillSeries::new(&stage, "restore_to_branch", &["db=lab"]);
    let (mut kills, mut runs) = (0, 1);
    while kills < kill_count(4) {
        kills += series.run_through_kills(&stage);
        runs += 1;
        let backups = count_listed(&stage, &["backup", "list", "-t", "lab", "-o", "json"]);
        assert_eq!(backups, runs, "after {kills} kills: backups");
        let branches = count_listed(&stage, &["branch", "list", "-t", "lab", "-o", "json"]);
        assert_eq!(branches, 0, "after {kills} kills: branches");
    }
    eprintln!("{kills} kills in {} runs", runs - 1);
    lab.take_down();
}
