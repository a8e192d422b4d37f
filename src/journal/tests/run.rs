//! A held run: what it remembers, what is on disk when, and who can have it.

use super::{
    TestJournal, accepted_record, begin_record, end_record, moment_at, new_run, ok_outcome, ticking_clock,
};
use crate::journal::{
    CallState, Conclusion, Durability, Error, Failure, Holder, IllegalRecord, Journal, Outcome, Record,
    RunStatus, ScriptError,
};
use serde_json::{Value, json};
use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_run_taken_anew_knows_what_it_knew() {
    let test = TestJournal::new();
    let run = test.create_run();
    let error = ScriptError::new("REFUSED", "no");
    let failure = Outcome::Err(error.to_json());
    let ending = Conclusion::Failed(Box::new(Failure { fault: error, place: None }));
    for record in [
        Record::Target { name: "db".into(), identity: json!({"ref": "abc"}) },
        end_record("read", ok_outcome(json!({"rows": [1, 2.5, null]}))),
        begin_record("done"),
        end_record("done", ok_outcome("fine")),
        begin_record("failed"),
        end_record("failed", failure),
        begin_record("open"),
        accepted_record("open"),
        Record::Decided { call: "open".into(), decision: json!({"kind": "redo"}), by: "ann".into() },
        Record::Ending { outcome: ending.to_recorded() },
    ] {
        run.append_record(record, Durability::Synced).expect("written");
    }
    let seen = |run: &super::Run| {
        let calls = ["read", "done", "failed", "open", "never"]
            .map(|call| (run.call_state(call), run.count_attempts(call)));
        (
            calls,
            run.target_identity::<Value>("db"),
            run.target_identity::<Value>("x"),
            run.conclusion(),
            run.status(),
            run.head_hash(),
        )
    };
    let (id, before) = (run.id().to_owned(), seen(&run));
    drop(run);
    let run = test.journal.acquire_run(&id).expect("taken");
    assert_eq!(seen(&run), before);
    assert_eq!(run.call_state("never"), Ok(CallState::NotStarted));
    assert_eq!(run.conclusion(), Ok(Some(ending)));
    assert_eq!(run.last_record_before_acquisition(), test.read_records(&id).last().expect("records").at);
    assert_eq!(run.target_identity("db"), Ok(Some(json!({"ref": "abc"}))));
}

#[test]
fn what_rides_is_written_with_the_next_that_must_be_and_before_it() {
    let test = TestJournal::new();
    let run = test.create_run();
    run.append_record(end_record("r1", ok_outcome(1)), Durability::Buffered).expect("kept");
    run.append_record(end_record("r2", ok_outcome(2)), Durability::Buffered).expect("kept");
    assert_eq!(test.record_kinds(run.id()), ["started"], "not on disk yet");
    assert_eq!(
        run.call_state("r1"),
        Ok(CallState::Finished { op: "load".into(), args: json!({"n": 1}), outcome: ok_outcome(1) })
    );
    run.append_record(begin_record("w"), Durability::Synced).expect("written");
    let calls: Vec<_> =
        test.read_records(run.id()).iter().filter_map(|e| e.record.call_name().map(str::to_owned)).collect();
    assert_eq!(calls, ["r1", "r2", "w"]);
    run.append_record(end_record("r3", ok_outcome(3)), Durability::Buffered).expect("kept");
    run.sync_records().expect("written");
    assert_eq!(test.record_kinds(run.id()), ["started", "end", "end", "begin", "end"]);
}

#[test]
fn what_rode_and_was_never_written_never_happened() {
    let test = TestJournal::new();
    let run = test.create_run();
    run.append_record(begin_record("w"), Durability::Synced).expect("written");
    run.append_record(end_record("r", ok_outcome(1)), Durability::Buffered).expect("kept");
    let id = run.id().to_owned();
    drop(run);
    let run = test.journal.acquire_run(&id).expect("taken");
    assert_eq!(run.call_state("r"), Ok(CallState::NotStarted));
    run.append_record(end_record("r", ok_outcome(2)), Durability::Synced).expect("written");
    assert!(test.journal.verify_run(&id, None).is_ok());
}

#[test]
fn a_flush_with_nothing_to_write_does_not_touch_the_store() {
    let test = TestJournal::new();
    let run = test.create_run();
    run.append_record(begin_record("a"), Durability::Synced).expect("written");
    let other = test.second_connection();
    other.execute_batch("begin immediate").expect("no other can write now");
    let asked = Instant::now();
    run.sync_records().expect("nothing to write");
    assert!(asked.elapsed() < Duration::from_secs(5), "it waited for the other");
}

#[test]
fn an_illegal_record_is_refused_and_writes_nothing() {
    let test = TestJournal::new();
    let run = test.create_run();
    let head = run.head_hash();
    let refused = run.append_record(accepted_record("a"), Durability::Synced);
    let why = IllegalRecord::CallNotStarted("accepted", "a".into());
    assert_eq!(refused, Err(Error::Illegal { run: run.id().into(), why }));
    assert_eq!((run.head_hash(), test.record_kinds(run.id())), (head, vec!["started"]));
    run.append_record(begin_record("a"), Durability::Synced).expect("the run is none the worse");
}

