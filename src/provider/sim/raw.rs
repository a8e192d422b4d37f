//! The interface of a simulated platform itself: what a world lets see and do that no operation covers.

use super::{
    Sim,
    archive::span_micros,
    store::{Present, broken, moment},
};
use crate::{
    base::{moment::Span, suggest},
    provider::{Code, Error, Raw, Result},
};
use async_trait::async_trait;
use serde_json::{Value, json as object};

/// What there is, for messages.
const PATHS: &[&str] = &["GET /world", "GET /effects", "POST /clock"];

#[async_trait]
impl Raw for Sim {
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        match (method, path) {
            ("GET", "/world") => self.described(),
            ("GET", "/effects") => self.told(),
            ("POST", "/clock") => self.set_forward(body),
            _ => {
                let asked = format!("{method} {path}");
                Err(Error::new(Code::NotFound, format!("a simulated platform has no `{asked}`"))
                    .hint(suggest::hint(&asked, PATHS.iter().copied())))
            }
        }
    }
}

impl Sim {
    fn described(&self) -> Result<Value> {
        let store = self.store()?;
        let now = store.look(|p| Ok(p.now))?;
        Ok(object!({ "id": store.id(), "title": store.title(), "now": moment(now).to_string() }))
    }

    fn told(&self) -> Result<Value> {
        let effect = |e: super::Effect| object!({ "kind": e.kind, "what": e.what, "at": e.at.to_string(), "key": e.key });
        Ok(self.log()?.into_iter().map(effect).collect())
    }

    /// Sets the world's clock forward, and says what it shows then.
    fn set_forward(&self, body: Option<&Value>) -> Result<Value> {
        let text = body.and_then(|body| body["pass"].as_str());
        let span = text.and_then(|text| Span::parse(text).ok()).filter(|span| *span > Span::ZERO);
        let span = span.ok_or_else(|| {
            Error::new(Code::Invalid, "`POST /clock` was not told how far to set the clock forward")
                .hint("send `{\"pass\": \"1h\"}`")
        })?;
        let store = self.store()?;
        let pass = |p: &Present<'_>| p.set_forward(span).map(|()| Value::Null);
        store.effect(None, "clock.pass", &span.to_string(), pass)?;
        let now = store.look(|p| Ok(p.now))?;
        Ok(object!({ "now": moment(now).to_string() }))
    }
}

impl Present<'_> {
    fn set_forward(&self, span: Span) -> Result<()> {
        let sql = "update world set clock_offset = clock_offset + ?1";
        self.conn.execute(sql, [span_micros(span)]).map(drop).map_err(|e| broken(&e))
    }
}
