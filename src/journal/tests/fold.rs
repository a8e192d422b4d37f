//! Which record may follow which, and what a run is after them.

use super::{TestJournal, begin_record};
use crate::{
    base::moment::Moment,
    journal::{record_order::next_status, *},
};
use serde_json::{Value, json};
use std::collections::HashMap;

const AT: Moment = Moment(jiff::Timestamp::UNIX_EPOCH);
const OPEN: [RunStatus; 4] =
    [RunStatus::Running, RunStatus::Waiting, RunStatus::Undecided, RunStatus::Interrupted];
const FINAL: [RunStatus; 3] = [RunStatus::Succeeded, RunStatus::Failed, RunStatus::Abandoned];

fn started() -> Record {
    let (runbook, title, digest, version) = ("a.rhai".into(), "A".into(), "0".into(), "1".into());
    Record::Started { runbook, title, digest, params: json!({}), version, git: None }
}
fn resumed() -> Record {
    Record::Resumed {
        version: "1".into(),
        edited: false,
        digest: None,
        gives_up: false,
        params: serde_json::Map::new(),
    }
}
fn begin(key: &str) -> Record {
    let (call, op) = ("a".into(), "load".into());
    Record::Begin { call, op, args: json!([1]), key: key.into(), at: "1:1".into() }
}
fn accepted() -> Record {
    Record::Accepted { call: "a".into(), what: json!({"job": 7}) }
}
fn end(outcome: RecordedOutcome) -> Record {
    let (call, op) = ("a".into(), "load".into());
    Record::End { call, op, args: json!([1]), at: "1:1".into(), outcome }
}
fn decided() -> Record {
    Record::Decided { call: "a".into(), decision: json!({"kind": "redo"}), by: "ann".into() }
}
fn ending() -> Record {
    Record::Ending { outcome: Outcome::Ok(json!(null)) }
}
fn finished(status: RunStatus) -> Record {
    Record::Finished { status, error: None, left_behind: Vec::new() }
}
fn stopped(status: RunStatus) -> Record {
    Record::Stopped { status, reason: "a signal".into(), mismatch: false, at_call: None, unconfirmed: None }
}
fn ok<E>() -> Outcome<E> {
    Outcome::Ok(json!(1))
}
fn failed() -> Outcome {
    Outcome::Err(ScriptError::new("X", "m"))
}
fn err() -> RecordedOutcome {
    failed().to_recorded()
}

fn fold(records: &[Record]) -> RunFold {
    let mut fold = RunFold::default();
    for record in records {
        fold.apply_record(record.clone(), AT).expect("legal");
    }
    fold
}
/// Adds the last record to a fold of the others, which must be legal.
fn last(records: &[Record]) -> Result<RunFold, IllegalRecord> {
    let (last, others) = records.split_last().expect("not empty");
    let mut fold = fold(others);
    let before = fold.clone();
    let added = fold.apply_record(last.clone(), AT);
    assert!(added.is_ok() || fold == before, "a refused record left a trace");
    added.map(|()| fold)
}

#[test]
fn a_run_is_started_once_and_first() {
    assert_eq!(next_status(None, None, &started()), Ok(RunStatus::Running));
    assert_eq!(next_status(None, None, &resumed()), Err(IllegalRecord::BeforeStart("resumed")));
    assert_eq!(next_status(Some(RunStatus::Running), None, &started()), Err(IllegalRecord::StartedTwice));
}

#[test]
fn nothing_follows_the_end() {
    for status in FINAL {
        for record in [resumed(), begin("k"), end(ok()), ending(), decided(), finished(RunStatus::Abandoned)]
        {
            let refused = Err(IllegalRecord::AfterEnd(record.kind(), status));
            assert_eq!(next_status(Some(status), None, &record), refused);
        }
    }
}

#[test]
fn a_stopped_run_is_resumed_decided_about_or_abandoned_and_nothing_else() {
    for status in OPEN.into_iter().filter(|s| s.is_stopped()) {
        assert_eq!(next_status(Some(status), None, &resumed()), Ok(RunStatus::Running));
        assert_eq!(
            next_status(Some(status), None, &finished(RunStatus::Abandoned)),
            Ok(RunStatus::Abandoned)
        );
        for record in
            [begin("k"), end(ok()), ending(), finished(RunStatus::Failed), stopped(RunStatus::Waiting)]
        {
            let refused = Err(IllegalRecord::WhileStopped(record.kind(), status));
            assert_eq!(next_status(Some(status), None, &record), refused);
        }
        let records = [started(), begin("k"), stopped(status), decided()];
        assert_eq!(last(&records).map(|fold| fold.run_state()), Ok((Some(status), Some("a signal".into()))));
    }
}

