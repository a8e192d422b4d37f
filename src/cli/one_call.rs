//! A runbook generated from one operation, so that a command is journaled and can be resumed like any run.

use crate::{
    base::value,
    ops::{
        args::CallArgs,
        spec::{Operation, ParamKind, ParamSlot},
    },
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Returns the text of a runbook that makes one call, and its parameters.
///
/// Targets become parameters, so that they are checked before the run starts. Everything
/// else is written into the call.
pub(super) fn build_one_call_runbook(op: &Operation, args: &CallArgs) -> (String, BTreeMap<String, String>) {
    let given = value::strip_tags(&args.to_value());
    let given = given.as_object().cloned().unwrap_or_default();
    let mut params = BTreeMap::new();
    for param in op.params.iter().filter(|p| p.kind == ParamKind::Target) {
        if let Some(place) = given.get(param.name).and_then(Value::as_str) {
            params.insert(param.name.to_owned(), place.to_owned());
        }
    }
    let argument = |name: &str| match params.get(name) {
        Some(_) => format!("params.{name}"),
        None => render_script_literal(&given[name]),
    };
    let mut words: Vec<String> = op.positional_params().map(|p| argument(p.name)).collect();
    let options: Vec<String> = op
        .option_params()
        .filter(|p| p.slot != ParamSlot::Positional && given.contains_key(p.name))
        .map(|p| format!("{}: {}", p.name, argument(p.name)))
        .collect();
    if !options.is_empty() {
        words.push(format!("#{{ {} }}", options.join(", ")));
    }
    let header = render_header(op, args, &params);
    (format!("{header}\n{}({})\n", op.path(), words.join(", ")), params)
}

fn render_header(op: &Operation, args: &CallArgs, params: &BTreeMap<String, String>) -> String {
    let declared: Vec<String> =
        params.keys().map(|name| format!("{name}: #{{ type: \"target\" }}")).collect();
    let declared = declared.join(", ");
    let title = render_script_literal(&op.command_words().collect::<Vec<_>>().join(" ").into());
    let need = render_script_literal(&op.required_permission(args).to_string().into());
    format!("const RUNBOOK = #{{ title: {title}, params: #{{ {declared} }}, needs: [{need}] }};")
}

/// Returns a value as the script language writes it.
pub(super) fn render_script_literal(value: &Value) -> String {
    match value {
        Value::Null => "()".into(),
        // `i64::MIN` has no literal: the script language reads it as the negation of a number that overflows.
        Value::Number(n) if n.as_i64() == Some(i64::MIN) => format!("({} - 1)", i64::MIN + 1),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => render_string_literal(text),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(render_script_literal).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => render_map_literal(fields),
    }
}

fn render_map_literal(fields: &Map<String, Value>) -> String {
    let fields = fields
        .iter()
        .map(|(name, v)| format!("{}: {}", render_string_literal(name), render_script_literal(v)));
    format!("#{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

/// Returns a quoted string literal; control characters are written as escapes.
fn render_string_literal(text: &str) -> String {
    let mut literal = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                literal.extend(format!("\\U{:08x}", u32::from(c)).chars());
            }
            c => literal.push(c),
        }
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::moment::Moment, config::Config, ops, runtime::Runbook};
    use serde_json::json;

    fn parse_literal(value: &Value) -> Option<Value> {
        let text = format!(
            "const RUNBOOK = #{{ title: \"t\", params: #{{ p: #{{ type: \"string\", preset: {} }} }} }};",
            render_script_literal(value)
        );
        let runbook = Runbook::from_text("literal", text).ok()?;
        let now = |_: &[String]| Ok(Moment(jiff::Timestamp::UNIX_EPOCH));
        let params = runbook.resolve_params(&BTreeMap::new(), &Config::empty(), &now);
        params.ok().map(|params| params.values["p"].clone())
    }

    proptest::proptest! {
        #[test]
        fn any_text_reads_back(text in "\\PC*|[\\x00-\\x{10ffff}]*|([\"\\\\$`{}]|\n|\r){0,8}") {
            let value = Value::from(text);
            proptest::prop_assert_eq!(parse_literal(&value), Some(value.clone()));
        }
    }

    #[test]
    fn a_call_is_written_with_its_targets_as_parameters() {
        let op = ops::find_operation("backup::pitr::restore").expect("is in the catalogue");
        let options = json!({"to": {"time": "2026-11-20T03:00:00Z"}, "into": "say \"hi\""});
        let options = options.as_object().cloned().expect("a map");
        let args = CallArgs::decode(op, vec!["lab".into()], options).expect("arguments");
        let (text, params) = build_one_call_runbook(op, &args);
        assert_eq!(params, BTreeMap::from([("target".to_owned(), "lab".to_owned())]));
        insta::assert_snapshot!(text, @r#"
        const RUNBOOK = #{ title: "backup pitr restore", params: #{ target: #{ type: "target" } }, needs: ["branch.create"] };
        backup::pitr::restore(params.target, #{ to: #{"time": "2026-11-20T03:00:00Z"}, into: "say \"hi\"" })
        "#);
        Runbook::from_text("one call", text).expect("parses");
    }
}
