//! The only place that prints. Data goes to stdout, everything else to stderr.
//!
//! While something goes on, a person sees one line about it at the bottom ([`show_status`]); all else is printed above it.

use super::painter::Painter;
use crate::base::lock::lock_unpoisoned;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

/// The status line at the bottom of the terminal, while there is one.
static STATUS_LINE: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Held by the question that stands.
static PROMPT: Mutex<()> = Mutex::new(());
/// Whether a question stands: a status line would be drawn over it.
static IS_PROMPTING: AtomicBool = AtomicBool::new(false);
/// The text of the question that stands, once it is put: what is printed meanwhile goes above it.
static STANDING_QUESTION: Mutex<Option<PromptedQuestion>> = Mutex::new(None);
/// How often a question that stands looks whether its answer is still wanted.
const PROMPT_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Why something could not be written to stdout, the first time.
static WRITE_FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints data and a line end to stdout. A closed pipe is not an error; any other failure is kept for
/// [`take_stdout_failure`]. A stdout that was closed before the program began is not noticed: Rust opens `/dev/null`
/// in its place before `main`, as many who start a program without output do themselves.
pub fn print_data(text: &str) {
    print_above_status(|| {
        let mut stdout = io::stdout().lock();
        if let Err(why) = writeln!(stdout, "{text}").and_then(|()| stdout.flush())
            && why.kind() != io::ErrorKind::BrokenPipe
        {
            lock_unpoisoned(&WRITE_FAILURE).get_or_insert(why);
        }
    });
}

/// Returns why something could not be written to stdout, if anything could not.
pub fn take_stdout_failure() -> Option<io::Error> {
    lock_unpoisoned(&WRITE_FAILURE).take()
}

/// Prints a line for people to stderr.
pub fn print_message(text: &str) {
    print_above_status(|| drop(writeln!(io::stderr().lock(), "{text}")));
}

/// Shows `text` as the status line until [`clear_status`], and turns its spinner. Without a terminal, and while a question
/// stands, it does nothing.
pub fn show_status(text: &str) {
    if !is_stderr_terminal() {
        return;
    }
    let mut line = lock_status_line();
    if IS_PROMPTING.load(Ordering::SeqCst) {
        return;
    }
    let bar = line.get_or_insert_with(|| {
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::with_template("{spinner} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar
    });
    bar.set_message(text.to_owned());
    bar.tick();
}

/// Clears the status line.
pub fn clear_status() {
    if let Some(bar) = lock_status_line().take() {
        bar.finish_and_clear();
    }
}

fn lock_status_line() -> MutexGuard<'static, Option<ProgressBar>> {
    lock_unpoisoned(&STATUS_LINE)
}

/// Where log lines go: to stderr, above the status line.
pub struct LogWriter;

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = Ok(());
        print_above_status(|| written = io::stderr().lock().write_all(bytes));
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

/// Runs `print` with the status line suspended, or with the question that stands put again below.
fn print_above_status(print: impl FnOnce()) {
    match &*lock_status_line() {
        Some(bar) => bar.suspend(print),
        None => print_above_question(&mut io::stderr(), &mut lock_unpoisoned(&STANDING_QUESTION), print),
    }
}

/// A question that was put and is not answered.
struct PromptedQuestion {
    text: String,
    is_withdrawn: Arc<WithdrawalCheck>,
}

/// Says whether the answer to a question is not wanted any more.
pub type WithdrawalCheck = dyn Fn() -> bool + Send + Sync;

/// Runs `print` in the line of the question that stands, and puts the question again below. What was typed after it stays
/// typed. One that is withdrawn is not put again.
fn print_above_question(
    out: &mut dyn io::Write,
    standing: &mut Option<PromptedQuestion>,
    print: impl FnOnce(),
) {
    if let Some(question) = standing.take_if(|question| (question.is_withdrawn)()) {
        drop(write!(out, "\r\x1b[K{}\n", question.text));
    }
    let Some(question) = standing else { return print() };
    drop(write!(out, "\r\x1b[K"));
    print();
    drop(write!(out, "{} ", question.text));
}

/// Returns whether a person can answer a question: stdin and stderr are both terminals.
pub fn can_prompt() -> bool {
    is_stdin_terminal() && is_stderr_terminal()
}

/// Returns whether stdin is a terminal.
pub fn is_stdin_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Returns whether stderr is a terminal.
pub fn is_stderr_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Returns the width of stdout in columns, if it is a terminal.
pub fn stdout_width() -> Option<u16> {
    let size = io::stdout().is_terminal().then(|| rustix::termios::tcgetwinsize(io::stdout()))?;
    size.ok().map(|size| size.ws_col).filter(|columns| *columns > 0)
}

