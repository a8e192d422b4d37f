//! Calls that were begun before: what is said of them when their place is refused.

use super::*;

#[tokio::test]
async fn a_begun_call_whose_branch_is_not_shown_is_undecided() {
    let (fleet, _) = sandbox();
    let sent_by = fleet.clock().uptime();
    let token = Evidence::Commit { token: json!("7"), outcome: None };
    let set = Evidence::Set { changes: ElementChanges::new(), sent_by };
    for (path, given, recorded) in [
        ("db::execute", json!("delete from orders"), Some(token)),
        ("db::config::set", json!({"work_mem": "8MB"}), Some(set)),
        ("network::ssl::set", json!(true), None),
        ("backup::delete", json!("b1"), None),
    ] {
        let host = MemoryHost::default();
        let op = ops::find_operation(path).expect("an operation");
        let Protocol::Effect(perform) = op.protocol else { panic!("`{path}` takes no effect") };
        let place = format!("{SANDBOX}/gone");
        let args = CallArgs::decode(op, vec![place.into(), given], serde_json::Map::new());
        let cx = CallContext { is_taken_up: true, ..call_context(&fleet, &host, recorded) };
        let taken = perform(&cx, &args.expect("arguments")).await;
        let Err(EffectFailure::Undecided(why)) = taken else { panic!("{path}: nobody knows: {taken:?}") };
        assert!(why.contains("no branch"), "{why}");
        assert_eq!(host.lifted.into_inner(), 0, "{path}: it may still come");
    }
}
