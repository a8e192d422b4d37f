//! The chain: whatever is done to the rows of a run behind its back is found.

use super::{SilentObserver, begin_record, end_record, new_run, ok_outcome, ticking_clock};
use crate::journal::{Durability, EditedSources, Error, Journal, Record, RunStatus, Source};
use proptest::prelude::*;
use rusqlite::params;
use std::sync::Arc;

/// A journal with one run, and what is true of it.
struct JournalFixture {
    journal: Journal,
    id: String,
    heads: Vec<String>,
}

impl JournalFixture {
    /// Makes a run of `calls` calls, two records each, after its first.
    fn with_calls(calls: usize) -> JournalFixture {
        let journal = Journal::open_in_memory(ticking_clock(), Arc::new(SilentObserver), &Arc::default())
            .expect("made");
        let run = journal.create_run(&new_run()).expect("made");
        let mut heads = vec![run.head_hash()];
        for n in 0..calls {
            for record in [begin_record(&n.to_string()), end_record(&n.to_string(), ok_outcome(n))] {
                run.append_record(record, Durability::Synced).expect("written");
                heads.push(run.head_hash());
            }
        }
        JournalFixture { id: run.id().to_owned(), journal, heads }
    }

    fn execute_on_row(&self, sql: &str, seq: u64) {
        let done = self.journal.lock_db().execute(sql, params![seq.cast_signed()]).expect("runs");
        assert!(done > 0, "`{sql}` changed nothing at {seq}");
    }

