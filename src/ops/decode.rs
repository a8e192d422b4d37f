//! Arguments checked against an operation's parameters: decoded strictly, once, into one canonical form.

use super::{
    args::CallArgs,
    param::{Param, ParamSlot, TIMEOUT_PARAM},
    spec::Operation,
};
use crate::{
    base::{moment::Span, suggest},
    provider::{Code, Error, Result},
};
use serde::Deserialize as _;
use serde_json::{Map, Value};

impl CallArgs {
    /// Checks positional arguments and options against an operation's parameters.
    ///
    /// # Errors
    /// [`Code::Invalid`] naming the parameter, with a hint.
    pub fn decode(op: &Operation, positional: Vec<Value>, mut options: Map<String, Value>) -> Result<Self> {
        check_positional_count(op, positional.len())?;
        let mut given = Map::new();
        for (param, argument) in op.positional_params().zip(positional) {
            given.insert(param.name.into(), canonicalize_argument(op, param, argument)?);
        }
        for param in op.option_params() {
            if let Some(argument) = take_option(op, param, &mut options)? {
                given.insert(param.name.into(), canonicalize_argument(op, param, argument)?);
            }
        }
        refuse_unknown_option(op, &options)?;
        let timeout = match given.get(TIMEOUT_PARAM.name) {
            Some(text) => Span::deserialize(text)
                .map_err(|e| Error::new(Code::Invalid, format!("`timeout` of `{}`: {e}", op.path())))?,
            None => op.default_timeout(),
        };
        Ok(Self { given, timeout })
    }

    /// Decodes what [`CallArgs::to_value`] returned and the journal recorded.
    ///
    /// # Errors
    /// As [`CallArgs::decode`]: a later version of the program may refuse it.
    pub fn from_recorded(op: &Operation, recorded: &Value) -> Result<Self> {
        let Value::Object(mut options) = recorded.clone() else {
            return Err(Error::new(Code::Invalid, format!("the recorded arguments {recorded} are no map"))
                .with_hint("another version of the program wrote them"));
        };
        let positional = op.positional_params().filter_map(|p| options.remove(p.name)).collect();
        Self::decode(op, positional, options)
    }
}

/// Checks the number of positional arguments.
fn check_positional_count(op: &Operation, given: usize) -> Result<()> {
    let wanted = op.positional_params().count();
    if given == wanted {
        return Ok(());
    }
    let message =
        format!("`{}` takes {wanted} arguments and an options map, and {given} were given", op.path());
    Err(Error::new(Code::Invalid, message).with_hint(format!("write `{}`", op.script_signature())))
}

/// Takes an option out of those that were given; `None` if it was left out and may be.
fn take_option(op: &Operation, param: &Param, options: &mut Map<String, Value>) -> Result<Option<Value>> {
    match (options.remove(param.name), param.slot) {
        (Some(Value::Null), _) => {
            let message = format!("`{}` of `{}` was given and is `()`", param.name, op.path());
            Err(Error::new(Code::Invalid, message).with_hint(
                "leave it out, or give it a value: an empty option could mean something else than you do",
            ))
        }
        (None, ParamSlot::Named) => {
            Err(Error::new(Code::Invalid, format!("`{}` needs `{}`", op.path(), param.name))
                .with_hint(format!("{}: {}", param.name, param.help)))
        }
        (given, _) => Ok(given),
    }
}

/// Refuses the options that the operation does not have.
fn refuse_unknown_option(op: &Operation, left: &Map<String, Value>) -> Result<()> {
    let Some(unknown) = left.keys().next() else { return Ok(()) };
    let known: Vec<_> = op.option_params().map(|p| p.name).collect();
    Err(Error::new(Code::Invalid, format!("`{}` has no option `{unknown}`", op.path()))
        .with_hint(suggest::suggest_name_or_list_known(unknown, known)))
}

