//! Finding out what an interrupted call has done: by its key, or, for a change that carries none, by what was recorded.
//!
//! How the world was and how it is to be are recorded before such a change is asked for. At a resume the world shows where
//! it stands. As wanted: it was done. As before: it was not, and is asked for. Anything else: somebody else changed it, or
//! half of it was done; nobody can know, and the run stops.

use super::{
    args::CallArgs,
    spec::{CallContext, ProbeResult},
};
use crate::{
    base::moment::Span,
    provider::{Accept as _, Code, Error, Provider, Result, model::JobStatus},
};
use serde_json::{Value, json};

/// Records how the world is and how it is to be.
///
/// # Errors
/// Why it cannot be recorded.
pub(super) async fn about_to(cx: &CallContext<'_>, before: &Value, wanted: &Value) -> Result<()> {
    cx.intent().accepted(json!({ "before": before, "wanted": wanted })).await
}

/// Returns how the world was before the change of an interrupted call; `None` when the change was never asked for.
pub(super) fn before<'a>(cx: &'a CallContext<'_>) -> Option<&'a Value> {
    cx.intended().map(|intended| &intended["before"])
}

/// Returns whether the change of an interrupted call was made, given that the world is `now`.
///
/// # Errors
/// [`Code::Unknown`] when it is neither as before nor as wanted.
pub(super) fn is_done(cx: &CallContext<'_>, what: &str, now: &Value) -> Result<bool> {
    let Some(intended) = cx.intended() else { return Ok(false) };
    if *now == intended["wanted"] {
        return Ok(true);
    }
    if *now == intended["before"] {
        return Ok(false);
    }
    Err(unknown(what, &intended["before"], &intended["wanted"], now))
}

/// Returns the error that stops a run: the world is neither as it was nor as it was to be.
pub(super) fn unknown(what: &str, before: &Value, wanted: &Value, now: &Value) -> Error {
    let message =
        format!("{what} is neither as before nor as wanted: before {before}, wanted {wanted}, now {now}");
    Error::new(Code::Unknown, message)
}

/// How long to wait, at most, until a change is applied.
const PATIENCE: Span = Span::from_secs(300);

/// Polls with `look` until a change is applied and returns its result; `None` when that takes too long.
///
/// # Errors
/// What ends the polling. It has side effects: the change was made before.
pub(super) async fn applied<F: Future<Output = Result<JobStatus>> + Send>(
    cx: &CallContext<'_>,
    args: &CallArgs,
    provider: &dyn Provider,
    look: impl FnMut() -> F + Send,
) -> Result<Option<Value>> {
    let patience = args.timeout().min(PATIENCE);
    cx.poll_until(provider, patience, look).await.map_err(Error::with_side_effects)
}

/// Returns what a removal is about: what was recorded before a crash, else what `find` finds, recorded now.
///
/// # Errors
/// The error of `find`, or why the result cannot be recorded.
pub(super) async fn about_to_remove(
    cx: &CallContext<'_>,
    find: impl Future<Output = Result<Value>>,
) -> Result<Value> {
    if let Some(recorded) = cx.accepted.clone() {
        return Ok(recorded);
    }
    let gone = find.await?;
    cx.record_accepted(&gone).await?;
    Ok(gone)
}

/// Looks for what was made under the key of this call.
pub(super) async fn probe_by_key(cx: &CallContext<'_>, args: &CallArgs) -> Result<ProbeResult> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(match target.find(cx.key, cx.intended()).await? {
        Some(job) => ProbeResult::Accepted(json!(job)),
        None => ProbeResult::NotDone,
    })
}

#[cfg(test)]
mod tests {
    use crate::{
        base::clock::{Clock, VirtualClock},
        base::moment::Moment,
        ops::{
            self,
            args::CallArgs,
            spec::{CallContext, CallHost, ProbeResult, Recovery},
        },
        provider::{
            Accept, Code, Fleet, Result,
            model::{CallKey, Progress},
            sim::{self, Sim},
        },
    };
    use async_trait::async_trait;
    use serde_json::{Map, Value, json};
    use std::sync::{Arc, Mutex};

    const SANDBOX: &str = "sandbox";

    /// Keeps what is written down.
    #[derive(Default)]
    struct MemoryRecorder(Mutex<Vec<Value>>);

    #[async_trait]
    impl Accept for MemoryRecorder {
        async fn accepted(&self, what: Value) -> Result<()> {
            self.0.lock().expect("nobody panicked with the notes").push(what);
            Ok(())
        }
    }

    impl CallHost for MemoryRecorder {
        fn report_progress(&self, _: &Progress) {}
    }

