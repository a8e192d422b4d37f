//! A session at the prompt: the same natives as in a runbook, journaled as a run, one input at a time.

use super::{
    VERSION,
    end_run::{RunResult, clean_up_and_end_run},
    engine,
    limits::STACK_BYTES,
    modules::{ModuleSources, PreloadedModules},
    observer::RunObserver,
    refusal::Refusal,
    run_clock::RunClock,
    run_context::{RunContext, RunSetup},
    runbook_error::{RunbookError, from_parse_error},
    runs::Runtime,
    scope::CallScope,
    script_error::{self, codes},
    signals::Signals,
    stdlib,
    stop::StopReason,
    values::{to_dynamic, to_json},
};
use crate::{
    base::value,
    journal::{Conclusion, Failure, NewRun, ScriptError},
};
use rhai::{AST, Dynamic, Engine, Scope};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use tokio::signal::unix::SignalKind;

/// The name of a session where a runbook has its path. A session has no text: only its records tell what it did.
pub const SESSION_NAME: &str = "repl";

/// A session. It belongs on a thread with a large stack: [`Session::run_on_large_stack`].
pub struct Session {
    engine: Engine,
    variables: Scope<'static>,
    functions: AST,
    context: Arc<RunContext>,
    /// The error of the last input.
    failure: Option<Failure>,
}

/// Why an input gave no value.
#[derive(Debug)]
pub enum EvalError {
    /// It does not parse.
    Parse(RunbookError),
    /// It failed.
    Failed(Box<Failure>),
    /// It was stopped.
    Stopped(StopReason),
}

impl Session {
    /// Begins a session. With `target`, the variable `db` is that target; `confirmed` are protected targets whose name
    /// was typed.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn start_session(
        runtime: &Runtime,
        target: Option<&str>,
        confirmed: BTreeSet<String>,
        observer: Arc<dyn RunObserver>,
    ) -> Result<Self, Refusal> {
        let clock = session_clock(runtime, target)?;
        let journal = Arc::new(runtime.open_journal()?);
        let mut variables = Scope::new();
        if let Some(name) = target {
            runtime.fleet.target_config(name)?;
            variables.push_constant_dynamic("db", to_dynamic(&value::tag_value(value::TARGET_TAG, name)));
        }
        let run = journal.create_run(&NewRun {
            runbook: SESSION_NAME.into(),
            title: "a session at the prompt".into(),
            params: json!({ "db": target }),
            sources: vec![],
            git: None,
            version: VERSION.into(),
            leases: vec![],
        })?;
        let context = RunContext::new(RunSetup {
            clock,
            confirmed,
            ..runtime.prepare_run_setup(journal, run, None, observer)
        });
        let interrupted = Arc::clone(&context);
        runtime.tokio.spawn(async move {
            let mut interrupts = Signals::listen_for(&[SignalKind::interrupt()]);
            loop {
                interrupts.wait_for_signal().await;
                drop(interrupted.stopper.stop_run(StopReason::Interrupted));
            }
        });
        let engine = engine::build_engine_for_run(
            &CallScope::at_root(Arc::clone(&context)),
            PreloadedModules::new(library_sources()),
            context.stopper.shared_flag(),
        );
        Ok(Self { engine, variables, functions: AST::empty(), context, failure: None })
    }

    /// Runs `body` on a thread whose stack is large enough for any script, and returns what it returns.
    ///
    /// # Errors
    /// When the machine gives no thread, or the body panics.
    pub fn run_on_large_stack<T: Send>(body: impl FnOnce() -> T + Send) -> std::io::Result<T> {
        std::thread::scope(|threads| {
            let thread = std::thread::Builder::new().name("session".into()).stack_size(STACK_BYTES);
            thread
                .spawn_scoped(threads, body)?
                .join()
                .map_err(|_| std::io::Error::other("a bug in redrill ended the session"))
        })
    }

    /// Returns the run that records the session.
    pub fn run_id(&self) -> &str {
        self.context.run.id()
    }

    /// Evaluates an input. Variables and functions that it declares stay.
    ///
    /// # Errors
    /// [`EvalError`]. The session goes on.
    pub fn eval_input(&mut self, input: &str) -> Result<Value, EvalError> {
        drop(self.context.stopper.take_stop_reason());
        self.failure = None;
        let texts = |_: &str| Some(input.to_owned());
        let ast = self
            .engine
            .compile_with_scope(&self.variables, input)
            .map_err(|e| EvalError::Parse(from_parse_error(SESSION_NAME, &e, &texts)))?;
        let mut whole = self.functions.merge(&ast);
        whole.set_source(SESSION_NAME);
        let evaluated = self.engine.eval_ast_with_scope::<Dynamic>(&mut self.variables, &whole);
        whole.clear_statements();
        self.functions = whole;
        if let Some(stop) = self.context.stopper.take_stop_reason() {
            return Err(EvalError::Stopped(stop));
        }
        let value = evaluated.map_err(|e| {
            let failure = script_error::to_failure(&e, SESSION_NAME, &texts);
            self.failure = Some(failure.clone());
            EvalError::Failed(Box::new(failure))
        })?;
        let shown = to_json(&value).unwrap_or_else(|_| Value::from(value.to_string()));
        if !value.is_unit() {
            self.variables.set_value("ans", value);
        }
        Ok(shown)
    }

    /// Returns whether an input is only the beginning of one.
    pub fn is_incomplete(&self, input: &str) -> bool {
        use rhai::{LexError, ParseErrorType};
        let Err(error) = self.engine.compile_with_scope(&self.variables, input) else {
            return has_open_comment(input);
        };
        let lines: Vec<&str> = input.split('\n').collect();
        let end = (lines.len(), lines.last().map_or(0, |l| l.chars().count()));
        let at = (error.position().line().unwrap_or(0), error.position().position().unwrap_or(0));
        match error.err_type() {
            ParseErrorType::UnexpectedEOF | ParseErrorType::WrongDocComment => true,
            // A text in back-quotes may span lines, one in quotes may not.
            ParseErrorType::BadInput(LexError::UnterminatedString) => lines
                .get(at.0.saturating_sub(1))
                .and_then(|line| line.chars().nth(at.1.saturating_sub(1)))
                .is_some_and(|opening| opening == '`'),
            _ => at.0 == end.0 && at.1 > end.1,
        }
    }

    /// Returns the names of the variables.
    pub fn variable_names(&self) -> Vec<String> {
        self.variables.iter().map(|(name, ..)| name.to_owned()).collect()
    }

    /// Ends the session: its record says whether it went well or ended at its last error, and its temporary branches
    /// are removed. A session in which something is still under way does not end; it stops.
    pub fn end_session(self, went_well: bool) -> RunResult {
        drop(self.context.stopper.take_stop_reason());
        let unsaid = || {
            let fault = ScriptError::new(codes::SCRIPT, "the session ended at an error");
            Failure { fault, place: None }
        };
        let conclusion = if went_well {
            Conclusion::Done(Value::Null)
        } else {
            Conclusion::Failed(Box::new(self.failure.unwrap_or_else(unsaid)))
        };
        clean_up_and_end_run(&self.context, &self.engine, conclusion)
    }
}

