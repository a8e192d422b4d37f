//! A removal that gets no answer, on a platform where a look may lag behind.

use super::{
    super::{PlannedFrom, RemoveEffect, begin_or_continue_removal},
    *,
};

/// Something that goes, and how looks show it: as gone until a time has passed since they began.
struct Lagging {
    fleet: Arc<Fleet>,
    /// For how long looks call it gone; after that they show it.
    hidden_for: Span,
    began: Uptime,
    /// How often its removal was asked for.
    asked: AtomicUsize,
    /// Whether every request after the first one is refused.
    is_refused_later: bool,
    /// Whether every request is answered at once.
    is_answered: bool,
}

fn backups_thing() -> Thing {
    Thing { place: SANDBOX.into(), part: ThingPart::Named("backups".into()) }
}

impl Lagging {
    fn new(fleet: &Arc<Fleet>, hidden_for: Span) -> Self {
        let began = fleet.clock().uptime();
        Self {
            fleet: Arc::clone(fleet),
            hidden_for,
            began,
            asked: AtomicUsize::new(0),
            is_refused_later: false,
            is_answered: false,
        }
    }

    /// Returns how long ago the removal began.
    fn passed(&self) -> Span {
        self.fleet.clock().uptime().since_in_same_boot(&self.began).expect("one boot")
    }
}

#[async_trait]
impl RemoveEffect for Lagging {
    type Gone = String;

    fn name_effect_for_messages(&self) -> String {
        "the backup".into()
    }

    fn kind(&self) -> EffectKind {
        EffectKind::BackupDeletion
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![backups_thing()]
    }

    fn gone_id<'g>(&self, gone: &'g String) -> &'g str {
        gone
    }

    async fn plan(&self) -> Result<String> {
        Ok("b1".into())
    }

    fn planned_from(&self) -> Option<PlannedFrom> {
        None
    }

    async fn is_any_left(&self, _: &String) -> Result<bool> {
        Ok(self.passed() >= self.hidden_for)
    }

    async fn send_request(&self, _: &String) -> Result<()> {
        match self.asked.fetch_add(1, Ordering::Relaxed) {
            _ if self.is_answered => Ok(()),
            1.. if self.is_refused_later => Err(Error::new(Code::Refused, "not now")),
            _ => Err(Error::new(Code::Unknown, "no answer")),
        }
    }
}

/// Removes something on a platform on which nothing lands after [`LANDING_BOUND`], and returns how it went.
async fn remove_lagging(hidden_for: Span) -> (EffectResult<Value>, Lagging) {
    remove_refused_later(hidden_for, false).await
}

/// Does what [`remove_lagging`] does, where every request after the first one may be refused.
async fn remove_refused_later(hidden_for: Span, is_refused_later: bool) -> (EffectResult<Value>, Lagging) {
    let (fleet, provider) = slow_sandbox();
    let fleet = Arc::new(fleet);
    let removal = Lagging { is_refused_later, ..Lagging::new(&fleet, hidden_for) };
    let host = MemoryHost::default();
    let args = decode_args("backup::delete", Some(json!("b1")), json!({}));
    let taken =
        begin_or_continue_removal(&call_context(&fleet, &host, None), &args, &*provider, &removal).await;
    (taken, removal)
}

#[tokio::test]
async fn a_lost_removal_is_asked_for_again_and_waited_for_where_a_look_calls_it_done() {
    let (taken, removal) = remove_lagging(Span::from_secs(3600)).await;
    assert_eq!(taken, Ok(json!("b1")), "it is gone when nothing can come any more");
    assert_eq!(removal.asked.load(Ordering::Relaxed), 2);
    assert!(removal.passed() >= LANDING_BOUND, "{}", removal.passed());
}

#[tokio::test]
async fn what_a_lagging_look_called_gone_and_is_there_at_the_bound_was_not_removed() {
    let (taken, removal) = remove_lagging(Span::from_secs(30)).await;
    assert!(matches!(taken, Err(EffectFailure::Failed(_))), "{taken:?}");
    assert_eq!(removal.asked.load(Ordering::Relaxed), 2);
    assert!(removal.passed() >= LANDING_BOUND, "{}", removal.passed());
}

/// Removes what was made a short while ago, of which looks show what was before for 30 seconds; its removal is answered. Returns
/// how it went, and how long that took.
async fn remove_just_made(id: &str) -> (EffectResult<Value>, Span) {
    let (fleet, provider) = slow_sandbox();
    let fleet = Arc::new(fleet);
    let removal = Lagging { is_answered: true, ..Lagging::new(&fleet, Span::from_secs(30)) };
    let host = MemoryHost::default();
    *lock_unpoisoned(&host.past_values) = vec![(ElementValue::absent(SANDBOX.into(), id), LANDING_BOUND)];
    let args = decode_args("backup::delete", Some(json!("b1")), json!({}));
    let taken =
        begin_or_continue_removal(&call_context(&fleet, &host, None), &args, &*provider, &removal).await;
    (taken, removal.passed())
}

