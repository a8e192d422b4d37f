//! Words as a shell reads them, the command line of this process in them, and commands for people to type.

use std::sync::OnceLock;

/// The options that said where this process found its configuration and its state, and a word each that may follow. What is
/// typed next must have them too.
static LOCATION_OPTIONS: OnceLock<Vec<CommandOption>> = OnceLock::new();

/// An option of a command that is printed for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOption {
    /// The option with its dashes.
    pub name: &'static str,
    /// Its word; nothing for one that stands alone.
    pub word: Option<String>,
}

/// Keeps the options that commands for people are printed with. Only those of the first time count: a process has one
/// command line.
pub fn store_location_options_once(options: Vec<CommandOption>) {
    drop(LOCATION_OPTIONS.set(options));
}

/// Returns a command with the options that said where this process found its configuration and its state: without them it
/// would look somewhere else.
pub fn with_location_options(command: &str) -> String {
    add_missing_options(command, LOCATION_OPTIONS.get().map_or(&[], Vec::as_slice))
}

/// Returns a text in which the commands in back-quotes have these options.
pub fn add_options_to_quoted_commands(text: &str) -> String {
    add_given_options_to_quoted_commands(text, LOCATION_OPTIONS.get().map_or(&[], Vec::as_slice))
}

/// Returns a text in which the commands in back-quotes have the given options.
pub fn add_given_options_to_quoted_commands(text: &str, options: &[CommandOption]) -> String {
    let mut located = String::new();
    let mut rest = text;
    while let Some((before, quoted)) = rest.split_once("`redrill ") {
        let command = split_at_unquoted(quoted, '`').next().unwrap_or_default();
        located.push_str(before);
        located.push('`');
        located.push_str(&add_missing_options(&format!("redrill {command}"), options));
        rest = &quoted[command.len()..];
    }
    located + rest
}

/// Returns a command with the options that it does not have yet.
pub fn add_missing_options(command: &str, options: &[CommandOption]) -> String {
    let mut words: Vec<String> = split_at_unquoted(command, ' ').map(str::to_owned).collect();
    let at = find_operands(&words);
    let is_it = |word: &String, name: &str| {
        word.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let has = |name: &str| words[..at].iter().any(|word| is_it(word, name));
    let missing: Vec<_> = options.iter().filter(|option| !has(option.name)).collect();
    let added = missing.into_iter().flat_map(|option| {
        let word = option.word.as_deref().map(quote_shell_word);
        [Some(option.name.to_owned()), word].into_iter().flatten()
    });
    words.splice(at..at, added);
    words.join(" ")
}

/// Returns the index of the `--` before the operands of a command, else the number of its words: options are inserted
/// there.
fn find_operands(words: &[String]) -> usize {
    words.iter().position(|word| word == "--").unwrap_or(words.len())
}

/// Splits text at a character, but not where a shell would take it as part of a quoted word.
fn split_at_unquoted(text: &str, at: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c| {
        let is_plain = !is_quoted && !is_escaped;
        is_escaped = is_plain && c == '\\';
        if c == '\'' && (is_plain || is_quoted) {
            is_quoted = !is_quoted;
        }
        c == at && is_plain
    })
}

/// Quotes a word for the shell where it needs it.
pub fn quote_shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Returns the command line of this process with `more` added.
pub fn own_command_line_with(more: &str) -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    render_redrill_command(&words, more)
}

/// Returns the command `redrill` with its words and `more` behind them, but before the operands.
fn render_redrill_command(words: &[String], more: &str) -> String {
    let mut line: Vec<String> = words.iter().map(|word| quote_shell_word(word)).collect();
    line.insert(find_operands(words), more.to_owned());
    line.insert(0, "redrill".to_owned());
    line.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quote_shell_word("backup-1"), "backup-1");
        assert_eq!(quote_shell_word("/back up#0"), "'/back up#0'");
        assert_eq!(quote_shell_word("it's"), r"'it'\''s'");
    }

    #[test]
    fn a_command_keeps_where_its_configuration_and_state_are() {
        let options = [
            CommandOption { name: "--config", word: Some("a b.toml".into()) },
            CommandOption { name: "--state", word: Some("s".into()) },
            CommandOption { name: "--state-unsafe", word: None },
        ];
        for (command, located) in [
            ("redrill resume x", "redrill resume x --config 'a b.toml' --state s --state-unsafe"),
            (
                "redrill --state=s run r -p a=b",
                "redrill --state=s run r -p a=b --config 'a b.toml' --state-unsafe",
            ),
            (
                "redrill db execute -t x -- --state",
                "redrill db execute -t x --config 'a b.toml' --state s --state-unsafe -- --state",
            ),
            (
                r"redrill runs decide x '/it'\''s -- --state#0' redo",
                r"redrill runs decide x '/it'\''s -- --state#0' redo --config 'a b.toml' --state s --state-unsafe",
            ),
        ] {
            assert_eq!(add_missing_options(command, &options), located);
            assert_eq!(add_missing_options(command, &[]), command);
        }
        let text = "wait, or `redrill resume x`; `redrill` is the program, and `runs` a word";
        let located = text.replace("resume x", "resume x --state s");
        assert_eq!(add_given_options_to_quoted_commands(text, &options[1..2]), located);
        let odd = "`a is open: `redrill runs decide x '/`b`#0' fail` fails it";
        let located = odd.replace("fail`", "fail --state s`");
        assert_eq!(add_given_options_to_quoted_commands(odd, &options[1..2]), located);
    }

    #[test]
    fn what_is_added_to_a_command_is_no_operand_of_it() {
        let join = |words: &[&str]| {
            render_redrill_command(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>(), "--adopt")
        };
        assert_eq!(join(&["run", "a b.rhai"]), "redrill run 'a b.rhai' --adopt");
        assert_eq!(join(&["db", "execute", "--", "-x"]), "redrill db execute --adopt -- -x");
    }
}
