//! Calls that were begun before: what is said of them when their place, or what they ask for again, is refused.

use super::{super::perform_make, makings::UnseenMaking, *};

/// Asserts that an error tells of the request that got no answer, and of the later one only beside that.
pub(super) fn assert_loss_is_told(taken: EffectResult<Value>, refusal: &str) {
    let Err(EffectFailure::Failed(error)) = taken else { panic!("it is known: {taken:?}") };
    assert_eq!(error.code, Code::Unavailable, "{error:?}");
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
    assert_loss_is_told(taken, "it is so already");
}

#[tokio::test]
async fn a_refusal_says_nothing_of_a_job_that_got_no_answer_before() {
    let (fleet, _) = faulty_sandbox(LANDING_BOUND, Refusals(Some("pause")));
    let sent_by = fleet.clock().uptime();
    let (host, lost) = (MemoryHost::default(), Evidence::Job { traces: Value::Null, sent_by });
    let cx = call_context(&fleet, &host, Some(lost));
    let taken = perform_operation(&cx, "project::pause", None, json!({})).await;
    assert_loss_is_told(taken, "not allowed");
}

#[tokio::test]
async fn a_refusal_says_nothing_of_a_making_that_got_no_answer_before() {
    let (fleet, provider) = slow_sandbox();
    let (host, sent_by) = (MemoryHost::default(), fleet.clock().uptime());
    let args = decode_args("backup::pitr::mark", Some(json!("weekly")), json!({}));
    let lost = Some(Evidence::Make { before: Value::Null, sent_by });
    let refused = UnseenMaking(|| Err(Error::new(Code::Refused, "not now")));
    let taken = perform_make(&call_context(&fleet, &host, lost), &args, &*provider, &refused).await;
    assert_loss_is_told(taken, "not now");
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
