use super::*;
use crate::{
    base::{call_time::with_call_time, send_deadline::with_send_deadline},
    provider::{
        SideEffects,
        supabase::mock_api::{MockApi, MockReply, REF, TOKEN},
    },
};
use serde_json::json;
use tokio::net::TcpListener;

const PAUSE: &str = "/v1/projects/abcdefghijklmnopqrst/pause";

async fn read(server: &MockApi) -> Result<Value> {
    server.api().get("/v1/projects").await
}

async fn write(server: &MockApi) -> Result<Value> {
    server.api().send_write_for_answer(Method::POST, PAUSE, None).await
}

#[tokio::test]
async fn supabase_requests_say_who_asks_and_take_gzip() {
    let server = MockApi::serve_replies(|_| MockReply::from_json(200, &json!([]))).await;
    read(&server).await.expect("an answer");
    let seen = server.received_requests();
    let header = |name: &str| seen[0].headers[name].to_str().expect("text").to_owned();
    assert_eq!(header("authorization"), format!("Bearer {TOKEN}"));
    assert!(header("user-agent").starts_with("redrill/"));
    assert!(header("accept-encoding").contains("gzip"));
}

#[tokio::test]
async fn supabase_t13_any_success_and_any_body_is_fine() {
    for (body, value) in [
        ("", Value::Null),
        ("{}", json!({})),
        ("null", Value::Null),
        ("[]", json!([])),
        (" ", Value::Null),
        ("create table t ();", json!("create table t ();")),
    ] {
        for status in [200, 201, 204] {
            if status == 204 && !body.is_empty() {
                continue;
            }
            let server = MockApi::serve_replies(move |_| MockReply::from_text(status, body)).await;
            assert_eq!(write(&server).await.expect(body), value, "{status} {body}");
        }
    }
}

#[tokio::test]
async fn supabase_nothing_is_written_after_the_deadline_of_its_effect() {
    let server = MockApi::serve_replies(|_| MockReply::from_json(200, &json!([]))).await;
    let deadline = server.clock.uptime().saturating_add(Span::from_secs(100));
    let effect = async {
        write(&server).await.expect("in time");
        server.clock.advance_by(Span::from_secs(60));
        write(&server).await.expect("in time");
        server.clock.advance_by(Span::from_secs(60));
        read(&server).await.expect("reads change nothing");
        write(&server).await
    };
    let late = with_send_deadline(deadline, effect).await.expect_err("it is over");
    assert_eq!((late.code, late.side_effects), (Code::Unavailable, SideEffects::None), "{late:?}");
    assert!(late.message.contains("nothing was sent"), "{late}");
    let count = server.received_requests().iter().filter(|seen| seen.line.starts_with("POST")).count();
    assert_eq!(count, 2, "the one that is late is not sent");
}

#[tokio::test]
async fn supabase_a_throttled_write_is_not_sent_again_after_the_deadline_of_its_effect() {
    let server = MockApi::serve_replies(|seen| match seen.earlier {
        0 => MockReply::from_json(429, &json!({ "message": "too many" })).with_header("retry-after", "50"),
        _ => MockReply::from_json(200, &json!([])),
    })
    .await;
    let deadline = server.clock.uptime().saturating_add(Span::from_secs(40));
    let late = with_send_deadline(deadline, write(&server)).await.expect_err("it would be too late");
    assert_eq!(late.code, Code::Throttled, "{late:?}");
    assert_eq!(server.received_requests().len(), 1);
}

#[tokio::test]
async fn supabase_reads_are_asked_again() {
    for failure in [
        MockReply::from_text(502, "<html>"),
        MockReply::from_text(500, ""),
        MockReply::without_answer(),
        MockReply::from_text(200, "[").with_broken_body(),
    ] {
        let server = MockApi::serve_replies(move |seen| match seen.earlier {
            0..=1 => failure.clone(),
            _ => MockReply::from_json(200, &json!([1])),
        })
        .await;
        let before = server.clock.now();
        assert_eq!(read(&server).await.expect("the third answer"), json!([1]));
        assert_eq!(
            server.clock.now().duration_since(before),
            Span::from_millis(1500),
            "half a second, then a whole"
        );
        let look =
            server.api().send_read(Method::POST, "/v1/projects", Some(&json!({"query": "select 1"}))).await;
        assert_eq!(look.expect("a look is a read"), json!([1]));
    }
}

