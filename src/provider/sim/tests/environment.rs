//! The environment of the database: schedules, replicas, settings, the network, power.

use super::*;
use crate::provider::{
    Lifecycle, Network as _, Raw as _, Replicas, Schedules, Settings,
    model::{Frequency, ReplicaRequest, ScheduleRequest},
};

/// The ledger, with everything that a world can say of the environment.
const FULL_LEDGER: &str = r#"
title = "a ledger"
retention = "3d"
backup_duration = "10m"
restore_duration = "1h"
replica_duration = "5m"
apply_duration = "30s"
restrictions = ["10.0.0.0/8"]
bans = ["203.0.113.9"]
ssl = true
addons = [{ kind = "pitr", variant = "pitr_7", name = "7 days" }]

[settings]
work_mem = "8MB"
max_connections = 200

[[schedules]]
id = "nightly"
at = "03:00"
keep_days = 2

[[replicas]]
id = "reader"
region = "eu-west-1"

[[history]]
at = "-2h"
sql = "create table entries (id integer primary key, amount integer not null)"

[[backups]]
id = "first"
at = "-1h"
"#;

async fn pass_hours(sim: &Sim, hours: i64) {
    Provider::let_time_pass(sim, &*frozen_clock(), Span::from_secs(hours * 3600)).await;
}

async fn list_backups(sim: &Sim) -> Vec<Backup> {
    sim.backups().expect("backups").list().await.expect("they are listed")
}

fn parse_moment(text: &str) -> Moment {
    Moment::parse(text).expect("a moment")
}

async fn insert_entry(sim: &Sim, id: i64) {
    execute_sql(sim, &format!("insert into entries values ({id}, 1)"), &format!("i{id}"))
        .await
        .expect("it runs");
}

#[tokio::test]
async fn a_schedule_takes_what_was_due_while_nobody_looked() {
    let sim = sim_in_memory(FULL_LEDGER);
    insert_entry(&sim, 1).await;
    // From noon to 10:00 of the next day: 03:00 has passed.
    pass_hours(&sim, 22).await;
    insert_entry(&sim, 2).await;
    let all = list_backups(&sim).await;
    let taken = all.last().expect("it was taken");
    assert_eq!(
        (taken.id.as_str(), taken.status.as_str(), &taken.key),
        ("nightly-202611210300", "completed", &None)
    );
    assert_eq!(
        (taken.started_at, taken.finished_at),
        (parse_moment("2026-11-21T03:00:00Z"), Some(parse_moment("2026-11-21T03:10:00Z")))
    );
    let request = RestoreRequest {
        backup: Some(taken.id.clone()),
        ..branch_restore_request(RecoveryTarget::BackupEnd)
    };
    let copy = restore_branch(&sim, &request, "k1").await.expect("it is restored");
    assert_eq!(entry_ids(&*copy).await, [1], "it holds what was there at three o'clock");
    assert!(
        sim.effect_log().expect("the log").iter().all(|e| !e.what.contains("nightly")),
        "nobody asked for it"
    );
}

#[tokio::test]
async fn a_scheduled_backup_is_kept_for_its_days() {
    let sim = sim_in_memory(FULL_LEDGER);
    pass_hours(&sim, 24 * 365).await;
    let kept: Vec<String> = list_backups(&sim).await.into_iter().map(|b| b.id).collect();
    assert_eq!(kept, ["first", "nightly-202711190300", "nightly-202711200300"]);
    pass_hours(&sim, 24).await;
    assert_eq!(list_backups(&sim).await.len(), 3);
    let next = Schedules::list(&sim).await.expect("schedules")[0].next_at;
    assert_eq!(next, Some(parse_moment("2027-11-22T03:00:00Z")));
}

#[tokio::test]
async fn a_schedule_is_made_once_and_not_beside_its_like() {
    let sim = sim_in_memory(FULL_LEDGER);
    let request = ScheduleRequest { every: Frequency::Week, at: "04:30".into(), keep_days: None };
    let made = Schedules::create(&sim, &request, &call_key("k1")).await.expect("it is made");
    assert_eq!(
        (made.next_at, &made.key),
        (Some(parse_moment("2026-11-23T04:30:00Z")), &Some(call_key("k1")))
    );
    assert_eq!(Schedules::create(&sim, &request, &call_key("k1")).await.expect("it is answered").id, made.id);
    let twin = Schedules::create(&sim, &request, &call_key("k2")).await.expect_err("there is one");
    assert_eq!(twin.code, Code::Conflict);
    Schedules::delete(&sim, &made.id).await.expect("it goes");
    Schedules::delete(&sim, &made.id).await.expect("it is gone already");
    let kinds: Vec<String> = sim.effect_log().expect("the log").into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, ["schedule.create", "schedule.delete"]);
    let forever = ScheduleRequest { keep_days: Some(366), ..request };
    assert_eq!(
        Schedules::create(&sim, &forever, &call_key("k3")).await.expect_err("it is refused").code,
        Code::Invalid
    );
}

