//! Words as a shell reads them, and the command line of this process in them.

/// Quotes a word for the shell where it needs it.
pub fn quote_shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Returns the command line of this process with `more` added.
pub fn command_line_with(more: &str) -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    join_command(&words, more)
}

/// Returns the command `redrill` with its words and `more`: behind them, or before them where nothing but operands follows.
fn join_command(words: &[String], more: &str) -> String {
    let mut line: Vec<String> = words.iter().map(|word| quote_shell_word(word)).collect();
    let at = if words.iter().any(|word| word == "--") { 0 } else { line.len() };
    line.insert(at, more.to_owned());
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
    fn what_is_added_to_a_command_is_no_operand_of_it() {
        let join = |words: &[&str]| {
            join_command(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>(), "--adopt")
        };
        assert_eq!(join(&["run", "a b.rhai"]), "redrill run 'a b.rhai' --adopt");
        assert_eq!(join(&["db", "execute", "--", "-x"]), "redrill --adopt db execute -- -x");
    }
}
