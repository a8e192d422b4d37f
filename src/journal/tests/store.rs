//! The store: making it, finding runs, looking at them.

use super::{TestJournal, begin_record, end_record, moment_at, new_run, ok_outcome, ticking_clock};
use crate::base::clock::Uptime;
use crate::journal::{
    CallState, Durability, Error, Holder, Journal, Lease, LeaseMode, Quarantine, Record, RecordObserver,
    RunStatus, StateFolderConsent,
};
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
    assert!(
        Journal::open_if_exists(&state, ticking_clock(), StateFolderConsent::default())
            .expect("looks")
            .is_none()
    );
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
                    drop(
                        Journal::open_if_exists(&state, ticking_clock(), StateFolderConsent::default())
                            .expect("looks"),
                    );
                    let journal = Journal::open(&state, ticking_clock()).expect("opens");
                    drop(journal.create_run(&new_run()).expect("made"));
                });
            }
        });
        let journal = Journal::open_if_exists(&state, ticking_clock(), StateFolderConsent::default())
            .expect("opens")
            .expect("is there");
        assert_eq!(journal.list_runs().expect("reads").len(), 6);
    }
}

#[test]
fn a_new_run_is_there_before_anything_happens_in_it() {
    let test = TestJournal::new();
    let run = test.create_run();
    let id = run.id().to_owned();
    assert!(
        id.len() == 8 && id.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)),
        "{id}"
    );
    let new = new_run();
    assert_eq!(test.journal.read_sources(&id, 0).expect("reads"), new.sources);
    let entries = test.read_records(&id);
    let [first] = entries.as_slice() else { panic!("one record, not {entries:?}") };
    assert_eq!((first.seq, first.at, &first.hash), (1, moment_at("12:00:01"), &run.head_hash()));
    let Record::Started { runbook, title, params, version, git, digest } = &first.record else {
        panic!("not {first:?}")
    };
    assert_eq!((runbook, title, params), (&new.runbook, &new.title, &new.params));
    assert_eq!((version, git, digest), (&new.version, &None, &crate::journal::digest_sources(&new.sources)));
}

#[test]
fn a_digest_tells_where_one_text_ends() {
    let source = |path: &str, text: &str| super::Source { path: path.into(), text: text.into() };
    let digest = crate::journal::digest_sources;
    assert_ne!(digest(&[source("a", "bc")]), digest(&[source("ab", "c")]));
    assert_ne!(digest(&[source("a", ""), source("b", "")]), digest(&[source("b", ""), source("a", "")]));
}

#[test]
fn a_summary_follows_the_run() {
    let test = TestJournal::new();
    let run = test.create_run();
    let summary = || test.journal.summarize_run(run.id()).expect("is there");
    let add = |record| run.append_record(record, Durability::Synced).expect("written");
    assert_eq!(
        (summary().status, summary().calls, summary().title.as_str()),
        (RunStatus::Running, 0, "A drill")
    );
    add(end_record("r", ok_outcome(1)));
    add(begin_record("w"));
    assert_eq!(summary().calls, 2);
    add(Record::Stopped {
        status: RunStatus::Waiting,
        reason: "an approval".into(),
        mismatch: false,
        at_call: None,
        unconfirmed: None,
    });
    assert_eq!((summary().status, summary().reason.as_deref()), (RunStatus::Waiting, Some("an approval")));
    add(Record::Decided { call: "w".into(), decision: json!({"kind": "fail"}), by: "ann".into() });
    assert_eq!((summary().status, summary().reason.as_deref()), (RunStatus::Waiting, Some("an approval")));
    add(Record::Resumed {
        version: "0.2.0".into(),
        edited: false,
        digest: None,
        gives_up: false,
        params: serde_json::Map::new(),
    });
    assert_eq!((summary().status, summary().reason), (RunStatus::Running, None));
    assert_eq!(summary().finished_at, None);
    let (error, left) = (json!({"code": "X"}), vec!["drill-abc".to_owned()]);
    add(Record::Finished {
        status: RunStatus::Failed,
        error: Some(error.clone()),
        left_behind: left.clone(),
    });
    let end = summary();
    assert_eq!((end.status, end.error, end.left_behind), (RunStatus::Failed, Some(error), left));
    assert_eq!((end.started_at, end.finished_at), (moment_at("12:00:01"), Some(end.last_at)));
    assert_eq!(end.last_at, moment_at("12:00:07"));
}

#[test]
fn a_run_that_nobody_moves_does_not_read_running() {
    let test = TestJournal::new();
    let run = test.create_run();
    let id = run.id().to_owned();
    assert_eq!(test.journal.list_runs().expect("reads")[0].status, RunStatus::Running);
    drop(run);
    let gone = test.journal.list_runs().expect("reads").remove(0);
    assert_eq!(
        (gone.status, gone.reason.as_deref()),
        (RunStatus::Interrupted, Some("the process that ran it is gone"))
    );
    let run = test.journal.acquire_run(&id).expect("taken");
    run.append_record(
        Record::Resumed {
            version: "0.2.0".into(),
            edited: true,
            digest: None,
            gives_up: false,
            params: serde_json::Map::new(),
        },
        Durability::Synced,
    )
    .expect("written");
    assert_eq!(test.journal.summarize_run(&id).expect("is there").status, RunStatus::Running);
}

