//! Words as a shell reads them.

/// Quotes a word for the shell where it needs it.
pub fn quote_shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
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
}
