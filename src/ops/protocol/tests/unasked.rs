//! Elements of a change of which nothing is asked, because a look calls them done; and the look lags behind.

use super::*;

/// An override that is to go, and a setting that may be changed beside it.
struct Override {
    clock: Arc<dyn Clock>,
    began: Uptime,
    /// For how long looks do not show the override that is there.
    hidden_for: Option<Span>,
    /// Whether something else is changed with it.
    has_other: bool,
    /// What was asked for: whether the override was among it.
    asked: Mutex<Vec<bool>>,
    plans: AtomicUsize,
    /// How often it can be planned.
    plans_max: usize,
}

impl Override {
    fn new(fleet: &Fleet, hidden_for: Option<Span>, has_other: bool) -> Self {
        let clock = Arc::clone(fleet.clock());
        let began = clock.uptime();
        let (asked, plans) = (Mutex::default(), AtomicUsize::new(0));
        Self { clock, began, hidden_for, has_other, asked, plans, plans_max: usize::MAX }
    }

    fn passed(&self) -> Span {
        self.clock.uptime().since_in_same_boot(&self.began).expect("one boot")
    }

    /// Returns what a look shows of the override.
    fn shown(&self) -> Value {
        let was_taken_away = lock_unpoisoned(&self.asked).contains(&true);
        match self.hidden_for {
            Some(hidden_for) if self.passed() >= hidden_for && !was_taken_away => json!("64MB"),
            _ => Value::Null,
        }
    }

    fn other_shown(&self) -> Value {
        json!(if lock_unpoisoned(&self.asked).is_empty() { 1 } else { 2 })
    }
}

#[async_trait]
impl SetEffect for Override {
    fn name_effect_for_messages(&self) -> &'static str {
        "the override"
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Settings
    }

    fn changed_things(&self) -> Vec<Thing> {
        Vec::new()
    }

    async fn plan(&self) -> Result<ElementChanges> {
        if self.plans.fetch_add(1, Ordering::Relaxed) >= self.plans_max {
            return Err(Error::new(Code::Refused, "it is PAUSING"));
        }
        let mut changes = ElementChanges::new();
        let gone = ElementChange { before: self.shown(), wanted: Value::Null };
        changes.insert("work_mem".into(), gone);
        if self.has_other {
            changes.insert("port".into(), ElementChange { before: self.other_shown(), wanted: json!(2) });
        }
        Ok(changes)
    }

    async fn look(&self, _: &ElementChanges) -> Result<SetLook> {
        let mut elements = std::collections::BTreeMap::new();
        elements.insert("work_mem".to_owned(), self.shown());
        elements.insert("port".to_owned(), self.other_shown());
        Ok(SetLook { elements, unapplied: None, shown: Value::Null })
    }

    fn list_elements_not_requested(&self, changes: &ElementChanges) -> Vec<String> {
        let is_shown = !changes["work_mem"].before.is_null();
        if is_shown { Vec::new() } else { vec!["work_mem".into()] }
    }

    async fn send_request(&self, changes: &ElementChanges) -> Result<()> {
        let takes_away = self.list_elements_not_requested(changes).is_empty();
        lock_unpoisoned(&self.asked).push(takes_away);
        Ok(())
    }

    fn result(&self, _: &ElementChanges, look: SetLook) -> Value {
        look.shown
    }
}

/// Takes an override away within a time; returns how that went, what was asked for, and how long it took.
async fn take_away(
    hidden_for: Option<Span>,
    has_other: bool,
    timeout: &str,
) -> (EffectResult<Value>, Vec<bool>, Span) {
    let (fleet, provider) = slow_sandbox();
    let (host, change) = (MemoryHost::default(), Override::new(&fleet, hidden_for, has_other));
    let args = decode_args("network::ssl::set", Some(true.into()), json!({"timeout": timeout}));
    let taken = begin_or_continue_set(&call_context(&fleet, &host, None), &args, &*provider, &change).await;
    let asked = lock_unpoisoned(&change.asked).clone();
    (taken, asked, change.passed())
}

#[tokio::test]
async fn what_is_not_asked_for_is_done_when_no_look_lags_so_far_behind() {
    for has_other in [false, true] {
        let (taken, asked, passed) = take_away(None, has_other, "10m").await;
        taken.expect("there is none");
        assert_eq!(asked, vec![false; usize::from(has_other)]);
        assert!(passed >= LANDING_BOUND, "{passed}");
    }
}

#[tokio::test]
async fn what_a_lagging_look_called_done_is_asked_for_when_it_is_seen() {
    for has_other in [false, true] {
        let (taken, asked, _) = take_away(Some(Span::from_secs(20)), has_other, "10m").await;
        taken.expect("it is taken away");
        assert_eq!(asked, [true], "together with the other");
    }
}

#[tokio::test]
async fn what_nobody_can_know_in_time_is_no_success_and_asks_for_nothing() {
    let (taken, asked, _) = take_away(None, true, "10s").await;
    let Err(EffectFailure::Failed(error)) = taken else { panic!("nobody knows: {taken:?}") };
    assert_eq!((error.code, error.side_effects), (Code::Timeout, SideEffects::None));
    assert_eq!(asked, [false; 0]);
}

#[tokio::test]
async fn an_attempt_that_asks_for_nothing_says_that_an_earlier_one_may_still_come() {
    // The call's time is too short; what was hidden is seen, and the change cannot be planned anew.
    let bound = Span::from_secs(300);
    for (hidden_for, timeout, code) in [(None, "10s", Code::Timeout), (Some(20), "10m", Code::Refused)] {
        let (fleet, provider) = slow_sandbox_within(bound);
        let open_since = Some(fleet.clock().uptime());
        let host = MemoryHost { open_since, ..MemoryHost::default() };
        let hidden_for = hidden_for.map(Span::from_secs);
        let change = Override { plans_max: 1, ..Override::new(&fleet, hidden_for, true) };
        let args = decode_args("network::ssl::set", Some(true.into()), json!({"timeout": timeout}));
        let cx = CallContext { attempts: 2, ..call_context(&fleet, &host, None) };
        let taken = begin_or_continue_set(&cx, &args, &*provider, &change).await;
        let Err(EffectFailure::Failed(error)) = taken else { panic!("it was not asked for: {taken:?}") };
        assert_eq!((error.code, error.side_effects), (code, SideEffects::Unknown), "{error:?}");
        assert!(error.message.ends_with("what was asked for before may still take effect"), "{error}");
    }
}
