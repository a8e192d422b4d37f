//! The prompt: read, evaluate, print over a session, which is a run like any other.
//!
//! At a terminal, lines are edited, completed and remembered. Elsewhere, statements are read until stdin ends or one
//! fails.

mod help;
mod helper;

use crate::base::lock::lock_unpoisoned;
use crate::{
    base::{terminal, value},
    ops,
    report::{self, CliError, DataFormat, exit_code, find_next_step},
    runtime::{Answer, Event, Question, RunObserver, RunResult, Runtime, Session, Withdrawal},
};
use helper::PromptHelper;
use rustyline::{CompletionType, Config, Editor, error::ReadlineError, history::FileHistory};
use serde_json::Value;
use std::{
    cell::RefCell,
    collections::BTreeSet,
    io::{self, BufRead as _},
    path::Path,
    rc::Rc,
    sync::{Arc, Mutex},
};

/// The text before the cursor.
const PROMPT: &str = "redrill> ";

/// Runs a session over stdin and returns the exit code. With `target`, `db` is that target;
/// `confirmed` are protected targets whose name was given.
///
/// # Errors
/// The session cannot be started.
pub fn run_session(
    runtime: &Runtime,
    target: Option<&str>,
    confirmed: BTreeSet<String>,
    watch: Arc<dyn RunObserver>,
) -> Result<u8, CliError> {
    Session::run_on_large_stack(|| run_session_loop(runtime, target, confirmed, watch))?
}

fn run_session_loop(
    runtime: &Runtime,
    target: Option<&str>,
    confirmed: BTreeSet<String>,
    watch: Arc<dyn RunObserver>,
) -> Result<u8, CliError> {
    let columns_watch = Arc::new(ColumnWatch { watch, columns: Mutex::default() });
    let session = Session::start_session(
        runtime,
        target,
        confirmed,
        Arc::clone(&columns_watch) as Arc<dyn RunObserver>,
    )?;
    if !terminal::is_stdin_terminal() {
        return Ok(run_piped_input(runtime, session, &columns_watch));
    }
    terminal::print_message(&format!(
        "redrill {}, run {}; `:help` helps",
        crate::runtime::VERSION,
        session.run_id()
    ));
    let session = Rc::new(RefCell::new(session));
    run_interactively(&session, &columns_watch, &runtime.config.state.join("history"))?;
    let ended = Rc::into_inner(session).map(|session| session.into_inner().end_session(true));
    Ok(ended.map_or(0, |ended| print_unreported_error(runtime, &ended, 0)))
}

/// Passes events on, and keeps the column order of the last query.
struct ColumnWatch {
    watch: Arc<dyn RunObserver>,
    columns: Mutex<Vec<String>>,
}

impl RunObserver for ColumnWatch {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::Columns { columns } = event {
            *lock_unpoisoned(&self.columns) = columns.to_vec();
        }
        self.watch.on_event(event);
    }

    fn ask_person(&self, question: &Question, withdrawal: &Withdrawal) -> Option<Answer> {
        self.watch.ask_person(question, withdrawal)
    }
}

/// Reads and evaluates lines from a terminal until the person quits.
fn run_interactively(
    session: &Rc<RefCell<Session>>,
    columns_watch: &ColumnWatch,
    history: &Path,
) -> Result<(), CliError> {
    let wrong = |e: &ReadlineError| CliError::usage(format!("the terminal cannot be used: {e}"));
    let config = Config::builder().auto_add_history(true).completion_type(CompletionType::List).build();
    let mut editor: Editor<PromptHelper, FileHistory> = Editor::with_config(config).map_err(|e| wrong(&e))?;
    editor.set_helper(Some(PromptHelper::new(Rc::clone(session))));
    // A first session has no history yet.
    drop(editor.load_history(history));
    loop {
        let line = match editor.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(e) => return Err(wrong(&e)),
        };
        // A history that cannot be written is no reason to stop a recovery.
        drop(editor.append_history(history));
        match line.trim() {
            "" => {}
            ":quit" | ":q" => return Ok(()),
            ":vars" => terminal::print_data(&session.borrow().variable_names().join("\n")),
            command if command.starts_with(':') => {
                terminal::print_data(&help::answer_command(command.trim_start_matches(':')));
            }
            input => {
                let mut session = session.borrow_mut();
                // The error was printed; the session goes on.
                evaluate_and_print_input(&mut session, columns_watch, input).unwrap_or_default();
            }
        }
    }
}

