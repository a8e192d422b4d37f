//! Going back to a moment, and the refusals before it.

use super::test_lab::{
    TestLab, archived_files, branch_request, change_rows, finish_job, in_place_request, insert_note,
    make_backup, make_branch, open_branch, query_number, query_text, test_key,
};
use crate::{
    base::{
        clock::{Clock as _, SystemClock},
        moment::{Moment, Span},
    },
    provider::{
        Code, Provider,
        model::{RecoveryPoint, RecoveryTarget, RestoreRequest, TableEventQuery},
    },
};
use std::{fs, time::Duration};

/// Returns the moment that it is for the database, with a little peace before and after.
async fn database_now(lab: &dyn Provider) -> Moment {
    tokio::time::sleep(Duration::from_millis(20)).await;
    let now = Moment::parse(&query_text(lab, "select now()").await).expect("a moment");
    tokio::time::sleep(Duration::from_millis(20)).await;
    now
}

async fn list_notes(place: &dyn Provider) -> String {
    query_text(place, "select coalesce(string_agg(note, ' ' order by id), '') from notes where id > 20").await
}

fn with_point(request: RestoreRequest, to: RecoveryPoint) -> RestoreRequest {
    RestoreRequest { to, ..request }
}

async fn restore_refusal(lab: &dyn Provider, request: &RestoreRequest) -> crate::provider::Error {
    lab.backups().expect("backups").restore(request, &test_key("REFUSED001")).await.expect_err("is refused")
}

#[tokio::test]
async fn t3_t4_a_moment_between_two_commits() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    // The cluster's own zone is far from UTC: a target without a zone would mean another moment.
    test_lab.run_statements(&["alter system set timezone = 'Asia/Tokyo'", "select pg_reload_conf()"]).await;
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    insert_note(lab.as_ref(), "one").await;
    let between = database_now(lab.as_ref()).await;
    insert_note(lab.as_ref(), "two").await;
    let after = database_now(lab.as_ref()).await;
    // Nothing is archived yet, and nothing will be committed after `after`: a fence brings both.
    let made =
        make_branch(lab.as_ref(), &branch_request("between", RecoveryTarget::Time(between)), "BRANCH0001")
            .await;
    assert!(made.reached.expect("a transaction") <= between);
    assert_eq!(list_notes(open_branch(lab.as_ref(), "between").await.as_ref()).await, "one");
    make_branch(lab.as_ref(), &branch_request("after", RecoveryTarget::Time(after)), "BRANCH0002").await;
    assert_eq!(list_notes(open_branch(lab.as_ref(), "after").await.as_ref()).await, "one two");
}

#[tokio::test]
async fn xid_place_and_name_are_targets() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    insert_note(lab.as_ref(), "one").await;
    let mark = lab
        .backups()
        .expect("backups")
        .create_restore_point("before two", &test_key("MARK000001"))
        .await
        .expect("a mark");
    assert_eq!(
        lab.backups()
            .expect("backups")
            .find_restore_point("before two", &test_key("MARK000001"))
            .await
            .expect("looks"),
        Some(mark.clone())
    );
    insert_note(lab.as_ref(), "two").await;
    let xid = query_text(lab.as_ref(), "select xmin::text from notes where note = 'two'").await;
    let exclusive = RecoveryPoint { at: RecoveryTarget::Xid(xid.clone()), inclusive: false, timeline: None };
    make_branch(
        lab.as_ref(),
        &with_point(branch_request("without", RecoveryTarget::Latest), exclusive),
        "BRANCH0001",
    )
    .await;
    assert_eq!(list_notes(open_branch(lab.as_ref(), "without").await.as_ref()).await, "one");
    make_branch(lab.as_ref(), &branch_request("with", RecoveryTarget::Xid(xid)), "BRANCH0002").await;
    assert_eq!(list_notes(open_branch(lab.as_ref(), "with").await.as_ref()).await, "one two");
    make_branch(
        lab.as_ref(),
        &branch_request("named", RecoveryTarget::Name("before two".into())),
        "BRANCH0003",
    )
    .await;
    assert_eq!(list_notes(open_branch(lab.as_ref(), "named").await.as_ref()).await, "one");
    make_branch(
        lab.as_ref(),
        &branch_request("placed", RecoveryTarget::Lsn(mark.lsn.expect("a place"))),
        "BRANCH0004",
    )
    .await;
    assert_eq!(list_notes(open_branch(lab.as_ref(), "placed").await.as_ref()).await, "one");
    let error =
        restore_refusal(lab.as_ref(), &branch_request("never", RecoveryTarget::Xid("4000000".into()))).await;
    assert_eq!(error.code, Code::NotFound, "{error:?}");
    let error = restore_refusal(
        lab.as_ref(),
        &branch_request("never", RecoveryTarget::Name("nobody made it".into())),
    )
    .await;
    assert_eq!(error.code, Code::NotFound, "{error:?}");
}

