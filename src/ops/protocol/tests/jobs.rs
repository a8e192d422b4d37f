//! A job that was accepted, and its things until it is seen to be over.

use super::*;
use crate::{
    ops::{
        protocol::{JobEffect, StateSwitch, begin_or_continue_job},
        spec::ThingPart,
    },
    provider::PlannedJob,
};

/// Returns the sandbox being on, or off.
fn power(on: bool) -> ElementValue {
    ElementValue { place: SANDBOX.into(), element: "power".into(), value: Some(json!(on)) }
}

/// Takes a pause of the sandbox up on a host, for as long as a call waits.
async fn take_pause(
    fleet: &Fleet,
    host: &MemoryHost,
    timeout: &str,
    recorded: Option<Evidence>,
) -> EffectResult<Value> {
    take_attempt_at_pause(fleet, host, timeout, recorded, false).await
}

/// Does what [`take_pause`] does; `is_to_be_redone` is of an attempt that is not the first one.
async fn take_attempt_at_pause(
    fleet: &Fleet,
    host: &MemoryHost,
    timeout: &str,
    recorded: Option<Evidence>,
    is_to_be_redone: bool,
) -> EffectResult<Value> {
    let cx =
        CallContext { attempts: if is_to_be_redone { 2 } else { 1 }, ..call_context(fleet, host, recorded) };
    perform_operation(&cx, "project::pause", None, json!({"timeout": timeout})).await
}

/// Returns how long the last quarantine lasts: without an end where nobody knows.
fn last_span(host: &MemoryHost) -> Option<Span> {
    lock_unpoisoned(&host.quarantines).last().expect("one was begun").1
}

#[tokio::test]
async fn an_accepted_job_that_nothing_stops_is_undecided_and_keeps_its_things_to_its_end() {
    let (fleet, _) = faulty_sandbox(LANDING_BOUND, Refusals(Some("cancel")));
    let host = MemoryHost::default();
    let Err(EffectFailure::Undecided(why)) = take_pause(&fleet, &host, "1s", None).await else {
        panic!("it is still at work")
    };
    assert!(why.contains("was not done within 1s") && why.contains("may still be at work"), "{why}");
    assert_eq!((last_span(&host), host.lifted.load(Ordering::Relaxed)), (None, 0), "nobody knows its end");
    let recorded = lock_unpoisoned(&host.evidence).pop();
    assert!(matches!(recorded, Some(Evidence::Accepted { .. })), "{recorded:?}");

    // Whoever takes it up has its quarantine as one of its own.
    let host = MemoryHost { open_since: Some(fleet.clock().uptime()), ..MemoryHost::default() };
    take_pause(&fleet, &host, "10m", recorded).await.expect("it is paused");
    assert_eq!((last_span(&host), host.lifted.load(Ordering::Relaxed)), (None, 1));
}

#[tokio::test]
async fn a_job_that_is_refused_because_an_earlier_attempt_may_be_at_work_is_not_said_to_have_changed_nothing()
{
    let (fleet, _) = faulty_sandbox(LANDING_BOUND, Refusals(Some("pause")));
    let long_ago = Uptime { millis: -10 * 3_600_000, ..fleet.clock().uptime() };
    for (is_at_work, side_effects) in [(true, SideEffects::Unknown), (false, SideEffects::None)] {
        let host = MemoryHost { open_since: Some(long_ago.clone()), is_at_work, ..MemoryHost::default() };
        let taken = take_attempt_at_pause(&fleet, &host, "10m", None, true).await;
        let Err(EffectFailure::Failed(error)) = taken else { panic!("it is refused: {taken:?}") };
        assert_eq!(error.side_effects, side_effects, "{error}");
    }
}

#[tokio::test]
async fn a_job_that_is_cancelled_at_its_timeout_gives_its_things_back() {
    let (fleet, _) = slow_sandbox();
    let host = MemoryHost::default();
    let Err(EffectFailure::Failed(error)) = take_pause(&fleet, &host, "1s", None).await else {
        panic!("it is known to be gone")
    };
    assert_eq!((error.code, error.left_behind.as_slice()), (Code::Timeout, &[][..]), "{error:?}");
    assert_eq!((last_span(&host), host.lifted.into_inner()), (None, 1));
}

