//! Restore points: which one a name means, and what could not be looked at.

use super::test_lab::{
    TestLab, branch_request, change_rows, finish_job, in_place_request, make_backup, make_branch,
    open_branch, query_text, test_key,
};
use crate::{
    base::moment::Span,
    provider::{
        Code, Error, Provider, Result,
        host::record_file,
        model::{RecoveryTarget, RestoreOutcome, RestorePoint, RestoreRequest},
        restore_points::contract::HeldTarget,
    },
};
use serde_json::{Value, json};

/// Makes a table of steps, a backup, and a first step.
async fn begin_steps(lab: &dyn Provider) {
    change_rows(lab, "create table steps (id integer)").await;
    make_backup(lab, "BACKUP0001").await;
    add_step(lab, 1).await;
}

async fn add_step(lab: &dyn Provider, id: u32) {
    change_rows(lab, &format!("insert into steps values ({id})")).await;
}

async fn list_steps(place: &dyn Provider) -> String {
    query_text(place, "select coalesce(string_agg(id::text, ' ' order by id), '') from steps").await
}

async fn mark(lab: &dyn Provider, name: &str, key: &str) -> Result<RestorePoint> {
    lab.backups().expect("backups").create_restore_point(name, &test_key(key)).await
}

fn to_name(name: &str) -> RecoveryTarget {
    RecoveryTarget::Name(name.into())
}

async fn restore_in_place(lab: &dyn Provider, at: RecoveryTarget, key: &str) -> Result<RestoreOutcome> {
    let backups = lab.backups().expect("backups");
    let job = backups.restore(&in_place_request(at), &test_key(key)).await?;
    Ok(serde_json::from_value(finish_job(lab, &job).await?).expect("a restore"))
}

async fn refusal(lab: &dyn Provider, request: &RestoreRequest) -> Error {
    let backups = lab.backups().expect("backups");
    backups.restore(request, &test_key("REFUSED001")).await.expect_err("is refused")
}

/// Makes a restore point as somebody else does, beside redrill.
fn make_point_sql(name: &str) -> String {
    format!("select pg_create_restore_point('{name}')")
}

#[tokio::test]
async fn restore_points_are_held_to_the_contract() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let target = HeldTarget { name: "lab", provider: lab.as_ref(), pause: Span::from_millis(50) };
    target.hold_contract().await;
}

#[tokio::test]
async fn a_name_used_again_on_one_timeline_is_never_taken_for_the_older() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    begin_steps(lab.as_ref()).await;
    mark(lab.as_ref(), "weekly", "MARK000001").await.expect("a mark");
    // A backup archives what is before it, and nothing of what comes now.
    make_backup(lab.as_ref(), "BACKUP0002").await;
    add_step(lab.as_ref(), 2).await;
    test_lab.run_statements(&[&make_point_sql("weekly")]).await;
    for request in [branch_request("weekly", to_name("weekly")), in_place_request(to_name("weekly"))] {
        let error = refusal(lab.as_ref(), &request).await;
        assert_eq!(error.code, Code::Refused, "{error:?}");
        assert!(error.message.starts_with("there are 2 restore points `weekly`: at "), "{error:?}");
        assert!(error.hint.expect("a hint").contains("#{ lsn: "));
    }
    let error = mark(lab.as_ref(), "weekly", "MARK000002").await.expect_err("is taken");
    assert_eq!(error.code, Code::Conflict, "{error:?}");
    assert_eq!(list_steps(lab.as_ref()).await, "1 2");
}