#[tokio::test]
async fn t1_t2_a_moment_outside_the_window_is_refused() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let before = database_now(lab.as_ref()).await;
    assert_eq!(
        restore_refusal(lab.as_ref(), &branch_request("none", RecoveryTarget::Latest)).await.code,
        Code::Refused
    );
    make_backup(lab.as_ref(), "BACKUP0001").await;
    let error = restore_refusal(lab.as_ref(), &branch_request("early", RecoveryTarget::Time(before))).await;
    let window = lab.backups().expect("backups").recovery_window().await.expect("a window");
    assert_eq!(error.code, Code::TargetBeforeWindow);
    assert!(error.hint.expect("a hint").contains(&window.earliest.expect("a moment").to_string()));
    let future = database_now(lab.as_ref()).await.saturating_add(Span::from_secs(3600));
    let error = restore_refusal(lab.as_ref(), &branch_request("late", RecoveryTarget::Time(future))).await;
    assert_eq!(error.code, Code::TargetAfterWindow, "{error:?}");
    assert!(lab.branches().expect("branches").list().await.expect("lists").is_empty());
}

/// The source is dead: the window, and everything in it, is still there.
#[tokio::test]
async fn t3_a_dead_source_gives_what_was_archived() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    insert_note(lab.as_ref(), "one").await;
    let there = lab.backups().expect("backups");
    test_lab.stop_server().await;
    let window = there.recovery_window().await.expect("a window");
    let latest = window.latest.expect("a moment");
    assert!(window.earliest.expect("a moment") < latest);
    let error = restore_refusal(
        lab.as_ref(),
        &branch_request("late", RecoveryTarget::Time(latest.saturating_add(Span::from_millis(1)))),
    )
    .await;
    assert_eq!(error.code, Code::TargetAfterWindow, "{error:?}");
    assert!(error.hint.expect("a hint").contains(&latest.to_string()));
    // The latest moment itself can be restored, although no commit comes after it.
    make_branch(lab.as_ref(), &branch_request("latest", RecoveryTarget::Time(latest)), "BRANCH0001").await;
    assert_eq!(list_notes(open_branch(lab.as_ref(), "latest").await.as_ref()).await, "one");
    make_branch(lab.as_ref(), &branch_request("all", RecoveryTarget::Latest), "BRANCH0002").await;
    assert_eq!(list_notes(open_branch(lab.as_ref(), "all").await.as_ref()).await, "one");
}

#[tokio::test]
async fn t6_the_timeline_that_holds_the_moment_is_taken() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    insert_note(lab.as_ref(), "one").await;
    let early = database_now(lab.as_ref()).await;
    insert_note(lab.as_ref(), "two").await;
    let late = database_now(lab.as_ref()).await;
    insert_note(lab.as_ref(), "three").await;
    let backups = lab.backups().expect("backups");
    let job = backups
        .restore(&in_place_request(RecoveryTarget::Time(early)), &test_key("RESTORE001"))
        .await
        .expect("accepted");
    finish_job(lab.as_ref(), &job).await.expect("restored");
    assert_eq!(list_notes(lab.as_ref()).await, "one");
    insert_note(lab.as_ref(), "another").await;
    // With the preset of PostgreSQL, `latest`, this would follow timeline 2 and silently lack `two`.
    let made =
        make_branch(lab.as_ref(), &branch_request("late", RecoveryTarget::Time(late)), "BRANCH0001").await;
    assert_eq!(list_notes(open_branch(lab.as_ref(), "late").await.as_ref()).await, "one two");
    assert_eq!(made.timeline, Some(3));
    make_branch(lab.as_ref(), &branch_request("now", RecoveryTarget::Latest), "BRANCH0002").await;
    assert_eq!(list_notes(open_branch(lab.as_ref(), "now").await.as_ref()).await, "one another");
    // The same transaction id was given on both.
    let xid = query_text(lab.as_ref(), "select xmin::text from notes where note = 'another'").await;
    let error =
        restore_refusal(lab.as_ref(), &branch_request("both", RecoveryTarget::Xid(xid.clone()))).await;
    assert_eq!(error.code, Code::AmbiguousTimeline, "{error:?}");
    let first = RecoveryPoint { at: RecoveryTarget::Xid(xid), inclusive: true, timeline: Some(1) };
    make_branch(
        lab.as_ref(),
        &with_point(branch_request("first", RecoveryTarget::Latest), first),
        "BRANCH0003",
    )
    .await;
    assert!(list_notes(open_branch(lab.as_ref(), "first").await.as_ref()).await.contains("two"));
}

