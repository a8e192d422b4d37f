//! Runs on the sandbox, killed at random moments, have every effect once.

use crate::env::{CliEnv, KillSeries, kill_count};
use std::collections::BTreeMap;

#[test]
fn killed_anywhere_on_the_sandbox_nothing_happens_twice() {
    let env = CliEnv::new();
    let mut series = KillSeries::new(&env, "restore_to_branch", &["db=sandbox"]);
    let of_one_run = env.sandbox_effects();
    assert!(!of_one_run.is_empty());
    let (mut kills, mut runs) = (0, 1);
    while kills < kill_count(12) {
        kills += series.run_through_kills(&env);
        runs += 1;
        let expected: BTreeMap<_, _> = of_one_run.iter().map(|(kind, n)| (kind.clone(), n * runs)).collect();
        assert_eq!(env.sandbox_effects(), expected, "after {runs} runs and {kills} kills");
        assert_eq!(env.run_cli(&["runs", "verify", "last"]).code, 0);
    }
    eprintln!("{kills} kills in {} runs", runs - 1);
}