#[tokio::test]
async fn a_job_that_nothing_can_come_late_of_keeps_its_things_while_it_is_at_work() {
    let (fleet, _) = sandbox();
    let host = MemoryHost::default();
    take_pause(&fleet, &host, "10m", None).await.expect("it is paused");
    assert_eq!((last_span(&host), host.lifted.into_inner()), (None, 1));
}

#[tokio::test]
async fn the_job_of_a_later_attempt_says_nothing_of_the_request_of_an_earlier_one() {
    let bound = Span::from_secs(3600);
    let (fleet, _) = faulty_sandbox(bound, Refusals(Some("cancel")));
    let host = MemoryHost::default();
    drop(take_pause(&fleet, &host, "1s", None).await);
    let recorded = lock_unpoisoned(&host.evidence).pop();
    let host = MemoryHost { open_since: Some(fleet.clock().uptime()), ..MemoryHost::default() };
    take_attempt_at_pause(&fleet, &host, "10m", recorded, true).await.expect("it is paused");
    assert_eq!((last_span(&host), host.lifted.into_inner()), (Some(bound), 0));
}

#[tokio::test]
async fn what_an_earlier_attempt_began_keeps_its_things_when_the_next_one_is_refused() {
    let (fleet, _) = faulty_sandbox(LANDING_BOUND, Refusals(Some("pause")));
    let now = fleet.clock().uptime();
    let host = MemoryHost { open_since: Some(now), is_at_work: true, ..MemoryHost::default() };
    let refused = take_attempt_at_pause(&fleet, &host, "1s", None, true).await;
    assert!(matches!(refused, Err(EffectFailure::Failed(_))), "{refused:?}");
    assert_eq!((last_span(&host), host.lifted.into_inner()), (None, 0));
}

/// Under one key a second pause is the first one, so that the first look shows it done.
#[tokio::test]
async fn a_pause_that_the_first_look_calls_done_is_believed_when_no_look_lags_so_far_behind() {
    let (fleet, _) = slow_sandbox();
    let host = MemoryHost::default();
    take_pause(&fleet, &host, "10m", None).await.expect("it is paused");
    let accepted_at = fleet.clock().uptime();
    let passed = || fleet.clock().uptime().since_in_same_boot(&accepted_at).expect("one boot");
    let host = MemoryHost::default();
    take_pause(&fleet, &host, "10m", None).await.expect("it is paused");
    assert!(passed() >= LANDING_BOUND, "{}", passed());

    // Whoever takes it up counts from when it was accepted.
    let (recorded, waited) = (lock_unpoisoned(&host.evidence).pop(), passed());
    let host = MemoryHost { open_since: Some(accepted_at.clone()), ..MemoryHost::default() };
    take_pause(&fleet, &host, "10m", recorded).await.expect("it is paused");
    assert_eq!(passed(), waited);
}

#[tokio::test]
async fn a_resume_that_the_first_look_calls_done_is_believed_when_no_look_lags_so_far_behind() {
    let (fleet, _) = slow_sandbox();
    take_pause(&fleet, &MemoryHost::default(), "10m", None).await.expect("it is paused");
    let key = CallKey("k2".into());
    let resume = async || {
        let began = fleet.clock().uptime();
        let host = MemoryHost::default();
        let cx = CallContext { key: &key, ..call_context(&fleet, &host, None) };
        let resumed = perform_operation(&cx, "project::resume", None, json!({"timeout": "10m"})).await;
        resumed.expect("it is up");
        fleet.clock().uptime().since_in_same_boot(&began).expect("one boot")
    };
    resume().await;
    let waited = resume().await;
    assert!(waited >= LANDING_BOUND, "{waited}");
}

