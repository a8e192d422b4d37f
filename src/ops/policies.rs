//! `security::policies`: list.

use super::{
    args::CallArgs,
    spec::{CallContext, Effect, Operation, Protocol, ReturnShape, TARGET, field},
};
use crate::provider::Result;
use serde_json::{Value, json};

/// The operations of `security::policies`.
pub(super) const OPS: &[Operation] = &[Operation {
    namespace: "security::policies",
    name: "list",
    summary: "List the row-level security policies of a target",
    params: &[TARGET],
    returns: ReturnShape::List(&[
        field("schema", "text", "the schema of its table"),
        field("table", "text", "its table"),
        field("name", "text", "its name"),
        field("command", "text", "`ALL`, `SELECT`, `INSERT`, `UPDATE` or `DELETE`"),
        field("permissive", "bool", "whether it grants, or narrows"),
        field("roles", "list", "whom it is for"),
        field("using_expression", "text", "which rows are seen"),
        field("check_expression", "text", "which rows may be written"),
        field(
            "enabled",
            "bool",
            "whether row-level security is on for the table; without it the policy does nothing",
        ),
    ]),
    effect: Effect::Read,
    needs: None,
    protocol: Protocol::Read(|cx, args| Box::pin(list_policies(cx, args))),
    examples: &[r#"security::policies::list("sandbox")"#],
}];

async fn list_policies(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(json!(target.security()?.policies().await?))
}
