//! `network::ssl`: get, set.

use super::{
    args::CallArgs,
    known,
    spec::{
        CallContext, Effect, Operation, Param, ParamKind, ParamSlot, ProbeResult, Recovery, ReturnShape,
        TARGET, field,
    },
};
use crate::{
    base::moment::Span,
    provider::{
        Error, Network, Provider, Result,
        model::{JobStatus, Progress},
    },
};
use serde_json::{Value, json};

/// The operations of `network::ssl`.
pub(super) const OPS: &[Operation] = &[
    Operation {
        namespace: "network::ssl",
        name: "get",
        summary: "Show whether connections without TLS are refused",
        params: &[TARGET],
        returns: ReturnShape::One(&[
            field("enforced", "bool", "whether they are to be"),
            field("applied", "bool", "whether that is so already"),
        ]),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"network::ssl::get("sandbox")"#],
        perform: |cx, args| Box::pin(get_ssl(cx, args)),
    },
    Operation {
        namespace: "network::ssl",
        name: "set",
        summary: "Say whether connections without TLS are refused, and wait until that is so",
        params: &[
            TARGET,
            Param {
                name: "enforced",
                kind: ParamKind::Bool,
                slot: ParamSlot::Positional,
                help: "whether connections without TLS are refused",
            },
        ],
        returns: ReturnShape::One(&[
            field("before", "bool", "whether they were to be before"),
            field("enforced", "bool", "whether they are to be"),
            field("applied", "bool", "whether that is so already; if not, look again later"),
        ]),
        effect: Effect::Change,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_ssl(cx, args))),
        examples: &[r#"network::ssl::set("sandbox", true)"#],
        perform: |cx, args| Box::pin(set_ssl(cx, args)),
    },
];

async fn get_ssl(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    Ok(json!(cx.open_target(args.get("target")).await?.network()?.ssl().await?))
}

async fn set_ssl(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let wanted = args.get_flag("enforced");
    let target = cx.open_target(args.get("target")).await?;
    let now = target.network()?.ssl().await?;
    let before = now.enforced;
    if before == wanted && now.applied {
        return Ok(json!({ "before": before, "enforced": now.enforced, "applied": now.applied }));
    }
    known::about_to(cx, &before.into(), &wanted.into()).await?;
    target.network()?.enforce_ssl(wanted).await?;
    wait_until_applied(cx, args, &*target, &before.into()).await
}

async fn probe_ssl(cx: &CallContext<'_>, args: &CallArgs) -> Result<ProbeResult> {
    let Some(before) = known::before(cx) else { return Ok(ProbeResult::NotDone) };
    let target = cx.open_target(args.get("target")).await?;
    let now = target.network()?.ssl().await?.enforced;
    if !known::is_done(cx, "the enforcement of TLS", &now.into())? {
        return Ok(ProbeResult::NotDone);
    }
    Ok(ProbeResult::Done(wait_until_applied(cx, args, &*target, before).await?))
}

/// Waits until the setting is applied, and returns what holds then.
async fn wait_until_applied(
    cx: &CallContext<'_>,
    args: &CallArgs,
    target: &dyn Provider,
    before: &Value,
) -> Result<Value> {
    let network = target.network()?;
    let mut result = match known::applied(cx, args, target, || poll_ssl(network)).await? {
        Some(ssl) => ssl,
        None => json!(network.ssl().await.map_err(Error::with_side_effects)?),
    };
    result["before"] = before.clone();
    Ok(result)
}

async fn poll_ssl(network: &dyn Network) -> Result<JobStatus> {
    let ssl = network.ssl().await?;
    if ssl.applied {
        return Ok(JobStatus::Done(json!(ssl)));
    }
    Ok(JobStatus::Running(Progress {
        again_in: Some(Span::from_secs(2)),
        ..Progress::with_phase("applying")
    }))
}