#[tokio::test]
async fn a_pause_that_a_look_may_show_as_it_was_before_is_not_done_at_its_timeout() {
    let (fleet, _) = faulty_sandbox(LANDING_BOUND, Refusals(Some("cancel")));
    take_pause(&fleet, &MemoryHost::default(), "10m", None).await.expect("it is paused");
    let taken = take_pause(&fleet, &MemoryHost::default(), "1s", None).await;
    assert!(matches!(taken, Err(EffectFailure::Undecided(_))), "{taken:?}");
}

/// It was paused and resumed before, and looks may show that for as long as a request may take to land.
#[tokio::test]
async fn a_lost_pause_is_not_done_where_one_look_was_true_and_the_next_show_an_earlier_one() {
    let fates = Fates::new(|sent, name| {
        let since = sent.iter().rev().take_while(|name| *name != "pause");
        let looks = since.filter(|name| ["find", "observe"].contains(&name.as_str())).count();
        match (name, sent.iter().filter(|name| *name == "pause").count()) {
            ("pause", 1) => RequestOutcome::Lost,
            ("find" | "observe", 2) if (1..3).contains(&looks) => RequestOutcome::LagsBehind(1),
            _ => RequestOutcome::Served,
        }
    });
    let (fleet, provider) = faulty_sandbox(Span::from_secs(3600), fates.clone());
    let switch = async |path, key| {
        let (host, key) = (MemoryHost::default(), CallKey(key));
        let cx = CallContext { key: &key, ..call_context(&fleet, &host, None) };
        perform_operation(&cx, path, None, json!({"timeout": "10m"})).await
    };
    switch("project::pause", "k1".to_owned()).await.expect("it is paused");
    switch("project::resume", "k2".to_owned()).await.expect("it is up");
    let lost = switch("project::pause", "k3".to_owned()).await;
    assert!(matches!(lost, Err(EffectFailure::Failed(_))), "it never arrived: {lost:?}");
    assert_eq!(fates.count("pause"), 2);
    assert_eq!(provider.project().await.expect("a look").status, "healthy");
}

/// It was paused and resumed just before. Pausing is seen; what shows it paused may be from before the resume.
#[tokio::test]
async fn a_pause_that_was_seen_at_work_is_done_when_no_look_can_show_the_pause_before_it() {
    let lag = Span::from_secs(600);
    let pause = async |past: Option<ElementValue>, timeout| {
        let (fleet, _) = slow_sandbox_within(lag);
        let (host, began) = (MemoryHost::default(), fleet.clock().uptime());
        *lock_unpoisoned(&host.past_values) = past.into_iter().map(|past| (past, lag)).collect();
        let taken = take_pause(&fleet, &host, timeout, None).await;
        let passed = fleet.clock().uptime().since_in_same_boot(&began).expect("one boot");
        (taken, host.past_values.into_inner().expect("nobody panicked"), passed)
    };
    let (taken, kept, passed) = pause(Some(power(false)), "2h").await;
    taken.expect("it is paused");
    assert!(passed >= lag, "{passed}");
    assert_eq!(kept, [(power(true), lag)], "the next resume is told what was before this pause");

    let (taken, _, passed) = pause(None, "2h").await;
    taken.expect("it is paused");
    assert!(passed < lag, "nobody has resumed it just before: {passed}");

    let (taken, _, passed) = pause(Some(power(false)), "20s").await;
    let Err(EffectFailure::Failed(error)) = taken else { panic!("it has no time: {taken:?}") };
    assert_eq!((error.code, error.side_effects, passed), (Code::Timeout, SideEffects::None, Span::ZERO));
}

