//! What is read out of the WAL that a real cluster has archived.

use super::super::{super::sql::fetch_text, super::test_cluster::TestCluster, WalRestorePoint, *};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Code,
        model::{TableEvent, TableEventQuery},
    },
};
use std::fs;

const ARCHIVING_SETTINGS: &[&str] =
    &["archive_mode=on", "archive_library=basic_archive", "timezone=Asia/Tokyo"];
const ALL_EVENTS: TableEventQuery = TableEventQuery { table: None, event: None, since: None, until: None };

/// Switches to a new segment and waits until the one before is in the archive.
async fn scan_after_switch(cluster: &TestCluster) -> WalArchive {
    let client = cluster.connect().await;
    let last = fetch_text(&client, "select pg_walfile_name(pg_switch_wal())")
        .await
        .expect("switched")
        .expect("a name");
    let mut tries = 0;
    while !cluster.archive().join(&last).exists() {
        tries += 1;
        assert!(tries < 400, "{last} is not archived");
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    WalArchive::scan_folder(&cluster.archive()).expect("an archive")
}

async fn fetch_names(cluster: &TestCluster) -> RelationNames {
    let client = cluster.connect().await;
    let names = fetch_relation_names(&client).await.expect("names");
    let json = serde_json::to_string(&names).expect("serializes");
    assert_eq!(serde_json::from_str::<RelationNames>(&json).expect("reads"), names);
    names
}

async fn find_events(
    cluster: &TestCluster,
    names: &RelationNames,
    query: &TableEventQuery,
) -> Vec<TableEvent> {
    scan_after_switch(cluster).await.find_events(&cluster.programs, query, names).await.expect("events")
}

/// Returns events as words, oldest first.
fn render_events(events: &[TableEvent]) -> Vec<String> {
    let word = |e: &TableEvent| format!("{} {}", e.event, e.table.as_deref().unwrap_or("?"));
    events.iter().rev().map(word).collect()
}

#[tokio::test]
async fn wal_tells_drops_and_truncates_from_everything_else() {
    let Some(cluster) = TestCluster::start(ARCHIVING_SETTINGS).await else { return };
    cluster
        .run_statements(&["create table plain (n int); insert into plain select generate_series(1, 10);
                create table wide (id int primary key, t text); create index on wide (t);
                create table one (id serial primary key, t text); insert into one (t) values ('a');
                create table two (id int references one on delete cascade, b text);
                create table three (n int); create table kept (n int); create table alone (n int, b text);
                create table parent (n int, b text) partition by range (n);
                create table child1 partition of parent for values from (0) to (10);
                create table child2 partition of parent for values from (10) to (20);
                create schema s; create table s.x (n int); create table s.y (n int, t text);
                create view s.v as select * from s.x; create sequence counter;
                create materialized view seen as select 1 as n; create index kept_n on kept (n);
                create unlogged table fleeting (n int); insert into fleeting values (1); create table inner1 (n int); create table inner2 (n int); create table inner3 (n int)"])
        .await;
    let names = fetch_names(&cluster).await;
    let silent = [
        "vacuum full kept",
        "alter table alone alter n type bigint",
        "cluster kept using kept_n",
        "reindex table kept",
        "reindex index kept_n",
        "alter table kept add c int default (random() * 10)::int",
        "refresh materialized view seen",
        "begin; lock table kept; reindex table kept; commit",
        "begin; drop table kept; rollback",
        "begin; truncate kept; rollback",
        "begin; create table brief (n int); drop table brief; commit",
        "begin; create table fresh (n int); insert into fresh values (1); truncate fresh; commit",
        "create temp table tmp (n int); truncate tmp; drop table tmp",
        "create index kept_c on kept (c); drop index kept_c",
        "drop view s.v; drop sequence counter; drop materialized view seen",
        "alter table kept set unlogged; alter table kept set logged",
        "create table lonely (n int)",
    ];
    cluster.run_statements(&silent).await;
    assert_eq!(
        render_events(&find_events(&cluster, &names, &ALL_EVENTS).await),
        [""; 0],
        "none of these loses a table"
    );

    let loud: &[(&str, &[&str])] = &[
        ("truncate three", &["truncate public.three"]),
        ("truncate one restart identity cascade", &["truncate public.two", "truncate public.one"]),
        ("truncate parent", &["truncate public.parent", "truncate public.child2", "truncate public.child1"]),
        (
            "begin; truncate one cascade; insert into one (t) values ('n'); commit",
            &["truncate public.two", "truncate public.one"],
        ),
        ("begin; alter table kept add d int; truncate three; commit", &["truncate public.three"]),
        ("begin; alter table alone alter n type int; truncate three; commit", &["truncate public.three"]),
        ("begin; savepoint a; truncate three; release a; commit", &["truncate public.three"]),
        ("truncate fleeting", &["truncate public.fleeting"]),
        ("drop table fleeting", &["drop public.fleeting"]),
        ("truncate kept, three", &["truncate public.three", "truncate public.kept"]),
        ("drop table plain", &["drop public.plain"]),
        ("drop table wide", &["drop public.wide"]),
        ("drop table parent", &["drop public.parent", "drop public.child2", "drop public.child1"]),
        ("drop schema s cascade", &["drop s.y", "drop s.x"]),
        (
            "begin; savepoint a; drop table inner1; release a; savepoint b; drop table inner2; rollback to b; commit",
            &["drop public.inner1"],
        ),
        (
            "begin; drop table inner3; truncate alone; commit",
            &["truncate public.alone", "drop public.inner3"],
        ),
        ("begin; truncate three; drop table three; commit", &["drop public.three"]),
    ];
    for (statement, _) in loud {
        cluster.run_statements(&[statement]).await;
    }
    let expected: Vec<_> = loud.iter().flat_map(|(_, events)| events.iter().copied()).collect();
    let mut found = render_events(&find_events(&cluster, &names, &ALL_EVENTS).await);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (statement, events) in loud {
        let mut these: Vec<_> = found.drain(..events.len()).collect();
        these.sort_unstable();
        let mut wanted = events.to_vec();
        wanted.sort_unstable();
        assert_eq!(these, wanted, "{statement}");
    }
}

#[tokio::test]
async fn wal_events_are_found_by_name_kind_and_time() {
    let Some(cluster) = TestCluster::start(ARCHIVING_SETTINGS).await else { return };
    cluster.run_statements(&["create table old (n int)"]).await;
    let known = fetch_names(&cluster).await;
    // Nobody wrote down these names: they are in the WAL alone.
    cluster
        .run_statements(&[
            "create schema later; create table later.new (id int primary key, t text)",
            "create table parts (n int) partition by range (n)",
            "insert into later.new values (1, 'x'); create table later.old (n int)",
            "truncate later.new",
            "drop table old",
        ])
        .await;
    let before = Moment(jiff::Timestamp::now());
    cluster.run_statements(&["drop table later.old", "drop table later.new", "drop table parts"]).await;

    let ask = async |query: TableEventQuery| render_events(&find_events(&cluster, &known, &query).await);
    assert_eq!(
        ask(ALL_EVENTS).await,
        ["truncate later.new", "drop public.old", "drop later.old", "drop later.new"]
            .into_iter()
            .chain(["drop public.parts"])
            .collect::<Vec<_>>()
    );
    let table = |name: &str| TableEventQuery { table: Some(name.into()), ..ALL_EVENTS };
    assert_eq!(ask(table("old")).await, ["drop public.old", "drop later.old"]);
    assert_eq!(ask(table("later.old")).await, ["drop later.old"]);
    assert_eq!(
        ask(TableEventQuery { event: Some("truncate".into()), ..ALL_EVENTS }).await,
        ["truncate later.new"]
    );
    assert_eq!(ask(TableEventQuery { since: Some(before), ..table("old") }).await, ["drop later.old"]);
    assert_eq!(ask(TableEventQuery { until: Some(before), ..table("old") }).await, ["drop public.old"]);

    let all = find_events(&cluster, &known, &ALL_EVENTS).await;
    assert!(all.is_sorted_by(|a, b| a.time >= b.time), "newest first");
    let age = Moment(jiff::Timestamp::now()).duration_since(all[0].time);
    assert!(age >= Span::ZERO && age < Span::from_secs(60), "{age}: the server's zone is not UTC");

    // Without any name at all it is still known that something went, and when.
    let nameless = scan_after_switch(&cluster)
        .await
        .find_events(&cluster.programs, &table("old"), &RelationNames::default())
        .await;
    let nameless = nameless.expect("events");
    assert!(nameless.iter().any(|e| e.table.as_deref() == Some("later.old")), "{nameless:#?}");
    assert!(nameless.iter().all(|e| e.table.as_deref() != Some("later.new")), "{nameless:#?}");
}

#[tokio::test]
async fn wal_ends_with_its_last_commit() {
    let Some(cluster) = TestCluster::start(ARCHIVING_SETTINGS).await else { return };
    let client = cluster.connect().await;
    cluster.run_statements(&["create table t (n int)"]).await;
    let begun = scan_after_switch(&cluster).await;
    let from = fetch_text(&client, "select pg_current_wal_lsn()").await.expect("asked").expect("a place");
    assert_eq!(
        begun
            .find_first_commit(&cluster.programs, 1, Lsn::parse(&from).expect("a place"))
            .await
            .expect("read"),
        None
    );
    let ask = "insert into t values (1) returning pg_current_xact_id()::text";
    let first = fetch_text(&client, ask).await.expect("inserted").expect("an id");
    let last = fetch_text(&client, ask).await.expect("inserted").expect("an id");
    scan_after_switch(&cluster).await;
    // A segment without a commit comes after it.
    cluster
        .run_statements(&[
            "select pg_create_restore_point('quiet')",
            "select pg_create_restore_point('quiet')",
        ])
        .await;
    let read = scan_after_switch(&cluster).await;

    let (first_name, last_name) = read.segment_bounds(1).expect("bounds");
    assert!(first_name < last_name && read.missing_segment_names(1).is_empty() && read.damaged.is_empty());
    let found = read.find_last_commit(&cluster.programs, 1).await.expect("read").expect("a commit");
    assert_eq!(found.xid.to_string(), last);
    let from = Lsn::parse(&from).expect("a place");
    let next = read.find_first_commit(&cluster.programs, 1, from).await.expect("read").expect("a commit");
    assert_eq!(next.xid.to_string(), first);
    assert!(next.time < found.time && next.lsn < found.lsn && next.lsn >= from);
    assert_eq!(read.first_missing_segment(1, from, Some(found.lsn)), None);

    let points = find_points(&read, &cluster, "quiet").await;
    assert_eq!(points.len(), 2);
    assert!(points[0].time > points[1].time && points[0].lsn > points[1].lsn, "newest first");
    let age = points[1].time.duration_since(found.time);
    assert!(age > Span::ZERO && age < Span::from_secs(60), "{age}");
    assert!(find_points(&read, &cluster, "none").await.is_empty());
}

/// Returns the restore points of this name, newest first.
async fn find_points(read: &WalArchive, cluster: &TestCluster, name: &str) -> Vec<WalRestorePoint> {
    let mut points = read.list_restore_points(&cluster.programs, 0..=u64::MAX).await.expect("read");
    points.retain(|point| point.name == name);
    points
}

#[tokio::test]
async fn wal_damage_and_holes_are_said() {
    let Some(cluster) = TestCluster::start(ARCHIVING_SETTINGS).await else { return };
    cluster.run_statements(&["create table t (n int)"]).await;
    scan_after_switch(&cluster).await;
    cluster.run_statements(&["insert into t values (1)", "drop table t"]).await;
    scan_after_switch(&cluster).await;
    cluster.run_statements(&["create table t (n int)"]).await;
    let read = scan_after_switch(&cluster).await;
    let segments: Vec<u64> = read.timelines[&1].segments.iter().copied().collect();
    let middle = cluster.archive().join(read.segment_name(1, segments[1]));

    // Zeros where records were: nothing can be replayed past them.
    let mut bytes = fs::read(&middle).expect("read");
    bytes[256..].fill(0);
    fs::write(&middle, &bytes).expect("written");
    let names = RelationNames::default();
    let error = read.find_events(&cluster.programs, &ALL_EVENTS, &names).await.expect_err("damaged");
    assert!(
        error.code == Code::CorruptBackup && error.message.contains(&read.segment_name(1, segments[1])),
        "{error:?}"
    );

    fs::remove_file(&middle).expect("removed");
    let read = WalArchive::scan_folder(&cluster.archive()).expect("an archive");
    let missing = read.segment_name(1, segments[1]);
    assert_eq!(read.missing_segment_names(1), [(missing.clone(), missing.clone())]);
    assert_eq!(read.first_missing_segment(1, read.segment_start(segments[0]), None), Some(missing));
    assert!(read.find_last_commit(&cluster.programs, 1).await.expect("read").is_some());
    assert!(
        read.find_events(&cluster.programs, &ALL_EVENTS, &names).await.is_ok(),
        "each side of the hole can be read"
    );
}

#[tokio::test]
async fn wal_before_a_fork_belongs_to_the_parent() {
    let Some(mut cluster) = TestCluster::start(ARCHIVING_SETTINGS).await else { return };
    cluster.run_statements(&["create table early (n int); create table late (n int)"]).await;
    let known = fetch_names(&cluster).await;
    scan_after_switch(&cluster).await;
    // A restore point alone is not flushed; the commit after it is.
    cluster.run_statements(&["select pg_create_restore_point('here')", "drop table early"]).await;
    let client = cluster.connect().await;
    let lsn = fetch_text(&client, "select pg_current_wal_lsn()").await.expect("asked").expect("a place");
    // The segment that is forked in is archived twice: cut short on the parent, and as the child's first.
    cluster.recover_to_new_timeline(ARCHIVING_SETTINGS).await;
    scan_after_switch(&cluster).await;
    let read = scan_after_switch(&cluster).await;
    let fork = read.timelines[&2].parent_timeline().expect("a history");
    assert!(fork.0 == 1 && fork.1 >= Lsn::parse(&lsn).expect("a place"), "{fork:?}");
    assert_eq!(read.segment_bounds(2).expect("bounds").0, read.segment_name(2, read.segment_at(fork.1)));
    let last = read.find_last_commit(&cluster.programs, 2).await.expect("read").expect("a commit");
    assert!(last.lsn < fork.1, "nothing happened on it yet: {last:?}");
    let points = find_points(&read, &cluster, "here").await;
    assert_eq!(points.len(), 1);
    assert_eq!(points[0].timeline, 2, "the parent's last segment never was full, and never in the archive");

    cluster.run_statements(&["drop table late"]).await;
    let mut read = scan_after_switch(&cluster).await;
    let last = read.find_last_commit(&cluster.programs, 2).await.expect("read").expect("a commit");
    assert!(last.lsn > fork.1);
    let dropped = read.find_events(&cluster.programs, &ALL_EVENTS, &known).await.expect("events");
    assert_eq!(render_events(&dropped), ["drop public.early", "drop public.late"]);
    let first = read.segment_start(*read.timelines[&1].segments.first().expect("a segment"));
    assert_eq!(read.first_missing_segment(2, first, Some(last.lsn)), None);
    assert!(
        read.first_missing_segment(1, first, Some(fork.1)).is_some(),
        "alone, the parent does not reach the fork"
    );

    // With the parent's own file in the archive, the same record is in two files, and is one event.
    let parents = read.segment_name(1, read.segment_at(fork.1));
    fs::rename(cluster.archive().join(format!("{parents}.partial")), cluster.archive().join(&parents))
        .expect("renamed");
    read = WalArchive::scan_folder(&cluster.archive()).expect("an archive");
    let dropped = read.find_events(&cluster.programs, &ALL_EVENTS, &known).await.expect("events");
    let shown: Vec<_> = dropped.iter().map(|e| (e.table.as_deref(), e.timeline)).collect();
    assert_eq!(shown, [(Some("public.late"), Some(2)), (Some("public.early"), Some(1))]);
    assert_eq!(find_points(&read, &cluster, "here").await[0].timeline, 1);
}
