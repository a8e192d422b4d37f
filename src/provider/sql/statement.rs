//! Checks a statement before the server sees it: whether there is one, whether it would end our transaction, and
//! where it ends.
//!
//! Transaction control begins with one of a few words in PostgreSQL's grammar, and the server refuses it in whatever
//! is called inside a transaction block (functions, procedures, `DO`). So the first words of a statement are enough.

use crate::provider::{Code, Error, Result};

const TRANSACTION_WORDS: &[&str] =
    &["ABORT", "BEGIN", "COMMIT", "END", "RELEASE", "ROLLBACK", "SAVEPOINT", "START"];

/// Refuses a text without a statement, and a statement that begins or ends a transaction.
///
/// # Errors
/// [`Code::Invalid`].
pub(in crate::provider) fn check_statement(sql: &str) -> Result<()> {
    let start = skip_to_statement(sql);
    if start.is_empty() {
        return Err(Error::new(Code::Invalid, "there is no statement").with_hint("write one SQL statement"));
    }
    let (first, rest) = split_first_word(start);
    let prepares = first == "PREPARE" && split_first_word(skip_to_statement(rest)).0 == "TRANSACTION";
    if prepares || TRANSACTION_WORDS.contains(&first.as_str()) {
        return Err(Error::new(
            Code::Invalid,
            format!("`{}` begins or ends a transaction", first.to_lowercase()),
        )
        .with_hint("each call is a transaction of its own: leave it out"));
    }
    Ok(())
}

/// Refuses what [`check_statement`] does and `COPY`: `COPY … TO` writes files and runs programs even in a read-only
/// transaction.
///
/// # Errors
/// [`Code::Invalid`], [`Code::Unsupported`].
pub(in crate::provider) fn check_query(sql: &str) -> Result<()> {
    check_statement(sql)?;
    if split_first_word(skip_to_statement(sql)).0 == "COPY" {
        return Err(Error::unsupported("`copy` is no query", "select the rows instead"));
    }
    Ok(())
}

/// Refuses a `COPY` from or to the client, for which there is nothing to send and nothing that takes the rows.
///
/// # Errors
/// [`Code::Unsupported`].
pub(in crate::provider) fn check_copies_without_client(sql: &str) -> Result<()> {
    let (first, after) = split_first_word(skip_to_statement(sql));
    if first != "COPY" || find_copy_direction(after) != CopyDirection::Client {
        return Ok(());
    }
    Err(Error::unsupported(
        "`copy` from or to its client cannot be taken",
        "a statement that copies from or to its client (`copy … from stdin`) belongs to psql",
    ))
}

/// Returns the one statement of a text without its semicolon, for a provider that puts it into another one.
///
/// # Errors
/// As [`check_statement`], and [`Code::Invalid`] for two statements.
pub(in crate::provider) fn require_single_statement(sql: &str) -> Result<&str> {
    check_statement(sql)?;
    let start = skip_to_statement(sql);
    let end = find_statement_end(start);
    // The body of a function in standard SQL has semicolons of its own; the server reads those.
    if skip_to_statement(&start[end..]).is_empty() || has_atomic_body(start) {
        return Ok(if has_atomic_body(start) { start } else { &start[..end] });
    }
    Err(Error::new(Code::Invalid, "there is more than one statement")
        .with_hint("each call is one statement and a transaction of its own: make two calls"))
}

/// Returns the first word of a statement, in capitals: `SELECT`; or `(`.
pub(in crate::provider) fn first_word(sql: &str) -> String {
    let start = skip_to_statement(sql);
    if start.starts_with('(') { "(".into() } else { split_first_word(start).0 }
}

/// What takes back all that a statement has set for its session, which a connection pool would give to somebody else. It
/// runs inside the statement's transaction.
pub(in crate::provider) const RELEASE_SESSION_SQL: &str = "reset all; reset role; reset session authorization; \
     close all; deallocate all; unlisten *; discard temp; select pg_advisory_unlock_all()";

