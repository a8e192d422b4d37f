//! Changes of elements.

use super::*;

#[tokio::test]
async fn what_lets_everybody_in_is_taken_away_also_where_a_look_does_not_show_it() {
    let (fleet, sim) = sandbox();
    take_call(&fleet, "network::restrictions::add", json!("203.0.113.0/24"), None)
        .await
        .0
        .expect("it is added");
    let everybody = ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("a range"));
    sim.network().expect("network").change_ranges(&[], &everybody).await.expect("they are taken away");
    let (host, net, options) = (MemoryHost::default(), json!("198.51.100.0/24"), json!({"exclusive": true}));
    let cx = call_context(&fleet, &host, None);
    perform_operation(&cx, "network::restrictions::add", Some(net), options).await.expect("it is added");
    let recorded = lock_unpoisoned(&host.evidence).pop();
    let Some(Evidence::Set { changes, .. }) = recorded else { panic!("{recorded:?}") };
    for net in ["0.0.0.0/0", "::/0"] {
        assert_eq!(changes[net], ElementChange { before: false.into(), wanted: false.into() });
    }
}

#[tokio::test]
async fn what_a_colleague_changes_beside_it_is_not_looked_at_and_stays() {
    let (fleet, sim) = sandbox();
    let ours = json!("203.0.113.0/24");
    let (done, evidence) = take_call(&fleet, "network::restrictions::add", ours.clone(), None).await;
    done.expect("it is added");
    let theirs = json!("198.51.100.0/24");
    take_call(&fleet, "network::restrictions::add", theirs, None).await.0.expect("it is added");
    let (again, _) = take_call(&fleet, "network::restrictions::add", ours, evidence).await;
    again.expect("it is as wanted, whatever else is");
    let ranges = sim.network().expect("it has one").allowed_ranges().await.expect("a list").ranges;
    for net in ["203.0.113.0/24", "198.51.100.0/24"] {
        assert!(ranges.iter().any(|range| range.cidr.to_string() == net), "{net}: {ranges:?}");
    }
}

#[tokio::test]
async fn an_element_with_a_third_value_is_nobodys_guess() {
    let (fleet, _) = sandbox();
    let ours = json!({"work_mem": "8MB"});
    let (done, evidence) = take_call(&fleet, "db::config::set", ours.clone(), None).await;
    done.expect("it is set");
    take_call(&fleet, "db::config::set", json!({"work_mem": "9MB"}), None).await.0.expect("it is set");
    let (taken, _) = take_call(&fleet, "db::config::set", ours, evidence).await;
    let Err(EffectFailure::Undecided(why)) = taken else {
        panic!("somebody was there in between: {taken:?}")
    };
    assert!(why.contains("wanted \"8MB\", found \"9MB\""), "{why}");
}

#[tokio::test]
async fn evidence_of_another_shape_is_not_acted_on() {
    let (fleet, sim) = sandbox();
    let backup = sim.backups().expect("it has them").list().await.expect("a list").remove(0).id;
    let sent_by = fleet.clock().uptime();
    for odd in [
        Evidence::Remove { gone: json!({"id": backup, "also": []}), sent_by: sent_by.clone() },
        Evidence::Make { before: Value::Null, sent_by },
    ] {
        let (taken, _) = take_call(&fleet, "backup::delete", backup.clone().into(), Some(odd)).await;
        assert!(matches!(taken, Err(EffectFailure::Unreadable(_))), "{taken:?}");
    }
    assert!(sim.backups().expect("it has them").get(&backup).await.is_ok(), "it is still there");
}

#[tokio::test]
async fn an_answer_that_the_target_does_not_bear_out_is_no_success() {
    for (sandbox, side_effects, hint) in [
        (sandbox(), SideEffects::None, "then ask again"),
        (slow_sandbox(), SideEffects::Unknown, "until then the next change there waits"),
    ] {
        let (host, switch) = (MemoryHost::default(), Switch::answering(Answer::Done));
        let Err(EffectFailure::Failed(error)) = take_switch(&sandbox, &host, &switch).await else {
            panic!("it is not on")
        };
        assert_eq!(
            (error.code, error.side_effects, error.retryable),
            (Code::NotApplied, side_effects, false)
        );
        assert!(error.message.contains("on before false, wanted true, found false"), "{error}");
        assert!(error.hint.as_ref().is_some_and(|said| said.contains(hint)), "{error:?}");
        assert_eq!(host.lifted.into_inner(), 0, "it may still come");
    }
}