    fn sandbox() -> Fleet {
        let clock: Arc<dyn Clock> =
            Arc::new(VirtualClock::starting_at(Moment::parse("2026-11-20T12:00:00Z").expect("a moment")));
        let sim = Sim::in_memory(SANDBOX, sim::SANDBOX, "test", Arc::clone(&clock)).expect("a world");
        Fleet::with_one_target(SANDBOX, Arc::new(sim), clock)
    }

    /// Performs a call on the sandbox, under a key of its own, and returns what it wrote down.
    async fn perform(fleet: &Fleet, path: &str, given: Value, key: &str) -> Vec<Value> {
        let (op, args) = call(path, given);
        let (notes, key) = (MemoryRecorder::default(), CallKey(key.into()));
        let cx = CallContext { fleet, key: &key, run: None, accepted: None, host: &notes };
        (op.perform)(&cx, &args).await.expect("it is done");
        notes.0.into_inner().expect("nobody panicked with the notes")
    }

    /// Asks what became of a call that was killed when it had written `accepted` down.
    async fn probe(
        fleet: &Fleet,
        path: &str,
        given: &Value,
        accepted: Option<&Value>,
    ) -> Result<ProbeResult> {
        let (op, args) = call(path, given.clone());
        let (notes, key) = (MemoryRecorder::default(), CallKey("killed".into()));
        let cx = CallContext { fleet, key: &key, run: None, accepted: accepted.cloned(), host: &notes };
        let Recovery::Probe(probe) = op.recovery else { panic!("`{path}` has no probe") };
        probe(&cx, &args).await
    }

    fn call(path: &str, given: Value) -> (&'static ops::spec::Operation, CallArgs) {
        let op = ops::find_operation(path).expect("an operation");
        let args = CallArgs::decode(op, vec![SANDBOX.into(), given], Map::new());
        (op, args.expect("arguments"))
    }

    #[tokio::test]
    async fn a_change_without_a_key_is_as_wanted_as_before_or_unknown() {
        let cases = [
            (
                "db::config::set",
                json!({"work_mem": "8MB"}),
                json!({"work_mem": "9MB"}),
                json!({"work_mem": null}),
            ),
            ("network::restrictions::add", json!("203.0.113.0/24"), json!("198.51.100.0/24"), json!(null)),
        ];
        for (path, wanted, other, back) in cases {
            let fleet = sandbox();
            assert!(
                matches!(probe(&fleet, path, &wanted, None).await, Ok(ProbeResult::NotDone)),
                "{path}: it was never written down"
            );
            let written = perform(&fleet, path, wanted.clone(), "k1").await.swap_remove(0);
            let Ok(ProbeResult::Done(_)) = probe(&fleet, path, &wanted, Some(&written)).await else {
                panic!("{path}: it is as wanted")
            };
            perform(&fleet, path, other, "k2").await;
            let unknown = probe(&fleet, path, &wanted, Some(&written))
                .await
                .expect_err("somebody was there in between");
            assert_eq!(unknown.code, Code::Unknown, "{path}: {unknown:?}");
            if !back.is_null() {
                perform(&fleet, path, back, "k3").await;
                assert!(
                    matches!(probe(&fleet, path, &wanted, Some(&written)).await, Ok(ProbeResult::NotDone)),
                    "{path}: it is as before"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_schedule_without_a_key_is_found_by_not_having_been_there() {
        let (op, fleet, key) = (
            ops::find_operation("backup::schedule::create").expect("an operation"),
            sandbox(),
            CallKey("k1".into()),
        );
        let options = json!({"at": "03:00"}).as_object().cloned().expect("a map");
        let args = CallArgs::decode(op, vec![SANDBOX.into()], options).expect("arguments");
        let Recovery::Probe(probe) = op.recovery else { panic!("it has a probe") };
        // As a platform without keys has it: the world's schedules carry none that is this call's.
        let before = |schedules: Value| json!({"$intent": {"before": schedules, "wanted": {}}});
        let notes = MemoryRecorder::default();
        let context = |accepted| CallContext {
            fleet: &fleet,
            key: &key,
            run: None,
            accepted: Some(accepted),
            host: &notes,
        };
        let cx = context(before(json!([])));
        assert!(matches!(probe(&cx, &args).await, Ok(ProbeResult::NotDone)), "nothing is there that was not");
        let cx = context(before(json!([{"id": "x", "every": "day", "at": "05:00", "keep_days": null}])));
        let unknown = probe(&cx, &args).await.expect_err("one that was there is gone");
        assert_eq!(unknown.code, Code::Unknown);
        let cx = CallContext { accepted: None, ..context(Value::Null) };
        (op.perform)(&cx, &args).await.expect("it is made");
        let cx = context(before(json!([])));
        assert!(matches!(probe(&cx, &args).await, Ok(ProbeResult::Done(made)) if made["key"] == "k1"));
    }
}
