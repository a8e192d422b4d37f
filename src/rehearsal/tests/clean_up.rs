//! Clean-up that fails: what that hides, and what it does not.

use super::{FaultSelection, OPERATED, Verdict, broken_by_faults, run_scenarios, write_leaving_runbook};
use std::collections::BTreeSet;

/// How many schedules of several faults each runbook goes through.
const SEEDS: u64 = 24;

/// Returns what every scenario of a runbook came to.
fn rehearse_all(text: &str) -> Vec<(String, String, Verdict)> {
    run_scenarios(text, FaultSelection::ALL, 1..SEEDS, None)
}

/// Returns the entries of what a scenario left behind, and nobody told.
fn list_left(verdict: &Verdict) -> BTreeSet<String> {
    let left = verdict.violations.iter().filter_map(|violation| violation.left.as_ref());
    left.map(|left| left.entry.to_string()).collect()
}

/// A setting that is never taken back, beside a switch that clean-up turns off.
const FORGETS_SETTING: &str = r#"network::ssl::set(db, true);
defer(|| network::ssl::set(db, false));
db::config::set(db, #{ work_mem: "1GB" });"#;

#[test]
fn clean_up_that_fails_hides_only_what_it_would_have_undone() {
    let all = rehearse_all(&write_leaving_runbook(r#""db.change", "network.change""#, "", FORGETS_SETTING));
    let judged = |wanted: &str| {
        let found = all.iter().find(|(id, ..)| id == wanted);
        &found.unwrap_or_else(|| panic!("there is no {wanted}")).2
    };
    // The clean-up is refused, or not done at all.
    for id in ["api:3:enforce:refused", "api:3:enforce:server-error", "operator:3:after-begin:leave"] {
        let verdict = judged(id);
        assert_eq!(list_left(verdict), BTreeSet::from(["setting:work_mem".to_owned()]), "{id}: {verdict:?}");
        assert!(verdict.violations.iter().all(|found| found.invariant == "left-over"), "{id}: {verdict:?}");
    }
    assert!(all.iter().all(|(.., verdict)| !list_left(verdict).contains("tls")));
}

/// Clean-up that does what a function says, and only where there is something to do; the script does it itself at its end.
const LOOKS_FIRST: &str = r#"fn tidy(db) {
    for copy in branch::list(db) { branch::delete(db, copy.name) }
    if db::replicas::list(db).len() > 0 { db::replicas::delete(db, db::replicas::list(db)[0].id) }
}
defer(|| tidy(db));
on_failure(|| { if db::health(db).ok { db::config::set(db, #{ work_mem: () }) } });
db::config::set(db, #{ work_mem: "1GB" });
branch::create(db, #{ into: "copy" });
let reader = db::replicas::create(db, #{ region: "eu-west-1" });
db::replicas::delete(db, reader.id);
branch::delete(db, "copy");
db::config::set(db, #{ work_mem: () });"#;

#[test]
fn what_clean_up_undoes_is_known_from_the_runs_in_which_it_is_done() {
    let needs = r#""branch.create", "branch.destroy", "db.create", "db.change", "db.destroy", "db.read""#;
    let broken =
        broken_by_faults(&write_leaving_runbook(needs, "", LOOKS_FIRST), FaultSelection::ALL, 1..SEEDS, None);
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn clean_up_that_fails_by_itself_is_found_with_its_place_and_hides_nothing() {
    let body = "network::ssl::set(db, true);\non_failure(|| { throw \"never works\" });\non_failure(|| network::ssl::set(db, false));\ndb::config::set(db, #{ work_mem: \"1GB\" });\nproject::get(db);\ndb::config::set(db, #{ work_mem: () });";
    let needs = r#""db.change", "network.change", "project.read""#;
    let all = rehearse_all(&write_leaving_runbook(needs, r#""tls""#, body));
    let refused = all
        .iter()
        .find(|(id, ..)| id.starts_with("api:3:") && id.ends_with(":refused"))
        .expect("a read is refused");
    let found: Vec<&str> = refused.2.violations.iter().map(|found| found.what.as_str()).collect();
    assert_eq!(
        refused.2.violations.iter().map(|v| v.invariant).collect::<Vec<_>>(),
        ["left-over", "clean-up-works"]
    );
    assert!(found[0].starts_with("the setting `work_mem` of `sandbox` is left changed"), "{found:?}");
    assert!(
        found[1].contains("failed at t.rhai:4:") && found[1].contains("no fault is why: never works"),
        "{found:?}"
    );
    let hint = refused.2.violations[1].hint.as_deref().expect("what to do");
    assert!(hint.contains("look what is there first"), "{hint}");
    assert_eq!(all[0].2.violations, [], "nothing fails where nobody disturbs it");
}

#[test]
fn clean_up_that_only_works_at_the_end_of_the_script_is_found_where_the_run_is_given_up() {
    let body = "defer(|| ensure(branch::list(db).len() == 1, \"no copy\"));\nbackup::pitr::mark(db, \"then\");\nbranch::create(db, #{ into: \"copy\" });";
    let text = write_leaving_runbook(r#""backup.create", "branch.create""#, r#""branch""#, body);
    let broken = broken_by_faults(&text, OPERATED, 0..0, None);
    let starts = "operator:1:after-record:abandon: clean-up-works: the clean-up `defer(";
    assert!(broken.iter().any(|line| line.starts_with(starts)), "{broken:#?}");
    assert!(broken.iter().all(|line| line.contains(": clean-up-works: ")), "{broken:#?}");
}

#[test]
fn clean_up_that_finds_nothing_to_remove_is_no_violation_but_what_it_skips_is() {
    let body = |clean_up: &str| {
        format!(
            "defer(|| {{ {clean_up} }});\nnetwork::ssl::set(db, true);\nproject::get(db);\nbranch::create(db, #{{ into: \"copy\" }});"
        )
    };
    let needs = r#""branch.create", "branch.destroy", "network.change", "project.read""#;
    let broken_of = |clean_up: &str| {
        broken_by_faults(&write_leaving_runbook(needs, "", &body(clean_up)), OPERATED, 0..0, None)
    };
    let careful = "network::ssl::set(db, false); branch::delete(db, \"copy\");";
    assert_eq!(broken_of(careful), Vec::<String>::new());
    let broken = broken_of("branch::delete(db, \"copy\"); network::ssl::set(db, false);");
    let starts = "operator:1:after-record:abandon: left-over: the enforcement of TLS of `sandbox`";
    assert!(broken.iter().any(|line| line.starts_with(starts)), "{broken:#?}");
    assert!(broken.iter().all(|line| line.contains(": left-over: ")), "{broken:#?}");
}

#[test]
fn clean_up_that_a_fault_makes_fail_is_no_violation() {
    let body = "defer(|| { backup::pitr::mark(db, \"over\"); project::get(db); });\nbackup::create(db);";
    let text = write_leaving_runbook(r#""backup.create", "project.read""#, "", body);
    assert_eq!(broken_by_faults(&text, FaultSelection::ALL, 1..SEEDS, None), Vec::<String>::new());
}

#[test]
fn a_name_within_another_is_not_told() {
    let body =
        "branch::create(db, #{ into: \"a\" });\nbranch::create(db, #{ into: \"abc\", temporary: true });";
    let text = write_leaving_runbook(r#""branch.create""#, "", body);
    let all = rehearse_all(&text);
    let refused: Vec<_> = all.iter().filter(|(id, ..)| id.starts_with("api:3:delete:")).collect();
    assert!(!refused.is_empty());
    for (id, _, verdict) in refused {
        assert_eq!(list_left(verdict), BTreeSet::from(["branch:a".to_owned()]), "{id}: {verdict:?}");
    }
}
