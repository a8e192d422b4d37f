//! The commands that redrill prints for people to type: each must be one that can be typed.

use std::ffi::OsString;

/// Asserts that every command in a text can be typed: those in back-quotes, and lines that are one.
pub fn assert_typable(text: &str) {
    let quoted = text.split('`').skip(1).step_by(2).filter(|word| word.starts_with("redrill "));
    let lines = text.lines().map(str::trim).filter(|line| is_command(line));
    for command in quoted.chain(lines) {
        let words = split_words(command).into_iter().map(OsString::from);
        if let Err(why) = redrill::cli::check_command_line(words) {
            panic!("`{command}` cannot be typed: {why}\n{text}");
        }
    }
}

/// Returns whether a line is a command, and no sentence about redrill.
fn is_command(line: &str) -> bool {
    let mut words = line.split(' ');
    let is_about = |word: &str| ["is", "has", "does", "was", "will", "runs it", "cannot"].contains(&word);
    words.next() == Some("redrill")
        && words.next().is_some_and(|word| {
            word.bytes().all(|byte| byte.is_ascii_lowercase()) && !word.is_empty() && !is_about(word)
        })
        && !line.ends_with(['.', ':'])
}

/// Splits a command line into words as a shell does; the program's quoting is with single quotes.
fn split_words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted, mut is_open) = (Vec::new(), String::new(), false, false);
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match c {
            // A quote of a name stands outside of the quotes.
            '\\' if !is_quoted => {
                word.extend(chars.next());
                is_open = true;
            }
            '\'' => (is_quoted, is_open) = (!is_quoted, true),
            ' ' if !is_quoted => {
                if is_open {
                    words.push(std::mem::take(&mut word));
                }
                is_open = false;
            }
            _ => {
                word.push(c);
                is_open = true;
            }
        }
    }
    if is_open {
        words.push(word);
    }
    words
}