#[tokio::test]
async fn a_target_that_is_off_answers_no_query_and_takes_no_backup() {
    let sim = sim_in_memory(FULL_LEDGER);
    let off = Lifecycle::pause(&sim, &call_key("k1")).await.expect("it is accepted");
    let refused = execute_sql(&sim, "insert into entries values (1, 1)", "k2").await.expect_err("it is off");
    assert_eq!((refused.code, refused.retryable), (Code::Unavailable, true));
    let (project, _) = wait_for_job(&sim, &off).await.expect("it is off");
    assert_eq!(project["status"], "paused");
    let refused = execute_sql(&sim, "insert into entries values (1, 1)", "k2").await.expect_err("it is off");
    assert!(refused.message.starts_with("`ledger` is paused since `2026-11-20T12:01:00Z`"), "{refused:?}");
    let restore = sim
        .backups()
        .expect("backups")
        .restore(&in_place_restore_request(RecoveryTarget::Latest), &call_key("k3"))
        .await;
    assert_eq!(restore.expect_err("it is off").code, Code::Refused);
    let again = Lifecycle::pause(&sim, &call_key("k4")).await.expect_err("it is off");
    assert_eq!(again.code, Code::Refused);

    pass_hours(&sim, 48).await;
    assert_eq!(list_backups(&sim).await.len(), 1, "nothing is taken of what is off");
    assert_eq!(Schedules::list(&sim).await.expect("schedules")[0].next_at, None);
    let on = Lifecycle::resume(&sim, &call_key("k5")).await.expect("it is accepted");
    assert!(
        matches!(sim.check_ready().await.expect("it can be asked"), JobStatus::Running(p) if p.phase == "resuming")
    );
    let (project, looks) = wait_for_job(&sim, &on).await.expect("it is on");
    assert_eq!((&project["status"], looks > 0), (&json!("healthy"), true));
    insert_entry(&sim, 1).await;
    pass_hours(&sim, 24).await;
    assert_eq!(list_backups(&sim).await.len(), 2);
}

#[tokio::test]
async fn a_replica_comes_up_with_time_and_once() {
    let sim = sim_in_memory(FULL_LEDGER);
    let request = ReplicaRequest { region: Some("us-east-1".into()) };
    let k1 = call_key("k1");
    let create = || Replicas::create(&sim, &request, &k1);
    let job = create().await.expect("it is accepted");
    assert_eq!(create().await.expect("it is answered"), job);
    assert_eq!(sim.find_job(&call_key("k1"), None).await.expect("it can be asked"), Some(job.clone()));
    let status = || async {
        Replicas::list(&sim).await.expect("replicas").iter().map(|r| r.status.clone()).collect::<Vec<_>>()
    };
    assert_eq!(status().await, ["ready", "preparing"]);
    let (replica, looks) = wait_for_job(&sim, &job).await.expect("it comes up");
    assert_eq!((&replica["status"], &replica["region"], looks), (&json!("ready"), &json!("us-east-1"), 1));

    let given_up = Replicas::create(&sim, &request, &call_key("k2")).await.expect("it is accepted");
    sim.cancel(&given_up).await.expect("it is given up");
    Replicas::delete(&sim, "reader").await.expect("it goes");
    assert_eq!(status().await, ["ready"]);
}

#[tokio::test]
async fn settings_hold_at_once_or_after_a_restart() {
    let sim = sim_in_memory(FULL_LEDGER);
    let shown = || async {
        let names = ["work_mem", "max_connections"].map(String::from);
        let all = Settings::get(&sim, &names).await.expect("settings");
        all.into_iter().map(|s| (s.overridden, s.effective, s.pending_restart)).collect::<Vec<_>>()
    };
    assert_eq!(shown().await, [(json!("8MB"), json!("8MB"), false), (json!(200), json!("200"), false)]);
    let values = json!({"work_mem": null, "max_connections": 300});
    let values = values.as_object().expect("a map");
    assert_eq!(sim.set(values).await.expect("they are set"), ["max_connections"]);
    assert_eq!(shown().await, [(json!(null), json!("4MB"), false), (json!(300), json!("200"), true)]);
    let started = sim.server_start().await.expect("it is up");
    sim.restart().await.expect("it restarts");
    assert_ne!(sim.server_start().await.expect("it is up"), started);
    assert_eq!(shown().await[1], (json!(300), json!("300"), false));
    assert_eq!(sim.set(values).await.expect("it is so already"), Vec::<String>::new());
    assert_eq!(sim.effect_log().expect("the log").len(), 2, "what is so already is no effect");
    for (wrong, code) in
        [(json!({"work_men": 1}), Code::NotFound), (json!({"jit": "on", "work_mem": "1kB"}), Code::Invalid)]
    {
        let refused = sim.set(wrong.as_object().expect("a map")).await.expect_err("it is refused");
        assert_eq!(refused.code, code);
    }
    assert_eq!(sim.effect_log().expect("the log").len(), 2, "a refused one sets nothing");
}

