//! Texts that are edited while a run stands still, and gates that are not simply given.

use super::*;

/// A gate between effects, clean-up, and a step with several statements.
const GATED: &str = r#"const RUNBOOK = #{ title: "t", params: #{ db: #{ type: "target", preset: "sandbox" } },
    needs: ["backup.create", "branch.create", "db.destroy", "network.change"], leaves: ["ranges"] };
let db = params.db;
backup::create(db, #{ label: "first" });
defer(|| backup::pitr::mark(db, "over"));
step("prepare", || {
    backup::pitr::mark(db, "then");
    branch::create(db, #{ into: "copy", temporary: true });
    note("ready");
});
approve("change the rows?");
db::execute(db, "update customers set name = 'x' where id < 5");
network::restrictions::add(db, "203.0.113.0/24");
backup::create(db, #{ label: "last" });
"#;

/// The number of the gate among the calls.
const GATE: usize = 4;

/// Returns the scenarios of the gated runbook that an operator has a part in, and what came of each.
fn run_gated(mutant: Option<Mutant>) -> Vec<(String, Verdict)> {
    let all = run_scenarios(GATED, OPERATORS, 0..0, mutant);
    all.into_iter().map(|(id, _, verdict)| (id, verdict)).collect()
}

/// Returns what was broken, one line each.
fn list_broken(all: &[(String, Verdict)]) -> Vec<String> {
    let lines = |(id, verdict): &(String, Verdict)| -> Vec<String> {
        verdict.violations.iter().map(|v| format!("{id}: {}: {}", v.invariant, v.what)).collect()
    };
    all.iter().flat_map(lines).collect()
}

#[test]
fn an_edit_or_a_gate_that_is_not_given_breaks_nothing() {
    let all = run_gated(None);
    assert_eq!(list_broken(&all), Vec::<String>::new());
    let at_gate = |word: &str| {
        let id = format!("operator:{GATE}:gate:{word}");
        all.iter().find(|(known, _)| *known == id).unwrap_or_else(|| panic!("there is no {id}")).1.status
    };
    for (word, status) in [
        ("reject", "failed"),
        ("approve-late", "succeeded"),
        ("reject-late", "failed"),
        ("abandon", "abandoned"),
        ("leave", "abandoned"),
        // The recorded text goes on, and has what it asked for.
        ("edit-remove-11", "succeeded"),
        ("edit-remove-11-approved", "succeeded"),
        ("edit-move-11", "succeeded"),
        ("edit-add-11-approved", "succeeded"),
    ] {
        assert_eq!(at_gate(word), Some(status), "{word}");
    }
}

#[test]
fn edits_of_every_kind_are_played_all_over_the_run_and_not_too_many() {
    let all = run_gated(None);
    let edited = |kind: &str| -> BTreeSet<String> {
        let own = all.iter().filter(|(id, _)| id.contains(kind) && !id.contains(":gate:"));
        own.map(|(id, _)| id.split(':').nth(1).expect("a number").to_owned()).collect()
    };
    for kind in [":edit-remove-", ":edit-add-", ":edit-move-"] {
        assert!(edited(kind).len() >= 5, "{kind}: {:?}", edited(kind));
    }
    let count = all.iter().filter(|(id, _)| id.contains(":edit-") && !id.contains(":gate:")).count();
    assert!((36..=48).contains(&count), "{count}");
    let told = all.iter().find(|(id, _)| id.contains(":edit-remove-")).expect("one is played");
    let said = told.1.faults.last().expect("what was done");
    assert!(said.contains("the statement of line") && said.contains("`resume --edited`"), "{said}");
}

#[test]
fn an_edited_text_is_rejected_left_and_killed_at_its_own_question() {
    let all = run_gated(None);
    let of_gate = |word: &str| -> Vec<&Verdict> {
        let own = |id: &str| id.contains(":gate-of-edit-add-") && id.ends_with(word);
        all.iter().filter(|(id, _)| own(id)).map(|(_, verdict)| verdict).collect()
    };
    for (word, said) in [(":reject", "rejected"), (":leave", "nobody is there"), (":kill", "killed")] {
        let struck = |verdict: &&&Verdict| {
            let is_gate = |fault: &String| fault.contains("approve_edit");
            verdict.faults.iter().any(is_gate) && verdict.faults.iter().any(|fault| fault.contains(said))
        };
        let verdicts = of_gate(word);
        assert!(verdicts.iter().filter(struck).count() >= 2, "{word}: {verdicts:#?}");
        assert!(verdicts.iter().all(|verdict| verdict.violations.is_empty()), "{word}: {verdicts:#?}");
    }
}

#[test]
fn an_edited_run_that_passes_its_frontier_is_found() {
    let broken = list_broken(&run_gated(Some(Mutant::NoEditBarrier)));
    let finds = |invariant: &str, says: &str| {
        broken.iter().any(|line| line.contains(&format!(": {invariant}: ")) && line.contains(says))
    };
    assert!(finds("edited", "the edited text does not match what was recorded"), "{broken:#?}");
    assert!(finds("gate", "was begun before /approve#0 was given"), "{broken:#?}");
}

#[test]
fn an_edited_run_that_goes_by_the_approval_of_another_text_is_found() {
    let broken = list_broken(&run_gated(Some(Mutant::NoEditGate)));
    let is_found = |line: &String| line.contains(": gate: ") && line.contains("before the text was edited");
    assert!(broken.iter().any(is_found), "{broken:#?}");
}

#[test]
fn schedules_with_edits_break_nothing() {
    let broken = broken_by_faults(GATED, FaultSelection::ALL, 0..LATE_SEEDS, None);
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn an_edit_of_a_branch_that_is_over_is_refused_before_another_one_takes_effect() {
    let bodies = [
        r#"parallel([
            || { sleep("3s"); db::config::set(db, #{ work_mem: "8MB" }) },
            || db::config::set(db, #{ maintenance_work_mem: "96MB" }),
        ]);"#,
        r#"each(["a", "b"], #{ limit: 1 }, |which| {
            if which == "a" { db::config::set(db, #{ statement_timeout: "96s" }); db::query(db, "select 1"); }
            else { network::ssl::set(db, true); }
        });"#,
    ];
    let leaves = r#""setting:work_mem", "setting:maintenance_work_mem", "setting:statement_timeout", "tls""#;
    for body in bodies {
        let text = write_leaving_runbook(r#""db.change", "network.change""#, leaves, body);
        assert_eq!(broken_by_faults(&text, OPERATORS, 0..0, None), Vec::<String>::new());
    }
}

#[test]
fn an_edit_that_moves_what_was_done_leaves_the_run_as_it_was() {
    let swapped = r#"db::execute(db, "update customers set name = 'x' where id < 5");
backup::restore(db, backup::list(db)[0]);
let n = db::query(db, "select count(*) as n from customers where name = 'x'")[0].n;
ensure(n == 0, "the rows are still changed");
sleep("1m");
backup::pitr::mark(db, "over");"#;
    let text = write_runbook(
        r#""backup.destroy", "backup.create", "db.destroy""#,
        &format!("approve(\"go on?\");\n{swapped}"),
    );
    let all = run_scenarios(&text, OPERATORS, 0..0, None);
    let moved: Vec<_> = all.iter().filter(|(id, ..)| id.contains(":edit-move-4")).collect();
    let ends: BTreeSet<_> = moved.iter().map(|(.., verdict)| verdict.status).collect();
    // Moved before it was done, the run fails by its own check; afterwards it goes on as it was.
    assert!(ends.contains(&Some("succeeded")), "{ends:?}");
    assert!(moved.iter().all(|(.., verdict)| verdict.violations.is_empty()), "{moved:#?}");
}

/// What is known of its clean-up depends on what a worker has judged before, and a verdict may not.
#[test]
fn an_edited_run_is_compared_with_no_text_by_what_that_only_promises() {
    let body = "network::ssl::set(db, true);\nproject::get(db);\nnetwork::ssl::set(db, false);";
    let text = write_leaving_runbook(r#""network.change", "project.read""#, "", body);
    let found = run_on_large_stack(|| {
        let runbook = Runbook::from_text("t.rhai", text)?;
        let stage = Stage::prepare(&runbook, &BTreeMap::new(), &test_config())?;
        let mut runner = ScenarioRunner::new(&runbook, stage.params.clone(), &stage)?;
        let undisturbed = runner.run_scenario(&FaultPlan::Undisturbed)?;
        let is_read = |visit: &&points::Visit| format!("{:?}", visit.point).contains("Looks(\"project\")");
        let read = undisturbed.visits.iter().find(is_read).expect("it reads").point.clone();
        let refused = points::Fault::Request(crate::provider::sim::faults::RequestOutcome::Refused);
        let result = runner.run_scenario(&FaultPlan::One(read, refused))?;
        let by_text = find_violations_of_text(&mut runner, &undisturbed, &result)?;
        Ok((by_text, find_new_violations(&mut runner, &undisturbed, &result)?))
    });
    let (by_text, compared) = found.expect("it is rehearsed");
    assert!(by_text.iter().any(|violation| violation.invariant == LEFT_OVER), "{by_text:?}");
    assert_eq!(compared, []);
}
