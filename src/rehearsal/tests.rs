//! A rehearsal of a runtime that is wrong: it must be found, and by the invariant that it breaks.

use super::*;
use crate::{
    config::SANDBOX,
    ops::{self, spec::Effect},
    runtime::{
        Runbook,
        mutant::{Mutant, set_mutant},
    },
};
use std::collections::{BTreeMap, BTreeSet};

const RUNBOOK: &str = r#"const RUNBOOK = #{ title: "t", params: #{ db: #{ type: "target", preset: "sandbox" } },
    needs: ["backup.create", "branch.create", "db.destroy"] };
let db = params.db;
backup::create(db);
backup::pitr::mark(db, "then");
db::execute(db, "update customers set name = 'x' where id < 5");
backup::restore(db, backup::list(db)[0], #{ into: "copy", temporary: true });
"#;

fn test_config() -> Config {
    let settings = toml::Table::from_iter([("world".to_owned(), "sandbox".into())]);
    let (name, provider) = (SANDBOX.to_owned(), "sim".to_owned());
    let target = TargetConfig { name: name.clone(), provider, protect: false, tags: vec![], settings };
    Config { targets: [(name, target)].into(), ..Config::empty() }
}

/// Returns the scenarios in which the process dies, with the operation in which it does, and what came of each.
fn run_crashes(text: &str, mutant: Option<Mutant>) -> Vec<(String, String, Verdict)> {
    run_on_large_stack(|| {
        let runbook = Runbook::from_text("t.rhai", text.into())?;
        let request = RehearsalRequest {
            runbook,
            params: BTreeMap::new(),
            faults: FaultSelection::Crash,
            seeds: 0,
            seed: 0,
            only: None,
        };
        let params = ScriptRunner::admit_runbook(&request.runbook, &request.params, &test_config())?;
        let (templates, config) = make_worlds(&test_config())?;
        let mut runner = ScenarioRunner::new(&request.runbook, params, &templates, config)?;
        let undisturbed = runner.run_scenario(&FaultPlan::Undisturbed)?;
        let set = ScenarioSet::from_visits(&undisturbed.visits, &request).expect("no scenario was asked for");
        set_mutant(mutant);
        let mut crashes = Vec::new();
        for scenario in &set.scenarios {
            let result = runner.run_scenario(&scenario.plan)?;
            let op = scenario.cell.map_or(String::new(), |(call, _)| set.calls[call].op.clone());
            crashes.push((scenario.id.clone(), op, judge_scenario(&mut runner, &undisturbed, &result)));
        }
        set_mutant(None);
        Ok(crashes)
    })
    .expect("it is rehearsed")
}

/// Returns the invariants that deaths of the process break when the runtime is wrong, with where each is broken.
fn broken_invariants(mutant: Option<Mutant>) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut broken: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (id, _, verdict) in run_crashes(RUNBOOK, mutant) {
        for breach in verdict.violations {
            broken.entry(breach.invariant).or_default().insert(id.clone());
        }
    }
    broken
}

#[test]
fn a_runtime_that_is_right_breaks_nothing() {
    assert_eq!(broken_invariants(None), BTreeMap::new());
}

#[test]
fn a_begin_that_is_not_durable_is_found() {
    let found = broken_invariants(Some(Mutant::BufferedBegin));
    let once = found.get("once").expect("something was asked for twice");
    for call in [1, 2, 5] {
        assert!(once.contains(&format!("crash:{call}:after-effect")), "{found:?}");
    }
}

#[test]
fn a_probe_that_does_not_look_is_found() {
    let found = broken_invariants(Some(Mutant::BlindProbe));
    let once = found.get("once").expect("something was asked for twice");
    // `db::execute` looks for its own commit before it runs anything again.
    for call in [1, 2, 5] {
        assert!(once.contains(&format!("crash:{call}:after-effect")), "{found:?}");
    }
}

