//! The catalogue written out: `docs/reference/operations.md`.

use super::{
    CATALOGUE, all_operations,
    args::CallArgs,
    spec::{Operation, Param, ParamKind, ParamSlot, Protocol, ReturnShape},
};
use crate::provider::{fleet::landing_limits_by_provider, model::EffectKind};
use serde_json::Value;

/// Returns the reference of every operation, as Markdown.
pub fn render_reference() -> String {
    let mut page = String::from(
        "# Operations\n\n\
         Written out of the catalogue by `redrill reference`; a test holds this page to it.\n\n\
         In a script an operation is called `backup::create(target, #{ label: \"…\" })`: positional arguments, then a map \
         of options. On the command line the same is `redrill backup create -t TARGET --label …`.\n\n\
         | operation | effect | |\n|---|---|---|\n",
    );
    for op in all_operations() {
        let anchor = op.path().replace("::", "");
        push_table_row(
            &mut page,
            &[&format!("[`{}`](#{anchor})", op.path()), op.effect.as_str(), op.summary],
        );
    }
    for op in CATALOGUE.iter().flat_map(|ops| ops.iter()) {
        page.push('\n');
        push_operation(&mut page, op);
    }
    page
}

/// Returns the table of what each provider states of its requests, as Markdown: until when one whose answer never came may
/// still take effect.
pub fn render_landing_limits() -> String {
    let names: Vec<&str> = landing_limits_by_provider(EffectKind::Backup).map(|(name, _)| name).collect();
    let mut table = format!("| to | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for (kind, words) in EffectKind::ALL {
        let stated: Vec<String> =
            landing_limits_by_provider(*kind).map(|(_, landing)| landing.to_string()).collect();
        push_line(&mut table, &format!("| {words} | {} |", stated.join(" | ")));
    }
    table
}

fn push_operation(page: &mut String, op: &Operation) {
    push_line(page, &format!("## {}\n", op.path()));
    push_line(page, &format!("{}.\n", op.summary));
    push_line(page, &format!("- Needs `{}`{}", op.worst_permission(), permission_note(op)));
    push_line(page, &format!("- After a crash: {}", describe_resumption(op)));
    push_line(page, &format!("- Command: `redrill {}`\n", render_command(op)));
    push_line(page, "| parameter | takes | |\n|---|---|---|");
    for param in op.positional_params().chain(op.option_params()) {
        push_table_row(
            page,
            &[
                &format!("`{}`", param.name),
                &param.kind.type_name().replace('|', ", "),
                &describe_param(param),
            ],
        );
    }
    match op.returns {
        ReturnShape::Rows => push_line(page, "\nReturns a list of rows; the query decides their fields."),
        ReturnShape::Any => push_line(page, "\nReturns whatever the platform answers."),
        ReturnShape::One(fields) | ReturnShape::List(fields) => {
            let what =
                if matches!(op.returns, ReturnShape::One(_)) { "one object" } else { "a list of objects" };
            push_line(page, &format!("\nReturns {what}:\n\n| field | type | |\n|---|---|---|"));
            for field in fields {
                push_table_row(page, &[&format!("`{}`", field.name), field.kind, field.help]);
            }
        }
    }
    push_line(page, "\n```rhai");
    for example in op.examples {
        push_line(page, example);
    }
    push_line(page, "```");
}

/// Returns the words of the command that does the same, as help shows them.
pub fn render_command(op: &Operation) -> String {
    let mut words: Vec<String> = op.command_words().map(str::to_owned).collect();
    for param in op.positional_params() {
        words.push(match param.kind {
            _ if param.name == "target" => "-t TARGET".into(),
            ParamKind::Settings => "NAME=VALUE…".into(),
            kind if kind.takes_several_words() => format!("{}…", param.name.to_uppercase()),
            _ => param.name.to_uppercase(),
        });
    }
    for param in op.option_params().filter(|p| p.slot == ParamSlot::Named) {
        words.push(format!("--{} {}", param.name.replace('_', "-"), param.name.to_uppercase()));
    }
    words.join(" ")
}

fn describe_param(param: &Param) -> String {
    match param.slot {
        ParamSlot::Positional => param.help.to_owned(),
        ParamSlot::Named => format!("{}; must be given", param.help),
        ParamSlot::Optional(without) => format!("{}; without it: {without}", param.help),
    }
}

/// Says where what a call needs depends on how it is called.
fn permission_note(op: &Operation) -> &'static str {
    let worst = op.worst_permission();
    let less = |param: &Param, value: Value| {
        op.required_permission(&CallArgs::from_unchecked(
            [(param.name.to_owned(), value)].into_iter().collect(),
        )) != worst
    };
    let depends = op.params.iter().any(|param| match param.kind {
        ParamKind::Bool => less(param, true.into()),
        ParamKind::Choice(words) => words.iter().any(|word| less(param, (*word).into())),
        _ => less(param, "…".into()),
    });
    if depends { ", or less, by its arguments" } else { "" }
}

fn describe_resumption(op: &Operation) -> &'static str {
    match op.protocol {
        Protocol::Read(_) => "it only looks, so it is done again",
        Protocol::Wait(_) => "it only looks, so it goes on looking",
        Protocol::Effect(_) => {
            "the world is asked whether it was done; it is taken up where it was, never done twice"
        }
    }
}

fn push_table_row(page: &mut String, cells: &[&str]) {
    push_line(page, &format!("| {} |", cells.join(" | ")));
}

fn push_line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}
