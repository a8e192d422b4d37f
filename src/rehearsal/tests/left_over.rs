//! What a run made or changed, and is not back when it ends.

use super::{FaultSelection, Verdict, broken_by_faults, run_scenarios, write_leaving_runbook};
use crate::runtime::Remainder;
use std::collections::BTreeSet;

/// How many schedules of several faults each runbook goes through.
const SEEDS: u64 = 24;

/// Changes that are undone when all goes well: what they need, what they do, how that is undone, and what is left.
const CHANGES: [(&str, &str, &str, &str); 8] = [
    (
        r#""branch.create", "branch.destroy""#,
        r#"let copy = branch::create(db, #{ into: "copy" });"#,
        "branch::delete(db, copy)",
        "branch:copy",
    ),
    (
        r#""db.create", "db.destroy""#,
        r#"let reader = db::replicas::create(db, #{ region: "eu-west-1" });"#,
        "db::replicas::delete(db, reader.id)",
        "replica:eu-west-1",
    ),
    (
        r#""backup.create", "backup.destroy""#,
        r#"let nightly = backup::schedule::create(db, #{ at: "04:00" });"#,
        "backup::schedule::delete(db, nightly.id)",
        "schedule:04:00",
    ),
    (
        r#""db.change""#,
        r#"db::config::set(db, #{ work_mem: "1GB" });"#,
        "db::config::set(db, #{ work_mem: () })",
        "setting:work_mem",
    ),
    (
        r#""network.change""#,
        r#"network::restrictions::add(db, "203.0.113.0/24");"#,
        r#"network::restrictions::remove(db, "203.0.113.0/24")"#,
        "ranges",
    ),
    (
        r#""network.change""#,
        r#"network::restrictions::remove(db, "::/0");"#,
        r#"network::restrictions::add(db, "::/0")"#,
        "ranges",
    ),
    (r#""network.change""#, "network::ssl::set(db, true);", "network::ssl::set(db, false)", "tls"),
    (r#""project.change""#, "project::pause(db);", "project::resume(db)", "power"),
];

/// What runs between a change and what undoes it: a read that a fault makes fail.
const BETWEEN: &str = "project::get(db);";

/// Returns the runbook of a change, between what comes before it and after it.
fn change_between(needs: &str, leaves: &str, body: &str) -> String {
    write_leaving_runbook(&format!(r#"{needs}, "project.read""#), leaves, body)
}

/// Returns what every scenario of a runbook came to.
fn rehearse_all(text: &str) -> Vec<(String, String, Verdict)> {
    run_scenarios(text, FaultSelection::ALL, 1..SEEDS, None)
}

/// Returns every invariant that any fault breaks, one line each.
fn broken_by_any_fault(text: &str) -> Vec<String> {
    broken_by_faults(text, FaultSelection::ALL, 1..SEEDS, None)
}

#[test]
fn what_is_undone_only_when_all_goes_well_is_found_at_every_other_end() {
    for (needs, change, undo, entry) in CHANGES {
        let text = change_between(needs, "", &format!("{change}\n{BETWEEN}\n{undo};"));
        let all = rehearse_all(&text);
        assert_eq!(all[0].2.violations, [], "{text}");
        let mut ends = BTreeSet::new();
        for (id, _, verdict) in &all {
            for found in &verdict.violations {
                assert_eq!(found.invariant, "left-over", "{id} of {entry}: {found:?}");
                let left = found.left.as_ref().expect("it says what is left");
                assert_eq!((left.entry.to_string().as_str(), left.target.as_str()), (entry, "sandbox"));
                assert_eq!(Some(left.ended.as_str()), verdict.status, "{id}");
                assert!(left.call.is_some() && left.before != left.after, "{id}: {left:?}");
                ends.insert(left.ended.as_str());
            }
        }
        assert_eq!(ends, BTreeSet::from(["abandoned", "failed"]), "{entry}: {text}");
    }
}

#[test]
fn what_is_undone_by_a_defer_directly_after_it_is_back() {
    for (needs, change, undo, _) in CHANGES {
        let text = change_between(needs, "", &format!("{change}\ndefer(|| {undo});\n{BETWEEN}"));
        assert_eq!(broken_by_any_fault(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn what_is_undone_by_a_defer_before_it_is_back() {
    // What is made has no id before.
    for (needs, change, undo, _) in CHANGES.iter().filter(|(_, change, ..)| !change.starts_with("let ")) {
        let text = change_between(needs, "", &format!("defer(|| {undo});\n{change}\n{BETWEEN}"));
        assert_eq!(broken_by_any_fault(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn clean_up_whose_failure_is_swallowed_is_found() {
    let body = "defer(|| { attempt(|| network::ssl::set(db, false)); });\nnetwork::ssl::set(db, true);";
    let broken = broken_by_any_fault(&change_between(r#""network.change""#, "", body));
    let found =
        |line: &String| line.starts_with("api:2:ssl:refused: left-over: the enforcement of TLS of `sandbox`");
    assert!(broken.iter().any(found), "{broken:?}");
}

#[test]
fn what_the_header_names_may_stay_and_nothing_else() {
    for (needs, change, _, entry) in CHANGES {
        let text = |leaves: &str| change_between(needs, leaves, &format!("{change}\n{BETWEEN}"));
        let kind = entry.split(':').next().unwrap_or_default();
        for named in [entry, kind] {
            let broken = broken_by_any_fault(&text(&format!("{named:?}")));
            assert_eq!(broken, Vec::<String>::new(), "{named}: {change}");
        }
        let other = if kind == "bans" { "tls" } else { "bans" };
        let all = run_scenarios(&text(&format!("{other:?}")), FaultSelection::NONE, 0..0, None);
        let found: Vec<&Remainder> =
            all[0].2.violations.iter().filter_map(|v| Some(&v.left.as_ref()?.entry)).collect();
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [entry], "{change}");
    }
}

#[test]
fn what_ends_as_it_began_is_not_left() {
    for (needs, body) in [
        (r#""network.change""#, "network::ssl::set(db, false);"),
        (r#""db.change""#, r#"db::config::set(db, #{ log_min_duration_statement: "500ms" });"#),
        (r#""network.change""#, r#"network::bans::remove(db, "203.0.113.9");"#),
        (
            r#""backup.create", "backup.destroy""#,
            "backup::pitr::mark(db, \"then\");\nlet taken = backup::create(db);\nbackup::restore(db, taken);",
        ),
        (
            r#""backup.create", "branch.create", "db.destroy""#,
            "backup::create(db);\nlet copy = branch::create(db, #{ into: \"copy\", temporary: true });\nbranch::promote(db, copy);",
        ),
    ] {
        let broken = broken_by_any_fault(&change_between(needs, "", &format!("{body}\n{BETWEEN}")));
        assert_eq!(broken, Vec::<String>::new(), "{body}");
    }
}

#[test]
fn what_is_removed_and_was_not_made_by_the_run_is_found() {
    let text = change_between(r#""network.change""#, "", r#"network::bans::remove(db, "203.0.113.66");"#);
    let all = run_scenarios(&text, FaultSelection::NONE, 0..0, None);
    let found: Vec<&str> = all[0].2.violations.iter().map(|found| found.what.as_str()).collect();
    assert_eq!(
        found,
        [
            "the list of bans of `sandbox` is left changed, from `203.0.113.66, 2001:db8::66` to `2001:db8::66` by /network::bans::remove#0, at the end of a run that succeeded"
        ]
    );
}