/// Returns the clock of a session: that of the target it is about, or of the only one that there is.
fn session_clock(runtime: &Runtime, target: Option<&str>) -> Result<RunClock, Refusal> {
    let only = || {
        let mut targets = runtime.fleet.target_configs();
        targets.next().map(|t| t.name.as_str()).filter(|_| targets.next().is_none())
    };
    let named: Vec<String> = target.or_else(only).into_iter().map(str::to_owned).collect();
    for name in &named {
        runtime.fleet.target_config(name)?;
    }
    Ok(RunClock::for_targets(&runtime.fleet, &named)?)
}

/// The embedded library: a session has no folder to import from.
fn library_sources() -> ModuleSources {
    stdlib::MODULES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Returns whether a block comment is open at the end: Rhai parses such an input without complaint.
fn has_open_comment(input: &str) -> bool {
    let (mut depth, mut quote, mut chars) = (0_u32, None, input.chars().peekable());
    while let Some(c) = chars.next() {
        match (quote, c, chars.peek()) {
            (Some(_), '\\', _) => drop(chars.next()),
            (Some(q), _, _) if c == q => quote = None,
            (None, '"' | '`', _) if depth == 0 => quote = Some(c),
            (None, '/', Some('/')) if depth == 0 => while chars.next().is_some_and(|c| c != '\n') {},
            (None, '/', Some('*')) => {
                depth += 1;
                chars.next();
            }
            (None, '*', Some('/')) if depth > 0 => {
                depth -= 1;
                chars.next();
            }
            _ => {}
        }
    }
    depth > 0
}

#[cfg(test)]
mod tests {
    use super::has_open_comment;

    #[test]
    fn an_open_comment_is_seen() {
        for (input, open) in [
            ("/* c", true),
            ("/* c */ 1", false),
            ("let s = \"/* \";", false),
            ("1 // /*", false),
            ("/* /* */", true),
        ] {
            assert_eq!(has_open_comment(input), open, "{input}");
        }
    }
}
