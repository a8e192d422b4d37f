//! A lost request that is looked for, and a person who may end the looking.

use super::{
    super::{MakeEffect, begin_or_continue_make, failure::never_landed_error},
    *,
};
use crate::provider::model::LandingLimit;

/// Longer than a lost request is looked for before anything else is done about it.
const BOUND: Span = Span::from_secs(300);

/// Returns a host where somebody answers whether to look on.
fn host_with(person: impl Fn() -> Option<String> + Send + Sync + 'static) -> MemoryHost {
    MemoryHost { person: Some(Box::new(person)), ..MemoryHost::default() }
}

#[tokio::test]
async fn a_person_may_end_the_looking_and_nothing_is_decided() {
    let sandbox = slow_sandbox_within(BOUND);
    let (began, switch) = (sandbox.0.clock().now(), Switch::answering(Answer::Lost));
    let host = host_with(|| Some("ann".into()));
    let Err(EffectFailure::Undecided(why)) = take_switch(&sandbox, &host, &switch).await else {
        panic!("it may still come")
    };
    let [(subject, until)] = &lock_unpoisoned(&host.questions)[..] else { panic!("asked once") };
    assert_eq!(subject, "the switch");
    assert!(why.contains("ann ended the looking") && why.ends_with(&format!("until {until}")), "{why}");
    // It was asked for again after 90 seconds, and looked for as long.
    let bound = until.duration_since(began);
    assert!((390..395).contains(&bound.0.as_secs()), "{bound}");
    assert_eq!((host.lifted.into_inner(), switch.asked.into_inner()), (0, 2), "its quarantine stays");
    let passed = sandbox.0.clock().now().duration_since(began);
    assert!((180..190).contains(&passed.0.as_secs()), "{passed}");
}

#[tokio::test]
async fn where_nobody_ends_the_looking_it_goes_on_until_nothing_can_come() {
    let sandbox = slow_sandbox_within(BOUND);
    let (began, switch) = (sandbox.0.clock().now(), Switch::answering(Answer::Lost));
    let host = host_with(|| None);
    let taken = take_switch(&sandbox, &host, &switch).await;
    assert!(matches!(taken, Err(EffectFailure::Failed(_))), "it is certain: {taken:?}");
    assert_eq!(lock_unpoisoned(&host.questions).len(), 1);
    assert!(sandbox.0.clock().now().duration_since(began) >= Span::from_secs(390));
}

#[tokio::test]
async fn what_comes_while_the_question_stands_is_not_lost() {
    let ((fleet, provider), is_there) = (slow_sandbox_within(BOUND), Arc::<AtomicBool>::default());
    let appears = Arc::clone(&is_there);
    let host = host_with(move || {
        appears.store(true, Ordering::Relaxed);
        Some("ann".into())
    });
    let args = decode_args("backup::pitr::mark", Some(json!("weekly")), json!({}));
    let (cx, making) = (call_context(&fleet, &host, None), LateMaking(is_there));
    let taken = begin_or_continue_make(&cx, &args, &*provider, &making).await;
    assert_eq!(taken, Ok(json!("weekly")));
    assert_eq!(lock_unpoisoned(&host.questions).len(), 1);
}

/// Something whose making gets no answer, and whether it is there.
struct LateMaking(Arc<AtomicBool>);

#[async_trait]
impl MakeEffect for LateMaking {
    fn name_effect_for_messages(&self) -> String {
        "the restore point `weekly`".into()
    }

    fn kind(&self) -> EffectKind {
        EffectKind::RestorePoint
    }

    fn changed_things(&self) -> Vec<Thing> {
        Vec::new()
    }

    async fn plan(&self) -> Result<Value> {
        Ok(Value::Null)
    }

    async fn find(&self, _: &Value) -> Result<Option<Value>> {
        Ok(self.0.load(Ordering::Relaxed).then(|| json!("weekly")))
    }

    async fn send_request(&self) -> Result<Value> {
        Err(Error::new(Code::Unknown, "no answer"))
    }
}

#[tokio::test]
async fn nobody_is_asked_where_the_bound_is_near_or_the_run_is_given_up() {
    let before = ElementChange { before: false.into(), wanted: true.into() };
    for (bound, given_up) in [(LANDING_BOUND, false), (BOUND, true)] {
        let sandbox = slow_sandbox_within(bound);
        let evidence = || Evidence::Set {
            changes: [("on".to_owned(), before.clone())].into(),
            sent_by: sandbox.0.clock().uptime(),
        };
        let (host, switch) = (host_with(|| Some("ann".into())), Switch::answering(Answer::Lost));
        let taken = take_switch_up(&sandbox, &host, &switch, given_up.then(evidence)).await;
        assert!(matches!(taken, Err(EffectFailure::Failed(_))), "{taken:?}");
        assert_eq!(*lock_unpoisoned(&host.questions), []);
    }
}

#[test]
fn that_nothing_comes_any_more_is_certain_only_where_somebody_says_so() {
    let bound = Span::from_secs(60);
    for (landing, side_effects) in [
        (LandingLimit::Assumed(bound), SideEffects::Unknown),
        (LandingLimit::Bounded(bound, "the server says so"), SideEffects::None),
        (LandingLimit::Fenced("it is gone"), SideEffects::None),
    ] {
        assert_eq!(never_landed_error("the switch", landing).side_effects, side_effects, "{landing:?}");
    }
}
