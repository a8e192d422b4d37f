//! A held run: what it remembers, what is on disk when, and who can have it.

use super::{Stage, accepted, at, begin, clock, end, new_run, ok};
use crate::journal::{Durability, Error, Holder, Illegal, Journal, Outcome, Past, Record, Status};
use serde_json::json;
use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_run_taken_anew_knows_what_it_knew() {
    let stage = Stage::new();
    let run = stage.run();
    let failure = Outcome::Err(json!({"code": "REFUSED", "message": "no"}));
    for record in [
        Record::Target { name: "db".into(), identity: json!({"ref": "abc"}) },
        end("read", ok(json!({"rows": [1, 2.5, null]}))),
        begin("done"),
        end("done", ok("fine")),
        begin("failed"),
        end("failed", failure.clone()),
        begin("open"),
        accepted("open"),
        Record::Decided { call: "open".into(), decision: json!("redo"), by: "ann".into() },
        Record::Ending { outcome: failure },
    ] {
        run.append(record, Durability::Now).expect("written");
    }
    let seen = |run: &super::Run| {
        let calls =
            ["read", "done", "failed", "open", "never"].map(|call| (run.past(call), run.attempts(call)));
        (calls, run.target("db"), run.target("x"), run.ending(), run.status(), run.head())
    };
    let (id, before) = (run.id().to_owned(), seen(&run));
    drop(run);
    let run = stage.journal.take(&id).expect("taken");
    assert_eq!(seen(&run), before);
    assert_eq!(run.past("never"), Past::Nothing);
    assert_eq!(run.last_at(), stage.records(&id).last().expect("records").at);
    assert_eq!(run.target("db"), Some(json!({"ref": "abc"})));
}

#[test]
fn what_rides_is_written_with_the_next_that_must_be_and_before_it() {
    let stage = Stage::new();
    let run = stage.run();
    run.append(end("r1", ok(1)), Durability::Rides).expect("kept");
    run.append(end("r2", ok(2)), Durability::Rides).expect("kept");
    assert_eq!(stage.kinds(run.id()), ["started"], "not on disk yet");
    assert_eq!(run.past("r1"), Past::Ended { op: "load".into(), args: json!({"n": 1}), outcome: ok(1) });
    run.append(begin("w"), Durability::Now).expect("written");
    let calls: Vec<_> =
        stage.records(run.id()).iter().filter_map(|e| e.record.call().map(str::to_owned)).collect();
    assert_eq!(calls, ["r1", "r2", "w"]);
    run.append(end("r3", ok(3)), Durability::Rides).expect("kept");
    run.flush().expect("written");
    assert_eq!(stage.kinds(run.id()), ["started", "end", "end", "begin", "end"]);
}

#[test]
fn what_rode_and_was_never_written_never_happened() {
    let stage = Stage::new();
    let run = stage.run();
    run.append(begin("w"), Durability::Now).expect("written");
    run.append(end("r", ok(1)), Durability::Rides).expect("kept");
    let id = run.id().to_owned();
    drop(run);
    let run = stage.journal.take(&id).expect("taken");
    assert_eq!(run.past("r"), Past::Nothing);
    run.append(end("r", ok(2)), Durability::Now).expect("written");
    assert!(stage.journal.verify(&id, None).is_ok());
}

#[test]
fn a_flush_with_nothing_to_write_does_not_touch_the_store() {
    let stage = Stage::new();
    let run = stage.run();
    run.append(begin("a"), Durability::Now).expect("written");
    let other = stage.other();
    other.execute_batch("begin immediate").expect("no other can write now");
    let asked = Instant::now();
    run.flush().expect("nothing to write");
    assert!(asked.elapsed() < Duration::from_secs(5), "it waited for the other");
}

#[test]
fn an_illegal_record_is_refused_and_writes_nothing() {
    let stage = Stage::new();
    let run = stage.run();
    let head = run.head();
    let refused = run.append(accepted("a"), Durability::Now);
    let why = Illegal::NotBegun("accepted", "a".into());
    assert_eq!(refused, Err(Error::Illegal { run: run.id().into(), why }));
    assert_eq!((run.head(), stage.kinds(run.id())), (head, vec!["started"]));
    run.append(begin("a"), Durability::Now).expect("the run is none the worse");
}