/// What a rollback does not take back, by the words of the functions and statements that do it.
const LASTING_WORDS: &[(&str, &str)] = &[
    ("NEXTVAL", "the sequence goes on"),
    ("SETVAL", "the sequence stays set"),
    ("PG_CREATE_PHYSICAL_REPLICATION_SLOT", "the replication slot stays"),
    ("PG_CREATE_LOGICAL_REPLICATION_SLOT", "the replication slot stays"),
    ("PG_COPY_PHYSICAL_REPLICATION_SLOT", "the replication slot stays"),
    ("PG_COPY_LOGICAL_REPLICATION_SLOT", "the replication slot stays"),
    ("PG_DROP_REPLICATION_SLOT", "the replication slot stays dropped"),
    ("PG_REPLICATION_SLOT_ADVANCE", "the replication slot stays where it is now"),
    ("PG_LOGICAL_SLOT_GET_CHANGES", "the replication slot stays where it is now"),
    ("PG_LOGICAL_SLOT_GET_BINARY_CHANGES", "the replication slot stays where it is now"),
    ("PG_REPLICATION_ORIGIN_ADVANCE", "the replication origin stays where it is now"),
    ("PG_CREATE_RESTORE_POINT", "the restore point stays"),
    ("PG_SWITCH_WAL", "the WAL segment stays switched"),
    ("PG_LOGICAL_EMIT_MESSAGE", "the message stays in the WAL"),
    ("DBLINK", "what another connection did stays done"),
    ("DBLINK_EXEC", "what another connection did stays done"),
    ("DBLINK_SEND_QUERY", "what another connection did stays done"),
    ("LO_EXPORT", "the file stays written"),
    ("PG_FILE_WRITE", "the file stays written"),
    ("PG_FILE_RENAME", "the file keeps its new name"),
    ("PG_FILE_UNLINK", "the file stays removed"),
    ("PG_STAT_STATEMENTS_RESET", "the statistics stay reset"),
    ("PG_TERMINATE_BACKEND", "an ended session stays ended"),
    ("PG_CANCEL_BACKEND", "a cancelled statement stays cancelled"),
    ("PG_RELOAD_CONF", "the configuration stays read anew"),
    ("PG_PROMOTE", "a promotion stays"),
];

/// Adds to the error of a statement that was rolled back that something of it stays, where its text names what does.
pub(crate) fn add_lasting_effects_to_error(error: Error, sql: &str) -> Error {
    let Some(stays) = find_lasting_effect(&error, sql) else { return error };
    let own = error.hint.clone().map(|own| format!("{own}\n")).unwrap_or_default();
    error
        .with_side_effects()
        .with_hint(format!("{own}it was rolled back, and a rollback does not undo all of it: {stays}"))
}

/// Returns what stays of a statement that failed with `error`, by the first of its words that does something lasting.
fn find_lasting_effect(error: &Error, sql: &str) -> Option<&'static str> {
    split_words(sql).find_map(|(word, after)| match word.as_str() {
        "COPY" => {
            let direction = find_copy_direction(after);
            // Of a statement whose end is not understood, nobody says that it wrote nothing.
            let may_write = direction == CopyDirection::ToServer
                || (direction == CopyDirection::NotFound && first_word(sql) == "COPY");
            let stays = may_write && !was_copy_refused(error, sql);
            stays.then_some("what it was copied to stays: a file, or what a program made of it")
        }
        word if word.starts_with("PG_STAT_RESET") => Some("the statistics stay reset"),
        word => LASTING_WORDS.iter().find(|(name, _)| *name == word).map(|(_, stays)| *stays),
    })
}

/// Returns the words of a text, in capitals, each with what follows it.
fn split_words(mut text: &str) -> impl Iterator<Item = (String, &str)> {
    std::iter::from_fn(move || {
        let start = text.trim_start_matches(|c: char| !is_word_char(c));
        let (word, after) = split_first_word(start);
        text = after;
        (!word.is_empty()).then_some((word, after))
    })
}

/// The other side of a `COPY` than the database.
#[derive(PartialEq, Eq)]
enum CopyDirection {
    /// From or to whoever asks for it.
    Client,
    /// From a file or a program of the server.
    FromServer,
    /// To a file or a program of the server.
    ToServer,
    /// Its text does not say.
    NotFound,
}

/// Returns the other side of a `COPY`, by what follows the word. The server takes `stdin` and `stdout` for the same.
fn find_copy_direction(text: &str) -> CopyDirection {
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(c) = text[at..].chars().next() {
        let is_in_word = text[..at].ends_with(is_identifier_char);
        let (word, after) = split_first_word(&text[at..]);
        if depth == 0 && !is_in_word && matches!(word.as_str(), "FROM" | "TO") {
            return match first_word(after).as_str() {
                "STDIN" | "STDOUT" => CopyDirection::Client,
                _ if word == "TO" => CopyDirection::ToServer,
                _ => CopyDirection::FromServer,
            };
        }
        depth = match c {
            '(' => depth + 1,
            ')' => depth.saturating_sub(1),
            _ => depth,
        };
        at = if word.is_empty() { at + part_length(text, at) } else { text.len() - after.len() };
    }
    CopyDirection::NotFound
}

