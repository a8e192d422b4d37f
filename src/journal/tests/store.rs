//! The store: making it, finding runs, looking at them.

use super::{Stage, at, begin, clock, end, new_run, ok};
use crate::journal::{Durability, Error, Holder, Journal, Lease, Mode, Past, Record, Status, Witness};
use serde_json::json;
use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

#[test]
fn looking_where_there_is_no_journal_makes_nothing() {
    let place = tempfile::tempdir().expect("a folder");
    let state = place.path().join("state");
    assert!(Journal::peek(&state, clock()).expect("looks").is_none());
    assert!(!state.exists());
}

#[test]
fn opened_by_many_at_once_it_is_made_once() {
    let place = tempfile::tempdir().expect("a folder");
    for round in 0..40 {
        let state = place.path().join(format!("{round}/state"));
        let together = Barrier::new(6);
        thread::scope(|threads| {
            for _ in 0..6 {
                threads.spawn(|| {
                    together.wait();
                    drop(Journal::peek(&state, clock()).expect("looks"));
                    let journal = Journal::open(&state, clock()).expect("opens");
                    drop(journal.create(&new_run()).expect("made"));
                });
            }
        });
        let journal = Journal::peek(&state, clock()).expect("opens").expect("is there");
        assert_eq!(journal.runs().expect("reads").len(), 6);
    }
}

#[test]
fn a_new_run_is_there_before_anything_happens_in_it() {
    let stage = Stage::new();
    let run = stage.run();
    let id = run.id().to_owned();
    assert!(
        id.len() == 8 && id.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)),
        "{id}"
    );
    let new = new_run();
    assert_eq!(stage.journal.sources(&id, 0).expect("reads"), new.sources);
    let entries = stage.records(&id);
    let [first] = entries.as_slice() else { panic!("one record, not {entries:?}") };
    assert_eq!((first.seq, first.at, &first.hash), (1, at("12:00:01"), &run.head()));
    let Record::Started { runbook, title, params, version, git, digest } = &first.record else {
        panic!("not {first:?}")
    };
    assert_eq!((runbook, title, params), (&new.runbook, &new.title, &new.params));
    assert_eq!((version, git, digest), (&new.version, &None, &crate::journal::digest(&new.sources)));
}

#[test]
fn a_digest_tells_where_one_text_ends() {
    let source = |path: &str, text: &str| super::Source { path: path.into(), text: text.into() };
    let digest = crate::journal::digest;
    assert_ne!(digest(&[source("a", "bc")]), digest(&[source("ab", "c")]));
    assert_ne!(digest(&[source("a", ""), source("b", "")]), digest(&[source("b", ""), source("a", "")]));
}

#[test]
fn a_summary_follows_the_run() {
    let stage = Stage::new();
    let run = stage.run();
    let summary = || stage.journal.summary(run.id()).expect("is there");
    let add = |record| run.append(record, Durability::Now).expect("written");
    assert_eq!(
        (summary().status, summary().calls, summary().title.as_str()),
        (Status::Running, 0, "A drill")
    );
    add(end("r", ok(1)));
    add(begin("w"));
    assert_eq!(summary().calls, 2);
    add(Record::Stopped {
        status: Status::Waiting,
        reason: "an approval".into(),
        mismatch: false,
        at_call: None,
    });
    assert_eq!((summary().status, summary().reason.as_deref()), (Status::Waiting, Some("an approval")));
    add(Record::Decided { call: "w".into(), decision: json!("fail"), by: "ann".into() });
    assert_eq!((summary().status, summary().reason.as_deref()), (Status::Waiting, Some("an approval")));
    add(Record::Resumed { version: "0.1.0".into(), edited: false, digest: None });
    assert_eq!((summary().status, summary().reason), (Status::Running, None));
    assert_eq!(summary().finished_at, None);
    let (error, left) = (json!({"code": "X"}), vec!["drill-abc".to_owned()]);
    add(Record::Finished { status: Status::Failed, error: Some(error.clone()), left_behind: left.clone() });
    let end = summary();
    assert_eq!((end.status, end.error, end.left_behind), (Status::Failed, Some(error), left));
    assert_eq!((end.started_at, end.finished_at), (at("12:00:01"), Some(end.last_at)));
    assert_eq!(end.last_at, at("12:00:07"));
}

#[test]
fn a_run_that_nobody_moves_does_not_read_running() {
    let stage = Stage::new();
    let run = stage.run();
    let id = run.id().to_owned();
    assert_eq!(stage.journal.runs().expect("reads")[0].status, Status::Running);
    drop(run);
    let gone = stage.journal.runs().expect("reads").remove(0);
    assert_eq!(
        (gone.status, gone.reason.as_deref()),
        (Status::Interrupted, Some("the process that ran it is gone"))
    );
    let run = stage.journal.take(&id).expect("taken");
    run.append(Record::Resumed { version: "0.1.0".into(), edited: true, digest: None }, Durability::Now)
        .expect("written");
    assert_eq!(stage.journal.summary(&id).expect("is there").status, Status::Running);
}

#[test]
fn runs_are_listed_newest_first() {
    let stage = Stage::new();
    let ids: Vec<_> = (0..5).map(|_| stage.run().id().to_owned()).collect();
    let listed: Vec<_> = stage.journal.runs().expect("reads").into_iter().rev().map(|run| run.id).collect();
    assert_eq!(listed, ids);
}