#[test]
fn a_value_too_deep_to_be_read_again_is_refused() {
    let stage = Stage::new();
    let run = stage.run();
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let refused = run.append(end("a", Outcome::Ok(deep)), Durability::Now);
    assert!(matches!(refused, Err(Error::Illegal { why: Illegal::Unreadable("end"), .. })), "{refused:?}");
    assert_eq!(run.past("a"), Past::Nothing);
}

#[test]
fn threads_that_add_at_the_same_time_lose_nothing() {
    let stage = Stage::new();
    let run = stage.run();
    thread::scope(|threads| {
        for branch in 0..8 {
            let run = &run;
            threads.spawn(move || {
                for n in 0..20 {
                    let call = format!("{branch}/{n}");
                    run.append(begin(&call), Durability::Now).expect("written");
                    let how = if n % 2 == 0 { Durability::Now } else { Durability::Rides };
                    run.append(end(&call, ok(n)), how).expect("kept");
                }
            });
        }
    });
    run.flush().expect("written");
    let id = run.id().to_owned();
    assert_eq!(stage.records(&id).len(), 1 + 8 * 20 * 2);
    assert_eq!(stage.journal.verify(&id, Some(&run.head())).expect("whole").records, 321);
    assert_eq!(stage.journal.summary(&id).expect("is there").calls, 160);
}

#[test]
fn of_many_who_take_a_run_at_once_exactly_one_has_it() {
    let stage = Stage::new();
    let id = stage.run().id().to_owned();
    for _ in 0..20 {
        let barrier = std::sync::Barrier::new(4);
        let taken: Vec<_> = thread::scope(|threads| {
            let one = || {
                barrier.wait();
                // Whoever looks at the run at the same time must not look like one who holds it.
                drop(stage.journal.summary(&id).expect("is there"));
                stage.journal.take(&id)
            };
            let all = [(); 4].map(|()| threads.spawn(one));
            // Each result is kept, and with it the run, until all have tried.
            all.map(|t| t.join().expect("no panic")).into_iter().collect()
        });
        assert_eq!(taken.iter().filter(|t| t.is_ok()).count(), 1);
        for error in taken.into_iter().filter_map(Result::err) {
            assert!(matches!(error, Error::Held { .. } | Error::Taken { .. }), "{error}");
        }
    }
}

#[test]
fn a_held_run_says_who_holds_it() {
    let stage = Stage::new();
    let run = stage.run();
    let held = stage.journal.take(run.id()).err().expect("held");
    let holder = Holder::this_process();
    assert_eq!(held, Error::Held { run: run.id().into(), holder, since: at("12:00:01") });
}

/// Where the child that is killed finds its state folder.
const STATE: &str = "REDRILL_TEST_STATE";

/// The child of the next test; on its own it has nothing to do.
#[test]
fn a_child_that_holds_a_run() {
    let Some(state) = std::env::var_os(STATE) else { return };
    let journal = Journal::open(Path::new(&state), clock()).expect("opens");
    let run = journal.create(&new_run()).expect("made");
    run.append(end("r", ok(1)), Durability::Rides).expect("kept");
    run.append(begin("w"), Durability::Now).expect("written");
    run.append(end("w", ok(1)), Durability::Rides).expect("kept");
    thread::sleep(Duration::from_mins(1));
    unreachable!("the parent kills this long before");
}

#[test]
fn a_killed_process_lets_go_of_its_run() {
    let stage = Stage::new();
    let mut child = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "journal::tests::run::a_child_that_holds_a_run"])
        .env(STATE, stage.folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    let id = wait_for(|| stage.journal.runs().expect("reads").pop().filter(|run| run.calls == 2)).id;
    let held = stage.journal.take(&id).err();
    let alive = stage.journal.summary(&id).expect("is there").status;
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert!(matches!(held, Some(Error::Held { holder, .. }) if holder.pid == child.id()));
    assert_eq!(alive, Status::Running);
    let dead = stage.journal.summary(&id).expect("is there");
    assert_eq!(
        (dead.status, dead.reason.as_deref()),
        (Status::Interrupted, Some("the process that ran it is gone"))
    );
    let run = stage.journal.take(&id).expect("free");
    assert!(matches!(run.past("r"), Past::Ended { .. }), "rode with what was durable");
    assert!(matches!(run.past("w"), Past::Begun { .. }), "durable before its effect");
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