/// Reads statements to the end or to the first error, and returns the exit code.
fn run_piped_input(runtime: &Runtime, mut session: Session, columns_watch: &ColumnWatch) -> u8 {
    let mut statement = String::new();
    let mut lines = io::stdin().lock().lines();
    let mut exit = 0;
    loop {
        let line = match lines.next().transpose() {
            Ok(line) => line,
            Err(e) => {
                terminal::print_message(
                    &CliError::usage(format!("stdin cannot be read: {e}"))
                        .render_text(terminal::stderr_painter()),
                );
                exit = exit_code::FAILED;
                break;
            }
        };
        let is_end = line.is_none();
        if let Some(line) = line {
            statement.push_str(&line);
            statement.push('\n');
        }
        if !is_end && session.is_incomplete(&statement) {
            continue;
        }
        let input = std::mem::take(&mut statement);
        if let Err(wrong) = evaluate_and_print_input(&mut session, columns_watch, input.trim_end()) {
            exit = wrong;
            break;
        }
        if is_end {
            break;
        }
    }
    print_unreported_error(runtime, &session.end_session(exit == 0), exit)
}

/// Evaluates an input and writes its value, or says what went wrong and returns an exit code for it.
fn evaluate_and_print_input(
    session: &mut Session,
    columns_watch: &ColumnWatch,
    input: &str,
) -> Result<(), u8> {
    if input.trim().is_empty() {
        return Ok(());
    }
    let evaluated = session.eval_input(input);
    terminal::clear_status();
    match evaluated {
        Ok(Value::Null) => Ok(()),
        Ok(value) => {
            let columns = column_order(&value, columns_watch);
            let text = report::render_data(&value, &columns, DataFormat::Table, terminal::stdout_width());
            terminal::print_data(
                &text.ok().flatten().unwrap_or_else(|| value::strip_tags(&value).to_string()),
            );
            Ok(())
        }
        Err(unfinished) => {
            let error = CliError::from_eval_error(&unfinished, session.run_id());
            terminal::print_message(&error.render_body(terminal::stderr_painter()));
            Err(if error.exit == exit_code::USAGE { exit_code::FAILED } else { error.exit })
        }
    }
}

/// Returns the order of a value's fields: that of the last query, or of the best matching operation.
fn column_order(value: &Value, columns_watch: &ColumnWatch) -> Vec<String> {
    let first = value.as_array().and_then(|items| items.first()).unwrap_or(value);
    let first = value::untag_value(first).map_or(first, |(_, inner)| inner);
    let Some(fields) = first.as_object() else { return Vec::new() };
    let last = lock_unpoisoned(&columns_watch.columns).clone();
    if last.len() == fields.len() && last.iter().all(|name| fields.contains_key(name)) {
        return last;
    }
    let named = |op: &&ops::spec::Operation| {
        let known = op.returns.fields();
        fields.keys().all(|name| known.iter().any(|field| field.name == name))
    };
    let nearest = ops::all_operations().filter(named).min_by_key(|op| op.returns.fields().len());
    nearest.into_iter().flat_map(|op| op.returns.fields()).map(|field| field.name.to_owned()).collect()
}

/// Prints what went wrong at the end of the session, and returns the exit code.
fn print_unreported_error(runtime: &Runtime, ended: &RunResult, exit: u8) -> u8 {
    let next = find_next_step(runtime, &ended.run);
    // The error that ended it was printed when it happened.
    let said =
        exit != 0 && ended.failure.is_some() && ended.cleanup.is_empty() && ended.left_behind.is_empty();
    if let Some(error) = CliError::from_session_result(ended, &next).filter(|_| !said) {
        terminal::print_message(&error.render_text(terminal::stderr_painter()));
        return if exit == 0 { error.exit } else { exit };
    }
    exit
}