#[tokio::test]
async fn supabase_reads_are_not_asked_for_ever() {
    let server =
        MockApi::serve_replies(|_| MockReply::from_json(503, &json!({"message": "Service Unavailable"})))
            .await;
    let error = read(&server).await.expect_err("never well");
    assert_eq!((error.code, server.received_requests().len()), (Code::Unavailable, 5));
    assert!(error.message.contains("Service Unavailable") && error.retryable, "{error}");
}

#[tokio::test]
async fn supabase_a_write_that_is_not_answered_is_unknown_and_sent_once() {
    for failure in [
        MockReply::without_answer(),
        MockReply::from_text(500, ""),
        MockReply::from_text(502, "<html>Bad Gateway</html>"),
        MockReply::from_json(503, &json!({"message": "x"})),
        MockReply::from_text(504, ""),
        MockReply::from_text(408, ""),
        MockReply::from_text(201, "{").with_broken_body(),
    ] {
        let server = MockApi::serve_replies(move |_| failure.clone()).await;
        let error = write(&server).await.expect_err("nobody knows");
        assert_eq!((error.code, error.retryable), (Code::Unknown, false), "{error}");
        assert_eq!(server.request_lines(), [format!("POST {PAUSE}")], "{error}");
    }
}

#[tokio::test]
async fn supabase_a_write_that_is_answered_too_late_is_unknown() {
    let server = MockApi::serve_replies(|_| MockReply::never_answering()).await;
    let api = server.api().with_timeout(Span::from_millis(200));
    let error = api.send_write(Method::POST, PAUSE, None).await.expect_err("silence");
    assert_eq!((error.code, server.received_requests().len()), (Code::Unknown, 1));
    let error = api.get("/v1/projects").await.expect_err("silence");
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.message.contains("no answer within 200ms"), "{error}");
}

#[tokio::test]
async fn supabase_the_time_of_a_call_ends_its_requests_and_what_is_left_of_it_is_still_settled() {
    let server = MockApi::serve_replies(|_| MockReply::never_answering()).await;
    let time = Span::from_millis(200);
    let error = with_call_time(time, write(&server)).await.expect_err("silence");
    assert_eq!((error.code, server.received_requests().len()), (Code::Unknown, 1));
    let throttling = MockApi::serve_replies(|_| {
        MockReply::from_json(429, &json!({"message": "ThrottlerException: Too Many Requests"}))
            .with_header("retry-after", "30")
    })
    .await;
    let error = with_call_time(Span::from_secs(20), write(&throttling)).await.expect_err("30 s are too many");
    assert_eq!((error.code, throttling.received_requests().len()), (Code::Throttled, 1));
    let server = MockApi::serve_replies(|_| MockReply::from_json(200, &json!([]))).await;
    for asked in
        [with_call_time(Span::ZERO, read(&server)).await, with_call_time(Span::ZERO, write(&server)).await]
    {
        assert_eq!(asked.expect("it is over, and is settled"), json!([]));
    }
}

#[tokio::test]
async fn supabase_a_write_that_was_never_sent_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let server = MockApi::serve_replies(|_| MockReply::from_text(200, "")).await;
    let clock = Arc::clone(&server.clock) as Arc<dyn Clock>;
    let before = clock.now();
    let api = ApiClient::for_test(&address, TOKEN, &clock);
    let error = api.send_write(Method::POST, PAUSE, None).await.expect_err("nobody is there");
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.message.contains("nothing was sent"), "{error}");
    assert_eq!(clock.now().duration_since(before), Span::from_millis(7500), "four pauses between five tries");
}

#[tokio::test]
async fn supabase_throttled_waits_for_what_it_is_told_reads_and_writes() {
    for (header, value, pause) in
        [("x-ratelimit-reset", "57", 57), ("retry-after", "3", 3), ("x-unrelated", "9", 1)]
    {
        let server = MockApi::serve_replies(move |seen| match seen.earlier {
            0 => MockReply::from_json(429, &json!({"message": "ThrottlerException: Too Many Requests"}))
                .with_header(header, value),
            _ => MockReply::from_json(201, &json!([])),
        })
        .await;
        for asked in [write(&server).await, read(&server).await] {
            assert_eq!(asked.expect("the second answer"), json!([]));
        }
        let waited =
            server.clock.now().duration_since(Moment::parse("2026-11-20T03:00:00Z").expect("a moment"));
        let told = if header == "x-unrelated" { Span::from_secs(1) } else { Span::from_secs(2 * pause) };
        assert_eq!(waited, told, "{header}");
    }
}