#[tokio::test]
async fn what_a_look_calls_done_is_asked_for_where_looks_lag_behind() {
    for (sandbox, asked) in [(sandbox(), 0), (slow_sandbox(), 1)] {
        for answer in [Answer::Done, Answer::Refused] {
            let (host, switch) =
                (MemoryHost::default(), Switch { is_on: true.into(), ..Switch::answering(answer) });
            take_switch_within(&sandbox, &host, &switch, None, "10m").await.expect("it is on");
            assert_eq!(switch.asked.into_inner(), asked);
        }
    }
}

#[tokio::test]
async fn what_was_refused_and_is_as_wanted_is_done_when_no_look_lags_so_far_behind() {
    for (off_after, timeout, done) in [(None, "10m", true), (Some(5), "10m", false), (None, "1s", false)] {
        let (sandbox, host) = (slow_sandbox(), MemoryHost::default());
        let refused = Switch::answering(Answer::Refused);
        let switch = Switch { is_on: true.into(), off_after, ..refused };
        let began = sandbox.0.clock().uptime();
        let taken = take_switch_within(&sandbox, &host, &switch, None, timeout).await;
        if done {
            taken.expect("it is on");
            assert!(sandbox.0.clock().uptime().since_in_same_boot(&began) >= Some(LANDING_BOUND));
        } else {
            let Err(EffectFailure::Failed(error)) = taken else { panic!("it was refused: {taken:?}") };
            assert_eq!((error.code, error.side_effects), (Code::Conflict, SideEffects::None));
        }
    }
}

#[tokio::test]
async fn a_lost_request_for_what_a_look_calls_done_is_asked_again_and_waited_for() {
    let sandbox = slow_sandbox();
    let (host, switch) =
        (MemoryHost::default(), Switch { is_on: true.into(), ..Switch::answering(Answer::Lost) });
    let began = sandbox.0.clock().uptime();
    take_switch(&sandbox, &host, &switch).await.expect("it is on when nothing can come any more");
    assert_eq!(switch.asked.into_inner(), 2);
    assert!(sandbox.0.clock().uptime().since_in_same_boot(&began) >= Some(LANDING_BOUND));
}

/// Where it may land late, what went wrong here says nothing of what was sent before.
#[tokio::test]
async fn an_error_of_our_own_is_the_error_of_a_change_that_cannot_come_later() {
    for (sandbox, code) in [(sandbox(), Code::Internal), (slow_sandbox(), Code::Unavailable)] {
        let taken = take_switch(&sandbox, &MemoryHost::default(), &Switch::answering(Answer::Broken)).await;
        let Err(EffectFailure::Failed(error)) = taken else { panic!("it is not on: {taken:?}") };
        assert_eq!(
            (error.code, error.message.contains("switch.json")),
            (code, code == Code::Internal),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_quarantine_counts_from_when_a_lost_request_was_sent() {
    let (host, switch) = (MemoryHost::default(), Switch::answering(Answer::Lost));
    let told = || lock_unpoisoned(&switch.send_by).clone();
    take_switch(&slow_sandbox(), &host, &switch).await.expect_err("it is not on");
    let sent_by = host.quarantines.into_inner().expect("nobody panicked");
    let [(planned, _), (lost, _), ..] = sent_by.as_slice() else { panic!("{sent_by:?}") };
    assert_eq!(planned.since_in_same_boot(lost), Some(SENDING_TIME), "{sent_by:?}");
    assert!(told().is_some_and(|told| sent_by.iter().any(|(planned, _)| *planned == told)), "{:?}", told());
}

#[tokio::test]
async fn a_call_that_is_made_again_leaves_the_quarantine_of_its_first_attempt() {
    let sandbox = slow_sandbox();
    let open_since = Some(sandbox.0.clock().uptime());
    for (open_since, lifted) in [(open_since, 0), (None, 1)] {
        let host = MemoryHost { open_since, ..MemoryHost::default() };
        let switch = Switch::answering(Answer::Obeyed);
        take_switch(&sandbox, &host, &switch).await.expect("it is on");
        assert_eq!(host.lifted.into_inner(), lifted);
    }
}
