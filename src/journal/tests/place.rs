//! Whose run: a copied state, one that was rolled back, and how they are taken over.

use super::{
    TestJournal, accepted_record, begin_record, clock_from, end_record, new_run, ok_outcome, ticking_clock,
};
use crate::{
    journal::{
        Adoption, Durability, Error, Holder, Journal, LostRun, PlaceDoubt, Record, RunStatus,
        StateFolderConsent, schema,
    },
    testing::copy_folder,
};
use serde_json::json;
use std::{
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// Opens the journal of a folder as a process with this consent does.
fn open_as(state: &Path, adopt: bool, rolled_back: bool) -> Journal {
    let consent =
        StateFolderConsent { adopt, rolled_back, by: "ann".into(), ..StateFolderConsent::default() };
    Journal::open_with_consent(state, clock_from("13:00:00"), consent).expect("opens")
}

fn stopped_record() -> Record {
    let status = RunStatus::Interrupted;
    Record::Stopped { status, reason: "a signal".into(), mismatch: false, at_call: None, unconfirmed: None }
}

/// Leaves a run that has stopped, and returns its id.
fn leave_stopped_run(journal: &Journal) -> String {
    let run = journal.create_run(&new_run()).expect("made");
    run.append_record(begin_record("a"), Durability::Synced).expect("written");
    run.append_record(end_record("a", ok_outcome(1)), Durability::Synced).expect("written");
    run.append_record(stopped_record(), Durability::Synced).expect("written");
    run.id().to_owned()
}

/// Puts `journal.db` and its log back as they are in `copy`.
fn put_journal_back(copy: &Path, state: &Path) {
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        drop(fs::remove_file(state.join(name)));
        if copy.join(name).exists() {
            fs::copy(copy.join(name), state.join(name)).expect("put back");
        }
    }
}

#[test]
fn a_copy_can_be_read_and_acts_only_once_it_is_taken_over() {
    let test = TestJournal::new();
    let id = leave_stopped_run(&test.journal);
    let place = tempfile::tempdir().expect("a folder");
    let copy = place.path().join("copy");
    copy_folder(test.folder.path(), &copy);
    let reader = open_as(&copy, false, false);
    assert_eq!(reader.verify_run(&id, None).expect("is whole").records, 4);
    let refusals = [
        reader.acquire_run(&id).err(),
        reader.create_run(&new_run()).err(),
        reader.prune_run(&id).err(),
        reader.request_stop(&id, "bob").err(),
    ];
    for refused in refusals {
        let Some(Error::ElsewhereState { doubt, written, .. }) = refused else { panic!("{refused:?}") };
        let written = written.expect("is written down");
        assert_eq!(
            (doubt, written.path.as_path()),
            (PlaceDoubt::Copied, &*test.folder.path().canonicalize().expect("is there"))
        );
    }
    assert_eq!(reader.list_runs().expect("reads").len(), 1, "nothing was made");
    drop(reader);
    let adopter = open_as(&copy, true, false);
    let run = adopter.acquire_run(&id).expect("taken over");
    assert_eq!(run.status(), RunStatus::Interrupted, "it stays stopped");
    assert!(!run.is_call_doubtful("a") && !run.is_call_doubtful("b"));
    drop(run);
    let records = adopter.read_records(&id).expect("reads");
    let Some(Record::Adopted { by, from: Some(from), to, rolled_back: false }) =
        records.last().map(|entry| &entry.record)
    else {
        panic!("{records:?}")
    };
    assert_eq!((by.as_str(), from.token == to.token), ("ann", false));
    assert_eq!(adopter.summarize_run(&id).expect("is there").reason.as_deref(), Some("a signal"));
    drop(adopter);
    assert!(open_as(&copy, false, false).acquire_run(&id).is_ok(), "it acts here now");
    assert!(test.journal.acquire_run(&id).is_ok(), "and nobody can tell the first one");
}

#[test]
fn taking_a_run_over_does_not_make_it_young() {
    let test = TestJournal::new();
    let id = leave_stopped_run(&test.journal);
    let before = test.journal.acquire_run(&id).expect("taken").last_record_before_acquisition();
    let adopter = open_as(test.folder.path(), true, true);
    assert_eq!(adopter.acquire_run(&id).expect("taken").last_record_before_acquisition(), before);
}