#[test]
fn a_run_stops_and_ends_with_a_status_of_that_sort() {
    for status in OPEN.into_iter().chain(FINAL) {
        let (stop, finish) = (stopped(status), finished(status));
        let now = Some(RunStatus::Running);
        assert_eq!(next_status(now, None, &stop).is_ok(), status.is_stopped());
        assert_eq!(next_status(now, None, &finish).is_ok(), status.is_final());
    }
}

#[test]
fn a_killed_run_is_resumed_without_having_stopped() {
    assert_eq!(next_status(Some(RunStatus::Running), None, &resumed()), Ok(RunStatus::Running));
}

#[test]
fn a_call_is_begun_once_accepted_while_open_and_ended_once() {
    let not_begun = |kind| Err(IllegalRecord::CallNotStarted(kind, "a".into()));
    let over = |kind| Err(IllegalRecord::CallFinished(kind, "a".into()));
    let begun_twice = Err(IllegalRecord::CallStartedTwice("a".into()));
    assert_eq!(last(&[started(), accepted()]).map(drop), not_begun("accepted"));
    assert_eq!(last(&[started(), decided()]).map(drop), not_begun("decided"));
    assert_eq!(last(&[started(), begin("k"), begin("k")]).map(drop), begun_twice);
    for done in [ok(), err()] {
        for more in [begin("k"), accepted(), end(ok())] {
            assert_eq!(last(&[started(), end(done.clone()), more.clone()]).map(drop), over(more.kind()));
        }
    }
    assert_eq!(last(&[started(), end(ok()), decided()]).map(drop), over("decided"));
}

#[test]
fn a_call_ends_as_what_was_begun() {
    let mut other = end(ok());
    if let Record::End { args, .. } = &mut other {
        *args = json!([2]);
    }
    assert_eq!(last(&[started(), begin("k"), other]).map(drop), Err(IllegalRecord::CallMismatch("a".into())));
}

#[test]
fn the_past_of_a_call_follows_its_records() {
    let (op, args) = (String::from("load"), json!([1]));
    let begun = |key: &str, accepted: Option<Value>, decision: Option<Decision>| CallState::Started {
        op: op.clone(),
        args: args.clone(),
        key: Some(key.into()),
        accepted,
        decision,
    };
    let ended = |outcome| CallState::Finished { op: op.clone(), args: args.clone(), outcome };
    let (job, redo) = (Some(json!({"job": 7})), Some(Decision::Redo { error: None }));
    let mut fold = fold(&[started()]);
    for (record, past, attempts) in [
        (resumed(), CallState::NotStarted, 0),
        (begin("k1"), begun("k1", None, None), 1),
        (accepted(), begun("k1", job.clone(), None), 1),
        (decided(), begun("k1", job.clone(), redo.clone()), 1),
        (begin("k2"), begun("k2", None, None), 2),
        (accepted(), begun("k2", job.clone(), None), 2),
        (end(err()), ended(failed()), 2),
        (decided(), begun("k2", job, redo), 2),
        (end(ok()), ended(ok()), 2),
    ] {
        fold.apply_record(record, AT).expect("legal");
        assert_eq!(
            (fold.call_state("a"), fold.count_attempts("a"), fold.call_state("b")),
            (Ok(past), attempts, Ok(CallState::NotStarted))
        );
    }
    assert_eq!(fold.count_calls(), 1);
}

#[test]
fn a_reason_lasts_until_the_run_goes_on() {
    let waiting = fold(&[started(), stopped(RunStatus::Waiting)]);
    assert_eq!(waiting.run_state(), (Some(RunStatus::Waiting), Some("a signal".into())));
    let going = fold(&[started(), stopped(RunStatus::Waiting), resumed()]);
    assert_eq!(going.run_state(), (Some(RunStatus::Running), None));
}