#[tokio::test]
async fn t14_a_hole_in_the_archive_is_found_before_it_hurts() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    insert_note(lab.as_ref(), "one").await;
    let early = database_now(lab.as_ref()).await;
    make_branch(lab.as_ref(), &branch_request("early", RecoveryTarget::Time(early)), "BRANCH0001").await;
    insert_note(lab.as_ref(), "two").await;
    let hole = query_text(lab.as_ref(), "select pg_walfile_name(pg_current_wal_lsn())").await;
    test_lab.run_statements(&["select pg_switch_wal()"]).await;
    insert_note(lab.as_ref(), "three").await;
    let late = database_now(lab.as_ref()).await;
    insert_note(lab.as_ref(), "four").await;
    test_lab.stop_server().await;
    fs::remove_file(test_lab.lab_folder("archive").join(&hole)).expect("was archived");
    let error = restore_refusal(lab.as_ref(), &branch_request("late", RecoveryTarget::Time(late))).await;
    assert_eq!(error.code, Code::WalGap, "{error:?}");
    assert!(error.message.contains(&hole), "{error:?}");
    let window = lab.backups().expect("backups").recovery_window().await.expect("a window");
    assert!(window.gaps[0].contains(&hole), "{window:?}");
    assert!(window.latest.expect("a moment") < late);
    make_branch(lab.as_ref(), &branch_request("still", RecoveryTarget::Time(early)), "BRANCH0002").await;
    assert_eq!(list_notes(open_branch(lab.as_ref(), "still").await.as_ref()).await, "one");
}

#[tokio::test]
async fn a_moment_before_the_first_commit_of_a_timeline_is_on_it() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    insert_note(lab.as_ref(), "one").await;
    let early = database_now(lab.as_ref()).await;
    insert_note(lab.as_ref(), "two").await;
    let backups = lab.backups().expect("backups");
    let job = backups
        .restore(&in_place_request(RecoveryTarget::Time(early)), &test_key("RESTORE001"))
        .await
        .expect("accepted");
    finish_job(lab.as_ref(), &job).await.expect("restored");
    while !test_lab.lab_folder("archive").join("00000002.history").exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let idle = database_now(lab.as_ref()).await;
    insert_note(lab.as_ref(), "three").await;
    let made =
        make_branch(lab.as_ref(), &branch_request("idle", RecoveryTarget::Time(idle)), "BRANCH0001").await;
    assert_eq!(list_notes(open_branch(lab.as_ref(), "idle").await.as_ref()).await, "one");
    assert!(made.timeline > Some(2), "{made:?}");
    test_lab.stop_server().await;
    let error =
        restore_refusal(lab.as_ref(), &branch_request("late", RecoveryTarget::Time(SystemClock.now()))).await;
    assert_eq!(error.code, Code::TargetAfterWindow, "{error:?}");
    assert!(error.hint.expect("a hint").contains("`timeline=2`"));
}

fn drop_query(since: Option<Moment>, until: Option<Moment>) -> TableEventQuery {
    TableEventQuery { table: None, event: Some("drop".into()), since, until }
}