#[tokio::test]
async fn supabase_throttled_longer_than_there_is_time_is_said_at_once() {
    let server = MockApi::serve_replies(|_| {
        MockReply::from_json(429, &json!({"message": "ThrottlerException: Too Many Requests"}))
            .with_header("retry-after", "3600")
    })
    .await;
    let before = server.clock.now();
    let error = write(&server).await.expect_err("an hour");
    assert_eq!((error.code, error.retryable, server.received_requests().len()), (Code::Throttled, true, 1));
    assert!(error.message.contains("ThrottlerException") && error.hint.expect("a hint").contains("1h"));
    assert_eq!(server.clock.now(), before);
}

#[tokio::test]
async fn supabase_limits_are_kept_over_many_calls_at_once() {
    let server = MockApi::serve_replies(|_| MockReply::from_json(200, &json!([]))).await;
    let api = server.api();
    let asked = futures_util::future::join_all((0..200).map(|_| api.get("/v1/projects"))).await;
    assert!(asked.iter().all(Result::is_ok));
    assert_eq!(server.received_requests().len(), 200);
    let waited = server.clock.now().duration_since(Moment::parse("2026-11-20T03:00:00Z").expect("a moment"));
    assert!((Span::from_secs(61)..Span::from_secs(122)).contains(&waited), "{waited}");
}

#[tokio::test]
async fn supabase_t22_plan_gates_say_what_is_needed_and_keep_the_words() {
    for (status, path, said, needed) in [
        (402, "database/backups/schedule", "Feature requires a higher plan", "needs the Enterprise plan"),
        (
            403,
            "read-replicas/setup",
            "Upgrade your plan to use replicas",
            "needs the Pro plan or above and the compute",
        ),
        (422, "branches", "Branching is not available on the free plan", "(branching)"),
        (400, "ssl-enforcement", "Project is not allowed to configure SSL enforcements", "SSL enforcement"),
        (400, "network-restrictions/apply", "Organization is not entitled", "(network restrictions)"),
        (402, "anything/else", "Payment Required", "a higher plan or an add-on (402): Payment Required"),
    ] {
        let body = json!({"message": said});
        let server = MockApi::serve_replies(move |_| MockReply::from_json(status, &body)).await;
        let path = format!("/v1/projects/{REF}/{path}");
        let error = server.api().send_write(Method::POST, &path, None).await.expect_err(said);
        assert_eq!(error.code, Code::Unsupported, "{error}");
        assert!(error.message.contains(needed) && error.message.contains(said), "{error}");
    }
}

#[tokio::test]
async fn supabase_refusals_keep_the_words_and_are_told_apart() {
    for (status, body, code, said) in [
        (401, json!({"message": "Unauthorized"}), Code::Denied, "Unauthorized"),
        (403, json!({"message": "Forbidden resource"}), Code::Denied, "Forbidden resource"),
        (404, json!({"message": "Project not found"}), Code::NotFound, "Project not found"),
        (409, json!({"message": "branch exists"}), Code::Conflict, "branch exists"),
        (400, json!({"message": "Resource has been removed"}), Code::Refused, "Resource has been removed"),
        (
            400,
            json!({"message": ["name must be text", "id: Required"]}),
            Code::Invalid,
            "name must be text; id: Required",
        ),
        (422, json!({"message": "Cannot delete persistent branch"}), Code::Refused, "persistent branch"),
        (403, json!({"errors": [{"title": "No", "detail": "not yours"}]}), Code::Denied, "not yours"),
        (410, json!({"message": "Gone"}), Code::Unsupported, "Gone"),
    ] {
        let server = MockApi::serve_replies(move |_| MockReply::from_json(status, &body)).await;
        let error = write(&server).await.expect_err(said);
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(said), "{error}");
        assert!(error.message.contains(&format!("`POST {PAUSE}`")), "{error}");
        assert_eq!(server.received_requests().len(), 1, "an answer is an answer");
    }
}