#[test]
fn a_clean_up_that_is_not_gone_on_with_is_found() {
    let script = "defer(|| backup::create(db, #{ label: \"end\" }));\n";
    let text = RUNBOOK.replace("backup::create(db);\n", script);
    let all = run_crashes(&text, Some(Mutant::CleanedUpOnce));
    let violations =
        all.iter().flat_map(|(.., verdict)| &verdict.violations).filter(|b| b.invariant == "clean-up");
    let found: BTreeSet<&str> = violations.map(|b| b.what.as_str()).collect();
    for what in ["the temporary branch `copy` was removed 0 times", "at its end the run did"] {
        assert!(found.iter().any(|found| found.starts_with(what)), "{found:?}");
    }
}

#[test]
fn a_long_wait_is_disturbed_where_it_begins_and_where_it_ends() {
    let text = r#"const RUNBOOK = #{ title: "t", params: #{ db: #{ type: "target", preset: "sandbox" } }, needs: ["db.read"] };
    let due = now() + duration("3m");
    wait_until(#{ timeout: "10m", every: "5s" }, || db::health(params.db).ok && now() > due);
    "#;
    let all = run_crashes(text, None);
    // The run itself, and of 37 questions and 36 pauses two each.
    let calls: BTreeSet<&str> = all.iter().filter_map(|(id, ..)| id.split(':').nth(1)).collect();
    assert_eq!(calls.len(), 5, "{calls:?}");
    assert!(
        all.iter().all(|(.., verdict)| verdict.as_str() == "converged"),
        "{:?}",
        all.iter().find(|(.., v)| v.as_str() != "converged")
    );
}

/// Dead before the effect, after it and before anything knows of it, before its record, and after its record.
const WINDOWS: [&str; 4] = ["after-begin", "after-effect", "before-record", "after-record"];

#[test]
fn every_operation_that_changes_anything_is_right_in_every_failure_window() {
    let all = run_crashes(include_str!("../../tests/good/every_change.rhai"), None);
    let changes =
        ops::all_operations().filter(|op| op.effect != Effect::Read && op.path() != ops::supabase::API_PATH);
    for op in changes {
        let own: Vec<_> = all.iter().filter(|(_, of, _)| *of == op.path()).collect();
        for window in WINDOWS {
            let there = own.iter().any(|(id, ..)| id.ends_with(window));
            assert!(there, "nobody died in the window `{window}` of `{}`", op.path());
        }
        for (id, _, verdict) in own {
            assert_eq!(
                (verdict.as_str(), &verdict.violations),
                ("converged", &vec![]),
                "{id} of {}",
                op.path()
            );
        }
    }
}

#[test]
fn a_write_past_the_catalogue_is_never_sent_again() {
    let text = r#"const RUNBOOK = #{ title: "t", params: #{ db: #{ type: "target", preset: "sandbox" } },
        needs: ["backup.create", "supabase.destroy"] };
    backup::create(params.db);
    supabase::api(params.db, "GET", "/world");
    supabase::api(params.db, "POST", "/clock", #{ body: #{ pass: "1h" } });
    "#;
    let all = run_crashes(text, None);
    let status_of = |id: &str| {
        let (.., verdict) = all.iter().find(|(known, ..)| known == id).expect("there is this death");
        assert_eq!(verdict.violations, [], "{id}");
        verdict.status
    };
    for looks in ["after-begin", "before-record", "after-record"] {
        assert_eq!(status_of(&format!("crash:2:{looks}")), Some("succeeded"));
    }
    // Nothing was written down that it is about to be sent: so it was not.
    assert_eq!(status_of("crash:3:after-begin"), Some("succeeded"));
    for sent in ["after-accepted", "after-effect", "before-record"] {
        assert_eq!(status_of(&format!("crash:3:{sent}")), Some("undecided"), "{sent}");
    }
    assert_eq!(status_of("crash:3:after-record"), Some("succeeded"));
}
