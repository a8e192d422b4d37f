//! Tests of the audit on real servers.

use super::{check::DEFAULT_CHECK, *};
use crate::provider::postgres::test_cluster::TestCluster;
use std::collections::BTreeSet;

/// Everything that these leave to find.
const FLAWED_OBJECTS: &[&str] = &[
    "set password_encryption = 'md5'; create role old login password 'x'",
    "create role clerk login; create role copier login replication bypassrls createrole; create role second superuser login",
    "create role runner; grant pg_execute_server_program, pg_read_server_files to runner",
    "create schema app; grant create on schema app to public",
    "create table app.customer (id int, iban text, owner text); grant select, insert on app.customer to public",
    "create function app.risky() returns int language sql security definer as 'select 1'",
    "create function app.pinned() returns int language sql security definer set search_path = '' as 'select 1'",
    "create table app.off (id int primary key); create policy p1 on app.off using (id > 1); create policy p2 on app.off for insert with check (true)",
    "create table app.open (id int primary key, owner text); alter table app.open enable row level security",
    "create policy half on app.open using (true) with check (owner = current_user); create policy reads on app.open for select using (true)",
    "alter table app.open owner to clerk; create view app.peek as select * from app.open",
    "create view app.fair with (security_invoker = true) as select * from app.open",
    "create table app.silent (id int primary key); alter table app.silent enable row level security",
    "create unlogged table app.gone (id int primary key); create table app.reg (id int primary key, kind regproc)",
    "create table app.parts (id int) partition by range (id); create table app.part1 partition of app.parts for values from (0) to (9)",
    "create extension dblink; create extension pg_trgm schema app version '1.3'",
    "select pg_create_physical_replication_slot('dead', true)",
    "create subscription sub connection 'dbname=nowhere' publication p with (connect = false); alter subscription sub enable",
    "alter system set max_connections = 77",
    "alter system set zero_damaged_pages = on",
    "alter system set ssl_min_protocol_version = 'TLSv1'",
];

const HBA_RULES: &str = "local all postgres trust
local all all trust
host all all 0.0.0.0/0 md5
host shop clerk 10.0.0.0/8 scram-sha-256
host all all ::1/128 scram-sha-256
host replication all 10.1.0.0/16 reject
host all second 10.2.0.0/16 reject
host all second 10.2.0.0/16 scram-sha-256
nonsense
";

async fn start_flawed_cluster() -> Option<TestCluster> {
    let settings = [
        "archive_mode=on",
        "archive_command=false",
        "wal_level=logical",
        "max_logical_replication_workers=0",
        "password_encryption=md5",
        "log_checkpoints=off",
    ];
    let cluster = TestCluster::start(&settings).await?;
    std::fs::write(cluster.data().join("pg_hba.conf"), HBA_RULES).expect("written");
    cluster.run_statements(FLAWED_OBJECTS).await;
    let tablespace = format!("create tablespace far location '{}'", cluster.archive().display());
    cluster.run_statements(&[&tablespace]).await;
    let file = cluster.data().join("postgresql.conf");
    let conf = std::fs::read_to_string(&file).expect("read");
    std::fs::write(&file, format!("{conf}\nwork_mem = 'much'\nport = 5999\n")).expect("written");
    cluster.run_statements(&["select pg_reload_conf()", "select pg_switch_wal()"]).await;
    let failed = "select failed_count from pg_stat_archiver where failed_count > 0";
    let client = cluster.connect().await;
    while super::super::sql::fetch_text(&client, failed).await.expect("asked").is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Some(cluster)
}

fn check_status(report: &AuditReport, check: &str) -> CheckStatus {
    report.checks.iter().find(|c| c.check == check).map(|c| c.status).expect(check)
}

fn found_objects<'a>(report: &'a AuditReport, check: &str) -> Vec<&'a str> {
    report.findings.iter().filter(|f| f.check == check).map(|f| f.object.as_str()).collect()
}

fn check_ids(report: &AuditReport, status: CheckStatus) -> Vec<&str> {
    report.checks.iter().filter(|c| c.status == status).map(|c| c.check.as_str()).collect()
}

#[test]
fn every_check_has_an_id_of_its_own_and_words() {
    let mut seen = BTreeSet::new();
    for spec in CHECK_GROUPS.iter().copied().flatten() {
        assert!(seen.insert(spec.id), "{} is there twice", spec.id);
        assert!(!spec.category.is_empty() && !spec.sql.is_empty(), "{}", spec.id);
        assert!(!spec.fix.is_empty() || spec.sql.contains("as fix"), "{} says no way out", spec.id);
    }
    assert_eq!(seen.len(), 57);
}

