//! A request that gets no answer, and a person who is asked whether to look on for it.

use super::{super::script_runner::RunResources, approvals::ScriptedPerson, *};
use crate::{
    base::{
        clock::{Clock, VirtualClock},
        moment::{Moment, Span},
    },
    config::SANDBOX,
    journal::{Decision, Journal, Quarantine, RecordObserver},
    provider::{
        Fleet, Provider,
        sim::{
            self, Sim,
            faults::{FaultSource, FaultySim, RequestKind, RequestOutcome, SimRequest},
        },
    },
    runtime::{DecidableCall, ScriptRunner},
};
use futures_util::FutureExt as _;
use std::time::{Duration, Instant};

const RUN: &str = "lost";
/// Longer than anybody here takes to answer, however slow the machine is.
const BOUND: Span = Span::from_secs(10 * 3600);
const SCRIPT: &str = r#"const RUNBOOK = #{ title: "t", needs: ["backup.create"] };
backup::schedule::create("sandbox", #{ at: "04:00", every: "week" });
"#;

/// Loses the answer of the first request that writes, which lands later.
struct LostAnswer {
    lands_after: Span,
    is_over: AtomicBool,
}

impl FaultSource for LostAnswer {
    fn choose_outcome(&self, request: &SimRequest<'_>) -> RequestOutcome {
        if request.kind == RequestKind::Read || self.is_over.swap(true, Ordering::SeqCst) {
            return RequestOutcome::Served;
        }
        RequestOutcome::LandsLate(self.lands_after)
    }
    fn on_served(&self, _: &SimRequest<'_>) {}
    fn current_sender(&self) -> String {
        String::new()
    }
    fn on_keyless_effect(&self, _: &str, _: &str) {}
    fn on_late_effect(&self, _: &str) {}
}

/// Hears of records, and does nothing.
struct NoCrash;

impl RecordObserver for NoCrash {
    fn before_append(&self, _: &Record) {}
    fn after_append(&self, _: &Record) {}
}

/// A sandbox where the answer of one request is lost, and a run on it.
struct LostEnv {
    sim: Sim,
    fleet: Arc<Fleet>,
    journal: Arc<Journal>,
}

impl LostEnv {
    fn new(lands_after: Span) -> Self {
        Self::with_faults(LostAnswer { lands_after, is_over: AtomicBool::new(false) })
    }

    fn with_faults(faults: impl FaultSource + 'static) -> Self {
        let noon = Moment::parse("2026-11-20T12:00:00Z").expect("a moment");
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(noon));
        let sim = Sim::in_memory(SANDBOX, sim::SANDBOX, "test", Arc::clone(&clock)).expect("a world");
        let platform =
            FaultySim::new(sim.clone(), Arc::new(faults), Arc::clone(&clock)).with_landing_bound(BOUND);
        let platform: Arc<dyn Provider> = Arc::new(platform);
        let fleet = Arc::new(Fleet::with_one_target(SANDBOX, platform, Arc::clone(&clock)));
        let journal = Journal::open_in_memory(clock, Arc::new(NoCrash), &Arc::default());
        Self { sim, fleet, journal: Arc::new(journal.expect("a journal")) }
    }

    /// Starts the run, or resumes it, before somebody who may answer.
    fn drive(&self, resumes: bool, watch: Arc<dyn RunObserver>) -> RunResult {
        self.drive_script(SCRIPT, resumes, watch)
    }

    fn drive_script(&self, script: &str, resumes: bool, watch: Arc<dyn RunObserver>) -> RunResult {
        let runbook = Runbook::from_text("lost.rhai", script.to_owned()).expect("it parses");
        let config = TestEnv::new().load_config();
        let now = self.fleet.clock().now();
        let admitted = ScriptRunner::check_and_resolve_params(&runbook, &BTreeMap::new(), &config, now);
        let params = admitted.expect("it may run").values;
        let mut runner = ScriptRunner::new(&runbook, params).expect("an engine");
        let resources = RunResources {
            fleet: Arc::clone(&self.fleet),
            journal: Arc::clone(&self.journal),
            watch,
            stop_requester: Arc::default(),
        };
        let driven = if resumes {
            runner.resume_run(&resources, RUN, &runbook)
        } else {
            runner.start_run(&resources, RUN)
        };
        driven.expect("it may run").expect("nobody is killed")
    }

    fn count_schedules(&self) -> usize {
        self.sim.effect_log().expect("a log").iter().filter(|effect| effect.kind.contains("schedule")).count()
    }
}

/// The restore is the call that ends what the change waits for, and it comes to the target after it.
#[test]
fn a_call_that_waits_for_another_one_of_its_run_does_not_keep_it_away() {
    const BESIDE: &str = r#"const RUNBOOK = #{ title: "t", needs: ["backup.destroy", "network.change"] };
    parallel([
        || { sleep("1m"); backup::pitr::restore("sandbox", #{ to: #{ time: now() - duration("1h") }, timeout: "4h" }) },
        || network::ssl::set("sandbox", true, #{ timeout: "20h" }),
    ]);
    "#;
    let served =
        || LostEnv::with_faults(LostAnswer { lands_after: Span::ZERO, is_over: AtomicBool::new(true) });
    let drive = |env: &LostEnv| env.drive_script(BESIDE, false, Arc::<Listener>::default());
    let first = served();
    assert_eq!(drive(&first).status, RunStatus::Succeeded);
    let records = first.journal.read_records(RUN).expect("records");
    let restore = records.iter().find_map(|entry| match &entry.record {
        Record::Begin { call, op, .. } if op.contains("restore") => Some(call.clone()),
        _ => None,
    });
    let identity = first.sim.identity().now_or_never().expect("at once").expect("an identity");
    let env = served();
    let accepted = Quarantine {
        place: identity.id,
        part: None,
        run: RUN.into(),
        call: restore.expect("it began"),
        sent_by: env.fleet.clock().uptime(),
        span: None,
    };
    env.journal.put_under_quarantine(&[accepted]).expect("written");
    let ended = drive(&env);
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
}

#[test]
fn who_stops_the_looking_leaves_the_run_undecided_and_a_resume_looks_on() {
    let env = LostEnv::new(Span::from_secs(3600));
    let person = ScriptedPerson::with_answers(&[Choice::Stop]);
    let ended = env.drive(false, Arc::clone(&person) as Arc<dyn RunObserver>);
    assert_eq!(ended.status, RunStatus::Undecided, "{ended:?}");
    let Some(StopReason::Undecided { reason, .. }) = ended.stop else { panic!("{ended:?}") };
    assert!(
        reason.contains("ann ended the looking, and it may still come until 2026-11-20T22:00:"),
        "{reason}"
    );
    let [Question::LostRequest { op, until, .. }] = &person.list_questions()[..] else {
        panic!("{:?}", person.list_questions())
    };
    assert_eq!(op, "backup::schedule::create");
    assert!(reason.contains(&until.to_string()), "{reason}");
    assert_eq!(env.count_schedules(), 0);
    let ended = env.drive(true, Arc::<Listener>::default());
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
    assert_eq!(env.count_schedules(), 1, "it was found, and not asked for again");
}

#[test]
fn who_waits_gets_what_comes_before_the_bound() {
    let env = LostEnv::new(Span::from_secs(3600));
    let person = ScriptedPerson::with_answers(&[Choice::Wait]);
    let ended = env.drive(false, Arc::clone(&person) as Arc<dyn RunObserver>);
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
    assert_eq!((person.list_questions().len(), env.count_schedules()), (1, 1));
}

/// Thinks about a question until it is withdrawn.
#[derive(Default)]
struct SlowThinker {
    has_given_up: AtomicBool,
}

impl RunObserver for SlowThinker {
    fn on_event(&self, _: &Event<'_>) {}

    fn ask_person(&self, question: &Question, withdrawal: &Withdrawal) -> Option<Answer> {
        assert!(matches!(question, Question::LostRequest { .. }), "{question:?}");
        while !withdrawal.is_withdrawn() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.has_given_up.store(true, Ordering::SeqCst);
        None
    }
}

#[test]
fn what_comes_while_somebody_thinks_ends_the_call_and_withdraws_the_question() {
    let (env, thinker) = (LostEnv::new(Span::from_secs(120)), Arc::new(SlowThinker::default()));
    let ended = env.drive(false, Arc::clone(&thinker) as Arc<dyn RunObserver>);
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
    assert_eq!(env.count_schedules(), 1);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !thinker.has_given_up.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "the question stands although its answer is not wanted any more");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whoever decides to send it again has decided about the first one: nothing waits for that any more.
#[test]
fn what_is_sent_again_and_answered_keeps_nothing_from_going_on() {
    const OPAQUE: &str = r#"const RUNBOOK = #{ title: "t", needs: ["supabase.destroy", "backup.destroy"] };
    supabase::api("sandbox", "POST", "/clock", #{ body: #{ pass: "1h" } });
    backup::pitr::restore("sandbox", #{ to: #{ time: now() - duration("1h") }, timeout: "4h" });
    "#;
    let lost = LostAnswer { lands_after: Span::from_secs(60), is_over: AtomicBool::new(false) };
    let env = LostEnv::with_faults(lost);
    let ended = env.drive_script(OPAQUE, false, Arc::<Listener>::default());
    assert_eq!(ended.status, RunStatus::Undecided, "{ended:?}");
    let call = DecidableCall::acquire(&env.journal, RUN, "/", true).expect("one is undecided");
    call.record_decision(&env.journal, &Decision::Redo { error: None }, "bob".into()).expect("written");
    drop(call);
    let ended = env.drive_script(OPAQUE, true, Arc::<Listener>::default());
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
    assert_eq!(env.journal.list_quarantines().expect("read"), []);
}

/// Who waits for what nobody knows may keep its run from being resumed.
#[test]
fn a_decision_that_settles_a_call_lets_those_go_on_that_wait_for_it() {
    const OPAQUE: &str = r#"const RUNBOOK = #{ title: "t", needs: ["supabase.destroy"] };
    supabase::api("sandbox", "POST", "/clock", #{ body: #{ pass: "1h" } });
    "#;
    for (decision, kept) in [
        (Decision::Fail { error: None }, 0),
        (Decision::Done { result: Value::Null }, 0),
        (Decision::Redo { error: None }, 1),
    ] {
        let lost = LostAnswer { lands_after: Span::from_secs(60), is_over: AtomicBool::new(false) };
        let env = LostEnv::with_faults(lost);
        let ended = env.drive_script(OPAQUE, false, Arc::<Listener>::default());
        assert_eq!(ended.status, RunStatus::Undecided, "{ended:?}");
        let call = DecidableCall::acquire(&env.journal, RUN, "/", true).expect("one is undecided");
        call.record_decision(&env.journal, &decision, "bob".into()).expect("written");
        assert_eq!(env.journal.list_quarantines().expect("read").len(), kept, "{decision:?}");
    }
}

/// Refuses every restart.
struct RefusedRestart;

impl FaultSource for RefusedRestart {
    fn choose_outcome(&self, request: &SimRequest<'_>) -> RequestOutcome {
        if request.name == "restart" { RequestOutcome::Refused } else { RequestOutcome::Served }
    }
    fn on_served(&self, _: &SimRequest<'_>) {}
    fn current_sender(&self) -> String {
        String::new()
    }
    fn on_keyless_effect(&self, _: &str, _: &str) {}
    fn on_late_effect(&self, _: &str) {}
}

/// A setting that was as wanted before stays under quarantine when its change was answered; that is no request of the restart.
#[test]
fn a_restart_does_not_take_what_its_settings_left_for_a_lost_request() {
    const SETTINGS: &str = r#"const RUNBOOK = #{ title: "t", needs: ["db.change", "db.destroy"] };
    db::config::set("sandbox", #{ work_mem: "8MB" });
    db::config::set("sandbox", #{ work_mem: "8MB", max_connections: "90" }, #{ restart: true });
    "#;
    let env = LostEnv::with_faults(RefusedRestart);
    let ended = env.drive_script(SETTINGS, false, Arc::<Listener>::default());
    let error = ended.failure.expect("the restart is refused").fault;
    assert!(!error.message.contains("got no answer"), "{error:?}");
    let kept = env.journal.list_quarantines().expect("read");
    let parts: Vec<_> = kept.iter().map(|one| one.part.as_deref()).collect();
    assert_eq!(parts, [Some("setting:work_mem")], "the restart does not end it: {kept:?}");
}
