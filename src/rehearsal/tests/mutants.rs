//! Every mutant of the protocol is found by the rehearsal of a good runbook, as the suite rehearses it: with every family of
//! faults and no other schedules than it has by preset.

use super::*;
use crate::base::mutant::PROTOCOL_MUTANTS;

const BACK_AND_FORTH: &str = include_str!("../../../tests/good/back_and_forth.rhai");
const EVERY_CHANGE: &str = include_str!("../../../tests/good/every_change.rhai");

/// How many schedules of several faults the suite goes through in a good runbook, from the first.
const SUITE_SEEDS: Range<u64> = 1..25;

/// Returns the good runbook in which a mutant is found.
fn revealing_runbook(mutant: Mutant) -> &'static str {
    match mutant {
        Mutant::CommitAnswerBelieved => EVERY_CHANGE,
        _ => BACK_AND_FORTH,
    }
}

/// Returns the first scenario in which a mutant breaks an invariant, with the invariant.
fn find_first_violation(text: &str, mutant: Mutant) -> Option<(String, &'static str)> {
    run_on_large_stack(|| {
        let request = RehearsalRequest {
            runbook: Runbook::from_text("t.rhai", text.into())?,
            params: BTreeMap::new(),
            faults: FaultSelection::ALL,
            seeds: SUITE_SEEDS.end - SUITE_SEEDS.start,
            seed: SUITE_SEEDS.start,
            only: None,
        };
        let stage = Stage::prepare(&request.runbook, &request.params, &test_config())?;
        let mut runner = ScenarioRunner::new(&request.runbook, stage.params.clone(), &stage)?;
        let undisturbed = runner.run_scenario(&FaultPlan::Undisturbed)?;
        let edits = list_possible_edits(&request.runbook);
        let set = ScenarioSet::from_visits(&undisturbed.visits, &edits, &request)
            .expect("no scenario was asked for");
        let mut violated = |scenario: &scenario::Scenario| -> Result<Option<&'static str>, Refusal> {
            set_mutant(Some(mutant));
            let result = runner.run_scenario(&scenario.plan);
            let verdict = result.and_then(|result| judge_scenario(&mut runner, &undisturbed, &result));
            set_mutant(None);
            Ok(verdict?.violations.first().map(|violation| violation.invariant))
        };
        for scenario in &set.scenarios {
            if let Some(invariant) = violated(scenario)? {
                return Ok(Some((scenario.id.clone(), invariant)));
            }
        }
        Ok(None)
    })
    .expect("it is rehearsed")
}

/// Holds that each of some mutants is found.
fn assert_found(mutants: impl Iterator<Item = Mutant>) {
    for mutant in mutants {
        let found = find_first_violation(revealing_runbook(mutant), mutant);
        assert!(found.is_some(), "no rehearsal finds {mutant:?}");
    }
}

/// Returns whether a mutant believes an answer, whatever its shape.
fn believes_answer(mutant: Mutant) -> bool {
    format!("{mutant:?}").ends_with("AnswerBelieved")
}

#[test]
fn an_answer_that_is_believed_is_found_for_every_shape() {
    assert_found(PROTOCOL_MUTANTS.into_iter().filter(|mutant| believes_answer(*mutant)));
}

#[test]
fn every_other_mutant_of_the_protocol_is_found() {
    assert_found(PROTOCOL_MUTANTS.into_iter().filter(|mutant| !believes_answer(*mutant)));
}