#[tokio::test]
async fn nothing_found_in_a_hole_is_not_nothing() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let backups = lab.backups().expect("backups");
    make_backup(lab.as_ref(), "BACKUP0001").await;
    insert_note(lab.as_ref(), "one").await;
    let early = database_now(lab.as_ref()).await;
    insert_note(lab.as_ref(), "two").await;
    test_lab.run_statements(&["select pg_switch_wal()"]).await;
    change_rows(lab.as_ref(), "drop table order_items").await;
    let hole = query_text(lab.as_ref(), "select pg_walfile_name(pg_current_wal_lsn())").await;
    test_lab.run_statements(&["select pg_switch_wal()"]).await;
    insert_note(lab.as_ref(), "three").await;
    let late = database_now(lab.as_ref()).await;
    insert_note(lab.as_ref(), "four").await;
    assert_eq!(backups.table_events(&drop_query(None, None)).await.expect("reads").len(), 1);
    fs::remove_file(test_lab.lab_folder("archive").join(&hole)).expect("was archived");
    let error = backups.table_events(&drop_query(None, None)).await.expect_err("may be in the hole");
    assert_eq!(error.code, Code::WalGap, "{error:?}");
    assert!(error.message.contains(&hole), "{error:?}");
    for (since, until) in [(None, Some(early)), (Some(late), None)] {
        assert_eq!(backups.table_events(&drop_query(since, until)).await.expect("was looked at"), []);
    }
    // With everything before it gone, the hole is the beginning of the archive; the backup says that there was more.
    for older in archived_files(&test_lab).iter().filter(|name| name.len() == 24 && **name < hole) {
        fs::remove_file(test_lab.lab_folder("archive").join(older)).expect("is lost");
    }
    assert_eq!(
        backups.table_events(&drop_query(None, Some(late))).await.expect_err("is lost").code,
        Code::WalGap
    );
    change_rows(lab.as_ref(), "drop table orders").await;
    let found = backups.table_events(&drop_query(None, None)).await.expect("shows what there is");
    assert_eq!(found.len(), 1);
    assert!(found[0].unseen.as_ref().is_some_and(|unseen| unseen.contains("is missing")), "{found:?}");
}

#[tokio::test]
async fn nothing_found_without_the_newest_wal_is_not_nothing() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let backups = lab.backups().expect("backups");
    make_backup(lab.as_ref(), "BACKUP0001").await;
    insert_note(lab.as_ref(), "one").await;
    let early = database_now(lab.as_ref()).await;
    insert_note(lab.as_ref(), "two").await;
    assert_eq!(backups.table_events(&drop_query(None, None)).await.expect("all was looked at"), []);
    test_lab
        .run_statements(&[
            "alter system set basic_archive.archive_directory = '/nowhere'",
            "select pg_reload_conf()",
        ])
        .await;
    change_rows(lab.as_ref(), "drop table order_items").await;
    let error = backups.table_events(&drop_query(None, None)).await.expect_err("was not looked at");
    assert_eq!(error.code, Code::Refused, "{error:?}");
    assert!(error.message.contains("could not be searched"), "{error:?}");
    assert_eq!(backups.table_events(&drop_query(None, Some(early))).await.expect("was looked at"), []);
    test_lab.crash_server().await;
    let error = backups.table_events(&drop_query(None, None)).await.expect_err("was not looked at");
    assert_eq!(error.code, Code::Refused, "{error:?}");
    assert!(error.message.contains("its server is down"), "{error:?}");
    assert_eq!(backups.table_events(&drop_query(None, Some(early))).await.expect("was looked at"), []);
}

#[tokio::test]
async fn the_archive_of_another_cluster_is_refused() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    let backups = lab.backups().expect("backups");
    let archive = test_lab.lab_folder("archive");
    let segments = fs::read_dir(&archive).expect("an archive").flatten().map(|entry| entry.file_name());
    let newest = segments.filter(|name| name.len() == 24).max().expect("a segment");
    let mut bytes = fs::read(archive.join(newest)).expect("reads");
    bytes[24] ^= 1;
    fs::write(archive.join("0000000100000000000000F0"), bytes).expect("another cluster's");
    let error = backups.recovery_window().await.expect_err("is another's");
    assert_eq!(error.code, Code::Refused, "{error:?}");
    assert!(error.hint.expect("a hint").contains("archive_dir"));
    assert_eq!(
        restore_refusal(lab.as_ref(), &branch_request("drill", RecoveryTarget::Latest)).await.code,
        Code::Refused
    );
    test_lab.stop_server().await;
    assert_eq!(
        backups.table_events(&drop_query(None, None)).await.expect_err("is another's").code,
        Code::Refused
    );
}

#[tokio::test]
async fn a_damaged_backup_is_seen() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let id = make_backup(lab.as_ref(), "BACKUP0001").await;
    let backups = lab.backups().expect("backups");
    assert!(backups.verify(&id).await.expect("reads it").ok);
    let file = test_lab.lab_folder("backups").join(&id).join("files/data/global/pg_filenode.map");
    let mut bytes = fs::read(&file).expect("a file");
    bytes[100] ^= 1;
    fs::write(&file, &bytes).expect("writes");
    let check = backups.verify(&id).await.expect("reads it");
    assert!(!check.ok && check.problems[0].contains("pg_filenode.map"), "{check:?}");
    bytes.truncate(10);
    fs::write(&file, &bytes).expect("writes");
    let asked = RestoreRequest { backup: Some(id), ..branch_request("broken", RecoveryTarget::BackupEnd) };
    assert_eq!(restore_refusal(lab.as_ref(), &asked).await.code, Code::CorruptBackup);
    assert_eq!(
        restore_refusal(lab.as_ref(), &branch_request("broken", RecoveryTarget::BackupEnd)).await.code,
        Code::Refused
    );
    assert!(!backups.recovery_window().await.expect("a window").backups[0].usable);
}