#[tokio::test]
async fn supabase_redirects_are_not_followed() {
    let server = MockApi::serve_replies(|seen| {
        if seen.line.contains("/else") {
            MockReply::from_json(200, &json!({}))
        } else {
            MockReply::from_text(301, "").with_header("location", "/else")
        }
    })
    .await;
    assert_eq!(write(&server).await.expect_err("moved").code, Code::Unknown);
    assert_eq!(server.request_lines(), [format!("POST {PAUSE}")]);
    let error = read(&server).await.expect_err("moved");
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.hint.expect("a hint").contains("`api_url` leads somewhere else"));
}

#[tokio::test]
async fn supabase_only_the_apis_own_error_refuses_a_write() {
    const PAGE: &str =
        "<!DOCTYPE html><html><head><TITLE>Attention Required! | Cloudflare</TITLE></head><body>x";
    for (status, body, said) in [
        (302, "", "302 with an empty body"),
        (403, PAGE, "403 with a page that says `Attention Required! | Cloudflare`"),
        (404, "<h1>Not <b>found</b></h1>", "404 with a page that says `Not found`"),
        (404, "default backend - 404", "404 with the text `default backend - 404`"),
        (400, "{}", "400 with {}"),
        (401, "null", "401 with null"),
        (409, "[]", "409 with []"),
        (403, r#"{"message":""}"#, "403 with"),
        (418, r#"{"odd":1}"#, r#"418 with {"odd":1}"#),
    ] {
        let server = MockApi::serve_replies(move |_| MockReply::from_text(status, body)).await;
        let error = write(&server).await.expect_err("nobody knows");
        assert_eq!((error.code, server.received_requests().len()), (Code::Unknown, 1), "{error}");
        assert!(error.message.contains(said) && error.message.contains("nobody knows"), "{error}");
        let error = read(&server).await.expect_err("no answer");
        assert_eq!((error.code, server.received_requests().len()), (Code::Unavailable, 2), "{error}");
        let hint = error.hint.expect("a hint");
        assert!(error.message.contains(said) && !hint.contains("token"), "{} {hint}", error.message);
    }
    let server = MockApi::serve_replies(|_| MockReply::from_text(429, PAGE)).await;
    assert_eq!(write(&server).await.expect_err("nobody knows").code, Code::Unknown);
    let server = MockApi::serve_replies(|_| {
        MockReply::from_text(403, r#"{"message":"Forbidden"}"#).with_broken_body()
    })
    .await;
    assert_eq!(write(&server).await.expect_err("it broke off").code, Code::Unknown);
}

#[tokio::test]
async fn supabase_a_read_takes_json_only_and_says_what_else_came() {
    for (body, said) in [
        ("", "it is an empty body"),
        ("<html><title>Sign in</title></html>", "it is a page that says `Sign in`"),
        ("<html>", "it is a page without words"),
        ("upstream", "it is the text `upstream`"),
    ] {
        let server = MockApi::serve_replies(move |_| MockReply::from_text(200, body)).await;
        let error = read(&server).await.expect_err("no JSON");
        assert_eq!((error.code, server.received_requests().len()), (Code::Unavailable, 1), "{error}");
        let whole = format!("the API's answer to `GET /v1/projects` cannot be read: {said}");
        assert_eq!(error.message, whole);
        server.api().get_json_or_text("/v1/projects").await.expect("what is asked for by hand may be text");
    }
}

#[tokio::test]
async fn supabase_t17_no_secret_is_in_an_error_whatever_the_api_repeats() {
    let body = json!({"db_pass": "hunter2", "jwt_secret": "hunter3", "odd": format!("token {TOKEN}")});
    for reply in [
        MockReply::from_json(400, &body),
        MockReply::from_json(500, &body),
        MockReply::from_json(401, &json!({"message": format!("bad token {TOKEN}")})),
        MockReply::from_text(403, &format!("<html>{TOKEN}</html>")),
    ] {
        let server = MockApi::serve_replies(move |_| reply.clone()).await;
        let error = write(&server).await.expect_err("refused");
        let shown = format!("{error:?} {error}");
        for secret in [TOKEN, "hunter2", "hunter3"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[tokio::test]
async fn supabase_a_literal_token_in_the_settings_is_refused_without_being_repeated() {
    let clock: Arc<dyn Clock> = Arc::new(crate::base::clock::SystemClock);
    let error = ApiClient::new(Some("sbp_hunter2"), None, &clock).map(drop).expect_err("no reference");
    assert_eq!(error.code, Code::Invalid);
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}
