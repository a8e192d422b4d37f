//! What the prompt says of itself and of the operations.

use crate::{
    base::suggest,
    ops::{
        self,
        spec::{Op, Param, Slot},
    },
    runtime::flow::NATIVES,
};

/// The commands of the prompt, with what each does.
pub(super) const COMMANDS: &[(&str, &str)] = &[
    (":help", "what there is; `:help backup::create` explains an operation"),
    (":vars", "the variables there are"),
    (":quit", "end the session, as Ctrl-D does"),
];

/// Returns the answer to a command, without its colon.
pub(super) fn answer(command: &str) -> String {
    match command.split_whitespace().collect::<Vec<_>>()[..] {
        [] | ["help" | "h"] => overview(),
        ["help" | "h", name] => explain(name),
        [wrong, ..] => {
            let known = COMMANDS.iter().map(|(name, _)| name.trim_start_matches(':'));
            format!("there is no command `:{wrong}`; {}", suggest::hint(wrong, known.collect::<Vec<_>>()))
        }
    }
}

fn overview() -> String {
    let mut lines: Vec<String> = COMMANDS.iter().map(|(name, what)| format!("{name:<8}{what}")).collect();
    lines.push(String::new());
    lines.push("Operations:".into());
    lines.extend(ops::all().map(|op| format!("  {:<28}{}", op.path(), op.summary)));
    lines.push(String::new());
    lines.push(format!("Functions: {}", NATIVES.join(", ")));
    lines.push("`ans` is the last value. A blank line submits what is not complete.".into());
    lines.join("\n")
}

fn explain(name: &str) -> String {
    let name = name.trim_end_matches("()");
    let Some(op) = ops::find(name) else {
        let known: Vec<String> = ops::all().map(Op::path).collect();
        let hint = suggest::hint(name, known.iter().map(String::as_str).collect::<Vec<_>>());
        return format!("there is no operation `{name}`; {hint}");
    };
    let mut lines = vec![op.signature(), format!("  {}", op.summary)];
    for param in op.positional().chain(op.options()) {
        lines.push(format!("  {:<12}{:<16}{}", param.name, param.kind.name(), what(param)));
    }
    let fields: Vec<&str> = op.returns.fields().iter().map(|field| field.name).collect();
    if !fields.is_empty() {
        lines.push(format!("  gives back  {}", fields.join(", ")));
    }
    lines.extend(op.examples.iter().map(|example| format!("  > {example}")));
    lines.join("\n")
}

fn what(param: &Param) -> String {
    match param.slot {
        Slot::Positional => param.help.to_owned(),
        Slot::Named => format!("{}; must be given", param.help),
        Slot::Optional(without) => format!("{}; without it: {without}", param.help),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_explained_and_a_wrong_one_is_guessed() {
        assert!(explain("backup::create").starts_with("backup::create(target, #{…})\n"));
        assert_eq!(
            explain("backup::crate"),
            "there is no operation `backup::crate`; did you mean `backup::create`?"
        );
        assert!(answer("hepl").contains("did you mean `help`?"));
    }
}