#[test]
fn a_moved_folder_is_no_copy() {
    let place = tempfile::tempdir().expect("a folder");
    let [here, there] = ["here", "there"].map(|name| place.path().join(name));
    let id = leave_stopped_run(&open_as(&here, false, false));
    fs::rename(&here, &there).expect("moved");
    assert!(open_as(&there, false, false).acquire_run(&id).is_ok());
}

#[test]
fn a_state_from_before_gets_its_place_at_first_use() {
    let test = TestJournal::new();
    let id = leave_stopped_run(&test.journal);
    fs::remove_file(test.folder.path().join("place")).expect("removed");
    test.second_connection().execute("delete from places", []).expect("as before");
    assert!(open_as(test.folder.path(), false, false).acquire_run(&id).is_ok());
    assert!(test.folder.path().join("place").exists());
    let rows: i64 = test
        .second_connection()
        .query_row("select count(*) from places", [], |row| row.get(0))
        .expect("counts");
    assert_eq!(rows, 1);
}

#[test]
fn a_process_that_died_between_the_file_and_the_row_harms_nothing() {
    let test = TestJournal::new();
    let id = leave_stopped_run(&test.journal);
    test.second_connection().execute("delete from places", []).expect("not written yet");
    assert!(open_as(test.folder.path(), false, false).acquire_run(&id).is_ok());
    // Killed in a take-over: the new file belongs to no journal, and nobody acts.
    fs::remove_file(test.folder.path().join("place")).expect("removed");
    let other = TestJournal::new();
    fs::rename(other.folder.path().join("place"), test.folder.path().join("place")).expect("moved");
    let doubt = |journal: &Journal| match journal.acquire_run(&id).err() {
        Some(Error::ElsewhereState { doubt, .. }) => Some(doubt),
        _ => None,
    };
    assert_eq!(doubt(&open_as(test.folder.path(), false, false)), Some(PlaceDoubt::Foreign));
    fs::remove_file(test.folder.path().join("place")).expect("removed");
    assert_eq!(doubt(&open_as(test.folder.path(), false, false)), Some(PlaceDoubt::Missing));
    assert_eq!(doubt(&open_as(test.folder.path(), true, false)), None);
    assert_eq!(doubt(&open_as(test.folder.path(), false, false)), None);
}

#[test]
fn a_journal_that_was_rolled_back_is_refused_until_somebody_says_so() {
    let test = TestJournal::new();
    let early = test.journal.create_run(&new_run()).expect("made").id().to_owned();
    let place = tempfile::tempdir().expect("a folder");
    let state = place.path().join("state");
    copy_folder(test.folder.path(), &state);
    let copy = place.path().join("older");
    // The state goes on, in a place of its own.
    assert!(open_as(&state, true, false).acquire_run(&early).is_ok());
    copy_folder(&state, &copy);
    let late = leave_stopped_run(&open_as(&state, false, false));
    let run = open_as(&state, false, false).acquire_run(&early).expect("taken");
    run.append_record(begin_record("made"), Durability::Synced).expect("written");
    run.append_record(accepted_record("made"), Durability::Synced).expect("written");
    drop(run);
    put_journal_back(&copy, &state);
    let lost = vec![
        LostRun { run: early.clone(), known: Some(4), found: 2 },
        LostRun { run: late.clone(), known: Some(4), found: 0 },
    ];
    for (adopt, rolled_back) in [(false, false), (true, false)] {
        let refused = open_as(&state, adopt, rolled_back).acquire_run(&early).err();
        let Some(Error::RolledBack { lost: mut said, .. }) = refused else { panic!("{refused:?}") };
        said.sort_by_key(|run| run.run != early);
        assert_eq!(said, lost);
    }
    let journal = open_as(&state, true, true);
    let run = journal.acquire_run(&early).expect("taken over");
    assert!(run.is_call_doubtful("made") && run.is_call_doubtful("never"));
    drop((run, journal));
    let journal = open_as(&state, false, false);
    assert_eq!(journal.list_rolled_back_runs(), Ok(vec![]), "it is settled");
    assert!(!journal.create_run(&new_run()).expect("made").is_call_doubtful("made"), "a new run is whole");
    assert!(journal.acquire_run(&early).expect("taken").is_call_doubtful("made"), "an old one never is");
}

