use super::*;

#[tokio::test]
async fn a_branch_has_the_rows_of_its_moment_and_cannot_reach_its_source() {
    let sim = sim_in_memory(LEDGER);
    let copy = restore_branch(&sim, &branch_restore_request(RecoveryTarget::Time(minutes_ago(20))), "k1")
        .await
        .expect("the branch comes");
    assert_eq!(entry_ids(&*copy).await, [1, 2]);
    execute_sql(&*copy, "delete from entries", "k2").await.expect("it runs");
    execute_sql(&sim, "insert into entries values (4, 40)", "k3").await.expect("it runs");
    assert_eq!(entry_ids(&*copy).await, [0_i64; 0]);
    assert_eq!(entry_ids(&sim).await, [1, 2, 3, 4]);

    let branches = sim.branches().expect("branches");
    let listed = branches.get("drill").await.expect("it is there");
    assert_eq!(
        (listed.backup.as_deref(), listed.reached, listed.temporary),
        (Some("first"), Some(minutes_ago(30)), true)
    );
    let taken = sim
        .backups()
        .expect("backups")
        .restore(&branch_restore_request(RecoveryTarget::Latest), &call_key("k4"))
        .await;
    assert_eq!(taken.expect_err("the name is taken").code, Code::Conflict);
    branches.delete("drill", "branch-other").await.expect("another one's id is nobody's");
    assert_eq!(branches.list().await.expect("a list").len(), 1);
    branches.delete("drill", &listed.id).await.expect("it goes");
    branches.delete("drill", &listed.id).await.expect("what is gone is gone");
    assert_eq!(entry_ids(&sim).await, [1, 2, 3, 4]);
    let gone = copy.sql().expect("sql").query("select 1", Span::from_secs(5)).await;
    assert_eq!(gone.expect_err("the branch is gone").code, Code::NotFound);
}

#[tokio::test]
async fn every_kind_of_target_stops_where_it_says() {
    let sim = sim_in_memory(LEDGER);
    execute_sql(&sim, "insert into entries values (4, 40)", "k1").await.expect("it runs");
    let mark = sim
        .backups()
        .expect("backups")
        .create_restore_point("before-five", &call_key("k2"))
        .await
        .expect("it is made");
    execute_sql(&sim, "insert into entries values (5, 50)", "k3").await.expect("it runs");
    execute_sql(&sim, "truncate table entries", "k4").await.expect("it runs");
    let query = TableEventQuery {
        table: Some("entries".into()),
        event: Some("truncate".into()),
        since: None,
        until: None,
    };
    let event = sim.backups().expect("backups").table_events(&query).await.expect("events").remove(0);
    let cases: [(RecoveryTarget, bool, &[i64]); 8] = [
        (RecoveryTarget::Name("before-five".into()), true, &[1, 2, 3, 4]),
        (RecoveryTarget::Lsn(mark.lsn.clone().expect("a place")), true, &[1, 2, 3, 4]),
        (RecoveryTarget::Xid(event.xid.clone()), true, &[]),
        (RecoveryTarget::Xid(event.xid.clone()), false, &[1, 2, 3, 4, 5]),
        (RecoveryTarget::Lsn(event.lsn.clone()), false, &[1, 2, 3, 4, 5]),
        (RecoveryTarget::Time(minutes_ago(10)), true, &[1, 2, 3]),
        (RecoveryTarget::Time(minutes_ago(10)), false, &[1, 2]),
        (RecoveryTarget::BackupEnd, true, &[1]),
    ];
    for (n, (at, inclusive, expected)) in cases.into_iter().enumerate() {
        let point = RecoveryPoint { at: at.clone(), inclusive, timeline: None };
        let request = RestoreRequest {
            to: point,
            into: Some(format!("b{n}")),
            ..branch_restore_request(RecoveryTarget::Latest)
        };
        let copy = restore_branch(&sim, &request, &format!("b{n}")).await.expect("the branch comes");
        assert_eq!(entry_ids(&*copy).await, expected, "{at:?} inclusive: {inclusive}");
    }
    assert_eq!(
        sim.backups().expect("backups").find_restore_point("before-five", &call_key("k2")).await,
        Ok(Some(mark))
    );
    assert_eq!(
        sim.backups().expect("backups").find_restore_point("before-five", &call_key("k9")).await,
        Ok(None)
    );
}

