//! Looks from which a call is planned or refused, after other calls have changed something there.

use super::{
    super::{PlannedFrom, RemoveEffect, begin_or_continue_removal},
    *,
};

/// A list of overrides without one that was set right before the first look, which is answered when no look shows the list
/// without it any more. Whoever takes one away carries the others along.
struct SlowList<'a> {
    host: &'a MemoryHost,
    sandbox: &'a (Fleet, Arc<dyn Provider>),
    looks: AtomicUsize,
    /// Whether the last look has shown the one.
    is_seen: AtomicBool,
}

impl<'a> SlowList<'a> {
    fn new(host: &'a MemoryHost, sandbox: &'a (Fleet, Arc<dyn Provider>)) -> Self {
        lock_unpoisoned(&host.past_values).push((just_set(), LANDING_BOUND));
        Self { host, sandbox, looks: AtomicUsize::new(0), is_seen: false.into() }
    }

    /// Looks, and returns whether the look shows the one.
    async fn look_slowly(&self) -> bool {
        let is_first = self.looks.fetch_add(1, Ordering::Relaxed) == 0;
        if is_first {
            self.sandbox.1.let_time_pass(self.sandbox.0.clock().as_ref(), LANDING_BOUND).await;
            lock_unpoisoned(&self.host.past_values).clear();
        }
        self.is_seen.store(!is_first, Ordering::Relaxed);
        !is_first
    }

    fn planned_from_list(&self) -> PlannedFrom {
        let is_seen = self.is_seen.load(Ordering::Relaxed);
        let shown = is_seen.then(|| (just_set().element, true.into())).into_iter().collect();
        PlannedFrom::elements(&switch_thing(), "switch/", shown, Value::Null)
    }
}

/// Returns that an override was not there which was set right before.
fn just_set() -> ElementValue {
    ElementValue { place: SANDBOX.into(), element: "switch/other".into(), value: Some(Value::Null) }
}

#[async_trait]
impl SetEffect for SlowList<'_> {
    fn name_effect_for_messages(&self) -> &'static str {
        "the override"
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Settings
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![switch_thing()]
    }

    async fn plan(&self) -> Result<ElementChanges> {
        let carried = if self.look_slowly().await { json!({"other": true}) } else { json!({}) };
        let change = |before, wanted| ElementChange { before, wanted };
        Ok([
            ("gone".to_owned(), change(true.into(), Value::Null)),
            ("carried".to_owned(), change(Value::Null, carried)),
        ]
        .into())
    }

    fn planned_from(&self) -> Option<PlannedFrom> {
        Some(self.planned_from_list())
    }

    async fn look(&self, changes: &ElementChanges) -> Result<SetLook> {
        let elements = changes.iter().map(|(name, change)| (name.clone(), change.wanted.clone())).collect();
        Ok(SetLook { elements, unapplied: None, shown: Value::Null })
    }

    async fn send_request(&self, _: &ElementChanges) -> Result<()> {
        Ok(())
    }

    fn result(&self, changes: &ElementChanges, _: SetLook) -> Value {
        changes["carried"].wanted.clone()
    }
}

#[async_trait]
impl RemoveEffect for SlowList<'_> {
    type Gone = String;

    fn name_effect_for_messages(&self) -> String {
        "the override".into()
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Settings
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![switch_thing()]
    }

    fn gone_id<'g>(&self, gone: &'g String) -> &'g str {
        gone
    }

    async fn plan(&self) -> Result<String> {
        let is_shown = self.look_slowly().await;
        if is_shown { Ok("other".into()) } else { Err(Error::new(Code::NotFound, "there is none")) }
    }

    fn planned_from(&self) -> Option<PlannedFrom> {
        Some(self.planned_from_list())
    }

    async fn is_any_left(&self, _: &String) -> Result<bool> {
        Ok(false)
    }

    async fn send_request(&self, _: &String) -> Result<()> {
        Ok(())
    }
}