#[tokio::test]
async fn what_is_stored_of_the_network_is_applied_later() {
    let sim = sim_in_memory(FULL_LEDGER);
    let net = |text: &str| text.parse().expect("a range");
    let before = sim.allowed_ranges().await.expect("ranges");
    assert_eq!((before.applied, before.ranges.len(), before.ranges[0].status.as_str()), (true, 1, "applied"));
    let changed =
        sim.change_ranges(&[net("203.0.113.0/24")], &[net("10.0.0.0/8")]).await.expect("it is changed");
    assert_eq!((changed.applied, changed.ranges[0].status.as_str()), (false, "stored"));
    assert!(!sim.set_ssl_enforcement(false).await.expect("it is changed").applied);
    Provider::let_time_pass(&sim, &*frozen_clock(), Span::from_secs(30)).await;
    let applied = sim.allowed_ranges().await.expect("ranges");
    assert_eq!((applied.applied, applied.ranges[0].status.as_str()), (true, "applied"));
    let ssl = sim.ssl().await.expect("ssl");
    assert_eq!((ssl.enforced, ssl.applied), (false, true));

    let open = sim.change_ranges(&[], &[net("203.0.113.0/24")]).await.expect("it is changed");
    let shown: Vec<String> = open.ranges.iter().map(|r| r.cidr.to_string()).collect();
    assert_eq!(shown, ["0.0.0.0/0", "::/0"], "what nothing restricts is open, and says so");

    let banned = "203.0.113.9".parse().expect("an address");
    assert_eq!(sim.bans().await.expect("bans").iter().map(|b| b.address).collect::<Vec<_>>(), [banned]);
    sim.unban(&[banned]).await.expect("it is let in");
    sim.unban(&[banned]).await.expect("it was let in before");
    let kinds: Vec<String> = sim.effect_log().expect("the log").into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, ["network.allow", "network.ssl", "network.allow", "network.unban"]);
}

#[tokio::test]
async fn a_branch_is_reset_and_the_target_made_what_it_is() {
    let sim = sim_in_memory(FULL_LEDGER);
    insert_entry(&sim, 1).await;
    let copy = restore_branch(&sim, &branch_restore_request(RecoveryTarget::Latest), "k1")
        .await
        .expect("the branch comes");
    execute_sql(&*copy, "insert into entries values (2, 2)", "k2").await.expect("it runs");
    insert_entry(&sim, 9).await;
    let drill = sim.branches().expect("branches").get("drill").await.expect("it is there");
    let branches = || sim.branches().expect("branches");

    let promotion = branches().promote(&drill, &call_key("k3")).await.expect("it is accepted");
    assert_eq!(
        execute_sql(&sim, "delete from entries", "k4").await.expect_err("it is overwritten").code,
        Code::Unavailable
    );
    let (promoted, _) = wait_for_job(&sim, &promotion).await.expect("it is promoted");
    assert_eq!(promoted, json!({"target": "ledger", "branch": "drill", "carried": "data"}));
    assert_eq!((entry_ids(&sim).await, entry_ids(&*copy).await), (vec![1, 2], vec![1, 2]));
    insert_entry(&sim, 3).await;

    let reset = branches().reset(&drill, &call_key("k5")).await.expect("it is accepted");
    assert_eq!(
        execute_sql(&*copy, "delete from entries", "k6").await.expect_err("it is away").code,
        Code::Unavailable
    );
    let (value, _) = wait_for_job(&sim, &reset).await.expect("it is reset");
    assert_eq!(value["$branch"]["id"], drill.id.as_str());
    assert_eq!((entry_ids(&sim).await, entry_ids(&*copy).await), (vec![1, 2, 3], vec![1]));

    execute_sql(&*copy, "insert into entries values (7, 7)", "k7").await.expect("it runs");
    let given_up = branches().reset(&drill, &call_key("k8")).await.expect("it is accepted");
    sim.cancel(&given_up).await.expect("it is given up");
    assert_eq!(entry_ids(&*copy).await, [1, 7], "what is given up has touched nothing");
    // What came before the promotion can still be gone back to.
    let early =
        RestoreRequest { into: Some("early".into()), ..branch_restore_request(RecoveryTarget::Latest) };
    assert_eq!(
        entry_ids(&*restore_branch(&sim, &early, "k9").await.expect("the branch comes")).await,
        [1, 2, 3]
    );
}

