//! What reads gave before writes landed, for reads that lag behind.

use super::response::ApiResponse;
use crate::base::{lock::lock_unpoisoned, moment::Span};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Instant,
};

/// A read, by all that its answer depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReadRequest {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    /// The body as text.
    body: String,
}

impl ReadRequest {
    pub(super) fn new(method: &str, path: &str, query: &[(String, String)], body: &Value) -> Self {
        Self { method: method.into(), path: path.into(), query: query.to_vec(), body: body.to_string() }
    }

    pub(super) fn body(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// What a read gave just before a write landed.
pub(super) struct StaleAnswer {
    pub(super) read: ReadRequest,
    pub(super) response: ApiResponse,
}

/// The answers of one read, each with the time at which the write landed, oldest first.
type AnswerHistory = Vec<(Instant, ApiResponse)>;

/// What reads gave before writes landed, and which reads are looked at for that.
#[derive(Debug, Default)]
pub(super) struct StaleReads {
    answers: Mutex<BTreeMap<ReadRequest, AnswerHistory>>,
    /// The reads that somebody has asked for and a rule makes stale. Those with parameters or a body can be known in no
    /// other way.
    asked: Mutex<BTreeSet<ReadRequest>>,
}

impl StaleReads {
    /// Notes a read that somebody asks for and a rule makes stale.
    pub(super) fn note_read(&self, read: ReadRequest) {
        lock_unpoisoned(&self.asked).insert(read);
    }

    /// Returns every read that somebody has asked for and a rule makes stale.
    pub(super) fn list_asked_reads(&self) -> BTreeSet<ReadRequest> {
        lock_unpoisoned(&self.asked).clone()
    }

    /// Adds what reads gave before a write that landed at this time.
    pub(super) fn add_answers(&self, answers: Vec<StaleAnswer>, landed_at: Instant) {
        let mut kept = lock_unpoisoned(&self.answers);
        for StaleAnswer { read, response } in answers {
            kept.entry(read).or_default().push((landed_at, response));
        }
    }

    /// Returns what a read gave this long ago: what it gave before the first write that has landed since. Without one,
    /// it would give the same now.
    pub(super) fn find_earlier_answer(&self, read: &ReadRequest, ago: Span) -> Option<ApiResponse> {
        let kept = lock_unpoisoned(&self.answers);
        let answers = kept.get(read)?;
        let since = answers.iter().find(|(landed_at, _)| landed_at.elapsed() < ago.to_std());
        since.map(|(_, response)| response.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn of_two_writes_the_first_that_is_not_seen_yet_counts() {
        let (reads, now) = (StaleReads::default(), Instant::now());
        let read = |name: &str| ReadRequest::new("GET", "/p", &[("name".into(), name.into())], &Value::Null);
        let answer =
            |text: &str| StaleAnswer { read: read("a"), response: ApiResponse::json(200, json!(text)) };
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).expect("a time");
        reads.add_answers(vec![answer("first")], ago(50));
        reads.add_answers(vec![answer("second")], ago(20));
        let find = |seconds| reads.find_earlier_answer(&read("a"), Span::from_secs(seconds));
        assert_eq!(find(60), Some(answer("first").response));
        assert_eq!(find(40), Some(answer("second").response));
        assert_eq!(find(10), None);
        assert_eq!(reads.find_earlier_answer(&read("b"), Span::from_secs(60)), None);
    }
}
