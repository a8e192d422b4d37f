use super::{SANDBOX, Sim, world_file};
use crate::{
    base::{
        clock::Clock,
        moment::{Moment, Span},
    },
    config::Target,
    provider::{
        Accept, Code, Error, Provider, Result,
        fleet::Opening,
        model::{
            At, Backup, BackupRequest, Branch, CheckStatus, EventQuery, Job, Key, Level, Observed,
            RecoveryPoint, RestoreRequest, Restored,
        },
    },
};
use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{Arc, Mutex},
};

/// A small world whose times are easy to count.
const LEDGER: &str = r#"
title = "a ledger"
retention = "10d"
backup_duration = "10m"
restore_duration = "3h"

[[history]]
at = "-2h"
sql = ["create table entries (id integer primary key, amount integer not null)", "insert into entries values (1, 10)"]

[[history]]
at = "-30m"
sql = "insert into entries values (2, 20)"

[[history]]
at = "-10m"
sql = "insert into entries values (3, 30)"

[[backups]]
id = "first"
at = "-1h"
label = "nightly"
"#;

/// A clock that stands still unless told.
struct Still(Mutex<Moment>);

#[async_trait]
impl Clock for Still {
    fn now(&self) -> Moment {
        *self.0.lock().expect("nobody panicked with the clock")
    }

    async fn sleep(&self, _: Span) {
        panic!("a simulated target never sleeps");
    }
}

/// Notes what was accepted; with `fail` it is a journal that cannot be written.
#[derive(Default)]
struct Notes {
    taken: Mutex<Vec<Value>>,
    fail: bool,
}

#[async_trait]
impl Accept for Notes {
    async fn accepted(&self, what: Value) -> Result<()> {
        if self.fail {
            return Err(Error::new(Code::Tool, "the journal cannot be written"));
        }
        self.taken.lock().expect("nobody panicked with the notes").push(what);
        Ok(())
    }
}

fn start() -> Moment {
    Moment::parse("2026-11-20T12:00:00Z").expect("a moment")
}

fn still() -> Arc<dyn Clock> {
    Arc::new(Still(Mutex::new(start())))
}

fn ago(minutes: i64) -> Moment {
    start().plus(Span::seconds(-60 * minutes))
}

fn key(text: &str) -> Key {
    Key(text.into())
}

fn memory(world: &str) -> Sim {
    Sim::in_memory("ledger", world, "test", still()).expect("the world is good")
}

fn on_disk(state: &Path, settings: &str) -> Result<Sim> {
    let settings = settings.parse().expect("settings are TOML");
    let target =
        Target { name: "shop".into(), provider: "sim".into(), protect: false, tags: Vec::new(), settings };
    Sim::open(&Opening { target: &target, base: state, state, clock: &still() })
}

fn to(at: At) -> RestoreRequest {
    let to = RecoveryPoint { at, inclusive: true, timeline: None };
    RestoreRequest { backup: None, to, into: Some("drill".into()), temporary: true, run: Some("r1".into()) }
}

fn in_place(at: At) -> RestoreRequest {
    RestoreRequest { into: None, temporary: false, run: None, ..to(at) }
}

async fn ids(place: &dyn Provider) -> Vec<i64> {
    let rows = place.sql().expect("sql").query("select id from entries order by id", Span::seconds(5)).await;
    let rows = rows.expect("the query runs").rows;
    rows.iter().map(|r| r["id"].as_i64().expect("an int")).collect()
}

async fn execute(sim: &dyn Provider, sql: &str, k: &str) -> Result<u64> {
    let outcome = sim.sql()?.execute(sql, Span::seconds(5), &key(k), &Notes::default()).await?;
    Ok(outcome.rows_affected)
}

/// Waits a job out and returns its value and how often it was seen running.
async fn wait(sim: &Sim, job: &Job) -> Result<(Value, u32)> {
    let mut looks = 0;
    loop {
        match sim.observe(job).await? {
            Observed::Done(value) => return Ok((value, looks)),
            Observed::Running(_) => looks += 1,
        }
        sim.pause(&*still(), Span::seconds(600)).await;
    }
}

