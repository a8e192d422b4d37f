//! Calls that were begun before: what is said of them when their place, or what they ask for again, is refused.

use super::{
    super::{
        JobEffect, begin_or_continue_job, begin_or_continue_make,
        failure::{never_landed_error, refused_after_loss_error},
    },
    makings::UnseenMaking,
    *,
};
use crate::provider::{PlannedJob, model::LandingLimit};

/// Asserts that an error tells of the request that got no answer, which is known to have done nothing, and is the refusal of
/// the later one.
pub(super) fn assert_loss_is_told(taken: EffectResult<Value>, code: Code, refusal: &str) {
    let Err(EffectFailure::Failed(error)) = taken else { panic!("it is known: {taken:?}") };
    let is_transient = Error::new(code, "").retryable;
    assert_eq!((error.code, error.retryable), (code, is_transient), "{error:?}");
    assert!(error.message.contains("got no answer") && error.message.ends_with(refusal), "{error}");
}

#[tokio::test]
async fn a_begun_call_whose_branch_is_not_shown_is_undecided() {
    let (fleet, _) = sandbox();
    let sent_by = fleet.clock().uptime();
    let statement = Evidence::Commit { token: json!("7"), outcome: None };
    let set = Evidence::Set { changes: ElementChanges::new(), sent_by };
    for (path, given, recorded) in [
        ("db::execute", json!("delete from orders"), Some(statement)),
        ("db::config::set", json!({"work_mem": "8MB"}), Some(set)),
        ("network::ssl::set", json!(true), None),
        ("backup::delete", json!("b1"), None),
    ] {
        let host = MemoryHost::default();
        let op = ops::find_operation(path).expect("an operation");
        let Protocol::Effect(perform) = op.protocol else { panic!("`{path}` takes no effect") };
        let place = format!("{SANDBOX}/gone");
        let args = CallArgs::decode(op, vec![place.into(), given], serde_json::Map::new());
        let cx = CallContext { is_taken_up: true, ..call_context(&fleet, &host, recorded) };
        let taken = perform(&cx, &args.expect("arguments")).await;
        let Err(EffectFailure::Undecided(why)) = taken else { panic!("{path}: nobody knows: {taken:?}") };
        assert!(why.contains("no branch"), "{why}");
        assert_eq!(host.lifted.into_inner(), 0, "{path}: it may still come");
    }
}

#[tokio::test]
async fn what_was_kept_for_a_call_that_never_asked_is_given_back_when_its_run_is_given_up() {
    let (fleet, _) = slow_sandbox();
    for (attempts, lifted) in [(1, 1), (2, 0)] {
        for (path, given, options) in [
            ("network::ssl::set", json!(true), json!({})),
            ("db::execute", json!("vacuum"), json!({"transaction": false})),
        ] {
            let host = MemoryHost::default();
            let begun = call_context(&fleet, &host, None);
            let cx = CallContext { is_taken_up: true, settles_only: true, attempts, ..begun };
            let taken = perform_operation(&cx, path, Some(given), options).await;
            assert_eq!(taken, Err(EffectFailure::NeverAsked), "{path}");
            assert_eq!(host.lifted.into_inner(), lifted, "{path}: an earlier attempt may still come");
        }
    }
}

#[tokio::test]
async fn a_refusal_says_nothing_of_a_change_that_got_no_answer_before() {
    let (host, switch) = (MemoryHost::default(), Switch::answering(Answer::LostThenRefused));
    let taken = take_switch(&slow_sandbox_within(Span::from_secs(300)), &host, &switch).await;
    assert_eq!(switch.asked.into_inner(), 2);
    assert_loss_is_told(taken, Code::Conflict, "it is so already");
}

#[tokio::test]
async fn a_refusal_says_nothing_of_a_job_that_got_no_answer_before() {
    let (fleet, _) = faulty_sandbox(LANDING_BOUND, Refusals(Some("pause")));
    let sent_by = fleet.clock().uptime();
    let (host, lost) = (MemoryHost::default(), Evidence::Job { traces: Value::Null, sent_by });
    let cx = call_context(&fleet, &host, Some(lost));
    let taken = perform_operation(&cx, "project::pause", None, json!({})).await;
    assert_loss_is_told(taken, Code::Denied, "not allowed");
}

#[tokio::test]
async fn a_refusal_says_nothing_of_a_making_that_got_no_answer_before() {
    let (fleet, provider) = slow_sandbox();
    let (host, sent_by) = (MemoryHost::default(), fleet.clock().uptime());
    let args = decode_args("backup::pitr::mark", Some(json!("weekly")), json!({}));
    let lost = Some(Evidence::Make { before: Value::Null, sent_by });
    let refused = UnseenMaking::answering(|| Err(Error::new(Code::Refused, "not now")));
    let taken = begin_or_continue_make(&call_context(&fleet, &host, lost), &args, &*provider, &refused).await;
    assert_loss_is_told(taken, Code::Refused, "not now");
}

/// A branch of a target that is being paused.
struct UnplannedBranch;

#[async_trait]
impl JobEffect for UnplannedBranch {
    fn name_effect_for_messages(&self) -> String {
        "the branch".into()
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Branch
    }

    fn changed_things(&self) -> Vec<Thing> {
        Vec::new()
    }

    async fn plan(&self) -> Result<PlannedJob<'_>> {
        Err(Error::new(Code::Refused, "it is PAUSING"))
    }
}

#[tokio::test]
async fn what_cannot_be_planned_again_is_not_said_to_have_been_asked_for_again() {
    let (fleet, provider) = slow_sandbox();
    let sent_by = fleet.clock().uptime();
    let (host, lost) = (MemoryHost::default(), Evidence::Job { traces: Value::Null, sent_by });
    let args = decode_args("branch::create", None, json!({"into": "look"}));
    let taken =
        begin_or_continue_job(&call_context(&fleet, &host, Some(lost)), &args, &*provider, &UnplannedBranch)
            .await;
    let Err(EffectFailure::Failed(error)) = &taken else { panic!("it is known: {taken:?}") };
    assert!(error.message.contains("it was not asked for again: it is PAUSING"), "{error}");
    assert_loss_is_told(taken, Code::Refused, "it is PAUSING");
}

#[test]
fn where_a_lost_request_may_still_come_its_error_stays_that_of_the_call() {
    let lost = never_landed_error("the branch", LandingLimit::Assumed(LANDING_BOUND));
    let error = refused_after_loss_error(lost, Error::new(Code::Denied, "not allowed").with_hint("ask"));
    assert_eq!((error.code, error.side_effects), (Code::Unavailable, SideEffects::Unknown));
    assert!(error.hint.is_some_and(|hint| hint.contains("before you ask again") && hint.ends_with("; ask")));
}

#[tokio::test]
async fn a_refused_attempt_says_that_an_earlier_one_may_still_come() {
    let (fleet, _) = faulty_sandbox(LANDING_BOUND, Refusals(Some("pause")));
    let open_since = Some(fleet.clock().uptime());
    let host = MemoryHost { open_since, ..MemoryHost::default() };
    let cx = CallContext { attempts: 2, ..call_context(&fleet, &host, None) };
    let taken = perform_operation(&cx, "project::pause", None, json!({})).await;
    let Err(EffectFailure::Failed(error)) = taken else { panic!("it is refused: {taken:?}") };
    assert_eq!(error.side_effects, SideEffects::Unknown, "{error:?}");
}
