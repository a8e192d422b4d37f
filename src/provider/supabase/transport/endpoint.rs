//! The API's address, and the token for it.

use super::{
    environment::Environment,
    rate_limit::RateLimiter,
    token::{self, AccessToken},
};
use crate::{
    base::{clock::Clock, secret::SecretRef},
    provider::Result,
};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Where requests go: the address, the token, and the limiter that they pass.
pub(super) struct ApiEndpoint {
    pub address: String,
    /// Whether the address is on this machine.
    pub is_local: bool,
    pub reference: Option<SecretRef>,
    pub environment: Environment,
    pub token: OnceCell<AccessToken>,
    pub limiter: Arc<RateLimiter>,
    pub clock: Arc<dyn Clock>,
}

impl ApiEndpoint {
    /// Returns the token, which is looked for once.
    pub(super) async fn access_token(&self) -> Result<&AccessToken> {
        self.token.get_or_try_init(|| token::find_token(self.reference.as_ref(), &self.environment)).await
    }
}
