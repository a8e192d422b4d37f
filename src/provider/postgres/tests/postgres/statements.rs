//! Statements whose server went down before anybody heard of their commit.

use super::test_lab::{TestLab, query_number, test_key};
use crate::{
    base::moment::Span,
    provider::{
        Code,
        model::{CommitState, SqlOutcome},
    },
};

const TIMEOUT: Span = Span::from_secs(30);

#[tokio::test]
async fn a_commit_before_a_crash_is_found_in_the_archive_by_its_own_message() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let sql = lab.sql().expect("SQL");
    let delete = "delete from order_items where order_id <= 2";
    let open = async || sql.execute_uncommitted(delete, TIMEOUT, &test_key("SQL")).await.expect("open");
    let lost = open().await;
    let lost_token = lost.token();
    drop(lost);
    let transaction = open().await;
    let token = transaction.token();
    let outcome = transaction.commit().await.expect("committed");
    assert_ne!(outcome, SqlOutcome { rows_affected: 0 });
    test_lab.crash_server().await;
    test_lab.start_server(&[]).await;
    assert_eq!(sql.find_commit_state(&test_key("SQL"), &token).await, Ok(CommitState::Committed(outcome)));
    assert_eq!(sql.find_commit_state(&test_key("SQL"), &lost_token).await, Ok(CommitState::NotCommitted));
    let left = query_number(lab.as_ref(), "select count(*) from order_items where order_id <= 2").await;
    assert_eq!(left, 0);

    // The same id without our message is another transaction.
    let error = sql.find_commit_state(&test_key("OTHER"), &token).await.expect_err("another one's");
    assert!(error.code == Code::Unknown && error.message.contains("does not show"), "{error}");
}
