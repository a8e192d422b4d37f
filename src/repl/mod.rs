//! The prompt: read, evaluate, print over a session, which is a run like any other.
//!
//! At a terminal lines are edited, completed and remembered. From anywhere else statements are read to the end, or to
//! the first error.

mod help;
mod helper;

use crate::{
    base::{terminal, value},
    ops,
    runtime::{Answer, Ended, Event, Question, Session, Watch, World},
    show::{self, Format, Trouble, trouble},
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
    sync::{Arc, Mutex, PoisonError},
};

/// What stands before a line.
const PROMPT: &str = "redrill> ";

/// Holds a session with whoever is at stdin, and returns the exit code. With `target`, `db` is that target;
/// `confirmed` are protected targets whose name was given.
///
/// # Errors
/// What kept the session from being begun.
pub fn run(
    world: &World,
    target: Option<&str>,
    confirmed: BTreeSet<String>,
    watch: Arc<dyn Watch>,
) -> Result<u8, Trouble> {
    Session::on_its_own_thread(|| hold(world, target, confirmed, watch))?
}

fn hold(
    world: &World,
    target: Option<&str>,
    confirmed: BTreeSet<String>,
    watch: Arc<dyn Watch>,
) -> Result<u8, Trouble> {
    let heard = Arc::new(Heard { watch, columns: Mutex::default() });
    let session = Session::begin(world, target, confirmed, Arc::clone(&heard) as Arc<dyn Watch>)?;
    if !terminal::reads_from_person() {
        return Ok(read_statements(session, &heard));
    }
    terminal::say(&format!("redrill {}, run {}; `:help` helps", crate::runtime::VERSION, session.run()));
    let session = Rc::new(RefCell::new(session));
    talk(&session, &heard, &world.config.state.join("history"))?;
    let ended = Rc::into_inner(session).map(|session| session.into_inner().end(true));
    Ok(ended.map_or(0, |ended| conclude(&ended, 0)))
}

/// Hears what a session does, and remembers the order of the columns that the last query came with.
struct Heard {
    watch: Arc<dyn Watch>,
    columns: Mutex<Vec<String>>,
}

impl Watch for Heard {
    fn event(&self, event: &Event<'_>) {
        if let Event::Columns { columns } = event {
            *self.columns.lock().unwrap_or_else(PoisonError::into_inner) = columns.to_vec();
        }
        self.watch.event(event);
    }

    fn ask(&self, question: &Question) -> Option<Answer> {
        self.watch.ask(question)
    }
}

/// Talks with a person until they leave.
fn talk(session: &Rc<RefCell<Session>>, heard: &Heard, history: &Path) -> Result<(), Trouble> {
    let wrong = |e: &ReadlineError| Trouble::usage(format!("the terminal cannot be used: {e}"));
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
            ":vars" => terminal::out(&session.borrow().variables().join("\n")),
            command if command.starts_with(':') => {
                terminal::out(&help::answer(command.trim_start_matches(':')));
            }
            input => {
                let mut session = session.borrow_mut();
                // Said by now; a person goes on.
                evaluate(&mut session, heard, input).unwrap_or_default();
            }
        }
    }
}

/// Reads statements to the end or to the first error, and returns the exit code.
fn read_statements(mut session: Session, heard: &Heard) -> u8 {
    let mut statement = String::new();
    let mut lines = io::stdin().lock().lines();
    let mut exit = 0;
    loop {
        let line = match lines.next().transpose() {
            Ok(line) => line,
            Err(e) => {
                terminal::say(&Trouble::usage(format!("stdin cannot be read: {e}")).text(terminal::ink()));
                exit = trouble::FAILED;
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
        if let Err(wrong) = evaluate(&mut session, heard, input.trim_end()) {
            exit = wrong;
            break;
        }
        if is_end {
            break;
        }
    }
    conclude(&session.end(exit == 0), exit)
}

/// Evaluates an input and writes its value, or says what went wrong and returns an exit code for it.
fn evaluate(session: &mut Session, heard: &Heard, input: &str) -> Result<(), u8> {
    if input.trim().is_empty() {
        return Ok(());
    }
    let evaluated = session.eval(input);
    terminal::clear();
    match evaluated {
        Ok(Value::Null) => Ok(()),
        Ok(value) => {
            let columns = columns(&value, heard);
            let text = show::data::text(&value, &columns, Format::Table, terminal::width());
            terminal::out(&text.ok().flatten().unwrap_or_else(|| value::plain(&value).to_string()));
            Ok(())
        }
        Err(unfinished) => {
            let trouble = Trouble::of_unfinished(&unfinished, session.run());
            terminal::say(&trouble.body(terminal::ink()));
            Err(if trouble.exit == trouble::USAGE { trouble::FAILED } else { trouble.exit })
        }
    }
}

/// Returns the order in which the fields of a value are read: as the last query gave them, or as the catalogue has them.
fn columns(value: &Value, heard: &Heard) -> Vec<String> {
    let first = value.as_array().and_then(|items| items.first()).unwrap_or(value);
    let first = value::untag(first).map_or(first, |(_, inner)| inner);
    let Some(fields) = first.as_object() else { return Vec::new() };
    let last = heard.columns.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if last.len() == fields.len() && last.iter().all(|name| fields.contains_key(name)) {
        return last;
    }
    let named = |op: &&ops::spec::Op| {
        let known = op.returns.fields();
        fields.keys().all(|name| known.iter().any(|field| field.name == name))
    };
    let nearest = ops::all().filter(named).min_by_key(|op| op.returns.fields().len());
    nearest.into_iter().flat_map(|op| op.returns.fields()).map(|field| field.name.to_owned()).collect()
}

/// Says how the session ended, where there is something to say, and returns the exit code.
fn conclude(ended: &Ended, exit: u8) -> u8 {
    // The error that ended it was said when it happened.
    let said =
        exit != 0 && ended.failure.is_some() && ended.cleanup.is_empty() && ended.left_behind.is_empty();
    if let Some(trouble) = Trouble::of_ended(ended).filter(|_| !said) {
        terminal::say(&trouble.text(terminal::ink()));
        return if exit == 0 { trouble.exit } else { exit };
    }
    exit
}
