//! `db`: query, execute, health.

use super::{
    args::CallArgs,
    spec::{
        CallContext, Effect, Operation, Param, ParamKind, ParamSlot, ProbeResult, Recovery, ReturnShape,
        TARGET, field,
    },
};
use crate::provider::{Code, Error, Result, model::SqlOutcome};
use serde_json::{Value, json};

const SQL: Param =
    Param { name: "sql", kind: ParamKind::Text, slot: ParamSlot::Positional, help: "one SQL statement" };

/// The operations of `db`.
pub(super) const OPS: &[Operation] = &[
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
    let target = cx.open_target(args.get("target")).await?;
    let rows = target.sql()?.query(args.get_text("sql"), args.timeout()).await?;
    cx.host.report_columns(&rows.columns);
    Ok(rows.rows.into_iter().map(Value::Object).collect())
}

/// Runs the statement. Its commit is the effect, so what tells its outcome later is recorded just before the commit.
async fn execute_statement(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    if cx.accepted.is_some()
        && let Some(outcome) = find_outcome(cx, args).await?
    {
        return Ok(json!(outcome));
    }
    let target = cx.open_target(args.get("target")).await?;
    Ok(json!(target.sql()?.execute(args.get_text("sql"), args.timeout(), cx.key, cx.host).await?))
}

async fn probe_statement(cx: &CallContext<'_>, args: &CallArgs) -> Result<ProbeResult> {
    Ok(find_outcome(cx, args)
        .await?
        .map_or(ProbeResult::NotDone, |outcome| ProbeResult::Done(json!(outcome))))
}

/// Returns the outcome of a statement that may have been committed; `None` if it was not. Any error means that the
/// outcome is unknown: an error of another kind would have the statement run again.
async fn find_outcome(cx: &CallContext<'_>, args: &CallArgs) -> Result<Option<SqlOutcome>> {
    let settled = async {
        let target = cx.open_target(args.get("target")).await?;
        target.sql()?.settle(cx.key, cx.accepted.as_ref()).await
    };
    settled.await.map_err(|e| Error { code: Code::Unknown, retryable: false, ..e })
}

async fn check_health(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(json!(target.sql()?.health().await?))
}
