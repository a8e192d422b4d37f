//! Settings that wait for a restart, and the restart: asked for once, whatever becomes of the answers.

use super::*;
use crate::ops::spec::ThingPart;

/// Longer than a lost change is looked for before it is asked for again.
const BOUND: Span = Span::from_secs(300);

/// A platform that does with its requests as it is told, and a host.
struct RestartEnv {
    fates: Fates,
    fleet: Fleet,
    provider: Arc<dyn Provider>,
}

impl RestartEnv {
    fn new(choose: fn(&[String], &str) -> RequestOutcome) -> Self {
        let fates = Fates::new(choose);
        let (fleet, provider) = faulty_sandbox(BOUND, fates.clone());
        Self { fates, fleet, provider }
    }

    /// Sets a setting and restarts what waits for that; a call that was begun is taken up with what was recorded.
    async fn set(
        &self,
        host: &MemoryHost,
        setting: Value,
        recorded: Option<Evidence>,
    ) -> EffectResult<Value> {
        self.take(&call_context(&self.fleet, host, recorded), setting).await
    }

    async fn take(&self, cx: &CallContext<'_>, setting: Value) -> EffectResult<Value> {
        perform_operation(cx, "db::config::set", Some(setting), json!({"restart": true, "timeout": "10m"}))
            .await
    }

    /// Returns how often the server was restarted, once nothing can land any more.
    async fn count_restarts(&self) -> Value {
        self.provider.let_time_pass(&*Arc::clone(self.fleet.clock()), BOUND).await;
        self.provider.settings().expect("settings").server_start().await.expect("it is up")
    }
}

fn connections() -> Value {
    json!({"max_connections": 120})
}

#[tokio::test]
async fn a_restart_is_asked_for_once_also_where_its_settings_were_asked_for_twice() {
    let env = RestartEnv::new(|sent, name| match name {
        "set" if !sent.iter().any(|sent| sent == "set") => RequestOutcome::LandsLate(Span::from_secs(150)),
        _ => RequestOutcome::Served,
    });
    let host = MemoryHost::default();
    let set = env.set(&host, connections(), None).await.expect("it is set");
    assert_eq!((&set[0]["before"], &set[0]["effective"]), (&Value::Null, &json!("120")));
    assert_eq!(set[0]["pending_restart"], false);
    assert_eq!((env.fates.count("set"), env.fates.count("restart")), (2, 1));
    assert_eq!(env.count_restarts().await, 1);
    let whole = Thing { place: SANDBOX.into(), part: ThingPart::Whole };
    assert_eq!(*lock_unpoisoned(&host.kept), [whole], "everything there waits for it");
}

#[tokio::test]
async fn a_restart_that_got_no_answer_is_looked_for_and_not_asked_for_again() {
    let env = RestartEnv::new(|_, name| match name {
        "restart" => RequestOutcome::LandsLate(Span::from_secs(200)),
        _ => RequestOutcome::Served,
    });
    let set = env.set(&MemoryHost::default(), connections(), None).await.expect("it is restarted");
    assert_eq!((&set[0]["pending_restart"], env.fates.count("restart")), (&json!(false), 1));
    assert_eq!(env.count_restarts().await, 1);
}

#[tokio::test]
async fn a_restart_that_did_not_come_leaves_its_settings_and_says_so() {
    let env = RestartEnv::new(|_, name| match name {
        "restart" => RequestOutcome::Lost,
        _ => RequestOutcome::Served,
    });
    let taken = env.set(&MemoryHost::default(), connections(), None).await;
    let Err(EffectFailure::Failed(error)) = taken else { panic!("it did not come: {taken:?}") };
    assert!(
        error.message.starts_with("the settings are set; the restart of the server was asked for"),
        "{error}"
    );
    assert_eq!((error.side_effects, env.fates.count("restart")), (SideEffects::Some, 1));
}

#[tokio::test]
async fn a_restart_that_was_begun_is_taken_up_by_a_look_that_lags_and_not_asked_for_again() {
    let env = RestartEnv::new(|_, name| match name {
        "restart" => RequestOutcome::StaleReads(Span::from_secs(60)),
        _ => RequestOutcome::Served,
    });
    let host = MemoryHost::default();
    env.set(&host, connections(), None).await.expect("it is set");
    let recorded = lock_unpoisoned(&host.evidence).pop();
    assert!(matches!(recorded, Some(Evidence::Make { .. })), "{recorded:?}");
    let again = RestartEnv::new(|_, name| match name {
        "restart" => RequestOutcome::StaleReads(Span::from_secs(60)),
        _ => RequestOutcome::Served,
    });
    again
        .provider
        .settings()
        .expect("settings")
        .set(connections().as_object().expect("a map"))
        .await
        .expect("set");
    again
        .provider
        .settings()
        .expect("settings")
        .restart()
        .await
        .expect("answered, and its process was killed");
    let set = again.set(&MemoryHost::default(), connections(), recorded).await.expect("it is restarted");
    assert_eq!((&set[0]["before"], &set[0]["pending_restart"]), (&Value::Null, &json!(false)));
    assert_eq!((again.fates.count("restart"), again.count_restarts().await), (1, json!(1)));
}

#[tokio::test]
async fn a_restart_is_asked_for_only_while_something_waits_for_it() {
    let env = RestartEnv::new(|_, _| RequestOutcome::Served);
    env.set(&MemoryHost::default(), json!({"work_mem": "8MB"}), None).await.expect("it holds at once");
    assert_eq!(env.fates.count("restart"), 0);
    for wanted in [1, 1] {
        env.set(&MemoryHost::default(), connections(), None).await.expect("it is set");
        assert_eq!(env.fates.count("restart"), wanted);
    }
}

#[tokio::test]
async fn a_run_that_is_given_up_between_the_settings_and_their_restart_asks_for_none() {
    let env = RestartEnv::new(|_, _| RequestOutcome::Served);
    let set = env.provider.settings().expect("settings");
    set.set(connections().as_object().expect("a map")).await.expect("answered, and its process was killed");
    let change = ElementChange { before: Value::Null, wanted: json!("120") };
    let changes = [("max_connections".to_owned(), change)].into();
    let recorded = Some(Evidence::Set { changes, sent_by: env.fleet.clock().uptime() });
    let host = MemoryHost::default();
    let cx = CallContext { settles_only: true, ..call_context(&env.fleet, &host, recorded.clone()) };
    let Err(EffectFailure::Failed(error)) = env.take(&cx, connections()).await else {
        panic!("it is given up")
    };
    assert_eq!((error.side_effects, env.fates.count("restart")), (SideEffects::Some, 0));
    assert!(error.message.contains("the restart of the server was not asked for"), "{error}");
    env.set(&host, connections(), recorded).await.expect("a resume goes on with it");
    assert_eq!(env.count_restarts().await, 1);
}