#[test]
fn a_call_is_in_doubt_until_it_has_asked_or_somebody_has_decided() {
    let test = TestJournal::new();
    let run = test.create_run();
    let id = run.id().to_owned();
    run.append_record(begin_record("before"), Durability::Synced).expect("written");
    run.append_record(accepted_record("before"), Durability::Synced).expect("written");
    drop(run);
    let run = open_as(test.folder.path(), true, true).acquire_run(&id).expect("taken over");
    let add = |record| run.append_record(record, Durability::Synced).expect("written");
    assert!(run.is_call_doubtful("before"), "what it has written down may be of an earlier attempt");
    add(begin_record("after"));
    assert!(run.is_call_doubtful("after"), "it was begun and has not asked");
    add(accepted_record("after"));
    assert!(!run.is_call_doubtful("after"), "it has asked since");
    add(begin_record("decided"));
    for call in ["before", "decided"] {
        let redo = json!({"kind": "redo"});
        add(Record::Decided { call: call.into(), decision: redo, by: "ann".into() });
        add(begin_record(call));
        assert!(!run.is_call_doubtful(call), "{call} was decided about");
    }
}

#[test]
fn a_number_lags_behind_and_is_never_ahead() {
    let test = TestJournal::new();
    let run = test.create_run();
    let number = || {
        let file = schema::locks_folder(test.folder.path()).join(format!("{}.synced", run.id()));
        fs::read_to_string(file).expect("reads").trim().parse::<usize>().expect("a number")
    };
    assert_eq!(number(), 1);
    run.append_record(end_record("r", ok_outcome(1)), Durability::Buffered).expect("kept in memory");
    assert_eq!(number(), 1, "it is not on disk yet");
    run.append_record(begin_record("a"), Durability::Synced).expect("written");
    assert_eq!((number(), test.record_kinds(run.id()).len()), (3, 3));
    // Killed between the sync and the number.
    fs::write(
        schema::locks_folder(test.folder.path()).join(format!("{}.synced", run.id())),
        format!("{:020}\n", 2),
    )
    .expect("written");
    assert_eq!(test.journal.list_rolled_back_runs(), Ok(vec![]));
}

#[test]
fn a_run_that_was_pruned_is_not_lost() {
    let test = TestJournal::new();
    let run = test.create_run();
    let id = run.id().to_owned();
    let end = Record::Finished { status: RunStatus::Succeeded, error: None, left_behind: vec![] };
    run.append_record(end, Durability::Synced).expect("written");
    drop(run);
    let number = schema::locks_folder(test.folder.path()).join(format!("{id}.synced"));
    let bytes = fs::read(&number).expect("reads");
    test.journal.prune_run(&id).expect("pruned");
    assert!(!number.exists());
    // Killed before the number was removed.
    fs::write(&number, bytes).expect("written");
    assert_eq!(test.journal.list_rolled_back_runs(), Ok(vec![]));
}

#[test]
fn a_journal_that_is_gone_is_not_made_anew_without_a_word() {
    let test = TestJournal::new();
    let id = leave_stopped_run(&test.journal);
    let TestJournal { folder, journal } = test;
    drop(journal);
    let state = folder.path();
    let gone =
        |error: Option<Error>| matches!(error, Some(Error::JournalGone { runs, .. }) if runs == [id.clone()]);
    let path = schema::journal_path(state);
    for leave in [
        |path: &Path| fs::write(path, "").expect("emptied"),
        |path: &Path| fs::remove_file(path).expect("removed"),
    ] {
        for log in ["journal.db-wal", "journal.db-shm"] {
            drop(fs::remove_file(state.join(log)));
        }
        leave(&path);
        assert!(gone(Journal::open(state, ticking_clock()).err()));
        assert!(gone(Journal::open_if_exists(state, ticking_clock(), StateFolderConsent::default()).err()));
        assert_eq!(fs::metadata(&path).map_or(0, |file| file.len()), 0, "nothing was made");
    }
    let journal = open_as(state, true, true);
    assert!(journal.create_run(&new_run()).is_ok());
    drop(journal);
    assert!(open_as(state, false, false).create_run(&new_run()).is_ok(), "the lost run is settled");
}

