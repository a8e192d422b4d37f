//! A read-only operation without a run.

use super::{events::Event, observer::RunObserver, runs::Runtime};
use crate::{
    ops::{
        args::CallArgs,
        spec::{CallContext, CallHost, Effect, Operation},
    },
    provider::{
        Accept, Code, Error, Result,
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
        let cx = CallContext { fleet: &self.fleet, key: &key, run: None, accepted: None, host: &host };
        let timeout = args.timeout();
        self.tokio.block_on(async {
            let slow = || {
                Error::new(Code::Timeout, format!("no answer within {timeout}"))
                    .with_hint("give it more with `--timeout`")
            };
            tokio::time::timeout(timeout.to_std(), (op.perform)(&cx, args))
                .await
                .unwrap_or_else(|_| Err(slow()))
        })
    }
}

/// The host of a read-only operation: it accepts no job.
struct ReadOnlyHost<'a>(&'a dyn RunObserver);

#[async_trait]
impl Accept for ReadOnlyHost<'_> {
    async fn accepted(&self, _: Value) -> Result<()> {
        Err(Error::new(Code::Internal, "an operation that only looks was given something to wait for"))
    }
}

impl CallHost for ReadOnlyHost<'_> {
    fn report_progress(&self, progress: &Progress) {
        self.0.on_event(&Event::Progress { call: "", op: "", progress });
    }

    fn report_columns(&self, columns: &[String]) {
        self.0.on_event(&Event::Columns { columns });
    }
}
