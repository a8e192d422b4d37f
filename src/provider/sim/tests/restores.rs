use super::*;

#[tokio::test]
async fn a_branch_has_the_rows_of_its_moment_and_cannot_reach_its_source() {
    let sim = memory(LEDGER);
    let copy = branch(&sim, &to(At::Time(ago(20))), "k1").await.expect("the branch comes");
    assert_eq!(ids(&*copy).await, [1, 2]);
    execute(&*copy, "delete from entries", "k2").await.expect("it runs");
    execute(&sim, "insert into entries values (4, 40)", "k3").await.expect("it runs");
    assert_eq!(ids(&*copy).await, [0_i64; 0]);
    assert_eq!(ids(&sim).await, [1, 2, 3, 4]);

    let branches = sim.branches().expect("branches");
    let listed = branches.get("drill").await.expect("it is there");
    assert_eq!(
        (listed.backup.as_deref(), listed.reached, listed.temporary),
        (Some("first"), Some(ago(30)), true)
    );
    let taken = sim.backups().expect("backups").restore(&to(At::Latest), &key("k4"), &Unwritten).await;
    assert_eq!(taken.expect_err("the name is taken").code, Code::Conflict);
    branches.delete("drill", "branch-other").await.expect("another one's id is nobody's");
    assert_eq!(branches.list().await.expect("a list").len(), 1);
    branches.delete("drill", &listed.id).await.expect("it goes");
    branches.delete("drill", &listed.id).await.expect("what is gone is gone");
    assert_eq!(ids(&sim).await, [1, 2, 3, 4]);
    let gone = copy.sql().expect("sql").query("select 1", Span::seconds(5)).await;
    assert_eq!(gone.expect_err("the branch is gone").code, Code::NotFound);
}

#[tokio::test]
async fn every_kind_of_target_stops_where_it_says() {
    let sim = memory(LEDGER);
    execute(&sim, "insert into entries values (4, 40)", "k1").await.expect("it runs");
    let mark = sim.backups().expect("backups").mark("before-five", &key("k2")).await.expect("it is made");
    execute(&sim, "insert into entries values (5, 50)", "k3").await.expect("it runs");
    execute(&sim, "truncate table entries", "k4").await.expect("it runs");
    let query = EventQuery {
        table: Some("entries".into()),
        event: Some("truncate".into()),
        since: None,
        until: None,
    };
    let event = sim.backups().expect("backups").events(&query).await.expect("events").remove(0);
    let cases: [(At, bool, &[i64]); 8] = [
        (At::Name("before-five".into()), true, &[1, 2, 3, 4]),
        (At::Lsn(mark.lsn.clone()), true, &[1, 2, 3, 4]),
        (At::Xid(event.xid.clone()), true, &[]),
        (At::Xid(event.xid.clone()), false, &[1, 2, 3, 4, 5]),
        (At::Lsn(event.lsn.clone()), false, &[1, 2, 3, 4, 5]),
        (At::Time(ago(10)), true, &[1, 2, 3]),
        (At::Time(ago(10)), false, &[1, 2]),
        (At::BackupEnd, true, &[1]),
    ];
    for (n, (at, inclusive, expected)) in cases.into_iter().enumerate() {
        let point = RecoveryPoint { at: at.clone(), inclusive, timeline: None };
        let request = RestoreRequest { to: point, into: Some(format!("b{n}")), ..to(At::Latest) };
        let copy = branch(&sim, &request, &format!("b{n}")).await.expect("the branch comes");
        assert_eq!(ids(&*copy).await, expected, "{at:?} inclusive: {inclusive}");
    }
    assert_eq!(sim.backups().expect("backups").find_mark("before-five", &key("k2")).await, Ok(Some(mark)));
    assert_eq!(sim.backups().expect("backups").find_mark("before-five", &key("k9")).await, Ok(None));
}