/// Returns whether a `COPY` was refused before it wrote anything: rights are looked at before a file is opened, but for those
/// that a function in its query wants.
fn was_copy_refused(error: &Error, sql: &str) -> bool {
    let (first, after) = split_first_word(skip_to_statement(sql));
    let names_role = ["pg_write_server_files", "pg_execute_server_program"];
    error.code == Code::Denied
        && first == "COPY"
        && (!skip_to_statement(after).starts_with('(')
            || names_role.iter().any(|role| error.message.contains(role)))
}

/// Adds to the error of a statement outside a transaction that a part of it may be done.
pub(in crate::provider) fn add_partial_effects_to_error(error: Error) -> Error {
    let own = error.hint.clone().map(|own| format!("{own}\n")).unwrap_or_default();
    error.with_side_effects().with_hint(format!(
        "{own}it ran outside a transaction, so a part of it may be done, such as an invalid index: look before you ask again"
    ))
}

fn has_atomic_body(sql: &str) -> bool {
    let words = sql.to_uppercase();
    words.starts_with("CREATE") && words.split_whitespace().any(|w| w == "ATOMIC")
}

/// Returns where the statement that `text` starts with ends: at a semicolon outside quotes and comments.
fn find_statement_end(text: &str) -> usize {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c == ';' {
            return at;
        }
        at += part_length(text, at);
    }
    text.len()
}

/// Returns the length of what is at a place of a text: something quoted, a comment, or one character.
fn part_length(text: &str, at: usize) -> usize {
    let (before, rest) = text.split_at(at);
    match rest.chars().next() {
        Some('\'') => quoted_length(rest, '\'', opens_escape_string(before)),
        Some('"') => quoted_length(rest, '"', false),
        Some('-') if rest.starts_with("--") => rest.find(['\n', '\r']).unwrap_or(rest.len()),
        Some('/') if rest.starts_with("/*") => rest.len() - skip_comment(rest).len(),
        Some('$') if !before.ends_with(is_identifier_char) => dollar_quoted_length(rest),
        c => c.map_or(0, char::len_utf8),
    }
}

fn is_identifier_char(c: char) -> bool {
    is_word_char(c) || c == '$'
}

/// Returns whether a character belongs to a word: for PostgreSQL each one beyond ASCII does.
fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}

/// Returns whether backslashes escape in a quoted text that follows `before`: `E'…'`.
fn opens_escape_string(before: &str) -> bool {
    let mut back = before.chars().rev();
    matches!(back.next(), Some('e' | 'E')) && !back.next().is_some_and(is_identifier_char)
}

