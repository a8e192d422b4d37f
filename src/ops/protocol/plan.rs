//! Planning: what a call finds out before anything is asked for.

use crate::{
    base::{call_time::within_call_time, moment::Span},
    provider::{Code, Error, Result},
};

/// How long planning may take where the time of its call is over before it begins: looking for a lost request may have
/// used that up.
const GRACE: Span = Span::from_secs(10);

/// Returns the plan of a call, which must be there within the call's time: a target that answers nothing keeps no call.
///
/// # Errors
/// What the plan refuses; [`Code::Timeout`] when its time is over. Nothing was asked for then.
pub(super) async fn plan_in_time<T>(plan: impl Future<Output = Result<T>>) -> Result<T> {
    within_call_time(GRACE, plan).await.unwrap_or_else(|limit| {
        let message =
            format!("the target did not show within {limit} how things are, and nothing was asked for");
        Err(Error::new(Code::Timeout, message)
            .with_hint("see why it does not answer, or give the call more with `timeout:`"))
    })
}
