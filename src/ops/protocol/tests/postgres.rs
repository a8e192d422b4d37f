//! The protocol on a real server, behind a network that keeps what is sent.
//!
//! Whatever a call says of itself, what was kept is let through afterwards, and the server must still be as the call has
//! said.

use super::{MemoryHost, call_context, perform_operation_on};
use crate::{
    base::{call_time::with_call_time, clock::SystemClock, lock::lock_unpoisoned, moment::Span},
    ops::{
        evidence::Evidence,
        protocol::{EffectFailure, EffectResult},
        spec::CallContext,
    },
    provider::{
        Code, Error, Fleet, Provider, SideEffects,
        model::{BackupRequest, CallKey, JobStatus, RecoveryPoint, RecoveryTarget, RestoreRequest},
        postgres::lab,
    },
    testing::{Kept, TestLab, Tunnel},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, sync::Arc, time::Duration};

/// A lab behind a tunnel.
struct Behind {
    tunnel: Tunnel,
    fleet: Fleet,
    /// The lab without the tunnel, as others reach it.
    lab: Arc<dyn Provider>,
    test_lab: TestLab,
}

impl Behind {
    async fn start_lab() -> Option<Self> {
        let test_lab = TestLab::start_lab().await?;
        let (tunnel, config) = test_lab.open_tunnel().await;
        let fleet = Fleet::new(Arc::new(config), Arc::new(SystemClock));
        Some(Self { tunnel, fleet, lab: test_lab.open_target(), test_lab })
    }

    /// Takes a call of an operation up with what was recorded of it; returns what came of it, and what it recorded last.
    async fn take_call(&self, call: &Call) -> (EffectResult<Value>, Option<Evidence>) {
        let host = MemoryHost::default();
        let key = CallKey(call.key.into());
        let cx = CallContext {
            key: &key,
            settles_only: call.settles_only,
            ..call_context(&self.fleet, &host, call.recorded.clone())
        };
        let timeout = call.timeout;
        let options = json!({ "timeout": timeout.to_string() });
        let performed = perform_operation_on(TestLab::NAME, &cx, call.op, Some(call.given.clone()), options);
        let taken = with_call_time(timeout, performed).await;
        let last = lock_unpoisoned(&host.evidence).pop();
        (taken, last)
    }

    /// Takes a call up and lets its process die as soon as something is kept; returns what it had recorded.
    async fn die_at_what_is_kept(&self, call: &Call) -> Evidence {
        let host = MemoryHost::default();
        let key = CallKey(call.key.into());
        let cx = CallContext { key: &key, ..call_context(&self.fleet, &host, None) };
        tokio::select! {
            taken = perform_operation_on(TestLab::NAME, &cx, call.op, Some(call.given.clone()), json!({})) => {
                panic!("nothing was kept: {taken:?}")
            }
            () = self.tunnel.wait_until_kept() => {}
        }
        lock_unpoisoned(&host.evidence).pop().expect("it was recorded")
    }

    /// Returns what overrides `work_mem`, and what holds.
    async fn show_work_mem(&self) -> (Value, Value) {
        let settings = self.lab.settings().expect("settings");
        let shown = settings.get(&["work_mem".into()]).await.expect("it is shown").remove(0);
        (shown.overridden, shown.effective)
    }