/// Returns the length of the quoted text that `text` starts with; a doubled quote does not end it.
fn quoted_length(text: &str, quote: char, escapes: bool) -> usize {
    let mut rest = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = rest.next() {
        if escapes && c == '\\' {
            rest.next();
        } else if c == quote && rest.next_if(|(_, next)| *next == quote).is_none() {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// Returns the length of the `$tag$…$tag$` that `text` starts with, or 1 where its dollar opens no such text.
fn dollar_quoted_length(text: &str) -> usize {
    let Some(close) = text[1..].find('$') else { return 1 };
    let tag = &text[..close + 2];
    let is_tag =
        tag[1..=close].chars().all(is_word_char) && !tag[1..].starts_with(|c: char| c.is_ascii_digit());
    if !is_tag {
        return 1;
    }
    text[tag.len()..].find(tag).map_or(text.len(), |at| at + 2 * tag.len())
}

/// Returns the word that `text` starts with, in capitals, and what follows it.
fn split_first_word(text: &str) -> (String, &str) {
    let end = text.find(|c: char| !is_word_char(c)).unwrap_or(text.len());
    (text[..end].to_uppercase(), &text[end..])
}

/// Returns `sql` from where its first statement starts: without white space, comments and empty statements.
fn skip_to_statement(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        rest = if trimmed.starts_with("--") {
            trimmed.split_once(['\n', '\r']).map_or("", |(_, next)| next)
        } else if trimmed.starts_with("/*") {
            skip_comment(trimmed)
        } else {
            return trimmed;
        };
    }
}

/// Returns what follows the comment that `text` starts with; comments nest.
fn skip_comment(text: &str) -> &str {
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
    use crate::provider::SideEffects;

    #[test]
    fn nothing_is_no_statement() {
        for sql in ["", "  \n", ";", " ; ;", "-- select 1", "/* a /* b */ */ -- c\n;", "/* open"] {
            assert_eq!(check_statement(sql).expect_err(sql).code, Code::Invalid, "{sql}");
        }
    }

    #[test]
    fn one_statement_is_told_from_two() {
        for (sql, expected) in [
            ("select 1", "select 1"),
            (" select 1 ; -- done\n;", "select 1 "),
            ("/* a; */ select ';' as \"a;b\"", "select ';' as \"a;b\""),
            ("select 'it''s; fine'; ", "select 'it''s; fine'"),
            (r"select E'\'; x';", r"select E'\'; x'"),
            ("select $$a;b$$ || $x$;$y$;$x$", "select $$a;b$$ || $x$;$y$;$x$"),
            ("select a$1;", "select a$1"),
            ("select 1 -- ; not yet\n, 2;", "select 1 -- ; not yet\n, 2"),
            (
                "create function f() returns int begin atomic select 1; end",
                "create function f() returns int begin atomic select 1; end",
            ),
        ] {
            assert_eq!(require_single_statement(sql).expect(sql), expected);
        }
        for sql in
            ["select 1; select 2", "select '\\'; drop table t", "select $a$;$a$; x", "select \"é;\";select 2"]
        {
            assert_eq!(require_single_statement(sql).expect_err(sql).code, Code::Invalid, "{sql}");
        }
        assert_eq!(
            (first_word("-- a\n(select 1)").as_str(), first_word("with x as").as_str()),
            ("(", "WITH")
        );
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
            assert_eq!(check_statement(sql).expect_err(sql).code, Code::Invalid, "{sql}");
        }
        for sql in ["select 1", "(select 1)", "prepare q as select 1", "commitment", "values (1)"] {
            assert_eq!(check_statement(sql), Ok(()), "{sql}");
        }
        let failed = || Error::new(Code::Sql, "it failed").with_hint("look");
        for (sql, lasts) in [
            ("select nextval('s')", true),
            ("do $$ begin perform pg_create_restore_point('x'); end $$", true),
            ("insert into t values (1)", false),
            ("select renextval(1)", false),
            ("select pg_stat_reset_shared('wal')", true),
            ("select * from pg_logical_slot_get_binary_changes('s', null, null)", true),
            ("copy t to '/x'", true),
            ("copy (select a from \"to\") /* from */ to program 'cat'", true),
            ("do $$ begin copy t (a, b) to '/x'; perform 1 / 0; end $$", true),
            (r"copy (select E'\'') to program 'touch x; false'", true),
            (r"copy (select E'\') from (') to program 'x'", true),
            (r"do $$ begin copy (select e'\'') to '/x'; end $$", true),
            ("copy (select 1 as a$b$) to program 'touch x; false'", true),
            ("copy (select 1 as é😀$b$) to program 'x'", true),
            ("copy (select $a$) from $a$) to '/x'", true),
            ("copy a$to from '/x'", false),
            // Where backslashes escape in every text, which a role may have set, the end of this one is not seen.
            (r"copy (select '\'') to program 'x'", true),
            (r"copy (select E'\'') to stdout", false),
            ("select 'copy'", false),
            ("copy t from '/x'", false),
            ("copy \"to\" (\"to\") from stdin", false),
            ("copy t to stdout", false),
            ("copy t to stdin", false),
            ("select copy from t", false),
        ] {
            let error = add_lasting_effects_to_error(failed(), sql);
            assert_eq!(error.side_effects == SideEffects::Some, lasts, "{sql}: {error:?}");
            assert!(error.hint.expect("a hint").starts_with("look"), "{sql}");
        }
        for (sql, is_taken) in [
            ("copy t from stdin", false),
            ("/* c */ copy (select E'\\'') to /* c */ stdin", false),
            ("copy t (a) to stdout with csv", false),
            ("copy t from 'stdin'", true),
            ("copy t from program 'stdin'", true),
            ("vacuum t", true),
        ] {
            assert_eq!(check_copies_without_client(sql).is_ok(), is_taken, "{sql}");
        }
        assert_eq!(check_query("copy t to program 'x'").expect_err("copy").code, Code::Unsupported);
    }
}
