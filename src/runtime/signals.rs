//! Signals by which a person or the system asks the process to stop.

use futures_util::future::{self, FutureExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that are listened for. One that comes while nobody waits for it is kept: a listener that is made anew for every
/// wait would lose it.
pub(super) struct Signals(Vec<Signal>);

impl Signals {
    /// Begins to listen, within a runtime; what cannot be listened for never comes.
    pub(super) fn listen_for(kinds: &[SignalKind]) -> Self {
        Self(kinds.iter().filter_map(|kind| signal(*kind).ok()).collect())
    }

    /// Waits for a signal; one that has come since the last time counts.
    pub(super) async fn wait_for_signal(&mut self) {
        if self.0.is_empty() {
            return future::pending().await;
        }
        future::select_all(self.0.iter_mut().map(|signal| signal.recv().boxed())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Sent, getpid, kill_process};

    #[tokio::test]
    async fn a_signal_that_comes_while_nobody_waits_is_not_lost() {
        let mut signals = Signals::listen_for(&[SignalKind::user_defined1(), SignalKind::user_defined2()]);
        for sent in [Sent::USR2, Sent::USR1] {
            assert_eq!(signals.wait_for_signal().now_or_never(), None, "nothing has come");
            kill_process(getpid(), sent).expect("it is sent");
            signals.wait_for_signal().await;
        }
    }
}