#[tokio::test]
async fn a_name_used_again_on_the_next_timeline_is_never_taken_for_the_older() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    begin_steps(lab.as_ref()).await;
    mark(lab.as_ref(), "before-deploy", "MARK000001").await.expect("a mark");
    add_step(lab.as_ref(), 2).await;
    restore_in_place(lab.as_ref(), to_name("before-deploy"), "RESTORE001").await.expect("restored");
    assert_eq!(list_steps(lab.as_ref()).await, "1");
    add_step(lab.as_ref(), 30).await;
    let error = mark(lab.as_ref(), "before-deploy", "MARK000002").await.expect_err("is taken");
    assert_eq!(error.code, Code::Conflict, "{error:?}");
    test_lab.run_statements(&[&make_point_sql("before-deploy")]).await;
    add_step(lab.as_ref(), 31).await;
    for request in
        [branch_request("again", to_name("before-deploy")), in_place_request(to_name("before-deploy"))]
    {
        let error = refusal(lab.as_ref(), &request).await;
        assert_eq!(error.code, Code::AmbiguousTimeline, "{error:?}");
    }
    assert_eq!(list_steps(lab.as_ref()).await, "1 30 31");
    // Each is still there, by its place.
    let points = vec![("first", Some(1), "1"), ("second", Some(2), "1 30")];
    for (branch, timeline, steps) in points {
        let mut request = branch_request(branch, to_name("before-deploy"));
        request.to.timeline = timeline;
        if timeline == Some(1) {
            make_branch(lab.as_ref(), &request, "BRANCH0001").await;
            assert_eq!(list_steps(open_branch(lab.as_ref(), branch).await.as_ref()).await, steps);
        } else {
            // The first is in the history of the second timeline, too.
            assert_eq!(refusal(lab.as_ref(), &request).await.code, Code::AmbiguousTimeline);
        }
    }
}

/// After a fork a place and a transaction id exist on both timelines, and the newer is not archived yet.
#[tokio::test]
async fn a_place_and_a_transaction_of_two_timelines_are_not_taken_for_the_older() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    begin_steps(lab.as_ref()).await;
    mark(lab.as_ref(), "fork", "MARK000001").await.expect("a mark");
    // The timeline that is left goes on far enough to have every place that the next one has.
    for id in 100..106 {
        add_step(lab.as_ref(), id).await;
        test_lab.run_statements(&["select pg_switch_wal()"]).await;
    }
    make_backup(lab.as_ref(), "BACKUP0002").await;
    restore_in_place(lab.as_ref(), to_name("fork"), "RESTORE001").await.expect("restored");
    add_step(lab.as_ref(), 50).await;
    let place = query_text(lab.as_ref(), "select pg_current_wal_lsn()::text").await;
    let xid = query_text(lab.as_ref(), "select xmin::text from steps where id = 50").await;
    add_step(lab.as_ref(), 51).await;
    for at in [RecoveryTarget::Lsn(place), RecoveryTarget::Xid(xid)] {
        let error = refusal(lab.as_ref(), &branch_request("both", at)).await;
        assert_eq!(error.code, Code::AmbiguousTimeline, "{error:?}");
    }
    test_lab.run_statements(&[&make_point_sql("after-fork")]).await;
    add_step(lab.as_ref(), 52).await;
    make_branch(lab.as_ref(), &branch_request("named", to_name("after-fork")), "BRANCH0001").await;
    assert_eq!(list_steps(open_branch(lab.as_ref(), "named").await.as_ref()).await, "1 50 51");
}

/// The source has crashed: what it wrote last cannot be searched, and what comes of the search says so.
#[tokio::test]
async fn a_dead_source_says_what_could_not_be_searched() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    begin_steps(lab.as_ref()).await;
    let weekly = mark(lab.as_ref(), "weekly", "MARK000001").await.expect("a mark");
    add_step(lab.as_ref(), 2).await;
    test_lab.run_statements(&[&make_point_sql("weekly"), &make_point_sql("unarchived")]).await;
    add_step(lab.as_ref(), 3).await;
    test_lab.crash_server().await;
    let unseen = |unseen: Option<String>| {
        let unseen = unseen.expect("something was not seen");
        assert!(
            unseen.starts_with("what was committed after ") && unseen.contains("its server is down"),
            "{unseen}"
        );
    };
    let made = make_branch(lab.as_ref(), &branch_request("named", to_name("weekly")), "BRANCH0001").await;
    unseen(made.unseen);
    assert_eq!(list_steps(open_branch(lab.as_ref(), "named").await.as_ref()).await, "1");
    // The restore point itself says where it is, whatever there may be besides.
    let mut placed = branch_request("placed", RecoveryTarget::Lsn(weekly.lsn.clone().expect("a place")));
    placed.to.timeline = weekly.timeline;
    let marked = branch_request("marked", RecoveryTarget::Point(weekly));
    for (request, key) in [(placed, "BRANCH0002"), (marked, "BRANCH0003")] {
        assert_eq!(make_branch(lab.as_ref(), &request, key).await.unseen, None, "{request:?}");
    }
    let error = refusal(lab.as_ref(), &branch_request("lost", to_name("unarchived"))).await;
    assert_eq!(error.code, Code::Unavailable, "what is not seen may be there: {error:?}");
    unseen(error.message.split_once("; ").map(|(_, unseen)| unseen.to_owned()));
    let error = mark(lab.as_ref(), "more", "MARK000002").await.expect_err("nobody answers");
    assert_eq!(error.code, Code::Unavailable, "{error:?}");
    let restored = restore_in_place(lab.as_ref(), to_name("weekly"), "RESTORE001").await.expect("restored");
    unseen(restored.unseen);
}