/// Something that the first looks do not show.
struct Unseen {
    looks: AtomicUsize,
    shown_after: usize,
}

#[async_trait]
impl RemoveEffect for Unseen {
    type Gone = String;

    fn name_effect_for_messages(&self) -> String {
        "the branch".into()
    }

    fn kind(&self) -> EffectKind {
        EffectKind::BranchDeletion
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![Thing { place: SANDBOX.into(), part: ThingPart::Whole }]
    }

    fn gone_id<'g>(&self, gone: &'g String) -> &'g str {
        gone
    }

    async fn plan(&self) -> Result<String> {
        let is_shown = self.looks.fetch_add(1, Ordering::Relaxed) >= self.shown_after;
        if is_shown { Ok("b1".into()) } else { Err(Error::new(Code::NotFound, "there is none")) }
    }

    fn planned_from(&self) -> Option<PlannedFrom> {
        let is_shown = self.looks.load(Ordering::Relaxed) > self.shown_after;
        let whole = Thing { place: SANDBOX.into(), part: ThingPart::Whole };
        Some(PlannedFrom::ids(&whole, Some("b1").filter(|_| is_shown)))
    }

    async fn is_any_left(&self, _: &String) -> Result<bool> {
        Ok(false)
    }

    async fn send_request(&self, _: &String) -> Result<()> {
        Ok(())
    }
}

/// Removes what the first looks do not show, after it was made just before or not; returns how it went, how often it was
/// planned, and what is kept of it.
async fn remove_unseen(
    past: Option<ElementValue>,
    timeout: &str,
) -> (EffectResult<Value>, usize, Vec<ElementValue>) {
    let (fleet, provider) = slow_sandbox();
    let (host, unseen) = (MemoryHost::default(), Unseen { looks: AtomicUsize::new(0), shown_after: 3 });
    *lock_unpoisoned(&host.past_values) = past.into_iter().map(|past| (past, LANDING_BOUND)).collect();
    let args = decode_args("backup::delete", Some(json!("b1")), json!({ "timeout": timeout }));
    let taken =
        begin_or_continue_removal(&call_context(&fleet, &host, None), &args, &*provider, &unseen).await;
    let past = host.past_values.into_inner().expect("nobody panicked");
    (taken, unseen.looks.into_inner(), past.into_iter().map(|(one, _)| one).collect())
}

#[tokio::test]
async fn that_something_is_not_there_is_believed_when_no_look_can_show_the_time_before_it_was_made() {
    let made = ElementValue::absent(SANDBOX.into(), "b1");
    let (taken, planned, kept) = remove_unseen(Some(made.clone()), "10m").await;
    assert_eq!((taken, planned), (Ok(json!("b1")), 4));
    assert_eq!(
        kept,
        [ElementValue::present(SANDBOX.into(), "b1")],
        "the next call is told that it was there"
    );

    let not_found = |taken: EffectResult<Value>| match taken {
        Err(EffectFailure::Failed(error)) => (error.code, error.side_effects),
        other => panic!("{other:?}"),
    };
    let (taken, planned, _) = remove_unseen(None, "10m").await;
    assert_eq!((not_found(taken), planned), ((Code::NotFound, SideEffects::None), 1), "nobody has made one");
    let (taken, planned, _) = remove_unseen(Some(made), "20s").await;
    assert_eq!((not_found(taken), planned), ((Code::Timeout, SideEffects::None), 1), "it has no time");
}

#[tokio::test]
async fn a_look_from_before_it_was_made_does_not_show_that_it_is_gone() {
    let (taken, _) = remove_just_made("b1").await;
    let Err(EffectFailure::Failed(error)) = taken else { panic!("it is there: {taken:?}") };
    assert_eq!(error.code, Code::NotApplied, "{error}");

    let (taken, passed) = remove_just_made("another").await;
    assert_eq!((taken, passed), (Ok(json!("b1")), Span::ZERO), "it was made long ago");
}

#[tokio::test]
async fn a_refusal_says_nothing_of_a_removal_that_got_no_answer_before() {
    let (taken, removal) = remove_refused_later(Span::ZERO, true).await;
    assert_eq!(removal.asked.load(Ordering::Relaxed), 2);
    taken_up::assert_loss_is_told(taken, Code::Refused, "not now");
}
