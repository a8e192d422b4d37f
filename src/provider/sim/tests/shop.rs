use super::*;

#[tokio::test]
async fn the_sandbox_is_a_shop_with_one_fault() {
    let shop = sim_in_memory(SANDBOX);
    let rows =
        shop.sql().expect("sql").query("select count(*) as n from public.orders", Span::from_secs(5)).await;
    assert_eq!(rows.expect("the query runs").rows[0]["n"], json!(211));
    let report = shop.security().expect("security").audit().await.expect("the audit runs");
    let errors: Vec<_> = report.findings.iter().filter(|f| f.level == FindingLevel::Error).collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].fingerprint(), ("policy_exists_rls_disabled", "public.customers"));
    let policies = shop.security().expect("security").policies().await.expect("policies");
    assert_eq!(
        policies.iter().map(|p| (p.table.as_str(), p.enabled)).collect::<Vec<_>>(),
        [("customers", false), ("order_items", true), ("orders", true)]
    );
    let query = TableEventQuery { table: None, event: None, since: None, until: None };
    let events = shop.backups().expect("backups").table_events(&query).await.expect("events");
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].event.as_str(), events[0].table.as_deref(), events[0].time),
        ("drop", Some("public.order_notes"), minutes_ago(21))
    );

    let lost = RestoreRequest {
        to: RecoveryPoint {
            at: RecoveryTarget::Xid(events[0].xid.clone()),
            inclusive: false,
            timeline: None,
        },
        ..branch_restore_request(RecoveryTarget::Latest)
    };
    let copy = restore_branch(&shop, &lost, "k1").await.expect("the branch comes");
    let notes =
        copy.sql().expect("sql").query("select count(*) as n from order_notes", Span::from_secs(5)).await;
    assert_eq!(notes.expect("the table is back").rows[0]["n"], json!(34));
}

#[tokio::test]
async fn the_fault_can_be_mended_and_a_branch_has_no_network() {
    let shop = sim_in_memory(SANDBOX);
    execute_sql(&shop, "ALTER TABLE public.customers ENABLE ROW LEVEL SECURITY", "k1")
        .await
        .expect("it runs");
    let report = shop.security().expect("security").audit().await.expect("the audit runs");
    assert!(report.findings.iter().all(|f| f.level != FindingLevel::Error), "{:?}", report.findings);
    assert!(report.findings.iter().any(|f| f.check == "hba_plaintext"));
    let copy = restore_branch(&shop, &branch_restore_request(RecoveryTarget::BackupEnd), "k2")
        .await
        .expect("the branch comes");
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
async fn a_dropped_table_takes_its_policies_along() {
    let shop = sim_in_memory(SANDBOX);
    execute_sql(&shop, "drop table order_items", "k1").await.expect("it runs");
    execute_sql(&shop, "create table order_items (id integer primary key)", "k2").await.expect("it runs");
    let policies = shop.security().expect("security").policies().await.expect("policies");
    assert_eq!(policies.iter().map(|p| p.table.as_str()).collect::<Vec<_>>(), ["customers", "orders"]);
}