/// The server runs and cannot archive: nothing can be marked, and what was written last cannot be searched.
#[tokio::test]
async fn a_source_that_cannot_archive_says_what_could_not_be_searched() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    begin_steps(lab.as_ref()).await;
    mark(lab.as_ref(), "weekly", "MARK000001").await.expect("a mark");
    let nowhere = "alter system set basic_archive.archive_directory = '/nowhere'";
    test_lab
        .run_statements(&[
            nowhere,
            "select pg_reload_conf()",
            &make_point_sql("weekly"),
            "select pg_switch_wal()",
        ])
        .await;
    while query_text(lab.as_ref(), "select (failed_count > 0)::text from pg_stat_archiver").await != "true" {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let error = mark(lab.as_ref(), "more", "MARK000002").await.expect_err("leads nowhere");
    assert_eq!(error.code, Code::Refused, "{error:?}");
    assert!(error.message.contains("WAL is not being archived"), "{error:?}");
    let backups = lab.backups().expect("backups");
    assert_eq!(
        backups.find_restore_point("more", &test_key("MARK000002")).await,
        Ok(None),
        "nothing was asked for"
    );
    let made = make_branch(lab.as_ref(), &branch_request("named", to_name("weekly")), "BRANCH0001").await;
    let unseen = made.unseen.expect("something was not seen");
    assert!(unseen.contains("could not be searched: WAL is not being archived"), "{unseen}");
    let error = refusal(lab.as_ref(), &in_place_request(to_name("weekly"))).await;
    assert_eq!(error.code, Code::Refused, "{error:?}");
}

/// A server that was shut down in order has archived everything: nothing is left to be said.
#[tokio::test]
async fn a_source_that_was_shut_down_has_been_searched_to_its_end() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    begin_steps(lab.as_ref()).await;
    test_lab.run_statements(&[&make_point_sql("weekly")]).await;
    add_step(lab.as_ref(), 2).await;
    test_lab.stop_server().await;
    let made = make_branch(lab.as_ref(), &branch_request("named", to_name("weekly")), "BRANCH0001").await;
    assert_eq!(made.unseen, None);
    assert_eq!(list_steps(open_branch(lab.as_ref(), "named").await.as_ref()).await, "1");
}

/// A process died between the statement and its answer: the next one finds what was made, and makes nothing.
#[tokio::test]
async fn a_restore_point_is_found_by_its_key_without_an_answer() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    begin_steps(lab.as_ref()).await;
    let made = mark(lab.as_ref(), "weekly", "MARK000001").await.expect("a mark");
    let path = test_lab.state_folder().join("postgres/lab/marks/MARK000001.json");
    let mut record: Value = record_file::read_record(&path).expect("reads").expect("a record");
    let forget = |record: &mut Value| record["made"] = Value::Null;
    forget(&mut record);
    record_file::write_record(&path, &record).expect("written");
    assert_eq!(mark(lab.as_ref(), "weekly", "MARK000001").await, Ok(made));
    // An earlier version wrote down a moment of this machine's clock, and no place.
    let former =
        json!({ "name": "weekly", "asked_at": "2026-11-20T03:00:00Z", "lsn": "0/3000148", "time": null });
    record_file::write_record(&path, &former).expect("written");
    let backups = lab.backups().expect("backups");
    let error =
        backups.find_restore_point("weekly", &test_key("MARK000001")).await.expect_err("does not say");
    assert_eq!(error.code, Code::Unknown, "{error:?}");
    assert!(error.message.contains("another version"), "{error:?}");
}