fn entry(second: i64, record: Record) -> JournalEntry {
    let at = Moment(jiff::Timestamp::constant(second, 0));
    JournalEntry { seq: second.unsigned_abs(), at, record, hash: String::new() }
}

fn fold_entries(records: &[Record]) -> RunFold {
    let entries: Vec<_> = (1..).zip(records.iter().cloned()).map(|(n, record)| entry(n, record)).collect();
    let (fold, illegal) = RunFold::fold_until_illegal(&entries);
    assert_eq!(illegal, None);
    fold
}

#[test]
fn every_attempt_keeps_its_key_its_times_and_its_outcome() {
    let fold = fold_entries(&[started(), begin("k1"), end(err()), decided(), begin("k2"), end(ok())]);
    let call = fold.call("a").expect("is known");
    let at = |second| Some(Moment(jiff::Timestamp::constant(second, 0)));
    let attempt = |key: &str, began, ended, outcome| Attempt {
        key: Some(key.into()),
        began_at: at(began),
        accepted: None,
        accepted_at: None,
        accepted_under: 0,
        outcome: Some(outcome),
        ended_at: at(ended),
    };
    assert_eq!(call.attempts, [attempt("k1", 2, 3, err()), attempt("k2", 5, 6, ok())]);
    assert_eq!((call.outcome(), call.running_since(), call.last_changed_at()), (Some(&ok()), None, at(6)));
}

#[test]
fn a_gate_that_is_asked_anew_waits_since_then() {
    let asked = || Record::Accepted { call: "a".into(), what: json!({}) };
    let fold = fold_entries(&[started(), begin("k"), asked(), decided(), asked()]);
    let call = fold.call("a").expect("is known");
    assert_eq!((call.decision.as_ref(), call.is_accepted()), (None, true));
    assert_eq!(call.last_changed_at(), Some(Moment(jiff::Timestamp::constant(5, 0))));
}

#[test]
fn a_call_that_a_decision_ends_has_had_one_attempt() {
    let fold = fold_entries(&[started(), begin("k"), end(err()), decided(), end(ok())]);
    let call = fold.call("a").expect("is known");
    assert_eq!((call.attempts.len(), call.outcome()), (1, Some(&ok())));
}

#[test]
fn who_can_decide_about_which_call() {
    let decidable = |records: &[Record]| fold_entries(records).decidable_calls().count();
    let open = |records: &[Record]| fold_entries(records).open_calls().count();
    let stopped_at = |call: &str| Record::Stopped {
        status: RunStatus::Undecided,
        reason: "nobody knows".into(),
        mismatch: false,
        at_call: Some(call.into()),
        unconfirmed: None,
    };
    let cut_short = [started(), begin("k")];
    assert_eq!((open(&cut_short), decidable(&cut_short)), (1, 0));
    for (more, count) in [
        (&[stopped(RunStatus::Undecided)][..], 1),
        (&[stopped_at("a")], 1),
        (&[stopped_at("b")], 0),
        (&[stopped_at("a"), resumed()], 0),
        (&[decided()], 1),
        (&[end(err())], 0),
        (&[end(err()), decided()], 1),
    ] {
        assert_eq!(decidable(&[&cut_short[..], more].concat()), count, "{more:?}");
    }
    let held_read = [started(), end(err()), decided()];
    assert_eq!((open(&held_read), decidable(&held_read)), (1, 1));
}

#[test]
fn an_illegal_record_is_told_and_what_was_before_it_stays() {
    let entries = [entry(1, started()), entry(2, begin("k")), entry(3, begin("k")), entry(4, end(ok()))];
    let (fold, illegal) = RunFold::fold_until_illegal(&entries);
    assert_eq!(illegal, Some(IllegalRecord::CallStartedTwice("a".into())));
    assert_eq!(fold, RunFold::fold_until_illegal(&entries[..2]).0);
}

#[test]
fn the_error_and_what_is_left_come_from_the_last_record() {
    let (error, left_behind) = (json!({"code": "X"}), vec!["branch a/b".to_owned()]);
    let finished = Record::Finished {
        status: RunStatus::Failed,
        error: Some(error.clone()),
        left_behind: left_behind.clone(),
    };
    let fold = fold_entries(&[started(), finished]);
    assert_eq!((fold.error(), fold.left_behind()), (Some(&error), &left_behind[..]));
}

