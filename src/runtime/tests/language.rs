//! What the language of a runbook lets a script do, and what it refuses.

use super::*;

#[test]
fn a_refusal_cannot_be_swallowed() {
    let env = ScriptEnv::new();
    for shape in [
        "try { H } catch { note(\"swallowed\") }",
        "fn f() { backup::list(\"sandbox\") } try { f() } catch { note(\"swallowed\") }",
        "try { step(\"s\", || H) } catch { note(\"swallowed\") }",
        "try { [1].map(|x| H) } catch { note(\"swallowed\") }",
        "try { [1].for_each(|| H) } catch { note(\"swallowed\") }",
        "try { [1, 2].filter(|x| H == 1) } catch { note(\"swallowed\") }",
        "try { [1, 2].sort(|a, b| H) } catch { note(\"swallowed\") }",
        "try { [1, 2].reduce(|a, b| H, 0) } catch { note(\"swallowed\") }",
        "attempt(|| H); retry(#{ attempts: 5 }, || H)",
        "wait_until(#{ timeout: \"1s\" }, || { try { H } catch { false } })",
    ] {
        let script = shape.replace('H', "backup::list(db)");
        match env.without_rights(&script) {
            Some(StopReason::Refused { .. }) => {}
            other => panic!("{script}: {other:?}"),
        }
    }
}

#[test]
fn a_name_to_confirm_is_quoted_where_a_run_is_refused() {
    let (_, hint) = super::super::permit::unconfirmed_message_and_hint("it's mine");
    assert!(hint.contains(r"`--confirm 'it'\''s mine'`"), "{hint}");
}

#[test]
fn an_endless_loop_is_interrupted() {
    let env = ScriptEnv::new();
    for script in ["loop {}", "sleep(\"1h\")", "wait_until(#{ timeout: \"1h\", every: \"1h\" }, || false)"] {
        let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{script}")).expect("it parses");
        let params = env.runtime.resolve_params(&runbook, &BTreeMap::new()).expect("its parameters").values;
        let journal = Arc::new(env.runtime.open_journal().expect("a journal"));
        let new = NewRun {
            runbook: "test.rhai".into(),
            title: "t".into(),
            params: params.clone(),
            sources: runbook.sources(),
            git: None,
            version: VERSION.into(),
            leases: vec![],
        };
        let run = journal.create_run(&new).expect("a run");
        let context =
            RunContext::new(env.runtime.prepare_run_setup(journal, run, None, Arc::new(Listener::default())));
        let other = Arc::clone(&context);
        let interrupter = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            drop(other.stopper.stop_run(StopReason::Interrupted));
        });
        let ended =
            evaluate::run_on_thread(&env.runtime.tokio, &context, runbook, params).expect("it is driven");
        interrupter.join().expect("the interrupter");
        assert!(matches!(ended.stop, Some(StopReason::Interrupted)), "{script}: {ended:?}");
        assert_eq!(ended.status, RunStatus::Interrupted);
    }
}

#[test]
fn different_types_do_not_compare() {
    let env = ScriptEnv::new();
    for (script, wrong) in [
        ("1 < \"2\"", "different types"),
        ("() < 1", "different types"),
        ("now() > 5", "different types"),
        ("\"1\" == 1", "different types"),
        ("[] >= #{}", "different types"),
    ] {
        let message = env.run_to_failure(script);
        assert!(message.contains(wrong), "{script}: {message}");
    }
    for script in [
        "1 < 2.5",
        "() == ()",
        "params.db != ()",
        "\"a\" < \"b\"",
        "now() <= now()",
        "duration(\"90s\") == duration(\"1m 30s\")",
    ] {
        assert_eq!(env.run_to_value(script), Value::Bool(true), "{script}");
    }
}

#[test]
fn the_sandbox_of_the_language_is_closed() {
    let env = ScriptEnv::new();
    for (script, wrong) in [
        ("eval(\"1\")", "eval"),
        ("timestamp()", "there is no function `timestamp`"),
        ("fn now() { 1 } now()", "hides redrill's own"),
        ("fn invariant() { false }", "a rehearsal gives it the world"),
        ("backup::lits(db)", "there is no operation `backup::lits`"),
        ("backup::create(db, #{ lable: \"x\" })", "has no option `lable`"),
        ("params.bd", "no parameter `bd`"),
        ("restor(db)", "there is no function `restor`"),
    ] {
        match env.try_run_script(script, Listener::default().into()) {
            Err(refusal) => assert!(refusal.to_string().contains(wrong), "{script}: {refusal}"),
            Ok(ended) => panic!("{script} ran: {ended:?}"),
        }
    }
    assert!(
        env.runtime.open_journal().expect("a journal").list_runs().expect("its runs").is_empty(),
        "a refusal left a run"
    );
}

