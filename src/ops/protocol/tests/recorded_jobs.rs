//! What was recorded of a job and does not read: nothing is asked by it, and nothing is cancelled.

use super::*;
use crate::provider::{OpenContext, model::Job, supabase};

#[tokio::test]
async fn what_a_provider_cannot_read_of_a_job_stops_the_run() {
    let clock: Arc<dyn Clock> =
        Arc::new(VirtualClock::starting_at(Moment::parse("2026-11-20T12:00:00Z").expect("a moment")));
    let settings = r#"ref = "abcdefghijklmnopqrst"
        api_url = "http://127.0.0.1:9""#;
    let (simulated, _) = sandbox();
    let mut target = simulated.target_config(SANDBOX).expect("it is there").clone();
    target.settings = toml::from_str(settings).expect("TOML");
    let folder = std::path::Path::new("/nowhere");
    let opening = OpenContext { target: &target, base: folder, file: None, state: folder, clock: &clock };
    let provider = supabase::open(&opening).expect("it touches nothing");
    let fleet = Fleet::with_one_target(SANDBOX, provider, Arc::clone(&clock));
    let sent_by = clock.uptime();
    for recorded in [
        Evidence::Accepted { job: Job { kind: "reset".into(), id: "1".into(), detail: json!({}) } },
        Evidence::Job { traces: json!({"status": "INACTIVE"}), sent_by },
    ] {
        let host = MemoryHost::default();
        let cx = call_context(&fleet, &host, Some(recorded));
        let taken = perform_operation(&cx, "project::pause", None, json!({})).await;
        assert!(matches!(taken, Err(EffectFailure::Unreadable(_))), "{taken:?}");
    }
}
