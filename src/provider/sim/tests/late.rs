//! Requests that land late, are answered too early, are not seen for a while, or are done in part.

use super::*;
use crate::{
    base::clock::VirtualClock,
    provider::{
        model::NetworkRestrictions,
        sim::{
            COLLEAGUE_RANGE, COLLEAGUE_SETTING, ColleagueTurn,
            faults::{FaultSource, FaultySim, LANDING_BOUND, RequestOutcome, SimRequest},
        },
    },
};
use serde_json::Map;

/// Gives the first request of a name one outcome, and notes what changed the world late, or under no key.
struct OneFault {
    name: &'static str,
    outcome: Mutex<Option<RequestOutcome>>,
    noted: Mutex<Vec<String>>,
}

impl FaultSource for OneFault {
    fn choose_outcome(&self, request: &SimRequest<'_>) -> RequestOutcome {
        let mut outcome = self.outcome.lock().expect("whole");
        if request.name == self.name { outcome.take() } else { None }.unwrap_or(RequestOutcome::Served)
    }

    fn keeps_old_worlds(&self) -> bool {
        true
    }

    fn on_served(&self, _: &SimRequest<'_>) {}

    fn current_sender(&self) -> String {
        "a call".into()
    }

    fn on_keyless_effect(&self, sender: &str, name: &str) {
        self.noted.lock().expect("whole").push(format!("{name} of {sender}, without a key"));
    }

    fn on_late_effect(&self, sender: &str) {
        self.noted.lock().expect("whole").push(format!("{sender}, late"));
    }
}

/// A sandbox in which one request has one outcome.
struct LateEnv {
    sim: FaultySim,
    clock: Arc<VirtualClock>,
    faults: Arc<OneFault>,
}

impl LateEnv {
    fn new(name: &'static str, outcome: RequestOutcome) -> Self {
        let clock = Arc::new(VirtualClock::starting_at(start_moment()));
        let sim = Sim::in_memory("shop", SANDBOX, "test", Arc::clone(&clock) as _);
        let (outcome, noted) = (Mutex::new(Some(outcome)), Mutex::default());
        let faults = Arc::new(OneFault { name, outcome, noted });
        let sim = FaultySim::new(sim.expect("a world"), Arc::clone(&faults) as _, Arc::clone(&clock) as _);
        Self { sim, clock, faults }
    }

    async fn is_enforced(&self) -> bool {
        self.sim.network().expect("network").ssl().await.expect("answered").enforced
    }