#[tokio::test]
async fn what_cannot_be_restored_is_refused_before_anything_changes() {
    let sim = sim_in_memory(LEDGER);
    let named = |name: &str| RestoreRequest {
        into: Some(name.into()),
        ..branch_restore_request(RecoveryTarget::Latest)
    };
    let cases = [
        (branch_restore_request(RecoveryTarget::Time(minutes_ago(90))), Code::TargetBeforeWindow),
        (branch_restore_request(RecoveryTarget::Time(minutes_ago(-1))), Code::TargetAfterWindow),
        (branch_restore_request(RecoveryTarget::Lsn("FF/0".into())), Code::TargetAfterWindow),
        (branch_restore_request(RecoveryTarget::Lsn("0/10".into())), Code::TargetBeforeWindow),
        (branch_restore_request(RecoveryTarget::Lsn("nonsense".into())), Code::Invalid),
        (branch_restore_request(RecoveryTarget::Xid("0".into())), Code::NotFound),
        (branch_restore_request(RecoveryTarget::Xid("x".into())), Code::Invalid),
        (branch_restore_request(RecoveryTarget::Name("nowhere".into())), Code::NotFound),
        (
            RestoreRequest { backup: Some("frist".into()), ..branch_restore_request(RecoveryTarget::Latest) },
            Code::NotFound,
        ),
        (named(""), Code::Invalid),
        (named("a/b"), Code::Invalid),
        (named("Drill"), Code::Invalid),
        (named(&"x".repeat(41)), Code::Invalid),
    ];
    for (request, code) in cases {
        let error = sim
            .backups()
            .expect("backups")
            .restore(&request, &call_key("k"))
            .await
            .expect_err("it is refused");
        assert_eq!(error.code, code, "{request:?}: {error:?}");
        assert!(error.hint.is_some(), "{error:?}");
    }
    let early = sim
        .backups()
        .expect("backups")
        .restore(&branch_restore_request(RecoveryTarget::Time(minutes_ago(90))), &call_key("k"))
        .await;
    let hint = early.expect_err("it is refused").hint;
    assert_eq!(
        hint.as_deref(),
        Some("the window goes from `2026-11-20T11:00:00Z` to `2026-11-20T12:00:00Z`")
    );
    assert_eq!(sim.effect_log().expect("the log"), []);
    assert_eq!(sim.branches().expect("branches").list().await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_restore_in_place_keeps_the_old_timeline() {
    let sim = sim_in_memory(LEDGER);
    let backups = sim.backups().expect("backups");
    let old_end = backups.recovery_window().await.expect("a window").latest_lsn.expect("it has an end");
    let job = backups
        .restore(&in_place_restore_request(RecoveryTarget::Time(minutes_ago(20))), &call_key("k1"))
        .await
        .expect("it is accepted");
    let during = sim.sql().expect("sql").query("select 1", Span::from_secs(5)).await;
    assert_eq!(during.expect_err("it is being restored").code, Code::Unavailable);
    assert!(!sim.sql().expect("sql").health().await.expect("it is known").ok);
    let other = backups.restore(&in_place_restore_request(RecoveryTarget::Latest), &call_key("k2")).await;
    assert_eq!(other.expect_err("one at a time").code, Code::Conflict);
    let (value, looks) = wait_for_job(&sim, &job).await.expect("it is done");
    assert_eq!(looks, 18, "three hours in steps of ten minutes");
    let restored: RestoreOutcome = serde_json::from_value(value).expect("a restore");
    assert_eq!(
        (restored.timeline, restored.kept.as_deref(), restored.reached),
        (Some(2), Some("timeline 1"), Some(minutes_ago(30)))
    );
    assert_eq!(entry_ids(&sim).await, [1, 2]);
    execute_sql(&sim, "insert into entries values (9, 90)", "k3").await.expect("it runs");
    assert_eq!(backups.recovery_window().await.expect("a window").timelines, [1, 2]);

    // The rows that the restore took away are still there on the timeline before.
    let before = RecoveryPoint { at: RecoveryTarget::Time(minutes_ago(5)), inclusive: true, timeline: None };
    let copy = restore_branch(
        &sim,
        &RestoreRequest { to: before.clone(), ..branch_restore_request(RecoveryTarget::Latest) },
        "k4",
    )
    .await
    .expect("it comes");
    assert_eq!(entry_ids(&*copy).await, [1, 2, 3]);
    let request =
        RestoreRequest { into: Some("lsn".into()), ..branch_restore_request(RecoveryTarget::Lsn(old_end)) };
    assert_eq!(entry_ids(&*restore_branch(&sim, &request, "k6").await.expect("it comes")).await, [1, 2, 3]);
    let second = RecoveryPoint { timeline: Some(2), ..before };
    let request = RestoreRequest {
        to: second,
        into: Some("two".into()),
        ..branch_restore_request(RecoveryTarget::Latest)
    };
    assert_eq!(entry_ids(&*restore_branch(&sim, &request, "k5").await.expect("it comes")).await, [1, 2]);
    assert_eq!(entry_ids(&sim).await, [1, 2, 9]);
    let log_end = backups.recovery_window().await.expect("a window").latest_lsn.expect("it has an end");
    for (name, at) in [
        ("three", RecoveryTarget::Time(minutes_ago(-185))),
        ("four", RecoveryTarget::Lsn(log_end)),
        ("five", RecoveryTarget::Latest),
    ] {
        let request = RestoreRequest { into: Some(name.into()), ..branch_restore_request(at) };
        assert_eq!(
            entry_ids(&*restore_branch(&sim, &request, name).await.expect("it comes")).await,
            [1, 2, 9],
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_backup_and_a_restore_in_place_exclude_each_other() {
    let sim = sim_in_memory(LEDGER);
    let backups = sim.backups().expect("backups");
    let backup = backups.create(&BackupRequest::default(), &call_key("k1")).await.expect("it is accepted");
    let early = backups
        .restore(&in_place_restore_request(RecoveryTarget::Latest), &call_key("k2"))
        .await
        .expect_err("a backup is being made");
    assert_eq!((early.code, early.retryable), (Code::Conflict, true));
    wait_for_job(&sim, &backup).await.expect("it is done");
    backups
        .restore(&in_place_restore_request(RecoveryTarget::Latest), &call_key("k3"))
        .await
        .expect("it is accepted");
    let during =
        backups.create(&BackupRequest::default(), &call_key("k4")).await.expect_err("it is being restored");
    assert_eq!(during.code, Code::Conflict);
    assert_eq!(sim.effect_log().expect("the log").len(), 2);
}

#[tokio::test]
async fn a_wall_clock_that_goes_back_does_not_turn_history_round() {
    let clock = Arc::new(FrozenClock(Mutex::new(start_moment())));
    let sim =
        Sim::in_memory("ledger", LEDGER, "test", Arc::clone(&clock) as Arc<dyn Clock>).expect("it is good");
    sim.let_time_pass(&*frozen_clock(), Span::from_secs(600)).await;
    execute_sql(&sim, "insert into entries values (4, 40)", "k1").await.expect("it runs");
    *clock.0.lock().expect("the clock") = minutes_ago(30);
    execute_sql(&sim, "truncate entries", "k2").await.expect("it runs");
    let query = TableEventQuery { table: None, event: None, since: None, until: None };
    let events = sim.backups().expect("backups").table_events(&query).await.expect("events");
    assert_eq!(events[0].time, minutes_ago(-10), "no earlier than the statement before it");
    assert_eq!(
        sim.backups().expect("backups").recovery_window().await.expect("a window").latest,
        Some(start_moment())
    );
}

/// What the rows must be after each of these, by a model that knows no SQL.
#[derive(Debug, Clone)]
enum RowChange {
    Insert(i64),
    Delete(i64),
    Empty,
}

fn acts() -> impl Strategy<Value = Vec<RowChange>> {
    let act = prop_oneof![
        6 => (0_i64..20).prop_map(RowChange::Insert),
        3 => (0_i64..20).prop_map(RowChange::Delete),
        1 => Just(RowChange::Empty),
    ];
    proptest::collection::vec(act, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restore_has_exactly_the_rows_of_its_moment(acts in acts(), picked in any::<prop::sample::Index>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let sim = sim_in_memory(LEDGER);
            let mut rows = std::collections::BTreeSet::from([1, 2, 3]);
            let mut moments = vec![(start_moment(), rows.clone())];
            for (n, act) in (1..).zip(&acts) {
                sim.let_time_pass(&*frozen_clock(), Span::from_secs(60)).await;
                let sql = match act {
                    RowChange::Insert(id) => { rows.insert(*id); format!("insert or ignore into entries values ({id}, 1)") }
                    RowChange::Delete(id) => { rows.remove(id); format!("delete from entries where id = {id}") }
                    RowChange::Empty => { rows.clear(); "truncate entries".into() }
                };
                execute_sql(&sim, &sql, &format!("a{n}")).await.expect("it runs");
                moments.push((start_moment().saturating_add(Span::from_secs(60 * n)), rows.clone()));
            }
            let (moment, expected) = &moments[picked.index(moments.len())];
            let copy = restore_branch(&sim, &branch_restore_request(RecoveryTarget::Time(*moment)), "k").await.expect("the branch comes");
            assert_eq!(entry_ids(&*copy).await, expected.iter().copied().collect::<Vec<_>>(), "at {moment}");
            assert_eq!(entry_ids(&sim).await, rows.iter().copied().collect::<Vec<_>>());
        });
    }
}

#[tokio::test]
async fn restore_points_are_held_to_the_contract() {
    let sim = sim_in_memory("title = \"bare\"");
    let target = HeldTarget { name: "ledger", provider: &sim, pause: Span::from_secs(600) };
    target.hold_contract().await;
}

/// A name is free again when no backup leads to the restore point that had it.
#[tokio::test]
async fn a_name_is_taken_while_a_backup_leads_to_it() {
    let sim = sim_in_memory(LEDGER);
    let backups = sim.backups().expect("backups");
    let old = backups.create_restore_point("weekly", &call_key("k1")).await.expect("it is made");
    assert_eq!(
        backups.create_restore_point("weekly", &call_key("k2")).await.expect_err("it is taken").code,
        Code::Conflict
    );
    let plan = backups.plan_delete("first").await.expect("a plan");
    backups.delete(&plan, &call_key("k3")).await.expect("it goes");
    let new = backups.create_restore_point("weekly", &call_key("k4")).await.expect("it is free");
    assert_ne!(old.lsn, new.lsn);
    assert_eq!(backups.find_restore_point("weekly", &call_key("k1")).await, Ok(None));
    assert_eq!(backups.find_restore_point("weekly", &call_key("k4")).await, Ok(Some(new)));
}