#[test]
fn what_does_not_read_names_the_version_that_wrote_it() {
    let version = |version: &str| Record::Resumed {
        version: version.into(),
        edited: false,
        digest: None,
        gives_up: false,
        params: serde_json::Map::new(),
    };
    let odd_error = || end(Outcome::Err(json!({"code": "X"})));
    let odd_decision =
        || Record::Decided { call: "a".into(), decision: json!({"kind": "undo"}), by: "ann".into() };
    for records in [
        vec![started(), version("7"), begin("k"), odd_error(), version("8")],
        vec![started(), begin("k"), version("7"), odd_decision(), version("8")],
    ] {
        let fold = fold(&records);
        let wrong = fold.call_state("a").expect_err("does not read");
        assert_eq!((wrong.subject.as_str(), wrong.version.as_str()), ("a", "7"), "{wrong}");
        assert_eq!(fold.call_state("b"), Ok(CallState::NotStarted), "the rest is as it was");
    }
    let target = Record::Target { name: "db".into(), identity: json!({"id": 5}) };
    let odd_end = Record::Ending { outcome: Outcome::Err(json!({"fault": 5})) };
    let fold = fold(&[started(), version("7"), target, odd_end, version("8")]);
    let identity = fold.target_identity::<HashMap<String, String>>("db").expect_err("does not read");
    assert_eq!((identity.subject.as_str(), identity.version.as_str()), ("the target `db`", "7"));
    assert!(fold.is_ending());
    let wrong = fold.conclusion().expect_err("does not read");
    assert_eq!((wrong.subject.as_str(), wrong.version.as_str()), ("the end of the run", "7"));
    assert_eq!(fold.unreadable_call_error("c", "odd".into()).version, "8");
}

#[test]
fn a_mismatch_that_drops_no_edition_is_met_again() {
    let mismatch = Record::Stopped {
        status: RunStatus::Interrupted,
        reason: "another call".into(),
        mismatch: true,
        at_call: None,
        unconfirmed: None,
    };
    let edited = Record::Resumed {
        version: "7".into(),
        edited: true,
        digest: Some("d".into()),
        gives_up: false,
        params: serde_json::Map::new(),
    };
    assert!(fold(&[started(), begin("k"), mismatch.clone()]).is_stopped_at_mismatch());
    assert!(!fold(&[started(), begin("k"), mismatch.clone(), edited.clone()]).is_stopped_at_mismatch());
    let read =
        Record::End { call: "r".into(), op: "look".into(), args: json!(1), at: "1:1".into(), outcome: ok() };
    let dropped = fold(&[started(), begin("k"), edited, read, mismatch]);
    assert!(!dropped.is_stopped_at_mismatch(), "the recorded text goes on");
    assert_eq!(
        (dropped.source_edition(), dropped.call("r")),
        (0, None),
        "what was recorded under it is dropped, too"
    );
}

#[test]
fn an_edition_on_trial_is_dropped_when_the_run_is_given_up() {
    let edited = Record::Resumed {
        version: "7".into(),
        edited: true,
        digest: Some("d".into()),
        gives_up: false,
        params: serde_json::Map::new(),
    };
    let given_up = Record::Resumed {
        version: "7".into(),
        edited: false,
        digest: None,
        gives_up: true,
        params: serde_json::Map::new(),
    };
    let on_trial = fold(&[started(), begin("k"), edited.clone(), stopped(RunStatus::Interrupted)]);
    assert_eq!((on_trial.source_edition(), on_trial.edition_to_give_up()), (1, 0));
    let dropped = fold(&[started(), begin("k"), edited.clone(), given_up.clone()]);
    assert_eq!((dropped.source_edition(), dropped.is_given_up()), (0, true));
    // What had begun before is no effect of the edit, and what begins under it is one.
    let taken_up = fold(&[started(), begin("k"), edited.clone(), end(ok()), given_up.clone()]);
    assert_eq!(taken_up.source_edition(), 0);
    let effective = fold(&[started(), edited, begin("k"), given_up, resumed()]);
    assert_eq!((effective.source_edition(), effective.is_given_up()), (1, false));
}

