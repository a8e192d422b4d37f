//! Every operation of the catalogue as a command. One that only looks is performed at once; every other is a run.

use super::{
    activity::Activity,
    asking::Asking,
    ending::{Shown, conclude},
    exit,
    run::begin,
    script,
};
use crate::{
    ops::{
        self,
        args::Args,
        spec::{Effect, Kind, Op, Param, Slot},
    },
    runtime::{self, Event, Runbook, Watch, World},
    show::{Format, Trouble, trouble},
};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Map, Value};
use std::sync::{Mutex, PoisonError};

/// Returns a command for every area of the catalogue, with its operations below it.
pub(super) fn commands() -> Vec<Command> {
    let mut areas: Vec<&str> = Vec::new();
    for op in ops::all().filter(|op| op.namespace == op.area() || op.namespace.contains("::")) {
        if !areas.contains(&op.area()) {
            areas.push(op.area());
        }
    }
    areas.into_iter().map(|area| namespace(area, area)).collect()
}

/// Returns the command of a namespace, whose last segment is `name`.
fn namespace(path: &str, name: &'static str) -> Command {
    let own: Vec<&'static Op> = ops::all().filter(|op| op.namespace == path).collect();
    let prefix = format!("{path}::");
    let mut inner: Vec<&'static str> = Vec::new();
    for below in ops::all().filter_map(|op| op.namespace.strip_prefix(&prefix)) {
        let segment = below.split("::").next().unwrap_or(below);
        if !inner.contains(&segment) {
            inner.push(segment);
        }
    }
    let verbs: Vec<&str> = own.iter().map(|op| op.name).chain(inner.iter().copied()).collect();
    Command::new(name)
        .about(format!("Operations: {}", verbs.join(", ")))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(own.into_iter().map(command))
        .subcommands(inner.into_iter().map(|segment| namespace(&format!("{prefix}{segment}"), segment)))
}

fn command(op: &'static Op) -> Command {
    let mut command = Command::new(op.name).about(op.summary).after_help(more(op));
    for param in op.positional().chain(op.options()) {
        command = command.arg(argument(param));
    }
    if op.effect != Effect::Read {
        command = command.arg(
            Arg::new("confirm")
                .long("confirm")
                .value_name("TARGET")
                .action(ArgAction::Append)
                .help("Name a protected target that may be changed"),
        );
    }
    command.arg(
        Arg::new("output")
            .short('o')
            .long("output")
            .value_name("FORMAT")
            .value_parser(value_parser!(Format))
            .default_value("table")
            .help("How the result is written"),
    )
}

fn argument(param: &'static Param) -> Arg {
    let arg = Arg::new(param.name).help(help(param));
    match param.slot {
        // Not required as clap has it: what is missing is told with the targets that there are.
        Slot::Positional if param.name == "target" => arg.short('t').long("target").value_name("TARGET"),
        Slot::Positional if param.kind.is_many() => {
            arg.required(true).num_args(1..).value_name(in_words(param.kind))
        }
        Slot::Positional => arg.required(true),
        Slot::Named | Slot::Optional(_) => {
            // `temporary` is refused with its reason, so it must be understood; nobody should be led to it.
            let arg = arg.required(param.slot == Slot::Named).hide(param.name == "temporary");
            // As commands write it, and as scripts do.
            let long = param.name.replace('_', "-");
            let arg = if long == param.name { arg.long(long) } else { arg.long(long).alias(param.name) };
            if param.kind == Kind::Bool {
                arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL")
            } else if param.kind.is_many() {
                arg.value_name(in_words(param.kind)).num_args(1..)
            } else {
                arg.value_name(param.kind.name().replace(' ', "-").to_uppercase())
            }
        }
    }
}

/// Returns what stands for one of several words.
fn in_words(kind: Kind) -> &'static str {
    match kind {
        Kind::Settings => "NAME=VALUE",
        Kind::Cidrs => "CIDR",
        Kind::Addresses => "ADDRESS",
        _ => "NAME",
    }
}

fn help(param: &Param) -> String {
    match param.slot {
        Slot::Optional(without) => format!("{}; without it: {without}", param.help),
        Slot::Positional | Slot::Named => param.help.to_owned(),
    }
}

fn more(op: &Op) -> String {
    let mut text = String::from("In a script:\n");
    for example in op.examples {
        text.push_str("  ");
        text.push_str(example);
        text.push('\n');
    }
    text
}

/// Returns whether the catalogue has commands under this word.
pub(super) fn has(area: &str) -> bool {
    ops::all().any(|op| op.area() == area)
}