/// A look is from when it began, not from when it was answered.
#[tokio::test]
async fn a_look_that_began_while_it_could_lag_behind_is_not_believed_when_that_time_is_over() {
    let (sandbox, host) = (slow_sandbox(), MemoryHost::default());
    let (list, cx) = (SlowList::new(&host, &sandbox), call_context(&sandbox.0, &host, None));
    let args = decode_args("network::ssl::set", Some(json!(true)), json!({"timeout": "10m"}));
    let carried = begin_or_continue_set(&cx, &args, &*sandbox.1, &list).await;
    assert_eq!((carried, list.looks.into_inner()), (Ok(json!({"other": true})), 2));

    let (sandbox, host) = (slow_sandbox(), MemoryHost::default());
    let (list, cx) = (SlowList::new(&host, &sandbox), call_context(&sandbox.0, &host, None));
    let args = decode_args("backup::delete", Some(json!("other")), json!({"timeout": "10m"}));
    let removed = begin_or_continue_removal(&cx, &args, &*sandbox.1, &list).await;
    assert_eq!((removed, list.looks.into_inner()), (Ok(json!("other")), 2));
    let passed = host.phases.into_inner().expect("nobody panicked");
    assert!(!passed.iter().any(|phase| phase.contains("right before")), "it waits for nothing: {passed:?}");
}

/// What it was before is taken from a look that may have lagged behind when it began.
#[tokio::test]
async fn what_a_slow_plan_may_have_seen_from_before_is_not_kept_as_what_was_before() {
    let (sandbox, host) = (slow_sandbox(), MemoryHost::default());
    let was = |value: Value| ElementValue { element: "switch/gone".into(), value: Some(value), ..just_set() };
    let list = SlowList::new(&host, &sandbox);
    *lock_unpoisoned(&host.past_values) = vec![(was(true.into()), LANDING_BOUND)];
    list.is_seen.store(true, Ordering::Relaxed);
    let args = decode_args("network::ssl::set", Some(json!(true)), json!({"timeout": "10m"}));
    let cx = call_context(&sandbox.0, &host, None);
    begin_or_continue_set(&cx, &args, &*sandbox.1, &list).await.expect("it is set");
    let past = host.past_values.into_inner().expect("nobody panicked");
    let kept = past.iter().find(|(one, _)| one.element == "switch/gone").map(|(one, _)| one.value.clone());
    assert_eq!(kept, Some(None), "{past:?}");
}

/// Asks for something that is not there, after another call has changed something; returns the refusal.
async fn refuse_after(past: ElementValue, (path, given, options): (&str, Value, Value)) -> (Error, bool) {
    let (fleet, _) = slow_sandbox();
    let (host, began) = (MemoryHost::default(), fleet.clock().uptime());
    *lock_unpoisoned(&host.past_values) = vec![(past, LANDING_BOUND)];
    let taken = perform_operation(&call_context(&fleet, &host, None), path, Some(given), options).await;
    let Err(EffectFailure::Failed(error)) = taken else { panic!("`{path}` is refused: {taken:?}") };
    (error, fleet.clock().uptime() == began)
}

#[tokio::test]
async fn a_refusal_is_doubted_for_what_was_changed_of_that_on_which_it_rests_and_nothing_else() {
    let was = |element: &str, value: Value| {
        let (place, element) = (SANDBOX.into(), element.into());
        ElementValue { place, element, value: Some(value) }
    };
    let in_branch = |past: ElementValue| ElementValue { place: format!("{SANDBOX}/nosuch"), ..past };
    let made = was("id:nosuch", Value::Null);
    for (path, given, rests_on) in [
        ("backup::delete", json!("nosuch"), made.clone()),
        ("backup::schedule::delete", json!("nosuch"), made.clone()),
        ("db::replicas::delete", json!("nosuch"), made.clone()),
        ("branch::delete", json!("nosuch"), in_branch(made.clone())),
        ("branch::reset", json!("nosuch"), in_branch(made.clone())),
        ("branch::promote", json!("nosuch"), in_branch(made.clone())),
        ("network::restrictions::remove", json!("192.0.2.0/24"), was("ranges/192.0.2.0/24", false.into())),
    ] {
        let options = || json!({"timeout": "20s"});
        for other in [
            was("tls/tls", false.into()),
            was("power", false.into()),
            was("setting:work_mem/work_mem", Value::Null),
            was("id:nosuch2", Value::Null),
            was("id:another", true.into()),
        ] {
            let (error, is_at_once) = refuse_after(other.clone(), (path, given.clone(), options())).await;
            assert_eq!((error.code, is_at_once), (Code::NotFound, true), "{path} after {other:?}: {error}");
        }
        let (error, _) = refuse_after(rests_on, (path, given.clone(), options())).await;
        assert_eq!((error.code, error.side_effects), (Code::Timeout, SideEffects::None), "{path}: {error}");
        assert!(error.message.contains("the last look said: NOT_FOUND: "), "{path}: {error}");
    }
}