async fn branch(sim: &Sim, request: &RestoreRequest, k: &str) -> Result<Arc<dyn Provider>> {
    let job = sim.backups()?.restore(request, &key(k)).await?;
    let (value, _) = wait(sim, &job).await?;
    let branch: Branch = serde_json::from_value(value["$branch"].clone()).expect("a branch");
    assert_eq!(branch.status, "ready");
    sim.branches()?.open(&branch.name).await
}

#[tokio::test]
async fn the_sandbox_is_a_shop_with_one_fault() {
    let shop = memory(SANDBOX);
    let rows =
        shop.sql().expect("sql").query("select count(*) as n from public.orders", Span::seconds(5)).await;
    assert_eq!(rows.expect("the query runs").rows[0]["n"], json!(211));
    let report = shop.security().expect("security").audit().await.expect("the audit runs");
    let errors: Vec<_> = report.findings.iter().filter(|f| f.level == Level::Error).collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].fingerprint(), ("policy_exists_rls_disabled", "public.customers"));
    let policies = shop.security().expect("security").policies().await.expect("policies");
    assert_eq!(
        policies.iter().map(|p| (p.table.as_str(), p.enabled)).collect::<Vec<_>>(),
        [("customers", false), ("order_items", true), ("orders", true)]
    );
    let query = EventQuery { table: None, event: None, since: None, until: None };
    let events = shop.backups().expect("backups").events(&query).await.expect("events");
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].event.as_str(), events[0].table.as_deref(), events[0].time),
        ("drop", Some("public.order_notes"), ago(21))
    );

    let lost = RestoreRequest {
        to: RecoveryPoint { at: At::Xid(events[0].xid.clone()), inclusive: false, timeline: None },
        ..to(At::Latest)
    };
    let copy = branch(&shop, &lost, "k1").await.expect("the branch comes");
    let notes =
        copy.sql().expect("sql").query("select count(*) as n from order_notes", Span::seconds(5)).await;
    assert_eq!(notes.expect("the table is back").rows[0]["n"], json!(34));
}

#[tokio::test]
async fn the_fault_can_be_mended_and_a_branch_has_no_network() {
    let shop = memory(SANDBOX);
    execute(&shop, "ALTER TABLE public.customers ENABLE ROW LEVEL SECURITY", "k1").await.expect("it runs");
    let report = shop.security().expect("security").audit().await.expect("the audit runs");
    assert!(report.findings.iter().all(|f| f.level != Level::Error), "{:?}", report.findings);
    assert!(report.findings.iter().any(|f| f.check == "hba_plaintext"));
    let copy = branch(&shop, &to(At::BackupEnd), "k2").await.expect("the branch comes");
    let on_branch = copy.security().expect("security").audit().await.expect("the audit runs");
    let network = on_branch.checks.iter().find(|c| c.check == "hba_plaintext").expect("it is listed");
    assert_eq!(network.status, CheckStatus::NotApplicable);
    assert!(network.reason.is_some());
    // The branch is from before the mending.
    let found: Vec<_> = on_branch.findings.iter().map(|f| f.check.as_str()).collect();
    assert_eq!(found, ["policy_exists_rls_disabled"]);
    assert_eq!(copy.backups().map(drop).expect_err("a branch has none").code, Code::Unsupported);
    assert_eq!(copy.branches().map(drop).expect_err("a branch has none").code, Code::Unsupported);
}

#[tokio::test]
async fn a_world_outlives_the_process_and_a_key_acts_once() {
    let state = tempfile::tempdir().expect("a folder");
    let first = on_disk(state.path(), "world = 'sandbox'").expect("it opens");
    assert!(!world_file(state.path(), "shop").exists(), "opening touches nothing");
    let identity = first.identity().await.expect("it has one");
    let sql = "update orders set status = 'lost' where id <= 3";
    assert_eq!(execute(&first, sql, "k1").await.expect("it runs"), 3);
    drop(first);

    let second = on_disk(state.path(), "").expect("it opens");
    assert_eq!(second.identity().await.expect("it has one"), identity);
    assert_eq!(execute(&second, sql, "k1").await.expect("it is answered"), 3);
    let log = second.log().expect("the log");
    assert_eq!(log.iter().map(|e| (e.seq, e.kind.as_str())).collect::<Vec<_>>(), [(1, "sql.execute")]);
    assert_eq!(log[0].what, sql);
    let count = "select count(*) as n from orders where status = 'lost'";
    let rows = second.sql().expect("sql").query(count, Span::seconds(5)).await.expect("it runs");
    assert_eq!(rows.rows[0]["n"], json!(3));
}

