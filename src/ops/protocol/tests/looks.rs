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
        let lifted = host.lifted.into_inner();
        if was_on {
            let last = host.quarantines.into_inner().expect("nobody panicked").pop();
            assert_eq!((last, lifted), (Some((began, bound)), 0));
        } else if bound == Some(Span::ZERO) {
            assert_eq!(lifted, 0, "there was none");
        } else {
            assert_eq!(lifted, 1, "a look has shown that it has landed");
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
    assert_eq!(host.lifted.into_inner(), 1, "that of the others");
    let kept = host.kept.into_inner().expect("nobody panicked");
    let part = ThingPart::Named("setting:work_mem".into());
    assert_eq!(kept, [Thing { place: SANDBOX.into(), part }]);
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

/// Returns what the switch was.
fn was(value: bool) -> ElementValue {
    ElementValue { place: SANDBOX.into(), element: "switch/on".into(), value: Some(value.into()) }
}

/// It is off, is to be on, is answered, and stays off; the first look shows that it is on. Returns what came of the call, and how
/// often it was asked for.
async fn turn_on_with_lagging_look(
    past: Option<ElementValue>,
    timeout: &str,
) -> (EffectResult<Value>, MemoryHost, usize) {
    let (fleet, provider) = slow_sandbox();
    let host = MemoryHost::default();
    *lock_unpoisoned(&host.past_values) = past.into_iter().map(|past| (past, LANDING_BOUND)).collect();
    let switch = Switch { lagging_look: Some(0), ..Switch::answering(Answer::Done) };
    let args = decode_args("network::ssl::set", Some(json!(true)), json!({ "timeout": timeout }));
    let cx = call_context(&fleet, &host, None);
    let taken = begin_or_continue_set(&cx, &args, &*provider, &switch).await;
    (taken, host, switch.asked.into_inner())
}

#[tokio::test]
async fn a_look_from_before_the_last_change_does_not_show_that_an_answered_request_was_done() {
    let (taken, host, _) = turn_on_with_lagging_look(Some(was(true)), "10m").await;
    let Err(EffectFailure::Failed(error)) = taken else { panic!("it is off: {taken:?}") };
    assert_eq!(error.code, Code::NotApplied, "{error}");
    let kept = host.past_values.into_inner().expect("nobody panicked");
    assert_eq!(kept, [(was(false), LANDING_BOUND)], "the next call is told what was before this one");

    for past in [None, Some(was(false))] {
        let (taken, ..) = turn_on_with_lagging_look(past.clone(), "10m").await;
        assert!(taken.is_ok(), "{past:?}: nobody changed it from what is wanted: {taken:?}");
    }
}

/// Its plan has seen it off, which it was before another call has turned it on.
#[tokio::test]
async fn what_a_plan_may_have_seen_from_before_is_not_kept_as_what_was_before() {
    let (fleet, provider) = slow_sandbox();
    for (past, kept) in [(was(false), None), (was(true), Some(false.into()))] {
        let host = MemoryHost::default();
        *lock_unpoisoned(&host.past_values) = vec![(past, LANDING_BOUND)];
        let args = decode_args("network::ssl::set", Some(json!(true)), json!({"timeout": "10m"}));
        let cx = call_context(&fleet, &host, None);
        let taken = begin_or_continue_set(&cx, &args, &*provider, &Switch::answering(Answer::Obeyed)).await;
        taken.expect("it is on");
        let past = host.past_values.into_inner().expect("nobody panicked");
        assert_eq!(past.iter().map(|(one, _)| one.value.clone()).collect::<Vec<_>>(), [kept]);
    }
}

#[tokio::test]
async fn a_change_that_could_not_be_told_from_the_last_one_in_its_time_is_not_asked_for() {
    let (taken, _, asked) = turn_on_with_lagging_look(Some(was(true)), "20s").await;
    let Err(EffectFailure::Failed(error)) = taken else { panic!("it has no time: {taken:?}") };
    assert_eq!((error.code, error.side_effects, asked), (Code::Timeout, SideEffects::None, 0), "{error}");
    assert!(error.message.contains("was not asked for"), "{error}");
}
