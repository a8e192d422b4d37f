//! What a fault of a script says: its place, its words, and whether anything changed.

use crate::{
    base::{suggest, value},
    journal::{Failure, ScriptError, SideEffects, SourceLocation},
    ops::{self, spec::Operation},
    runtime::NATIVES,
};
use serde_json::{Value, json};

/// Returns a place with its source line and a caret under the column.
pub fn render_place(place: &SourceLocation) -> String {
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    // A tab is as wide in the line of the caret as in the line above it.
    let before: String =
        place.text.chars().take(place.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    format!(
        "{margin}--> {}:{}:{}\n{margin} |\n{number} | {}\n{margin} | {before}^",
        place.file, place.line, place.column, place.text
    )
}

/// Rewords the script engine's "function not found", which suggests no name and does not say when only
/// the arguments are wrong.
pub(super) fn explain_unknown_function(message: &str) -> Option<(String, Option<String>)> {
    let (name, arguments) = message.strip_prefix("Function not found: ")?.split_once(" (")?;
    let arguments = arguments.strip_suffix(')')?.replace("&str | ImmutableString | String", "string");
    let known: Vec<String> = ops::all_operations()
        .map(Operation::path)
        .chain(NATIVES.iter().map(|native| native.name.to_owned()))
        .collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    if known.contains(&name) {
        return Some((format!("`{name}` does not take ({})", arguments.replace("i64", "int")), None));
    }
    let hint = suggest::nearest_name(name, known).map(|nearest| format!("did you mean `{nearest}`?"));
    // An operator or a function of the language: the arguments are what is wrong with it.
    hint.map(|hint| (format!("there is no function `{name}`"), Some(hint)))
}

/// Returns what a fault says beside its message: its code, whether anything changed, what is left behind.
pub(super) fn list_fault_facts(fault: &ScriptError) -> Vec<String> {
    let mut facts = Vec::new();
    let operation = fault.operation.as_deref();
    let at = match (operation, fault.target.as_deref()) {
        (Some(operation), Some(target)) => format!(" · {operation} on {target}"),
        (Some(operation), None) => format!(" · {operation}"),
        _ => String::new(),
    };
    let changed = match (operation, fault.side_effects) {
        (Some(_), SideEffects::None) => " · nothing was changed by it",
        (Some(_), SideEffects::Some) => " · something was changed",
        (Some(_), SideEffects::Unknown) => " · nothing is seen of it yet, and it may still come",
        (None, _) => "",
    };
    if !fault.code.is_empty() {
        facts.push(format!("{}{at}{changed}", fault.code));
    }
    if !fault.left_behind.is_empty() {
        facts.push(format!("left behind: {}", fault.left_behind.join(", ")));
    }
    facts
}

/// Returns what there is to know of a clean-up that failed: first its message, then its place, its facts and its hint, each
/// with a space before it.
pub(super) fn list_clean_up_lines(failure: &Failure) -> Vec<String> {
    let fault = &failure.fault;
    let mut lines = vec![format!("clean-up failed: {}", fault.message)];
    lines.extend(failure.place.as_ref().map(|at| format!("  at {}:{}:{}", at.file, at.line, at.column)));
    lines.extend(list_fault_facts(fault).into_iter().map(|fact| format!("  {fact}")));
    lines.extend(fault.hint.as_ref().map(|hint| format!("  hint: {hint}")));
    lines
}

/// Returns an error of a script for programs, with its place as a field.
pub fn failure_to_json(failure: &Failure) -> Value {
    let mut error = value::strip_tags(&failure.fault.to_json());
    error["place"] = json!(failure.place);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_stands_under_its_column_also_after_a_tab() {
        let place = SourceLocation { file: "r.rhai".into(), line: 12, column: 3, text: "\t let".into() };
        assert_eq!(render_place(&place), "  --> r.rhai:12:3\n   |\n12 | \t let\n   | \t ^");
    }

    #[test]
    fn a_fault_says_whether_anything_changed_and_what_is_left() {
        let fault = ScriptError {
            operation: Some("branch::create".into()),
            target: Some("lab".into()),
            side_effects: SideEffects::Some,
            left_behind: vec!["branch lab/x".into()],
            ..ScriptError::new("TOOL", "it broke")
        };
        assert_eq!(
            list_fault_facts(&fault),
            ["TOOL · branch::create on lab · something was changed", "left behind: branch lab/x"]
        );
    }

    #[test]
    fn a_wrong_function_and_a_wrong_argument_are_told_apart() {
        let text = "&str | ImmutableString | String";
        let (message, hint) =
            explain_unknown_function(&format!("Function not found: backup::crate ({text})")).expect("known");
        assert_eq!(message, "there is no function `backup::crate`");
        assert_eq!(hint.as_deref(), Some("did you mean `backup::create`?"));
        let (message, _) =
            explain_unknown_function(&format!("Function not found: ensure ({text}, i64)")).expect("known");
        assert_eq!(message, "`ensure` does not take (string, int)");
        assert_eq!(explain_unknown_function("something else"), None);
    }
}