#[tokio::test]
async fn two_processes_share_one_world() {
    let state = tempfile::tempdir().expect("a folder");
    let (a, b) = (on_disk(state.path(), "").expect("it opens"), on_disk(state.path(), "").expect("it opens"));
    for n in 0..5 {
        let insert =
            |id: i64| format!("insert into orders (id, customer_id, total_cents) values ({id}, 1, 1)");
        execute(&a, &insert(1000 + n), &format!("a{n}")).await.expect("it runs");
        execute(&b, &insert(2000 + n), &format!("b{n}")).await.expect("it runs");
    }
    for sim in [&a, &b] {
        let rows = sim
            .sql()
            .expect("sql")
            .query("select count(*) as n from orders where id >= 1000", Span::seconds(5));
        assert_eq!(rows.await.expect("it runs").rows[0]["n"], json!(10));
    }
    assert_eq!(a.log().expect("the log").len(), 10);
}

#[tokio::test]
async fn a_job_goes_on_while_nobody_looks_and_is_done_once() {
    let state = tempfile::tempdir().expect("a folder");
    let first = on_disk(state.path(), "").expect("it opens");
    let job = first
        .backups()
        .expect("backups")
        .create(&BackupRequest { label: Some("drill".into()) }, &key("k1"))
        .await;
    let job = job.expect("it is accepted");
    let Observed::Running(begun) = first.observe(&job).await.expect("it can be seen") else {
        panic!("it takes time")
    };
    assert_eq!(begun.done, Some(0));
    first.pause(&*still(), Span::seconds(60)).await;
    let Observed::Running(quarter) = first.observe(&job).await.expect("it can be seen") else {
        panic!("it takes time")
    };
    assert_eq!(quarter.done, quarter.total.map(|t| t / 4));
    assert_eq!(first.backups().expect("backups").get(&job.id).await.expect("it is listed").status, "running");
    drop(first);

    let second = on_disk(state.path(), "").expect("it opens");
    let found = second.find(&key("k1")).await.expect("it can be asked").expect("the key is known");
    assert_eq!(found, job);
    assert_eq!(second.find(&key("k2")).await.expect("it can be asked"), None);
    second.pause(&*still(), Span::seconds(86_400)).await;
    let (value, looks) = wait(&second, &found).await.expect("it is done");
    assert_eq!(looks, 0);
    let backup: Backup = serde_json::from_value(value["$backup"].clone()).expect("a backup");
    assert_eq!(
        backup.finished_at,
        Some(start().plus(Span::seconds(240))),
        "it ended when it ended, not when it was seen"
    );
    assert_eq!((backup.label.as_deref(), backup.status.as_str()), (Some("drill"), "completed"));
    let again = second
        .backups()
        .expect("backups")
        .create(&BackupRequest { label: Some("drill".into()) }, &key("k1"))
        .await;
    assert_eq!(again.expect("it is answered"), job);
    assert_eq!(wait(&second, &job).await.expect("it is done").0, value);
    assert_eq!(second.backups().expect("backups").list().await.expect("a list").len(), 4);
    assert_eq!(second.log().expect("the log").len(), 1);
}

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
    let taken = sim.backups().expect("backups").restore(&to(At::Latest), &key("k4")).await;
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
        let error =
            sim.backups().expect("backups").restore(&request, &key("k")).await.expect_err("it is refused");
        assert_eq!(error.code, code, "{request:?}: {error:?}");
        assert!(error.hint.is_some(), "{error:?}");
    }
    let early = sim.backups().expect("backups").restore(&to(At::Time(ago(90))), &key("k")).await;
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
    let job = backups.restore(&in_place(At::Time(ago(20))), &key("k1")).await.expect("it is accepted");
    let during = sim.sql().expect("sql").query("select 1", Span::seconds(5)).await;
    assert_eq!(during.expect_err("it is being restored").code, Code::Unavailable);
    assert!(!sim.sql().expect("sql").health().await.expect("it is known").ok);
    let other = backups.restore(&in_place(At::Latest), &key("k2")).await;
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
    let second = RecoveryPoint { timeline: Some(2), ..before };
    let request = RestoreRequest { to: second, into: Some("two".into()), ..to(At::Latest) };
    assert_eq!(ids(&*branch(&sim, &request, "k5").await.expect("it comes")).await, [1, 2]);
    assert_eq!(ids(&sim).await, [1, 2, 9]);
}

