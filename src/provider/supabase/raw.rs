//! The Management API itself, for what no operation covers.

use super::{config::is_project_reference, project::Supabase, redact::mask_secret_fields};
use crate::provider::{Code, Error, Raw, Result};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::Value;

#[async_trait]
impl Raw for Supabase {
    /// Sends a request whose path begins with `/v1/` or `/v2/`; `{ref}` in it is this project. Secrets in the answer
    /// are masked, because it may be recorded.
    async fn send_request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let method = ["GET", "POST", "PUT", "PATCH", "DELETE"]
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(method))
            .and_then(|known| Method::from_bytes(known.as_bytes()).ok())
            .ok_or_else(|| {
                Error::new(Code::Invalid, format!("`{method}` is no method of the API"))
                    .with_hint("it has `GET`, `POST`, `PUT`, `PATCH` and `DELETE`")
            })?;
        let path = path.replace("{ref}", &self.reference);
        check_api_path(&path)?;
        let answer = if method == Method::GET {
            self.api.get_json_or_text(&path).await?
        } else {
            self.refuse_write_to_other_project(&path)?;
            require_api_answer(self.api.send_write_for_answer(method, &path, body).await?)?
        };
        // `GET /v1/projects/{ref}/secrets` gives each secret as `value`.
        Ok(if path.contains("/secrets") { mask_listed_values(answer) } else { mask_secret_fields(answer) })
    }
}

impl Supabase {
    /// Refuses a write to anything but this project: rights, protection and leases are those of the named target.
    fn refuse_write_to_other_project(&self, path: &str) -> Result<()> {
        let mut segments = path.split(['/', '?']).skip(2);
        let is_own = matches!(segments.next(), Some("projects" | "branches"))
            && segments.next() == Some(self.reference.as_str());
        if is_own {
            return Ok(());
        }
        let error = Error::new(
            Code::Refused,
            format!("`{path}` is not about target `{}`, which is project {}", self.target, self.reference),
        );
        Err(match path.split('/').find(|segment| is_project_reference(segment)) {
            Some(other) => {
                error.with_hint(format!("make {other} a target of its own, or name the branch as the target"))
            }
            None => error.with_hint(
                "a write begins with `/v1/projects/{ref}/`; what is above a project is for the dashboard",
            ),
        })
    }
}

/// Refuses a web page as an answer: something between here and the API has made it, and may have passed nothing on.
fn require_api_answer(answer: Value) -> Result<Value> {
    match answer.as_str() {
        Some(text) if text.trim_start().starts_with('<') => {
            let what = "the answer is a page, not the API's: whether the request came there cannot be known";
            Err(Error::new(Code::Unknown, what))
        }
        _ => Ok(answer),
    }
}

/// Refuses a path that leads out of the API.
fn check_api_path(path: &str) -> Result<()> {
    let route = path.split('?').next().unwrap_or_default();
    let is_inside = ["/v1/", "/v2/"].iter().any(|version| path.starts_with(version))
        && !route
            .split('/')
            .skip(1)
            .any(|s| s.is_empty() || s.replace("%2e", ".").replace("%2E", ".") == "..")
        && !route.contains("/./")
        && !path.contains(['#', '\\'])
        && path.chars().all(|c| c.is_ascii_graphic());
    if is_inside {
        return Ok(());
    }
    Err(Error::new(Code::Invalid, format!("`{path}` is no path of the API"))
        .with_hint("write one such as `/v1/projects/{ref}/health?services=db`, with spaces as `%20`"))
}

fn mask_listed_values(answer: Value) -> Value {
    let mut answer = mask_secret_fields(answer);
    for item in answer.as_array_mut().into_iter().flatten() {
        if let Some(value) = item.get_mut("value") {
            *value = "•••".into();
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::super::mock_api::{MockApi, MockReply, REF};
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn supabase_api_asks_what_it_is_told_about_its_own_project() {
        let server = MockApi::serve_replies(|seen| {
            MockReply::from_json(201, &json!({"line": seen.line, "body": seen.body}))
        })
        .await;
        let target = server.project();
        let said = Raw::send_request(
            &target,
            "post",
            "/v1/projects/{ref}/readonly/temporary-disable",
            Some(&json!({"a": 1})),
        )
        .await;
        let line = format!("POST /v1/projects/{REF}/readonly/temporary-disable");
        assert_eq!(said, Ok(json!({"line": line, "body": {"a": 1}})));
        let said =
            Raw::send_request(&target, "GET", "/v1/organizations", None).await.expect("a read goes anywhere");
        assert_eq!(said["line"], "GET /v1/organizations");
    }

    #[tokio::test]
    async fn supabase_api_refuses_what_is_not_its_own_before_anything_is_sent() {
        let server = MockApi::serve_replies(|_| MockReply::from_text(200, "")).await;
        for (method, path, code) in [
            ("DELETE", "/v1/projects/zzzzzzzzzzzzzzzzzzzz", Code::Refused),
            ("DELETE", "/v1/projects/zzzzzzzzzzzzzzzzzzzz/abcdefghijklmnopqrst", Code::Refused),
            ("POST", "/v1/projects", Code::Refused),
            ("POST", "/v1/organizations/acme/members", Code::Refused),
            ("DELETE", "/v1/projects/{ref}/../zzzzzzzzzzzzzzzzzzzz", Code::Invalid),
            ("DELETE", "/v1/projects/{ref}/%2e%2E/zzzzzzzzzzzzzzzzzzzz", Code::Invalid),
            ("GET", "https://evil.example/v1/", Code::Invalid),
            ("GET", "//evil.example/v1/", Code::Invalid),
            ("GET", "/v1/projects/a b", Code::Invalid),
            ("HEAD", "/v1/projects", Code::Invalid),
        ] {
            let error = Raw::send_request(&server.project(), method, path, None).await.expect_err(path);
            assert_eq!(error.code, code, "{path}: {error}");
        }
        assert_eq!(server.received_requests().len(), 0);
    }

    #[tokio::test]
    async fn supabase_api_takes_a_page_for_no_answer() {
        let server = MockApi::serve_replies(|_| MockReply::from_text(200, "<html>Welcome</html>")).await;
        let path = "/v1/projects/{ref}/ssl-enforcement";
        let error = Raw::send_request(&server.project(), "PUT", path, None).await.expect_err("nobody knows");
        assert_eq!(error.code, Code::Unknown, "{error}");
    }

    #[tokio::test]
    async fn supabase_t17_api_gives_no_secret() {
        let server = MockApi::serve_replies(|seen| {
            if seen.line.ends_with("/secrets") {
                MockReply::from_json(200, &json!([{"name": "KEY", "value": "hunter2"}]))
            } else {
                MockReply::from_json(200, &json!({"db_pass": "hunter2", "keys": [{"api_key": "hunter3"}]}))
            }
        })
        .await;
        for path in ["/v1/projects/{ref}/secrets", "/v1/branches/{ref}"] {
            let said = Raw::send_request(&server.project(), "GET", path, None).await.expect("an answer");
            assert!(!said.to_string().contains("hunter"), "{said}");
        }
    }
}
