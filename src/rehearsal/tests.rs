//! A rehearsal of a runtime that is wrong: it must be found, and by the invariant that it breaks.

use super::{plan::Plan, *};
use crate::{
    config::SANDBOX,
    runtime::mutant::{Mutant, become_wrong},
};
use std::collections::BTreeSet;

const RUNBOOK: &str = r#"const RUNBOOK = #{ title: "t", params: #{ db: #{ type: "target", preset: "sandbox" } },
    needs: ["backup.create", "branch.create", "db.destroy"] };
let db = params.db;
backup::create(db);
backup::pitr::mark(db, "then");
db::execute(db, "update customers set name = 'x' where id < 5");
backup::restore(db, backup::list(db)[0], #{ into: "copy", temporary: true });
"#;

fn config() -> Config {
    let settings = toml::Table::from_iter([("world".to_owned(), "sandbox".into())]);
    let (name, provider) = (SANDBOX.to_owned(), "sim".to_owned());
    let target = Target { name: name.clone(), provider, protect: false, tags: vec![], settings };
    Config { targets: [(name, target)].into(), ..Config::empty() }
}

/// Returns the invariants that deaths of the process break when the runtime is wrong, with how often each is broken.
fn broken(mutant: Option<Mutant>) -> BTreeMap<&'static str, BTreeSet<String>> {
    on_a_large_stack(|| {
        let runbook = Runbook::of_text("t.rhai", RUNBOOK.into())?;
        let order =
            Order { runbook, params: BTreeMap::new(), faults: Faults::Crash, seeds: 0, seed: 0, only: None };
        let params = Stage::admit(&order.runbook, &order.params, &config())?;
        let (templates, config) = worlds(&config())?;
        let mut theatre = Theatre::new(&order.runbook, params, &templates, config)?;
        let undisturbed = theatre.play(&Script::Undisturbed)?;
        let plan = Plan::of(&undisturbed.score, &order).expect("no scenario was asked for");
        become_wrong(mutant);
        let mut broken: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for scenario in &plan.scenarios {
            let played = theatre.play(&scenario.script)?;
            for breach in judge(&mut theatre, &undisturbed, &played).breaches {
                broken.entry(breach.invariant).or_default().insert(scenario.id.clone());
            }
        }
        become_wrong(None);
        Ok(broken)
    })
    .expect("it is rehearsed")
}

#[test]
fn a_runtime_that_is_right_breaks_nothing() {
    assert_eq!(broken(None), BTreeMap::new());
}

#[test]
fn a_begin_that_is_not_durable_is_found() {
    let found = broken(Some(Mutant::BeginRides));
    let once = found.get("once").expect("something was asked for twice");
    for call in [1, 2, 5] {
        assert!(once.contains(&format!("crash:{call}:after-effect")), "{found:?}");
    }
}

#[test]
fn a_probe_that_does_not_look_is_found() {
    let found = broken(Some(Mutant::BlindProbe));
    let once = found.get("once").expect("something was asked for twice");
    // `db::execute` looks for its own commit before it runs anything again.
    for call in [1, 2, 5] {
        assert!(once.contains(&format!("crash:{call}:after-effect")), "{found:?}");
    }
}