    /// Takes the override of `work_mem` away, and returns when it does not hold any more.
    async fn reset_work_mem(&self) {
        for sql in ["alter system reset work_mem", "select pg_reload_conf()"] {
            self.run_statement(sql).await;
        }
        while self.show_work_mem().await != (Value::Null, json!("4MB")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Does what somebody else does in psql.
    async fn run_statement(&self, sql: &str) {
        let database = self.lab.sql().expect("SQL");
        database.execute_outside_transaction(sql, Span::from_secs(10)).await.expect(sql);
    }

    async fn make_backup(&self) {
        let backups = self.lab.backups().expect("backups");
        let job = backups.create(&BackupRequest::default(), &CallKey("BACKUP".into())).await;
        let job = job.expect("accepted");
        while !matches!(self.lab.poll_job(&job).await.expect("it goes on"), JobStatus::Done(_)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A call of an operation on the lab.
struct Call {
    op: &'static str,
    given: Value,
    key: &'static str,
    recorded: Option<Evidence>,
    settles_only: bool,
    timeout: Span,
}

impl Call {
    fn new(op: &'static str, given: Value) -> Self {
        Self { op, given, key: "k1", recorded: None, settles_only: false, timeout: Span::from_secs(600) }
    }

    fn set_work_mem(value: &str) -> Self {
        Self::new("db::config::set", json!({ "work_mem": value }))
    }

    fn mark(name: &str, key: &'static str) -> Self {
        Self { key, ..Self::new("backup::pitr::mark", name.into()) }
    }

    fn resumed_with(self, recorded: Evidence) -> Self {
        Self { recorded: Some(recorded), ..self }
    }

    fn within(self, timeout: Span) -> Self {
        Self { timeout, ..self }
    }

    fn only_settled(self) -> Self {
        Self { settles_only: true, ..self }
    }
}

/// Every place at which an override of a setting can be lost.
const PLACES: &[Kept] = &[
    Kept::Request("alter system"),
    Kept::Answer("alter system"),
    Kept::Request("pg_reload_conf"),
    Kept::Answer("pg_reload_conf"),
];

fn expect_failed(taken: EffectResult<Value>) -> Error {
    match taken {
        Err(EffectFailure::Failed(error)) => error,
        other => panic!("it fails for certain: {other:?}"),
    }
}

#[tokio::test]
async fn a_setting_that_did_not_happen_does_not_come_later() {
    let Some(behind) = Behind::start_lab().await else { return };
    behind.tunnel.lose(Kept::Request("alter system"), Kept::Nothing);
    let (taken, _) = behind.take_call(&Call::set_work_mem("8MB")).await;
    let error = expect_failed(taken);
    assert_eq!((error.code, error.side_effects), (Code::Unavailable, SideEffects::None), "{error:?}");
    assert!(error.message.contains("did not happen"), "{error}");
    behind.tunnel.release().await;
    behind.run_statement("select pg_reload_conf()").await;
    assert_eq!(behind.show_work_mem().await.0, Value::Null);
}

#[tokio::test]
async fn a_setting_of_a_process_that_died_does_not_undo_a_later_one() {
    let Some(behind) = Behind::start_lab().await else { return };
    behind.tunnel.lose(Kept::Request("alter system"), Kept::Nothing);
    behind.die_at_what_is_kept(&Call::set_work_mem("8MB")).await;
    // Nobody takes the first one up: another run sets the same.
    behind.take_call(&Call::set_work_mem("9MB")).await.0.expect("it is set");
    behind.tunnel.release().await;
    assert_eq!(behind.show_work_mem().await, (json!("9MB"), json!("9MB")));
}

#[tokio::test]
async fn a_restore_point_that_did_not_happen_does_not_come_later() {
    let Some(behind) = Behind::start_lab().await else { return };
    behind.make_backup().await;
    behind.tunnel.lose(Kept::Request("pg_create_restore_point"), Kept::Nothing);
    let (taken, _) = behind.take_call(&Call::mark("weekly", "MARK1")).await;
    let error = expect_failed(taken);
    assert!(error.message.contains("did not happen"), "{error:?}");
    behind.tunnel.release().await;
    // Had it come, its name would be taken.
    behind.take_call(&Call::mark("weekly", "MARK2")).await.0.expect("the name is free");
}

#[tokio::test]
async fn a_restore_point_of_a_process_that_died_does_not_come_beside_a_later_one() {
    let Some(behind) = Behind::start_lab().await else { return };
    behind.make_backup().await;
    behind.tunnel.lose(Kept::Request("pg_create_restore_point"), Kept::Nothing);
    behind.die_at_what_is_kept(&Call::mark("weekly", "MARK1")).await;
    behind.take_call(&Call::mark("weekly", "MARK2")).await.0.expect("the name is free");
    behind.tunnel.release().await;
    let to = RecoveryPoint { at: RecoveryTarget::Name("weekly".into()), inclusive: true, timeline: None };
    let request =
        RestoreRequest { backup: None, to, into: Some("weekly".into()), temporary: true, run: None };
    let backups = behind.lab.backups().expect("backups");
    let job = backups.restore(&request, &CallKey("BRANCH".into())).await.expect("one has the name");
    behind.lab.cancel(&job).await.expect("it is cancelled");
}

#[tokio::test]
async fn a_setting_that_is_lost_at_any_place_is_as_the_call_says() {
    let Some(behind) = Behind::start_lab().await else { return };
    for place in PLACES {
        behind.tunnel.lose(*place, Kept::Nothing);
        let (taken, _) = behind.take_call(&Call::set_work_mem("8MB")).await;
        let holds = match taken {
            Ok(_) => (json!("8MB"), json!("8MB")),
            taken => {
                assert_eq!(expect_failed(taken).side_effects, SideEffects::None, "{place:?}");
                (Value::Null, json!("4MB"))
            }
        };
        assert_eq!(behind.show_work_mem().await, holds, "{place:?}");
        behind.tunnel.release().await;
        assert_eq!(behind.show_work_mem().await, holds, "{place:?}");
        behind.reset_work_mem().await;
    }
}

#[tokio::test]
async fn a_setting_that_is_taken_up_after_any_place_holds() {
    let Some(behind) = Behind::start_lab().await else { return };
    for place in PLACES {
        behind.tunnel.lose(*place, Kept::Nothing);
        let recorded = behind.die_at_what_is_kept(&Call::set_work_mem("8MB")).await;
        let resumed = Call::set_work_mem("8MB").resumed_with(recorded);
        behind.take_call(&resumed).await.0.expect("it is set");
        assert_eq!(behind.show_work_mem().await, (json!("8MB"), json!("8MB")), "{place:?}");
        behind.tunnel.release().await;
        assert_eq!(behind.show_work_mem().await, (json!("8MB"), json!("8MB")), "{place:?}");
        behind.reset_work_mem().await;
    }
}

#[tokio::test]
async fn a_setting_that_is_only_settled_is_done_when_it_holds_and_nothing_is_asked() {
    let Some(behind) = Behind::start_lab().await else { return };
    for place in PLACES {
        behind.tunnel.lose(*place, Kept::Nothing);
        let recorded = behind.die_at_what_is_kept(&Call::set_work_mem("8MB")).await;
        let before = behind.show_work_mem().await;
        let settled = Call::set_work_mem("8MB").resumed_with(recorded).only_settled();
        match behind.take_call(&settled).await.0 {
            Ok(_) => assert_eq!(before, (json!("8MB"), json!("8MB")), "{place:?}"),
            taken => {
                let (error, is_stored) = (expect_failed(taken), before.0 != Value::Null);
                assert_eq!(error.side_effects == SideEffects::Some, is_stored, "{place:?} {error:?}");
                assert_eq!(error.code == Code::NotApplied, is_stored, "{place:?} {error:?}");
            }
        }
        behind.tunnel.release().await;
        assert_eq!(behind.show_work_mem().await.0, before.0, "{place:?}");
        behind.reset_work_mem().await;
    }
}

/// Somebody has written the override and not had it read.
#[tokio::test]
async fn a_setting_that_is_stored_already_and_does_not_hold_is_asked_for() {
    let Some(behind) = Behind::start_lab().await else { return };
    behind.run_statement("alter system set work_mem = '8MB'").await;
    assert_eq!(behind.show_work_mem().await, (json!("8MB"), json!("4MB")));
    behind.take_call(&Call::set_work_mem("8MB")).await.0.expect("it is set");
    assert_eq!(behind.show_work_mem().await, (json!("8MB"), json!("8MB")));
}

#[tokio::test]
async fn behind_a_pooler_nobody_knows_what_becomes_of_a_lost_request() {
    let Some(behind) = Behind::start_lab().await else { return };
    behind.make_backup().await;
    behind.tunnel.act_as_pooler();
    behind.take_call(&Call::set_work_mem("7MB")).await.0.expect("an answer is an answer");
    for (text, call) in [
        ("alter system", Call::set_work_mem("8MB")),
        ("pg_create_restore_point", Call::mark("weekly", "MARK1")),
    ] {
        behind.tunnel.lose(Kept::Request(text), Kept::Nothing);
        match behind.take_call(&call).await.0 {
            Err(EffectFailure::Undecided(why)) => assert!(why.contains("pooler"), "{why}"),
            taken => panic!("it still comes: {taken:?}"),
        }
        behind.tunnel.release().await;
    }
    assert_eq!(behind.show_work_mem().await.0, json!("8MB"), "it has come");
}

#[tokio::test]
async fn a_server_that_does_not_answer_keeps_no_call_beyond_its_time() {
    let Some(behind) = Behind::start_lab().await else { return };
    behind.tunnel.keep(Kept::Request("from pg_settings"));
    let call = Call::set_work_mem("8MB").within(Span::from_secs(2));
    let error = expect_failed(behind.take_call(&call).await.0);
    assert_eq!((error.code, error.side_effects), (Code::Timeout, SideEffects::None), "{error:?}");
    assert!(
        error.message.contains("within 2s") && error.message.contains("nothing was asked for"),
        "{error}"
    );
    behind.tunnel.release().await;
    // It can be looked at as little as it answers.
    behind.tunnel.lose(Kept::Request("alter system"), Kept::Everything);
    let taken = behind.take_call(&Call::set_work_mem("8MB")).await.0;
    assert!(matches!(&taken, Err(EffectFailure::Undecided(_))), "nobody can look: {taken:?}");
}

impl Behind {
    /// Returns a call that restores the only backup in place.
    async fn restore_call(&self) -> Call {
        let backup = self.lab.backups().expect("backups").list().await.expect("lists").remove(0);
        Call::new("backup::restore", backup.id.into())
    }

    fn lab_folder(&self) -> PathBuf {
        let status = lab::lab_status(&self.test_lab.state_folder()).expect("a status");
        status.folder.expect("the lab is there")
    }
}

/// An error of redrill's own files is no lost answer.
#[tokio::test]
async fn a_file_that_cannot_be_read_while_a_job_is_asked_for_is_named() {
    let Some(behind) = Behind::start_lab().await else { return };
    behind.make_backup().await;
    let lock = behind.lab_folder().join("data.restore-lock");
    fs::write(&lock, "{").expect("written");
    let error = expect_failed(behind.take_call(&behind.restore_call().await).await.0);
    assert_eq!((error.code, error.side_effects), (Code::Internal, SideEffects::None), "{error:?}");
    assert!(error.message.contains("data.restore-lock") && !error.message.contains("no answer"), "{error}");
    assert!(error.hint.expect("a hint").contains("remove"));
}

#[tokio::test]
async fn a_restore_whose_time_is_over_while_the_cluster_stops_says_that_it_was_stopped() {
    let Some(behind) = Behind::start_lab().await else { return };
    behind.make_backup().await;
    let held = behind.lab.sql().expect("SQL");
    let held = held.execute_uncommitted("select 1", Span::from_secs(30), &CallKey("HELD".into())).await;
    let held = held.expect("it runs");
    let pid = held.token()["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let pid = pid.expect("a process");
    let to = RecoveryPoint { at: RecoveryTarget::BackupEnd, inclusive: true, timeline: None };
    let request = RestoreRequest { backup: None, to, into: None, temporary: false, run: None };
    let asked = behind.lab.backups().expect("backups").restore(&request, &CallKey("k1".into())).await;
    let job = asked.expect("accepted");
    kill_process(pid, Signal::STOP).expect("it is held");
    loop {
        match behind.lab.poll_job(&job).await.expect("it goes on") {
            JobStatus::Running(progress) if progress.phase.starts_with("stopping") => break,
            JobStatus::Running(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            polled => panic!("it is over: {polled:?}"),
        }
    }
    let going_on = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        kill_process(pid, Signal::CONT).expect("it goes on");
    });
    let accepted = Evidence::Accepted { job };
    let call = behind.restore_call().await.resumed_with(accepted).within(Span::from_secs(1));
    let error = expect_failed(behind.take_call(&call).await.0);
    assert!(going_on.is_finished(), "{error:?}");
    assert_eq!((error.code, error.side_effects), (Code::Timeout, SideEffects::Some), "{error:?}");
    assert!(error.message.contains("was stopped, and is as it was before"), "{error}");
    assert_eq!(behind.show_work_mem().await.0, Value::Null, "it serves");
}