/// Asks a question on stderr and returns the line that was typed, without its end.
///
/// # Errors
/// Whatever reading stdin says.
pub fn prompt_line(question: &str) -> io::Result<String> {
    let no_withdrawal: Arc<WithdrawalCheck> = Arc::new(|| false);
    Ok(Prompt::wait_for_turn().read_line(question, &no_withdrawal)?.unwrap_or_default())
}

/// A question to the person at the terminal: while it stands no other is put, and no status line is shown.
pub struct Prompt {
    stdin: io::Stdin,
    _turn: MutexGuard<'static, ()>,
}

impl Prompt {
    /// Waits until no other question stands.
    pub fn wait_for_turn() -> Self {
        let turn = lock_unpoisoned(&PROMPT);
        IS_PROMPTING.store(true, Ordering::SeqCst);
        clear_status();
        Self { stdin: io::stdin(), _turn: turn }
    }

    /// Asks on stderr and returns the line that was typed, without its end; `None` when it is withdrawn before.
    ///
    /// # Errors
    /// Whatever reading stdin says.
    pub fn read_line(
        &self,
        question: &str,
        is_withdrawn: &Arc<WithdrawalCheck>,
    ) -> io::Result<Option<String>> {
        let _standing = StandingQuestionGuard::print_and_register(question, is_withdrawn)?;
        // A thread that reads a terminal cannot be interrupted, and would take the line that answers the next question.
        while !self.wait_briefly_for_line()? {
            if is_withdrawn() {
                return Ok(None);
            }
        }
        let mut line = String::new();
        self.stdin.read_line(&mut line)?;
        Ok(Some(line.trim().to_owned()))
    }

    /// Waits a moment until a line can be read, or the end of input. A terminal gives out whole lines, one at a time, so
    /// that none is left over in the buffer of a reader.
    fn wait_briefly_for_line(&self) -> io::Result<bool> {
        match poll(&mut [PollFd::new(&self.stdin, PollFlags::IN)], Some(&PROMPT_INTERVAL)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

/// Keeps a question standing; dropped, it stands no more.
struct StandingQuestionGuard;

impl StandingQuestionGuard {
    fn print_and_register(question: &str, is_withdrawn: &Arc<WithdrawalCheck>) -> io::Result<Self> {
        let mut standing = lock_unpoisoned(&STANDING_QUESTION);
        write!(io::stderr().lock(), "{question} ")?;
        *standing =
            Some(PromptedQuestion { text: question.to_owned(), is_withdrawn: Arc::clone(is_withdrawn) });
        Ok(Self)
    }
}

impl Drop for StandingQuestionGuard {
    fn drop(&mut self) {
        let standing = lock_unpoisoned(&STANDING_QUESTION).take();
        // The line of one that was withdrawn is not ended by what is typed.
        if standing.is_some_and(|question| (question.is_withdrawn)()) {
            drop(writeln!(io::stderr().lock()));
        }
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        IS_PROMPTING.store(false, Ordering::SeqCst);
    }
}

/// Returns whether stderr takes colour: it is a terminal and `NO_COLOR` is not set.
pub fn is_stderr_colour_enabled() -> bool {
    is_stderr_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Returns the painter for stderr.
pub fn stderr_painter() -> Painter {
    Painter::new(is_stderr_colour_enabled())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        cell::RefCell,
        io::{Result, Write},
        rc::Rc,
    };

    #[derive(Clone, Default)]
    struct SharedText(Rc<RefCell<Vec<u8>>>);

    impl Write for SharedText {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// Returns what is written where a line is printed while a question stands, and whether it stands then.
    fn print_beside_question(is_withdrawn: bool) -> (String, bool) {
        let text = SharedText::default();
        let mut line = text.clone();
        let mut standing =
            Some(PromptedQuestion { text: "Go on?".into(), is_withdrawn: Arc::new(move || is_withdrawn) });
        let print = || line.write_all(b"a line\n").expect("is memory");
        print_above_question(&mut text.clone(), &mut standing, print);
        let written = text.0.borrow().clone();
        (String::from_utf8(written).expect("text"), standing.is_some())
    }

    #[test]
    fn a_question_stands_below_what_is_printed_meanwhile() {
        assert_eq!(print_beside_question(false), ("\r\x1b[Ka line\nGo on? ".into(), true));
        assert_eq!(print_beside_question(true), ("\r\x1b[KGo on?\na line\n".into(), false));
    }
}
