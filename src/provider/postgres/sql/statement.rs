//! The little that is read of a statement before the server sees it: whether there is one, and whether it would take
//! the transaction out of our hands.
//!
//! PostgreSQL's grammar lets the statements of transaction control begin with nothing but these words, and refuses
//! them inside functions, procedures and `DO` blocks that were called in a transaction block. The words are enough.

use crate::provider::{Code, Error, Result};

const TRANSACTION_WORDS: &[&str] =
    &["ABORT", "BEGIN", "COMMIT", "END", "RELEASE", "ROLLBACK", "SAVEPOINT", "START"];

/// Refuses what is no statement, and what begins or ends transactions.
///
/// # Errors
/// [`Code::Invalid`].
pub(super) fn check(sql: &str) -> Result<()> {
    let start = skip(sql);
    if start.is_empty() {
        return Err(Error::new(Code::Invalid, "there is no statement").hint("write one SQL statement"));
    }
    let (first, rest) = word(start);
    let prepares = first == "PREPARE" && word(skip(rest)).0 == "TRANSACTION";
    if prepares || TRANSACTION_WORDS.contains(&first.as_str()) {
        return Err(Error::new(
            Code::Invalid,
            format!("`{}` begins or ends a transaction", first.to_lowercase()),
        )
        .hint("each call is a transaction of its own: leave it out"));
    }
    Ok(())
}

/// Refuses, besides, what a query may not do although the server would let it: `COPY … TO` writes files and runs
/// programs even in a read-only transaction.
///
/// # Errors
/// [`Code::Invalid`], [`Code::Unsupported`].
pub(super) fn check_query(sql: &str) -> Result<()> {
    check(sql)?;
    if word(skip(sql)).0 == "COPY" {
        return Err(Error::unsupported("`copy` is no query", "select the rows instead"));
    }
    Ok(())
}

/// Returns the word that `text` starts with, in capitals, and what follows it.
fn word(text: &str) -> (String, &str) {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    (text[..end].to_uppercase(), &text[end..])
}

/// Returns `sql` from where its first statement starts: without white space, comments and empty statements.
fn skip(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        rest = if trimmed.starts_with("--") {
            trimmed.split_once(['\n', '\r']).map_or("", |(_, next)| next)
        } else if trimmed.starts_with("/*") {
            after_comment(trimmed)
        } else {
            return trimmed;
        };
    }
}

/// Returns what follows the comment that `text` starts with; comments nest.
fn after_comment(text: &str) -> &str {
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(found) = text[at..].find(['/', '*']) {
        at += found;
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return &text[at..];
            }
        } else {
            at += 1;
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_no_statement() {
        for sql in ["", "  \n", ";", " ; ;", "-- select 1", "/* a /* b */ */ -- c\n;", "/* open"] {
            assert_eq!(check(sql).expect_err(sql).code, Code::Invalid, "{sql}");
        }
    }

    #[test]
    fn transaction_control_is_found_wherever_it_hides() {
        for sql in [
            "COMMIT",
            "/* x /* y */ */ Commit and chain",
            "; rollback to s",
            "-- a\nbegin;",
            "END",
            "prepare /**/ transaction 'x'",
            "commit prepared 'x'",
            "start transaction",
        ] {
            assert_eq!(check(sql).expect_err(sql).code, Code::Invalid, "{sql}");
        }
        for sql in ["select 1", "(select 1)", "prepare q as select 1", "commitment", "values (1)"] {
            assert_eq!(check(sql), Ok(()), "{sql}");
        }
        assert_eq!(check_query("copy t to program 'x'").expect_err("copy").code, Code::Unsupported);
    }
}
