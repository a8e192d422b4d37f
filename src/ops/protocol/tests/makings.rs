//! Something that was to be made at once, answered, and is not seen.

use super::{
    super::{MakeEffect, begin_or_continue_make},
    *,
};

/// Something that is never seen.
pub(super) struct UnseenMaking {
    /// The answer to whoever asks for it.
    answer: fn() -> Result<Value>,
    /// The answer to whoever looks for it.
    find: fn() -> Result<Option<Value>>,
}

impl UnseenMaking {
    pub(super) fn answering(answer: fn() -> Result<Value>) -> Self {
        Self { answer, find: || Ok(None) }
    }
}

#[async_trait]
impl MakeEffect for UnseenMaking {
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
        (self.find)()
    }

    async fn send_request(&self) -> Result<Value> {
        (self.answer)()
    }
}

#[tokio::test]
async fn what_was_not_made_whole_has_failed_and_is_named_also_where_its_request_got_no_answer() {
    let (fleet, provider) = slow_sandbox();
    let host = MemoryHost::default();
    let args = decode_args("backup::pitr::mark", Some(json!("weekly")), json!({}));
    let failed = UnseenMaking {
        find: || Err(Error::new(Code::Tool, "it is FAILED").with_left_behind("restore point weekly")),
        ..UnseenMaking::answering(|| Err(Error::new(Code::Unknown, "no answer")))
    };
    let taken = begin_or_continue_make(&call_context(&fleet, &host, None), &args, &*provider, &failed).await;
    let Err(EffectFailure::Failed(error)) = taken else { panic!("it is known: {taken:?}") };
    assert_eq!((error.code, error.left_behind), (Code::Tool, vec!["restore point weekly".to_owned()]));
}

#[tokio::test]
async fn a_look_that_failed_says_nothing_of_what_was_answered() {
    let (fleet, provider) = slow_sandbox();
    let host = MemoryHost::default();
    let args = decode_args("backup::pitr::mark", Some(json!("weekly")), json!({}));
    let unreadable = UnseenMaking {
        find: || Err(Error::new(Code::Tool, "`pg_waldump` failed")),
        ..UnseenMaking::answering(|| Ok(json!("weekly")))
    };
    let taken =
        begin_or_continue_make(&call_context(&fleet, &host, None), &args, &*provider, &unreadable).await;
    assert!(matches!(taken, Err(EffectFailure::Undecided(_))), "it may be there: {taken:?}");
}

#[tokio::test]
async fn what_can_come_no_more_is_not_said_to_be_left_behind() {
    let bound = Span::from_secs(3600);
    for ((fleet, provider), side_effects, left_behind) in [
        (sandbox(), SideEffects::None, &[][..]),
        (
            slow_sandbox_within(bound),
            SideEffects::Unknown,
            &["the restore point `weekly`, which may still appear"],
        ),
    ] {
        let host = MemoryHost::default();
        let args = decode_args("backup::pitr::mark", Some(json!("weekly")), json!({"timeout": "10s"}));
        let answered = UnseenMaking::answering(|| Ok(json!("weekly")));
        let taken =
            begin_or_continue_make(&call_context(&fleet, &host, None), &args, &*provider, &answered).await;
        let Err(EffectFailure::Failed(error)) = taken else { panic!("it is not there: {taken:?}") };
        assert_eq!((error.code, error.side_effects), (Code::NotApplied, side_effects), "{error:?}");
        assert_eq!(error.left_behind, left_behind);
    }
}