/// Performs the operation that the command line names.
///
/// # Errors
/// Whatever is wrong before a run is there.
pub(super) fn perform(world: &World, area: &str, matches: &ArgMatches) -> Result<u8, Trouble> {
    let mut path = area.to_owned();
    let mut matches = matches;
    while let Some((word, below)) = matches.subcommand() {
        path = format!("{path}::{word}");
        matches = below;
    }
    let op = ops::find(&path).ok_or_else(|| Trouble::usage(format!("there is no operation `{path}`")))?;
    let format = matches.get_one::<Format>("output").copied().unwrap_or(Format::Table);
    let args = arguments(world, op, matches)?;
    if runtime::only_looks(op, &args) {
        return look(world, op, &args, format);
    }
    let confirm: Vec<String> = matches.get_many("confirm").into_iter().flatten().cloned().collect();
    let columns: Vec<String> = fields(op);
    Ok(conclude(
        world,
        Shown::Text,
        Asking::only_to_approve(),
        &|value| write(op, value, &columns, format),
        |watch| {
            let (text, params) = script::one_call(op, &args);
            let name = op.words().collect::<Vec<_>>().join(" ");
            let mut ended = begin(
                world,
                || Ok(Runbook::of_text(&name, text.clone())?),
                &params,
                &confirm,
                false,
                &watch,
            )?;
            // The script is ours: a place in it says nothing to whoever typed the command.
            if let Some(failure) = &mut ended.failure {
                failure.place = None;
            }
            Ok(ended)
        },
    ))
}

fn arguments(world: &World, op: &'static Op, matches: &ArgMatches) -> Result<Args, Trouble> {
    let mut positional = Vec::new();
    let mut options = Map::new();
    for param in op.positional().chain(op.options()) {
        let given: Vec<&str> =
            matches.get_many::<String>(param.name).into_iter().flatten().map(String::as_str).collect();
        if given.is_empty() {
            if param.slot == Slot::Positional {
                return Err(exit::no_target(&world.config, None));
            }
            continue;
        }
        let value = param.kind.read_all(&given).map_err(|e| of_word(op, param, e))?;
        if param.kind == Kind::Target {
            known_target(world, given[0])?;
        }
        match param.slot {
            Slot::Positional => positional.push(value),
            Slot::Named | Slot::Optional(_) => drop(options.insert(param.name.into(), value)),
        }
    }
    if options.get("temporary") == Some(&Value::Bool(true)) {
        return Err(Trouble::usage(
            "`--temporary` makes no sense here: the run ends with this command, and the branch with it",
        )
        .hint("leave it out, and remove the branch with `redrill branch delete` when you are done"));
    }
    options.remove("temporary");
    Args::decode(op, positional, options).map_err(Trouble::of_look)
}

fn of_word(op: &Op, param: &Param, error: crate::provider::Error) -> Trouble {
    let hint = error.hint.unwrap_or_else(|| format!("{}: {}", param.name, param.help));
    let words: Vec<&str> = op.words().collect();
    Trouble::usage(format!("`{}` of `{}`: {}", param.name, words.join(" "), error.message)).hint(hint)
}

fn known_target(world: &World, given: &str) -> Result<(), Trouble> {
    let name = given.split('/').next().unwrap_or(given);
    if world.config.targets.contains_key(name) {
        return Ok(());
    }
    Err(exit::no_target(&world.config, Some(name)))
}

/// What is heard of an operation that only looks.
struct Look {
    activity: Activity,
    columns: Mutex<Vec<String>>,
}

const LOOK: &str = "look";

impl Watch for Look {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Progress { progress, .. } => self.activity.progress(LOOK, progress),
            Event::Columns { columns } => {
                *self.columns.lock().unwrap_or_else(PoisonError::into_inner) = columns.to_vec();
            }
            _ => {}
        }
    }
}

/// Performs an operation that only looks, and returns what it gives back with the order of a query's columns.
pub(super) fn seen(world: &World, op: &'static Op, args: &Args) -> Result<(Value, Vec<String>), Trouble> {
    let look = Look { activity: Activity::new(), columns: Mutex::default() };
    look.activity.begin(LOOK, op.path());
    let seen = world.look(op, args, &look);
    look.activity.end(LOOK);
    let columns = look.columns.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((seen.map_err(Trouble::of_look)?, columns))
}

fn look(world: &World, op: &'static Op, args: &Args, format: Format) -> Result<u8, Trouble> {
    let (value, columns) = seen(world, op, args)?;
    let columns = if columns.is_empty() { fields(op) } else { columns };
    write(op, &value, &columns, format)?;
    // An answer that says "not well" is one to a script too: `backup verify … && rm old` must not go on.
    Ok(if value["ok"] == false { trouble::FAILED } else { 0 })
}

fn fields(op: &Op) -> Vec<String> {
    op.returns.fields().iter().map(|f| f.name.to_owned()).collect()
}

fn write(op: &Op, value: &Value, columns: &[String], format: Format) -> Result<(), Trouble> {
    if format == Format::Table && op.path() == "security::audit" {
        let of_findings = ["check", "level", "status", "object", "category", "detail", "reason", "fix"];
        let columns: Vec<String> = columns.iter().cloned().chain(of_findings.map(String::from)).collect();
        return exit::write(&readable_audit(value), &columns, format);
    }
    exit::write(value, columns, format)
}

/// Leaves of an audit's checks what a person must know: which of them did not look, and why. Where all did, the summary
/// says so.
fn readable_audit(audit: &Value) -> Value {
    let mut audit = audit.clone();
    let unseen = |check: &&Value| !matches!(check["status"].as_str(), Some("passed" | "failed"));
    let checks: Vec<Value> =
        audit["checks"].as_array().into_iter().flatten().filter(unseen).cloned().collect();
    audit["checks"] = if checks.is_empty() { Value::Null } else { checks.into() };
    audit
}