/// Makes a replica where another one was made just before, and returns how long after that it was asked for.
async fn create_replica(
    was_one_made: bool,
    timeout: &str,
) -> (EffectResult<Value>, MemoryHost, Option<Span>) {
    let (fleet, _) = slow_sandbox();
    let (host, began) = (MemoryHost::default(), fleet.clock().uptime());
    let (place, element) = (SANDBOX.into(), "list:replicas".into());
    let before = ElementValue { place, element, value: Some(Value::Null) };
    let past = was_one_made.then_some((before, LANDING_BOUND));
    *lock_unpoisoned(&host.past_values) = past.into_iter().collect();
    let options = json!({ "timeout": timeout });
    let taken =
        perform_operation(&call_context(&fleet, &host, None), "db::replicas::create", None, options).await;
    let sent_by = lock_unpoisoned(&host.evidence).first().map(|evidence| match evidence {
        Evidence::Job { sent_by, .. } => sent_by.since_in_same_boot(&began).expect("one boot"),
        other => panic!("{other:?}"),
    });
    (taken, host, sent_by.map(|passed| Span(passed.0.saturating_sub(SENDING_TIME.0))))
}

#[tokio::test]
async fn what_is_found_as_what_is_new_is_planned_when_every_look_shows_what_was_made_before() {
    let (taken, host, asked_after) = create_replica(true, "10m").await;
    let made = taken.expect("it is made");
    assert!(asked_after >= Some(LANDING_BOUND), "a look may not show the other one yet: {asked_after:?}");
    let past = host.past_values.into_inner().expect("nobody panicked");
    let id = made["id"].as_str().expect("an id");
    for element in ["list:replicas", &ElementValue::name_of_id(id)] {
        assert!(past.iter().any(|(one, _)| one.element == element), "{element}: {past:?}");
    }

    let (taken, _, asked_after) = create_replica(false, "10m").await;
    assert_eq!((taken.is_ok(), asked_after), (true, Some(Span::ZERO)), "nobody has made one just before");

    let (taken, _, asked_after) = create_replica(true, "20s").await;
    let Err(EffectFailure::Failed(error)) = taken else { panic!("it has no time: {taken:?}") };
    assert_eq!((error.code, error.side_effects, asked_after), (Code::Timeout, SideEffects::None, None));
}

#[tokio::test]
async fn a_promotion_keeps_its_branch_and_its_target() {
    let (fleet, _) = sandbox();
    let made = MemoryHost::default();
    let cx = call_context(&fleet, &made, None);
    perform_operation(&cx, "branch::create", None, json!({"into": "look"})).await.expect("it is made");
    let (host, key) = (MemoryHost::default(), CallKey("k2".into()));
    let cx = CallContext { key: &key, ..call_context(&fleet, &host, None) };
    perform_operation(&cx, "branch::promote", Some(json!("look")), json!({})).await.expect("it is promoted");
    let whole = |place: &str| Thing { place: place.into(), part: ThingPart::Whole };
    let wanted = [whole("sandbox"), whole("sandbox/look")];
    assert_eq!(*lock_unpoisoned(&host.claimed), wanted, "it waits for both");
    assert_eq!(*lock_unpoisoned(&host.kept), wanted, "and others wait for it at both");
}

/// Makes a branch on a platform that does with its requests as it is told.
async fn create_branch(fates: &Fates, timeout: &str) -> (EffectResult<Value>, Span) {
    let (fleet, _) = faulty_sandbox(LANDING_BOUND, fates.clone());
    let (host, began) = (MemoryHost::default(), fleet.clock().uptime());
    let options = json!({"into": "look", "timeout": timeout});
    let taken = perform_operation(&call_context(&fleet, &host, None), "branch::create", None, options).await;
    (taken, fleet.clock().uptime().since_in_same_boot(&began).expect("one boot"))
}

#[tokio::test]
async fn a_look_that_is_refused_ends_no_job() {
    let once = Fates::new(|sent, name| match name {
        "observe" if !sent.iter().any(|name| name == "observe") => RequestOutcome::Refused,
        _ => RequestOutcome::Served,
    });
    create_branch(&once, "2h").await.0.expect("it is made");
    assert_eq!(once.count("cancel"), 0);
}

