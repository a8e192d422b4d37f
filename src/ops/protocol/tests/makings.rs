//! Something that was to be made at once, answered, and is not seen.

use super::{
    super::{MakeEffect, perform_make},
    *,
};

/// Something that is never seen, and the answer to whoever asks for it.
pub(super) struct UnseenMaking(pub(super) fn() -> Result<Value>);

#[async_trait]
impl MakeEffect for UnseenMaking {
    fn subject(&self) -> String {
        "the restore point `weekly`".into()
    }

    fn kind(&self) -> EffectKind {
        EffectKind::RestorePoint
    }

    fn things(&self) -> Vec<Thing> {
        Vec::new()
    }

    async fn plan(&self) -> Result<Value> {
        Ok(Value::Null)
    }

    async fn find(&self, _: &Value) -> Result<Option<Value>> {
        Ok(None)
    }

    async fn send_request(&self) -> Result<Value> {
        (self.0)()
    }
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
        let answered = UnseenMaking(|| Ok(json!("weekly")));
        let taken = perform_make(&call_context(&fleet, &host, None), &args, &*provider, &answered).await;
        let Err(EffectFailure::Failed(error)) = taken else { panic!("it is not there: {taken:?}") };
        assert_eq!((error.code, error.side_effects), (Code::NotApplied, side_effects), "{error:?}");
        assert_eq!(error.left_behind, left_behind);
    }
}