    fn noted_effects(&self) -> Vec<String> {
        self.faults.noted.lock().expect("whole").clone()
    }
}

const LATER: Span = Span::from_secs(40);

#[tokio::test]
async fn a_request_that_lands_late_overwrites_what_came_between() {
    let env = LateEnv::new("enforce", RequestOutcome::LandsLate(LATER));
    let network = env.sim.network().expect("network");
    let lost = network.set_ssl_enforcement(true).await.expect_err("no answer");
    assert_eq!(lost.code, Code::Unknown);
    assert!(!env.is_enforced().await && env.sim.has_pending_requests());
    assert!(!network.set_ssl_enforcement(false).await.expect("answered").enforced);
    env.clock.advance_by(Span::from_secs(10));
    assert!(env.is_enforced().await);
    assert_eq!(env.noted_effects(), ["a call, late", "enforce of a call, without a key"]);
    assert!(!env.sim.has_pending_requests());
}

#[tokio::test]
async fn a_read_that_lags_behind_shows_no_world_in_which_a_request_was_not_shown_for_longer_than_the_bound() {
    for (changes, later, shown) in [(1, 0, true), (2, 0, false), (2, 45, true), (2, 60, false)] {
        let env = LateEnv::new("ssl", RequestOutcome::LagsBehind(changes));
        let network = env.sim.network().expect("network");
        network.set_ssl_enforcement(true).await.expect("answered");
        env.clock.advance_by(Span::from_secs(20));
        network.set_ssl_enforcement(false).await.expect("answered");
        env.clock.advance_by(Span::from_secs(later));
        assert_eq!(env.is_enforced().await, shown, "{changes} changes, {later} seconds later");
        assert!(!env.is_enforced().await, "the next read is as it should be");
    }
}

#[tokio::test]
async fn no_request_lands_after_the_bound() {
    let env = LateEnv::new("enforce", RequestOutcome::LandsLate(Span::from_secs(3600)));
    env.sim.network().expect("network").set_ssl_enforcement(true).await.expect_err("no answer");
    env.clock.advance_by(LANDING_BOUND);
    assert!(env.is_enforced().await);
}

#[tokio::test]
async fn a_request_with_a_key_is_under_way_until_it_lands_and_acts_once() {
    let env = LateEnv::new("create", RequestOutcome::LandsLate(LATER));
    let backups = env.sim.backups().expect("backups");
    let request = BackupRequest { label: Some("drill".into()) };
    backups.create(&request, &call_key("k1")).await.expect_err("no answer");
    assert_eq!(env.sim.find_job(&call_key("k1"), None).await.expect("answered"), None);
    let again = backups.create(&request, &call_key("k1")).await.expect("accepted");
    env.clock.advance_by(LANDING_BOUND);
    assert_eq!(env.sim.find_job(&call_key("k1"), None).await.expect("answered"), Some(again));
    let drills = backups.list().await.expect("a list").into_iter().filter(|b| b.label == request.label);
    assert_eq!(drills.count(), 1);
    assert!(env.noted_effects().is_empty(), "what landed second did nothing");
}

#[tokio::test]
async fn a_statement_has_run_before_its_commit_is_lost_and_commits_late() {
    let env = LateEnv::new("execute", RequestOutcome::LandsLate(LATER));
    let lost = execute_sql(&env.sim, "update orders set status = 'lost' where id <= 3", "k1").await;
    assert_eq!(lost.expect_err("no answer").code, Code::Unknown);
    let sql = env.sim.sql().expect("sql");
    let settle = async || sql.find_commit_state(&call_key("k1"), &Value::Null).await.expect("answered");
    assert_eq!(settle().await, CommitState::NotCommitted, "not yet");
    env.clock.advance_by(LANDING_BOUND);
    assert_eq!(settle().await, CommitState::Committed(SqlOutcome { rows_affected: 3 }));
    let env = LateEnv::new("execute", RequestOutcome::LandsLate(LATER));
    let refused = execute_sql(&env.sim, "update nothing set a = 1", "k2").await.expect_err("refused");
    assert_ne!(refused.code, Code::Unknown);
    assert!(!env.sim.has_pending_requests());
}

#[tokio::test]
async fn an_early_answer_is_that_of_success_and_its_effect_comes_later() {
    let env = LateEnv::new("restore", RequestOutcome::AnsweredEarly(LATER));
    let backups = env.sim.backups().expect("backups");
    let request = branch_restore_request(RecoveryTarget::Latest);
    let job = backups.restore(&request, &call_key("k1")).await.expect("accepted");
    assert_eq!(env.sim.poll_job(&job).await.expect_err("not there yet").code, Code::NotFound);
    env.clock.advance_by(LATER);
    assert!(matches!(env.sim.poll_job(&job).await.expect("there"), JobStatus::Running(_)));
}

#[tokio::test]
async fn reads_show_the_old_world_for_a_while_and_what_is_done_in_it_is_done() {
    let env = LateEnv::new("enforce", RequestOutcome::StaleReads(LATER));
    let network = env.sim.network().expect("network");
    assert!(network.set_ssl_enforcement(true).await.expect("answered").enforced);
    assert!(!env.is_enforced().await);
    network.unban(&["203.0.113.66".parse().expect("an address")]).await.expect("done");
    assert!(!network.bans().await.expect("a list").is_empty());
    env.clock.advance_by(LATER);
    assert!(env.is_enforced().await);
    assert!(
        !network.bans().await.expect("a list").iter().any(|ban| ban.address.to_string() == "203.0.113.66")
    );
}

#[tokio::test]
async fn what_takes_several_things_is_done_in_part() {
    let env = LateEnv::new("set", RequestOutcome::PartlyDone);
    let settings = env.sim.settings().expect("settings");
    let wanted = json!({ "maintenance_work_mem": "96MB", "work_mem": "8MB" });
    let wanted = wanted.as_object().expect("an object");
    settings.set(wanted).await.expect("answered");
    let changed = settings.get(&[]).await.expect("a list");
    let changed: Vec<&str> = changed
        .iter()
        .filter(|s| wanted.get(&s.name) == Some(&s.overridden))
        .map(|s| s.name.as_str())
        .collect();
    assert_eq!(changed, ["maintenance_work_mem"]);

    let env = LateEnv::new("allow", RequestOutcome::PartlyDone);
    let network = env.sim.network().expect("network");
    let net = |text: &str| text.parse().expect("a range");
    let before = network.allowed_ranges().await.expect("a list").ranges;
    let gone: Vec<_> = before.iter().map(|range| range.cidr).collect();
    network.change_ranges(&[net("192.0.2.0/24")], &gone).await.expect("answered");
    let after: Vec<_> =
        network.allowed_ranges().await.expect("a list").ranges.iter().map(|range| range.cidr).collect();
    assert!(
        after.contains(&net("192.0.2.0/24")) && gone.iter().all(|range| after.contains(range)),
        "{after:?}"
    );
}

#[tokio::test]
async fn a_request_that_is_held_back_goes_out_late_and_lands_at_the_bound() {
    let held_back = Span::from_secs(170);
    let env = LateEnv::new("enforce", RequestOutcome::SentLate(held_back));
    let lost = env.sim.network().expect("network").set_ssl_enforcement(true).await.expect_err("no answer");
    assert_eq!(lost.code, Code::Unknown);
    let passed = env.clock.now().duration_since(start_moment());
    assert!(passed > held_back && !env.is_enforced().await, "{passed}");
    env.clock.advance_by(Span(held_back.0.saturating_add(LANDING_BOUND.0).saturating_sub(passed.0)));
    assert!(env.is_enforced().await);
    assert_eq!(env.noted_effects(), ["a call, late", "enforce of a call, without a key"]);
}

#[tokio::test]
async fn a_colleague_changes_another_element_under_a_kind_of_its_own() {
    for turn in [ColleagueTurn::Before, ColleagueTurn::After] {
        let env = LateEnv::new("allow", RequestOutcome::BesideColleague(turn));
        let network = env.sim.network().expect("network");
        let ours = "203.0.113.0/24".parse().expect("a range");
        let answer = network.change_ranges(&[ours], &[]).await.expect("answered");
        let shows = |ranges: &NetworkRestrictions| {
            ranges.ranges.iter().any(|range| range.cidr.to_string() == COLLEAGUE_RANGE)
        };
        assert_eq!(shows(&answer), turn == ColleagueTurn::Before);
        assert!(shows(&network.allowed_ranges().await.expect("a list")));
        assert_eq!(env.noted_effects(), ["allow of a call, without a key"], "the colleague is nobody's call");
    }
    let env = LateEnv::new("set", RequestOutcome::BesideColleague(ColleagueTurn::After));
    let settings = env.sim.settings().expect("settings");
    let ours = Map::from_iter([("work_mem".to_owned(), "8MB".into())]);
    settings.set(&ours).await.expect("answered");
    let (name, value) = COLLEAGUE_SETTING;
    let seen = settings.get(&[name.to_owned()]).await.expect("answered").remove(0);
    assert_eq!(seen.overridden, value);
}
