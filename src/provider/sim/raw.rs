//! The simulator's own interface, for what no operation covers.

use super::{
    target::Sim,
    world::{EffectRow, WorldTx, from_micros},
};
use crate::{
    base::{moment::Span, suggest},
    provider::{Code, Error, Raw, Result},
};
use async_trait::async_trait;
use serde_json::{Value, json as object};

/// Every request that there is.
const RAW_PATHS: &[&str] = &["GET /world", "GET /effects", "POST /clock"];

#[async_trait]
impl Raw for Sim {
    async fn send_request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        match (method, path) {
            ("GET", "/world") => self.world_header(),
            ("GET", "/effects") => self.list_effects(),
            ("POST", "/clock") => self.handle_clock_request(body),
            _ => {
                let request = format!("{method} {path}");
                Err(Error::new(Code::NotFound, format!("a simulated platform has no `{request}`"))
                    .with_hint(suggest::suggest_name_or_list_known(&request, RAW_PATHS.iter().copied())))
            }
        }
    }
}

impl Sim {
    fn world_header(&self) -> Result<Value> {
        let store = self.open_store()?;
        let now = store.read_current_world(|tx| Ok(tx.now))?;
        Ok(object!({ "id": store.id(), "title": store.title(), "now": from_micros(now).to_string() }))
    }

    fn list_effects(&self) -> Result<Value> {
        let effect =
            |e: EffectRow| object!({ "kind": e.kind, "what": e.what, "at": e.at.to_string(), "key": e.key });
        Ok(self.effect_log()?.into_iter().map(effect).collect())
    }

    /// Sets the world's clock forward, and returns its new time.
    fn handle_clock_request(&self, body: Option<&Value>) -> Result<Value> {
        let text = body.and_then(|body| body["pass"].as_str());
        let span = text.and_then(|text| Span::parse(text).ok()).filter(|span| *span > Span::ZERO);
        let span = span.ok_or_else(|| {
            Error::new(Code::Invalid, "`POST /clock` was not told how far to set the clock forward")
                .with_hint("send `{\"pass\": \"1h\"}`")
        })?;
        let store = self.open_store()?;
        let pass = |tx: &WorldTx<'_>| tx.advance_clock(span).map(|()| Value::Null);
        store.apply_effect(None, "clock.pass", &span.to_string(), pass)?;
        let now = store.read_current_world(|tx| Ok(tx.now))?;
        Ok(object!({ "now": from_micros(now).to_string() }))
    }
}
