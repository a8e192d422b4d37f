//! The help of the prompt: its commands, the operations, the functions.

use crate::{
    base::suggest,
    ops::{
        self,
        spec::{Operation, Param, ParamSlot},
    },
    runtime::NATIVES,
};

/// The commands of the prompt, with what each does.
pub(super) const PROMPT_COMMANDS: &[(&str, &str)] = &[
    (":help", "what there is; `:help backup::create` explains an operation"),
    (":vars", "the variables there are"),
    (":quit", "end the session, as Ctrl-D does"),
];

/// Returns the answer to a command, without its colon.
pub(super) fn answer_command(command: &str) -> String {
    match command.split_whitespace().collect::<Vec<_>>()[..] {
        [] | ["help" | "h"] => render_overview(),
        ["help" | "h", name] => explain_operation(name),
        [wrong, ..] => {
            let known = PROMPT_COMMANDS.iter().map(|(name, _)| name.trim_start_matches(':'));
            format!(
                "there is no command `:{wrong}`; {}",
                suggest::suggest_name_or_list_known(wrong, known.collect::<Vec<_>>())
            )
        }
    }
}

fn render_overview() -> String {
    let mut lines: Vec<String> =
        PROMPT_COMMANDS.iter().map(|(name, what)| format!("{name:<8}{what}")).collect();
    lines.push(String::new());
    lines.push("Operations:".into());
    lines.extend(ops::all_operations().map(|op| format!("  {:<28}{}", op.path(), op.summary)));
    lines.push(String::new());
    lines.push(format!(
        "Functions: {}",
        NATIVES.iter().map(|native| native.name).collect::<Vec<_>>().join(", ")
    ));
    lines.push("`ans` is the last value. A blank line submits what is not complete.".into());
    lines.join("\n")
}

fn explain_operation(name: &str) -> String {
    let name = name.trim_end_matches("()");
    let Some(op) = ops::find_operation(name) else {
        let known: Vec<String> = ops::all_operations().map(Operation::path).collect();
        let hint =
            suggest::suggest_name_or_list_known(name, known.iter().map(String::as_str).collect::<Vec<_>>());
        return format!("there is no operation `{name}`; {hint}");
    };
    let mut lines = vec![op.script_signature(), format!("  {}", op.summary)];
    for param in op.positional_params().chain(op.option_params()) {
        lines.push(format!("  {:<12}{:<16}{}", param.name, param.kind.type_name(), describe_param(param)));
    }
    let fields: Vec<&str> = op.returns.fields().iter().map(|field| field.name).collect();
    if !fields.is_empty() {
        lines.push(format!("  gives back  {}", fields.join(", ")));
    }
    lines.extend(op.examples.iter().map(|example| format!("  > {example}")));
    lines.join("\n")
}

fn describe_param(param: &Param) -> String {
    match param.slot {
        ParamSlot::Positional => param.help.to_owned(),
        ParamSlot::Named => format!("{}; must be given", param.help),
        ParamSlot::Optional(without) => format!("{}; without it: {without}", param.help),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_explained_and_a_wrong_one_is_guessed() {
        assert!(explain_operation("backup::create").starts_with("backup::create(target, #{…})\n"));
        assert_eq!(
            explain_operation("backup::crate"),
            "there is no operation `backup::crate`; did you mean `backup::create`?"
        );
        assert!(answer_command("hepl").contains("did you mean `help`?"));
    }
}