#[test]
fn the_header_is_read_without_running_anything() {
    let env = ScriptEnv::new();
    for (header, wrong) in [
        ("1", "no header"),
        ("let RUNBOOK = #{ title: \"t\" };", "not a literal constant"),
        ("const RUNBOOK = #{ title: backup::list(\"sandbox\") };", "not a literal constant"),
        ("const RUNBOOK = #{ title: \"t\", parms: #{} };", "unknown field `parms`"),
        (
            "const RUNBOOK = #{ title: \"t\", params: #{ n: #{ type: \"int\", \"default\": 1 } } };",
            "unknown field `default`",
        ),
        (
            "const RUNBOOK = #{ title: \"t\", params: #{ n: #{ type: \"number\" } } };",
            "unknown type `number`",
        ),
        (
            "const RUNBOOK = #{ title: \"t\", params: #{ n: #{ type: \"int\", preset: \"x\" } } };",
            "the preset of `n`",
        ),
        ("const RUNBOOK = #{ title: \"t\", needs: [\"backups.create\"] };", "is no right"),
        ("const RUNBOOK = #{ title: \"t\", needs: [\"backup.make\"] };", "is no right"),
        ("const RUNBOOK = #{ title: \"t\", leaves: [\"brench\"] };", "is nothing that a run may leave"),
        ("const RUNBOOK = #{ title: \"t\", leaves: \"branch\" };", "expected a sequence"),
    ] {
        let error = Runbook::from_text("t.rhai", header.into()).map(drop).expect_err(header);
        assert!(error.message.contains(wrong), "{header}: {error:?}");
    }
    assert!(env.list_effects().is_empty());
}

#[test]
fn parameters_are_checked_before_anything_runs() {
    let env = ScriptEnv::new();
    let runbook = Runbook::from_text(
        "t.rhai",
        r#"const RUNBOOK = #{ title: "t", params: #{
            n: #{ type: "int", preset: 3 }, at: #{ type: "time", preset: "2026-11-20T03:00:00Z" }, db: #{ type: "target", preset: "sandbox" },
            net: #{ type: "cidr", preset: "10.1.2.3/8" }, how: #{ type: "choice", choices: ["fast", "safe"], preset: "safe" },
            key: #{ type: "secret", preset: "env:HOME" }, wait: #{ type: "duration", preset: "45m" }, must: #{ type: "bool" } } };"#
            .into(),
    )
    .expect("it parses");
    let given = |pairs: &[(&str, &str)]| {
        let words = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        env.runtime.resolve_params(&runbook, &words).map(|params| params.values)
    };
    for (pairs, wrong) in [
        (&[][..], "`must` is missing"),
        (&[("must", "yes")], "expected bool"),
        (&[("must", "true"), ("n", "three")], "expected int"),
        (&[("must", "true"), ("mist", "1")], "no parameter `mist`"),
        (&[("must", "true"), ("at", "2026-11-20T03:00:00")], "no time zone"),
        (&[("must", "true"), ("db", "sandbx")], "no target `sandbx`"),
        (&[("must", "true"), ("how", "faste")], "expected choice"),
        (&[("must", "true"), ("net", "10.0.0.0/64")], "expected cidr"),
        (&[("must", "true"), ("key", "hunter2")], "a secret is given as a reference"),
    ] {
        let Err(Refusal::Runbook(error)) = given(pairs) else { panic!("{wrong}") };
        assert!(error.message.contains(wrong), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "a secret's value was repeated");
        assert!(error.hint.is_some(), "{error:?}");
    }
    let values = given(&[("must", "true"), ("n", "7")]).expect("they are right");
    assert_eq!((values["n"].clone(), values["net"].clone()), (7.into(), "10.0.0.0/8".into()));
    assert_eq!(values["key"], serde_json::json!({"$secret": "env:HOME"}));
}

