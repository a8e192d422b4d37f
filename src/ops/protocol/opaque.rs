//! `Opaque`: a request of which nobody here can know what it does.
//!
//! That it is about to be sent is recorded first. Once it is, no answer means that nobody knows, and it is never sent again.

use super::failure::{
    EffectFailure, EffectResult, refuse_doubtful_call, refuse_when_only_settling, wrong_evidence_failure,
};
use crate::{
    base::moment::Span,
    ops::{
        context::CallContext,
        evidence::Evidence,
        thing::{Thing, ThingPart},
    },
    provider::Result,
};
use serde_json::Value;

/// Takes an opaque request up where it is: sends it, or says that nobody knows.
pub(in crate::ops) async fn send_opaque_or_report_undecided(
    cx: &CallContext<'_>,
    thing: Thing,
    timeout: Span,
    request: Value,
    send: impl Future<Output = Result<Value>>,
) -> EffectResult<Value> {
    refuse_doubtful_call(cx)?;
    match &cx.recorded {
        None => {
            refuse_when_only_settling(cx).await?;
            // What changes all of the target is waited for.
            let rows = Thing { part: ThingPart::Rows, ..thing.clone() };
            let _claim = cx.host.wait_and_claim_things(&[rows], Some(timeout)).await?;
            // Nobody knows what it changes: what changes all of the target waits for it, and nothing else does. Whoever decides
            // about it or leaves it is told.
            cx.host.begin_quarantine(&[thing], &cx.fleet.clock().uptime(), None).await?;
            cx.host.record_evidence(&Evidence::Opaque { request }).await?;
            let answer = send.await.map_err(EffectFailure::from);
            // An earlier one that was not answered was decided about by whoever had this one made.
            if !matches!(answer, Err(EffectFailure::Undecided(_))) {
                cx.host.lift_quarantines().await?;
            }
            answer
        }
        Some(Evidence::Opaque { request }) => Err(EffectFailure::Undecided(format!(
            "{} may have been sent, and only whoever knows what it does can tell",
            request.as_str().unwrap_or("it")
        ))),
        Some(other) => Err(wrong_evidence_failure(other, "opaque request")),
    }
}