#[tokio::test]
async fn a_branch_has_none_of_it() {
    let sim = sim_in_memory(FULL_LEDGER);
    let copy = restore_branch(&sim, &branch_restore_request(RecoveryTarget::Latest), "k1")
        .await
        .expect("the branch comes");
    let refusals = [
        copy.schedules().err(),
        copy.replicas().err(),
        copy.settings().err(),
        copy.network().err(),
        copy.lifecycle().err(),
        copy.raw().err(),
    ];
    for refusal in refusals {
        let refusal = refusal.expect("it is refused");
        assert_eq!((refusal.code, refusal.hint.is_some()), (Code::Unsupported, true));
    }
}

#[tokio::test]
async fn the_worlds_own_interface_sets_its_clock_forward() {
    let sim = sim_in_memory(FULL_LEDGER);
    sim.send_request("POST", "/clock", Some(&json!({"pass": "1d"}))).await.expect("it is set");
    assert_eq!(
        sim.send_request("GET", "/world", None).await.expect("it is told")["now"],
        "2026-11-21T12:00:00Z"
    );
    assert_eq!(sim.send_request("GET", "/effects", None).await.expect("it is told")[0]["kind"], "clock.pass");
    for (method, path, body) in
        [("POST", "/clock", None), ("POST", "/clock", Some(json!({"pass": "-1d"}))), ("GET", "/clock", None)]
    {
        assert!(sim.send_request(method, path, body.as_ref()).await.is_err());
    }
}

#[tokio::test]
async fn everything_is_in_the_normalized_world() {
    let sim = sim_in_memory(FULL_LEDGER);
    let normalized = || sim.normalized_world().expect("a world");
    let calm = normalized();
    pass_hours(&sim, 48).await;
    assert_eq!(normalized(), calm, "what follows from the time that passed is no difference");
    sim.set(json!({"jit": false}).as_object().expect("a map")).await.expect("it is set");
    sim.set_ssl_enforcement(false).await.expect("it is changed");
    Replicas::delete(&sim, "reader").await.expect("it goes");
    Schedules::delete(&sim, "nightly").await.expect("it goes");
    let (calm, changed) = (json!(calm), json!(normalized()));
    let parts = calm.as_object().expect("a map").keys();
    let parts: Vec<&String> = parts.filter(|part| calm[*part] != changed[*part]).collect();
    assert_eq!(parts, ["replicas", "schedules", "settings", "switches"]);
}

#[test]
fn a_wrong_world_is_refused_with_its_line() {
    for (wrong, line, says) in [
        ("restrictions = [\"10.0.0.1/8\"]\n", 2, "host bits"),
        ("bans = [\"somebody\"]\n", 2, "IP address"),
        ("[settings]\nwork_men = \"8MB\"\n", 3, "work_men"),
        ("[settings]\nwork_mem = [1]\n", 3, "a setting is"),
        ("[[schedules]]\nid = \"x\"\nat = \"25:00\"\n", 4, "time of day"),
        ("[[schedules]]\nid = \"x\"\nat = \"03:00\"\nkeep_days = 0\n", 4, "365 days"),
        ("[[replicas]]\nid = \"x\"\n[[replicas]]\nid = \"x\"\n", 5, "two replicas"),
    ] {
        let text = format!("title = \"t\"\n{wrong}");
        let error = Sim::in_memory("t", &text, "test", frozen_clock()).err().expect("it is refused");
        let place = format!("line {line}: ");
        assert!(error.message.contains(&place) && error.message.contains(says), "{wrong}: {error:?}");
    }
}

#[tokio::test]
async fn a_world_of_the_first_format_is_moved_on() {
    let state = tempfile::tempdir().expect("a folder");
    let shop = sim_on_disk(state.path(), "").expect("it opens");
    execute_sql(&shop, "delete from order_items", "k1").await.expect("it runs");
    drop(shop);
    let file = rusqlite::Connection::open(world_file_path(state.path(), "shop")).expect("it is a database");
    let undo = "drop table switches; drop table schedules; drop table kept; drop table replicas;
                drop table settings; drop table ranges; drop table bans; pragma user_version = 1";
    file.execute_batch(undo).expect("it is of the first format");
    drop(file);
    let shop = sim_on_disk(state.path(), "").expect("it opens");
    assert_eq!(shop.bans().await.expect("bans").len(), 2);
    assert_eq!(shop.effect_log().expect("the log").len(), 1, "what was done is still done");
    assert!(shop.allowed_ranges().await.expect("ranges").applied);
}