#[test]
fn errors_are_one_map() {
    let env = ScriptEnv::new();
    let error = env.run_to_value("let r = attempt(|| backup::get(db, \"nope\")); r.error");
    assert_eq!(
        (error["code"].as_str(), error["operation"].as_str()),
        (Some("NOT_FOUND"), Some("backup::get"))
    );
    assert_eq!((error["side_effects"].as_str(), error["target"].as_str()), (Some("none"), Some("sandbox")));
    for (script, code) in [
        ("let c = (); try { ensure(false, \"no\") } catch (e) { c = e.code } c", "ENSURE"),
        ("let c = (); try { let a = [1]; a[5] } catch (e) { c = error(e).code } c", "SCRIPT"),
        ("let c = (); try { throw \"x\" } catch (e) { c = error(e).code } c", "THROWN"),
        ("let five = 5; attempt(|| backup::create(db, #{ label: five })).error.code", "INVALID"),
    ] {
        assert_eq!(env.run_to_value(script), Value::from(code), "{script}");
    }
    let own = "#{ code: 5, message: \"m\", hint: [1], side_effects: \"perhaps\", target: db, call_name: (), more: #{ a: 1 } }";
    assert_eq!(
        env.run_to_value(&format!("attempt(|| {{ throw {own} }}).error")),
        serde_json::json!({"code": 5, "message": "m", "hint": [1], "retryable": false, "side_effects": "perhaps",
            "operation": null, "target": {"$target": "sandbox"}, "left_behind": [], "call_name": null, "more": {"a": 1}}),
        "what a script throws keeps its own fields"
    );
    let ended = env.run_script("\n\nfail(\"here\")");
    let place = ended.failure.expect("a failure").place.expect("a place");
    assert_eq!((place.file.as_str(), place.text.as_str()), ("test.rhai", "fail(\"here\")"));
}

#[test]
fn values_are_the_same_live_and_replayed() {
    let env = ScriptEnv::new();
    assert!(env.run_to_failure("attach(\"f\", || 1)").contains("cannot be kept"));
    assert!(env.run_to_failure("attach(\"f\", #{ \"$branch\": 1 })").contains("may not start with `$`"));
    let floats = env.run_to_value("let x = 0.1 + 0.2; attach(\"x\", x); [x, 3.0, 'c', \"t\", (), true, now() - now() <= duration(\"0s\")]");
    assert_eq!(
        floats.as_array().expect("an array")[1..4],
        [Value::from(3.0), Value::from("c"), Value::from("t")]
    );
}

#[test]
fn a_long_list_is_built_in_the_time_that_its_items_take() {
    let env = ScriptEnv::new();
    // With a look at every item at every change this takes hours.
    let script = "let list = []; for i in 0..1000001 { list.push(i); } list.len()";
    assert_eq!(env.run_to_value(script), 1_000_001);
}

#[test]
fn what_would_be_huge_in_one_step_is_refused() {
    let env = ScriptEnv::new();
    for script in ["[].pad(1000000000, 0)", "\"\".pad(1000000000, 'x')", "blob(1000000000)"] {
        let said = env.run_to_failure(script);
        assert!(said.contains("a length of 1000000000 is too large"), "{script}: {said}");
    }
    let script = "let text = \"a\"; text.pad(4, \"xy\"); let list = [1]; list.pad(3, 0); [text, list]";
    assert_eq!(env.run_to_value(script), serde_json::json!(["axyx", [1, 0, 0]]));
}

#[test]
fn a_value_that_would_not_read_back_is_an_error_of_the_script() {
    let env = ScriptEnv::new();
    let nested = "let v = 1; for i in 0..DEPTH { v = [v]; } attach(\"v\", v); 1";
    assert_eq!(env.run_to_value(&nested.replace("DEPTH", "96")), 1);
    let said = env.run_to_failure(&nested.replace("DEPTH", "97"));
    assert!(said.contains("nested more than 96 levels deep"), "{said}");
}

#[test]
fn a_check_warns_of_what_may_stay_and_nothing_can_leave() {
    let warnings = |leaves: &str, script: &str| {
        let text = format!(
            "const RUNBOOK = #{{ title: \"t\", needs: [\"branch.create\", \"db.change\", \"network.change\"], leaves: [{leaves}] }};\n{script}"
        );
        let runbook = Runbook::from_text("t.rhai", text).expect("it parses");
        let found = super::super::check::check_runbook(&runbook);
        let about_leaves = found.into_iter().filter(|finding| finding.message.contains("in `leaves`"));
        about_leaves.map(|finding| (finding.severity, finding.message)).collect::<Vec<_>>()
    };
    let left = "step(\"s\", || { branch::create(\"sandbox\", #{ into: \"x\" }); });
        fn f() { db::config::set(\"sandbox\", #{ work_mem: \"8MB\" }) }";
    assert_eq!(warnings("\"branch\", \"branch:x\", \"setting:work_mem\"", left), []);
    let idle = warnings("\"branch:x\", \"tls\", \"schedule:04:00\"", left);
    let named: Vec<_> =
        idle.iter().map(|(_, message)| message.split('`').nth(1).unwrap_or_default()).collect();
    assert_eq!(named, ["tls", "schedule:04:00"], "{idle:?}");
    assert!(idle.iter().all(|(severity, _)| *severity == super::super::check::Severity::Warning));
    assert_eq!(warnings("\"tls\"", "supabase::api(\"sandbox\", \"PUT\", \"/x\")"), [], "it can do anything");
}
