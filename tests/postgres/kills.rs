//! Runs on a lab, killed at random moments, have every effect once.

use crate::env::{CliEnv, CliLab, KillSeries, kill_count};

#[test]
fn killed_anywhere_on_the_lab_nothing_happens_twice() {
    let env = CliEnv::new();
    let Some(lab) = CliLab::start(&env) else { return };
    let mut series = KillSeries::new(&env, "restore_to_branch", &["db=lab"]);
    let (mut kills, mut runs) = (0, 1);
    while kills < kill_count(4) {
        kills += series.run_through_kills(&env);
        runs += 1;
        let backups = env.count_listed(&["backup", "list", "-t", "lab", "-o", "json"]);
        assert_eq!(backups, runs, "after {kills} kills: backups");
        let branches = env.count_listed(&["branch", "list", "-t", "lab", "-o", "json"]);
        assert_eq!(branches, 0, "after {kills} kills: branches");
    }
    eprintln!("{kills} kills in {} runs", runs - 1);
    lab.take_down();
}
