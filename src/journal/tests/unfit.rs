//! Runs that can neither go on nor clean up: one whose records are right and do not read is ended as it is, one whose
//! records are wrong is removed.

use super::{TestJournal, begin_record, end_record, ok_outcome};
use crate::base::{moment::Moment, sqlite::Db};
use crate::journal::{
    Durability, Error, Record, RunStatus,
    chain::{ChainTail, RecordRow},
    lock, rows, schema,
};
use rusqlite::params;

/// What a later version may write.
const PROMISED: &str = r#"{"kind":"promised","what":1}"#;

/// Leaves a run of five records that nobody holds, and returns its id.
fn leave_run(test: &TestJournal) -> String {
    let run = test.create_run();
    for call in ["a", "b"] {
        run.append_record(begin_record(call), Durability::Synced).expect("written");
        run.append_record(end_record(call, ok_outcome(1)), Durability::Synced).expect("written");
    }
    run.id().to_owned()
}

/// Replaces the body of a record; with `relinks`, as if it had been written so.
fn replace_body(test: &TestJournal, id: &str, seq: u64, relinks: bool) {
    let db = Db::new(test.second_connection());
    let run = rows::select_row_id(&db, id).expect("is there");
    let mut all: Vec<RecordRow> = Vec::new();
    rows::for_each_record(&db, run, |row| all.push(row)).expect("reads");
    let mut tail = ChainTail::empty_for_run(id);
    for row in all {
        let body = if row.seq == seq { PROMISED.to_owned() } else { row.body.clone() };
        let linked = tail.push_record(Moment::parse(&row.at).expect("a moment"), row.calls, body);
        let hash = if relinks { linked.hash } else { row.hash };
        let update = "update records set body = ?1, hash = ?2
            where seq = ?3 and run = (select ord from runs where id = ?4)";
        let changed = db.execute(update, params![linked.body, hash, row.seq.cast_signed(), id]);
        assert_eq!(changed, Ok(1));
    }
}

#[test]
fn a_run_of_which_a_record_does_not_read_is_ended_as_it_is() {
    for seq in [1, 2, 5] {
        let test = TestJournal::new();
        let id = leave_run(&test);
        replace_body(&test, &id, seq, true);
        let refused = test.journal.acquire_run(&id).map(drop);
        assert!(
            matches!(&refused, Err(Error::Broken { seq: at, is_linked: true, .. }) if *at == seq),
            "{refused:?}"
        );
        let hint = refused.err().and_then(|error| error.hint());
        assert!(hint.is_some_and(|hint| hint.contains(&format!("`redrill runs abandon {id} --leave`"))));
        assert_eq!(
            test.journal.prune_run(&id).err(),
            test.journal.verify_run(&id, None).err(),
            "it can be ended"
        );
        let run = test.journal.acquire_unfit_run(&id).expect("taken");
        assert_eq!((run.unreadable_record_numbers(), run.entries().len()), (&[seq][..], 4));
        run.end_as_abandoned(vec!["branch sandbox/x".into()]).expect("written");
        let ended = test.journal.summarize_run(&id).expect("is there");
        assert_eq!(
            (ended.status, &ended.left_behind[..]),
            (RunStatus::Abandoned, &["branch sandbox/x".to_owned()][..])
        );
        assert!(ended.finished_at.is_some());
        assert_eq!(test.journal.list_rolled_back_runs(), Ok(vec![]), "its number follows");
        let verified = test.journal.verify_run(&id, None);
        assert!(
            matches!(verified, Err(Error::Broken { is_linked: true, .. })),
            "it still does not read: {verified:?}"
        );
        assert_eq!(test.journal.prune_run(&id).map(|tombstone| tombstone.records), Ok(6));
    }
}

#[test]
fn a_run_whose_records_are_not_those_that_were_written_is_removed_and_never_added_to() {
    for seq in [1, 2, 5] {
        let test = TestJournal::new();
        let id = leave_run(&test);
        replace_body(&test, &id, seq, false);
        for refused in
            [test.journal.acquire_run(&id).map(drop), test.journal.acquire_unfit_run(&id).map(drop)]
        {
            assert!(
                matches!(&refused, Err(Error::Broken { seq: at, is_linked: false, .. }) if *at == seq),
                "{refused:?}"
            );
            let hint = refused.err().and_then(|error| error.hint());
            assert!(hint.is_some_and(|hint| hint.contains(&format!("`redrill runs prune {id}`"))));
        }
        let tombstone = test.journal.prune_run(&id).expect("removed");
        assert!(!tombstone.status.is_final(), "nobody says that it ended: {tombstone:?}");
        let gone = test.journal.resolve_run_id(&id).expect_err("is gone");
        assert!(
            gone.hint().is_some_and(|hint| hint.starts_with("it was broken and was pruned at ")),
            "{gone}"
        );
        assert!(!lock::lock_path(test.folder.path(), &id).exists());
    }
}

#[test]
fn a_run_that_can_end_is_not_removed() {
    let test = TestJournal::new();
    let id = leave_run(&test);
    let run = test.journal.acquire_run(&id).expect("taken");
    let status = RunStatus::Waiting;
    let stopped =
        Record::Stopped { status, reason: "x".into(), mismatch: false, at_call: None, unconfirmed: None };
    run.append_record(stopped, Durability::Synced).expect("written");
    drop(run);
    assert_eq!(test.journal.prune_run(&id), Err(Error::NotEnded { run: id, status }));
    assert!(schema::journal_path(test.folder.path()).exists());
}
