//! What is tried again, and what is not.

use super::*;

#[test]
fn only_what_may_be_repeated_is() {
    let env = ScriptEnv::new();
    let tries = |error: &str| {
        env.run_to_value(&format!(
        "let n = 0; attempt(|| retry(#{{ attempts: 3, backoff: \"1ms\" }}, || {{ n += 1; throw #{{ code: \"X\", message: \"m\", {error} }} }})); n"
    ))
    };
    assert_eq!(tries("retryable: true, side_effects: \"none\""), 3);
    assert_eq!(tries("retryable: true, side_effects: \"some\""), 1);
    assert_eq!(tries("retryable: false, side_effects: \"none\""), 1);
    // What is of another type permits nothing.
    assert_eq!(tries("retryable: true, side_effects: \"perhaps\""), 1);
    assert_eq!(tries("retryable: true, side_effects: ()"), 1);
    assert_eq!(tries("retryable: 1, side_effects: \"none\""), 1);
}

#[test]
fn a_wait_that_nobody_watched_asks_once_more() {
    let env = ScriptEnv::new();
    assert_eq!(env.run_to_value("let n = 0; wait_until(#{ timeout: \"0s\" }, || { n += 1; n == 1 }); n"), 1);
    assert!(
        env.run_to_failure("wait_until(#{ timeout: \"20ms\", every: \"5ms\" }, || false)")
            .contains("did not come")
    );
    assert!(env.run_to_failure("wait_until(#{ timout: \"20ms\" }, || false)").contains("no option `timout`"));
}

#[test]
fn what_changed_something_is_not_repeated() {
    let env = ScriptEnv::new();
    let script =
        "let n = 0; attempt(|| retry(#{ attempts: 3, backoff: \"1ms\" }, || { n += 1; backup::create(db);
        throw #{ code: \"X\", message: \"m\", retryable: true, side_effects: \"none\" } })); n";
    assert_eq!(env.run_to_value(script), 1);
    assert_eq!(env.list_effects(), ["backup.create"]);
}

#[test]
fn what_failed_half_done_beside_another_failure_is_not_repeated() {
    let env = ScriptEnv::new();
    // The first branch's error may be repeated, and is the one that is raised; the second branch left something.
    let script = "retry(#{ attempts: 3, backoff: \"1ms\" }, || parallel([
        || { sleep(\"200ms\"); throw #{ code: \"X\", message: \"m\", retryable: true, side_effects: \"none\" } },
        || { backup::restore(db, backup::list(db)[0], #{ into: \"half\" }) }]))";
    let restores = |heard: &str| heard.contains("call.started") && heard.contains("backup::restore");
    let dying = Arc::new(Listener { die_before: Some(restores), ..Listener::default() });
    assert!(env.try_run_script(script, dying).is_err(), "it was killed");
    let journal = env.runtime.open_journal().expect("a journal");
    let id = journal.resolve_run_id("last").expect("the run");
    let run = journal.acquire_run(&id).expect("it is free");
    let call = "/retry#0/attempt#0/parallel#0/1/backup::restore#0".to_owned();
    let Ok(journal::CallState::Started { op, args, .. }) = run.call_state(&call) else {
        panic!("it was begun")
    };
    let fault = serde_json::json!({ "code": "TIMEOUT", "message": "half done", "side_effects": "some", "retryable": true });
    let end = Record::End { call, op, args, at: "test".into(), outcome: journal::Outcome::Err(fault) };
    run.append_record(end, journal::Durability::Synced).expect("written");
    drop(run);
    let ended = env.resume_run(Arc::default()).expect("it is driven");
    assert_eq!(ended.status, RunStatus::Failed, "{ended:?}");
    let again = journal.acquire_run(&id).expect("it is free").call_names_below("/retry#0/attempt#1/");
    assert_eq!(again, Vec::<String>::new(), "it was tried again");
}

/// A target that did not answer is an outcome like any other: the script that went on without it goes the same way.
#[test]
fn a_target_that_did_not_answer_is_not_asked_again() {
    let env = ScriptEnv::new();
    let far = |provider: &str, settings: &[(&str, &str)]| {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        TargetConfig { name: "far".into(), provider: provider.into(), protect: false, tags: vec![], settings }
    };
    let open = |target: TargetConfig| {
        let mut config = Config::clone(&env.runtime.config);
        config.targets.insert("far".into(), target);
        Runtime::new(config).expect("a runtime")
    };
    let down = open(far("postgres", &[("host", "/nowhere"), ("user", "x"), ("database", "x")]));
    let script = "let r = attempt(|| db::execute(\"far\", \"delete from orders\")); backup::create(db); note(\"here\"); note(\"there\"); r.ok";
    let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}")).expect("it parses");
    let start = StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
    let calm = Arc::new(Listener::default());
    let all = env.try_run_script("backup::create(db); note(\"here\"); note(\"there\");", Arc::clone(&calm));
    drop(all);
    let die_at = Some(calm.event_index("here") + 1);
    drop(down.start_run(start, Arc::new(Listener { die_at, ..Listener::default() })));
    let up = open(far("sim", &[("world", "sandbox")]));
    let journal = Arc::new(up.open_journal().expect("a journal"));
    let (run, runbook) =
        Runtime::acquire_run(&journal, &journal.resolve_run_id("last").expect("the run")).expect("free");
    let resume = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon: false };
    let ended = up.resume_run(journal, resume, Arc::new(Listener::default())).expect("it is driven");
    assert_eq!((ended.status, ended.value), (RunStatus::Succeeded, Value::Bool(false)));
}

/// Of a call that was begun nobody knows anything while its target does not answer: the run stops, and can go on.
#[test]
fn a_begun_call_whose_target_is_away_waits_for_it() {
    let env = ScriptEnv::new();
    let open = |provider: &str, settings: &[(&str, &str)]| {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let far = TargetConfig {
            name: "far".into(),
            provider: provider.into(),
            protect: false,
            tags: vec![],
            settings,
        };
        let mut config = Config::clone(&env.runtime.config);
        config.targets.insert("far".into(), far);
        Runtime::new(config).expect("a runtime")
    };
    let script = "backup::create(\"far\"); retry(#{ attempts: 3, backoff: \"1ms\" }, || db::execute(\"far\", \"delete from order_items\")).rows_affected";
    let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}")).expect("it parses");
    let there = open("sim", &[("world", "sandbox")]);
    let start = StartRequest { runbook, params: BTreeMap::new(), confirmed: BTreeSet::new() };
    // Dead once the call is begun and before it takes effect: when it is said to have started.
    let die_at = Some(2);
    drop(there.start_run(start, Arc::new(Listener { die_at, ..Listener::default() })));
    let resume = |runtime: &Runtime| {
        let journal = Arc::new(runtime.open_journal().expect("a journal"));
        let id = journal.resolve_run_id("last").expect("the run");
        let (run, runbook) = Runtime::acquire_run(&journal, &id).expect("it is free");
        let resume = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon: false };
        runtime.resume_run(journal, resume, Arc::new(Listener::default()))
    };
    for _ in 0..2 {
        match resume(&open("postgres", &[("host", "/nowhere"), ("user", "x"), ("database", "x")])) {
            Ok(ended) => assert_eq!(ended.status, RunStatus::Undecided, "{ended:?}"),
            // What was leased is asked for before anything is done; that is no end either.
            Err(refusal) => assert!(matches!(refusal, Refusal::Target(_)), "{refusal:?}"),
        }
    }
    let ended = resume(&there).expect("it is driven");
    assert_eq!((ended.status, &ended.value), (RunStatus::Succeeded, &Value::from(241)), "{ended:?}");
}