#[test]
fn a_journal_in_its_log_is_no_empty_one() {
    let test = TestJournal::new();
    leave_stopped_run(&test.journal);
    assert_eq!(schema::is_journal_empty(test.folder.path()), Ok(false));
    let none = tempfile::tempdir().expect("a folder");
    assert_eq!(schema::is_journal_empty(none.path()), Ok(true));
}

static ANNOUNCED: Mutex<Vec<Adoption>> = Mutex::new(Vec::new());

#[test]
fn a_take_over_is_told_once_it_is_recorded() {
    let test = TestJournal::new();
    let id = leave_stopped_run(&test.journal);
    let told = || ANNOUNCED.lock().unwrap_or_else(PoisonError::into_inner);
    let consent = StateFolderConsent {
        adopt: true,
        rolled_back: true,
        by: "ann".into(),
        announce: |adoption| {
            ANNOUNCED.lock().unwrap_or_else(PoisonError::into_inner).push(adoption.clone());
        },
        ..StateFolderConsent::default()
    };
    let journal = Journal::open_with_consent(test.folder.path(), ticking_clock(), consent).expect("opens");
    journal.list_runs().expect("reads");
    assert!(told().is_empty(), "whoever reads takes nothing over");
    drop(journal.acquire_run(&id).expect("taken"));
    drop(journal.acquire_run(&id).expect("taken"));
    let told = told();
    let [Adoption { by, rolled_back: true, open, gone, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((by.as_str(), &open[..], &gone[..]), ("ann", &[id][..], &[][..]));
}

#[test]
fn a_busy_journal_names_who_keeps_it() {
    let test = TestJournal::new();
    let busy = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None);
    let nobody = schema::to_journal_error(test.folder.path(), &busy);
    assert!(matches!(&nobody, Error::Busy { holders, .. } if holders.is_empty()), "{nobody}");
    let lock =
        fs::File::create(schema::locks_folder(test.folder.path()).join("abcd2345.lock")).expect("made");
    lock.lock().expect("free");
    let note = json!({"pid": 4711, "host": "elsewhere", "since": "2026-11-20T12:00:00Z"});
    fs::write(schema::locks_folder(test.folder.path()).join("abcd2345.lock"), note.to_string())
        .expect("written");
    let error = schema::to_journal_error(test.folder.path(), &busy);
    assert!(error.to_string().contains("the run `abcd2345` is held by process 4711 on elsewhere"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("kill -CONT 4711")), "{error}");
}

#[test]
fn a_file_system_that_machines_share_wants_consent() {
    const NFS: u32 = 0x6969;
    const EXT4: u32 = 0xef53;
    let test = TestJournal::new();
    assert_eq!(test.journal.refuse_shared_file_system(Some(EXT4)), Ok(()));
    assert_eq!(test.journal.refuse_shared_file_system(None), Ok(()));
    let refused = test.journal.refuse_shared_file_system(Some(NFS)).expect_err("refused");
    assert_eq!(refused, Error::SharedFileSystem { state: test.folder.path().into(), kind: "NFS" });
    assert!(refused.hint().is_some_and(|hint| hint.contains("--state-unsafe")));
    let consent = StateFolderConsent { shared_file_system: true, ..StateFolderConsent::default() };
    let journal = Journal::open_with_consent(test.folder.path(), ticking_clock(), consent).expect("opens");
    assert_eq!(journal.refuse_shared_file_system(Some(NFS)), Ok(()));
}

#[test]
fn who_holds_a_run_is_known_while_it_is_held() {
    let test = TestJournal::new();
    let run = test.create_run();
    let id = run.id().to_owned();
    assert_eq!(test.journal.find_holder(&id), Some(Holder::this_process()));
    drop(run);
    assert_eq!(test.journal.find_holder(&id), None);
}