/// Returns the canonical form of one argument; its error names the parameter.
fn canonicalize_argument(op: &Operation, param: &Param, argument: Value) -> Result<Value> {
    param.kind.canonicalize_value(argument).map_err(|e| {
        let mut error =
            Error::new(Code::Invalid, format!("`{}` of `{}`: {}", param.name, op.path(), e.message));
        error.hint = e.hint.or_else(|| Some(format!("{}: {}", param.name, param.help)));
        error
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::moment::Span,
        ops::{self, param::ParamKind},
    };
    use serde_json::json;

    fn decode(path: &str, positional: &[Value], options: &Value) -> Result<CallArgs> {
        let op = ops::find_operation(path).expect("an operation");
        CallArgs::decode(op, positional.to_vec(), options.as_object().cloned().unwrap_or_default())
    }

    fn message(path: &str, positional: &[Value], options: &Value) -> String {
        let error = decode(path, positional, options).expect_err("it must be refused");
        assert_eq!(error.code, Code::Invalid);
        assert!(error.hint.is_some(), "{error:?} has no hint");
        error.message
    }

    #[test]
    fn what_is_given_wrong_is_refused_by_name() {
        let lab = json!("lab");
        let cases = [
            (message("backup::list", &[], &json!({})), "takes 1 arguments"),
            (
                message("backup::list", &[json!(5)], &json!({})),
                "`target` of `backup::list`: expected target, found `5`",
            ),
            (
                message("backup::create", std::slice::from_ref(&lab), &json!({"lable": "x"})),
                "has no option `lable`",
            ),
            (
                message("backup::create", std::slice::from_ref(&lab), &json!({"timeout": "soon"})),
                "`soon` is not a duration",
            ),
            (
                message("backup::restore", &[lab.clone(), json!("b")], &json!({"into": null})),
                "was given and is `()`",
            ),
            (message("backup::pitr::restore", std::slice::from_ref(&lab), &json!({})), "needs `to`"),
            (
                message(
                    "backup::pitr::restore",
                    std::slice::from_ref(&lab),
                    &json!({"to": {"time": "2026-11-20T03:00:00"}}),
                ),
                "no time zone",
            ),
            (
                message(
                    "backup::pitr::restore",
                    std::slice::from_ref(&lab),
                    &json!({"to": {"xid": "1", "lsn": "0/1"}}),
                ),
                "exactly one of",
            ),
            (
                message("backup::pitr::restore", std::slice::from_ref(&lab), &json!({"to": {"tme": "x"}})),
                "has no `tme`",
            ),
            (
                message("backup::pitr::find", std::slice::from_ref(&lab), &json!({"event": "dorp"})),
                "expected drop|truncate",
            ),
        ];
        for (message, wrong) in cases {
            assert!(message.contains(wrong), "{message}");
        }
    }

    #[test]
    fn handles_are_kept_by_what_identifies_them() {
        let branch = json!({"$branch": {"target": "lab", "name": "drill", "id": "x1", "port": 5}});
        let backup = json!({"$backup": {"id": "b1", "target": "lab", "bytes": 5}});
        let args = decode("backup::get", &[branch, backup], &json!({})).expect("they are right");
        assert_eq!(
            args.to_value(),
            json!({"backup": "b1", "target": {"$branch": {"target": "lab", "name": "drill", "id": "x1"}}})
        );
    }

    #[test]
    fn the_same_thing_said_differently_is_the_same_call() {
        let one =
            decode("backup::list", &[json!({"$target": "lab"})], &json!({"timeout": "90s"})).expect("right");
        let two = decode("backup::list", &[json!("lab")], &json!({"timeout": {"$duration": "1m 30s"}}))
            .expect("right");
        assert_eq!(one.get("timeout"), two.get("timeout"));
        assert_eq!(one.timeout(), Span::from_secs(90));
        let zoned = |text: &str| {
            decode("backup::pitr::restore", &[json!("lab")], &json!({"to": {"time": text}})).expect("right")
        };
        assert_eq!(zoned("2026-11-20T03:00:00Z"), zoned("2026-11-20T05:00:00+02:00"));
    }

    #[test]
    fn words_are_read_like_values() {
        let point =
            ParamKind::Point.parse_word("time=2026-11-20T03:00:00Z,inclusive=false").expect("a point");
        assert_eq!(point, json!({"time": {"$moment": "2026-11-20T03:00:00Z"}, "inclusive": false}));
        let mark = r#"{"name":"m1","lsn":"0/C000060","timeline":2,"time":"2026-11-20T03:00:00Z"}"#;
        let point = ParamKind::Point.parse_word(mark).expect("what a mark printed");
        assert_eq!((&point["name"], &point["timeline"]), (&json!("m1"), &json!(2)));
        assert!(ParamKind::Point.parse_word("{").is_err());
        assert!(ParamKind::Point.parse_word("yesterday").is_err());
        assert!(ParamKind::Bool.parse_word("yes").is_err());
        assert_eq!(ParamKind::Int.parse_word("7").expect("a number"), json!(7));
    }
}