#[test]
fn what_was_allowed_under_an_edited_text_is_allowed_after_the_next_edit_is_refused() {
    let edited = |digest: &str| Record::Resumed {
        version: "7".into(),
        edited: true,
        digest: Some(digest.into()),
        gives_up: false,
        params: serde_json::Map::new(),
    };
    let allowed = |missing: &str| Record::EditAllowed { missing: vec![missing.into()], by: "ann".into() };
    let refused = Record::Stopped {
        status: RunStatus::Interrupted,
        reason: "another call".into(),
        mismatch: true,
        at_call: None,
        unconfirmed: None,
    };
    let records = [started(), edited("d"), allowed("old"), begin("k"), stopped(RunStatus::Interrupted)];
    let names = |fold: &RunFold| fold.names_allowed_missing().into_iter().collect::<Vec<_>>();
    let mut next = fold(&records);
    assert_eq!((next.source_edition(), names(&next)), (1, vec!["old".to_owned()]));
    for record in [edited("e"), allowed("new")] {
        next.apply_record(record, AT).expect("legal");
    }
    let both = vec!["new".to_owned(), "old".to_owned()];
    assert_eq!(
        (next.source_edition(), names(&next)),
        (2, both),
        "what is still missing is not asked about again"
    );
    next.apply_record(refused, AT).expect("legal");
    assert_eq!((next.source_edition(), names(&next)), (1, vec!["old".to_owned()]));
}

#[test]
fn the_gate_of_an_edition_comes_back_with_it_once_it_is_over() {
    let edited = |digest: &str| Record::Resumed {
        version: "7".into(),
        edited: true,
        digest: Some(digest.into()),
        gives_up: false,
        params: serde_json::Map::new(),
    };
    let refused = || Record::Stopped {
        status: RunStatus::Interrupted,
        reason: "another call".into(),
        mismatch: true,
        at_call: None,
        unconfirmed: None,
    };
    let (gate, op) = ("/approve_edit#1".to_owned(), EDIT_GATE.to_owned());
    let asked = Record::Begin {
        call: gate.clone(),
        op: op.clone(),
        args: json!(1),
        key: "g".into(),
        at: "1:1".into(),
    };
    let given = Record::End { call: gate.clone(), op, args: json!(1), at: "1:1".into(), outcome: ok() };
    // Given, and something took effect under the edition: the next one that is dropped leaves it as it was.
    let in_force = [started(), edited("d"), asked.clone(), given.clone(), begin("k")];
    let mut next = fold(&in_force);
    for record in [edited("e"), refused()] {
        next.apply_record(record, AT).expect("legal");
    }
    assert_eq!(next.source_edition(), 1);
    assert!(next.call(&gate).is_some_and(|gate| !gate.is_open()));
    // Given, the edition counts, also before anything took effect under it.
    let mut next = fold(&[started(), edited("d"), asked.clone(), given, edited("e"), refused()]);
    assert_eq!(next.source_edition(), 1);
    assert!(next.call(&gate).is_some_and(|gate| !gate.is_open()));
    next.drop_trial_edition();
    assert_eq!(next.source_edition(), 1);
    // It goes with an edition that is dropped, and one that stands open waits for nobody under the next.
    let dropped = fold(&[started(), edited("d"), asked.clone(), edited("e"), refused()]);
    assert_eq!((dropped.source_edition(), dropped.call(&gate)), (0, None));
    let replaced = fold(&[started(), edited("d"), begin("k"), asked, edited("e")]);
    assert_eq!((replaced.source_edition(), replaced.call(&gate)), (2, None));
}

/// The whole name of a call means that call, although it is a part of another one's.
#[test]
fn a_whole_name_names_one_call() {
    let test = TestJournal::new();
    let run = test.create_run();
    for call in ["/x#1", "/x#10"] {
        run.append_record(begin_record(call), Durability::Synced).expect("written");
    }
    let (fold, _) = RunFold::fold_until_illegal(&test.journal.read_records(run.id()).expect("read"));
    let named = |given: &str| ["/x#1", "/x#10"].map(|call| fold.is_named(given, call));
    assert_eq!(
        (named("/x#1"), named("/x#10"), named("x#"), named("y")),
        ([true, false], [false, true], [true; 2], [false; 2])
    );
}