#[tokio::test]
async fn a_job_can_be_given_up() {
    let sim = memory(LEDGER);
    let job =
        sim.backups().expect("backups").restore(&to(At::Latest), &key("k1")).await.expect("it is accepted");
    let preparing = sim.branches().expect("branches").open("drill").await.expect("it is there");
    let early = preparing.sql().expect("sql").query("select 1", Span::seconds(5)).await;
    assert_eq!(early.expect_err("it is not ready").code, Code::Unavailable);
    sim.cancel(&job).await.expect("it is given up");
    sim.cancel(&job).await.expect("it stays given up");
    assert_eq!(sim.log().expect("the log").len(), 2);
    assert_eq!(sim.branches().expect("branches").list().await, Ok(Vec::new()));
    assert_eq!(sim.observe(&job).await.expect_err("it is over").code, Code::Refused);
    sim.pause(&*still(), Span::seconds(86_400)).await;
    assert_eq!(sim.branches().expect("branches").list().await, Ok(Vec::new()));
}

#[tokio::test]
async fn backups_are_verified_expire_and_go() {
    let damaged = format!("{LEDGER}\n[[backups]]\nid = 'second'\nat = '-15m'\ndamaged = true\n");
    let sim = memory(&damaged);
    let backups = sim.backups().expect("backups");
    assert!(backups.verify("first").await.expect("it is read").ok);
    assert_eq!(backups.verify("second").await.expect("it is read").problems.len(), 1);
    let corrupt = backups.restore(&to(At::Latest), &key("k0")).await;
    assert_eq!(corrupt.expect_err("it is damaged").code, Code::CorruptBackup);

    let plan = backups.plan_delete("first").await.expect("a plan");
    assert_eq!((plan.earliest_before, plan.earliest_after), (Some(ago(60)), Some(ago(15))));
    assert!(plan.bytes > 0);
    backups.delete(&plan, &key("k1")).await.expect("it goes");
    backups.delete(&plan, &key("k1")).await.expect("the same key does nothing");
    backups.delete(&plan, &key("k2")).await.expect("what is gone is gone");
    assert_eq!(sim.log().expect("the log").len(), 1);
    assert_eq!(backups.window().await.expect("a window").earliest, Some(ago(15)));
    assert_eq!(backups.get("first").await.expect_err("it is gone").code, Code::NotFound);

    sim.pause(&*still(), Span::seconds(11 * 86_400)).await;
    let window = backups.window().await.expect("a window");
    assert_eq!((window.earliest, window.backups[0].usable), (None, false));
    assert_eq!(
        backups.restore(&to(At::Latest), &key("k3")).await.expect_err("nothing is left").code,
        Code::Refused
    );
}

#[tokio::test]
async fn a_statement_is_committed_only_after_it_was_written_down() {
    let sim = memory(LEDGER);
    let sql = sim.sql().expect("sql");
    let insert = "insert into entries values (7, 70)";
    let broken = Notes { fail: true, ..Notes::default() };
    sql.execute(insert, Span::seconds(5), &key("k1"), &broken).await.expect_err("it is not written down");
    assert_eq!(sql.settle(&key("k1"), None).await, Ok(None));
    assert_eq!(ids(&sim).await, [1, 2, 3]);
    let notes = Notes::default();
    let outcome = sql.execute(insert, Span::seconds(5), &key("k1"), &notes).await.expect("it runs");
    assert_eq!(notes.taken.lock().expect("notes").len(), 1);
    assert_eq!(sql.settle(&key("k1"), None).await, Ok(Some(outcome)));
    assert_eq!(ids(&sim).await, [1, 2, 3, 7]);
    let twice = sql.execute(insert, Span::seconds(5), &key("k2"), &notes).await.expect_err("the id is taken");
    assert_eq!(twice.code, Code::Sql);
    assert_eq!(notes.taken.lock().expect("notes").len(), 1, "what is refused was never accepted");
    assert_eq!(sim.log().expect("the log").len(), 1);
}