#[tokio::test]
async fn what_cannot_be_restored_is_refused_before_anything_changes() {
    let sim = memory(LEDGER);
    let named = |name: &str| RestoreRequest { into: Some(name.into()), ..to(At::Latest) };
    let cases = [
        (to(At::Time(ago(90))), Code::TargetBeforeWindow),
        (to(At::Time(ago(-1))), Code::TargetAfterWindow),
        (to(At::Lsn("FF/0".into())), Code::TargetAfterWindow),
        (to(At::Lsn("0/10".into())), Code::TargetBeforeWindow),
        (to(At::Lsn("nonsense".into())), Code::Invalid),
        (to(At::Xid("0".into())), Code::NotFound),
        (to(At::Xid("x".into())), Code::Invalid),
        (to(At::Name("nowhere".into())), Code::NotFound),
        (RestoreRequest { backup: Some("frist".into()), ..to(At::Latest) }, Code::NotFound),
        (named(""), Code::Invalid),
        (named("a/b"), Code::Invalid),
        (named("Drill"), Code::Invalid),
        (named(&"x".repeat(41)), Code::Invalid),
    ];
    for (request, code) in cases {
        let error = sim
            .backups()
            .expect("backups")
            .restore(&request, &key("k"), &Unwritten)
            .await
            .expect_err("it is refused");
        assert_eq!(error.code, code, "{request:?}: {error:?}");
        assert!(error.hint.is_some(), "{error:?}");
    }
    let early = sim.backups().expect("backups").restore(&to(At::Time(ago(90))), &key("k"), &Unwritten).await;
    let hint = early.expect_err("it is refused").hint;
    assert_eq!(
        hint.as_deref(),
        Some("the window goes from `2026-11-20T11:00:00Z` to `2026-11-20T12:00:00Z`")
    );
    assert_eq!(sim.log().expect("the log"), []);
    assert_eq!(sim.branches().expect("branches").list().await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_restore_in_place_keeps_the_old_timeline() {
    let sim = memory(LEDGER);
    let backups = sim.backups().expect("backups");
    let old_end = backups.window().await.expect("a window").latest_lsn.expect("it has an end");
    let job =
        backups.restore(&in_place(At::Time(ago(20))), &key("k1"), &Unwritten).await.expect("it is accepted");
    let during = sim.sql().expect("sql").query("select 1", Span::seconds(5)).await;
    assert_eq!(during.expect_err("it is being restored").code, Code::Unavailable);
    assert!(!sim.sql().expect("sql").health().await.expect("it is known").ok);
    let other = backups.restore(&in_place(At::Latest), &key("k2"), &Unwritten).await;
    assert_eq!(other.expect_err("one at a time").code, Code::Conflict);
    let (value, looks) = wait(&sim, &job).await.expect("it is done");
    assert_eq!(looks, 18, "three hours in steps of ten minutes");
    let restored: Restored = serde_json::from_value(value).expect("a restore");
    assert_eq!(
        (restored.timeline, restored.kept.as_deref(), restored.reached),
        (Some(2), Some("timeline 1"), Some(ago(30)))
    );
    assert_eq!(ids(&sim).await, [1, 2]);
    execute(&sim, "insert into entries values (9, 90)", "k3").await.expect("it runs");
    assert_eq!(backups.window().await.expect("a window").timelines, [1, 2]);

    // The rows that the restore took away are still there on the timeline before.
    let before = RecoveryPoint { at: At::Time(ago(5)), inclusive: true, timeline: None };
    let copy =
        branch(&sim, &RestoreRequest { to: before.clone(), ..to(At::Latest) }, "k4").await.expect("it comes");
    assert_eq!(ids(&*copy).await, [1, 2, 3]);
    let request = RestoreRequest { into: Some("lsn".into()), ..to(At::Lsn(old_end)) };
    assert_eq!(ids(&*branch(&sim, &request, "k6").await.expect("it comes")).await, [1, 2, 3]);
    let second = RecoveryPoint { timeline: Some(2), ..before };
    let request = RestoreRequest { to: second, into: Some("two".into()), ..to(At::Latest) };
    assert_eq!(ids(&*branch(&sim, &request, "k5").await.expect("it comes")).await, [1, 2]);
    assert_eq!(ids(&sim).await, [1, 2, 9]);
    let log_end = backups.window().await.expect("a window").latest_lsn.expect("it has an end");
    for (name, at) in [("three", At::Time(ago(-185))), ("four", At::Lsn(log_end)), ("five", At::Latest)] {
        let request = RestoreRequest { into: Some(name.into()), ..to(at) };
        assert_eq!(ids(&*branch(&sim, &request, name).await.expect("it comes")).await, [1, 2, 9], "{name}");
    }
}

#[tokio::test]
async fn a_backup_and_a_restore_in_place_exclude_each_other() {
    let sim = memory(LEDGER);
    let backups = sim.backups().expect("backups");
    let backup = backups.create(&BackupRequest::default(), &key("k1")).await.expect("it is accepted");
    let early = backups
        .restore(&in_place(At::Latest), &key("k2"), &Unwritten)
        .await
        .expect_err("a backup is being made");
    assert_eq!((early.code, early.retryable), (Code::Conflict, true));
    wait(&sim, &backup).await.expect("it is done");
    backups.restore(&in_place(At::Latest), &key("k3"), &Unwritten).await.expect("it is accepted");
    let during =
        backups.create(&BackupRequest::default(), &key("k4")).await.expect_err("it is being restored");
    assert_eq!(during.code, Code::Conflict);
    assert_eq!(sim.log().expect("the log").len(), 2);
}

#[tokio::test]
async fn a_wall_clock_that_goes_back_does_not_turn_history_round() {
    let clock = Arc::new(Still(Mutex::new(start())));
    let sim =
        Sim::in_memory("ledger", LEDGER, "test", Arc::clone(&clock) as Arc<dyn Clock>).expect("it is good");
    sim.pause(&*still(), Span::seconds(600)).await;
    execute(&sim, "insert into entries values (4, 40)", "k1").await.expect("it runs");
    *clock.0.lock().expect("the clock") = ago(30);
    execute(&sim, "truncate entries", "k2").await.expect("it runs");
    let query = EventQuery { table: None, event: None, since: None, until: None };
    let events = sim.backups().expect("backups").events(&query).await.expect("events");
    assert_eq!(events[0].time, ago(-10), "no earlier than the statement before it");
    assert_eq!(sim.backups().expect("backups").window().await.expect("a window").latest, Some(start()));
}

/// What the rows must be after each of these, by a model that knows no SQL.
#[derive(Debug, Clone)]
enum Act {
    Insert(i64),
    Delete(i64),
    Empty,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0_i64..20).prop_map(Act::Insert),
        3 => (0_i64..20).prop_map(Act::Delete),
        1 => Just(Act::Empty),
    ];
    proptest::collection::vec(act, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restore_has_exactly_the_rows_of_its_moment(acts in acts(), picked in any::<prop::sample::Index>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let sim = memory(LEDGER);
            let mut rows = std::collections::BTreeSet::from([1, 2, 3]);
            let mut moments = vec![(start(), rows.clone())];
            for (n, act) in (1..).zip(&acts) {
                sim.pause(&*still(), Span::seconds(60)).await;
                let sql = match act {
                    Act::Insert(id) => { rows.insert(*id); format!("insert or ignore into entries values ({id}, 1)") }
                    Act::Delete(id) => { rows.remove(id); format!("delete from entries where id = {id}") }
                    Act::Empty => { rows.clear(); "truncate entries".into() }
                };
                execute(&sim, &sql, &format!("a{n}")).await.expect("it runs");
                moments.push((start().plus(Span::seconds(60 * n)), rows.clone()));
            }
            let (moment, expected) = &moments[picked.index(moments.len())];
            let copy = branch(&sim, &to(At::Time(*moment)), "k").await.expect("the branch comes");
            assert_eq!(ids(&*copy).await, expected.iter().copied().collect::<Vec<_>>(), "at {moment}");
            assert_eq!(ids(&sim).await, rows.iter().copied().collect::<Vec<_>>());
        });
    }
}
