//! `kill -9` at random moments, for real: a process is killed, the run is resumed, until it ends.
//!
//! `FIREDRILL_KILLS` is how many runs are killed (a small number without it); `FIREDRILL_SEED` repeats a series.

use crate::stage::{Lab, Stage, postgres_or_skip};
use std::{env, time::Duration};

/// A small generator of numbers (xorshift): what is random here is repeatable by its seed.
pub struct Chance(u64);

impl Chance {
    pub fn new() -> Self {
        let seed = env::var("FIREDRILL_SEED").ok().and_then(|s| s.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761 + 1);
        eprintln!("FIREDRILL_SEED={seed}");
        Self(seed.max(1))
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

pub fn rounds(preset: u64) -> u64 {
    env::var("FIREDRILL_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(preset)
}

/// Starts the flagship and kills it.
fn run_through_kills(stage: &Stage, db: &str, chance: &mut Chance, span: Duration) -> u32 {
    killed_and_resumed(stage, "restore_to_branch", &[&format!("db={db}")], chance, span)
}

/// Starts a runbook, kills it somewhere in the first `span`, and resumes (killing again now and then) to the end.
/// Returns how often it was killed.
pub fn killed_and_resumed(
    stage: &Stage,
    runbook: &str,
    params: &[&str],
    chance: &mut Chance,
    span: Duration,
) -> u32 {
    let runbook = format!("{}/runbooks/{runbook}.rhai", env!("CARGO_MANIFEST_DIR"));
    let params = params.iter().flat_map(|param| ["-p", param]);
    let start: Vec<&str> = ["run", runbook.as_str()].into_iter().chain(params).collect();
    let runs_before = runs(stage).len();
    let mut after = || Duration::from_micros(chance.below(u64::try_from(span.as_micros()).unwrap()));
    let mut kills = u32::from(stage.firedrill_killed(&start, after()).is_none());
    for attempt in 0.. {
        assert!(attempt < 40, "the run does not come to its end");
        let done = if runs(stage).len() == runs_before {
            // Killed before there was a run: nothing happened, and the person starts it again.
            stage.firedrill(&start)
        } else if runs(stage)[0]["status"] == "succeeded" {
            return kills;
        } else if attempt % 3 == 1 {
            let Some(done) = stage.firedrill_killed(&["resume", "last", "--yes"], after()) else {
                kills += 1;
                continue;
            };
            done
        } else {
            stage.firedrill(&["resume", "last", "--yes"])
        };
        assert_eq!(done.code, 0, "{done}");
    }
    kills
}

fn runs(stage: &Stage) -> Vec<serde_json::Value> {
    stage.firedrill(&["runs", "list", "-o", "json"]).json().as_array().unwrap().clone()
}

fn count(stage: &Stage, list: &[&str]) -> usize {
    stage.firedrill(list).json().as_array().unwrap().len()
}

#[test]
fn killed_anywhere_on_the_sandbox_nothing_happens_twice() {
    let mut chance = Chance::new();
    let mut kills = 0;
    for round in 0..rounds(12) {
        let stage = Stage::new();
        let before = count(&stage, &["backup", "list", "-t", "sandbox", "-o", "json"]);
        kills += run_through_kills(&stage, "sandbox", &mut chance, Duration::from_millis(400));
        let after = count(&stage, &["backup", "list", "-t", "sandbox", "-o", "json"]);
        assert_eq!(after, before + 1, "round {round}: backups");
        assert_eq!(
            count(&stage, &["branch", "list", "-t", "sandbox", "-o", "json"]),
            0,
            "round {round}: branches"
        );
        assert_eq!(stage.firedrill(&["runs", "verify", "last"]).code, 0);
    }
    eprintln!("{kills} kills");
}

#[test]
fn killed_anywhere_on_the_lab_nothing_happens_twice() {
    if !postgres_or_skip() {
        return;
    }
    let mut chance = Chance::new();
    let stage = Stage::new();
    let lab = Lab::up(&stage);
    let mut kills = 0;
    for round in 1..=rounds(4) {
        kills += run_through_kills(&stage, "lab", &mut chance, Duration::from_millis(2500));
        let backups = count(&stage, &["backup", "list", "-t", "lab", "-o", "json"]);
        assert_eq!(u64::try_from(backups).unwrap(), round, "round {round}: backups");
        assert_eq!(
            count(&stage, &["branch", "list", "-t", "lab", "-o", "json"]),
            0,
            "round {round}: branches"
        );
    }
    eprintln!("{kills} kills");
    lab.down();
}
