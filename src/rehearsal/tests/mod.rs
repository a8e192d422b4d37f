//! A rehearsal of a runtime that is wrong: it must be found, and by the invariant that it breaks.

mod clean_up;
mod edits;
mod endless;
mod forks;
mod guard;
mod lags;
mod left_over;
mod mutants;

use super::limits::ProcessLimits;
use super::*;
use crate::{
    base::mutant::{Mutant, set_mutant},
    config::{SANDBOX, TargetConfig},
    ops::{self, spec::Effect},
    runtime::Runbook,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

const RUNBOOK: &str = r#"const RUNBOOK = #{ title: "t", params: #{ db: #{ type: "target", preset: "sandbox" } },
    needs: ["backup.create", "branch.create", "db.destroy"] };
let db = params.db;
backup::create(db);
backup::pitr::mark(db, "then");
db::execute(db, "update customers set name = 'x' where id < 5");
backup::restore(db, backup::list(db)[0], #{ into: "copy", temporary: true });
"#;

fn test_config() -> Config {
    simulate_targets(&[SANDBOX])
}

/// Returns the configuration of simulated targets of these names.
fn simulate_targets(names: &[&str]) -> Config {
    let settings = toml::Table::from_iter([("world".to_owned(), "sandbox".into())]);
    let target = |name: &&str| {
        let (name, provider, settings) = ((*name).to_owned(), "sim".to_owned(), settings.clone());
        (name.clone(), TargetConfig { name, provider, protect: false, tags: vec![], settings })
    };
    Config { targets: names.iter().map(target).collect(), ..Config::empty() }
}

/// Deaths of the process.
const CRASHES: FaultSelection = FaultSelection::NONE.with(FaultFamily::Crash);
/// Requests that take effect later than they should, or only in part.
const LATE: FaultSelection = FaultSelection::NONE.with(FaultFamily::Late);

/// What other people do, and the clock.
const OPERATORS: FaultSelection = FaultSelection::NONE.with(FaultFamily::Operators);

/// Returns the scenarios in which the process dies, with the operation in which it does, and what came of each.
fn run_crashes(text: &str, mutant: Option<Mutant>) -> Vec<(String, String, Verdict)> {
    run_scenarios(text, CRASHES, 0..0, mutant)
}

/// Returns every scenario of some families, with the operation in which its fault strikes, and what came of each.
fn run_scenarios(
    text: &str,
    faults: FaultSelection,
    seeds: Range<u64>,
    mutant: Option<Mutant>,
) -> Vec<(String, String, Verdict)> {
    run_scenarios_within(text, faults, seeds, mutant, ProcessLimits::USUAL)
}

/// Returns the same where no process may do more than some limits say.
fn run_scenarios_within(
    text: &str,
    faults: FaultSelection,
    seeds: Range<u64>,
    mutant: Option<Mutant>,
    limits: ProcessLimits,
) -> Vec<(String, String, Verdict)> {
    run_on_large_stack(|| {
        let runbook = Runbook::from_text("t.rhai", text.into())?;
        let request = RehearsalRequest {
            runbook,
            params: BTreeMap::new(),
            faults,
            seeds: seeds.end - seeds.start,
            seed: seeds.start,
            only: None,
        };
        let stage = Stage::prepare(&request.runbook, &request.params, &test_config())?;
        let mut runner = ScenarioRunner::new(&request.runbook, stage.params.clone(), &stage)?;
        runner.limits = limits;
        let undisturbed = runner.run_scenario(&FaultPlan::Undisturbed)?;
        let edits = if may_want_edits(&request) { list_possible_edits(&request.runbook) } else { Vec::new() };
        let set = ScenarioSet::from_visits(&undisturbed.visits, &edits, &request)
            .expect("no scenario was asked for");
        set_mutant(mutant);
        let mut crashes = Vec::new();
        for scenario in &set.scenarios {
            let result = runner.run_scenario(&scenario.plan)?;
            let op = scenario.cell.map_or(String::new(), |(call, _)| set.calls[call].op.clone());
            crashes.push((scenario.id.clone(), op, judge_scenario(&mut runner, &undisturbed, &result)?));
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
    // The restore point is looked for because its quarantine was on disk before.
    for call in [1, 5] {
        assert!(once.contains(&format!("crash:{call}:after-effect")), "{found:?}");
    }
}

#[test]
fn a_probe_that_does_not_look_is_found() {
    let found = broken_invariants(Some(Mutant::BlindProbe));
    let once = found.get("once").expect("something was asked for twice");
    // `db::execute` looks for its own commit before it runs anything again, and the restore point has its quarantine.
    for call in [1, 5] {
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
    let all = run_crashes(include_str!("../../../tests/good/every_change.rhai"), None);
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

/// How many schedules of several faults the changes below go through.
const LATE_SEEDS: u64 = 64;

/// Returns a runbook of these statements on the sandbox `db`, which may leave what it likes.
fn write_runbook(needs: &str, body: &str) -> String {
    write_leaving_runbook(needs, r#""branch", "setting", "ranges", "tls""#, body)
}

/// Returns a runbook of these statements on the sandbox `db`, with the entries of its `leaves`.
fn write_leaving_runbook(needs: &str, leaves: &str, body: &str) -> String {
    let header = r#"title: "t", params: #{ db: #{ type: "target", preset: "sandbox" } }"#;
    let rights = format!("needs: [{needs}], leaves: [{leaves}]");
    format!("const RUNBOOK = #{{ {header}, {rights} }};\nlet db = params.db;\n{body}\n")
}

/// The statements that answers and looks tell untruths about, with the rights that they need.
const LATE_CHANGES: [(&str, &str, &str); 7] = [
    (
        "two ranges",
        r#""network.change""#,
        r#"parallel([|| network::restrictions::add(db, "203.0.113.0/24"), || network::restrictions::add(db, "198.51.100.0/24")]);"#,
    ),
    ("tls", r#""network.change""#, "network::ssl::set(db, true);"),
    ("tls twice", r#""network.change""#, "network::ssl::set(db, true); network::ssl::set(db, false);"),
    (
        "ranges",
        r#""network.change""#,
        r#"network::restrictions::add(db, ["203.0.113.0/24", "2001:db8::/32"], #{ exclusive: true });"#,
    ),
    (
        "settings",
        r#""db.change""#,
        r#"db::config::set(db, #{ work_mem: "8MB", maintenance_work_mem: "96MB" });"#,
    ),
    (
        "branch",
        r#""branch.create""#,
        r#"retry(#{ attempts: 3, backoff: "20s" }, || branch::create(db, #{ into: "copy" }));"#,
    ),
    (
        "backup",
        r#""backup.create""#,
        r#"retry(#{ attempts: 3, backoff: "1s" }, || backup::create(db, #{ label: "one" }));"#,
    ),
];

/// Returns the runbook of one of [`LATE_CHANGES`].
fn late_change(name: &str) -> String {
    let found = LATE_CHANGES.iter().find(|(known, ..)| *known == name);
    let (_, needs, body) = found.expect("there is this change");
    write_runbook(needs, body)
}

/// Late faults alone, with deaths of the process, and with what other people do as well.
const LATE_FAMILIES: [FaultSelection; 3] =
    [LATE, CRASHES.with(FaultFamily::Late), CRASHES.with(FaultFamily::Late).with(FaultFamily::Operators)];

/// Returns every invariant that late faults break, one line each.
fn broken_by_late_faults(text: &str, mutant: Option<Mutant>, seeds: Range<u64>) -> Vec<String> {
    let run = |families| broken_by_faults(text, families, seeds.clone(), mutant);
    LATE_FAMILIES.into_iter().flat_map(run).collect()
}

/// Returns every invariant that some families of faults break, one line each.
fn broken_by_faults(
    text: &str,
    families: FaultSelection,
    seeds: Range<u64>,
    mutant: Option<Mutant>,
) -> Vec<String> {
    let line = |(id, _, verdict): &(String, String, Verdict)| -> Vec<String> {
        verdict.violations.iter().map(|v| format!("{id}: {}: {}", v.invariant, v.what)).collect()
    };
    run_scenarios(text, families, seeds, mutant).iter().flat_map(line).collect()
}

/// Holds that a change keeps every invariant under late faults.
fn assert_late_faults_break_nothing(name: &str) {
    let broken = broken_by_late_faults(&late_change(name), None, 0..LATE_SEEDS);
    assert!(broken.is_empty(), "{} violations:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn enforcing_tls_is_right_under_late_faults() {
    assert_late_faults_break_nothing("tls");
}

#[test]
fn switching_tls_twice_is_right_under_late_faults() {
    assert_late_faults_break_nothing("tls twice");
}

#[test]
fn replacing_the_ranges_is_right_under_late_faults() {
    assert_late_faults_break_nothing("ranges");
}

#[test]
fn adding_two_ranges_at_once_is_right_under_late_faults() {
    assert_late_faults_break_nothing("two ranges");
}

#[test]
fn setting_parameters_is_right_under_late_faults() {
    assert_late_faults_break_nothing("settings");
}

#[test]
fn retrying_a_branch_is_right_under_late_faults() {
    assert_late_faults_break_nothing("branch");
}

#[test]
fn retrying_a_backup_is_right_under_late_faults() {
    assert_late_faults_break_nothing("backup");
}

/// Waits of every kind, around temporary branches and clean-up.
const WAITS: &str = r#"const RUNBOOK = #{ title: "t", params: #{ db: #{ type: "target", preset: "sandbox" } },
    needs: ["backup.create", "branch.create", "db.change", "network.change"], leaves: ["ranges", "setting:work_mem"] };
let db = params.db;
sleep("5m");
let due = now() + duration("1m");
wait_until(#{ timeout: "10m", every: "30s" }, || now() > due);
defer(|| { sleep("2m"); network::ssl::set(db, false); });
network::ssl::set(db, true);
sleep("90s");
let copy = branch::create(db, #{ into: "copy", temporary: true });
parallel([
    || { sleep("1m"); branch::create(db, #{ into: "one", temporary: true }); },
    || { sleep("2m"); backup::create(db, #{ label: "two" }); sleep("10s"); },
]);
network::restrictions::add(db, "203.0.113.0/24");
sleep("1m");
db::config::set(db, #{ work_mem: "8MB" });
"#;

/// Deaths of the process, and what is done after them.
const OPERATED: FaultSelection = CRASHES.with(FaultFamily::Operators);

#[test]
fn whatever_an_operator_does_nothing_is_broken() {
    for text in [RUNBOOK, WAITS] {
        assert_eq!(broken_by_faults(text, OPERATED, 0..LATE_SEEDS, None), Vec::<String>::new());
    }
}

/// Returns the verdict on one scenario of a runbook.
fn judge_one(text: &str, wanted: &str) -> Verdict {
    let all = run_scenarios(text, OPERATED, 0..0, None);
    let found = all.into_iter().find(|(id, ..)| id == wanted);
    found.unwrap_or_else(|| panic!("there is no {wanted}")).2
}

#[test]
fn a_sleep_that_the_run_has_passed_is_over_whatever_the_clock_shows() {
    let verdict = judge_one(WAITS, "operator:0:after-ending:clock-back");
    assert_eq!((verdict.status, verdict.violations), (Some("succeeded"), vec![]));
}

#[test]
fn a_decision_is_what_becomes_of_an_undecided_call() {
    for (act, status) in
        [("decide-done", "succeeded"), ("decide-redo", "succeeded"), ("decide-fail", "failed")]
    {
        let verdict = judge_one(RUNBOOK, &format!("operator:1:create:{act}"));
        assert_eq!((verdict.status, verdict.violations), (Some(status), vec![]), "{act}");
    }
}

#[test]
fn a_run_that_is_given_up_or_taken_over_says_what_is_so() {
    for (act, status) in [
        ("after-effect:leave", "abandoned"),
        ("after-record:leave", "abandoned"),
        ("after-begin:abandon", "abandoned"),
        ("restore:take-over", "succeeded"),
    ] {
        let verdict = judge_one(RUNBOOK, &format!("operator:5:{act}"));
        assert_eq!((verdict.status, verdict.violations), (Some(status), vec![]), "{act}");
    }
}

/// Holds that in one scenario, which breaks nothing, a mutant breaks an invariant.
fn assert_mutant_is_found(mutant: Mutant, families: FaultSelection, change: &str, broken: &str) {
    let text = late_change(change);
    assert_eq!(broken_by_faults(&text, families, 0..0, None), Vec::<String>::new());
    let found = broken_by_faults(&text, families, 0..0, Some(mutant));
    assert!(found.iter().any(|line| line.starts_with(broken)), "{mutant:?}: {found:?}");
}

#[test]
fn a_bound_that_is_counted_from_the_record_is_found() {
    assert_mutant_is_found(Mutant::BoundFromRecord, LATE, "tls", "api:1:enforce:sent-late: truth:");
}

/// No range would be left, and a look that lags behind shows another one.
#[test]
fn a_plan_that_is_made_from_a_lagging_look_is_found() {
    let text = r#"const RUNBOOK = #{ title: "t", params: #{ db: #{ type: "target", preset: "sandbox" } },
        needs: ["network.change"], leaves: ["ranges"] };
    network::restrictions::add(params.db, ["203.0.113.0/24", "198.51.100.0/24"], #{ exclusive: true });
    sleep("15m");
    network::restrictions::remove(params.db, "203.0.113.0/24");
    attempt(|| network::restrictions::remove(params.db, "198.51.100.0/24"));
    "#;
    assert_eq!(broken_by_faults(text, LATE, 0..0, None), Vec::<String>::new());
    let found = broken_by_faults(text, LATE, 0..0, Some(Mutant::PlanningLookBelieved));
    assert!(found.iter().any(|line| line.starts_with("api:4:allowed:lagging: same-world")), "{found:?}");
}

#[test]
fn a_whole_list_that_is_compared_is_found() {
    for scenario in ["colleague-before", "colleague-after"] {
        let broken = format!("api:1:allow:{scenario}: colleague:");
        assert_mutant_is_found(Mutant::WholeListCompared, OPERATORS, "ranges", &broken);
    }
}

#[test]
fn a_begun_call_whose_branch_cannot_be_asked_is_undecided() {
    let text = include_str!("../../../tests/good/every_change.rhai");
    // In these schedules the process dies after a statement on a branch was committed, and the branch does not open then.
    for seed in [139, 328] {
        let request = RehearsalRequest {
            runbook: Runbook::from_text("t.rhai", text.into()).expect("it parses"),
            params: BTreeMap::new(),
            faults: FaultSelection::ALL,
            seeds: 0,
            seed: 0,
            only: Some(format!("seed:{seed}")),
        };
        let report = rehearse_runbook(&request, &test_config()).expect("it is rehearsed");
        let verdict = report.scenario_verdicts().next().expect("one scenario").verdict;
        assert_eq!(verdict.violations, [], "seed {seed}");
    }
}

#[test]
fn a_rejection_that_the_script_obeys_is_no_violation() {
    let text = r#"const RUNBOOK = #{ title: "t", params: #{ db: #{ type: "target", preset: "sandbox" } },
    needs: ["backup.create"] };
let answer = attempt(|| approve("really?"));
if answer.ok { backup::create(params.db, #{ label: "yes" }); } else { note("no"); }
"#;
    assert_eq!(broken_by_faults(text, OPERATED, 0..LATE_SEEDS, None), Vec::<String>::new());
}