#[tokio::test]
async fn a_query_only_reads_one_statement_in_time() {
    let sim = memory(LEDGER);
    let cases = [
        ("delete from entries", Code::Sql),
        ("truncate entries", Code::Sql),
        ("alter table entries enable row level security", Code::Sql),
        ("select 1; select 2", Code::Invalid),
        (" ; -- nothing", Code::Invalid),
        ("selec 1", Code::Sql),
        ("pragma journal_mode", Code::Unsupported),
        ("attach 'x.db' as x", Code::Unsupported),
        ("begin", Code::Unsupported),
        ("vacuum into 'x.db'", Code::Sql),
        ("select * from pragma_table_info('entries')", Code::Unsupported),
        ("select last_insert_rowid()", Code::Sql),
        (
            "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n",
            Code::Timeout,
        ),
    ];
    for (text, code) in cases {
        let error = sim.sql().expect("sql").query(text, Span::millis(200)).await.expect_err(text);
        assert_eq!(error.code, code, "{text}: {error:?}");
    }
    assert_eq!(ids(&sim).await, [1, 2, 3]);
    let text = "select 1 as i, 1.5 as r, 'x' as t, null as n, x'00ff' as b, now() as at, datetime('now', '-1 hour') as d";
    let rows = sim.sql().expect("sql").query(text, Span::seconds(5)).await.expect("it runs");
    assert_eq!(rows.columns, ["i", "r", "t", "n", "b", "at", "d"]);
    let expected = json!({"i": 1, "r": 1.5, "t": "x", "n": null, "b": "\\x00ff", "at": "2026-11-20T12:00:00Z", "d": "2026-11-20 11:00:00"});
    assert_eq!(Value::Object(rows.rows[0].clone()), expected);
}

#[tokio::test]
async fn a_statement_cannot_leave_its_database() {
    let sim = memory(LEDGER);
    let cases = [
        ("vacuum into 'x.db'", Code::Sql),
        ("attach 'x.db' as x", Code::Unsupported),
        ("pragma foreign_keys = off", Code::Unsupported),
        ("commit", Code::Unsupported),
        ("create temp table x (id int)", Code::Unsupported),
        ("insert into entries values (8, changes())", Code::Sql),
        ("insert into entries values (8, 1); delete from entries", Code::Invalid),
        ("alter table nowhere enable row level security", Code::Sql),
        ("drop table nowhere", Code::Sql),
    ];
    for (text, code) in cases {
        let error = execute(&sim, text, "k").await.expect_err(text);
        assert_eq!(error.code, code, "{text}: {error:?}");
    }
    assert_eq!(sim.log().expect("the log"), []);
    execute(&sim, "drop table if exists nowhere", "k1").await.expect("it does nothing");
    let query = EventQuery { table: None, event: None, since: None, until: None };
    assert_eq!(sim.backups().expect("backups").events(&query).await, Ok(Vec::new()));
    assert_eq!(ids(&sim).await, [1, 2, 3]);
}

#[test]
fn a_world_that_many_make_at_once_is_one_world() {
    let state = tempfile::tempdir().expect("a folder");
    let log = |n: i64| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let sim = on_disk(state.path(), "").expect("it opens");
            let sql =
                format!("insert into orders (id, customer_id, total_cents) values ({}, 1, 1)", 1000 + n);
            execute(&sim, &sql, &format!("k{n}")).await.expect("it runs");
            execute(&sim, "delete from orders where id = 1000", "once").await.expect("it runs");
            sim.identity().await.expect("it has one").id
        })
    };
    let mut found: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|n| {
                scope.spawn({
                    let log = &log;
                    move || log(n)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("it ends well")).collect()
    });
    found.dedup();
    assert_eq!(found.len(), 1, "{found:?}");
    let log = on_disk(state.path(), "").expect("it opens").log().expect("the log");
    assert_eq!(log.len(), 7);
    let files = std::fs::read_dir(state.path().join("worlds")).expect("a folder").count();
    assert!(files <= 3, "nothing is left beside the world and its log: {files}");
}

