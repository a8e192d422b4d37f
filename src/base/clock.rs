//! Time, injected: nothing above this room asks the machine for the time itself.

use super::moment::{Moment, Span};
use async_trait::async_trait;

/// A source of time that can be waited on.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Returns the present moment.
    fn now(&self) -> Moment;
    /// Returns when `span` has passed on this clock.
    async fn sleep(&self, span: Span);
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

#[async_trait]
impl Clock for Machine {
    fn now(&self) -> Moment {
        Moment(jiff::Timestamp::now())
    }

    async fn sleep(&self, span: Span) {
        tokio::time::sleep(span.to_std()).await;
    }
}