#[test]
fn a_run_is_found_by_the_beginning_of_its_id() {
    let stage = Stage::new();
    let given = |id: &str| stage.journal.resolve(id);
    assert!(matches!(given("last"), Err(Error::NoSuchRun { .. })));
    for id in ["abcd2345", "abxy2345", "zzzz2345"] {
        let rows = format!("insert into runs (id, status) values ('{id}', 'running')");
        stage.other().execute(&rows, []).expect("a row");
    }
    assert_eq!(given("last").as_deref(), Ok("zzzz2345"));
    assert_eq!(given("abc").as_deref(), Ok("abcd2345"));
    assert_eq!(given(" ABX ").as_deref(), Ok("abxy2345"));
    assert_eq!(given("zzzz2345").as_deref(), Ok("zzzz2345"));
    let candidates = vec!["abxy2345".to_owned(), "abcd2345".to_owned()];
    assert_eq!(given("ab"), Err(Error::Ambiguous { given: "ab".into(), candidates }));
    assert!(given("ab").expect_err("two").hint().is_some_and(|hint| hint.contains("`abxy2345`, `abcd2345`")));
    for none in ["q", "", "zzzz23456", "%", "_"] {
        assert!(matches!(given(none), Err(Error::NoSuchRun { .. })), "{none}");
    }
    let wrong = given("abcd2354").expect_err("none");
    assert_eq!(wrong.hint().as_deref(), Some("did you mean `abcd2345`?"));
}

#[test]
fn a_run_that_is_not_there_is_not_made_by_asking_for_it() {
    let stage = Stage::new();
    let journal = &stage.journal;
    let refused = [
        journal.take("nothere2").err(),
        journal.records("nothere2").err(),
        journal.summary("nothere2").err(),
    ];
    for error in refused {
        assert!(matches!(error, Some(Error::NoSuchRun { .. })), "{error:?}");
    }
    assert!(!stage.folder.path().join("runs/nothere2.lock").exists());
}

#[test]
fn a_pruned_run_leaves_a_tombstone_and_nothing_else() {
    let stage = Stage::new();
    let (run, other) = (stage.run(), stage.run());
    let (id, wish) =
        (run.id().to_owned(), Lease { target: "t".into(), name: "t".into(), mode: Mode::Exclusive });
    stage.journal.lease(&[wish], &id, &Holder::this_process()).expect("free");
    let not_ended = |status| Err(Error::NotEnded { run: id.clone(), status });
    assert_eq!(stage.journal.prune(&id), not_ended(Status::Running));
    drop(run);
    assert_eq!(stage.journal.prune(&id), not_ended(Status::Interrupted));
    let run = stage.journal.take(&id).expect("taken");
    let end = Record::Finished { status: Status::Abandoned, error: None, left_behind: Vec::new() };
    run.append(end, Durability::Now).expect("written");
    let head = run.head();
    assert!(matches!(stage.journal.prune(&id), Err(Error::Held { .. })), "its process is not done with it");
    drop(run);
    let stone = stage.journal.prune(&id).expect("pruned");
    assert_eq!((stone.records, &stone.head, stone.status), (2, &head, Status::Abandoned));
    assert_eq!(stage.journal.tombstone(&id), Ok(Some(stone)));
    assert_eq!(stage.journal.tombstone(other.id()), Ok(None));
    let gone = stage.journal.resolve(&id).expect_err("gone");
    assert!(
        gone.hint().is_some_and(|hint| hint.contains("abandoned and was pruned at 2026-11-20T")),
        "{gone:?}"
    );
    assert!(matches!(stage.journal.take(&id), Err(Error::NoSuchRun { .. })));
    let left: Vec<_> = std::fs::read_dir(stage.folder.path().join("runs")).expect("reads").collect();
    assert_eq!(left.len(), 1, "the lock of the other run");
    for (table, rows) in [("runs", 1), ("sources", 2), ("records", 1), ("leases", 0), ("tombstones", 1)] {
        let count = format!("select count(*) from {table}");
        assert_eq!(stage.other().query_row(&count, [], |row| row.get(0)), Ok(rows), "{table}");
    }
}

/// Counts what it hears.
#[derive(Default)]
struct Counter([AtomicUsize; 2]);

impl Witness for Counter {
    fn adding(&self, _: &Record) {
        self.0[0].fetch_add(1, Ordering::SeqCst);
    }

    fn added(&self, _: &Record) {
        self.0[1].fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_scratch_journal_keeps_what_is_durable_and_is_heard() {
    let counter = Arc::new(Counter::default());
    let journal =
        Journal::scratch(clock(), Arc::clone(&counter) as Arc<dyn Witness>, &Arc::default()).expect("made");
    let run = journal.create_as("rehearse", &new_run()).expect("made");
    run.append(begin("a"), Durability::Now).expect("written");
    run.append(end("r", ok(1)), Durability::Rides).expect("kept in memory");
    drop(run);
    let run = journal.take("rehearse").expect("taken");
    assert_eq!((run.attempts("a"), run.past("r")), (1, Past::Nothing));
    assert_eq!(journal.verify("rehearse", None).expect("sound").records, 2);
    assert!(
        run.append(end("b", ok(1)), Durability::Now).is_ok()
            && run.append(begin("a"), Durability::Now).is_err()
    );
    assert_eq!(counter.0.each_ref().map(|n| n.load(Ordering::SeqCst)), [4, 3]);
}