#[tokio::test]
async fn a_window_reaches_to_the_end_of_the_newest_backup() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let first = make_backup(lab.as_ref(), "BACKUP0001").await;
    for text in ["one", "two"] {
        insert_note(lab.as_ref(), text).await;
        test_lab.run_statements(&["select pg_switch_wal()"]).await;
    }
    make_backup(lab.as_ref(), "BACKUP0002").await;
    let backups = lab.backups().expect("backups");
    let ends: Vec<Moment> =
        backups.list().await.expect("lists").iter().filter_map(|backup| backup.finished_at).collect();
    test_lab.stop_server().await;
    // Nothing but what the two backups need themselves is left.
    let there = archived_files(&test_lab);
    let mut needed: Vec<String> = Vec::new();
    for history in there.iter().filter(|name| name.ends_with(".backup")) {
        let text = fs::read_to_string(test_lab.lab_folder("archive").join(history)).expect("a history");
        needed.extend(text.split("(file ").skip(1).map(|rest| rest[..24].to_owned()));
    }
    for segment in there.iter().filter(|name| name.len() == 24 && !needed.contains(name)) {
        fs::remove_file(test_lab.lab_folder("archive").join(segment)).expect("is lost");
    }
    let window = backups.recovery_window().await.expect("a window");
    assert!(window.backups.iter().all(|backup| backup.usable), "{window:?}");
    assert_eq!((window.earliest, window.latest), (Some(ends[0]), Some(ends[1])), "{window:?}");
    let lost = window.gaps.last().expect("a stretch");
    assert!(lost.contains(&first) && lost.contains(&format!("before {}", ends[1])), "{window:?}");
    fs::remove_file(test_lab.lab_folder("archive").join(&needed[0])).expect("is lost");
    let window = backups.recovery_window().await.expect("a window");
    assert!(!window.backups[0].usable && window.earliest == Some(ends[1]), "{window:?}");
}

#[tokio::test]
async fn the_moment_of_a_drop_is_found_and_undone() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    change_rows(lab.as_ref(), "drop table order_items").await;
    let query = TableEventQuery { table: Some("order_items".into()), event: None, since: None, until: None };
    let events = lab.backups().expect("backups").table_events(&query).await.expect("reads the archive");
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((event.event.as_str(), event.table.as_deref()), ("drop", Some("public.order_items")));
    let before = RecoveryPoint {
        at: RecoveryTarget::Xid(event.xid.clone()),
        inclusive: false,
        timeline: event.timeline,
    };
    make_branch(
        lab.as_ref(),
        &with_point(branch_request("before", RecoveryTarget::Latest), before),
        "BRANCH0001",
    )
    .await;
    let branch = open_branch(lab.as_ref(), "before").await;
    assert_eq!(query_number(branch.as_ref(), "select count(*) from order_items").await, 800);
}

/// The server was replaced while its last segment was not full: the end of its timeline is in its child's file alone.
#[tokio::test]
async fn the_end_of_a_timeline_that_was_left_is_found_in_its_child() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    insert_note(lab.as_ref(), "one").await;
    let between = database_now(lab.as_ref()).await;
    insert_note(lab.as_ref(), "two").await;
    test_lab.crash_server().await;
    fs::write(test_lab.lab_folder("data/standby.signal"), "").expect("a standby");
    test_lab.start_server(&[]).await;
    test_lab.run_statements(&["select pg_promote()"]).await;
    insert_note(lab.as_ref(), "three").await;
    test_lab.run_statements(&["select pg_switch_wal()"]).await;
    make_branch(lab.as_ref(), &branch_request("between", RecoveryTarget::Time(between)), "BRANCH0001").await;
    assert_eq!(list_notes(open_branch(lab.as_ref(), "between").await.as_ref()).await, "one");
    make_branch(lab.as_ref(), &branch_request("latest", RecoveryTarget::Latest), "BRANCH0002").await;
    assert_eq!(list_notes(open_branch(lab.as_ref(), "latest").await.as_ref()).await, "one two three");
}
