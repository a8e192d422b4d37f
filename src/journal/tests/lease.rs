//! Leases: who may use a target beside whom.

use super::{Run, TestJournal};
use crate::journal::{Error, Holder, Lease, LeaseMode};

fn lease_on(target: &str, mode: LeaseMode) -> Lease {
    Lease { target: target.into(), name: format!("name of {target}"), mode }
}

fn acquire_for(test: &TestJournal, run: &Run, wanted: &[Lease]) -> Result<(), Error> {
    test.journal.acquire_leases(wanted, run.id(), &Holder::this_process())
}

#[test]
fn shared_stands_beside_shared_and_exclusive_stands_alone() {
    use LeaseMode::{Exclusive, Shared};
    for (first, second, allowed) in [
        (Shared, Shared, true),
        (Shared, Exclusive, false),
        (Exclusive, Shared, false),
        (Exclusive, Exclusive, false),
    ] {
        let test = TestJournal::new();
        let (a, b) = (test.create_run(), test.create_run());
        acquire_for(&test, &a, &[lease_on("t", first)]).expect("the first has it");
        let leased = acquire_for(&test, &b, &[lease_on("t", second)]);
        assert_eq!(leased.is_ok(), allowed, "{second} beside {first}: {leased:?}");
        let Err(Error::Leased { target, name, run, mode, holder, .. }) = leased else { continue };
        assert_eq!((target.as_str(), name.as_str(), run.as_str()), ("t", "name of t", a.id()));
        assert_eq!((mode, holder), (first, Holder::this_process()));
        acquire_for(&test, &b, &[lease_on("other", second)]).expect("another target is free");
        test.journal.release_leases(a.id()).expect("given back");
        acquire_for(&test, &b, &[lease_on("t", second)]).expect("free now");
    }
}

#[test]
fn all_are_leased_or_none() {
    let test = TestJournal::new();
    let (a, b, c) = (test.create_run(), test.create_run(), test.create_run());
    acquire_for(&test, &a, &[lease_on("t2", LeaseMode::Exclusive)]).expect("free");
    let both = [lease_on("t1", LeaseMode::Exclusive), lease_on("t2", LeaseMode::Exclusive)];
    assert!(matches!(acquire_for(&test, &b, &both), Err(Error::Leased { target, .. }) if target == "t2"));
    acquire_for(&test, &c, &both[..1]).expect("the first was not kept");
}

#[test]
fn the_lease_of_a_dead_run_gives_way_and_that_of_a_live_one_does_not() {
    let test = TestJournal::new();
    let (dead, live, next) = (test.create_run(), test.create_run(), test.create_run());
    acquire_for(&test, &dead, &[lease_on("t", LeaseMode::Shared), lease_on("u", LeaseMode::Exclusive)])
        .expect("free");
    acquire_for(&test, &live, &[lease_on("t", LeaseMode::Shared)]).expect("shared");
    drop(dead);
    let leased = acquire_for(&test, &next, &[lease_on("t", LeaseMode::Exclusive)]);
    assert!(matches!(leased, Err(Error::Leased { run, .. }) if run == live.id()));
    drop(live);
    acquire_for(&test, &next, &[lease_on("t", LeaseMode::Exclusive), lease_on("u", LeaseMode::Exclusive)])
        .expect("both are free");
}

#[test]
fn a_run_asks_again_and_keeps_the_stronger_lease() {
    let test = TestJournal::new();
    let (a, b) = (test.create_run(), test.create_run());
    for mode in [LeaseMode::Shared, LeaseMode::Exclusive, LeaseMode::Shared] {
        acquire_for(&test, &a, &[lease_on("t", mode)]).expect("its own lease is not in its way");
    }
    assert!(matches!(
        acquire_for(&test, &b, &[lease_on("t", LeaseMode::Shared)]),
        Err(Error::Leased { mode: LeaseMode::Exclusive, .. })
    ));
}

#[test]
fn who_asks_a_run_to_stop_is_known_until_somebody_takes_it() {
    let test = TestJournal::new();
    let run = test.create_run();
    let id = run.id().to_owned();
    assert!(test.journal.is_run_held(&id));
    assert_eq!(test.journal.find_stop_requester(&id), Ok(None));
    test.journal.request_stop(&id, "ann").expect("written");
    test.journal.request_stop(&id, "bob").expect("written");
    assert_eq!(test.journal.find_stop_requester(&id), Ok(Some("bob".into())));
    drop(run);
    assert!(!test.journal.is_run_held(&id));
    let run = test.journal.acquire_run(&id).expect("taken");
    assert_eq!(
        test.journal.find_stop_requester(run.id()),
        Ok(None),
        "who takes a run is not leased what its last holder was"
    );
}
