//! A read-only operation without a run.

use super::{events::Event, observer::RunObserver, runs::Runtime};
use crate::{
    base::{clock::Uptime, moment::Span},
    ops::{
        args::CallArgs,
        spec::{
            CallContext, CallHost, Effect, EffectFailure, ElementValue, Evidence, Operation, Protocol, Thing,
            ThingClaim,
        },
    },
    provider::{
        Code, Error, Result,
        model::{CallKey, Progress},
    },
};
use async_trait::async_trait;
use serde_json::Value;

/// Returns whether an operation can be performed by [`Runtime::perform_read`], with these arguments.
pub fn is_read_only(op: &Operation, args: &CallArgs) -> bool {
    op.required_permission(args).effect == Effect::Read
}

impl Runtime {
    /// Performs a read-only operation outside any run.
    ///
    /// # Errors
    /// What the operation says; an interrupt is [`Code::Timeout`].
    pub fn perform_read(
        &self,
        op: &'static Operation,
        args: &CallArgs,
        observer: &dyn RunObserver,
    ) -> Result<Value> {
        let key = CallKey(String::new());
        let host = ReadOnlyHost(observer);
        let cx = CallContext {
            fleet: &self.fleet,
            key: &key,
            run: None,
            recorded: None,
            is_taken_up: false,
            attempts: 1,
            is_doubtful: false,
            settles_only: false,
            host: &host,
        };
        let timeout = args.timeout();
        self.tokio.block_on(async {
            let slow = || {
                Error::new(Code::Timeout, format!("no answer within {timeout}"))
                    .with_hint("give it more with `--timeout`")
            };
            tokio::time::timeout(timeout.to_std(), perform_without_run(op, &cx, args))
                .await
                .unwrap_or_else(|_| Err(slow()))
        })
    }
}

async fn perform_without_run(op: &Operation, cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    match op.protocol {
        Protocol::Read(perform) | Protocol::Wait(perform) => perform(cx, args).await,
        Protocol::Effect(perform) => perform(cx, args).await.map_err(|failure| match failure {
            EffectFailure::Failed(e) => e,
            EffectFailure::Undecided(why) | EffectFailure::Unreadable(why) => Error::new(Code::Internal, why),
            EffectFailure::NeverAsked => effect_outside_run_error(),
        }),
    }
}

/// The host of a read-only operation: it takes no effect.
struct ReadOnlyHost<'a>(&'a dyn RunObserver);

#[async_trait]
impl CallHost for ReadOnlyHost<'_> {
    fn report_progress(&self, progress: &Progress) {
        self.0.on_event(&Event::Progress { call: "", op: "", progress });
    }

    fn report_columns(&self, columns: &[String]) {
        self.0.on_event(&Event::Columns { columns });
    }

    async fn record_evidence(&self, _: &Evidence) -> Result<()> {
        Err(effect_outside_run_error())
    }

    async fn wait_and_claim_things(&self, _: &[Thing], _: Option<Span>) -> Result<ThingClaim> {
        Err(effect_outside_run_error())
    }

    async fn begin_quarantine(&self, _: &[Thing], _: &Uptime, _: Option<Span>) -> Result<()> {
        Err(effect_outside_run_error())
    }

    async fn lift_quarantines_at(&self, _: &[Thing]) -> Result<()> {
        Err(effect_outside_run_error())
    }

    async fn lift_quarantines(&self) -> Result<()> {
        Err(effect_outside_run_error())
    }

    async fn keep_past_values(&self, _: &[ElementValue], _: &Uptime, _: Span) -> Result<()> {
        Err(effect_outside_run_error())
    }

    async fn list_past_values(&self, _: &[String]) -> Result<Vec<(ElementValue, Span)>> {
        Err(effect_outside_run_error())
    }
}

fn effect_outside_run_error() -> Error {
    Error::new(Code::Internal, "an operation that only looks was about to take effect")
}