#[tokio::test]
async fn a_job_that_cannot_be_looked_at_when_its_time_is_up_is_not_cancelled() {
    for fate in [RequestOutcome::Refused, RequestOutcome::Failed] {
        let fates = Fates::new(match fate {
            RequestOutcome::Refused => |_, name| match name {
                "observe" => RequestOutcome::Refused,
                _ => RequestOutcome::Served,
            },
            _ => |_, name| match name {
                "observe" => RequestOutcome::Failed,
                _ => RequestOutcome::Served,
            },
        });
        let (taken, _) = create_branch(&fates, "1s").await;
        let Err(EffectFailure::Undecided(why)) = taken else { panic!("nobody knows: {taken:?}") };
        assert!(why.contains("cannot be looked at") && why.contains("was not cancelled"), "{why}");
        assert_eq!(fates.count("cancel"), 0);
    }
}

#[tokio::test]
async fn a_cancellation_that_was_answered_is_believed_when_the_job_is_not_shown() {
    let late = Span::from_secs(30);
    let fates = Fates::new(|_, name| match name {
        "cancel" => RequestOutcome::AnsweredEarly(Span::from_secs(30)),
        _ => RequestOutcome::Served,
    });
    let (taken, passed) = create_branch(&fates, "1s").await;
    let Err(EffectFailure::Failed(error)) = taken else { panic!("it is gone: {taken:?}") };
    assert_eq!((error.code, error.left_behind.as_slice()), (Code::Timeout, &[][..]), "{error:?}");
    assert!(passed >= late, "{passed}");
}

#[tokio::test]
async fn a_job_that_is_shown_on_after_its_cancellation_was_answered_is_undecided() {
    let fates = Fates::new(|sent, name| match name {
        "observe" if sent.iter().any(|name| name == "cancel") => RequestOutcome::Failed,
        _ => RequestOutcome::Served,
    });
    let (taken, passed) = create_branch(&fates, "1s").await;
    let Err(EffectFailure::Undecided(why)) = taken else { panic!("nobody knows: {taken:?}") };
    assert!(why.contains("may still be at work"), "{why}");
    assert!(passed >= LANDING_BOUND, "{passed}");
}

/// A pause that the platform refuses.
struct RefusedPause;

#[async_trait]
impl JobEffect for RefusedPause {
    fn name_effect_for_messages(&self) -> String {
        "the pause".into()
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Power
    }

    fn changed_things(&self) -> Vec<Thing> {
        Vec::new()
    }

    fn switched_state(&self) -> Option<StateSwitch> {
        Some(StateSwitch { before: power(true), wanted: power(false) })
    }

    async fn plan(&self) -> Result<PlannedJob<'_>> {
        let refused = async { Err(Error::new(Code::Refused, "it cannot be paused")) };
        Ok(PlannedJob::without_traces(Box::pin(refused)))
    }
}

/// Under the key of a pause that was made, the looks show it paused.
#[tokio::test]
async fn a_refused_pause_is_done_when_it_is_shown_until_no_look_lags_so_far_behind() {
    let (fleet, provider) = slow_sandbox();
    take_pause(&fleet, &MemoryHost::default(), "10m", None).await.expect("it is paused");
    let (accepted_at, other_key) = (fleet.clock().uptime(), CallKey("k2".into()));
    for (key, timeout, done) in [(&*KEY, "1s", false), (&other_key, "10m", false), (&*KEY, "10m", true)] {
        let host = MemoryHost::default();
        let args = decode_args("project::pause", None, json!({"timeout": timeout}));
        let cx = CallContext { key, ..call_context(&fleet, &host, None) };
        let taken = begin_or_continue_job(&cx, &args, &*provider, &RefusedPause).await;
        if done {
            taken.expect("it is paused");
            assert!(fleet.clock().uptime().since_in_same_boot(&accepted_at) >= Some(LANDING_BOUND));
        } else {
            let Err(EffectFailure::Failed(error)) = taken else { panic!("it was refused: {taken:?}") };
            assert_eq!((error.code, error.side_effects), (Code::Refused, SideEffects::None));
        }
    }
}
