//! The only place that prints. Data goes to stdout, everything else to stderr.
//!
//! While something goes on, a person sees one line of it at the bottom ([`show`]); whatever else is printed goes above.

use super::ink::Ink;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The line at the bottom, while there is one.
static LINE: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Writes data and a line end to stdout. A reader that went away is not an error.
pub fn out(text: &str) {
    above(|| {
        let mut stdout = io::stdout().lock();
        drop(writeln!(stdout, "{text}").and_then(|()| stdout.flush()));
    });
}

/// Writes a line for people to stderr.
pub fn say(text: &str) {
    above(|| drop(writeln!(io::stderr().lock(), "{text}")));
}

/// Shows `text` at the bottom until [`clear`]; each time its spinner turns. Nobody sees it where no person looks.
pub fn show(text: &str) {
    if !watched() {
        return;
    }
    let mut line = line();
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

/// Takes the line at the bottom away.
pub fn clear() {
    if let Some(bar) = line().take() {
        bar.finish_and_clear();
    }
}

fn line() -> MutexGuard<'static, Option<ProgressBar>> {
    LINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints something while the line at the bottom is out of the way.
fn above(print: impl FnOnce()) {
    match &*line() {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// Returns whether a person can be asked: stdin and stderr are both a terminal.
pub fn can_ask() -> bool {
    reads_from_person() && watched()
}

/// Returns whether stdin is a terminal.
pub fn reads_from_person() -> bool {
    io::stdin().is_terminal()
}

/// Returns whether stderr is looked at by a person.
pub fn watched() -> bool {
    io::stderr().is_terminal()
}

/// Returns how many columns stdout has, when it is a terminal.
pub fn width() -> Option<u16> {
    let size = io::stdout().is_terminal().then(|| rustix::termios::tcgetwinsize(io::stdout()))?;
    size.ok().map(|size| size.ws_col).filter(|columns| *columns > 0)
}

/// Asks a question on stderr and returns the line that was typed, without its end.
///
/// # Errors
/// Whatever reading stdin says.
pub fn ask(question: &str) -> io::Result<String> {
    clear();
    write!(io::stderr().lock(), "{question} ")?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Returns whether colour is welcome on stderr.
pub fn colour() -> bool {
    watched() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Returns the ink for stderr.
pub fn ink() -> Ink {
    Ink::new(colour())
}
