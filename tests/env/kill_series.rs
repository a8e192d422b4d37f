//! `kill -9` at random moments: a process is killed, the run is resumed, until it ends.
//!
//! `REDRILL_KILLS` is how many kills there are (a few without it); `REDRILL_SEED` repeats a series.

use super::{CliEnv, CommandOutput, shipped_runbook};
use std::time::{Duration, Instant};

const LIST_RUNS: &[&str] = &["runs", "list", "-o", "json"];

/// Random numbers (xorshift) that its seed repeats.
struct SeededRandom(u64);

impl SeededRandom {
    fn new() -> Self {
        let seed = std::env::var("REDRILL_SEED").ok().and_then(|s| s.parse().ok());
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
    std::env::var("REDRILL_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(preset)
}

/// One runbook, killed again and again.
pub struct KillSeries {
    start: Vec<String>,
    chance: SeededRandom,
    /// How long the run takes that nobody kills.
    length: Duration,
}

impl KillSeries {
    /// Runs a shipped runbook to its end, undisturbed.
    pub fn new(env: &CliEnv, runbook: &str, params: &[&str]) -> Self {
        Self::of_file(env, &shipped_runbook(runbook), params)
    }

    /// Runs the runbook of a file to its end, undisturbed.
    pub fn of_file(env: &CliEnv, runbook: &str, params: &[&str]) -> Self {
        let params = params.iter().flat_map(|param| ["-p", param]);
        let start = ["run", runbook].into_iter().chain(params).map(str::to_owned).collect();
        let mut series = Self { start, chance: SeededRandom::new(), length: Duration::ZERO };
        let begun = Instant::now();
        let done = env.run_cli(&series.start_args());
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
    pub fn run_through_kills(&mut self, env: &CliEnv) -> u32 {
        self.run_through_kills_and_decide(env, |undecided| panic!("nobody can tell: {undecided}"))
    }

    /// Does the same where a person may have to say what came of a call: `decide` does, when the run is undecided.
    pub fn run_through_kills_and_decide(
        &mut self,
        env: &CliEnv,
        mut decide: impl FnMut(&CommandOutput),
    ) -> u32 {
        let runs_before = env.count_listed(LIST_RUNS);
        let moment = self.random_delay();
        let mut kills = u32::from(env.run_cli_killed(&self.start_args(), moment).is_none());
        for attempt in 0..40 {
            let listed = env.list_runs();
            let done = if env.count_listed(LIST_RUNS) == runs_before {
                // Killed before there was a run: nothing happened, and the person starts it again.
                env.run_cli(&self.start_args())
            } else if listed[0]["status"] == "succeeded" {
                return kills;
            } else if attempt % 3 == 1 {
                let moment = self.random_delay();
                let Some(done) = env.run_cli_killed(&["resume", "last", "--yes"], moment) else {
                    kills += 1;
                    continue;
                };
                done
            } else {
                env.run_cli(&["resume", "last", "--yes"])
            };
            match done.code {
                0 => {}
                4 => decide(&done),
                _ => panic!("{done}"),
            }
        }
        panic!("the run does not come to its end")
    }
}
