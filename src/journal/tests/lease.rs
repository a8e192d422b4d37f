//! Leases: who may use a target beside whom.

use super::{Run, Stage};
use crate::journal::{Error, Holder, Lease, Mode};

fn wish(target: &str, mode: Mode) -> Lease {
    Lease { target: target.into(), name: format!("name of {target}"), mode }
}

fn ask(stage: &Stage, run: &Run, wanted: &[Lease]) -> Result<(), Error> {
    stage.journal.lease(wanted, run.id(), &Holder::this_process())
}

#[test]
fn shared_stands_beside_shared_and_exclusive_stands_alone() {
    use Mode::{Exclusive, Shared};
    for (first, second, allowed) in [
        (Shared, Shared, true),
        (Shared, Exclusive, false),
        (Exclusive, Shared, false),
        (Exclusive, Exclusive, false),
    ] {
        let stage = Stage::new();
        let (a, b) = (stage.run(), stage.run());
        ask(&stage, &a, &[wish("t", first)]).expect("the first has it");
        let asked = ask(&stage, &b, &[wish("t", second)]);
        assert_eq!(asked.is_ok(), allowed, "{second} beside {first}: {asked:?}");
        let Err(Error::Leased { target, name, run, mode, holder, .. }) = asked else { continue };
        assert_eq!((target.as_str(), name.as_str(), run.as_str()), ("t", "name of t", a.id()));
        assert_eq!((mode, holder), (first, Holder::this_process()));
        ask(&stage, &b, &[wish("other", second)]).expect("another target is free");
        stage.journal.release(a.id()).expect("given back");
        ask(&stage, &b, &[wish("t", second)]).expect("free now");
    }
}

#[test]
fn all_are_leased_or_none() {
    let stage = Stage::new();
    let (a, b, c) = (stage.run(), stage.run(), stage.run());
    ask(&stage, &a, &[wish("t2", Mode::Exclusive)]).expect("free");
    let both = [wish("t1", Mode::Exclusive), wish("t2", Mode::Exclusive)];
    assert!(matches!(ask(&stage, &b, &both), Err(Error::Leased { target, .. }) if target == "t2"));
    ask(&stage, &c, &both[..1]).expect("the first was not kept");
}

#[test]
fn the_lease_of_a_dead_run_gives_way_and_that_of_a_live_one_does_not() {
    let stage = Stage::new();
    let (dead, live, next) = (stage.run(), stage.run(), stage.run());
    ask(&stage, &dead, &[wish("t", Mode::Shared), wish("u", Mode::Exclusive)]).expect("free");
    ask(&stage, &live, &[wish("t", Mode::Shared)]).expect("shared");
    drop(dead);
    let asked = ask(&stage, &next, &[wish("t", Mode::Exclusive)]);
    assert!(matches!(asked, Err(Error::Leased { run, .. }) if run == live.id()));
    drop(live);
    ask(&stage, &next, &[wish("t", Mode::Exclusive), wish("u", Mode::Exclusive)]).expect("both are free");
}

#[test]
fn a_run_asks_again_and_keeps_the_stronger_lease() {
    let stage = Stage::new();
    let (a, b) = (stage.run(), stage.run());
    for mode in [Mode::Shared, Mode::Exclusive, Mode::Shared] {
        ask(&stage, &a, &[wish("t", mode)]).expect("its own lease is not in its way");
    }
    assert!(matches!(
        ask(&stage, &b, &[wish("t", Mode::Shared)]),
        Err(Error::Leased { mode: Mode::Exclusive, .. })
    ));
}

#[test]
fn who_asks_a_run_to_stop_is_known_until_somebody_takes_it() {
    let stage = Stage::new();
    let run = stage.run();
    let id = run.id().to_owned();
    assert!(stage.journal.is_moved(&id));
    assert_eq!(stage.journal.asked_to_stop(&id), Ok(None));
    stage.journal.ask_to_stop(&id, "ann").expect("written");
    stage.journal.ask_to_stop(&id, "bob").expect("written");
    assert_eq!(stage.journal.asked_to_stop(&id), Ok(Some("bob".into())));
    drop(run);
    assert!(!stage.journal.is_moved(&id));
    let run = stage.journal.take(&id).expect("taken");
    assert_eq!(
        stage.journal.asked_to_stop(run.id()),
        Ok(None),
        "who takes a run is not asked what its last holder was"
    );
}
