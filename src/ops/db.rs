//! `db`: query, execute, health.

use super::{
    TARGET,
    args::Args,
    spec::{Context, Effect, Kind, Op, Param, Probed, Recovery, Returns, Slot, field},
};
use crate::provider::{Code, Error, Result, model::SqlOutcome};
use serde_json::{Value, json};

const SQL: Param = Param { name: "sql", kind: Kind::Text, slot: Slot::Positional, help: "one SQL statement" };

/// The operations of `db`.
pub const OPS: &[Op] = &[
    Op {
        namespace: "db",
        name: "query",
        summary: "Run one SQL statement in a read-only transaction and return its rows",
        params: &[TARGET, SQL],
        returns: Returns::Rows,
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"db::query("sandbox", "select count(*) as n from orders")"#],
        perform: |cx, args| Box::pin(query(cx, args)),
    },
    Op {
        namespace: "db",
        name: "execute",
        summary: "Run one SQL statement in a transaction of its own",
        params: &[TARGET, SQL],
        returns: Returns::One(&[field("rows_affected", "int", "how many rows it touched")]),
        effect: Effect::Destroy,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(settle(cx, args))),
        examples: &[r#"db::execute("sandbox", "update customers set name = 'Ada' where id = 1")"#],
        perform: |cx, args| Box::pin(execute(cx, args)),
    },
    Op {
        namespace: "db",
        name: "health",
        summary: "Ask the database whether it answers and takes writes",
        params: &[TARGET],
        returns: Returns::One(&[
            field("ok", "bool", "whether it answers and takes writes"),
            field("status", "text", "`healthy`, or what is the matter"),
            field("version", "text", "the server's version"),
            field("in_recovery", "bool", "whether it is still in recovery"),
            field("latency", "duration", "how long the answer took"),
            field("bytes", "int", "the size of the database in bytes"),
            field("connections", "int", "how many connections are open"),
        ]),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"db::health("sandbox")"#],
        perform: |cx, args| Box::pin(health(cx, args)),
    },
];

async fn query(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let place = cx.place(args.get("target")).await?;
    let rows = place.sql()?.query(args.text("sql"), args.timeout()).await?;
    cx.host.columns(&rows.columns);
    Ok(rows.rows.into_iter().map(Value::Object).collect())
}

/// The commit is the effect: what lets its outcome be known later is written down just before it.
async fn execute(cx: &Context<'_>, args: &Args) -> Result<Value> {
    if cx.accepted.is_some()
        && let Some(outcome) = outcome(cx, args).await?
    {
        return Ok(json!(outcome));
    }
    let place = cx.place(args.get("target")).await?;
    Ok(json!(place.sql()?.execute(args.text("sql"), args.timeout(), cx.key, cx.host).await?))
}

async fn settle(cx: &Context<'_>, args: &Args) -> Result<Probed> {
    Ok(outcome(cx, args).await?.map_or(Probed::NotDone, |outcome| Probed::Done(json!(outcome))))
}

/// Returns what became of a statement that may have been committed. Whatever keeps us from being told leaves it
/// unknown: to say "it failed" here would be to do it again.
async fn outcome(cx: &Context<'_>, args: &Args) -> Result<Option<SqlOutcome>> {
    let asked = async {
        let place = cx.place(args.get("target")).await?;
        place.sql()?.settle(cx.key, cx.accepted.as_ref()).await
    };
    asked.await.map_err(|e| Error { code: Code::Unknown, retryable: false, ..e })
}

async fn health(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let place = cx.place(args.get("target")).await?;
    Ok(json!(place.sql()?.health().await?))
}