#[tokio::test]
async fn postgres_audit_finds_what_is_wrong() {
    let Some(cluster) = start_flawed_cluster().await else { return };
    let client = cluster.connect().await;
    let begun = std::time::Instant::now();
    let report = run_audit(&client, AuditScope::Source).await.expect("a report");
    assert!(begun.elapsed().as_millis() < 1000, "{:?}", begun.elapsed());

    assert_eq!(check_ids(&report, CheckStatus::Skipped), [""; 0]);
    // A minute-old cluster whose archiving is on and which has neither network nor TLS cannot have these.
    assert_eq!(
        check_ids(&report, CheckStatus::Passed),
        [
            "listen_all",
            "tls_old",
            "archive_off",
            "archive_command_empty",
            "archive_stale",
            "collation_changed",
            "wraparound"
        ]
    );
    for (check, found) in [
        ("hba_error", vec!["pg_hba.conf:9"]),
        ("hba_superuser_remote", vec!["pg_hba.conf:3"]),
        ("hba_never_reached", vec!["pg_hba.conf:4", "pg_hba.conf:7", "pg_hba.conf:8"]),
        ("public_table_grant", vec!["app.customer"]),
        ("secdef_public", vec!["app.risky()", "app.pinned()"]),
        ("function_search_path_mutable", vec!["app.risky()"]),
        ("rls_policy_always_true", vec!["app.open/half"]),
        ("view_over_rls_as_owner", vec!["app.peek"]),
        ("no_primary_key", vec!["app.customer", "app.parts"]),
        ("pending_restart", vec!["max_connections", "port"]),
    ] {
        assert_eq!(found_objects(&report, check), found, "{check}");
    }
    let files = found_objects(&report, "config_file_error");
    assert!(files.len() == 1 && files[0].contains("postgresql.conf"), "{files:?}");
    let prints: BTreeSet<_> = report.findings.iter().map(Finding::fingerprint).collect();
    assert_eq!(prints.len(), report.findings.len(), "two findings look the same");
    assert!(report.findings.is_sorted_by_key(|f| f.level), "worst first");
}

#[tokio::test]
async fn postgres_audit_of_a_branch_leaves_out_what_isolation_decides() {
    let Some(cluster) = start_flawed_cluster().await else { return };
    let client = cluster.connect().await;
    let report = run_audit(&client, AuditScope::Branch).await.expect("a report");
    let left_out = report.checks.iter().filter(|c| c.status == CheckStatus::NotApplicable);
    assert!(left_out.clone().all(|c| c.reason.is_some()));
    let categories: BTreeSet<_> = report.findings.iter().map(|f| f.category.as_str()).collect();
    assert_eq!(categories, BTreeSet::from(["DURABILITY", "OBJECTS", "RECOVERY", "RLS", "ROLES", "UPGRADE"]));
    assert_eq!(left_out.count(), 29);
    assert_eq!(check_status(&report, "unlogged_table"), CheckStatus::Failed);
}

#[tokio::test]
async fn postgres_audit_without_rights_skips_and_says_why() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    cluster.run_statements(&["create role clerk login"]).await;
    let client = cluster.database_as("clerk").address.connect().await.expect("let in");
    let report = run_audit(&client, AuditScope::Source).await.expect("a report");
    let skipped = [
        "hba_error",
        "hba_trust",
        "hba_weak_method",
        "hba_world_open",
        "hba_plaintext",
        "hba_superuser_remote",
        "hba_never_reached",
        "role_md5_password",
        "role_no_password",
        "pgaudit_absent",
        "pending_restart",
        "config_file_error",
    ];
    assert_eq!(check_ids(&report, CheckStatus::Skipped), skipped);
    for check in report.checks.iter().filter(|c| c.status == CheckStatus::Skipped) {
        let reason = check.reason.as_deref().expect("a reason");
        assert!(reason.contains("42501") || reason.contains("pg_read_all_settings"), "{reason}");
    }
    assert_eq!(check_status(&report, "archive_off"), CheckStatus::Failed);

    // With what the documentation asks for, everything runs.
    cluster
        .run_statements(&["grant pg_monitor to clerk; grant select on pg_hba_file_rules, pg_file_settings, pg_authid to clerk;
                grant execute on function pg_hba_file_rules(), pg_show_all_file_settings() to clerk"])
        .await;
    let report = run_audit(&client, AuditScope::Source).await.expect("a report");
    assert_eq!(check_ids(&report, CheckStatus::Skipped), [""; 0]);
}

#[tokio::test]
async fn postgres_a_check_that_cannot_run_stops_no_other() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    let client = cluster.connect().await;
    client.batch_execute("begin").await.expect("begun");
    let broken = CheckSpec { sql: "select object from no_such_view", ..DEFAULT_CHECK };
    let why = run_check(&client, &broken).await.expect("the connection lives").expect_err("cannot run");
    assert!(why.contains("no_such_view"), "{why}");
    let sound = CheckSpec { sql: "select 'x' as object, 'y' as detail", ..DEFAULT_CHECK };
    assert_eq!(run_check(&client, &sound).await.expect("lives").expect("runs").len(), 1);

    let old = AuditSession { version: 14, roles: Vec::new() };
    let young = CheckSpec { since_version: 15, ..DEFAULT_CHECK };
    let (status, reason) = old.reason_not_to_run(&young, AuditScope::Source).expect("an objection");
    assert_eq!((status, reason.as_str()), (CheckStatus::Skipped, "needs PostgreSQL 15; this is 14"));
}

#[tokio::test]
async fn postgres_policies_are_listed_whether_in_force_or_not() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    cluster
        .run_statements(&["create table b (owner text); create table a (owner text); create role clerk;
                alter table a enable row level security;
                create policy mine on a for update to clerk, postgres using (owner = current_user) with check (true);
                create policy narrow on b as restrictive using (false)"])
        .await;
    let client = cluster.connect().await;
    let listed = fetch_policies(&client).await.expect("policies");
    let shown: Vec<_> = listed
        .iter()
        .map(|p| (p.table.as_str(), p.name.as_str(), p.command.as_str(), p.permissive, p.enabled))
        .collect();
    assert_eq!(shown, [("a", "mine", "UPDATE", true, true), ("b", "narrow", "ALL", false, false)]);
    assert_eq!(listed[0].roles, ["clerk", "postgres"]);
    assert_eq!(listed[1].roles, ["public"]);
    assert_eq!(listed[0].using_expression.as_deref(), Some("(owner = CURRENT_USER)"));
    assert_eq!((listed[0].check_expression.as_deref(), &listed[1].check_expression), (Some("true"), &None));
}
