//! `db`: query, execute, health.

use super::{
    TARGET,
    args::CallArgs,
    spec::{
        CallContext, Effect, Operation, Param, ParamKind, ParamSlot, ProbeResult, Recovery, ReturnShape,
        field,
    },
};
use crate::provider::{Code, Error, Result, model::SqlOutcome};
use serde_json::{Value, json};

const SQL: Param =
    Param { name: "sql", kind: ParamKind::Text, slot: ParamSlot::Positional, help: "one SQL statement" };

/// The operations of `db`.
pub const OPS: &[Operation] = &[
    Operation {
        namespace: "db",
        name: "query",
        summary: "Run one SQL statement in a read-only transaction and return its rows",
        params: &[TARGET, SQL],
        returns: ReturnShape::Rows,
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"db::query("sandbox", "select count(*) as n from orders")"#],
        perform: |cx, args| Box::pin(query_rows(cx, args)),
    },
    Operation {
        namespace: "db",
        name: "execute",
        summary: "Run one SQL statement in a transaction of its own",
        params: &[TARGET, SQL],
        returns: ReturnShape::One(&[field("rows_affected", "int", "how many rows it touched")]),
        effect: Effect::Destroy,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_statement(cx, args))),
        examples: &[r#"db::execute("sandbox", "update customers set name = 'Ada' where id = 1")"#],
        perform: |cx, args| Box::pin(execute_statement(cx, args)),
    },
    Operation {
        namespace: "db",
        name: "health",
        summary: "Ask the database whether it answers and takes writes",
        params: &[TARGET],
        returns: ReturnShape::One(&[
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
        perform: |cx, args| Box::pin(check_health(cx, args)),
    },
];

async fn query_rows(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let place = cx.open_target(args.get("target")).await?;
    let rows = place.sql()?.query(args.get_text("sql"), args.timeout()).await?;
    cx.host.report_columns(&rows.columns);
    Ok(rows.rows.into_iter().map(Value::Object).collect())
}

/// The commit is the effect: what lets its outcome be known later is written down just before it.
async fn execute_statement(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    if cx.accepted.is_some()
        && let Some(outcome) = find_outcome(cx, args).await?
    {
        return Ok(json!(outcome));
    }
    let place = cx.open_target(args.get("target")).await?;
    Ok(json!(place.sql()?.execute(args.get_text("sql"), args.timeout(), cx.key, cx.host).await?))
}

async fn probe_statement(cx: &CallContext<'_>, args: &CallArgs) -> Result<ProbeResult> {
    Ok(find_outcome(cx, args)
        .await?
        .map_or(ProbeResult::NotDone, |outcome| ProbeResult::Done(json!(outcome))))
}

/// Returns what became of a statement that may have been committed. Whatever keeps us from being told leaves it
/// unknown: to say "it failed" here would be to do it again.
async fn find_outcome(cx: &CallContext<'_>, args: &CallArgs) -> Result<Option<SqlOutcome>> {
    let asked = async {
        let place = cx.open_target(args.get("target")).await?;
        place.sql()?.settle(cx.key, cx.accepted.as_ref()).await
    };
    asked.await.map_err(|e| Error { code: Code::Unknown, retryable: false, ..e })
}

async fn check_health(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let place = cx.open_target(args.get("target")).await?;
    Ok(json!(place.sql()?.health().await?))
}
