//! `db`: query, execute, health.

use super::{
    args::CallArgs,
    protocol::{begin_or_continue_commit, send_opaque_or_report_undecided},
    spec::{
        CallContext, Effect, EffectResult, Operation, Param, ParamKind, ParamSlot, Protocol, ReturnShape,
        TARGET, field,
    },
    thing::Thing,
};
use crate::provider::Result;
use serde_json::{Value, json};

const SQL: Param =
    Param { name: "sql", kind: ParamKind::Text, slot: ParamSlot::Positional, help: "one SQL statement" };

const TRANSACTION: Param = Param {
    name: "transaction",
    kind: ParamKind::Bool,
    slot: ParamSlot::Optional("true"),
    help: "`false` for what runs only outside a transaction, such as `vacuum` and `create index concurrently`: \
           when its answer is lost, nobody knows what came of it",
};

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
        protocol: Protocol::Read(|cx, args| Box::pin(query_rows(cx, args))),
        examples: &[r#"db::query("sandbox", "select count(*) as n from orders")"#],
    },
    Operation {
        namespace: "db",
        name: "execute",
        summary: "Run one SQL statement in a transaction of its own, or outside one",
        params: &[TARGET, SQL, TRANSACTION],
        returns: ReturnShape::One(&[field("rows_affected", "int", "how many rows it touched")]),
        effect: Effect::Destroy,
        needs: None,
        protocol: Protocol::Effect(|cx, args| Box::pin(execute_statement(cx, args))),
        examples: &[
            r#"db::execute("sandbox", "update customers set name = 'Ada' where id = 1")"#,
            r#"db::execute("sandbox", "vacuum orders", #{ transaction: false })"#,
        ],
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
        protocol: Protocol::Read(|cx, args| Box::pin(check_health(cx, args))),
        examples: &[r#"db::health("sandbox")"#],
    },
];

async fn query_rows(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let rows = target.sql()?.query(args.get_text("sql"), args.timeout()).await?;
    cx.host.report_columns(&rows.columns);
    Ok(rows.rows.into_iter().map(Value::Object).collect())
}

async fn execute_statement(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let statement = args.get_text("sql");
    if args.get("transaction") != false {
        return begin_or_continue_commit(cx, args, &*target, statement).await;
    }
    let run =
        async { Ok(json!(target.sql()?.execute_outside_transaction(statement, args.timeout()).await?)) };
    send_opaque_or_report_undecided(
        cx,
        Thing::unknown_part(args)?,
        args.timeout(),
        format!("`{statement}`").into(),
        run,
    )
    .await
}

async fn check_health(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(json!(target.sql()?.health().await?))
}
