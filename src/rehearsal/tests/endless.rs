//! Runs that do not come to an end.

use super::*;
use crate::base::moment::Span;
use limits::{LimitMet, ProcessLimits};

/// Limits that are met at once.
const TIGHT: ProcessLimits = ProcessLimits { steps: 20_000, calls: 200, time: Span::from_secs(24 * 3600) };

fn write_reading_runbook(body: &str) -> String {
    write_leaving_runbook(r#""db.read", "backup.create""#, "", body)
}

/// Returns the limit that the undisturbed run of a runbook meets.
fn find_limit_met(text: &str, limits: ProcessLimits) -> Option<LimitMet> {
    let all = run_scenarios_within(text, FaultSelection::NONE, 0..0, None, limits);
    let violations = &all[0].2.violations;
    let invariants: Vec<&str> = violations.iter().map(|violation| violation.invariant).collect();
    let known = [LimitMet::Steps(limits.steps), LimitMet::Calls(limits.calls), LimitMet::Time(limits.time)];
    let met = known.into_iter().find(|limit| violations.iter().any(|found| found.what == limit.describe()));
    assert_eq!(invariants, met.iter().map(|_| "ends").collect::<Vec<_>>(), "{violations:?}");
    met
}

#[test]
fn a_run_that_does_not_end_is_stopped_and_says_at_which_limit() {
    let (steps, calls, time) =
        (LimitMet::Steps(TIGHT.steps), LimitMet::Calls(TIGHT.calls), LimitMet::Time(TIGHT.time));
    for (body, limit) in [
        ("loop { }", steps),
        ("loop { attempt(|| { throw 1; }); }", steps),
        ("loop { try { [1].map(|x| { loop { } }) } catch { } }", steps),
        ("step(\"one\", || { loop { } });", steps),
        ("parallel([|| { loop { } }, || 1]);", steps),
        ("defer(|| { loop { } });", steps),
        ("loop { db::health(db); }", calls),
        ("loop { backup::create(db); }", calls),
        ("loop { note(\"on\"); }", calls),
        ("while true { sleep(\"1s\"); }", calls),
        ("while true { sleep(\"1h\"); }", time),
        ("loop { attempt(|| wait_until(#{ timeout: \"1h\", every: \"5m\" }, || false)); }", calls),
    ] {
        assert_eq!(find_limit_met(&write_reading_runbook(body), TIGHT), Some(limit), "{body}");
    }
}

#[test]
fn a_long_run_with_long_waits_is_not_endless() {
    let body = "for n in 0..1000 { db::health(db); }\nsleep(\"60d\");\nlet due = now() + duration(\"23h\");\nwait_until(#{ timeout: \"24h\", every: \"1s\" }, || now() > due);";
    assert_eq!(find_limit_met(&write_reading_runbook(body), ProcessLimits::USUAL), None);
}

#[test]
fn a_run_that_does_not_end_after_a_fault_is_found_there_and_nowhere_else() {
    let body = "let taken = attempt(|| backup::create(db));\nwhile !taken.ok { }";
    let all = run_scenarios_within(&write_reading_runbook(body), FaultSelection::ALL, 0..0, None, TIGHT);
    let broken = |wanted: &str| -> Vec<&str> {
        let (.., verdict) = all.iter().find(|(id, ..)| id == wanted).expect("there is this scenario");
        verdict.violations.iter().map(|found| found.invariant).collect()
    };
    assert_eq!(broken("api:1:create:refused"), ["ends"]);
    assert_eq!(broken("api:1:create:late"), Vec::<&str>::new());
    assert_eq!(broken("crash:1:after-effect"), Vec::<&str>::new());
}