#[test]
fn runs_are_listed_newest_first() {
    let test = TestJournal::new();
    let ids: Vec<_> = (0..5).map(|_| test.create_run().id().to_owned()).collect();
    let listed: Vec<_> =
        test.journal.list_runs().expect("reads").into_iter().rev().map(|run| run.id).collect();
    assert_eq!(listed, ids);
}

#[test]
fn a_run_is_found_by_the_beginning_of_its_id() {
    let test = TestJournal::new();
    let given = |id: &str| test.journal.resolve_run_id(id);
    assert!(matches!(given("last"), Err(Error::NoSuchRun { .. })));
    for id in ["abcd2345", "abxy2345", "zzzz2345"] {
        let rows = format!("insert into runs (id, status) values ('{id}', 'running')");
        test.second_connection().execute(&rows, []).expect("a row");
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
    let test = TestJournal::new();
    let journal = &test.journal;
    let refused = [
        journal.acquire_run("nothere2").err(),
        journal.read_records("nothere2").err(),
        journal.summarize_run("nothere2").err(),
    ];
    for error in refused {
        assert!(matches!(error, Some(Error::NoSuchRun { .. })), "{error:?}");
    }
    assert!(!test.folder.path().join("runs/nothere2.lock").exists());
}

#[test]
fn a_pruned_run_leaves_a_tombstone_and_nothing_else() {
    let test = TestJournal::new();
    let (run, other) = (test.create_run(), test.create_run());
    let (id, wish) =
        (run.id().to_owned(), Lease { target: "t".into(), name: "t".into(), mode: LeaseMode::Exclusive });
    test.journal.acquire_leases(&[wish], &id, &Holder::this_process()).expect("free");
    let quarantine = |run: &str| Quarantine {
        place: "t".into(),
        part: None,
        run: run.into(),
        call: "c#0".into(),
        sent_by: Uptime { boot: "a".into(), millis: 0 },
        span: None,
    };
    test.journal.put_under_quarantine(&[quarantine(&id), quarantine(other.id())]).expect("written");
    let not_ended = |status| Err(Error::NotEnded { run: id.clone(), status });
    assert_eq!(test.journal.prune_run(&id), not_ended(RunStatus::Running));
    drop(run);
    assert_eq!(test.journal.prune_run(&id), not_ended(RunStatus::Interrupted));
    let run = test.journal.acquire_run(&id).expect("taken");
    let end = Record::Finished { status: RunStatus::Abandoned, error: None, left_behind: Vec::new() };
    run.append_record(end, Durability::Synced).expect("written");
    let head = run.head_hash();
    assert!(
        matches!(test.journal.prune_run(&id), Err(Error::Held { .. })),
        "its process is not done with it"
    );
    drop(run);
    let tombstone = test.journal.prune_run(&id).expect("pruned");
    assert_eq!((tombstone.records, &tombstone.head, tombstone.status), (2, &head, RunStatus::Abandoned));
    assert_eq!(test.journal.find_tombstone(&id), Ok(Some(tombstone)));
    assert_eq!(test.journal.find_tombstone(other.id()), Ok(None));
    let gone = test.journal.resolve_run_id(&id).expect_err("gone");
    assert!(
        gone.hint().is_some_and(|hint| hint.contains("abandoned and was pruned at 2026-11-20T")),
        "{gone:?}"
    );
    assert!(matches!(test.journal.acquire_run(&id), Err(Error::NoSuchRun { .. })));
    let left: Vec<_> = std::fs::read_dir(test.folder.path().join("runs")).expect("reads").collect();
    assert_eq!(left.len(), 2, "the lock and the number of the other run");
    for (table, rows) in
        [("runs", 1), ("sources", 2), ("records", 1), ("leases", 0), ("quarantines", 1), ("tombstones", 1)]
    {
        let count = format!("select count(*) from {table}");
        assert_eq!(test.second_connection().query_row(&count, [], |row| row.get(0)), Ok(rows), "{table}");
    }
}

/// Counts what it hears.
#[derive(Default)]
struct CountingObserver([AtomicUsize; 2]);

impl RecordObserver for CountingObserver {
    fn before_append(&self, _: &Record) {
        self.0[0].fetch_add(1, Ordering::SeqCst);
    }

    fn after_append(&self, _: &Record) {
        self.0[1].fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_scratch_journal_keeps_what_is_durable_and_is_heard() {
    let counter = Arc::new(CountingObserver::default());
    let journal = Journal::open_in_memory(
        ticking_clock(),
        Arc::clone(&counter) as Arc<dyn RecordObserver>,
        &Arc::default(),
    )
    .expect("made");
    let run = journal.create_run_with_id("rehearse", &new_run()).expect("made");
    run.append_record(begin_record("a"), Durability::Synced).expect("written");
    run.append_record(end_record("r", ok_outcome(1)), Durability::Buffered).expect("kept in memory");
    drop(run);
    let run = journal.acquire_run("rehearse").expect("taken");
    assert_eq!((run.count_attempts("a"), run.call_state("r")), (1, Ok(CallState::NotStarted)));
    assert_eq!(journal.verify_run("rehearse", None).expect("sound").records, 2);
    assert!(
        run.append_record(end_record("b", ok_outcome(1)), Durability::Synced).is_ok()
            && run.append_record(begin_record("a"), Durability::Synced).is_err()
    );
    assert_eq!(counter.0.each_ref().map(|n| n.load(Ordering::SeqCst)), [4, 3]);
}
