//! `network::ssl`: get, set.

use super::{
    TARGET,
    args::Args,
    known,
    spec::{Context, Effect, Kind, Op, Param, Probed, Recovery, Returns, Slot, field},
};
use crate::{
    base::moment::Span,
    provider::{
        Error, Network, Provider, Result,
        model::{Observed, Progress},
    },
};
use serde_json::{Value, json};

/// The operations of `network::ssl`.
pub const OPS: &[Op] = &[
    Op {
        namespace: "network::ssl",
        name: "get",
        summary: "Show whether connections without TLS are refused",
        params: &[TARGET],
        returns: Returns::One(&[
            field("enforced", "bool", "whether they are to be"),
            field("applied", "bool", "whether that is so already"),
        ]),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"network::ssl::get("sandbox")"#],
        perform: |cx, args| Box::pin(get(cx, args)),
    },
    Op {
        namespace: "network::ssl",
        name: "set",
        summary: "Say whether connections without TLS are refused, and wait until that is so",
        params: &[
            TARGET,
            Param {
                name: "enforced",
                kind: Kind::Bool,
                slot: Slot::Positional,
                help: "whether connections without TLS are refused",
            },
        ],
        returns: Returns::One(&[
            field("before", "bool", "whether they were to be before"),
            field("enforced", "bool", "whether they are to be"),
            field("applied", "bool", "whether that is so already; if not, look again later"),
        ]),
        effect: Effect::Change,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(is_done(cx, args))),
        examples: &[r#"network::ssl::set("sandbox", true)"#],
        perform: |cx, args| Box::pin(set(cx, args)),
    },
];

async fn get(cx: &Context<'_>, args: &Args) -> Result<Value> {
    Ok(json!(cx.place(args.get("target")).await?.network()?.ssl().await?))
}

async fn set(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let wanted = args.flag("enforced");
    let target = cx.place(args.get("target")).await?;
    let now = target.network()?.ssl().await?;
    let before = now.enforced;
    if before == wanted && now.applied {
        return Ok(json!({ "before": before, "enforced": now.enforced, "applied": now.applied }));
    }
    known::about_to(cx, &before.into(), &wanted.into()).await?;
    target.network()?.enforce_ssl(wanted).await?;
    applied(cx, args, &*target, &before.into()).await
}

async fn is_done(cx: &Context<'_>, args: &Args) -> Result<Probed> {
    let Some(before) = known::before(cx) else { return Ok(Probed::NotDone) };
    let target = cx.place(args.get("target")).await?;
    let now = target.network()?.ssl().await?.enforced;
    if !known::is_done(cx, "the enforcement of TLS", &now.into())? {
        return Ok(Probed::NotDone);
    }
    Ok(Probed::Done(applied(cx, args, &*target, before).await?))
}

/// Waits until what was said is so, and returns what holds then.
async fn applied(cx: &Context<'_>, args: &Args, target: &dyn Provider, before: &Value) -> Result<Value> {
    let network = target.network()?;
    let mut result = match known::applied(cx, args, target, || look(network)).await? {
        Some(ssl) => ssl,
        None => json!(network.ssl().await.map_err(Error::with_side_effects)?),
    };
    result["before"] = before.clone();
    Ok(result)
}

async fn look(network: &dyn Network) -> Result<Observed> {
    let ssl = network.ssl().await?;
    if ssl.applied {
        return Ok(Observed::Done(json!(ssl)));
    }
    Ok(Observed::Running(Progress { again_in: Some(Span::seconds(2)), ..Progress::phase("applying") }))
}