    /// Returns the first record that is found wrong, and that the run cannot be taken either.
    fn first_broken_record(&self) -> Option<u64> {
        let taken = self.journal.acquire_run(&self.id).map(drop);
        match self.journal.verify_run(&self.id, None) {
            Ok(_) => {
                assert_eq!(taken, Ok(()));
                None
            }
            Err(Error::Broken { seq, run, what, is_linked }) => {
                assert_eq!(taken, Err(Error::Broken { run: run.clone(), seq, what, is_linked }));
                assert_eq!(run, self.id);
                Some(seq)
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn verify_with_head(&self, head: &str) -> Result<u64, Error> {
        self.journal.verify_run(&self.id, Some(head)).map(|verified| verified.records)
    }
}

/// One thing done to the row with the number `?1`.
const EDITS: &[&str] = &[
    "update records set body = replace(body, 'load', 'lord') where seq = ?1",
    "update records set body = body || ' ' where seq = ?1",
    "update records set at = replace(at, '12:', '13:') where seq = ?1",
    "update records set calls = calls + 1 where seq = ?1",
    "update records set hash = 'f' || substr(hash, 2, 62) || 'ff' where seq = ?1",
    "delete from records where seq = ?1",
    "update records set seq = seq + 1000000 where seq = ?1",
    "update records set body = (select body from records where seq = ?1 + 1),
                        hash = (select hash from records where seq = ?1 + 1) where seq = ?1",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_edit_is_found_where_it_was_made(calls in 1_usize..8, edit in 0..EDITS.len(), place in any::<prop::sample::Index>()) {
        let fixture = JournalFixture::with_calls(calls);
        prop_assert_eq!(fixture.first_broken_record(), None);
        // Not the first, which has no `load` in it, and not the last, which has nothing after it.
        let seq = 2 + place.index(2 * calls - 1) as u64;
        fixture.execute_on_row(EDITS[edit], seq);
        prop_assert_eq!(fixture.first_broken_record(), Some(seq));
    }

    #[test]
    fn any_two_that_changed_places_are_found_at_the_first(calls in 1_usize..8, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
        let fixture = JournalFixture::with_calls(calls);
        let (a, b) = (1 + a.index(2 * calls + 1) as u64, 1 + b.index(2 * calls + 1) as u64);
        prop_assume!(a != b);
        for (from, to) in [(a, 1_000_000), (b, a), (1_000_000, b)] {
            fixture.execute_on_row(&format!("update records set seq = {to} where seq = ?1"), from);
        }
        prop_assert_eq!(fixture.first_broken_record(), Some(a.min(b)));
    }

    #[test]
    fn an_end_that_was_cut_off_is_found_by_whoever_knows_a_head(calls in 1_usize..8, cut in any::<prop::sample::Index>()) {
        let fixture = JournalFixture::with_calls(calls);
        let left = 1 + cut.index(2 * calls) as u64;
        fixture.execute_on_row("delete from records where seq > ?1", left);
        prop_assert_eq!(fixture.first_broken_record(), None, "a run that had not gone on looks just so");
        for (seq, head) in (1_u64..).zip(&fixture.heads) {
            for known in [head.as_str(), &head[..16], &head[..40].to_uppercase()] {
                match fixture.verify_with_head(known) {
                    Ok(records) => prop_assert!(records == left && seq <= left),
                    Err(Error::Broken { seq: at, .. }) => prop_assert!(at == left + 1 && seq > left),
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
}

#[test]
fn the_first_record_counts_too() {
    for edit in [
        "update records set body = replace(body, 'sandbox', 'prod') where seq = ?1",
        "delete from records where seq = ?1",
        "delete from records where seq >= ?1",
    ] {
        let fixture = JournalFixture::with_calls(2);
        fixture.execute_on_row(edit, 1);
        assert_eq!(fixture.first_broken_record(), Some(1), "{edit}");
    }
}

#[test]
fn a_finished_run_that_lost_its_end_is_found_without_a_head() {
    let fixture = JournalFixture::with_calls(1);
    let run = fixture.journal.acquire_run(&fixture.id).expect("taken");
    let end = Record::Finished { status: RunStatus::Failed, error: None, left_behind: vec!["a".into()] };
    run.append_record(end, Durability::Synced).expect("written");
    drop(run);
    assert_eq!(fixture.first_broken_record(), None);
    fixture.execute_on_row("delete from records where seq = ?1", 4);
    assert_eq!(fixture.first_broken_record(), Some(4));
}

#[test]
fn sources_that_were_changed_are_found() {
    for edit in [
        "update sources set text = text || ' ' where ord = ?1",
        "update sources set path = 'x' where ord = ?1",
        "delete from sources where ord = ?1",
    ] {
        let fixture = JournalFixture::with_calls(1);
        fixture.execute_on_row(edit, 1);
        assert_eq!(fixture.first_broken_record(), Some(1), "{edit}");
    }
}

#[test]
fn edited_sources_are_kept_beside_the_first_and_verified_like_them() {
    let fixture = JournalFixture::with_calls(1);
    let edited = |text: &str| vec![Source { path: "a.rhai".into(), text: text.into() }];
    let run = fixture.journal.acquire_run(&fixture.id).expect("taken");
    run.record_resume("1", Some(EditedSources { sources: edited("one"), params: serde_json::Map::new() }))
        .expect("written");
    assert_eq!(run.source_edition(), 1);
    let mismatch = |mismatch| Record::Stopped {
        status: RunStatus::Interrupted,
        reason: "x".into(),
        mismatch,
        at_call: None,
        unconfirmed: None,
    };
    run.append_record(mismatch(true), Durability::Synced).expect("written");
    assert_eq!(run.source_edition(), 0, "a text that does not match is dropped");
    run.record_resume("1", Some(EditedSources { sources: edited("two"), params: serde_json::Map::new() }))
        .expect("written");
    run.append_record(begin_record("late"), Durability::Synced).expect("written");
    run.append_record(mismatch(true), Durability::Synced).expect("written");
    assert_eq!(run.source_edition(), 2, "something took effect under this one");
    drop(run);
    assert_eq!(fixture.journal.read_sources(&fixture.id, 2).expect("reads"), edited("two"));
    assert_eq!(fixture.journal.read_sources(&fixture.id, 0).expect("reads"), new_run().sources);
    assert_eq!(fixture.first_broken_record(), None);
    for changed in
        ["update editions set text = 'x' where edition = 1", "delete from editions where edition = 2"]
    {
        fixture.journal.lock_db().execute(changed, []).expect("runs");
        assert_eq!(fixture.first_broken_record(), Some(1), "{changed}");
    }
}

#[test]
fn the_records_of_one_run_do_not_fit_another() {
    let fixture = JournalFixture::with_calls(2);
    let other = fixture.journal.create_run(&new_run()).expect("made").id().to_owned();
    fixture.execute_on_row(
        "delete from records where run = (select ord from runs order by ord desc limit 1) and seq = ?1",
        1,
    );
    fixture.journal
        .lock_db()
        .execute(
            "insert into records select (select ord from runs where id = ?1), seq, at, calls, body, hash from records",
            [&other],
        )
        .expect("copied");
    assert_eq!(fixture.first_broken_record(), None);
    assert!(matches!(fixture.journal.verify_run(&other, None), Err(Error::Broken { seq: 1, .. })));
}

#[test]
fn what_is_no_head_is_refused() {
    let fixture = JournalFixture::with_calls(1);
    let head = &fixture.heads[0];
    for wrong in ["", &head[..15], &head.replace(|_: char| true, "x"), &format!("{head}00")] {
        assert!(fixture.verify_with_head(wrong).is_err(), "{wrong}");
    }
    assert_eq!(fixture.verify_with_head(&head[..12]), Err(Error::InvalidHead { given: head[..12].into() }));
    assert_eq!(fixture.verify_with_head(&format!(" {head}\n")), Ok(3));
}

#[test]
fn a_run_that_does_not_read_hides_no_other_and_is_shown_up_to_there() {
    let fixture = JournalFixture::with_calls(2);
    let other = fixture.journal.create_run(&new_run()).expect("made").id().to_owned();
    let whole = fixture.journal.read_records(&fixture.id).expect("reads");
    for (broken, seq) in [("replace(body, '\"kind\"', '\"kinda\"')", whole.len()), ("'x'", 1)] {
        let first_run = "(select ord from runs order by ord limit 1)";
        let update = format!("update records set body = {broken} where seq = ?1 and run = {first_run}");
        fixture.execute_on_row(&update, seq as u64);
        let listed = fixture.journal.list_runs().expect("it lists");
        assert_eq!(listed.len(), 2, "{broken}");
        assert!(listed.iter().any(|run| run.id == other && run.title == new_run().title), "{listed:?}");
        let (intact, wrong) = fixture.journal.read_intact_records(&fixture.id).expect("reads");
        assert_eq!(intact[..], whole[..seq - 1], "{broken}");
        assert!(matches!(wrong, Some(Error::Broken { .. })), "{wrong:?}");
    }
    let broken = fixture.journal.summarize_run(&fixture.id).expect("there is such a run");
    assert!(broken.reason.is_some_and(|why| why.contains("cannot be read")));
}