#[test]
fn a_value_too_deep_to_be_read_again_is_refused() {
    let test = TestJournal::new();
    let run = test.create_run();
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let refused = run.append_record(end_record("a", Outcome::Ok(deep)), Durability::Synced);
    assert!(
        matches!(refused, Err(Error::Illegal { why: IllegalRecord::Unreadable("end"), .. })),
        "{refused:?}"
    );
    assert_eq!(run.call_state("a"), Ok(CallState::NotStarted));
}

#[test]
fn threads_that_add_at_the_same_time_lose_nothing() {
    let test = TestJournal::new();
    let run = test.create_run();
    thread::scope(|threads| {
        for branch in 0..8 {
            let run = &run;
            threads.spawn(move || {
                for n in 0..20 {
                    let call = format!("{branch}/{n}");
                    run.append_record(begin_record(&call), Durability::Synced).expect("written");
                    let how = if n % 2 == 0 { Durability::Synced } else { Durability::Buffered };
                    run.append_record(end_record(&call, ok_outcome(n)), how).expect("kept");
                }
            });
        }
    });
    run.sync_records().expect("written");
    let id = run.id().to_owned();
    assert_eq!(test.read_records(&id).len(), 1 + 8 * 20 * 2);
    assert_eq!(test.journal.verify_run(&id, Some(&run.head_hash())).expect("whole").records, 321);
    assert_eq!(test.journal.summarize_run(&id).expect("is there").calls, 160);
}

#[test]
fn of_many_who_take_a_run_at_once_exactly_one_has_it() {
    let test = TestJournal::new();
    let id = test.create_run().id().to_owned();
    for _ in 0..20 {
        let barrier = std::sync::Barrier::new(4);
        let taken: Vec<_> = thread::scope(|threads| {
            let one = || {
                barrier.wait();
                // Whoever looks at the run at the same time must not look like one who holds it.
                drop(test.journal.summarize_run(&id).expect("is there"));
                test.journal.acquire_run(&id)
            };
            let all = [(); 4].map(|()| threads.spawn(one));
            // Each result is kept, and with it the run, until all have tried.
            all.map(|t| t.join().expect("no panic")).into_iter().collect()
        });
        assert_eq!(taken.iter().filter(|t| t.is_ok()).count(), 1);
        for error in taken.into_iter().filter_map(Result::err) {
            assert!(matches!(error, Error::Held { .. } | Error::HeldByUnknown { .. }), "{error}");
        }
    }
}

#[test]
fn a_held_run_says_who_holds_it() {
    let test = TestJournal::new();
    let run = test.create_run();
    let held = test.journal.acquire_run(run.id()).err().expect("held");
    let holder = Holder::this_process();
    assert_eq!(held, Error::Held { run: run.id().into(), holder, since: moment_at("12:00:01") });
}

/// Where the child that is killed finds its state folder.
const STATE: &str = "REDRILL_TEST_STATE";

/// The child of the next test; on its own it has nothing to do.
#[test]
fn a_child_that_holds_a_run() {
    let Some(state) = std::env::var_os(STATE) else { return };
    let journal = Journal::open(Path::new(&state), ticking_clock()).expect("opens");
    let run = journal.create_run(&new_run()).expect("made");
    run.append_record(end_record("r", ok_outcome(1)), Durability::Buffered).expect("kept");
    run.append_record(begin_record("w"), Durability::Synced).expect("written");
    run.append_record(end_record("w", ok_outcome(1)), Durability::Buffered).expect("kept");
    thread::sleep(Duration::from_mins(1));
    unreachable!("the parent kills this long before");
}

#[test]
fn a_killed_process_lets_go_of_its_run() {
    let test = TestJournal::new();
    let mut child = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "journal::tests::run::a_child_that_holds_a_run"])
        .env(STATE, test.folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    let id = wait_for(|| test.journal.list_runs().expect("reads").pop().filter(|run| run.calls == 2)).id;
    let held = test.journal.acquire_run(&id).err();
    let alive = test.journal.summarize_run(&id).expect("is there").status;
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert!(matches!(held, Some(Error::Held { holder, .. }) if holder.pid == child.id()));
    assert_eq!(alive, RunStatus::Running);
    let dead = test.journal.summarize_run(&id).expect("is there");
    assert_eq!(
        (dead.status, dead.reason.as_deref()),
        (RunStatus::Interrupted, Some("the process that ran it is gone"))
    );
    let run = test.journal.acquire_run(&id).expect("free");
    assert!(matches!(run.call_state("r"), Ok(CallState::Finished { .. })), "rode with what was durable");
    assert!(matches!(run.call_state("w"), Ok(CallState::Started { .. })), "durable before its effect");
}

/// Returns what `look` finds, within ten seconds.
fn wait_for<T>(look: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain");
        thread::sleep(Duration::from_millis(5));
    }
}
