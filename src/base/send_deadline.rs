//! Until when something may be sent, known to whoever sends it, however deep below whoever said so.

use super::clock::Uptime;

tokio::task_local! {
    static SEND_DEADLINE: Uptime;
}

/// Does something of which nothing is sent after `deadline`.
pub async fn with_send_deadline<T>(deadline: Uptime, work: impl Future<Output = T>) -> T {
    SEND_DEADLINE.scope(deadline, work).await
}

/// Returns until when what is at work here may send, where somebody has said so.
pub fn current_send_deadline() -> Option<Uptime> {
    SEND_DEADLINE.try_with(Clone::clone).ok()
}
