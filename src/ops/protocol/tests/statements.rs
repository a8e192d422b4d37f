//! Statements, and what is kept for those of an earlier attempt.

use super::*;

#[tokio::test]
async fn a_statement_that_is_made_again_leaves_what_is_kept_for_the_earlier_one() {
    for (attempts, is_open, lifted) in [(1, false, 1), (2, false, 1), (2, true, 0)] {
        let (fleet, _) = slow_sandbox();
        let earlier = fleet.clock().uptime();
        fleet.clock().sleep(Span::from_secs(5)).await;
        let host = MemoryHost { open_since: is_open.then(|| earlier.clone()), ..MemoryHost::default() };
        let cx = CallContext { attempts, ..call_context(&fleet, &host, None) };
        let statement = Some(json!("delete from order_items where order_id = 1"));
        perform_operation(&cx, "db::execute", statement, json!({})).await.expect("it is committed");
        let last = lock_unpoisoned(&host.quarantines).last().expect("one was begun").0.clone();
        assert_eq!(last == earlier, is_open, "{attempts}");
        assert_eq!(host.lifted.into_inner(), lifted, "{attempts}");
    }
}
