//! Looks that say nothing: of what was so before, and from before.

use super::*;

#[tokio::test]
async fn what_was_so_before_is_kept_until_the_answered_request_must_have_landed() {
    for (was_on, sandbox) in [(true, slow_sandbox()), (false, slow_sandbox()), (false, sandbox())] {
        let (host, bound) = (MemoryHost::default(), sandbox.1.landing_limit(EffectKind::Tls).max_delay());
        let switch = Switch { is_on: was_on.into(), ..Switch::answering(Answer::Obeyed) };
        let began = sandbox.0.clock().uptime();
        take_switch(&sandbox, &host, &switch).await.expect("it is on");
        assert_eq!(sandbox.0.clock().uptime(), began, "the call itself waits for nothing");
        let kept = host.narrowed.into_inner().expect("nobody panicked");
        if was_on {
            assert_eq!((kept, host.lifted.into_inner()), (vec![(vec![switch_thing()], began, bound)], 0));
        } else {
            assert_eq!(kept, [], "a look has shown that it has landed");
        }
    }
}

#[tokio::test]
async fn of_many_elements_those_are_kept_that_were_so_before() {
    let (fleet, sim) = slow_sandbox();
    let settings = json!({"work_mem": "8MB"});
    let settings = settings.as_object().expect("settings");
    sim.settings().expect("it has them").set(settings).await.expect("it is set");
    let host = MemoryHost::default();
    let given = json!({"work_mem": "8MB", "maintenance_work_mem": "96MB"});
    let cx = call_context(&fleet, &host, None);
    perform_operation(&cx, "db::config::set", Some(given), json!({})).await.expect("they are set");
    let kept = host.narrowed.into_inner().expect("nobody panicked");
    let [(kept, ..)] = &kept[..] else { panic!("{kept:?}") };
    let part = ThingPart::Named("setting:work_mem".into());
    assert_eq!(*kept, [Thing { place: SANDBOX.into(), part }]);
}

/// It was on, then off, is to be on again, and the request got no answer.
#[tokio::test]
async fn a_look_that_lags_behind_the_last_change_but_one_says_nothing_of_a_lost_request() {
    let recorded = |sent_by: Uptime| {
        let change = ElementChange { before: false.into(), wanted: true.into() };
        Evidence::Set { changes: [("on".to_owned(), change)].into(), sent_by }
    };
    for is_taken_up in [false, true] {
        let sandbox = slow_sandbox();
        let evidence = is_taken_up.then(|| recorded(sandbox.0.clock().uptime()));
        let (host, lost) = (MemoryHost::default(), Switch::answering(Answer::Lost));
        let switch = Switch { lagging_look: Some(0), ..lost };
        let taken = take_switch_up(&sandbox, &host, &switch, evidence).await;
        let Err(EffectFailure::Failed(error)) = taken else { panic!("it is off: {taken:?}") };
        assert_eq!(error.code, Code::Unavailable, "{error}");
        let (asked, wanted) = (switch.asked.into_inner(), if is_taken_up { 0 } else { 2 });
        assert_eq!(asked, wanted, "setting twice is setting once, unless nothing is asked for any more");
    }
}
