//! The only place that prints. Data goes to stdout, everything else to stderr.

use std::io::{self, IsTerminal as _, Write as _};

/// Writes data and a line end to stdout. A reader that went away is not an error.
pub fn out(text: &str) {
    let mut stdout = io::stdout().lock();
    drop(writeln!(stdout, "{text}").and_then(|()| stdout.flush()));
}

/// Writes a line for people to stderr.
pub fn say(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Returns whether a person can be asked: stdin and stderr are both a terminal.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Returns whether stderr is looked at by a person.
pub fn watched() -> bool {
    io::stderr().is_terminal()
}

/// Asks a question on stderr and returns the line that was typed, without its end.
///
/// # Errors
/// Whatever reading stdin says.
pub fn ask(question: &str) -> io::Result<String> {
    write!(io::stderr().lock(), "{question} ")?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Returns whether colour is welcome on stderr.
pub fn colour() -> bool {
    watched() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}
