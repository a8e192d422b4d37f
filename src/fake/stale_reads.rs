//! What reads gave before writes landed, for reads that lag behind.

use super::response::ApiResponse;
use crate::base::{lock::lock_unpoisoned, moment::Span};
use std::{collections::BTreeMap, sync::Mutex, time::Instant};

/// What a read gave just before a write landed.
pub(super) struct StaleAnswer {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) response: ApiResponse,
}

/// The answers of one read, each with the time at which the write landed, oldest first.
type AnswerHistory = Vec<(Instant, ApiResponse)>;

/// What every read gave, by its method and path.
#[derive(Debug, Default)]
pub(super) struct StaleReads(Mutex<BTreeMap<(String, String), AnswerHistory>>);

impl StaleReads {
    /// Adds what reads gave before a write that landed at this time.
    pub(super) fn add_answers(&self, answers: Vec<StaleAnswer>, landed_at: Instant) {
        let mut kept = lock_unpoisoned(&self.0);
        for StaleAnswer { method, path, response } in answers {
            kept.entry((method.into(), path)).or_default().push((landed_at, response));
        }
    }

    /// Returns what a read gave this long ago: what it gave before the first write that has landed since. Without one,
    /// it would give the same now.
    pub(super) fn find_answer(&self, method: &str, path: &str, ago: Span) -> Option<ApiResponse> {
        let kept = lock_unpoisoned(&self.0);
        let answers = kept.get(&(method.to_owned(), path.to_owned()))?;
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
        let answer = |text: &str| StaleAnswer {
            method: "GET",
            path: "/p".into(),
            response: ApiResponse::json(200, json!(text)),
        };
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).expect("a time");
        reads.add_answers(vec![answer("first")], ago(50));
        reads.add_answers(vec![answer("second")], ago(20));
        let find = |seconds| reads.find_answer("GET", "/p", Span::from_secs(seconds));
        assert_eq!(find(60), Some(answer("first").response));
        assert_eq!(find(40), Some(answer("second").response));
        assert_eq!(find(10), None);
        assert_eq!(reads.find_answer("POST", "/p", Span::from_secs(60)), None);
    }
}
