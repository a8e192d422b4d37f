//! The catalogue written out: `docs/reference/operations.md`.

use super::{
    ALL, all,
    args::Args,
    spec::{Kind, Op, Param, Recovery, Returns, Slot},
};
use serde_json::Value;

/// Returns the reference of every operation, as Markdown.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Operations\n\n\
         Written out of the catalogue by `redrill reference`; a test holds this page to it.\n\n\
         In a script an operation is called `backup::create(target, #{ label: \"…\" })`: positional arguments, then a map \
         of options. On the command line the same is `redrill backup create -t TARGET --label …`.\n\n\
         | operation | effect | |\n|---|---|---|\n",
    );
    for op in all() {
        let anchor = op.path().replace("::", "");
        row(&mut page, &[&format!("[`{}`](#{anchor})", op.path()), op.effect.as_str(), op.summary]);
    }
    for op in ALL.iter().flat_map(|ops| ops.iter()) {
        page.push('\n');
        entry(&mut page, op);
    }
    page
}

fn entry(page: &mut String, op: &Op) {
    line(page, &format!("## {}\n", op.path()));
    line(page, &format!("{}.\n", op.summary));
    line(page, &format!("- Needs `{}`{}", op.worst_need(), needs_note(op)));
    line(page, &format!("- After a crash: {}", recovery(op)));
    line(page, &format!("- Command: `redrill {}`\n", command(op)));
    line(page, "| parameter | takes | |\n|---|---|---|");
    for param in op.positional().chain(op.options()) {
        row(page, &[&format!("`{}`", param.name), &param.kind.name().replace('|', ", "), &words(param)]);
    }
    match op.returns {
        Returns::Rows => line(page, "\nReturns a list of rows; the query decides their fields."),
        Returns::Any => line(page, "\nReturns whatever the platform answers."),
        Returns::One(fields) | Returns::List(fields) => {
            let what = if matches!(op.returns, Returns::One(_)) { "one object" } else { "a list of objects" };
            line(page, &format!("\nReturns {what}:\n\n| field | type | |\n|---|---|---|"));
            for field in fields {
                row(page, &[&format!("`{}`", field.name), field.kind, field.help]);
            }
        }
    }
    line(page, "\n```rhai");
    for example in op.examples {
        line(page, example);
    }
    line(page, "```");
}

/// Returns the words of the command that does the same, as help shows them.
pub fn command(op: &Op) -> String {
    let mut words: Vec<String> = op.words().map(str::to_owned).collect();
    for param in op.positional() {
        words.push(match param.kind {
            _ if param.name == "target" => "-t TARGET".into(),
            Kind::Settings => "NAME=VALUE…".into(),
            kind if kind.is_many() => format!("{}…", param.name.to_uppercase()),
            _ => param.name.to_uppercase(),
        });
    }
    for param in op.options().filter(|p| p.slot == Slot::Named) {
        words.push(format!("--{} {}", param.name.replace('_', "-"), param.name.to_uppercase()));
    }
    words.join(" ")
}

fn words(param: &Param) -> String {
    match param.slot {
        Slot::Positional => param.help.to_owned(),
        Slot::Named => format!("{}; must be given", param.help),
        Slot::Optional(without) => format!("{}; without it: {without}", param.help),
    }
}

/// Says where what a call needs depends on how it is called.
fn needs_note(op: &Op) -> &'static str {
    let worst = op.worst_need();
    let less = |param: &Param, value: Value| {
        op.need(&Args::sample([(param.name.to_owned(), value)].into_iter().collect())) != worst
    };
    let depends = op.params.iter().any(|param| match param.kind {
        Kind::Bool => less(param, true.into()),
        Kind::Choice(words) => words.iter().any(|word| less(param, (*word).into())),
        _ => less(param, "…".into()),
    });
    if depends { ", or less, by its arguments" } else { "" }
}

fn recovery(op: &Op) -> &'static str {
    match op.recovery {
        Recovery::Read => "it only looks, so it is done again",
        Recovery::Wait => "it only looks, so it goes on looking",
        Recovery::Probe(_) => {
            "the world is asked whether it was done; it is taken up where it was, never done twice"
        }
    }
}

fn row(page: &mut String, cells: &[&str]) {
    line(page, &format!("| {} |", cells.join(" | ")));
}

fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}
