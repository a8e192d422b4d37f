//! The time that a call may take, known to whoever waits for an answer on its behalf, however deep down that is.
//!
//! It is the time that really passes: what is waited for here is outside of this process.

use super::moment::Span;
use std::time::Duration;
use tokio::time::Instant;

tokio::task_local! {
    static CALL_END: CallEnd;
}

/// When the time of a call is over, and how long it was.
#[derive(Clone, Copy)]
struct CallEnd {
    /// `None` for one that is so long that it never ends.
    at: Option<Instant>,
    limit: Span,
}

/// Does the work of a call that may take `limit`, from now on.
pub async fn with_call_time<T>(limit: Span, work: impl Future<Output = T>) -> T {
    CALL_END.scope(CallEnd { at: Instant::now().checked_add(limit.to_std()), limit }, work).await
}

/// Returns how much time the call that is at work here has left, zero when it is over; `None` where no call is at work.
pub fn call_time_left() -> Option<Duration> {
    let end = CALL_END.try_with(|end| *end).ok()?;
    Some(end.at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now())))
}

/// Does work that changes nothing, until the time of the call is over; where it was over before, for `grace`.
///
/// How much time the work had.
pub async fn within_call_time<T>(grace: Span, work: impl Future<Output = T>) -> Result<T, Span> {
    let Ok(CallEnd { at: Some(at), limit }) = CALL_END.try_with(|end| *end) else { return Ok(work.await) };
    let now = Instant::now();
    let (at, limit) = if at <= now { (now + grace.to_std(), grace) } else { (at, limit) };
    tokio::time::timeout_at(at, work).await.map_err(|_| limit)
}
