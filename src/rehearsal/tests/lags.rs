//! A job whose request was lost: the first look shows that, and the next lag behind.

use super::*;
use crate::provider::sim;

const TWICE: &str = r#"const RUNBOOK = #{ title: "t", params: #{ db: #{ type: "target", preset: "sandbox" } },
    needs: ["project.change"], leaves: ["power"] };
for round in 0..2 {
    project::pause(params.db);
    project::resume(params.db);
}
"#;

/// Returns the violations where a look lags behind the true one before it, each with its scenario. The sandbox is paused and
/// resumed so quickly that looks may still show how it was before both.
fn find_violations_after_true_look(mutant: Option<Mutant>) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let world = folder.path().join("quick.toml");
    let quick = sim::SANDBOX.replace("pause_duration = \"1m\"", "pause_duration = \"1s\"");
    let quick = quick.replace("resume_duration = \"5m\"", "resume_duration = \"1s\"");
    assert_eq!(quick.matches("\"1s\"").count(), 2, "both are quick");
    std::fs::write(&world, quick).expect("a world");
    let mut config = test_config();
    let target = config.targets.get_mut(SANDBOX).expect("the sandbox");
    target.settings.insert("world".to_owned(), world.to_str().expect("text").into());
    run_on_large_stack(|| {
        let request = RehearsalRequest {
            runbook: Runbook::from_text("t.rhai", TWICE.into())?,
            params: BTreeMap::new(),
            faults: FaultSelection::ALL,
            seeds: 0,
            seed: 0,
            only: None,
        };
        let stage = Stage::prepare(&request.runbook, &request.params, &config)?;
        let mut runner = ScenarioRunner::new(&request.runbook, stage.params.clone(), &stage)?;
        let undisturbed = runner.run_scenario(&FaultPlan::Undisturbed)?;
        let set = ScenarioSet::from_visits(&undisturbed.visits, &[], &request).expect("no one was asked for");
        let of_lags = set.scenarios.iter().filter(|scenario| scenario.id.contains(":lost:true-look:"));
        let mut found = Vec::new();
        set_mutant(mutant);
        for scenario in of_lags {
            let result = runner.run_scenario(&scenario.plan)?;
            let verdict = judge_scenario(&mut runner, &undisturbed, &result)?;
            found.extend(
                verdict.violations.iter().map(|v| format!("{}: {} ({})", scenario.id, v.what, v.invariant)),
            );
        }
        set_mutant(None);
        Ok(found)
    })
    .expect("it is rehearsed")
}

#[test]
fn a_job_that_a_lagging_look_calls_done_after_a_true_one_is_found() {
    assert_eq!(find_violations_after_true_look(None), [""; 0]);
    let found = find_violations_after_true_look(Some(Mutant::LaggingLookBelieved));
    assert!(found.iter().any(|what| what.ends_with("(same-world)")), "{found:?}");
}
