//! The chain: whatever is done to the rows of a run behind its back is found.

use super::{Deaf, begin, clock, end, new_run, ok};
use crate::journal::{Durability, Error, Journal, Record, Source, Status};
use proptest::prelude::*;
use rusqlite::params;
use std::sync::Arc;

/// A journal with one run, and what is true of it.
struct Kept {
    journal: Journal,
    id: String,
    heads: Vec<String>,
}

impl Kept {
    /// Makes a run of `calls` calls, two records each, after its first.
    fn with(calls: usize) -> Kept {
        let journal = Journal::scratch(clock(), Arc::new(Deaf), &Arc::default()).expect("made");
        let run = journal.create(&new_run()).expect("made");
        let mut heads = vec![run.head()];
        for n in 0..calls {
            for record in [begin(&n.to_string()), end(&n.to_string(), ok(n))] {
                run.append(record, Durability::Now).expect("written");
                heads.push(run.head());
            }
        }
        Kept { id: run.id().to_owned(), journal, heads }
    }

    fn sql(&self, sql: &str, seq: u64) {
        let done = self.journal.db().execute(sql, params![seq.cast_signed()]).expect("runs");
        assert!(done > 0, "`{sql}` changed nothing at {seq}");
    }

    /// Returns the first record that is found wrong, and that the run cannot be taken either.
    fn broken_at(&self) -> Option<u64> {
        let taken = self.journal.take(&self.id).map(drop);
        match self.journal.verify(&self.id, None) {
            Ok(_) => {
                assert_eq!(taken, Ok(()));
                None
            }
            Err(Error::Broken { seq, run, what }) => {
                assert_eq!(taken, Err(Error::Broken { run: run.clone(), seq, what }));
                assert_eq!(run, self.id);
                Some(seq)
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn known_head(&self, head: &str) -> Result<u64, Error> {
        self.journal.verify(&self.id, Some(head)).map(|verified| verified.records)
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
        let kept = Kept::with(calls);
        prop_assert_eq!(kept.broken_at(), None);
        // Not the first, which has no `load` in it, and not the last, which has nothing after it.
        let seq = 2 + place.index(2 * calls - 1) as u64;
        kept.sql(EDITS[edit], seq);
        prop_assert_eq!(kept.broken_at(), Some(seq));
    }

    #[test]
    fn any_two_that_changed_places_are_found_at_the_first(calls in 1_usize..8, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
        let kept = Kept::with(calls);
        let (a, b) = (1 + a.index(2 * calls + 1) as u64, 1 + b.index(2 * calls + 1) as u64);
        prop_assume!(a != b);
        for (from, to) in [(a, 1_000_000), (b, a), (1_000_000, b)] {
            kept.sql(&format!("update records set seq = {to} where seq = ?1"), from);
        }
        prop_assert_eq!(kept.broken_at(), Some(a.min(b)));
    }

    #[test]
    fn an_end_that_was_cut_off_is_found_by_whoever_knows_a_head(calls in 1_usize..8, cut in any::<prop::sample::Index>()) {
        let kept = Kept::with(calls);
        let left = 1 + cut.index(2 * calls) as u64;
        kept.sql("delete from records where seq > ?1", left);
        prop_assert_eq!(kept.broken_at(), None, "a run that had not gone on looks just so");
        for (seq, head) in (1_u64..).zip(&kept.heads) {
            for known in [head.as_str(), &head[..16], &head[..40].to_uppercase()] {
                match kept.known_head(known) {
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
        let kept = Kept::with(2);
        kept.sql(edit, 1);
        assert_eq!(kept.broken_at(), Some(1), "{edit}");
    }
}

#[test]
fn a_finished_run_that_lost_its_end_is_found_without_a_head() {
    let kept = Kept::with(1);
    let run = kept.journal.take(&kept.id).expect("taken");
    let end = Record::Finished { status: Status::Failed, error: None, left_behind: vec!["a".into()] };
    run.append(end, Durability::Now).expect("written");
    drop(run);
    assert_eq!(kept.broken_at(), None);
    kept.sql("delete from records where seq = ?1", 4);
    assert_eq!(kept.broken_at(), Some(4));
}

#[test]
fn sources_that_were_changed_are_found() {
    for edit in [
        "update sources set text = text || ' ' where ord = ?1",
        "update sources set path = 'x' where ord = ?1",
        "delete from sources where ord = ?1",
    ] {
        let kept = Kept::with(1);
        kept.sql(edit, 1);
        assert_eq!(kept.broken_at(), Some(1), "{edit}");
    }
}

#[test]
fn edited_sources_are_kept_beside_the_first_and_verified_like_them() {
    let kept = Kept::with(1);
    let edited = |text: &str| vec![Source { path: "a.rhai".into(), text: text.into() }];
    let run = kept.journal.take(&kept.id).expect("taken");
    run.resume("1", Some(edited("one"))).expect("written");
    assert_eq!(run.edition(), 1);
    let mismatch = |mismatch| Record::Stopped {
        status: Status::Interrupted,
        reason: "x".into(),
        mismatch,
        at_call: None,
    };
    run.append(mismatch(true), Durability::Now).expect("written");
    assert_eq!(run.edition(), 0, "a text that does not match is dropped");
    run.resume("1", Some(edited("two"))).expect("written");
    run.append(begin("late"), Durability::Now).expect("written");
    run.append(mismatch(true), Durability::Now).expect("written");
    assert_eq!(run.edition(), 2, "something took effect under this one");
    drop(run);
    assert_eq!(kept.journal.sources(&kept.id, 2).expect("reads"), edited("two"));
    assert_eq!(kept.journal.sources(&kept.id, 0).expect("reads"), new_run().sources);
    assert_eq!(kept.broken_at(), None);
    for changed in
        ["update editions set text = 'x' where edition = 1", "delete from editions where edition = 2"]
    {
        kept.journal.db().execute(changed, []).expect("runs");
        assert_eq!(kept.broken_at(), Some(1), "{changed}");
    }
}

#[test]
fn the_records_of_one_run_do_not_fit_another() {
    let kept = Kept::with(2);
    let other = kept.journal.create(&new_run()).expect("made").id().to_owned();
    kept.sql(
        "delete from records where run = (select ord from runs order by ord desc limit 1) and seq = ?1",
        1,
    );
    kept.journal
        .db()
        .execute(
            "insert into records select (select ord from runs where id = ?1), seq, at, calls, body, hash from records",
            [&other],
        )
        .expect("copied");
    assert_eq!(kept.broken_at(), None);
    assert!(matches!(kept.journal.verify(&other, None), Err(Error::Broken { seq: 1, .. })));
}

#[test]
fn what_is_no_head_is_refused() {
    let kept = Kept::with(1);
    let head = &kept.heads[0];
    for wrong in ["", &head[..15], &head.replace(|_: char| true, "x"), &format!("{head}00")] {
        assert!(kept.known_head(wrong).is_err(), "{wrong}");
    }
    assert_eq!(kept.known_head(&head[..12]), Err(Error::NotAHead { given: head[..12].into() }));
    assert_eq!(kept.known_head(&format!(" {head}\n")), Ok(3));
}