#[tokio::test]
async fn time_and_chance_replay_alike() {
    let sim = memory(LEDGER);
    let create = "create table seen (id integer primary key, at text default current_timestamp, now text default (now()), die integer default (random()))";
    execute(&sim, create, "k1").await.expect("it runs");
    execute(&sim, "insert into seen (id) values (1), (2)", "k2").await.expect("it runs");
    let sql = "select * from seen order by id";
    let live = sim.sql().expect("sql").query(sql, Span::seconds(5)).await.expect("it runs");
    assert_eq!(live.rows[0]["at"], json!("2026-11-20 12:00:00"));
    assert_ne!(live.rows[0]["die"], live.rows[1]["die"]);
    let copy = branch(&sim, &to(At::Latest), "k3").await.expect("the branch comes");
    let replayed = copy.sql().expect("sql").query(sql, Span::seconds(5)).await.expect("it runs");
    assert_eq!(live, replayed);
}

#[test]
fn a_bad_world_says_where_and_what_to_do() {
    let head = "title = 't'\n[[history]]\nat = '-1h'\nsql = 'create table t (id int)'\n";
    let cases = [
        (
            "histroy = []\ntitle = 't'",
            "w.toml, line 1: unknown field `histroy`, expected one of",
            "did you mean `history`?",
        ),
        (
            &format!("{head}[[history]]\nat = 'soon'\nsql = 'select 1'"),
            "w.toml, line 6: `soon` is not a duration",
            "such as `-15m`",
        ),
        (
            &format!("{head}[[history]]\nat = '5m'\nsql = 'select 1'"),
            "w.toml, line 6: `5m` lies in the future",
            "such as `-15m`",
        ),
        (
            &format!("{head}[[history]]\nat = '-5m'\nsql = 'insert into x values (1)'"),
            "line 7: `insert into x values (1)`: the database refused the statement: no such table: x",
            "by their times",
        ),
        (&format!("backup_duration = '-4m'\n{head}"), "line 1: `-4m` is negative", "such as `4m`"),
        (
            &format!("{head}[[backups]]\nid = 'a'\nat = '-1m'\n[[backups]]\nid = 'a'\nat = '-2m'"),
            "line 9: two things of the kind backup are called `a`",
            "something else",
        ),
        (
            &format!("{head}[[policies]]\ntable = 'tt'\nname = 'p'\ncommand = 'ALL'"),
            "line 6: the policy `p` is on `tt`, which never was a table",
            "did you mean `t`?",
        ),
        (
            &format!("{head}[[policies]]\ntable = 't'\nname = 'p'\ncommand = 'SELEC'"),
            "line 8: unknown variant `SELEC`",
            "did you mean `SELECT`?",
        ),
        (
            &format!("{head}[[findings]]\ncheck = 'x'\nobject = ''\ndetail = ''\nfix = ''"),
            "line 6: a finding belongs to the check `x`, which is not listed",
            "there are none",
        ),
        (
            &format!("{head}[[checks]]\ncheck = 'no_primary_key'\nlevel = 'info'\ncategory = 'X'"),
            "line 6: the check `no_primary_key` is worked out",
            "give the database the fault",
        ),
        ("retention = '7d'", "line 1: missing field `title`", "the built-in `sandbox` is an example"),
        ("title =", "w.toml, line 1:", ""),
    ];
    let state = tempfile::tempdir().expect("a folder");
    for (text, message, hint) in cases {
        std::fs::write(state.path().join("w.toml"), text).expect("it is written");
        let error = on_disk(state.path(), "world = 'w.toml'").map(drop).expect_err(text);
        assert_eq!(error.code, Code::Invalid);
        assert!(error.message.contains(message), "{text}\n{error:?}");
        assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{text}\n{error:?}");
    }
    let error = on_disk(state.path(), "wrold = 'sandbox'").map(drop).expect_err("unknown key");
    assert_eq!(error.hint.as_deref(), Some("did you mean `world`?"));
    let error = on_disk(state.path(), "world = 'missing.toml'").map(drop).expect_err("no file");
    assert!(error.message.contains("`missing.toml` cannot be read"), "{error:?}");
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
